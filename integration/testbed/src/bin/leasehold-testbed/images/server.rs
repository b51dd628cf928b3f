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
    Redis,
    Rabbitmq,
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
    pub(crate) const ALL: [Self; 5] =
        [Self::Openbao, Self::Postgres, Self::Mariadb, Self::Redis, Self::Rabbitmq];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Openbao => "openbao",
            Self::Postgres => "postgres",
            Self::Mariadb => "mariadb",
            Self::Redis => "redis",
            Self::Rabbitmq => "rabbitmq",
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
            Self::Redis => Image::Redis,
            Self::Rabbitmq => Image::RabbitMq,
        }
    }

    /// The name that its image is given.
    pub(crate) fn tag(self) -> &'static str {
        // Each of them has one.
        self.image().local().unwrap_or_default()
    }

    pub(crate) fn files(self) -> Files {
        match self {
            Self::Openbao => files!("openbao": "Dockerfile", "prepare.sh", "docker-entrypoint.sh"),
            Self::Postgres => files!("postgres": "Dockerfile", "prepare.sh", "docker-entrypoint.sh"),
            Self::Mariadb => files!("mariadb": "Dockerfile", "prepare.sh", "docker-entrypoint.sh"),
            Self::Redis => files!("redis": "Dockerfile", "prepare.sh", "docker-entrypoint.sh"),
            Self::Rabbitmq => files!("rabbitmq": "Dockerfile", "prepare.sh", "docker-entrypoint.sh"),
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
        let files = Server::ALL.iter().flat_map(|server| server.files()).chain(debian::FILES);
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
            assert!(server.tag().starts_with("localhost/"), "a name that is pulled from nowhere");
        }
    }
}
