//! Which image a server runs from.

use std::env;

use crate::{config::Report, error::Result, launcher::Product, pod::engine::Engine, version::Version};

mod choice;

pub use choice::Choice;

/// A server that there is an image of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Image {
    /// OpenBao.
    OpenBao,
    /// HashiCorp's Vault.
    Vault,
    /// PostgreSQL.
    Postgres,
    /// MariaDB.
    MariaDb,
    /// MySQL.
    MySql,
    /// Redis.
    Redis,
    /// Valkey.
    Valkey,
    /// RabbitMQ, with its management interface.
    RabbitMq,
    /// PgBouncer.
    PgBouncer,
    /// A Kubernetes cluster.
    K3s,
}

impl Image {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::OpenBao,
        Self::Vault,
        Self::Postgres,
        Self::MariaDb,
        Self::MySql,
        Self::Redis,
        Self::Valkey,
        Self::RabbitMq,
        Self::PgBouncer,
        Self::K3s,
    ];

    /// The server's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenBao => "OpenBao",
            Self::Vault => "Vault",
            Self::Postgres => "PostgreSQL",
            Self::MariaDb => "MariaDB",
            Self::MySql => "MySQL",
            Self::Redis => "Redis",
            Self::Valkey => "Valkey",
            Self::RabbitMq => "RabbitMQ",
            Self::PgBouncer => "PgBouncer",
            Self::K3s => "k3s",
        }
    }

    /// The variable that names another image than the public one.
    pub fn variable(self) -> &'static str {
        match self {
            Self::OpenBao => "LEASEHOLD_IMAGE_OPENBAO",
            Self::Vault => "LEASEHOLD_IMAGE_VAULT",
            Self::Postgres => "LEASEHOLD_IMAGE_POSTGRES",
            Self::MariaDb => "LEASEHOLD_IMAGE_MARIADB",
            Self::MySql => "LEASEHOLD_IMAGE_MYSQL",
            Self::Redis => "LEASEHOLD_IMAGE_REDIS",
            Self::Valkey => "LEASEHOLD_IMAGE_VALKEY",
            Self::RabbitMq => "LEASEHOLD_IMAGE_RABBITMQ",
            Self::PgBouncer => "LEASEHOLD_IMAGE_PGBOUNCER",
            Self::K3s => "LEASEHOLD_IMAGE_K3S",
        }
    }

    /// The image on the public hub, at its current major version.
    pub fn public(self) -> &'static str {
        match self {
            Self::OpenBao => "openbao/openbao:2",
            Self::Vault => "hashicorp/vault:1.21",
            Self::Postgres => "postgres:18",
            Self::MariaDb => "mariadb:12",
            Self::MySql => "mysql:9",
            Self::Redis => "redis:8",
            Self::Valkey => "valkey/valkey:9",
            Self::RabbitMq => "rabbitmq:4-management",
            // PostgreSQL's makers and Docker's publish none.
            Self::PgBouncer => "edoburu/pgbouncer:latest",
            Self::K3s => "rancher/k3s:v1.34.1-k3s1",
        }
    }

    /// The image on the public hub, of that version.
    pub fn public_of(self, version: Version) -> String {
        let name = self.public().split_once(':').map_or_else(|| self.public(), |(name, _)| name);
        let suffix = if self == Self::RabbitMq { "-management" } else { "" };
        format!("{name}:{version}{suffix}")
    }

    /// What `cargo testbed images` builds where nothing can be pulled, of Debian 12 and the newest OpenBao. There is none of
    /// Vault and k3s, nor of what Debian 12 does not have.
    ///
    /// A name at `localhost` is never looked for on the hub, where somebody else might own it.
    pub fn local(self) -> Option<&'static str> {
        match self {
            Self::OpenBao => Some("localhost/leasehold/openbao:local"),
            Self::Postgres => Some("localhost/leasehold/postgres:local"),
            Self::MariaDb => Some("localhost/leasehold/mariadb:local"),
            Self::Redis => Some("localhost/leasehold/redis:local"),
            Self::RabbitMq => Some("localhost/leasehold/rabbitmq:local"),
            Self::MySql | Self::Valkey | Self::PgBouncer | Self::Vault | Self::K3s => None,
        }
    }

    /// The name, without a tag, of all images of it that `cargo testbed images` builds.
    pub fn repository(self) -> Option<&'static str> {
        match self {
            Self::MySql => Some("localhost/leasehold/mysql"),
            Self::Valkey => Some("localhost/leasehold/valkey"),
            Self::PgBouncer => Some("localhost/leasehold/pgbouncer"),
            _ => self.local().and_then(|name| name.strip_suffix(":local")),
        }
    }

    /// What [`Image::variable`] names.
    pub fn named(self) -> Option<String> {
        env::var(self.variable()).ok().filter(|name| !name.is_empty())
    }

    /// Where to look for it, in this order: what the variable names and nothing else, or the public one, then the local one.
    pub fn candidates(self) -> Vec<String> {
        match self.named() {
            Some(name) => vec![name],
            None => std::iter::once(self.public()).chain(self.local()).map(str::to_owned).collect(),
        }
    }

    /// It, whichever version is there.
    pub fn any(self) -> Choice {
        Choice { image: self, version: None }
    }

    /// It, of a version.
    pub fn of(self, version: Option<Version>) -> Choice {
        Choice { image: self, version }
    }

    /// Which candidate a container would run from; nothing is pulled.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`](crate::Error::Engine) when no engine answers.
    pub async fn at_hand(self) -> Result<Option<String>> {
        self.any().at_hand().await
    }

    /// Which image a container would run from, pulled if it must be; `report` is told of that.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`](crate::Error::Engine) when no engine answers; [`Error::Missing`](crate::Error::Missing) when there is no image and none can be
    /// pulled.
    pub async fn obtain(self, report: Report) -> Result<String> {
        self.any().obtain(report).await
    }

    /// The first candidate that is there, else the first one pulled.
    pub(crate) async fn find(self, engine: &Engine, report: Report) -> Result<String> {
        self.any().find(engine, report).await
    }
}

impl From<Product> for Image {
    fn from(product: Product) -> Self {
        match product {
            Product::OpenBao => Self::OpenBao,
            Product::Vault => Self::Vault,
        }
    }
}

/// Repository and tag, as they are given to whoever puts a colon between them; a digest stays with the tag.
pub(crate) fn split(image: &str) -> (String, String) {
    if let Some((name, digest)) = image.split_once('@') {
        // `name:@digest` means nothing; the colon that joins them is the digest's own.
        let (algorithm, digest) = digest.split_once(':').unwrap_or((digest, ""));
        return (format!("{name}@{algorithm}"), digest.into());
    }
    match image.rsplit_once(':') {
        // A colon before a slash is a registry's port.
        Some((name, tag)) if !tag.contains('/') => (name.into(), tag.into()),
        _ => (image.into(), "latest".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_split_where_its_tag_begins() {
        let table = [
            ("redis", ("redis", "latest")),
            ("redis:8", ("redis", "8")),
            ("localhost:5000/redis", ("localhost:5000/redis", "latest")),
            ("localhost:5000/redis:8", ("localhost:5000/redis", "8")),
            ("redis@sha256:abc", ("redis@sha256", "abc")),
        ];
        for (image, (name, tag)) in table {
            assert_eq!(split(image), (name.into(), tag.into()), "{image}");
        }
    }

    #[test]
    fn what_is_built_here_is_never_looked_for_on_a_hub() {
        for image in Image::ALL {
            assert!(image.local().is_none_or(|name| name.starts_with("localhost/")));
        }
    }
}
