//! The request that every login makes.

use leasehold_core::{Body, Error, ErrorKind, Grant, Party, Result, Token, Vault};

/// Writes to a login path; the answer's token is ours.
pub(crate) async fn log_in(vault: &dyn Vault, path: &str, body: Body) -> Result<Grant<Token>> {
    let answer = vault.login(path, body).await?;
    let Some(auth) = answer.auth() else {
        let message = format!("{path} answered without a token");
        return Err(Error::new(ErrorKind::Unexpected, Party::Vault, message));
    };
    Ok(Grant::new(auth.token(), auth.lease().clone()))
}

/// A mount as it is in a path, however it was written: without `auth/` and slashes around it.
pub(crate) fn mount(name: &str) -> String {
    name.trim_matches('/').trim_start_matches("auth/").to_owned()
}
