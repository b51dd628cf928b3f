//! The way out to vaultrs.

use leasehold_core::{ExposeSecret, Result, Token};
use vaultrs::client::{VaultClient, VaultClientSettingsBuilder};

use crate::{Client, unexpected};

impl Client {
    /// A vaultrs client with this address, namespace, TLS and timeout, for what Leasehold does not cover.
    ///
    /// It follows no redirect. Its token stays what it is when Leasehold's is replaced: make another. vaultrs prints
    /// tokens in the `Debug` of its types, puts answers into its errors, and logs each failure at ERROR.
    ///
    /// # Errors
    /// [`Configuration`](leasehold_core::ErrorKind::Configuration) if no header can carry the token.
    ///
    /// ```
    /// use leasehold_core::Token;
    /// use leasehold_vault::Client;
    ///
    /// let client = Client::builder().address("http://127.0.0.1:8200").build()?;
    /// let vaultrs = client.vaultrs(&Token::new("hvs.abc".to_owned()))?;
    /// # Ok::<(), leasehold_core::Error>(())
    /// ```
    pub fn vaultrs(&self, token: &Token) -> Result<VaultClient> {
        let (middle, inner, wire) = (self.middleware(Some(token))?, &self.0, self.wire());
        // All fields: those left out are read from the environment, which panics on some folders.
        let settings = VaultClientSettingsBuilder::default()
            .address(wire.home.origin.as_str())
            .ca_certs(Vec::new())
            .identity(None)
            .timeout(Some(inner.timeout))
            .token(token.value().expose_secret())
            .verify(!inner.skip_verify)
            .build()
            .map_err(|_| unexpected("vaultrs refuses the settings"))?;
        let http = rustify::clients::reqwest::Client::new(wire.home.origin.as_str(), wire.http.clone());
        Ok(VaultClient { http, middle, settings })
    }
}
