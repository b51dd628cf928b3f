//! Where a testbed's servers are set up.

use crate::{
    backstage::Backstage,
    config::{Config, Report},
    error::{Error, Result},
    image::Image,
    launcher::{Launcher, Product},
    pod::Pod,
    ports::Ports,
};

/// What every server needs to be set up.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) backstage: Backstage,
    pub(crate) ground: Ground,
    /// What containers share that run beside processes, or instead of them.
    pub(crate) pod: Option<Pod>,
    pub(crate) report: Report,
}

impl Site {
    /// With a network of its own for these ports, where it is containers that run the servers.
    #[cfg(feature = "conformance")]
    pub(crate) async fn new(launcher: Launcher, ports: Vec<u16>, report: Report) -> Result<Self> {
        let backstage = Backstage::new()?;
        let ground = match launcher {
            Launcher::Containers => Ground::Pod(Pod::start(ports, Vec::new(), report).await?),
            Launcher::Processes | Launcher::Auto => Ground::Machine,
        };
        Ok(Self { backstage, ground, pod: None, report })
    }

    /// For what a configuration asks for. Where processes run the servers, there is a network of its own for those that can
    /// only be containers.
    pub(crate) async fn of(
        config: &Config,
        product: Product,
        launcher: Launcher,
        ports: &Ports,
    ) -> Result<Self> {
        let all = launcher == Launcher::Containers;
        let images = if all { config.images(product) } else { config.images_beside_processes(product) };
        let numbers = images.iter().flat_map(|choice| ports.of(choice.image)).collect();
        let backstage = Backstage::new()?;
        let pod =
            if images.is_empty() { None } else { Some(Pod::start(numbers, images, config.report).await?) };
        let ground = match &pod {
            Some(pod) if all => Ground::Pod(pod.clone()),
            _ => Ground::Machine,
        };
        Ok(Self { backstage, ground, pod, report: config.report })
    }

    /// The same for a server: a container if only that can be had.
    pub(crate) fn beside(&self, image: Image) -> Self {
        let pod = self.pod.as_ref().filter(|pod| pod.has(image));
        let ground = pod.map_or_else(|| self.ground.clone(), |pod| Ground::Pod(pod.clone()));
        Self { ground, ..self.clone() }
    }
}

/// What runs the servers.
#[derive(Clone, Debug)]
pub(crate) enum Ground {
    /// This machine, as processes.
    Machine,
    /// Containers with a network of their own.
    Pod(Pod),
}

impl Ground {
    /// The address that servers listen on: inside a pod, also the one that its published ports lead to.
    pub(crate) fn listen(&self) -> &'static str {
        match self {
            Self::Machine => "127.0.0.1",
            Self::Pod(_) => "0.0.0.0",
        }
    }
}

/// There is no program for it that could be a process.
pub(crate) fn only_a_container(image: Image) -> Error {
    Error::Missing {
        program: image.name(),
        searched: "as a container, which it can only be".into(),
        remedy: "ask for it in the testbed's configuration".into(),
    }
}
