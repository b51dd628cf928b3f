//! The way out to vaultrs.

use std::{fmt, ops::Deref, sync::Arc};

use leasehold_core::{ExposeSecret, Issued, Result, Token};
use vaultrs::client::{VaultClient, VaultClientSettingsBuilder};

use crate::{Client, unexpected};

/// A vaultrs client with a token that is not revoked while this is held: it is one more user of the token. A token that
/// has a successor is not renewed any more all the same, so drop this when done, and make another. What it asks is not
/// counted where a token has few uses.
///
/// vaultrs itself prints tokens in the `Debug` of its types, puts answers into its errors, and logs each failure at ERROR.
pub struct Vaultrs {
    client: VaultClient,
    token: Arc<Issued<Token>>,
}

impl Client {
    /// A vaultrs client with this address, namespace, TLS and timeout, and with a token, for what Leasehold does not cover:
    /// transit, for one. It follows no redirect.
    ///
    /// # Errors
    /// [`Configuration`](leasehold_core::ErrorKind::Configuration) if no header can carry the token.
    ///
    /// ```no_run
    /// use leasehold_core::{Current, Token};
    /// use leasehold_vault::{Client, vaultrs};
    ///
    /// # async fn example(client: Client, token: Current<Token>) -> Result<(), Box<dyn std::error::Error>> {
    /// let transit = client.vaultrs(token.get()?)?;
    /// let sealed = vaultrs::transit::data::encrypt(&*transit, "transit", "pipeline", "aGVsbG8=", None).await?;
    /// # Ok(()) }
    /// ```
    pub fn vaultrs(&self, token: Arc<Issued<Token>>) -> Result<Vaultrs> {
        let (inner, wire) = (&self.0, self.wire());
        let middle = self.middleware(Some(token.secret()))?;
        // All fields: those left out are read from the environment, which panics on some folders.
        let settings = VaultClientSettingsBuilder::default()
            .address(wire.home.origin.as_str())
            .ca_certs(Vec::new())
            .identity(None)
            .timeout(Some(inner.timeout))
            .token(token.secret().value().expose_secret())
            .verify(!inner.skip_verify)
            .build()
            .map_err(|_| unexpected("vaultrs refuses the settings"))?;
        let http = rustify::clients::reqwest::Client::new(wire.home.origin.as_str(), wire.http.clone());
        Ok(Vaultrs { client: VaultClient { http, middle, settings }, token })
    }
}

impl Deref for Vaultrs {
    type Target = VaultClient;

    fn deref(&self) -> &VaultClient {
        &self.client
    }
}

impl fmt::Debug for Vaultrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vaultrs").field("token", &self.token).finish_non_exhaustive()
    }
}
