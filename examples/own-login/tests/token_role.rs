//! The login on a real server: renewed, succeeded, revoked.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{sync::Arc, time::Duration};

use leasehold_auth::GivenToken;
use leasehold_core::{ErrorKind, EventKind, Provider as _};
use leasehold_renewal::Keeper;
use leasehold_testbed::{Config, Testbed};
use leasehold_vault::Client;
use own_login::TokenRole;
use serde_json::json;
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_renewed_and_succeeded_and_leaves_nothing() {
    let testbed = Testbed::start(Config::default()).await.unwrap();
    let bao = testbed.openbao();
    let role =
        json!({ "allowed_policies": [testbed.role()], "token_explicit_max_ttl": "6s", "renewable": true });
    bao.request("POST", "auth/token/roles/service", Some(role)).await.unwrap();
    let vault = Arc::new(Client::builder().address(bao.address()).build().unwrap());
    let maker = Keeper::start(GivenToken::new(vault.clone(), bao.root_token())).await.unwrap();
    let tokens_before = bao.tokens().await.unwrap().len();

    let nobody = TokenRole::new(vault.clone(), maker.current(), "nobody").issue().await.unwrap_err();
    assert!(nobody.kind() != ErrorKind::Denied && nobody.message().contains("nobody"), "{nobody}");
    let token = Keeper::start(TokenRole::new(vault, maker.current(), "service")).await.unwrap();
    let (mut events, mut renewed) = (token.events(), 0);
    let third = async {
        while token.current().get().unwrap().generation().number() < 3 {
            renewed += usize::from(matches!(events.recv().await.unwrap().kind, EventKind::Renewed { .. }));
        }
    };
    timeout(Duration::from_secs(30), third).await.unwrap();
    assert!(renewed > 0);
    token.shutdown().await.unwrap();
    assert_eq!(bao.tokens().await.unwrap().len(), tokens_before, "what was ours is revoked");
    maker.shutdown().await.unwrap();
}
