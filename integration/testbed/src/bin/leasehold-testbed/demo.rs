//! `cargo testbed demo`: the main job, end to end, with someone watching.

mod outcome;
mod servers;
mod service;
mod view;

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Result, bail};
use leasehold_core::{Credentials, Current, EventKind, Token};
use leasehold_testbed::load::Load;
use sqlx::PgPool;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::{Setup, interrupt::Interrupt, output};
use outcome::Outcome;
use servers::Servers;
use service::Service;
use view::View;

/// Options of `cargo testbed demo`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How long the load runs.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(..=31_536_000), value_name = "N")]
    seconds: u64,
    /// Queries per second, started at this rate whether or not the ones before have been answered.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=20_000), value_name = "N")]
    rate: u32,
    /// Size of the pool.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000), value_name = "N")]
    connections: u32,
    /// Prints one JSON object, and nothing else, on stdout.
    #[arg(long)]
    json: bool,
    /// Uses your own servers instead: `VAULT_ADDR` and whatever logs in (see leasehold-auth), and `DATABASE_URL`.
    #[arg(long)]
    external: bool,
    /// The role to log in with.
    #[arg(long, env = "VAULT_ROLE", default_value = "pipeline", value_name = "NAME")]
    role: String,
    /// The role of the database secrets engine.
    #[arg(long, env = "DATABASE_ROLE", default_value = "pipeline", value_name = "NAME")]
    db_role: String,
    /// Where that engine is mounted.
    #[arg(long, default_value = "database", value_name = "MOUNT")]
    db_mount: String,
    /// With `--external`: your database, without credentials, such as `postgres://127.0.0.1:5432/app`.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: Option<String>,
    /// With `--external`: the query to run.
    #[arg(long, default_value = "SELECT session_user::text", value_name = "SQL")]
    query: String,
}

/// Runs the demo and says how it went, in whichever form was asked for.
pub(crate) async fn run(options: Options, setup: Setup, interrupt: Interrupt) -> ExitCode {
    let mut outcome = Outcome::default();
    if let Err(error) = measure(&options, setup, &interrupt, &mut outcome).await {
        outcome.error = Some(format!("{error:#}"));
    }
    outcome.stopped_early = interrupt.was_asked();
    let verdict = outcome.verdict(options.external);
    if options.json {
        output::line(&outcome.to_json());
    } else {
        view::summary(&outcome, &verdict);
    }
    if verdict.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The JSON of a demo that did not get as far as its options.
pub(crate) fn failed_to_start(why: &str) -> String {
    Outcome { error: Some(why.trim().to_owned()), ..Outcome::default() }.to_json()
}

async fn measure(
    options: &Options,
    setup: Setup,
    interrupt: &Interrupt,
    outcome: &mut Outcome,
) -> Result<()> {
    let servers = tokio::select! {
        servers = Servers::start(options, setup) => servers?,
        () = interrupt.asked() => bail!("stopped before the servers were up"),
    };
    let view = View::new(options.json);
    let mut service = Service::default();
    let ran = serve(options, &servers, &view, interrupt, &mut service, outcome).await;
    // Whatever was obtained is given back, also after a start that failed half-way.
    let stopped = service.stop().await;
    view.finish();
    (outcome.leases_left, outcome.tokens_left, outcome.users_left) = servers.left_behind().await?;
    ran.and(stopped)
}

async fn serve(
    options: &Options,
    servers: &Servers,
    view: &View,
    interrupt: &Interrupt,
    service: &mut Service,
    outcome: &mut Outcome,
) -> Result<()> {
    let (token, login, pool) = tokio::select! {
        started = service.start(options, servers, view) => started?,
        () = interrupt.asked() => bail!("stopped before the pool was up"),
    };
    let load = start_load(pool, servers.query(options), options.rate);
    watch(options, view, interrupt, &load, &token, &login, outcome).await;
    view.note("stopping: the pool first, then the credentials, then the token");
    outcome.record(load.stop().await);
    outcome.token_generations = token.get().map_or(0, |token| token.generation().number());
    Ok(())
}

fn start_load(pool: PgPool, query: String, rate: u32) -> Load {
    let query: Arc<str> = query.into();
    Load::start(rate, move || {
        let (pool, query) = (pool.clone(), Arc::clone(&query));
        async move { sqlx::query(sqlx::AssertSqlSafe(&*query)).fetch_optional(&pool).await.map(drop) }
    })
}

/// Shows events as they come and the state once a second, until the time is up or somebody stops it.
async fn watch(
    options: &Options,
    view: &View,
    interrupt: &Interrupt,
    load: &Load,
    token: &Current<Token>,
    login: &Current<Credentials>,
    outcome: &mut Outcome,
) {
    let (mut of_token, mut of_login) = (token.events(), login.events());
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let end = Instant::now() + Duration::from_secs(options.seconds);
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(end) => return,
            () = interrupt.asked() => return,
            Ok(event) = of_token.recv() => view.event("token", &event),
            Ok(event) = of_login.recv() => {
                if let EventKind::Adopted = event.kind {
                    outcome.rotations += 1;
                }
                view.event("credentials", &event);
            }
            _ = second.tick() => view.state(load, token, login),
        }
    }
}
