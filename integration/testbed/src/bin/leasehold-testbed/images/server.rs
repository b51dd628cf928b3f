//! The servers, and what their images are made of.

use std::fmt;

use leasehold_testbed::Image;
use sha2::{Digest as _, Sha256};

/// A server that there is an image of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Server {
    Openbao,
    Postgres,
    Mariadb,
    Mysql,
    Redis,
    Valkey,
    Rabbitmq,
    Pgbouncer,
}

/// A file's name and its content.
pub(crate) type Files = &'static [(&'static str, &'static str)];

/// The files of an image's folder that are part of this program.
macro_rules! files {
    ($folder:literal: $($name:literal),*) => {
        &[$(($name, include_str!(concat!("../../../../images/", $folder, "/", $name)))),*]
    };
}
pub(crate) use files;

impl Server {
    pub(crate) const ALL: [Self; 8] = [
        Self::Openbao,
        Self::Postgres,
        Self::Mariadb,
        Self::Mysql,
        Self::Redis,
        Self::Valkey,
        Self::Rabbitmq,
        Self::Pgbouncer,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Openbao => "openbao",
            Self::Postgres => "postgres",
            Self::Mariadb => "mariadb",
            Self::Mysql => "mysql",
            Self::Redis => "redis",
            Self::Valkey => "valkey",
            Self::Rabbitmq => "rabbitmq",
            Self::Pgbouncer => "pgbouncer",
        }
    }

    /// Whose image that is, if one is built here.
    pub(crate) fn of(image: Image) -> Option<Self> {
        Self::ALL.into_iter().find(|server| server.image() == image)
    }

    pub(crate) fn image(self) -> Image {
        match self {
            Self::Openbao => Image::OpenBao,
            Self::Postgres => Image::Postgres,
            Self::Mariadb => Image::MariaDb,
            Self::Mysql => Image::MySql,
            Self::Redis => Image::Redis,
            Self::Valkey => Image::Valkey,
            Self::Rabbitmq => Image::RabbitMq,
            Self::Pgbouncer => Image::PgBouncer,
        }
    }

    /// The name that its image of Debian 12, or of the newest OpenBao, is given; none if Debian 12 does not have it.
    pub(crate) fn tag(self) -> Option<&'static str> {
        self.image().local()
    }

    /// The name, without a tag, of its images of all versions.
    pub(crate) fn repository(self) -> &'static str {
        // Each of them has one.
        self.image().repository().unwrap_or_default()
    }

    /// Debian's packages of it, the one first whose version is the server's; `postgresql` is whichever version a suite has.
    pub(crate) fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Openbao => &[],
            Self::Postgres => &["postgresql"],
            Self::Mariadb => &["mariadb-server-core", "mariadb-client-core"],
            Self::Mysql => &["mysql-server-core", "mysql-client-core"],
            Self::Redis => &["redis-server"],
            Self::Valkey => &["valkey-server"],
            Self::Rabbitmq => &["rabbitmq-server"],
            Self::Pgbouncer => &["pgbouncer"],
        }
    }

    pub(crate) fn files(self) -> Files {
        match self {
            Self::Openbao => files!("openbao": "Dockerfile", "prepare.sh", "docker-entrypoint.sh"),
            Self::Postgres => files!("postgres": "Dockerfile", "prepare.sh", "docker-entrypoint.sh"),
            Self::Mariadb => files!("mariadb": "Dockerfile", "prepare.sh", "docker-entrypoint.sh"),
            Self::Mysql => files!("mysql": "Dockerfile", "prepare.sh", "docker-entrypoint.sh"),
            Self::Valkey => files!("valkey": "Dockerfile", "prepare.sh", "docker-entrypoint.sh"),
            Self::Redis => files!("redis": "Dockerfile", "prepare.sh", "docker-entrypoint.sh"),
            Self::Rabbitmq => files!("rabbitmq": "Dockerfile", "prepare.sh", "docker-entrypoint.sh"),
            Self::Pgbouncer => files!("pgbouncer": "Dockerfile", "prepare.sh", "docker-entrypoint.sh"),
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What an image that is made of these files, and of something from elsewhere, is marked with.
pub(crate) fn revision(files: Files, source: &str) -> String {
    let mut digest = Sha256::new();
    for part in files.iter().flat_map(|(name, content)| [*name, *content]).chain([source]) {
        // With its length, so that no end of one part can be the beginning of the next.
        digest.update(part.len().to_be_bytes());
        digest.update(part);
    }
    digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{super::debian, *};

    #[test]
    fn each_script_is_one_that_its_shell_can_read() {
        let files = Server::ALL
            .iter()
            .flat_map(|server| server.files())
            .chain(debian::FILES)
            .chain(debian::SUITE_FILES);
        for (name, script) in files {
            let Some(shell) = script.lines().next().and_then(|line| line.strip_prefix("#!")) else {
                continue;
            };
            let checked = Command::new(shell).args(["-n", "-c", script]).output().unwrap();
            assert!(checked.status.success(), "{name}: {}", String::from_utf8_lossy(&checked.stderr));
        }
    }

    #[test]
    fn a_revision_changes_with_each_part() {
        let revisions = [
            revision(&[("a", "b")], "c"),
            revision(&[("a", "b")], "d"),
            revision(&[("a", "e")], "c"),
            revision(&[("ab", "")], "c"),
            revision(&[("a", "b"), ("", "")], "c"),
        ];
        for (place, revision) in revisions.iter().enumerate() {
            assert_eq!(revision.len(), 16);
            assert!(!revisions[place + 1..].contains(revision), "{revisions:?}");
        }
    }

    #[test]
    fn each_image_has_its_own_files() {
        for server in Server::ALL {
            let (_, dockerfile) = server.files()[0];
            assert!(dockerfile.contains("ENTRYPOINT [\"docker-entrypoint.sh\"]"), "{server}");
            assert!(server.repository().starts_with("localhost/"), "a name that is pulled from nowhere");
        }
    }
}
