//! sqlx's pools pass the conformance suite.

macro_rules! adapter {
    ($database:ty, $server:ident, $name:literal, $options:expr) => {
        use std::{fmt::Display, time::Duration};

        use leasehold_core::{Credentials, Current, async_trait};
        use leasehold_testbed::conformance::{Abilities, Adapter, Connection, Pool, Server, Target};

        struct Sqlx;

        #[async_trait]
        impl Adapter for Sqlx {
            fn name(&self) -> &'static str {
                $name
            }

            fn server(&self) -> Server {
                Server::$server
            }

            fn abilities(&self) -> Abilities {
                // One while the successor is proved, and the canary; sqlx itself connects in the place it refused.
                Abilities {
                    spare_sessions: 2,
                    canary: true,
                    short: 1,
                    notices_within: Duration::from_secs(4),
                    counting_sessions: usize::from(Server::$server == Server::MariaDb),
                    ..Abilities::default()
                }
            }

            async fn build(
                &self,
                target: &Target,
                size: usize,
                current: Current<Credentials>,
            ) -> Result<Box<dyn Pool>, String> {
                let options = $options;
                let builder = leasehold_sqlx::Builder::<$database>::new(options(target)?);
                let size = u32::try_from(size).map_err(shown)?;
                let pool = builder.max_connections(size).connect(current).await.map_err(shown)?;
                Ok(Box::new(UnderTest(pool)))
            }
        }

        struct UnderTest(sqlx::Pool<$database>);

        #[async_trait]
        impl Pool for UnderTest {
            async fn acquire(&self) -> Result<Box<dyn Connection>, String> {
                Ok(Box::new(Borrowed(self.0.acquire().await.map_err(shown)?)))
            }

            async fn close(&self) {
                self.0.close().await;
            }

            fn debug(&self) -> String {
                format!("{:?}", self.0)
            }
        }

        struct Borrowed(sqlx::pool::PoolConnection<$database>);

        #[async_trait]
        impl Connection for Borrowed {
            async fn query(&mut self, sql: &'static str) -> Result<String, String> {
                sqlx::query_scalar(sql).fetch_one(&mut *self.0).await.map_err(shown)
            }
        }

        fn shown(error: impl Display) -> String {
            error.to_string()
        }
    };
}

#[cfg(feature = "any")]
mod any_mariadb;
#[cfg(feature = "any")]
mod any_postgres;
#[cfg(feature = "mysql")]
mod mariadb;
#[cfg(feature = "postgres")]
mod postgres;
