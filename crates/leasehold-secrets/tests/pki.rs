//! Certificates: what is asked for, and what rustls makes of them.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{Scene, refusal};
use leasehold_core::{ErrorKind, ExposeSecret, Lease, Provider, Revoked};
use leasehold_secrets::Pki;
use serde_json::{Value, json};

const PATH: &str = "pki/issue/pipeline";

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn issued(certificate: &str, key: &str, serial: &str, expires: u64) -> Value {
    json!({
        "certificate": certificate,
        "issuing_ca": "CA",
        "ca_chain": ["INTERMEDIATE"],
        "private_key": key,
        "private_key_type": "ec",
        "serial_number": serial,
        "expiration": expires,
    })
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_asked_for_by_its_names_and_lasts_until_it_expires() {
    let scene = Scene::new();
    scene.vault.answers(PATH, issued("LEAF", "hunter2", "01:02", now() + 3600));
    let pki = Pki::new(scene.vault.clone(), scene.token(), "pipeline", "pipeline.example")
        .alt_names(["a.example", "b.example"])
        .ip_sans(["127.0.0.1"])
        .uri_sans(["spiffe://example/pipeline"])
        .ttl(Duration::from_secs(3600));
    let grant = pki.issue().await.unwrap();
    let ttl = grant.lease.ttl().unwrap();
    assert!((3598..=3600).contains(&ttl.as_secs()) && !grant.lease.renewable(), "{ttl:?}");
    assert!(grant.parent.is_none() && grant.version.is_none());
    let certificate = &grant.secret;
    assert_eq!((certificate.certificate(), certificate.authority()), ("LEAF", "CA"));
    assert_eq!((&*certificate.chain(), certificate.serial_number()), ("LEAF\nINTERMEDIATE\n", "01:02"));
    assert_eq!(certificate.private_key().expose_secret(), "hunter2");
    let text = format!("{pki:?} {certificate:?}");
    assert!(text.contains("01:02") && text.contains(PATH) && !text.contains("hunter2"), "{text}");
    let record = scene.record(grant);
    assert_eq!(pki.renew(&record).await.unwrap_err().kind(), ErrorKind::NotRenewable);
    assert_eq!(pki.revoke(&record).await.unwrap(), Revoked::NotOurs);
    let asked = scene.vault.asked();
    let asked: Value =
        serde_json::from_str(asked[0].strip_prefix("one pki/issue/pipeline ").unwrap()).unwrap();
    let wanted = json!({
        "common_name": "pipeline.example",
        "alt_names": "a.example,b.example",
        "ip_sans": "127.0.0.1",
        "uri_sans": "spiffe://example/pipeline",
        "ttl": "3600s",
        "private_key_format": "pkcs8",
        "remove_roots_from_chain": true,
    });
    assert_eq!(asked, wanted);
}

#[tokio::test(start_paused = true)]
async fn one_with_a_lease_ends_with_its_token_and_is_revoked() {
    let scene = Scene::new();
    let lease = Lease::new("pki/issue/pipeline/1", Duration::from_secs(60), false);
    scene.vault.answers_with(PATH, issued("LEAF", "hunter2", "01", now() + 60), lease);
    scene.vault.answers("sys/leases/revoke", json!({}));
    let pki = Pki::new(scene.vault.clone(), scene.token(), "pipeline", "pipeline.example").mount("/pki/");
    let grant = pki.issue().await.unwrap();
    assert!(grant.parent.is_some());
    assert_eq!(pki.revoke(&scene.record(grant)).await.unwrap(), Revoked::Done);
    assert!(scene.vault.asked()[1].contains("pki/issue/pipeline/1"));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_certificate_or_over_already_is_told_without_its_key() {
    let scene = Scene::new();
    let pki = Pki::new(scene.vault.clone(), scene.token(), "pipeline", "pipeline.example");
    scene.vault.answers(PATH, issued("LEAF", "hunter2", "01", now() - 10));
    let error = refusal(pki.issue().await, &["hunter2"]);
    assert!(error.kind() == ErrorKind::Configuration && error.message().contains("clock"), "{error}");
    for field in ["certificate", "private_key", "serial_number", "expiration"] {
        let mut answer = issued("LEAF", "hunter2", "01", now() + 10);
        answer.as_object_mut().unwrap().remove(field);
        scene.vault.answers(PATH, answer);
        let error = refusal(pki.issue().await, &["hunter2"]);
        assert!(error.message().contains(&format!("`{field}`")), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_absurd_end_is_told_and_its_lease_is_given_back() {
    let scene = Scene::new();
    let pki = Pki::new(scene.vault.clone(), scene.token(), "pipeline", "pipeline.example");
    let lease = Lease::new("pki/issue/pipeline/1", Duration::from_secs(60), false);
    scene.vault.answers("sys/leases/revoke", json!({}));
    for end in [u64::MAX, i64::MAX as u64 + 1] {
        scene.vault.answers_with(PATH, issued("LEAF", "hunter2", "01", end), lease.clone());
        let error = refusal(pki.issue().await, &["hunter2"]);
        assert!(error.message().contains("`expiration`") && !error.may_have_been_carried_out(), "{error}");
        assert!(scene.vault.asked()[1].contains("sys/leases/revoke"));
    }
}

/// Each try makes another, which the engine keeps until it expires.
#[tokio::test(start_paused = true)]
async fn one_that_cannot_be_used_has_been_made_all_the_same() {
    let scene = Scene::new();
    let pki = Pki::new(scene.vault.clone(), scene.token(), "pipeline", "pipeline.example");
    for answer in [json!({ "certificate": "LEAF" }), issued("LEAF", "hunter2", "01", now() - 10)] {
        scene.vault.answers(PATH, answer);
        assert!(refusal(pki.issue().await, &["hunter2"]).may_have_been_carried_out());
    }
}

#[cfg(feature = "rustls")]
mod resolver {
    use std::sync::Arc;

    use leasehold_core::{
        Grant,
        clock::Clock,
        publish::{self, Channel},
    };
    use leasehold_secrets::{Certificate, CertificateResolver};
    use rustls::{client::ResolvesClientCert, crypto::aws_lc_rs::default_provider};

    use super::*;

    /// A certificate of nobody's, and its key.
    fn pair() -> (String, String) {
        let signed = rcgen::generate_simple_self_signed(["pipeline.example".to_owned()]).unwrap();
        (signed.cert.pem(), signed.signing_key.serialize_pem())
    }

    async fn certificate(scene: &Scene, certificate: &str, key: &str) -> Grant<Certificate> {
        let mut answer = issued(certificate, key, "01:02", now() + 60);
        answer["ca_chain"] = json!([]);
        scene.vault.answers(PATH, answer);
        let pki = Pki::new(scene.vault.clone(), scene.token(), "pipeline", "pipeline.example");
        pki.issue().await.unwrap()
    }

    fn shown(resolver: &CertificateResolver) -> Vec<u8> {
        ResolvesClientCert::resolve(resolver, &[], &[]).unwrap().cert[0].to_vec()
    }

    #[tokio::test(start_paused = true)]
    async fn each_handshake_has_the_current_one_and_a_bad_successor_displaces_nothing() {
        let scene = Scene::new();
        let mut certificates: Channel<Certificate> = publish::channel("pki", scene.clock.clone());
        let (first, key) = pair();
        certificates.publisher.publish(certificate(&scene, &first, &key).await, scene.clock.now());
        let provider = Arc::new(default_provider());
        let resolver = CertificateResolver::new(certificates.current.clone(), provider).unwrap();
        let shown_first = shown(&resolver);
        assert_eq!(shown(&resolver), shown_first);

        let (second, its_key) = pair();
        // Its key is the first one's.
        certificates.publisher.publish(certificate(&scene, &second, &key).await, scene.clock.now());
        assert_eq!((shown(&resolver), shown(&resolver)), (shown_first.clone(), shown_first.clone()));
        assert!(certificates.rejections.try_recv().is_some(), "its keeper is to get another");
        assert!(certificates.rejections.try_recv().is_none(), "and is told once");
        certificates.publisher.publish(certificate(&scene, &second, &its_key).await, scene.clock.now());
        assert_ne!(shown(&resolver), shown_first);
        assert!(!format!("{resolver:?}").contains("PRIVATE"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_rustls_cannot_use_is_told_at_the_start_without_the_key() {
        let scene = Scene::new();
        let (leaf, key) = pair();
        let (_, another) = pair();
        for (leaf, key, problem) in
            [(&*leaf, "hunter2", "the key"), ("hunter2", &*key, "the"), (&*leaf, &*another, "pairing")]
        {
            let mut certificates: Channel<Certificate> = publish::channel("pki", scene.clock.clone());
            let provider = Arc::new(default_provider());
            let resolver = |current| CertificateResolver::new(current, provider.clone());
            assert_eq!(resolver(certificates.current.clone()).unwrap_err().kind(), ErrorKind::NotYet);
            certificates.publisher.publish(certificate(&scene, leaf, key).await, scene.clock.now());
            let error = resolver(certificates.current.clone()).unwrap_err();
            assert!(error.kind() == ErrorKind::Configuration && error.message().contains(problem), "{error}");
            let text = format!("{error} {error:?}");
            assert!(
                !text.contains("hunter2") && !text.contains("PRIVATE") && text.contains("01:02"),
                "{text}"
            );
        }
    }
}
