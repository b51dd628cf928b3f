//! A server's image, of whichever version or of one.

use super::Image;
use crate::{
    config::Report,
    error::{Error, Result},
    pod::engine::Engine,
    version::{Version, leading},
};

/// The label with a server's own version, which public images may lack.
const VERSION: &str = "org.opencontainers.image.version";

/// A server, and which version of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Choice {
    /// The server.
    pub image: Image,
    /// The version, or the beginning of one; `None` for whichever is there.
    pub version: Option<Version>,
}

impl Choice {
    /// The server's name, and the version that was asked for.
    pub fn name(self) -> String {
        match self.version {
            Some(version) => format!("{} {version}", self.image.name()),
            None => self.image.name().into(),
        }
    }

    /// Whether it is a container also where processes are asked for: of a version that is named there is no program to be
    /// found, but of OpenBao, and of MySQL and Valkey there is none at all.
    pub(crate) fn is_a_container(&self) -> bool {
        match self.image {
            Image::MySql | Image::Valkey => true,
            Image::OpenBao => false,
            _ => self.version.is_some(),
        }
    }

    /// Which image a container would run from; nothing is pulled.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`] when no engine answers.
    pub async fn at_hand(self) -> Result<Option<String>> {
        self.at_hand_of(&Engine::connect().await?).await
    }

    /// Which image a container would run from, pulled if it must be; `report` is told of that.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`] when no engine answers; [`Error::Missing`] when there is no image and none can be pulled.
    pub async fn obtain(self, report: Report) -> Result<String> {
        self.find(&Engine::connect().await?, report).await
    }

    /// The first candidate that is there, else the first one pulled.
    pub(crate) async fn find(self, engine: &Engine, report: Report) -> Result<String> {
        if let Some(image) = self.at_hand_of(engine).await? {
            return Ok(image);
        }
        let image = match self.version {
            Some(version) => self.image.public_of(version),
            None => self.image.named().unwrap_or_else(|| self.image.public().into()),
        };
        report(&format!("pulling {image}, once"));
        match engine.pull(&image).await {
            Ok(()) => Ok(image),
            Err(error) => Err(Error::Missing {
                program: self.image.name(),
                searched: format!("as the image {image}, and it cannot be pulled ({error})"),
                remedy: self.remedy(),
            }),
        }
    }

    /// The first candidate that is there. One that was built here is known by what it says that it holds, not by its name; and
    /// what a variable names counts only where no version is asked for, because it may be another.
    async fn at_hand_of(self, engine: &Engine) -> Result<Option<String>> {
        let names = match self.version {
            Some(version) => vec![self.image.public_of(version)],
            None => self.image.candidates(),
        };
        for name in names {
            if engine.has_image(&name).await? {
                return Ok(Some(name));
            }
        }
        if self.version.is_none() && (self.image.named().is_some() || self.image.local().is_some()) {
            return Ok(None);
        }
        let Some(repository) = self.image.repository() else { return Ok(None) };
        let built = engine.images_of(repository).await?.into_iter().filter_map(|(name, mut labels)| {
            let version = labels.remove(VERSION)?;
            let asked = self.version.is_none_or(|asked| asked.includes(&version));
            asked.then(|| (leading(&version), name))
        });
        Ok(built.max().map(|(_, name)| name))
    }

    /// What to do where there is none.
    pub fn remedy(self) -> String {
        let variable = self.image.variable();
        let server = self.image.repository().and_then(|name| name.rsplit('/').next());
        match (server, self.version) {
            (None, _) => format!("name yours in {variable}"),
            (Some(server), None) => {
                format!("build one with `cargo testbed images {server}`, or name yours in {variable}")
            }
            (Some(server), Some(version)) if self.image == Image::OpenBao => {
                format!("build it with `cargo testbed images {server} --openbao {version}`")
            }
            (Some(server), Some(_)) => {
                format!("build it with `cargo testbed images {server} --suite trixie`, or `sid`")
            }
        }
    }
}

impl From<Image> for Choice {
    fn from(image: Image) -> Self {
        image.any()
    }
}
