//! A genuine `deadpool_postgres::Pool` that changes credentials.

mod connect;
mod slots;
mod tags;

use std::{fmt, sync::Arc, time::Duration};

use deadpool_postgres::{ClientWrapper, Hook, HookError, ManagerConfig, Pool, PoolBuilder, Runtime};
use leasehold_core::{
    Credentials, Current, Error, ErrorKind, Party, Result,
    in_place::{Freshness, InForce, InPlace, Settings},
};
use tokio_postgres::{
    Config, NoTls, Socket,
    tls::{MakeTlsConnect, TlsConnect},
};

use connect::{Connector, Dial, Dialer, OPEN_WITH};
use slots::Slots;
use tags::Tags;

use crate::{managed::is_looking, refusals::translate};

/// Builds a pool that opens its connections with whatever credentials are in force.
///
/// ```no_run
/// # use leasehold_core::{Credentials, Current, Result};
/// use leasehold_deadpool::postgres::Postgres;
///
/// # async fn example(login: Current<Credentials>) -> Result<()> {
/// let mut config = tokio_postgres::Config::new();
/// config.host("db.example").dbname("pipeline");
/// let pool: deadpool_postgres::Pool =
///     Postgres::new(config).pool(|pool| pool.max_size(16)).connect(login).await?;
/// # Ok(())
/// # }
/// ```
pub struct Postgres {
    dialer: Arc<dyn Dial>,
    manager: ManagerConfig,
    configure: Box<dyn FnOnce(PoolBuilder) -> PoolBuilder + Send>,
    hooks: Vec<Hook>,
    settings: Settings,
}

impl Postgres {
    /// Connects as `config` says, but for user and password, without TLS.
    pub fn new(config: Config) -> Self {
        Self::with_tls(config, NoTls)
    }

    /// Connects as `config` says, but for user and password, with a TLS connector of `tokio_postgres`.
    pub fn with_tls<T>(config: Config, tls: T) -> Self
    where
        T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
        T::Stream: Send + Sync,
        T::TlsConnect: Send + Sync,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        Self {
            dialer: Arc::new(Dialer { config, tls }),
            manager: ManagerConfig::default(),
            configure: Box::new(|pool| pool),
            hooks: Vec::new(),
            settings: Settings::default(),
        }
    }

    /// Sets how connections are checked when they are handed out.
    #[must_use]
    pub fn manager_config(mut self, config: ManagerConfig) -> Self {
        self.manager = config;
        self
    }

    /// Adds a hook for connections that were just opened, those that the rotation opens included: `SET ROLE`, say. deadpool
    /// runs hooks for what it opens itself only, so a `post_create` given to [`pool`](Self::pool) misses those.
    #[must_use]
    pub fn post_create(mut self, hook: Hook) -> Self {
        self.hooks.push(hook);
        self
    }

    /// Sets the pool up: its size, its timeouts, and `pre_recycle` and `post_recycle` hooks of your own, which run after
    /// ours.
    #[must_use]
    pub fn pool(mut self, configure: impl FnOnce(PoolBuilder) -> PoolBuilder + Send + 'static) -> Self {
        self.configure = Box::new(configure);
        self
    }

    /// Sets how the pool is rotated.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Builds the pool, proves the credentials with its first connection, and rotates it from now on. The rotation ends
    /// when the pool is closed, or when its last handle has gone.
    ///
    /// # Errors
    /// [`CredentialsRefused`](ErrorKind::CredentialsRefused), [`DatabaseFull`](ErrorKind::DatabaseFull) and
    /// [`DatabaseUnavailable`](ErrorKind::DatabaseUnavailable) as the database answers;
    /// [`Configuration`](ErrorKind::Configuration) if the pool cannot be built; [`NotYet`](ErrorKind::NotYet) and
    /// [`Closed`](ErrorKind::Closed) if there are no credentials.
    ///
    /// # Cancel safety
    /// Nothing is left behind when the future is dropped.
    pub async fn connect(self, current: Current<Credentials>) -> Result<Pool> {
        let first = current.get()?;
        let rotation = self.build(current.clone())?;
        // With these, and without a wait for successors, which nobody could adopt yet.
        let tag = Arc::new(rotation.in_force.tag(Arc::clone(&first)));
        let proof = OPEN_WITH.scope(tag, rotation.pool.get()).await.map_err(|error| match error {
            deadpool_postgres::PoolError::Backend(error) => {
                let error = translate(first.secret(), &error);
                if error.kind() == ErrorKind::CredentialsRefused {
                    current.reject(first.generation(), error.kind());
                }
                error
            }
            deadpool_postgres::PoolError::PostCreateHook(error) => {
                let message = format!("a post_create hook failed: {error}");
                Error::new(ErrorKind::Unexpected, Party::Configuration, message)
            }
            other => Error::new(ErrorKind::DatabaseUnavailable, Party::Database, other.to_string()),
        })?;
        drop(proof);
        Ok(rotation.start())
    }

    /// As [`connect`](Self::connect), but opens the first connection when one is asked for. Needs a tokio runtime.
    ///
    /// # Errors
    /// As [`connect`](Self::connect), but for what the database answers.
    pub fn connect_lazy(self, current: Current<Credentials>) -> Result<Pool> {
        self.build(current).map(Rotating::start)
    }

    fn build(self, current: Current<Credentials>) -> Result<Rotating> {
        let in_force = InForce::new(current.get()?, Arc::clone(current.clock()));
        let tags = Arc::new(Tags::default());
        let hooks = Arc::new(self.hooks);
        let hooks_of_pool = Arc::clone(&hooks);
        let connector = Connector {
            dialer: Arc::clone(&self.dialer),
            in_force: Arc::clone(&in_force),
            current: current.clone(),
        };
        let manager = deadpool_postgres::Manager::from_connect(Config::new(), connector, self.manager);
        let (noting, asking, in_use) = (Arc::clone(&tags), Arc::clone(&tags), Arc::clone(&in_force));
        let builder = Pool::builder(manager)
            .runtime(Runtime::Tokio1)
            .create_timeout(Some(LONGEST_CREATE))
            .post_create(Hook::sync_fn(move |client: &mut ClientWrapper, _| {
                noting.note(client);
                Ok(())
            }))
            .post_create(Hook::async_fn(move |client, metrics| {
                let hooks = Arc::clone(&hooks_of_pool);
                Box::pin(async move {
                    for hook in &*hooks {
                        match hook {
                            Hook::Fn(hook) => hook(client, metrics)?,
                            Hook::AsyncFn(hook) => hook(client, metrics).await?,
                        }
                    }
                    Ok(())
                })
            }))
            .pre_recycle(Hook::sync_fn(move |client: &mut ClientWrapper, _| {
                if in_use.is_uniform() || is_looking() {
                    return Ok(());
                }
                match asking.of(client).map(|tag| tag.freshness()) {
                    Some(Freshness::Ended) => {
                        Err(HookError::message("its credentials have a successor, and end"))
                    }
                    _ => Ok(()),
                }
            }));
        let pool = (self.configure)(builder)
            .build()
            .map_err(|error| Error::new(ErrorKind::Configuration, Party::Configuration, error.to_string()))?;
        let slots = Slots { pool: pool.weak(), in_force: Arc::clone(&in_force), tags, hooks };
        Ok(Rotating {
            pool,
            in_force: Arc::clone(&in_force),
            rotation: InPlace::new(slots, in_force, current, self.settings),
        })
    }
}

struct Rotating {
    pool: Pool,
    in_force: Arc<InForce>,
    rotation: InPlace<Slots>,
}

impl Rotating {
    fn start(self) -> Pool {
        tokio::spawn(self.rotation.run());
        self.pool
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// A handshake, a wait for successors of refused credentials, and another handshake.
const LONGEST_CREATE: Duration = Duration::from_secs(15);
