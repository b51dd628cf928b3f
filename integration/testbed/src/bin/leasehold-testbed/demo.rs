//! `cargo testbed demo`: the main job, end to end, with someone watching.

mod outcome;
mod servers;
mod view;

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use leasehold_core::{Credentials, Current, EventKind, Token};
use leasehold_renewal::Keeper;
use leasehold_secrets::DatabaseRole;
use leasehold_testbed::load::Load;
use tokio::time::{Instant, MissedTickBehavior, interval};

use outcome::Outcome;
use servers::Servers;
use view::View;

use crate::asked_to_stop;

/// Options of `cargo testbed demo`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How long the load runs.
    #[arg(long, default_value_t = 60, value_name = "N")]
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
    #[arg(long, default_value = "pipeline", value_name = "NAME")]
    role: String,
    /// The role of the database secrets engine.
    #[arg(long, default_value = "pipeline", value_name = "NAME")]
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
pub(crate) async fn run(options: Options) -> ExitCode {
    let mut outcome = Outcome::default();
    let result = measure(&options, &mut outcome).await;
    if let Err(error) = &result {
        outcome.error = Some(format!("{error:#}"));
    }
    let verdict = outcome.verdict(options.external);
    if options.json {
        println!("{}", outcome.to_json());
    } else {
        view::summary(&outcome, &verdict);
    }
    if verdict.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn measure(options: &Options, outcome: &mut Outcome) -> Result<()> {
    let view = View::new(options.json);
    let servers = tokio::select! {
        servers = Servers::start(options) => servers?,
        () = asked_to_stop() => anyhow::bail!("stopped before the servers were up"),
    };
    let running = serve(options, &servers, &view, outcome).await;
    view.finish();
    let left = servers.left_behind().await;
    running?;
    (outcome.leases_left, outcome.tokens_left, outcome.users_left) = left?;
    Ok(())
}

async fn serve(options: &Options, servers: &Servers, view: &View, outcome: &mut Outcome) -> Result<()> {
    let vault = servers.vault(options)?;
    let token = Keeper::start(servers.login(options, Arc::clone(&vault))?).await.context("logging in")?;
    let role = DatabaseRole::new(vault, token.current(), &options.db_role).mount(&options.db_mount);
    let login = Keeper::start(role).await.context("obtaining credentials")?;
    let pool = leasehold_sqlx::Postgres::from_url(servers.database_url())?
        .min_connections(options.connections)
        .max_connections(options.connections)
        .connect(login.current())
        .await
        .context("connecting to the database")?;

    let (queried, query): (_, Arc<str>) = (pool.clone(), servers.query(options).into());
    let load = Load::start(options.rate, move || {
        let (pool, query) = (queried.clone(), Arc::clone(&query));
        async move { sqlx::query(sqlx::AssertSqlSafe(&*query)).fetch_optional(&pool).await.map(drop) }
    });
    watch(options, view, &load, token.current(), login.current(), outcome).await;

    view.note("stopping: the pool first, then the credentials, then the token");
    outcome.record(&load.stop().await);
    outcome.token_generations = token.current().get().map_or(0, |token| token.generation().number());
    pool.close().await;
    login.shutdown().await.context("shutting down the credentials' keeper")?;
    token.shutdown().await.context("shutting down the token's keeper")
}

/// Shows events as they come and the state once a second, until the time is up or somebody stops it.
async fn watch(
    options: &Options,
    view: &View,
    load: &Load,
    token: Current<Token>,
    login: Current<Credentials>,
    outcome: &mut Outcome,
) {
    let (mut of_token, mut of_login) = (token.events(), login.events());
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let end = Instant::now() + Duration::from_secs(options.seconds);
    let stopped = asked_to_stop();
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(end) => return,
            () = &mut stopped => return,
            Ok(event) = of_token.recv() => view.event("token", &event),
            Ok(event) = of_login.recv() => {
                if let EventKind::Adopted = event.kind {
                    outcome.rotations += 1;
                }
                view.event("credentials", &event);
            }
            _ = second.tick() => view.state(load, &token, &login),
        }
    }
}
