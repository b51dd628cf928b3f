//! Free ports that stay ours.

use std::{
    fs::{self, File},
    net::TcpListener,
    sync::Arc,
};

use crate::{
    config::{Config, Tls},
    error::{Error, Result},
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
    pub(crate) redis: Option<Port>,
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
            redis: asked(config.redis)?,
            rabbitmq: config.rabbitmq.then(RabbitMqPorts::reserve).transpose()?,
            pgbouncer: asked(config.pgbouncer.is_some())?,
            standby: asked(config.standby.is_some())?,
            bao_proxy: asked(config.bao_proxy.is_some())?,
        })
    }

    pub(crate) fn numbers(&self) -> Vec<u16> {
        let always = [&self.openbao, &self.postgres];
        let asked = [&self.openbao_tls, &self.mariadb, &self.redis].into_iter().flatten();
        let rabbitmq = self.rabbitmq.iter().flat_map(|ports| [&ports.amqp, &ports.management]);
        let between = [&self.pgbouncer, &self.standby, &self.bao_proxy].into_iter().flatten();
        always.into_iter().chain(asked).chain(rabbitmq).chain(between).map(Port::number).collect()
    }
}

impl RabbitMqPorts {
    fn reserve() -> Result<Self> {
        Ok(Self { amqp: Port::reserve()?, management: Port::reserve()? })
    }
}
