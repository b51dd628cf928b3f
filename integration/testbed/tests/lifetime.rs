//! Whatever happens to the process, nothing stays.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests")]

mod common;

use std::{
    fs::{Permissions, read_dir, set_permissions},
    io::{BufRead, BufReader, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use common::{
    containers_of, docker, eventually, labels_in, lasting, processes_in, start, start_all, start_with,
};
use leasehold_testbed::{Config, Image, Launcher, PoolMode, ProxySettings, Testbed};
use tokio::time::{Instant, sleep_until};

/// What a testbed has on this machine.
#[derive(Debug)]
struct Traces {
    folders: Vec<PathBuf>,
    /// The label of its containers, if it has any.
    label: Option<String>,
    /// The volumes that its containers' images declare.
    volumes: Vec<String>,
}

impl Traces {
    fn of(testbed: &Testbed) -> Self {
        let mut folders = vec![testbed.openbao().folder(), testbed.postgres().folder()];
        folders.extend(testbed.mariadb().map(|mariadb| mariadb.folder()));
        folders.extend(testbed.mysql().map(|mysql| mysql.folder()));
        folders.extend(testbed.redis().map(|redis| redis.folder()));
        folders.extend(testbed.valkey().map(|valkey| valkey.folder()));
        folders.extend(testbed.rabbitmq().map(|rabbitmq| rabbitmq.folder()));
        folders.extend(testbed.pgbouncer().map(|pgbouncer| pgbouncer.folder()));
        folders.extend(testbed.standby().map(|standby| standby.postgres().folder()));
        folders.extend(testbed.bao_proxy().map(|proxy| proxy.folder()));
        let folders = folders.into_iter().map(Path::to_owned).collect();
        let label = testbed.container_label();
        let volumes = label.as_deref().map(volumes_of).unwrap_or_default();
        Self { folders, label, volumes }
    }

    /// What is there of it now.
    fn left(&self) -> Vec<String> {
        let folders = self.folders.iter().filter(|folder| folder.exists());
        let mut left: Vec<String> = folders.map(|folder| folder.display().to_string()).collect();
        left.extend(self.processes());
        if !self.volumes.is_empty() {
            let there = docker(&["volume", "ls", "--quiet"]);
            left.extend(there.into_iter().filter(|volume| self.volumes.contains(volume)));
        }
        left
    }

    /// Its processes and its containers.
    fn processes(&self) -> Vec<String> {
        let containers = self.label.as_deref().map(containers_of).unwrap_or_default();
        let processes = self.folders.iter().flat_map(|folder| processes_in(folder));
        containers.into_iter().chain(processes).collect()
    }

    /// Whether every one of its servers runs.
    fn run(&self) -> bool {
        let pod = usize::from(self.label.is_some());
        self.processes().len() >= self.folders.len() + pod
    }
}

fn volumes_of(label: &str) -> Vec<String> {
    let containers = containers_of(label);
    let format = r#"{{range .Mounts}}{{if eq .Type "volume"}}{{println .Name}}{{end}}{{end}}"#;
    let mut arguments = vec!["inspect", "--format", format];
    arguments.extend(containers.iter().map(String::as_str));
    docker(&arguments)
}

async fn start_broker() -> Testbed {
    start_with(Config { rabbitmq: true, ..lasting() }).await
}

/// With servers that are containers also where the others are processes; `None` where their images are not there.
async fn start_beside() -> Option<Testbed> {
    for image in [Image::MySql, Image::Valkey] {
        if !matches!(image.at_hand().await, Ok(Some(_))) {
            println!("skipped: {}'s image is not here", image.name());
            return None;
        }
    }
    Some(start_with(Config { mysql: true, valkey: true, ..lasting() }).await)
}

/// With everything that stands between a service and its servers, or beside them. Of PgBouncer there may be no image.
async fn start_between() -> Testbed {
    start_with(Config {
        pgbouncer: has_pgbouncer().await.then(PoolMode::default),
        standby: Some(Duration::from_secs(1)),
        bao_proxy: Some(ProxySettings::default().cache().auto_auth()),
        ..lasting()
    })
    .await
}

async fn has_pgbouncer() -> bool {
    Launcher::from_env().unwrap() == Launcher::Processes
        || matches!(Image::PgBouncer.at_hand().await, Ok(Some(_)))
}

/// How many servers such a testbed has.
async fn between() -> usize {
    if has_pgbouncer().await { 5 } else { 4 }
}

async fn pause_all(testbed: &Testbed) {
    testbed.openbao().pause().await.unwrap();
    testbed.postgres().pause().await.unwrap();
    if let (Some(mariadb), Some(redis)) = (testbed.mariadb(), testbed.redis()) {
        mariadb.pause().await.unwrap();
        redis.pause().await.unwrap();
    }
    if let Some(rabbitmq) = testbed.rabbitmq() {
        rabbitmq.pause().await.unwrap();
    }
    if let Some(pgbouncer) = testbed.pgbouncer() {
        pgbouncer.pause().await.unwrap();
    }
    if let (Some(standby), Some(proxy)) = (testbed.standby(), testbed.bao_proxy()) {
        standby.postgres().pause().await.unwrap();
        proxy.pause().await.unwrap();
    }
}

#[tokio::test]
async fn dropping_leaves_nothing() {
    let testbed = start_all().await;
    let traces = Traces::of(&testbed);
    assert_eq!(traces.folders.len(), 4);
    assert!(traces.run(), "{traces:?}");
    // Of every image but the one that sleeps, at least.
    assert!(traces.label.is_none() || traces.volumes.len() >= 4, "{traces:?}");
    assert!(!format!("{testbed:?}").contains(testbed.openbao().root_token()));
    drop(testbed);
    assert_eq!(traces.left(), [""; 0]);
}

/// RabbitMQ's processes have processes of their own.
#[tokio::test]
async fn dropping_rabbitmq_leaves_nothing() {
    let testbed = start_broker().await;
    let traces = Traces::of(&testbed);
    assert_eq!(traces.folders.len(), 3);
    assert!(traces.run(), "{traces:?}");
    drop(testbed);
    assert_eq!(traces.left(), [""; 0]);
}

#[tokio::test]
async fn dropping_containers_beside_processes_leaves_nothing() {
    let Some(testbed) = start_beside().await else { return };
    let traces = Traces::of(&testbed);
    assert_eq!(traces.folders.len(), 4);
    assert!(traces.run() && traces.label.is_some(), "{traces:?}");
    drop(testbed);
    assert_eq!(traces.left(), [""; 0]);
}

#[tokio::test]
async fn a_panic_leaves_nothing() {
    let (tell, told) = tokio::sync::oneshot::channel();
    let task = tokio::spawn(async move {
        let testbed = start_between().await;
        tell.send(Traces::of(&testbed)).unwrap();
        panic!("on purpose");
    });
    let traces = told.await.unwrap();
    assert_eq!(traces.folders.len(), between().await);
    assert!(task.await.unwrap_err().is_panic());
    assert_eq!(traces.left(), [""; 0]);
}

#[tokio::test]
async fn dropping_paused_servers_leaves_nothing() {
    let testbed = start_all().await;
    let traces = Traces::of(&testbed);
    pause_all(&testbed).await;
    drop(testbed);
    assert_eq!(traces.left(), [""; 0]);
}

/// A test's own runtime may be single-threaded and its time paused.
#[tokio::test(start_paused = true)]
async fn paused_time_does_not_matter() {
    let testbed = start().await;
    testbed.openbao().kill().await.unwrap();
    testbed.openbao().start_again().await.unwrap();
    let traces = Traces::of(&testbed);
    drop(testbed);
    assert_eq!(traces.left(), [""; 0]);
}

#[tokio::test]
async fn two_live_side_by_side() {
    let (one, other) = tokio::join!(start(), start());
    assert_ne!(one.openbao().address(), other.openbao().address());
    assert_ne!(one.postgres().port(), other.postgres().port());
    let traces = Traces::of(&one);
    drop(one);
    assert_eq!(traces.left(), [""; 0]);
    assert_eq!(other.postgres().query("SELECT 1").await.unwrap(), [[Some("1".to_owned())]]);
}

#[tokio::test]
async fn sigkill_leaves_nothing() {
    killed_by("KILL", "running").await;
}

#[tokio::test]
async fn sigkill_with_every_database_leaves_nothing() {
    killed_by("KILL", "every database").await;
}

#[tokio::test]
async fn sigkill_with_every_database_paused_leaves_nothing() {
    killed_by("KILL", "every database paused").await;
}

#[tokio::test]
async fn sigkill_with_a_paused_broker_leaves_nothing() {
    killed_by("KILL", "broker paused").await;
}

#[tokio::test]
async fn sigkill_with_containers_beside_processes_leaves_nothing() {
    let Some(first) = start_beside().await else { return };
    drop(first);
    killed_by("KILL", "beside").await;
}

#[tokio::test]
async fn sigkill_with_paused_servers_leaves_nothing() {
    killed_by("KILL", "paused").await;
}

#[tokio::test]
async fn sigkill_with_a_killed_server_leaves_nothing() {
    killed_by("KILL", "killed").await;
}

#[tokio::test]
async fn sigterm_leaves_nothing() {
    killed_by("TERM", "running").await;
}

#[tokio::test]
async fn sigterm_with_proxies_and_a_standby_leaves_nothing() {
    killed_by("TERM", "between").await;
}

#[tokio::test]
async fn sigkill_with_proxies_and_a_standby_paused_leaves_nothing() {
    killed_by("KILL", "between paused").await;
}

/// What was asked for may come when nobody waits for it any more.
#[tokio::test]
async fn sigkill_in_the_middle_of_a_start_leaves_nothing() {
    killed_at("running", &[0, 150, 300, 450, 600, 750, 900]).await;
}

#[tokio::test]
async fn sigkill_in_the_middle_of_a_start_of_proxies_and_a_standby_leaves_nothing() {
    killed_at("between", &[500, 700, 900, 1100, 1300, 1600]).await;
}

/// Kills a testbed that is being started after so many milliseconds.
async fn killed_at(state: &str, moments: &[u64]) {
    let mut labels = Vec::new();
    for &moment in moments {
        let folder = tempfile::tempdir().unwrap();
        // Databases run as somebody else.
        set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        let mut helper = helper_command(state).env("TMPDIR", folder.path()).spawn().unwrap();
        sleep_until(Instant::now() + Duration::from_millis(moment)).await;
        labels.extend(labels_in(folder.path()));
        helper.kill().unwrap();
        helper.wait().unwrap();
        eventually("its folders and processes are gone", || async {
            read_dir(folder.path()).unwrap().next().is_none() && processes_in(folder.path()).is_empty()
        })
        .await;
    }
    let left = labels.iter().flat_map(|label| containers_of(label));
    assert_eq!(left.collect::<Vec<_>>(), [""; 0]);
}

/// A terminal sends Ctrl-C to the whole group.
#[tokio::test]
async fn ctrl_c_leaves_nothing() {
    killed_by("INT", "running").await;
}

async fn killed_by(signal: &str, state: &str) {
    let (mut helper, traces) = helper(state);
    let servers = match state.split(' ').next() {
        Some("every" | "beside") => 4,
        Some("broker") => 3,
        Some("between") => between().await,
        _ => 2,
    };
    assert_eq!(traces.folders.len(), servers);
    for folder in &traces.folders {
        assert!(folder.exists());
    }
    let group = format!("-{}", helper.id());
    assert!(Command::new("kill").args(["-s", signal, "--", &group]).status().unwrap().success());
    helper.wait().unwrap();
    eventually("everything is gone", || async { traces.left().is_empty() }).await;
}

/// Runs this test binary again, with a testbed in the asked-for state, in a process group of its own.
fn helper(state: &str) -> (Child, Traces) {
    let mut helper = helper_command(state).spawn().unwrap();
    let traces = told(helper.stdout.take().unwrap());
    (helper, traces)
}

fn helper_command(state: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "helper_that_waits_to_be_killed", "--nocapture"])
        .env("LEASEHOLD_TEST_STATE", state)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command
}

fn told(stdout: ChildStdout) -> Traces {
    let lines = BufReader::new(stdout).lines().map(Result::unwrap);
    let lines: Vec<String> = lines.take_while(|line| line != "ready").collect();
    let told = |what: &str| {
        let said = lines.iter().filter_map(|line| line.split_once(what));
        said.map(|(_, value)| value.to_owned()).collect::<Vec<_>>()
    };
    Traces {
        folders: told("folder: ").into_iter().map(PathBuf::from).collect(),
        label: told("label: ").pop(),
        volumes: told("volume: "),
    }
}

/// The other half of the tests above; by itself it has nothing to do.
#[tokio::test]
async fn helper_that_waits_to_be_killed() {
    let Ok(state) = std::env::var("LEASEHOLD_TEST_STATE") else { return };
    let testbed = match state.split(' ').next() {
        Some("every") => start_all().await,
        Some("broker") => start_broker().await,
        Some("beside") => start_beside().await.unwrap(),
        Some("between") => start_between().await,
        _ => start().await,
    };
    let traces = Traces::of(&testbed);
    if state.ends_with("paused") {
        pause_all(&testbed).await;
    }
    if state == "killed" {
        testbed.openbao().kill().await.unwrap();
    }
    let mut stdout = std::io::stdout();
    for folder in &traces.folders {
        writeln!(stdout, "folder: {}", folder.display()).unwrap();
    }
    if let Some(label) = &traces.label {
        writeln!(stdout, "label: {label}").unwrap();
    }
    for volume in &traces.volumes {
        writeln!(stdout, "volume: {volume}").unwrap();
    }
    writeln!(stdout, "ready").unwrap();
    stdout.flush().unwrap();
    std::future::pending::<()>().await;
}
