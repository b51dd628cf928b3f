//! What is in a wrapping token.

use leasehold_core::{Result, Token, Vault};
use serde::de::DeserializeOwned;

/// Takes what a wrapping token holds, as a type of yours. That can be done once, so keep it.
///
/// To log in with a wrapped token or a wrapped secret id, give the login the wrapping token itself.
///
/// ```no_run
/// # use leasehold_core::{Result, SecretString, Token, Vault};
/// #[derive(serde::Deserialize)]
/// struct Licence { key: SecretString }
///
/// # async fn example(vault: &dyn Vault, wrapping: Token) -> Result<()> {
/// let licence: Licence = leasehold_secrets::unwrap(vault, &wrapping).await?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`LoginRefused`](leasehold_core::ErrorKind::LoginRefused) if it has expired or was unwrapped before: somebody else may
/// have what was meant for you. [`Configuration`](leasehold_core::ErrorKind::Configuration) if what it held does not fit the
/// type; it is gone then, and the error names the field. Others may be tried again.
///
/// # Cancel safety
/// Not cancel-safe: the server may have given away what it held.
pub async fn unwrap<T: DeserializeOwned>(vault: &dyn Vault, wrapping: &Token) -> Result<T> {
    vault.unwrap(wrapping).await?.data().decode()
}
