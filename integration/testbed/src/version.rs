//! Which version of a server.

use std::{env, fmt, str::FromStr};

use crate::{
    error::{Error, Result},
    image::Image,
};

/// A version, or the beginning of one: `18` is every 18.x, and `2.6.2` is that one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    numbers: [u16; 3],
    length: usize,
}

impl Version {
    /// Whether a server that says that it is of this version is one that was asked for. Text after the numbers, as in
    /// `18.1 (Debian 18.1-2)`, does not count.
    pub fn includes(self, version: &str) -> bool {
        let numbers = leading(version);
        numbers.get(..self.length).is_some_and(|numbers| numbers == self.numbers())
    }

    /// Whether all that it includes comes before a minor version.
    pub(crate) fn is_before(self, major: u16, minor: u16) -> bool {
        match self.numbers() {
            [only] => *only < major,
            [first, second, ..] => (*first, *second) < (major, minor),
            [] => false,
        }
    }

    fn numbers(&self) -> &[u16] {
        &self.numbers[..self.length]
    }
}

/// The numbers that a text begins with.
pub(crate) fn leading(text: &str) -> Vec<u16> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    text[..end].split('.').map_while(|number| number.parse().ok()).collect()
}

impl FromStr for Version {
    /// What would have been right.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || "a version of one to three numbers, such as `18` or `2.6.2`".to_owned();
        let found: Vec<u16> =
            text.split('.').map(str::parse).collect::<Result<_, _>>().map_err(|_| wrong())?;
        let mut numbers = [0; 3];
        numbers.get_mut(..found.len()).ok_or_else(wrong)?.copy_from_slice(&found);
        Ok(Self { numbers, length: found.len() })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> = self.numbers().iter().map(u16::to_string).collect();
        f.write_str(&numbers.join("."))
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The versions of a testbed's servers. A server whose version is `None` is the one that is there.
///
/// A server of a version runs as a container, whatever runs the others; OpenBao's versions can be processes as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    /// OpenBao's.
    pub openbao: Option<Version>,
    /// PostgreSQL's.
    pub postgres: Option<Version>,
    /// MariaDB's.
    pub mariadb: Option<Version>,
    /// MySQL's.
    pub mysql: Option<Version>,
    /// Redis's.
    pub redis: Option<Version>,
    /// Valkey's.
    pub valkey: Option<Version>,
    /// RabbitMQ's.
    pub rabbitmq: Option<Version>,
}

impl Versions {
    /// The variables that decide where this does not, each with the server that it is about.
    pub const VARIABLES: [(&str, Image); 7] = [
        ("LEASEHOLD_VERSION_OPENBAO", Image::OpenBao),
        ("LEASEHOLD_VERSION_POSTGRES", Image::Postgres),
        ("LEASEHOLD_VERSION_MARIADB", Image::MariaDb),
        ("LEASEHOLD_VERSION_MYSQL", Image::MySql),
        ("LEASEHOLD_VERSION_REDIS", Image::Redis),
        ("LEASEHOLD_VERSION_VALKEY", Image::Valkey),
        ("LEASEHOLD_VERSION_RABBITMQ", Image::RabbitMq),
    ];

    /// The version of a server.
    pub fn of(&self, image: Image) -> Option<Version> {
        match image {
            Image::OpenBao => self.openbao,
            Image::Postgres => self.postgres,
            Image::MariaDb => self.mariadb,
            Image::MySql => self.mysql,
            Image::Redis => self.redis,
            Image::Valkey => self.valkey,
            Image::RabbitMq => self.rabbitmq,
            Image::Vault | Image::PgBouncer | Image::K3s => None,
        }
    }

    /// These, and what the environment says of the others.
    ///
    /// # Errors
    ///
    /// [`Error::Variable`] if a variable is no version.
    pub fn or_from_env(mut self) -> Result<Self> {
        for (variable, image) in Self::VARIABLES {
            let Some(value) = env::var_os(variable).filter(|value| !value.is_empty()) else { continue };
            let value = value.to_string_lossy();
            let version = value.parse::<Version>().map_err(|wanted| Error::Variable {
                variable,
                value: value.clone().into_owned(),
                wanted,
            })?;
            if let Some(place) = self.place(image) {
                place.get_or_insert(version);
            }
        }
        Ok(self)
    }

    fn place(&mut self, image: Image) -> Option<&mut Option<Version>> {
        match image {
            Image::OpenBao => Some(&mut self.openbao),
            Image::Postgres => Some(&mut self.postgres),
            Image::MariaDb => Some(&mut self.mariadb),
            Image::MySql => Some(&mut self.mysql),
            Image::Redis => Some(&mut self.redis),
            Image::Valkey => Some(&mut self.valkey),
            Image::RabbitMq => Some(&mut self.rabbitmq),
            Image::Vault | Image::PgBouncer | Image::K3s => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn a_version_includes_those_that_begin_so() {
        let table = [
            ("18", "18.1", true),
            ("18", "18.1 (Debian 18.1-2)", true),
            ("1", "18.1", false),
            ("8.0", "8.0.6", true),
            ("8.0", "8", false),
            ("9.7", "9.7.4+dfsg", true),
            ("9.7", "9.71", false),
            ("2.6.2", "2.6.2", true),
            ("2.6.2", "2.6.20", false),
        ];
        for (asked, is, included) in table {
            assert_eq!(version(asked).includes(is), included, "{asked} of {is}");
        }
    }

    #[test]
    fn a_version_comes_before_those_that_follow() {
        assert!(version("2.6.2").is_before(2, 7) && version("2.6").is_before(2, 7));
        assert!(!version("2.7").is_before(2, 7) && !version("2").is_before(2, 7));
        assert!(version("1").is_before(2, 7) && !version("10.1").is_before(2, 7));
    }

    #[test]
    fn what_is_shown_is_what_is_read() {
        for text in ["18", "9.7", "2.6.2"] {
            assert_eq!(version(text).to_string(), text);
        }
        for text in ["", "eighteen", "1.2.3.4", "18.", "v18", "-1"] {
            assert!(text.parse::<Version>().unwrap_err().contains("`2.6.2`"), "{text}");
        }
    }

    #[test]
    fn each_server_has_its_own() {
        let mut versions = Versions::default();
        for (number, (_, image)) in (1_u16..).zip(Versions::VARIABLES) {
            *versions.place(image).unwrap() = Some(version(&number.to_string()));
        }
        for (number, (_, image)) in (1_u16..).zip(Versions::VARIABLES) {
            assert_eq!(versions.of(image), Some(version(&number.to_string())), "{}", image.name());
        }
    }
}
