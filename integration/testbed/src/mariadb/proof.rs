//! How a client of MariaDB and MySQL shows that it knows a password.

use aws_lc_rs::{
    digest::{self, Algorithm, Context, SHA1_FOR_LEGACY_USE_ONLY as SHA1},
    rsa::{OAEP_SHA1_MGF1SHA1, OaepPublicEncryptingKey, PublicEncryptingKey},
};
use tokio_rustls::rustls::pki_types::{SubjectPublicKeyInfoDer, pem::PemObject as _};

/// MySQL's way since 8.0, and its only one since 9.0.
pub(super) const CACHING: &[u8] = b"caching_sha2_password";

/// MySQL's way before that.
pub(super) const SHA256: &[u8] = b"sha256_password";

/// Asks for the server's public key, in each of these two ways.
pub(super) const CACHING_KEY: u8 = 2;
pub(super) const SHA256_KEY: u8 = 1;

/// What a server wants after the proof of `caching_sha2_password`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing: it knows the user, and its verdict follows.
    Verdict,
    /// The password, because it has not seen this user since its start.
    Password,
}

/// What a packet says that is not a verdict yet.
pub(super) fn next(packet: &[u8]) -> Option<Next> {
    match packet {
        [1, 3] => Some(Next::Verdict),
        [1, 4] => Some(Next::Password),
        _ => None,
    }
}

/// The proof of `mysql_native_password`.
pub(super) fn native(password: &str, scramble: &[u8]) -> Vec<u8> {
    if password.is_empty() {
        return Vec::new();
    }
    let once = hash(&SHA1, &[password.as_bytes()]);
    let mask = hash(&SHA1, &[scramble, &hash(&SHA1, &[&once])]);
    masked(&once, &mask)
}

/// The proof of `caching_sha2_password`.
pub(super) fn caching(password: &str, scramble: &[u8]) -> Vec<u8> {
    if password.is_empty() {
        return Vec::new();
    }
    let once = hash(&digest::SHA256, &[password.as_bytes()]);
    let mask = hash(&digest::SHA256, &[&hash(&digest::SHA256, &[&once]), scramble]);
    masked(&once, &mask)
}

/// The password, readable only for whom a packet with a public key comes from.
pub(super) fn sealed(password: &str, scramble: &[u8], packet: &[u8]) -> Option<Vec<u8>> {
    let pem = packet.strip_prefix(&[1])?;
    let key = SubjectPublicKeyInfoDer::from_pem_slice(pem).ok()?;
    let key = OaepPublicEncryptingKey::new(PublicEncryptingKey::from_der(&key).ok()?).ok()?;
    let text = [password.as_bytes(), &[0]].concat();
    let text: Vec<u8> = text.iter().zip(scramble.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    let mut sealed = vec![0; key.ciphertext_size()];
    let length = key.encrypt(&OAEP_SHA1_MGF1SHA1, &text, &mut sealed, None).ok()?.len();
    sealed.truncate(length);
    Some(sealed)
}

fn masked(bytes: &[u8], mask: &[u8]) -> Vec<u8> {
    bytes.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect()
}

fn hash(algorithm: &'static Algorithm, parts: &[&[u8]]) -> Vec<u8> {
    let mut context = Context::new(algorithm);
    parts.iter().for_each(|part| context.update(part));
    context.finish().as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_native_proof_is_the_hash_masked_with_the_scramble() {
        // SHA1(password) XOR SHA1(scramble + SHA1(SHA1(password))), which the server undoes.
        let scramble = [7; 20];
        let stored = hash(&SHA1, &[&hash(&SHA1, &[b"secret"])]);
        let once = masked(&native("secret", &scramble), &hash(&SHA1, &[&scramble, &stored]));
        assert_eq!(hash(&SHA1, &[&once]), stored);
        assert!(native("", &scramble).is_empty());
    }

    #[test]
    fn the_caching_proof_has_the_scramble_last() {
        // SHA256(password) XOR SHA256(SHA256(SHA256(password)) + scramble).
        let scramble = [7; 20];
        let stored = hash(&digest::SHA256, &[&hash(&digest::SHA256, &[b"secret"])]);
        let once = masked(&caching("secret", &scramble), &hash(&digest::SHA256, &[&stored, &scramble]));
        assert_eq!(hash(&digest::SHA256, &[&once]), stored);
        assert!(caching("", &scramble).is_empty());
    }

    #[test]
    fn nothing_is_sealed_with_what_is_no_key() {
        assert_eq!(sealed("secret", &[7; 20], b"\x01-----BEGIN NOTHING-----"), None);
        assert_eq!(sealed("secret", &[7; 20], b""), None);
    }
}
