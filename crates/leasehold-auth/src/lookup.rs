//! What every login does with the token it got.

use leasehold_core::{Grant, Lease, Record, Renewed, Result, Revoked, SecretString, Token, TokenKind, Vault};

/// Asks the server what it knows of a token that we did not log in for. Its accessor is its version: the same token
/// again makes no new generation.
pub(crate) async fn grant(vault: &dyn Vault, value: SecretString) -> Result<Grant<Token>> {
    let token = Token::new(value);
    let answer = vault.lookup_token(&token).await?;
    // A batch token has no accessor; the moment it ends tells it apart from another as well as anything.
    let accessor = answer.text("accessor").unwrap_or_default();
    let version = if accessor.is_empty() { answer.text("expire_time").unwrap_or_default() } else { accessor };
    let kind = if answer.text("type").is_ok_and(|kind| kind == "batch") {
        TokenKind::Batch
    } else {
        TokenKind::Service
    };
    let ttl = answer.seconds("ttl")?;
    // The server says 0 for a root token, which does not end, and in the last second of any other.
    let ends = answer.text("expire_time").is_ok_and(|at| !at.is_empty());
    let lease = if ttl.is_zero() && !ends {
        Lease::endless()
    } else {
        // A periodic token is renewed for its period, any other for what it was made for.
        let increment = answer.seconds("period").or_else(|_| answer.seconds("creation_ttl")).unwrap_or(ttl);
        Lease::new("", ttl, answer.flag("renewable")).asking_for(increment)
    };
    Ok(Grant::new(token.with_accessor(accessor).with_kind(kind), lease).version(version))
}

pub(crate) async fn renew(vault: &dyn Vault, of: &Record<Token>) -> Result<Renewed> {
    vault.renew_token(of.secret(), of.lease().increment()).await
}

pub(crate) async fn revoke(vault: &dyn Vault, of: &Record<Token>) -> Result<Revoked> {
    if !of.secret().revocable() {
        return Ok(Revoked::NotOurs);
    }
    vault.revoke_token(of.secret()).await.map(|()| Revoked::Done)
}
