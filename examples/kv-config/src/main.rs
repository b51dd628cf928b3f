//! Says what its configuration is, and says it again when somebody writes another.
//!
//! ```console
//! $ echo '{"host": "mail.example", "port": 587, "password": "s3cret"}' | vault kv put secret/pipeline/mail -
//! $ VAULT_ADDR=… VAULT_TOKEN=… cargo run --package kv-config
//! ```
//!
//! (`vault kv put … port=587` would store a text, which is no `u16`, and be told so.) The policy needs `read` on
//! `secret/data/pipeline/mail`.

use std::{sync::Arc, time::Duration};

use kv_config::{Mail, follow};
use leasehold_core::EventKind;
use leasehold_renewal::Keeper;
use leasehold_secrets::Kv;

#[tokio::main]
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "an example")]
async fn main() -> anyhow::Result<()> {
    let vault = Arc::new(leasehold_vault::Client::from_env()?);
    let token = Keeper::start(leasehold_auth::detect(vault.clone(), "pipeline")?).await?;
    let mail =
        Kv::<Mail>::v2(vault, token.current(), "secret", "pipeline/mail").every(Duration::from_secs(15));
    let mail = Keeper::start(mail).await?;

    let mut events = mail.events();
    tokio::spawn(async move {
        while let Ok(event) = events.recv().await {
            if let EventKind::Failed { error, retry_in } = event.kind {
                eprintln!("{error}; asked again in {retry_in:?}");
            }
        }
    });
    tokio::select! {
        () = follow(mail.current(), |mail| println!("version {}: {:?}", mail.version().unwrap_or("?"), mail.secret())) => {}
        stopped = tokio::signal::ctrl_c() => stopped?,
    }

    mail.shutdown().await?;
    token.shutdown().await?;
    Ok(())
}
