//! Debian's suites, and what they have.

use std::fmt;

use anyhow::{Context as _, Result};
use leasehold_testbed::{Choice, Version};

use super::{
    debian::{self, SUITE_FILES},
    docker::{self, Build},
    server::{Server, revision},
    steps::Steps,
    work::{self, Work},
};

/// A suite of Debian's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Suite {
    /// Debian 12.
    Bookworm,
    /// Debian 13.
    Trixie,
    /// What becomes a Debian some day.
    Sid,
}

use Server::{Mariadb, Mysql, Pgbouncer, Postgres, Rabbitmq, Redis, Valkey};
use Suite::{Bookworm, Sid, Trixie};

/// What each suite had when this was written: which one to look in for a version. An image's label says what it has.
const KNOWN: &[(Suite, Server, &str)] = &[
    (Bookworm, Postgres, "15"),
    (Bookworm, Mariadb, "10.11"),
    (Bookworm, Redis, "7.0"),
    (Bookworm, Rabbitmq, "3.10"),
    (Trixie, Postgres, "17"),
    (Trixie, Mariadb, "11.8"),
    (Trixie, Redis, "8.0"),
    (Trixie, Valkey, "8.1"),
    (Trixie, Rabbitmq, "4.0"),
    (Sid, Postgres, "18"),
    (Sid, Mariadb, "11.8"),
    (Sid, Mysql, "9.7"),
    (Sid, Redis, "8.0"),
    (Sid, Valkey, "9.1"),
    (Sid, Rabbitmq, "4.3"),
    (Sid, Pgbouncer, "1.26"),
];

impl Suite {
    /// The one to build a server from: the first that has the version, or whichever version.
    pub(crate) fn with(server: Server, version: Option<Version>) -> Option<Self> {
        let right = |known: &str| {
            version.is_none_or(|asked| {
                asked.includes(known)
                    || known.parse::<Version>().is_ok_and(|known| known.includes(&asked.to_string()))
            })
        };
        let mut found = KNOWN.iter().filter(|(_, of, known)| *of == server && right(known));
        found.next().map(|(suite, ..)| *suite)
    }

    /// The servers that it has.
    pub(crate) fn servers(self) -> impl Iterator<Item = Server> {
        KNOWN.iter().filter(move |(suite, ..)| *suite == self).map(|(_, server, _)| *server)
    }

    /// What the suites after Debian 12 have, each with the suite and the server.
    pub(crate) fn newer() -> impl Iterator<Item = (Self, Server, Choice)> {
        KNOWN.iter().filter(|(suite, ..)| *suite != Bookworm).filter_map(|(suite, server, version)| {
            Some((*suite, *server, server.image().of(Some(version.parse().ok()?))))
        })
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
            Self::Sid => "sid",
        })
    }
}

/// Builds a server's image of a suite after Debian 12, unless it is there and current. Its name says which version it has, and
/// of which suite.
pub(crate) async fn build(
    (server, suite): (Server, Suite),
    anew: bool,
    work: &Work,
    steps: &Steps,
) -> Result<()> {
    let packages = server.packages().join(" ");
    let revision = revision(server.files(), &revision(SUITE_FILES, &format!("{suite} {packages}")));
    let current = [format!("{}={revision}", docker::REVISION)];
    let there = docker::labelled(&current, steps).await?;
    if let Some(image) = there.first().filter(|_| !anew) {
        eprintln!("{server}: {image} is already there");
        return Ok(());
    }
    debian::minimal(&suite.to_string(), anew, work, steps).await?;
    let packaged = format!("{}:{suite}-{server}", debian::REPOSITORY);
    let context = work.folder(&format!("{suite}-{server}-packages"))?;
    for (name, content) in &SUITE_FILES[1..] {
        work::write(&context.join(name), content)?;
    }
    let arguments = [("SUITE", suite.to_string()), ("PACKAGES", packages)];
    let packages = Build {
        what: server.name(),
        image: &packaged,
        context: &context,
        labels: &[],
        arguments: &arguments,
        fetches: true,
        anew,
    };
    docker::build(&packages, steps).await?;
    let list = ["dpkg-query", "--show", "--showformat=${Package} ${Version}\\n"];
    let installed = docker::inside(&packaged, &list, steps).await?;
    let version = debian::version_in(&installed, server);
    let version = version.with_context(|| format!("{packaged} has no package of {server}"))?;

    let image = format!("{}:{version}-{suite}", server.repository());
    let context = work.folder(&format!("{suite}-{server}"))?;
    for (name, content) in server.files() {
        work::write(&context.join(name), content)?;
    }
    let labels = [
        (docker::VERSION, version.clone()),
        (docker::REVISION, revision),
        (docker::SUITE, suite.to_string()),
    ];
    let whole = Build {
        what: server.name(),
        image: &image,
        context: &context,
        labels: &labels,
        arguments: &[("BASE", packaged)],
        fetches: false,
        anew,
    };
    docker::build(&whole, steps).await?;
    docker::show(server.name(), &image, &version, steps).await?;
    // The suite has no other version of it any more.
    let of_suite = docker::labelled(&[format!("{}={suite}", docker::SUITE)], steps).await?;
    let prefix = format!("{}:", server.repository());
    for old in of_suite.iter().filter(|old| old.starts_with(&prefix) && **old != image) {
        docker::remove(old, steps).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_leads_to_its_suite() {
        let suite = |server, version: &str| Suite::with(server, Some(version.parse().unwrap()));
        assert_eq!(suite(Postgres, "18"), Some(Sid));
        assert_eq!(suite(Postgres, "17.4"), Some(Trixie));
        assert_eq!(suite(Postgres, "15"), Some(Bookworm));
        assert_eq!(suite(Postgres, "16"), None);
        assert_eq!(suite(Mariadb, "11"), Some(Trixie));
        assert_eq!(suite(Valkey, "9"), Some(Sid));
        assert_eq!(Suite::with(Mysql, None), Some(Sid));
        assert_eq!(Suite::with(Pgbouncer, None), Some(Sid));
        assert_eq!(Suite::with(Redis, None), Some(Bookworm));
        assert_eq!(Suite::with(Server::Openbao, None), None);
    }

    #[test]
    fn every_version_can_be_asked_for() {
        let newer: Vec<_> = Suite::newer().map(|(.., choice)| choice.name()).collect();
        assert!(newer.contains(&"MySQL 9.7".to_owned()), "{newer:?}");
        assert_eq!(newer.len(), KNOWN.len() - Bookworm.servers().count());
    }
}
