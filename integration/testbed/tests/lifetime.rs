//! Whatever happens to the process, nothing stays.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use common::{eventually, processes_in, start, start_all};
use leasehold_testbed::Testbed;

fn folders(testbed: &Testbed) -> Vec<PathBuf> {
    let mut folders = vec![testbed.openbao().folder(), testbed.postgres().folder()];
    folders.extend(testbed.mariadb().map(|mariadb| mariadb.folder()));
    folders.extend(testbed.redis().map(|redis| redis.folder()));
    folders.into_iter().map(Path::to_owned).collect()
}

async fn pause_all(testbed: &Testbed) {
    testbed.openbao().pause().await.unwrap();
    testbed.postgres().pause().await.unwrap();
    if let (Some(mariadb), Some(redis)) = (testbed.mariadb(), testbed.redis()) {
        mariadb.pause().await.unwrap();
        redis.pause().await.unwrap();
    }
}

fn assert_nothing_left(folders: &[PathBuf]) {
    for folder in folders {
        assert!(!folder.exists(), "{} is still there", folder.display());
        assert_eq!(processes_in(folder), [""; 0]);
    }
}

#[tokio::test]
async fn dropping_leaves_nothing() {
    let testbed = start_all().await;
    let folders = folders(&testbed);
    assert_eq!(folders.len(), 4);
    for folder in &folders {
        assert!(!processes_in(folder).is_empty());
    }
    drop(testbed);
    assert_nothing_left(&folders);
}

#[tokio::test]
async fn a_panic_leaves_nothing() {
    let (tell, told) = tokio::sync::oneshot::channel();
    let task = tokio::spawn(async move {
        let testbed = start().await;
        tell.send(folders(&testbed)).unwrap();
        panic!("on purpose");
    });
    let folders = told.await.unwrap();
    assert!(task.await.unwrap_err().is_panic());
    assert_nothing_left(&folders);
}

#[tokio::test]
async fn dropping_paused_servers_leaves_nothing() {
    let testbed = start_all().await;
    let folders = folders(&testbed);
    pause_all(&testbed).await;
    drop(testbed);
    assert_nothing_left(&folders);
}

/// A test's own runtime may be single-threaded and its time paused.
#[tokio::test(start_paused = true)]
async fn paused_time_does_not_matter() {
    let testbed = start().await;
    testbed.openbao().kill().await.unwrap();
    testbed.openbao().start_again().await.unwrap();
    let folders = folders(&testbed);
    drop(testbed);
    assert_nothing_left(&folders);
}

#[tokio::test]
async fn two_live_side_by_side() {
    let (one, other) = tokio::join!(start(), start());
    assert_ne!(one.openbao().address(), other.openbao().address());
    assert_ne!(one.postgres().port(), other.postgres().port());
    let folders = folders(&one);
    drop(one);
    assert_nothing_left(&folders);
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

/// A terminal sends Ctrl-C to the whole group.
#[tokio::test]
async fn ctrl_c_leaves_nothing() {
    killed_by("INT", "running").await;
}

async fn killed_by(signal: &str, state: &str) {
    let (mut helper, folders) = helper(state);
    assert_eq!(folders.len(), if state.starts_with("every") { 4 } else { 2 });
    for folder in &folders {
        assert!(folder.exists());
    }
    let group = format!("-{}", helper.id());
    assert!(Command::new("kill").args(["-s", signal, "--", &group]).status().unwrap().success());
    helper.wait().unwrap();
    eventually("everything is gone", || async {
        folders.iter().all(|folder| !folder.exists() && processes_in(folder).is_empty())
    })
    .await;
}

/// Runs this test binary again, with a testbed in the asked-for state, in a process group of its own.
fn helper(state: &str) -> (Child, Vec<PathBuf>) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "helper_that_waits_to_be_killed", "--nocapture"])
        .env("LEASEHOLD_TEST_STATE", state)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut helper = command.spawn().unwrap();
    let folders = told_folders(helper.stdout.take().unwrap());
    (helper, folders)
}

fn told_folders(stdout: ChildStdout) -> Vec<PathBuf> {
    let lines = BufReader::new(stdout).lines().map(Result::unwrap);
    lines
        .take_while(|line| line != "ready")
        .filter_map(|line| line.split_once("folder: ").map(|(_, path)| Path::new(path).to_owned()))
        .collect()
}

/// The other half of the tests above; by itself it has nothing to do.
#[tokio::test]
async fn helper_that_waits_to_be_killed() {
    let Ok(state) = std::env::var("LEASEHOLD_TEST_STATE") else { return };
    let testbed = if state.starts_with("every") { start_all().await } else { start().await };
    let folders = folders(&testbed);
    if state.ends_with("paused") {
        pause_all(&testbed).await;
    }
    if state == "killed" {
        testbed.openbao().kill().await.unwrap();
    }
    let mut stdout = std::io::stdout();
    for folder in &folders {
        writeln!(stdout, "folder: {}", folder.display()).unwrap();
    }
    writeln!(stdout, "ready").unwrap();
    stdout.flush().unwrap();
    std::future::pending::<()>().await;
}
