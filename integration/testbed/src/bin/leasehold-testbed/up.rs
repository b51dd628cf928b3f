//! `cargo testbed up`.

use std::{
    fmt::Write as _, fs::OpenOptions, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path,
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use leasehold_testbed::{Config, Testbed};

use crate::asked_to_stop;

/// Starts the servers, says how to use them, and keeps them until Ctrl-C.
pub(crate) async fn run() -> ExitCode {
    match keep().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn keep() -> Result<()> {
    let config = Config { report: |line| eprintln!("{line}"), ..Config::default() };
    let testbed = tokio::select! {
        testbed = Testbed::start(config) => testbed?,
        () = asked_to_stop() => return Ok(()),
    };
    let mut environment = String::new();
    for (name, value) in testbed.environment() {
        writeln!(environment, "export {name}='{value}'")?;
    }
    let file = leasehold_testbed::target_folder().join("testbed").join("env");
    write(&file, &environment).with_context(|| format!("writing {}", file.display()))?;
    let (bao, shown) = (testbed.openbao().binary().display(), file.display());
    println!(
        "OpenBao and PostgreSQL are up until Ctrl-C. In another terminal:\n\n  source {shown}\n\n{environment}"
    );
    println!("Three things to try:");
    println!(
        "  cargo run --package quickstart                    # rows, read by a user that did not exist before"
    );
    println!("  cargo testbed demo --external --query 'SELECT count(*) FROM measurements'");
    println!(
        "  VAULT_TOKEN=\"$TESTBED_ROOT_TOKEN\" {bao} lease revoke -prefix database/creds/pipeline   # and watch the demo"
    );
    asked_to_stop().await;
    drop(std::fs::remove_file(file));
    Ok(())
}

fn write(file: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    // It holds the root token.
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(file)?;
    file.write_all(text.as_bytes())
}
