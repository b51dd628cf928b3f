//! What every login does with the token it got.

use leasehold_core::{
    Error, ErrorKind, Grant, Lease, Party, Record, Renewed, Result, Revoked, SecretString, Token, TokenKind,
    Uses, Vault,
};

/// Asks the server what it knows of a token that we did not log in for. Its accessor is its version: the same token
/// again makes no new generation.
pub(crate) async fn grant(vault: &dyn Vault, value: SecretString) -> Result<Grant<Token>> {
    let token = Token::new(value);
    let answer = vault.lookup_token(&token).await.map_err(Error::leaving_nothing)?;
    // A batch token has no accessor; the moment it ends tells it apart from another as well as anything.
    let accessor = answer.data().text("accessor").unwrap_or_default();
    let version =
        if accessor.is_empty() { answer.data().text("expire_time").unwrap_or_default() } else { accessor };
    let kind = if answer.data().text("type").is_ok_and(|kind| kind == "batch") {
        TokenKind::Batch
    } else {
        TokenKind::Service
    };
    let ttl = answer.data().seconds("ttl")?;
    // The server says 0 for a root token, which does not end, and in the last second of any other.
    let ends = answer.data().text("expire_time").is_ok_and(|at| !at.is_empty());
    let lease = if ttl.is_zero() && !ends {
        Lease::endless()
    } else {
        // A periodic token is renewed for its period, any other for what it was made for.
        let increment =
            answer.data().seconds("period").or_else(|_| answer.data().seconds("creation_ttl")).unwrap_or(ttl);
        Lease::new("", ttl, answer.data().flag("renewable")).asking_for(increment)
    };
    // Its lease does not say so: the same token again would be no successor, and asking for it is a use.
    let uses = answer.data().number("num_uses").ok().filter(|uses| *uses > 0).map(Uses::new);
    let token = token.with_accessor(accessor).with_kind(kind).with_uses(uses);
    Ok(Grant::new(token, lease).version(version))
}

pub(crate) async fn renew(vault: &dyn Vault, of: &Record<Token>) -> Result<Renewed> {
    if of.secret().is_used_up() {
        let message = "the token has one use left, with which it would end";
        return Err(Error::new(ErrorKind::NotRenewable, Party::Vault, message));
    }
    vault.renew_token(of.secret(), of.lease().increment()).await
}

pub(crate) async fn revoke(vault: &dyn Vault, of: &Record<Token>) -> Result<Revoked> {
    if !of.secret().revocable() {
        return Ok(Revoked::NotOurs);
    }
    if of.secret().uses().is_some_and(|uses| uses.left() == 0) {
        return Ok(Revoked::Done);
    }
    vault.revoke_token(of.secret()).await.map(|()| Revoked::Done)
}
