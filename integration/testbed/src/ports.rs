//! Free ports that stay ours.

use std::{
    fs::{self, File},
    net::TcpListener,
    sync::Arc,
};

use crate::{
    config::{Config, Tls},
    error::{Error, Result},
    image::Image,
    locate,
};

/// A port of the loopback interface, ours while this lives, whether something listens or not.
///
/// It lies below the range that outgoing connections take theirs from, and its lock keeps other testbeds away: a
/// server that is stopped and started again finds it free.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    number: u16,
    _lock: Arc<File>,
}

impl Port {
    pub(crate) fn reserve() -> Result<Self> {
        let folder = locate::cache().join("ports");
        fs::create_dir_all(&folder).map_err(Error::file(&folder))?;
        for _ in 0..200 {
            let number = fastrand::u16(20_000..32_000);
            let path = folder.join(number.to_string());
            let lock = File::create(&path).map_err(Error::file(&path))?;
            if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Ok(Self { number, _lock: Arc::new(lock) });
            }
        }
        Err(Error::System { what: "no free port", source: std::io::ErrorKind::AddrInUse.into() })
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }
}

/// The ports of a testbed's servers.
#[derive(Clone, Debug)]
pub(crate) struct Ports {
    pub(crate) openbao: Port,
    pub(crate) openbao_tls: Option<Port>,
    pub(crate) postgres: Port,
    pub(crate) mariadb: Option<Port>,
    pub(crate) mysql: Option<Port>,
    pub(crate) redis: Option<Port>,
    pub(crate) valkey: Option<Port>,
    pub(crate) rabbitmq: Option<RabbitMqPorts>,
    pub(crate) pgbouncer: Option<Port>,
    pub(crate) standby: Option<Port>,
    pub(crate) bao_proxy: Option<Port>,
}

/// The ports of RabbitMQ.
#[derive(Clone, Debug)]
pub(crate) struct RabbitMqPorts {
    pub(crate) amqp: Port,
    pub(crate) management: Port,
}

impl Ports {
    pub(crate) fn reserve(config: &Config) -> Result<Self> {
        let asked = |asked: bool| asked.then(Port::reserve).transpose();
        Ok(Self {
            openbao: Port::reserve()?,
            openbao_tls: asked(config.tls != Tls::Off)?,
            postgres: Port::reserve()?,
            mariadb: asked(config.mariadb)?,
            mysql: asked(config.mysql)?,
            redis: asked(config.redis)?,
            valkey: asked(config.valkey)?,
            rabbitmq: config.rabbitmq.then(RabbitMqPorts::reserve).transpose()?,
            pgbouncer: asked(config.pgbouncer.is_some())?,
            standby: asked(config.standby.is_some())?,
            bao_proxy: asked(config.bao_proxy.is_some())?,
        })
    }

    /// Those of a server, and of what runs from the same image.
    pub(crate) fn of(&self, image: Image) -> Vec<u16> {
        let ports: Vec<&Port> = match image {
            Image::OpenBao | Image::Vault => {
                std::iter::once(&self.openbao).chain(&self.openbao_tls).chain(&self.bao_proxy).collect()
            }
            Image::Postgres => std::iter::once(&self.postgres).chain(&self.standby).collect(),
            Image::PgBouncer => self.pgbouncer.iter().collect(),
            Image::MariaDb => self.mariadb.iter().collect(),
            Image::MySql => self.mysql.iter().collect(),
            Image::Redis => self.redis.iter().collect(),
            Image::Valkey => self.valkey.iter().collect(),
            Image::RabbitMq => {
                self.rabbitmq.iter().flat_map(|ports| [&ports.amqp, &ports.management]).collect()
            }
            Image::K3s => Vec::new(),
        };
        ports.into_iter().map(Port::number).collect()
    }
}

impl RabbitMqPorts {
    fn reserve() -> Result<Self> {
        Ok(Self { amqp: Port::reserve()?, management: Port::reserve()? })
    }
}
