//! RabbitMQ as a container.

use std::{path::Path, sync::Arc};

use super::environment;
use crate::{
    error::Result,
    image::Image,
    pod::{Pod, SHOWN, Spec},
    server::Server,
    site::Site,
};

/// A server that is not started yet.
///
/// What it shares with other nodes of a cluster, a port among it, stays inside of the pod.
pub(super) async fn server(site: &Site, pod: &Pod) -> Result<Server> {
    let container = pod.container(Spec {
        name: Image::RabbitMq.name(),
        image: pod.image(Image::RabbitMq).await?,
        command: vec!["rabbitmq-server".into()],
        environment: environment(Path::new(SHOWN)),
        stop: "TERM",
    })?;
    Ok(Server::new(Image::RabbitMq.name(), Arc::new(container), &site.backstage))
}
