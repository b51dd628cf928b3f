//! MySQL as a container.

use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};

use super::{ADMIN, DATABASE, ROOT, SETTINGS, STATIC_USER, answers};
use crate::{
    error::Result,
    image::Image,
    mariadb::{Address, MariaDbSession},
    pod::{self, Container, DATA, Pod, SHOWN, Spec},
    ports::Port,
    server::{Server, Superuser},
    site::Site,
};

/// Counts the changes of what is in the template, so that an old one is not taken for a new one.
const REVISION: u32 = 1;

/// A server that is not started yet, whose image has its data, and its superuser's password. It reads certificates in its
/// folder.
pub(super) async fn server(site: &Site, pod: &Pod, port: &Port) -> Result<(Server, SecretString)> {
    let spec = |image| {
        let files = [("ssl_ca", "ca.pem"), ("ssl_cert", "server.pem"), ("ssl_key", "server-key.pem")];
        let files = files.map(|(name, file)| option(name, &format!("{SHOWN}/{file}")));
        spec(image, port, files.to_vec(), Vec::new())
    };
    let make = |image, password| make(site, pod, port, image, password);
    let (server, superuser) = pod::server(site, pod, Image::MySql, REVISION, spec, make).await?;
    let password = match superuser {
        Superuser::Password(password) => password,
        // A container's superuser has a password.
        Superuser::Socket(_) => SecretString::default(),
    };
    Ok((server, password))
}

/// Makes the data, in a server with certificates of its own.
async fn make(
    site: &Site,
    pod: &Pod,
    port: &Port,
    image: String,
    password: SecretString,
) -> Result<(Arc<Container>, Server)> {
    let environment = vec![("MYSQL_ROOT_PASSWORD", password.expose_secret().to_owned())];
    let container = Arc::new(pod.container(spec(image, port, Vec::new(), environment))?);
    let server = Server::new(Image::MySql.name(), container.clone(), &site.backstage);
    server.start(answers(port.number(), password.clone())).await?;
    let (name, address) = (Image::MySql.name(), Address::Tcp(port.number()));
    let session =
        MariaDbSession::open(&site.backstage, name, address, ROOT, password.expose_secret(), "mysql").await?;
    session.query(&fill()).await?;
    drop(session);
    server.runner().stop().await?;
    Ok((container, server))
}

fn spec(image: String, port: &Port, more: Vec<String>, environment: Vec<(&'static str, String)>) -> Spec {
    let mut command = vec!["mysqld".to_owned(), option("datadir", DATA)];
    command.extend(SETTINGS.iter().map(|(name, value)| option(name, value)));
    command.extend([option("bind_address", "0.0.0.0"), option("port", &port.number().to_string())]);
    command.extend(more);
    Spec { name: Image::MySql.name(), image, command, environment, stop: "TERM" }
}

fn option(name: &str, value: &str) -> String {
    format!("--{}={value}", name.replace('_', "-"))
}

/// What a service finds: a table that it may read, through a user that may pass the right on, and close sessions; and a user
/// that is there already.
///
/// Root comes in one way only, over TCP, and nobody without a password: theirs are set when the server is known to be ours.
fn fill() -> String {
    format!(
        "DROP USER '{ROOT}'@'localhost';
         CREATE DATABASE {DATABASE};
         CREATE TABLE {DATABASE}.measurements (
             id bigint PRIMARY KEY AUTO_INCREMENT, value double NOT NULL);
         INSERT INTO {DATABASE}.measurements (value)
             WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 100)
             SELECT n / 10.0 FROM numbers;
         CREATE USER '{ADMIN}'@'%' IDENTIFIED BY RANDOM PASSWORD;
         GRANT CREATE USER, CONNECTION_ADMIN ON *.* TO '{ADMIN}'@'%';
         GRANT SELECT ON {DATABASE}.* TO '{ADMIN}'@'%' WITH GRANT OPTION;
         CREATE USER '{STATIC_USER}'@'%' IDENTIFIED BY RANDOM PASSWORD;
         GRANT SELECT ON {DATABASE}.* TO '{STATIC_USER}'@'%'"
    )
}
