//! Static database roles.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use leasehold_core::{
    Credentials, Current, Error, Fields, Grant, Lease, Provider, Record, Renewed, Result, Revoked, Token,
    Vault, async_trait, clock::Moment,
};

use crate::access::{Access, Request, at, not_renewable, trimmed};

/// Credentials from a static role of the database secrets engine, `<mount>/static-creds/<role>`.
///
/// The user exists already, and is shared by everybody who reads the role; the server changes its password at the end
/// of each rotation period. There is no lease: nothing is renewed or revoked, and what was read outlives the token it
/// was read with. Near the end of the period it is read again, and again until `last_vault_rotation` has changed; that,
/// and not the TTL, makes a new generation.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use leasehold_core::{Current, Token, Vault};
/// use leasehold_secrets::StaticRole;
///
/// # fn example(vault: Arc<dyn Vault>, token: Current<Token>) {
/// let role = StaticRole::new(vault, token, "reporter").mount("postgres-eu");
/// # }
/// ```
pub struct StaticRole {
    access: Access,
    mount: String,
    role: String,
    rotation: Mutex<Option<Rotation>>,
}

/// The version read last, and when the server was to replace it.
#[derive(Debug)]
struct Rotation {
    version: String,
    due: Moment,
}

impl StaticRole {
    /// The role `role` of the engine mounted at `database`, with whatever token is current.
    pub fn new(vault: Arc<dyn Vault>, token: Current<Token>, role: impl Into<String>) -> Self {
        let access = Access::new(vault, token);
        Self { access, mount: "database".to_owned(), role: role.into(), rotation: Mutex::default() }
    }

    /// Sets where the engine is mounted, such as `database` or `team/postgres`.
    #[must_use]
    pub fn mount(mut self, mount: &str) -> Self {
        self.mount = trimmed(mount);
        self
    }

    fn path(&self) -> String {
        format!("{}/static-creds/{}", self.mount, self.role)
    }

    fn read(&self, data: &Fields, sent: Moment) -> Result<Grant<Credentials>> {
        let username = data.text("username")?;
        let version = format!("{} {username}", data.text("last_vault_rotation")?);
        let credentials = Credentials::new(username, data.secret("password")?);
        let ttl = self.usable_for(&version, data.seconds("ttl")?, sent);
        Ok(Grant::new(credentials, Lease::new("", ttl, false)).version(version))
    }

    /// For how long to believe in what was read at `sent`: a little longer than the TTL. The server replaces a password
    /// some seconds after that has reached 0, or has begun anew (Vault #31918), and until then the old one is what the
    /// database knows. So it is to be asked for again after its end, and must not look ended meanwhile.
    fn usable_for(&self, version: &str, ttl: Duration, sent: Moment) -> Duration {
        let mut rotation = self.rotation.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Rotation { version: before, due }) = &*rotation
            && before == version
            && *due <= sent + ROUNDING
        {
            let overdue = due.until(sent);
            if ttl.is_zero() || overdue < LATEST {
                return (overdue / 8).clamp(SOON, SELDOM) + IN_TIME;
            }
        }
        *rotation = Some(Rotation { version: version.to_owned(), due: sent + ttl });
        ttl.saturating_add(SOON + IN_TIME)
    }
}

#[async_trait]
impl Provider for StaticRole {
    type Secret = Credentials;

    async fn issue(&self) -> Result<Grant<Credentials>> {
        let (token, request) = (self.access.token()?, Request::read(self.path()));
        let sent = self.access.current().clock().now();
        let answer = self.access.ask(&token, &request).await.map_err(Error::leaving_nothing)?;
        self.read(answer.data(), sent).map_err(|error| at(&request.path, &error))
    }

    async fn renew(&self, _: &Record<Credentials>) -> Result<Renewed> {
        Err(not_renewable("a static role has no lease: its password is replaced by the server"))
    }

    async fn revoke(&self, _: &Record<Credentials>) -> Result<Revoked> {
        // The password before is no longer one, and the user belongs to others too.
        Ok(Revoked::NotOurs)
    }

    async fn changed(&self, _: &Record<Credentials>) {
        self.access.revived().await
    }

    fn name(&self) -> String {
        self.path()
    }
}

/// Another reader, which has read nothing yet: it may be given another mount.
impl Clone for StaticRole {
    fn clone(&self) -> Self {
        let (access, mount, role) = (self.access.clone(), self.mount.clone(), self.role.clone());
        Self { access, mount, role, rotation: Mutex::default() }
    }
}

impl fmt::Debug for StaticRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticRole").field("path", &self.path()).finish_non_exhaustive()
    }
}

/// The server rounds TTLs to whole seconds.
const ROUNDING: Duration = Duration::from_secs(1);
/// How soon after its end, and how soon again, to ask for a password that is to be replaced any moment.
const SOON: Duration = Duration::from_secs(1);
/// The same when it has not been replaced for minutes: the server cannot reach the database.
const SELDOM: Duration = Duration::from_secs(15);
/// How long before the end of a grant that cannot be renewed a keeper asks at the latest.
const IN_TIME: Duration = Duration::from_millis(500);
/// A TTL that has begun anew with the same password for so long is no rotation that is late, but a period that somebody
/// has changed.
const LATEST: Duration = Duration::from_secs(300);
