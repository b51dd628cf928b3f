//! RabbitMQ as a process.

use std::{ffi::OsString, path::Path, sync::Arc};

use super::{NODE, environment};
use crate::{
    error::Result,
    image::Image,
    locate,
    process::{Plan, Supervisor},
    server::Server,
    site::Site,
};

/// A node of Erlang that nobody can reach, and that asks and starts no `epmd`, which would outlive it: the port is one
/// where nobody listens. Programs that RabbitMQ starts inherit this.
const ALONE: &[(&str, &str)] =
    &[("ERL_FLAGS", "-dist_listen false -start_epmd false -erl_epmd_port 1"), ("ERL_EPMD_PORT", "1")];

/// Nothing of the machine's own RabbitMQ, and everything below the folder it is started in.
const OWN: &[(&str, &str)] = &[
    // For the cookie.
    ("HOME", "."),
    ("RABBITMQ_CONF_ENV_FILE", "/dev/null"),
    ("RABBITMQ_CONFIG_FILES", "./conf.d"),
    ("RABBITMQ_ADVANCED_CONFIG_FILE", "./advanced.config"),
    ("RABBITMQ_MNESIA_BASE", "./data"),
    ("RABBITMQ_LOG_BASE", "./log"),
    ("RABBITMQ_LOGS", "-"),
    ("RABBITMQ_PID_FILE", "./pid"),
    // The script becomes the server, instead of waiting for it.
    ("RUNNING_UNDER_SYSTEMD", "true"),
];

/// A server that is not started yet.
pub(super) async fn server(site: &Site) -> Result<Server> {
    let (report, threads) = (site.report, site.backstage.clone());
    let supervisor = site.backstage.block(move || {
        let plan = Plan {
            name: Image::RabbitMq.name(),
            command: command(&locate::rabbitmq(report)?),
            user: locate::unprivileged()?,
            stop: "TERM",
            // Its data goes as well, so there is nothing to be orderly about.
            end: "KILL",
        };
        Supervisor::new(&plan, &threads)
    });
    Ok(Server::new(Image::RabbitMq.name(), Arc::new(supervisor.await?), &site.backstage))
}

/// What Erlang is told, beside the node's name.
const ERLANG: &[&str] = &[
    // Its library of syslog is not used, and would open a socket at every address of this machine.
    "-syslog protocol {rfc5424,standard_error}",
    // Two threads are enough, and may sleep when they have nothing to do.
    "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none",
];

fn command(program: &Path) -> Vec<OsString> {
    // Named here, it is a node before RabbitMQ makes it one, for which that would ask `epmd`.
    let erlang = format!("-sname {NODE} {}", ERLANG.join(" "));
    let fixed = ALONE.iter().chain(OWN).map(|(name, value)| format!("{name}={value}"));
    let files = environment(Path::new(".")).into_iter().map(|(name, value)| format!("{name}={value}"));
    let mut command = vec!["env".into()];
    command.extend(fixed.chain(files).map(OsString::from));
    command.push(format!("RABBITMQ_SERVER_ERL_ARGS={erlang}").into());
    command.push(program.into());
    command
}
