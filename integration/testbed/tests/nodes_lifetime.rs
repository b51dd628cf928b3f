//! Whatever happens to the process, nothing stays of several nodes.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests")]

mod common;

use std::{
    collections::BTreeSet,
    fs::{Permissions, read_dir, set_permissions},
    io::{BufRead, BufReader, Write},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use common::{containers_of, eventually_within, labels_in, lasting, processes_in, start_with};
use leasehold_testbed::{Cut, Nodes, Product};
use tempfile::TempDir;
use tokio::time::{Instant, sleep_until};

/// How long everything may take to go. A reaper looks for five seconds whether a container comes late.
const FAREWELL: Duration = Duration::from_secs(60);

fn is_of_another_product() -> bool {
    Product::from_env().unwrap() != Product::OpenBao
}

/// A process that starts nodes, and everything that is there of them.
struct Helper {
    process: Child,
    said: BufReader<ChildStdout>,
    /// Where all its folders are.
    folder: TempDir,
    /// The labels of its containers that were seen.
    labels: BTreeSet<String>,
}

impl Helper {
    /// Runs this test binary again, in a process group of its own.
    fn start(state: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Databases run as somebody else.
        set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "helper_that_waits_to_be_killed", "--nocapture"])
            .env("LEASEHOLD_TEST_STATE", state)
            .env("TMPDIR", folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0);
        let mut process = command.spawn().unwrap();
        let said = BufReader::new(process.stdout.take().unwrap());
        Self { process, said, folder, labels: BTreeSet::new() }
    }

    /// Waits until it says a word; false if it ends first.
    fn says(&mut self, word: &str) -> bool {
        let mut line = String::new();
        while self.said.read_line(&mut line).unwrap() > 0 {
            // The test runner's own words may stand before it.
            if line.trim_end().ends_with(word) {
                return true;
            }
            line.clear();
        }
        false
    }

    /// What is there of nodes: processes that work in a node's folder, or containers that the reaper of nodes is to remove.
    fn nodes(&mut self) -> usize {
        self.labels.extend(labels_in(self.folder.path()));
        let folders = read_dir(self.folder.path()).unwrap().flatten();
        let of_nodes = folders.filter(|folder| folder.file_name().to_string_lossy().contains("-node-"));
        let processes: usize = of_nodes.map(|folder| processes_in(&folder.path()).len()).sum();
        // As it was told the name of its folder, to be completed.
        processes + labels_in(&self.folder.path().join("leasehold-nodes-XXXXXXXX")).len()
    }

    /// Sends a signal as a terminal does, to the whole group, and makes sure that nothing is left.
    async fn ends_by(mut self, signal: &str) {
        self.labels.extend(labels_in(self.folder.path()));
        let group = format!("-{}", self.process.id());
        assert!(Command::new("kill").args(["-s", signal, "--", &group]).status().unwrap().success());
        self.process.wait().unwrap();
        eventually_within(FAREWELL, "everything is gone", || async { self.left().is_empty() }).await;
    }

    fn left(&self) -> Vec<String> {
        let folders = read_dir(self.folder.path()).unwrap().flatten();
        let mut left: Vec<String> = folders.map(|folder| folder.path().display().to_string()).collect();
        left.extend(processes_in(self.folder.path()));
        left.extend(self.labels.iter().flat_map(|label| containers_of(label)));
        left
    }
}

async fn killed_by(signal: &str, state: &str) {
    if is_of_another_product() {
        return;
    }
    let mut helper = Helper::start(state);
    assert!(helper.says("ready"));
    // Three processes, or the one that removes the containers of three.
    let containers = !labels_in(helper.folder.path()).is_empty();
    let least = match (containers, state) {
        (true, _) => 1,
        (false, "a killed leader") => 2,
        (false, _) => 3,
    };
    assert!(helper.nodes() >= least, "{}", helper.nodes());
    helper.ends_by(signal).await;
}

#[tokio::test]
async fn sigkill_leaves_nothing() {
    killed_by("KILL", "running").await;
}

#[tokio::test]
async fn sigkill_leaves_nothing_of_nodes_that_are_killed_paused_and_cut_off() {
    killed_by("KILL", "a killed leader").await;
}

#[tokio::test]
async fn sigterm_leaves_nothing() {
    killed_by("TERM", "running").await;
}

#[tokio::test]
async fn ctrl_c_leaves_nothing() {
    killed_by("INT", "running").await;
}

/// A start takes some seconds, and has other things under way at each moment.
#[tokio::test]
async fn a_signal_in_the_middle_of_a_start_leaves_nothing() {
    if is_of_another_product() {
        return;
    }
    let moments =
        [("KILL", 50), ("KILL", 600), ("TERM", 1_200), ("INT", 1_800), ("KILL", 2_400), ("KILL", 4_000)];
    let mut met = 0;
    for (signal, moment) in moments {
        let mut helper = Helper::start("running");
        assert!(helper.says("begun"));
        sleep_until(Instant::now() + Duration::from_millis(moment)).await;
        met += usize::from(helper.nodes() > 0);
        helper.ends_by(signal).await;
    }
    println!("in {met} of {} moments there was something of nodes", moments.len());
    assert!(met >= 3, "{met}");
}

#[tokio::test]
async fn a_panic_leaves_nothing() {
    if is_of_another_product() {
        return;
    }
    let mut helper = Helper::start("panics");
    assert!(helper.says("ready"));
    assert!(helper.nodes() > 0);
    helper.process.stdin.take();
    helper.process.wait().unwrap();
    // Before the process ended: a panic unwinds, and whatever unwinds waits.
    assert_eq!(helper.left(), [""; 0]);
}

#[tokio::test]
async fn a_panic_in_the_middle_of_a_start_leaves_nothing() {
    if is_of_another_product() {
        return;
    }
    let mut helper = Helper::start("panics in the middle");
    assert!(helper.says("begun"));
    helper.labels.extend(labels_in(helper.folder.path()));
    assert!(!helper.says("ready"));
    helper.process.wait().unwrap();
    // A container that was asked for may still come.
    eventually_within(FAREWELL, "everything is gone", || async { helper.left().is_empty() }).await;
}

#[tokio::test]
async fn dropping_leaves_nothing() {
    if is_of_another_product() {
        return;
    }
    let testbed = start_with(lasting()).await;
    let nodes = Nodes::start(&testbed, 3).await.unwrap();
    let folders: Vec<_> = nodes.all().iter().map(|node| node.folder().to_owned()).collect();
    let label = nodes.container_label();
    let left = || match &label {
        Some(label) => containers_of(label),
        None => folders.iter().flat_map(|folder| processes_in(folder)).collect(),
    };
    // Each container has another one that holds its network.
    assert_eq!(left().len(), if label.is_some() { 6 } else { 3 });
    nodes.all()[0].pause().await.unwrap();
    nodes.all()[1].cut_off(Cut::Everybody).await.unwrap();
    drop(nodes);
    assert_eq!(left(), [""; 0]);
    assert!(folders.iter().all(|folder| !folder.exists()));
    // The testbed is as it was.
    assert_eq!(testbed.postgres().query("SELECT 1").await.unwrap(), [[Some("1".to_owned())]]);
}

/// The other half of the tests above; by itself it has nothing to do.
#[tokio::test]
async fn helper_that_waits_to_be_killed() {
    let Ok(state) = std::env::var("LEASEHOLD_TEST_STATE") else { return };
    let say = |word: &str| {
        let mut stdout = std::io::stdout();
        writeln!(stdout, "{word}").unwrap();
        stdout.flush().unwrap();
    };
    let testbed = start_with(lasting()).await;
    say("begun");
    if state == "panics in the middle" {
        let soon = sleep_until(Instant::now() + Duration::from_millis(1_500));
        tokio::select! {
            nodes = Nodes::start(&testbed, 3) => panic!("sooner than was thought: {nodes:?}"),
            () = soon => panic!("on purpose"),
        }
    }
    let nodes = Nodes::start(&testbed, 3).await.unwrap();
    if state == "a killed leader" {
        let leader = nodes.leader().await.unwrap();
        leader.kill().await.unwrap();
        let mut others = nodes.all().iter().filter(|node| node.address() != leader.address());
        others.next().unwrap().pause().await.unwrap();
        others.next().unwrap().cut_off(Cut::Everybody).await.unwrap();
    }
    say("ready");
    if state == "panics" {
        std::io::stdin().lines().for_each(drop);
        panic!("on purpose");
    }
    std::future::pending::<()>().await;
}
