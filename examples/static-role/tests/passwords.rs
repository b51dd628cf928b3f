//! The service's own program, through several passwords.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{process::Stdio, time::Duration};

use leasehold_testbed::{Config, Testbed};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
    time::timeout,
};

#[tokio::test]
async fn no_query_fails_while_passwords_come_and_go() {
    let testbed = Testbed::start(Config::default()).await.unwrap();
    let user = "CREATE ROLE reporter LOGIN PASSWORD 'of nobody yet' IN ROLE pipeline_reader;
                GRANT reporter TO vault_admin WITH ADMIN OPTION";
    testbed.postgres().execute(user).await.unwrap();
    let write = async |path, body| testbed.openbao().request("POST", path, Some(body)).await.unwrap();
    write("database/config/pipeline-db", json!({ "allowed_roles": ["pipeline", "reporter"] })).await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/vault-setup.sh");
    testbed.run_script(script, &[("ROTATION_PERIOD", "5s")]).await.unwrap();
    let token = write("auth/token/create", json!({ "policies": ["reporter"], "ttl": "10m" })).await;

    let mut service = Command::new(env!("CARGO_BIN_EXE_static-role"))
        .envs(testbed.environment())
        .env("VAULT_TOKEN", token["auth"]["client_token"].as_str().unwrap())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(service.stdout.take().unwrap()).lines();
    let mut next =
        async || timeout(Duration::from_secs(30), lines.next_line()).await.unwrap().unwrap().unwrap();
    for generation in 2..=4 {
        assert_eq!(next().await, format!("password {generation} of reporter"));
    }
    let pid = Pid::from_raw(i32::try_from(service.id().unwrap()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    // Another password may have come meanwhile.
    let last = loop {
        let line = next().await;
        if !line.starts_with("password ") {
            break line;
        }
    };
    assert!(last.starts_with("0 of ") && last.ends_with(" queries failed"), "{last}");
    assert!(timeout(Duration::from_secs(30), service.wait()).await.unwrap().unwrap().success());
}
