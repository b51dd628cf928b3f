//! MariaDB as a container.

use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};

use super::{MariaDb, SETTINGS, fill};
use crate::{
    error::Result,
    image::Image,
    pod::{self, Container, DATA, Pod, Spec},
    ports::Port,
    server::{Server, Superuser},
    site::Site,
};

/// Counts the changes of what is in the template, so that an old one is not taken for a new one.
const REVISION: u32 = 1;

/// A server that is not started yet, whose image has its data.
pub(super) async fn server(site: &Site, pod: &Pod, port: &Port) -> Result<(Server, Superuser)> {
    let spec = |image| spec(image, port, Vec::new());
    let make = |image, password| make(site, pod, port, image, password);
    pod::server(site, pod, Image::MariaDb, REVISION, spec, make).await
}

async fn make(
    site: &Site,
    pod: &Pod,
    port: &Port,
    image: String,
    password: SecretString,
) -> Result<(Arc<Container>, MariaDb)> {
    let environment = vec![("MARIADB_ROOT_PASSWORD", password.expose_secret().to_owned())];
    let container = Arc::new(pod.container(spec(image, port, environment))?);
    let server = Server::new(Image::MariaDb.name(), container.clone(), &site.backstage);
    let mariadb = MariaDb::start(site, server, port.clone(), Superuser::Password(password)).await?;
    fill(&mariadb, "%").await?;
    mariadb.stop().await?;
    Ok((container, mariadb))
}

fn spec(image: String, port: &Port, environment: Vec<(&'static str, String)>) -> Spec {
    let option = |name: &str, value: &str| format!("--{}={value}", name.replace('_', "-"));
    let mut command = vec!["mariadbd".to_owned(), option("datadir", DATA)];
    command.extend(SETTINGS.iter().map(|(name, value)| option(name, value)));
    command.extend([option("bind_address", "0.0.0.0"), option("port", &port.number().to_string())]);
    Spec { name: Image::MariaDb.name(), image, command, environment, stop: "TERM" }
}
