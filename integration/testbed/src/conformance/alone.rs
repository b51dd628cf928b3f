//! A database and nothing else, for the cases that hand out credentials themselves.

use super::Server;
use crate::{
    Config, MariaDb, Postgres, Redis, Result, image::Image, launcher::Launcher, ports::Port, site::Site,
};

/// A database without OpenBao, whose start would be most of the case.
#[derive(Debug)]
pub(super) struct Alone {
    pub(super) postgres: Option<Postgres>,
    pub(super) mariadb: Option<MariaDb>,
    pub(super) redis: Option<Redis>,
    // Last: what the containers share goes after them.
    _site: Site,
}

impl Alone {
    pub(super) async fn start(server: Server) -> Result<Self> {
        // Boxed: a caller's own futures would otherwise hold all of ours, deeper than the compiler likes.
        Box::pin(Self::set_up(server)).await
    }

    async fn set_up(server: Server) -> Result<Self> {
        let report = Config::default().report;
        let image = match server {
            Server::Postgres => Image::Postgres,
            Server::MariaDb => Image::MariaDb,
            Server::Redis => Image::Redis,
        };
        let launcher = Launcher::from_env()?.decide(&[image.any()], report).await?;
        let port = Port::reserve()?;
        let site = Site::new(launcher, vec![port.number()], report).await?;
        let mut alone = Self { postgres: None, mariadb: None, redis: None, _site: site.clone() };
        match server {
            Server::Postgres => alone.postgres = Some(Postgres::launch(&site, port).await?),
            Server::MariaDb => alone.mariadb = Some(MariaDb::launch(&site, port).await?),
            Server::Redis => alone.redis = Some(Redis::launch(&site, port).await?),
        }
        Ok(alone)
    }
}
