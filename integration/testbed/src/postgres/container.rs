//! PostgreSQL as a container.

use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};

use super::{Postgres, SETTINGS, fill};
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
    pod::server(site, pod, Image::Postgres, REVISION, spec, make).await
}

async fn make(
    site: &Site,
    pod: &Pod,
    port: &Port,
    image: String,
    password: SecretString,
) -> Result<(Arc<Container>, Postgres)> {
    let environment = vec![
        ("POSTGRES_PASSWORD", password.expose_secret().to_owned()),
        // From inside the pod a password is asked for as well.
        (
            "POSTGRES_INITDB_ARGS",
            "--auth-host=scram-sha-256 --encoding=UTF8 --no-locale --no-sync --wal-segsize=1".into(),
        ),
        ("PGDATA", DATA.into()),
    ];
    let container = Arc::new(pod.container(spec(image, port, environment))?);
    let server = Server::new(Image::Postgres.name(), container.clone(), &site.backstage);
    let postgres = Postgres::start(site, server, port.clone(), Superuser::Password(password)).await?;
    fill(&postgres).await?;
    for (name, value) in SETTINGS {
        // Not on the command line, where they would have the last word over what a test sets.
        postgres.execute(&format!("ALTER SYSTEM SET {name} = '{value}'")).await?;
    }
    postgres.stop().await?;
    Ok((container, postgres))
}

fn spec(image: String, port: &Port, environment: Vec<(&'static str, String)>) -> Spec {
    let port = format!("port={}", port.number());
    Spec {
        name: Image::Postgres.name(),
        image,
        command: ["postgres", "-c", "listen_addresses=*", "-c", &port].map(str::to_owned).into(),
        environment,
        stop: "INT",
    }
}
