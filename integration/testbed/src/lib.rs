#![doc = include_str!("../README.md")]

mod backstage;
mod cluster;
mod command;
mod config;
#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
mod image;
mod install;
mod jwt;
mod kubernetes;
mod launcher;
pub mod load;
mod locate;
mod mariadb;
mod openbao;
mod pki;
mod pod;
mod ports;
mod postgres;
mod process;
mod recorder;
mod redis;
mod serve;
mod server;
mod service_account;
mod shell;
mod site;
mod static_role;
pub mod survey;
mod testbed;

pub use cluster::Cluster;
pub use config::{Config, Report, Tls, TokenType};
pub use error::{Error, Result};
pub use image::Image;
pub use jwt::Claims;
pub use launcher::{Launcher, Product};
pub use locate::{openbao as openbao_program, target_folder};
pub use mariadb::{MariaDb, MariaDbSession};
pub use openbao::OpenBao;
pub use pki::Certificates;
pub use postgres::Postgres;
pub use recorder::{Fault, Recorder, Request};
pub use redis::{Redis, RedisSession};
pub use service_account::ServiceAccount;
pub use testbed::Testbed;
