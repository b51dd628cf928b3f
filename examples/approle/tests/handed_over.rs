//! The service starts with what the set-up hands it, once.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{path::Path, process::Output, time::Duration};

use leasehold_testbed::{Config, Testbed};
use tokio::{process::Command, time::timeout};

async fn start(testbed: &Testbed, role_id: &str, wrapped: &Path) -> Output {
    let mut service = Command::new(env!("CARGO_BIN_EXE_approle"));
    service.envs(testbed.environment());
    service.env("VAULT_ROLE_ID", role_id).env("WRAPPED_SECRET_ID_FILE", wrapped).kill_on_drop(true);
    timeout(Duration::from_secs(30), service.output()).await.unwrap().unwrap()
}

#[tokio::test]
async fn it_serves_once_and_a_second_start_with_the_same_is_told_as_the_theft_that_it_may_be() {
    let testbed = Testbed::start(Config::default()).await.unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/vault-setup.sh");
    let handed = testbed.run_script(script, &[]).await.unwrap();
    let value = |name: &str| handed.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    let (role_id, wrapping_token) = (value("VAULT_ROLE_ID="), value("WRAPPED_SECRET_ID="));
    let folder = tempfile::tempdir().unwrap();
    let wrapped = folder.path().join("wrapped");
    std::fs::write(&wrapped, format!("{wrapping_token}\n")).unwrap();

    let first = start(&testbed, role_id, &wrapped).await;
    let said = String::from_utf8(first.stdout).unwrap();
    assert!(first.status.success() && said.contains("counts 100 rows"), "{said}");
    assert_eq!(testbed.postgres().dynamic_users().await.unwrap(), [""; 0]);

    let second = start(&testbed, role_id, &wrapped).await;
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(!second.status.success() && said.contains("stolen"), "{said}");
    assert!(!said.contains(wrapping_token), "{said}");
}
