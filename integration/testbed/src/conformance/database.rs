//! What the cases do to a database, in the words of each kind.

use std::{sync::Arc, time::Duration};

use serde_json::Value;

use super::{Failure, Target, alone::Alone, stage::let_pass};
use crate::{Config, MariaDb, Postgres, Redis, RedisSession, Testbed};

/// The kind of database that an adapter's pools connect to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Server {
    /// PostgreSQL.
    #[default]
    Postgres,
    /// MariaDB. A session holds its user's rights on a database for as long as it lives; those on a table end with the user.
    MariaDb,
    /// Redis. What a [`Connection`](super::Connection) is given to query is a command, its words parted by spaces.
    Redis,
}

impl Server {
    /// Answers one text, and cannot be run by a user who was dropped.
    pub(super) const fn read(self) -> &'static str {
        match self {
            Self::Postgres => "SELECT count(*)::text FROM measurements",
            Self::MariaDb => "SELECT CAST(count(*) AS CHAR) FROM measurements",
            Self::Redis => "HGET measurements 7",
        }
    }

    /// Answers the name that its user logged in with.
    pub(super) const fn who(self) -> &'static str {
        match self {
            Self::Postgres => "SELECT session_user::text",
            Self::MariaDb => "SELECT SUBSTRING_INDEX(USER(), '@', 1)",
            Self::Redis => "ACL WHOAMI",
        }
    }

    /// How many connections a pool must have to fill a server: MariaDB's limit is ten at least.
    pub(super) const fn fewest_that_fill(self) -> usize {
        match self {
            Self::Postgres | Self::Redis => 3,
            Self::MariaDb => 10,
        }
    }

    /// `config`, with this database.
    pub(super) fn within(self, mut config: Config) -> Config {
        config.mariadb |= self == Self::MariaDb;
        config.redis |= self == Self::Redis;
        config
    }
}

/// What keeps a user from logging in, without dropping it.
#[derive(Clone, Copy, Debug)]
pub(super) enum LockOut {
    Login,
    Password,
}

/// The database that an adapter connects to.
#[derive(Clone, Debug)]
pub(super) struct Database {
    servers: Servers,
    pub(super) server: Server,
}

#[derive(Clone, Debug)]
enum Servers {
    Testbed(Arc<Testbed>),
    Alone(Arc<Alone>),
}

impl Database {
    /// Starts it within a testbed, for OpenBao to make its users.
    pub(super) async fn start(server: Server, config: Config) -> Result<Self, Failure> {
        let testbed = Testbed::start(server.within(config)).await?;
        Ok(Self { servers: Servers::Testbed(Arc::new(testbed)), server })
    }

    /// Starts it without OpenBao.
    pub(super) async fn alone(server: Server) -> Result<Self, Failure> {
        Ok(Self { servers: Servers::Alone(Arc::new(Alone::start(server).await?)), server })
    }

    /// The testbed around it.
    pub(super) fn testbed(&self) -> Result<&Arc<Testbed>, Failure> {
        match &self.servers {
            Servers::Testbed(testbed) => Ok(testbed),
            Servers::Alone(_) => Err(Failure("there is no OpenBao".to_owned())),
        }
    }

    pub(super) fn target(&self) -> Result<Target, Failure> {
        let (host, port, database) = match self.server {
            Server::Postgres => {
                let postgres = self.postgres()?;
                (postgres.host(), postgres.port(), postgres.database().to_owned())
            }
            Server::MariaDb => {
                let mariadb = self.mariadb()?;
                (mariadb.host(), mariadb.port(), mariadb.database().to_owned())
            }
            Server::Redis => {
                let redis = self.redis()?;
                (redis.host(), redis.port(), redis.database().to_string())
            }
        };
        Ok(Target { host: host.to_owned(), port, database })
    }

    /// The role of the engine `database`.
    pub(super) fn role(&self) -> Result<&'static str, Failure> {
        Ok(match self.server {
            Server::Postgres => self.testbed()?.db_role(),
            Server::MariaDb => self.mariadb()?.role(),
            Server::Redis => self.redis()?.role(),
        })
    }

    /// Makes a user who may read, on at most `sessions` connections.
    pub(super) async fn create(
        &self,
        user: &str,
        password: &str,
        sessions: Option<usize>,
    ) -> Result<(), Failure> {
        match self.server {
            Server::Postgres => {
                let password = password.replace('\'', "''");
                let limit = sessions.map_or_else(String::new, |limit| format!("CONNECTION LIMIT {limit}"));
                self.sql(&format!(
                    "SET standard_conforming_strings = on; \
                     CREATE ROLE \"{user}\" LOGIN {limit} PASSWORD '{password}'; \
                     GRANT SELECT ON measurements TO \"{user}\""
                ))
                .await
            }
            Server::MariaDb => {
                let password = password.replace('\\', "\\\\").replace('\'', "\\'");
                let limit =
                    sessions.map_or_else(String::new, |limit| format!("WITH MAX_USER_CONNECTIONS {limit}"));
                self.sql(&format!(
                    "CREATE USER '{user}'@'%' IDENTIFIED BY '{password}' {limit}; \
                     GRANT SELECT ON app.measurements TO '{user}'@'%'"
                ))
                .await
            }
            Server::Redis => {
                let password = format!(">{password}");
                let rights = ["~measurements", "+@read", "+@connection", "+unwatch", "+acl|whoami"];
                let words = [&["ACL", "SETUSER", user, "reset", "on", &password], &rights[..]].concat();
                self.redis()?.command(&words).await?;
                Ok(())
            }
        }
    }

    /// Drops a user, as OpenBao would.
    pub(super) async fn drop_user(&self, user: &str) -> Result<(), Failure> {
        match self.server {
            Server::Postgres => self.sql(&format!("DROP OWNED BY \"{user}\"; DROP ROLE \"{user}\"")).await,
            Server::MariaDb => self.sql(&format!("DROP USER '{user}'@'%'")).await,
            Server::Redis => {
                self.redis()?.command(&["ACL", "DELUSER", user]).await?;
                Ok(())
            }
        }
    }

    /// Lets a user log in no more, or not with its password, and ends its sessions.
    pub(super) async fn lock_out(&self, user: &str, how: LockOut) -> Result<(), Failure> {
        match self.server {
            Server::Postgres => {
                let how = match how {
                    LockOut::Login => "NOLOGIN",
                    LockOut::Password => "PASSWORD 'another'",
                };
                self.sql(&format!(
                    "ALTER ROLE \"{user}\" {how}; \
                     SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{user}'"
                ))
                .await
            }
            Server::MariaDb => {
                let how = match how {
                    LockOut::Login => "ACCOUNT LOCK",
                    LockOut::Password => "IDENTIFIED BY 'another'",
                };
                self.sql(&format!("ALTER USER '{user}'@'%' {how}; KILL USER '{user}'")).await
            }
            Server::Redis => {
                let how: &[&str] = match how {
                    LockOut::Login => &["off"],
                    LockOut::Password => &["resetpass", ">another"],
                };
                let redis = self.redis()?;
                redis.command(&[&["ACL", "SETUSER", user], how].concat()).await?;
                redis.command(&["CLIENT", "KILL", "USER", user]).await?;
                Ok(())
            }
        }
    }

    /// How many sessions a user has.
    pub(super) async fn sessions_of(&self, user: &str) -> Result<usize, Failure> {
        Ok(match self.server {
            Server::Postgres => self.postgres()?.sessions_of(user).await?,
            Server::MariaDb => self.mariadb()?.sessions_of(user).await?,
            Server::Redis => self.redis()?.sessions_of(user).await?,
        })
    }

    /// Sessions of every user that a case or OpenBao has made, whether or not it was dropped meanwhile.
    pub(super) async fn sessions(&self) -> Result<usize, Failure> {
        match self.server {
            Server::Postgres => {
                let sql = "SELECT count(*)::text FROM pg_stat_activity \
                           WHERE usename LIKE 'v-%' OR backend_type = 'client backend' AND usename IS NULL";
                self.number(sql).await
            }
            Server::MariaDb => {
                self.number("SELECT count(*) FROM information_schema.processlist WHERE user LIKE 'v-%'").await
            }
            Server::Redis => {
                let clients = self.redis()?.command(&["CLIENT", "LIST"]).await?;
                let made = ["user=v-", "user=V_"];
                let is_made = |client: &&str| made.iter().any(|user| client.contains(user));
                Ok(clients.as_str().unwrap_or_default().lines().filter(is_made).count())
            }
        }
    }

    /// What OpenBao has made and is still there, and sessions whose user is not.
    pub(super) async fn remains(&self) -> Result<usize, Failure> {
        let (users, orphans) = match self.server {
            Server::Postgres => {
                let postgres = self.postgres()?;
                (postgres.dynamic_users().await?.len(), postgres.orphaned_sessions().await?)
            }
            Server::MariaDb => {
                let mariadb = self.mariadb()?;
                (mariadb.dynamic_users().await?.len(), mariadb.orphaned_sessions().await?)
            }
            // It keeps no session of a user that is gone.
            Server::Redis => (self.redis()?.dynamic_users().await?.len(), 0),
        };
        let openbao = self.testbed()?.openbao();
        let leases = openbao.leases_of(self.role()?).await?.len();
        Ok(leases + users + orphans + openbao.tokens().await?.len())
    }

    /// Lets the server take no more connections than it has now, `yielding` fewer; returns what takes that back.
    pub(super) async fn fill(&self, yielding: usize) -> Result<Full, Failure> {
        match self.server {
            Server::Postgres => {
                // Superusers have no limit, but count; the one who asks has gone by then.
                let sql = "SELECT count(*)::text FROM pg_stat_activity \
                           WHERE datname = current_database() AND pid <> pg_backend_pid()";
                let limit = settled(|| self.number(sql)).await?.saturating_sub(yielding);
                let database = self.postgres()?.database();
                self.sql(&format!("ALTER DATABASE \"{database}\" CONNECTION LIMIT {limit}")).await?;
                Ok(Full { inside: None })
            }
            Server::MariaDb => {
                // One more may come in, who is an administrator: whoever asks here.
                let sql = "SELECT count(*) FROM information_schema.processlist \
                           WHERE command <> 'Daemon' AND id <> CONNECTION_ID()";
                let limit = settled(|| self.number(sql)).await?.saturating_sub(yielding);
                self.sql(&format!("SET GLOBAL max_connections = {limit}")).await?;
                Ok(Full { inside: None })
            }
            Server::Redis => {
                // Nobody is let in for being an administrator, so one stays inside.
                let inside = self.redis()?.administrate().await?;
                let clients = settled(async || {
                    let clients = inside.command(&["CLIENT", "LIST"]).await?;
                    Ok(clients.as_str().unwrap_or_default().lines().count())
                });
                let limit = clients.await?.saturating_sub(yielding).to_string();
                inside.command(&["CONFIG", "SET", "maxclients", &limit]).await?;
                Ok(Full { inside: Some(inside) })
            }
        }
    }

    /// Stops the server for a while. Redis has forgotten its users by then: `users` are made again.
    pub(super) async fn restart(&self, away: Duration, users: &[&str]) -> Result<(), Failure> {
        match self.server {
            Server::Postgres => self.postgres()?.stop().await?,
            Server::MariaDb => self.mariadb()?.stop().await?,
            Server::Redis => self.redis()?.stop().await?,
        }
        let_pass(away).await;
        match self.server {
            Server::Postgres => self.postgres()?.start_again().await?,
            Server::MariaDb => self.mariadb()?.start_again().await?,
            Server::Redis => {
                self.redis()?.start_again().await?;
                for user in users {
                    self.create(user, "p", None).await?;
                }
            }
        }
        Ok(())
    }

    /// Gives OpenBao's role other statements that end a user.
    pub(super) async fn revoke_with(&self, statements: &[&str]) -> Result<(), Failure> {
        let path = format!("database/roles/{}", self.role()?);
        let openbao = self.testbed()?.openbao();
        let mut role = openbao.request("GET", &path, None).await?["data"].take();
        role["revocation_statements"] = statements.iter().copied().map(Value::from).collect();
        openbao.request("POST", &path, Some(role)).await?;
        Ok(())
    }

    async fn sql(&self, sql: &str) -> Result<(), Failure> {
        match self.server {
            Server::MariaDb => self.mariadb()?.execute(sql).await?,
            Server::Postgres | Server::Redis => self.postgres()?.execute(sql).await?,
        }
        Ok(())
    }

    async fn number(&self, sql: &str) -> Result<usize, Failure> {
        let rows = match self.server {
            Server::MariaDb => self.mariadb()?.query(sql).await?,
            Server::Postgres | Server::Redis => self.postgres()?.query(sql).await?,
        };
        let count = rows.first().and_then(|row| row.first()).and_then(Option::as_deref).unwrap_or_default();
        count.parse().map_err(|_| Failure(format!("`{count}` is no number")))
    }

    fn postgres(&self) -> Result<&Postgres, Failure> {
        let postgres = match &self.servers {
            Servers::Testbed(testbed) => Some(testbed.postgres()),
            Servers::Alone(alone) => alone.postgres.as_ref(),
        };
        postgres.ok_or_else(|| Failure("there is no PostgreSQL".to_owned()))
    }

    fn mariadb(&self) -> Result<&MariaDb, Failure> {
        let mariadb = match &self.servers {
            Servers::Testbed(testbed) => testbed.mariadb(),
            Servers::Alone(alone) => alone.mariadb.as_ref(),
        };
        mariadb.ok_or_else(|| Failure("there is no MariaDB".to_owned()))
    }

    fn redis(&self) -> Result<&Redis, Failure> {
        let redis = match &self.servers {
            Servers::Testbed(testbed) => testbed.redis(),
            Servers::Alone(alone) => alone.redis.as_ref(),
        };
        redis.ok_or_else(|| Failure("there is no Redis".to_owned()))
    }
}

/// What three looks in a row agree on: a server lists what was closed for a moment longer.
async fn settled(count: impl AsyncFn() -> Result<usize, Failure>) -> Result<usize, Failure> {
    let (mut last, mut agreeing) = (None, 0);
    for _ in 0..200 {
        let now = count().await?;
        agreeing = if last.replace(now) == Some(now) { agreeing + 1 } else { 0 };
        if agreeing == 2 {
            return Ok(now);
        }
        let_pass(Duration::from_millis(30)).await;
    }
    Err(Failure("connections come and go, and cannot be counted".to_owned()))
}

/// A server that takes no more connections.
#[derive(Debug)]
pub(super) struct Full {
    inside: Option<RedisSession>,
}

impl Full {
    /// Lets the cases in again, where they have no way in of their own.
    pub(super) async fn end(self) -> Result<(), Failure> {
        if let Some(inside) = self.inside {
            inside.command(&["CONFIG", "SET", "maxclients", "60"]).await?;
        }
        Ok(())
    }
}
