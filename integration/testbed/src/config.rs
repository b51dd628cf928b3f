//! What a testbed is asked for.

use std::time::Duration;

use crate::{
    bao_proxy::ProxySettings,
    image::{Choice, Image},
    launcher::{Launcher, Product},
    pgbouncer::PoolMode,
    version::Versions,
};

/// Says in a sentence what takes a while or changes the machine, such as installing something.
pub type Report = fn(&str);

/// How to set a testbed up.
///
/// The default is the demo's: a lease of 6 s that can be renewed up to 15 s, under a token of 15 s that can be
/// renewed up to 30 s.
#[derive(Clone, Debug)]
pub struct Config {
    /// How long a lease of database credentials lasts unless renewed.
    pub lease_ttl: Duration,
    /// How long such a lease can last however often it is renewed.
    pub lease_max_ttl: Duration,
    /// How long a token lasts unless renewed.
    pub token_ttl: Duration,
    /// How long a token can last however often it is renewed.
    pub token_max_ttl: Duration,
    /// What kind of token a login hands out.
    pub token_type: TokenType,
    /// How many requests a token is good for; zero for any number.
    pub token_num_uses: u32,
    /// Whether the policy lets a token revoke leases, which OpenBao's `default` policy does not.
    pub revoke_allowed: bool,
    /// Whether OpenBao listens with TLS as well.
    pub tls: Tls,
    /// Whether there is a MariaDB server, beside PostgreSQL.
    pub mariadb: bool,
    /// Whether there is a MySQL server, beside PostgreSQL. It is a container, whatever runs the others.
    pub mysql: bool,
    /// Whether there is a Redis server, beside PostgreSQL.
    pub redis: bool,
    /// Whether there is a Valkey server, beside PostgreSQL. It is a container, whatever runs the others.
    pub valkey: bool,
    /// Whether there is a RabbitMQ server, beside PostgreSQL.
    pub rabbitmq: bool,
    /// Whether there is a PgBouncer in front of PostgreSQL, and when it gives a client's connection to another one.
    pub pgbouncer: Option<PoolMode>,
    /// Whether there is a standby of PostgreSQL, and how much later than the primary it does what was done there.
    pub standby: Option<Duration>,
    /// Whether there is a `bao proxy` in front of OpenBao, and what it does by itself.
    pub bao_proxy: Option<ProxySettings>,
    /// Which version of each server there is. A server is started if it is asked for above, or always; this alone starts none.
    /// A version that is not named is left to the variables `LEASEHOLD_VERSION_POSTGRES` and so on ([`Versions::VARIABLES`]).
    pub versions: Versions,
    /// What runs the servers; `None` leaves it to the variable `LEASEHOLD_LAUNCHER`, and without that they are processes.
    pub launcher: Option<Launcher>,
    /// Which server hands out secrets; `None` leaves it to the variable `LEASEHOLD_PRODUCT`, and without that it is OpenBao.
    pub product: Option<Product>,
    /// Told what takes a while; it stays silent unless something is said.
    pub report: Report,
}

/// The kind of token that a login hands out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenType {
    /// Stored by the server, renewable, with leases of its own.
    #[default]
    Service,
    /// Encrypted and stored nowhere, neither renewable nor revocable.
    Batch,
}

/// Whether OpenBao listens with TLS, on a port of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tls {
    /// It does not.
    #[default]
    Off,
    /// It does, with a certificate of the testbed's authority.
    Server,
    /// It does, and demands a client's certificate of the testbed's authority.
    Mutual,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lease_ttl: Duration::from_secs(6),
            lease_max_ttl: Duration::from_secs(15),
            token_ttl: Duration::from_secs(15),
            token_max_ttl: Duration::from_secs(30),
            token_type: TokenType::default(),
            token_num_uses: 0,
            revoke_allowed: true,
            tls: Tls::default(),
            mariadb: false,
            mysql: false,
            redis: false,
            valkey: false,
            rabbitmq: false,
            pgbouncer: None,
            standby: None,
            bao_proxy: None,
            versions: Versions::default(),
            launcher: None,
            product: None,
            report: |_| {},
        }
    }
}

impl Config {
    /// The images that containers of such a testbed run from.
    pub fn images(&self, product: Product) -> Vec<Choice> {
        self.servers(product).into_iter().map(|image| image.of(self.versions.of(image))).collect()
    }

    /// The images of servers that are containers where the others are processes.
    pub fn images_beside_processes(&self, product: Product) -> Vec<Choice> {
        self.images(product).into_iter().filter(Choice::is_a_container).collect()
    }

    fn servers(&self, product: Product) -> Vec<Image> {
        let mut servers = vec![product.into(), Image::Postgres];
        servers.extend(self.mariadb.then_some(Image::MariaDb));
        servers.extend(self.mysql.then_some(Image::MySql));
        servers.extend(self.redis.then_some(Image::Redis));
        servers.extend(self.valkey.then_some(Image::Valkey));
        servers.extend(self.rabbitmq.then_some(Image::RabbitMq));
        servers.extend(self.pgbouncer.map(|_| Image::PgBouncer));
        servers
    }
}
