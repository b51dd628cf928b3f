//! The launcher of the Kubernetes cluster, on a stand-in for its image: what a real cluster answers is for the suite.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests"
)]

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use leasehold_testbed::{Cluster, Error, Image};
use tokio::time::Instant;

/// What the stand-in is made of, and a cluster's image as it behaves.
const BASE: &str = "localhost/leasehold/debian:local";

/// A node says this line when it is ready.
const READY: &str = "Node controller sync successful";

/// It gives back what it is asked, but for what a test needs.
const KUBECTL: &str = r#"#!/bin/sh
case "$*" in
  "config view "*) echo "-----BEGIN CERTIFICATE-----" ;;
  "auth can-i "*"nobody") echo no; exit 1 ;;
  "auth can-i "*) [ -e /asked ] && echo yes || { touch /asked; echo no; exit 1; } ;;
  "create namespace forbidden") echo "Error from server (Forbidden): not here" >&2; exit 3 ;;
  *) echo "$*" ;;
esac
"#;

/// An image like a cluster's, which says `line` after a moment; removed when it is dropped.
struct StandIn(String);

impl StandIn {
    /// Nothing, and a word why, where there is no engine or nothing to build from.
    fn build(name: &str, line: &str) -> Option<Self> {
        let there = Command::new("docker").args(["image", "inspect", BASE]).output();
        if !there.is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: no engine answers, or it has no {BASE}; `cargo testbed images` builds it");
            return None;
        }
        let image = format!("localhost/leasehold/k3s-{name}:{}", std::process::id());
        let folder =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("k3s-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let start = format!(
            "#!/bin/sh\necho \"started as $*\" >&2\nsleep 1\necho '{line}' >&2\nexec sleep infinity\n"
        );
        let recipe = format!(
            "FROM {BASE}\nCOPY start kubectl /usr/local/bin/\nLABEL com.leasehold.testbed.privileged=false\nEXPOSE 80 6443 8443\n\
             VOLUME /var/lib/rancher/k3s\nENTRYPOINT [\"start\"]\n"
        );
        for (file, text) in [("start", start.as_str()), ("kubectl", KUBECTL), ("Dockerfile", &recipe)] {
            fs::write(folder.join(file), text).unwrap();
            fs::set_permissions(folder.join(file), fs::Permissions::from_mode(0o755)).unwrap();
        }
        docker(&["build", "--quiet", "--tag", &image, folder.to_str().unwrap()]);
        fs::remove_dir_all(folder).unwrap();
        Some(Self(image))
    }

    /// Runs one of the halves below in a process of its own, where the image's variable names this one.
    fn run(&self, half: &str) -> Output {
        self.command(half).output().unwrap()
    }

    fn command(&self, half: &str) -> Command {
        let mut command = half_of(half);
        command.env(Image::K3s.variable(), &self.0);
        command
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["image", "rm", "--force", &self.0]).output();
    }
}

fn half_of(half: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", half, "--nocapture"])
        .env("LEASEHOLD_TEST_HALF", half)
        .env_remove(Image::K3s.variable());
    command
}

/// Whether this process was started for a half; by itself it has nothing to do.
fn is_half(half: &str) -> bool {
    env::var("LEASEHOLD_TEST_HALF").is_ok_and(|asked| asked == half)
}

fn docker(arguments: &[&str]) -> Vec<String> {
    let output = Command::new("docker").args(arguments).output().unwrap();
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn containers(filter: &str) -> Vec<String> {
    docker(&["ps", "--all", "--quiet", "--filter", filter])
}

fn passed(output: &Output) {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&text));
}

async fn start() -> Cluster {
    let cluster = Cluster::start_within(Duration::from_secs(30), |text| eprintln!("{text}")).await;
    cluster.unwrap().expect("a cluster")
}

#[test]
fn it_waits_until_it_is_ready_and_leaves_nothing() {
    let Some(image) = StandIn::build("ready", READY) else { return };
    passed(&image.run("a_cluster_that_gets_ready"));
    assert!(containers(&format!("ancestor={}", image.0)).is_empty());
}

#[tokio::test]
async fn a_cluster_that_gets_ready() {
    if !is_half("a_cluster_that_gets_ready") {
        return;
    }
    let began = Instant::now();
    let cluster = start().await;
    assert!(began.elapsed() >= Duration::from_secs(1), "it was not waited for");
    assert_eq!(cluster.authority(), "-----BEGIN CERTIFICATE-----\n");

    let container = containers(&format!("label={}", cluster.container_label()));
    let container = container.first().expect("its container");
    let ports = docker(&["inspect", "--format", "{{json .NetworkSettings.Ports}}", container]).concat();
    let ports: serde_json::Value = serde_json::from_str(&ports).unwrap();
    let published: Vec<_> = ports.as_object().unwrap().iter().filter(|(_, to)| to.is_array()).collect();
    let [(inside, to)] = published[..] else { panic!("{ports}") };
    assert_eq!(
        (inside.as_str(), to[0]["HostIp"].as_str(), to[1].as_object()),
        ("6443/tcp", Some("127.0.0.1"), None)
    );
    assert_eq!(cluster.address(), format!("https://127.0.0.1:{}", to[0]["HostPort"].as_str().unwrap()));
    let volumes = docker(&["inspect", "--format", "{{range .Mounts}}{{println .Name}}{{end}}", container]);
    let volumes: Vec<_> = volumes.into_iter().filter(|name| !name.is_empty()).collect();
    assert_eq!(volumes.len(), 1);

    cluster.create_namespace("app").await.unwrap();
    let audiences = ["one", Cluster::API_AUDIENCE];
    let token = cluster.token("app", "pipeline", &audiences, Duration::from_secs(600)).await.unwrap();
    let asked = "create token pipeline --namespace app --duration 600s --audience one --audience https";
    assert!(token.starts_with(asked) && token.trim() == token, "{token:?}");
    // It says no the first time it is asked.
    cluster.let_review("app", "pipeline").await.unwrap();

    let error = cluster.create_namespace("forbidden").await.unwrap_err();
    let Error::Command { command, reason } = error else { panic!("{error}") };
    assert_eq!(command, "kubectl create namespace forbidden");
    assert_eq!(reason, "status 3: Error from server (Forbidden): not here");

    let label = format!("label={}", cluster.container_label());
    drop(cluster);
    assert!(containers(&label).is_empty());
    let left = docker(&["volume", "ls", "--quiet"]);
    assert!(!left.contains(&volumes[0]), "{volumes:?}");
}

#[test]
fn one_that_never_gets_ready_is_an_error_in_time_with_its_log() {
    let Some(image) = StandIn::build("never", "still looking for a node") else { return };
    passed(&image.run("a_cluster_that_never_gets_ready"));
}

#[tokio::test]
async fn a_cluster_that_never_gets_ready() {
    if !is_half("a_cluster_that_never_gets_ready") {
        return;
    }
    let began = Instant::now();
    let error = Cluster::start_within(Duration::from_secs(4), |text| eprintln!("{text}")).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    let text = error.to_string();
    assert!(text.contains("k3s did not get ready, for which it has 4s"), "{text}");
    assert!(
        text.contains("started as server --snapshotter") && text.contains("still looking for a node"),
        "{text}"
    );
    let image = env::var(Image::K3s.variable()).unwrap();
    assert!(containers(&format!("ancestor={image}")).is_empty());
}

#[test]
fn sigkill_leaves_nothing() {
    let Some(image) = StandIn::build("killed", READY) else { return };
    let mut half = image.command("a_cluster_that_waits_to_be_killed").stderr(Stdio::piped()).spawn().unwrap();
    let label = label(&mut half);
    assert_eq!(containers(&label).len(), 1);
    half.kill().unwrap();
    half.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(15);
    while !containers(&label).is_empty() {
        assert!(Instant::now() < deadline, "the container is still there");
    }
}

fn label(half: &mut Child) -> String {
    let mut lines = BufReader::new(half.stderr.take().unwrap()).lines().map(Result::unwrap);
    lines.find(|line| line.starts_with("label=")).expect("a label")
}

#[tokio::test]
async fn a_cluster_that_waits_to_be_killed() {
    if !is_half("a_cluster_that_waits_to_be_killed") {
        return;
    }
    let cluster = start().await;
    eprintln!("label={}", cluster.container_label());
    std::future::pending::<()>().await;
}

#[test]
fn without_an_engine_there_is_none_and_a_word_why() {
    let output =
        half_of("a_cluster_that_cannot_be").env("DOCKER_HOST", "unix:///no/such/socket").output().unwrap();
    passed(&output);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("no cluster: the container engine was asked for a greeting"), "{said}");
}

#[tokio::test]
async fn a_cluster_that_cannot_be() {
    if !is_half("a_cluster_that_cannot_be") {
        return;
    }
    assert!(Cluster::start(|text| eprintln!("{text}")).await.unwrap().is_none());
}
