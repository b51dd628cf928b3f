//! rustls without cryptography of its own.
#![cfg(all(feature = "rustls-no-provider", not(feature = "rustls")))]

use leasehold_core::ErrorKind;
use leasehold_vault::Client;

#[test]
fn a_missing_provider_is_an_error_and_no_panic() {
    for address in ["http://127.0.0.1:8200", "https://127.0.0.1:8200"] {
        let error = Client::builder().address(address).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.message().contains("install_default"), "{error}");
    }
    rustls::crypto::aws_lc_rs::default_provider().install_default().unwrap();
    Client::builder().address("http://127.0.0.1:8200").build().unwrap();
}
