//! Instructions where the processor's counters cannot be used: valgrind executes them one by one, and counts.

use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use leasehold_core::{Credentials, ExposeSecret as _};
use tokio::{
    runtime::{self, Runtime},
    time::{Instant, sleep_until},
};

use super::report::Counts;
use crate::{
    keeper_by_hand::KeeperByHand,
    median::median,
    pools::{ADAPTERS, Adapter, Pool, Tuning, Way},
    server::{Place, Server},
};

/// One pool, to be measured in a process of its own.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Part {
    #[arg(long)]
    adapter: String,
    #[arg(long)]
    leasehold: bool,
    #[arg(long)]
    connections: u32,
    #[arg(long)]
    host: String,
    #[arg(long)]
    port: u16,
    #[arg(long)]
    database: String,
}

/// Counts the instructions of a check-out and return in the plain pool and in ours; nothing, and why on stderr, where
/// there is no valgrind.
pub(super) async fn count(
    adapter: &dyn Adapter,
    server: &Server,
    connections: u32,
) -> Result<Option<Counts>> {
    let found = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        eprintln!("instructions are not counted by valgrind either: it is not on the PATH");
        return Ok(None);
    }
    let mut counts = [0.0; 2];
    for (count, leasehold) in counts.iter_mut().zip([false, true]) {
        let users = server.make_users(2).await?;
        let part = part(adapter, leasehold, connections, &server.place());
        // How often a task that waits for the server is woken up in vain is a matter of chance.
        let mut runs = Vec::new();
        for _ in 0..RUNS {
            runs.push(executed(&part, &users)? / f64::from(TIMES));
        }
        *count = median(runs);
        server.drop_users(&users).await?;
    }
    let [plain, leasehold] = counts;
    eprintln!("{}: instructions counted by valgrind", adapter.name());
    Ok(Some(Counts { plain, leasehold }))
}

fn part(adapter: &dyn Adapter, leasehold: bool, connections: u32, place: &Place) -> Part {
    let Place { host, port, database } = place.clone();
    Part { adapter: adapter.name().to_owned(), leasehold, connections, host, port, database }
}

/// Plays the part in a process of its own, and returns how many instructions it executed in [`counted`].
fn executed(part: &Part, users: &[Credentials]) -> Result<f64> {
    let counts = env::temp_dir().join(format!("leasehold-callgrind-{}", std::process::id()));
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--quiet", "--toggle-collect=*valgrind*counted*"]);
    command.arg(format!("--callgrind-out-file={}", counts.display())).arg(env::current_exe()?);
    command.args(["checkout-under-valgrind", "--adapter", &part.adapter, "--host", &part.host]);
    command.args(["--port", &part.port.to_string(), "--database", &part.database]);
    command.args(["--connections", &part.connections.to_string()]);
    if part.leasehold {
        command.arg("--leasehold");
    }
    let logins = users.iter().map(|user| [user.username(), user.password().expose_secret()]);
    command.env(LOGINS, serde_json::to_string(&logins.collect::<Vec<_>>())?);
    let status = command.stdout(Stdio::null()).status().context("valgrind")?;
    let counted = read(&counts);
    let _ = fs::remove_file(&counts);
    ensure!(status.success(), "{} under valgrind: {status}", part.adapter);
    counted
}

fn read(path: &Path) -> Result<f64> {
    let text = fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    total.context("callgrind's file has no totals")?.trim().parse().context("callgrind's totals")
}

/// What happens under valgrind.
pub(crate) fn play(part: &Part) -> Result<()> {
    let logins: Vec<(String, String)> = serde_json::from_str(&env::var(LOGINS)?)?;
    let users: Vec<_> = logins.into_iter().map(|(user, password)| Credentials::new(user, password)).collect();
    let adapter = ADAPTERS.into_iter().find(|adapter| adapter.name() == part.adapter);
    let adapter = adapter.with_context(|| format!("no adapter is called {}", part.adapter))?;
    let way = if part.leasehold { Way::Leasehold } else { Way::Plain };
    let place = Place { host: part.host.clone(), port: part.port, database: part.database.clone() };
    // Time is long under valgrind: what happens every other second would be counted many times.
    let tuning = Tuning { size: part.connections, ask_at_check_out: false, ask_now_and_then: false };
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let mut keeper = KeeperByHand::new(users);
    let pool = runtime.block_on(async {
        let pool = adapter.build(way, &place, tuning, keeper.current()).await?;
        pool.fill().await?;
        if part.leasehold {
            keeper.rotate();
            rotated(&keeper).await?;
            pool.fill().await?;
        }
        pool.check_out(part.connections).await?;
        anyhow::Ok(pool)
    })?;
    counted(&runtime, &*pool)?;
    runtime.block_on(pool.close());
    Ok(())
}

async fn rotated(keeper: &KeeperByHand) -> Result<()> {
    let end = Instant::now() + ROTATION;
    let current = keeper.current();
    loop {
        let health = current.health();
        let old = health.connections.iter().any(|(of, open)| Some(*of) != health.generation && *open > 0);
        let new = health.connections.iter().any(|(of, open)| Some(*of) == health.generation && *open > 0);
        if new && !old {
            break;
        }
        if Instant::now() > end {
            bail!("not rotated in {ROTATION:?}");
        }
        sleep_until(Instant::now() + Duration::from_millis(100)).await;
    }
    sleep_until(Instant::now() + super::SETTLE).await;
    Ok(())
}

/// What callgrind counts: it knows this function by its name.
#[inline(never)]
fn counted(runtime: &Runtime, pool: &dyn Pool) -> Result<()> {
    runtime.block_on(pool.check_out(TIMES))
}

const LOGINS: &str = "LEASEHOLD_BENCH_LOGINS";
const TIMES: u32 = 4000;
const RUNS: usize = 3;
const ROTATION: Duration = Duration::from_secs(60);
