//! Entries of the kv engine.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    marker::PhantomData,
    sync::Arc,
    time::Duration,
};

use leasehold_core::{
    Current, Error, ErrorKind, Fields, Grant, Issued, Lease, Party, Provider, Record, Renewed, Result,
    Revoked, Token, Vault, async_trait,
};
use serde::de::DeserializeOwned;

use crate::access::{Access, Request, at, not_renewable, trimmed};

/// An entry of the kv engine, read as a type of yours and read again every minute, since nobody tells when it is written.
///
/// Another version is another generation: `Current::changed` returns it, and an `Issued` event says so. What cannot be
/// read any more (deleted, forbidden, of another type now) displaces nothing: the last good value stays, the health is
/// degraded, and the error says what is wrong. Nothing is renewed or revoked, and what was read outlives the token it was
/// read with. `HashMap<String, SecretString>` takes an entry of any names.
///
/// ```no_run
/// # use std::{sync::Arc, time::Duration};
/// # use leasehold_core::{Current, SecretString, Token, Vault};
/// use leasehold_secrets::Kv;
///
/// #[derive(serde::Deserialize)]
/// struct Mail {
///     host: String,
///     password: SecretString,
/// }
///
/// # fn example(vault: Arc<dyn Vault>, token: Current<Token>) {
/// let mail = Kv::<Mail>::v2(vault, token, "secret", "pipeline/mail").every(Duration::from_secs(15));
/// # }
/// ```
pub struct Kv<T> {
    access: Access,
    engine: Engine,
    mount: String,
    entry: String,
    every: Duration,
    /// Version 1 numbers nothing, so two contents are told apart by a hash. Its key is of this process alone: a version
    /// stands in logs, and if others could compute the hash, then they could guess the content.
    hasher: RandomState,
    value: PhantomData<fn() -> T>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Engine {
    V1,
    V2,
    Cubbyhole,
}

impl<T> Kv<T> {
    /// The entry `entry` of a version 2 engine mounted at `mount`: its latest version.
    pub fn v2(vault: Arc<dyn Vault>, token: Current<Token>, mount: &str, entry: &str) -> Self {
        Self::new(Access::new(vault, token), Engine::V2, mount, entry)
    }

    /// The entry `entry` of a version 1 engine mounted at `mount`.
    pub fn v1(vault: Arc<dyn Vault>, token: Current<Token>, mount: &str, entry: &str) -> Self {
        Self::new(Access::new(vault, token), Engine::V1, mount, entry)
    }

    /// The entry `entry` of the token's own cubbyhole, which nobody else can read and which ends with the token: another
    /// token has another, so this is for tokens that have no successor. It is read once for each token.
    pub fn cubbyhole(vault: Arc<dyn Vault>, token: Current<Token>, entry: &str) -> Self {
        Self::new(Access::new(vault, token), Engine::Cubbyhole, "cubbyhole", entry)
    }

    fn new(access: Access, engine: Engine, mount: &str, entry: &str) -> Self {
        let (mount, entry, hasher) = (trimmed(mount), trimmed(entry), RandomState::new());
        Self { access, engine, mount, entry, every: EVERY, hasher, value: PhantomData }
    }

    /// Sets how often it is read; a second at least. Each time is one request.
    #[must_use]
    pub fn every(mut self, interval: Duration) -> Self {
        self.every = interval.max(OFTENEST);
        self
    }

    fn path(&self) -> String {
        let infix = if self.engine == Engine::V2 { "/data" } else { "" };
        format!("{}{infix}/{}", self.mount, self.entry)
    }

    /// Why there is nothing to be read. Versions 1 and 2 of the engine answer alike if the entry is missing and if the
    /// path is meant for the other version, so one more question tells the two apart.
    async fn explain(&self, token: &Issued<Token>, error: Error) -> Error {
        let may_be_another_engine = matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Denied);
        if !may_be_another_engine || self.engine == Engine::Cubbyhole {
            return error;
        }
        // Whoever may read anything in it may ask.
        let request = Request::read(format!("sys/internal/ui/mounts/{}", self.mount));
        let Ok(mounted) = self.access.ask(token, &request).await else { return error };
        let mount = &self.mount;
        let configuration = |message| Error::new(ErrorKind::Configuration, Party::Configuration, message);
        let engine = mounted.data().text("type").unwrap_or_default();
        if !matches!(engine, "kv" | "generic") {
            return configuration(format!("{mount} is no kv engine, but {engine:?}"));
        }
        let options = mounted.data().fields("options").unwrap_or_default();
        let is_v2 = options.text("version").is_ok_and(|version| version == "2");
        match (self.engine, is_v2) {
            (Engine::V2, false) => {
                configuration(format!("{mount} is a kv engine of version 1: read it with `Kv::v1`"))
            }
            (Engine::V1, true) => {
                configuration(format!("{mount} is a kv engine of version 2: read it with `Kv::v2`"))
            }
            _ if error.kind() == ErrorKind::NotFound => {
                let path = self.path();
                let message = format!("there is nothing at {path}: it was never written, or was deleted");
                Error::new(ErrorKind::NotFound, Party::Vault, message)
            }
            _ => error,
        }
    }
}

impl<T: DeserializeOwned> Kv<T> {
    /// What the entry holds, and a name for this version of it.
    fn read(&self, data: &Fields) -> Result<(T, String)> {
        if self.engine != Engine::V2 {
            return Ok((data.decode()?, format!("{:016x}", self.hasher.hash_one(data))));
        }
        let metadata = data.fields("metadata")?;
        // An entry that was deleted with all its versions begins again at 1.
        let version = format!("{} of {}", metadata.number("version")?, metadata.text("created_time")?);
        Ok((data.fields("data")?.decode()?, version))
    }
}

#[async_trait]
impl<T: DeserializeOwned + Send + Sync + 'static> Provider for Kv<T> {
    type Secret = T;

    async fn issue(&self) -> Result<Grant<T>> {
        let (token, path) = (self.access.token()?, self.path());
        let answer = match self.access.ask(&token, &Request::read(&*path)).await {
            Ok(answer) => answer,
            Err(error) => return Err(self.explain(&token, error).await.leaving_nothing()),
        };
        let (value, version) = self.read(answer.data()).map_err(|error| at(&path, &error))?;
        Ok(match self.engine {
            Engine::Cubbyhole => Grant::new(value, Lease::endless()).version(version).under(token),
            // Endless, because a lease as long as the interval would look ended, and not ready, in each longer outage.
            _ => Grant::new(value, Lease::endless().polled(self.every)).version(version),
        })
    }

    async fn renew(&self, _: &Record<T>) -> Result<Renewed> {
        Err(not_renewable("an entry of the kv engine has no lease: it stays until it is written again"))
    }

    async fn revoke(&self, _: &Record<T>) -> Result<Revoked> {
        Ok(Revoked::NotOurs)
    }

    async fn changed(&self, _: &Record<T>) {
        self.access.revived().await
    }

    fn name(&self) -> String {
        self.path()
    }
}

impl<T> Clone for Kv<T> {
    fn clone(&self) -> Self {
        Self {
            access: self.access.clone(),
            engine: self.engine,
            mount: self.mount.clone(),
            entry: self.entry.clone(),
            every: self.every,
            hasher: self.hasher.clone(),
            value: PhantomData,
        }
    }
}

impl<T> fmt::Debug for Kv<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kv").field("path", &self.path()).field("every", &self.every).finish_non_exhaustive()
    }
}

const EVERY: Duration = Duration::from_secs(60);
const OFTENEST: Duration = Duration::from_secs(1);
