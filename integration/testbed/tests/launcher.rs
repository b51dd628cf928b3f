//! Which launcher it is, and what is said when it cannot be.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests")]

mod common;

use std::process::{Command, Stdio};

use leasehold_testbed::{Config, Launcher, Product, Testbed, survey};

/// An address where nothing listens.
const NOWHERE: &str = "unix:///nowhere/docker.sock";

/// An image that no hub is asked for, because its name says that it is of this machine.
const NO_IMAGE: &str = "localhost:1/leasehold/none:none";

#[test]
fn a_launcher_that_is_none_is_refused() {
    let said = start_with(&[("LEASEHOLD_LAUNCHER", "docker")]);
    assert!(said.starts_with("failed: LEASEHOLD_LAUNCHER is `docker`"), "{said}");
    assert!(said.contains("`processes`, `containers` or `auto`"), "{said}");
    let said = start_with(&[("LEASEHOLD_PRODUCT", "consul")]);
    assert!(said.contains("`openbao` or `vault`"), "{said}");
}

#[test]
fn without_a_word_they_are_processes() {
    let said = start_with(&[]);
    assert_eq!(said, "processes");
}

#[test]
fn auto_without_an_engine_is_processes_and_says_so_in_a_line() {
    let said = start_with(&[("LEASEHOLD_LAUNCHER", "auto"), ("DOCKER_HOST", NOWHERE)]);
    let lines: Vec<&str> = said.lines().filter(|line| line.starts_with("launcher: ")).collect();
    assert_eq!(lines.len(), 1, "{said}");
    assert!(lines[0].starts_with("launcher: processes (the container engine"), "{said}");
    assert!(said.ends_with("\nprocesses"), "{said}");
}

#[test]
fn containers_without_an_engine_say_what_to_do() {
    let said = start_with(&[("LEASEHOLD_LAUNCHER", "containers"), ("DOCKER_HOST", NOWHERE)]);
    assert!(said.starts_with("failed: the container engine"), "{said}");
    assert!(said.contains("start Docker") && said.contains("LEASEHOLD_LAUNCHER=processes"), "{said}");
}

#[tokio::test]
async fn auto_with_an_engine_and_images_is_containers() {
    if without_an_engine().await {
        return;
    }
    for image in Config::default().images(Product::default()) {
        if image.at_hand().await.unwrap().is_none() {
            println!("skipped: {}'s image is not here", image.name());
            return;
        }
    }
    let said = start_with(&[("LEASEHOLD_LAUNCHER", "auto")]);
    assert!(said.contains("launcher: containers (Docker"), "{said}");
    assert!(said.ends_with("\ncontainers"), "{said}");
}

#[tokio::test]
async fn an_image_that_is_not_there_is_named_with_what_to_do() {
    if without_an_engine().await {
        return;
    }
    // The first that is looked for, so that it does not matter which others are there.
    let image = ("LEASEHOLD_IMAGE_OPENBAO", NO_IMAGE);
    let said = start_with(&[("LEASEHOLD_LAUNCHER", "containers"), image]);
    assert!(said.contains("failed: OpenBao was not found as the image localhost:1/"), "{said}");
    assert!(said.contains("cargo testbed images") && said.contains("LEASEHOLD_IMAGE_OPENBAO"), "{said}");
    let said = start_with(&[("LEASEHOLD_LAUNCHER", "auto"), image]);
    assert!(said.ends_with("\nprocesses"), "{said}");
}

async fn without_an_engine() -> bool {
    let engine = survey::engine().await;
    if let Err(error) = &engine {
        println!("skipped: {error}");
    }
    engine.is_err()
}

/// Starts a testbed in a process of its own, with other variables, and returns what it reports and what came of it.
fn start_with(variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "helper_that_starts", "--nocapture"]).env("LEASEHOLD_TEST_STATE", "start");
    for variable in ["LEASEHOLD_LAUNCHER", "LEASEHOLD_PRODUCT"] {
        command.env_remove(variable);
    }
    let output = command.envs(variables.iter().copied()).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = said.lines().filter_map(|line| line.split_once("said: ").map(|(_, said)| said));
    said.collect::<Vec<_>>().join("\n")
}

/// The other half of the tests above; by itself it has nothing to do.
#[tokio::test]
async fn helper_that_starts() {
    if std::env::var_os("LEASEHOLD_TEST_STATE").is_none() {
        return;
    }
    let config = Config { report: |line| println!("said: {line}"), ..Config::default() };
    match Testbed::start(config).await {
        Ok(testbed) if testbed.container_label().is_some() => println!("said: {}", Launcher::Containers),
        Ok(_) => println!("said: {}", Launcher::Processes),
        Err(error) => println!("said: failed: {error}"),
    }
}
