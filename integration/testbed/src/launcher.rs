//! What runs the servers, and which of the two servers of secrets it is.

use std::{env, fmt, str::FromStr};

use crate::{
    config::Report,
    error::{Error, Result},
    image::Choice,
    pod::engine,
};

/// What runs the servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Launcher {
    /// Processes of this machine.
    #[default]
    Processes,
    /// Containers of the engine that answers where Docker does.
    Containers,
    /// Containers if an engine answers and the images are there or can be pulled, else processes.
    Auto,
}

/// The server that hands out secrets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Product {
    /// OpenBao, which can be installed from PyPI and pulled.
    #[default]
    OpenBao,
    /// HashiCorp's Vault, from its image, or from `PATH`; it is not installed.
    Vault,
}

impl Launcher {
    /// The variable that decides where [`Config::launcher`](crate::Config::launcher) does not.
    pub const VARIABLE: &str = "LEASEHOLD_LAUNCHER";

    /// What the environment asks for; processes if it does not.
    ///
    /// # Errors
    ///
    /// [`Error::Variable`] if the variable is none of `processes`, `containers` and `auto`.
    pub fn from_env() -> Result<Self> {
        from_variable(Self::VARIABLE)
    }

    /// Makes up its mind: the answer is never [`Launcher::Auto`]. What `auto` came to, and why, goes to `report` as one line.
    ///
    /// # Errors
    ///
    /// None for `processes` and `auto`. For `containers`: [`Error::Engine`] when no engine answers, [`Error::Missing`] when
    /// one of the images is neither there nor can be pulled.
    pub async fn decide(self, images: &[Choice], report: Report) -> Result<Self> {
        if self == Self::Processes {
            return Ok(self);
        }
        let found = engine::find(images, report).await;
        match (self, found) {
            (Self::Auto, Ok(words)) => {
                said(report, &format!("launcher: containers ({words})"));
                Ok(Self::Containers)
            }
            (Self::Auto, Err(error)) => {
                said(report, &format!("launcher: processes ({error})"));
                Ok(Self::Processes)
            }
            (_, found) => found.map(|_| self),
        }
    }
}

fn said(report: Report, line: &str) {
    report(line);
    tracing::info!("{line}");
}

impl Product {
    /// The variable that decides where [`Config::product`](crate::Config::product) does not.
    pub const VARIABLE: &str = "LEASEHOLD_PRODUCT";

    /// What the environment asks for; OpenBao if it does not.
    ///
    /// # Errors
    ///
    /// [`Error::Variable`] if the variable is neither `openbao` nor `vault`.
    pub fn from_env() -> Result<Self> {
        from_variable(Self::VARIABLE)
    }

    /// The name, as its makers write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenBao => "OpenBao",
            Self::Vault => "Vault",
        }
    }
}

fn from_variable<T: Default + FromStr<Err = String>>(variable: &'static str) -> Result<T> {
    let Some(value) = env::var_os(variable).filter(|value| !value.is_empty()) else {
        return Ok(T::default());
    };
    let value = value.to_string_lossy();
    value.parse().map_err(|wanted| Error::Variable { variable, value: value.into_owned(), wanted })
}

impl FromStr for Launcher {
    /// What would have been right.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "processes" => Ok(Self::Processes),
            "containers" => Ok(Self::Containers),
            "auto" => Ok(Self::Auto),
            _ => Err("`processes`, `containers` or `auto`".into()),
        }
    }
}

impl fmt::Display for Launcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Processes => "processes",
            Self::Containers => "containers",
            Self::Auto => "auto",
        })
    }
}

impl FromStr for Product {
    /// What would have been right.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "openbao" => Ok(Self::OpenBao),
            "vault" => Ok(Self::Vault),
            _ => Err("`openbao` or `vault`".into()),
        }
    }
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OpenBao => "openbao",
            Self::Vault => "vault",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_what_is_read() {
        for launcher in [Launcher::Processes, Launcher::Containers, Launcher::Auto] {
            assert_eq!(launcher.to_string().parse(), Ok(launcher));
        }
        for product in [Product::OpenBao, Product::Vault] {
            assert_eq!(product.to_string().parse(), Ok(product));
        }
        assert!("docker".parse::<Launcher>().unwrap_err().contains("`containers`"));
        assert!("bao".parse::<Product>().unwrap_err().contains("`openbao`"));
    }
}
