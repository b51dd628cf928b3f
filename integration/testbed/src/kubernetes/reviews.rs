//! Whose token it is, in the way and in the words of kube-apiserver 1.36.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jsonwebtoken::errors::ErrorKind;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::objects::Kind;
use crate::jwt::Signer;

/// How long an API server remembers that a token was good, whatever becomes of the token, its account or its pod meanwhile.
const REMEMBERED: Duration = Duration::from_secs(10);

/// What an API server says of tokens, and remembers.
#[derive(Debug)]
pub(super) struct Reviews {
    signer: Arc<Signer>,
    remembered: Mutex<HashMap<[u8; 32], (Instant, Value)>>,
}

impl Reviews {
    pub(super) fn new(signer: Arc<Signer>) -> Self {
        Self { signer, remembered: Mutex::default() }
    }

    /// The status of a good token, for one of these audiences; an error in an API server's words otherwise.
    pub(super) fn authenticate(&self, token: &str, audiences: &[String]) -> Result<Value, String> {
        let mut digest = Sha256::new();
        for part in std::iter::once(token).chain(audiences.iter().map(String::as_str)) {
            digest.update(part.len().to_be_bytes());
            digest.update(part);
        }
        let key: [u8; 32] = digest.finalize().into();
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.retain(|_, (since, _)| since.elapsed() < REMEMBERED);
        if let Some((_, status)) = remembered.get(&key) {
            return Ok(status.clone());
        }
        let status = examine(&self.signer, token, audiences).map_err(|reason| match reason {
            Some(reason) => format!("[invalid bearer token, {reason}]"),
            None => "invalid bearer token".into(),
        })?;
        remembered.insert(key, (Instant::now(), status.clone()));
        Ok(status)
    }
}

/// What is wrong with a token; without a word where it is not one of this cluster's.
fn examine(signer: &Signer, token: &str, audiences: &[String]) -> Result<Value, Option<String>> {
    let claims = signer.verify(token).map_err(|error| {
        let said = match error.kind() {
            ErrorKind::ExpiredSignature => "service account token has expired",
            ErrorKind::ImmatureSignature => "service account token is not valid yet",
            ErrorKind::InvalidSignature => "go-jose/go-jose: error in cryptographic primitive",
            _ => return None,
        };
        Some(said.to_owned())
    })?;
    let offered = strings(&claims["aud"]);
    let common: Vec<&String> = audiences.iter().filter(|audience| offered.contains(audience)).collect();
    if common.is_empty() {
        let (offered, wanted) = (listed(&offered), listed(audiences));
        return Err(Some(format!("token audiences {offered} is invalid for the target audiences {wanted}")));
    }
    let kubernetes = &claims["kubernetes.io"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let namespace = text(&kubernetes["namespace"]);
    let (account, pod) = (&kubernetes["serviceaccount"], &kubernetes["pod"]);
    let [name, claimed, pod_name, pod_claimed] =
        [&account["name"], &account["uid"], &pod["name"], &pod["uid"]].map(text);
    match signer.objects().uid(Kind::Account, &namespace, &name) {
        Some(uid) if uid == claimed => {}
        Some(uid) => {
            return Err(Some(format!("service account UID ({uid}) does not match claim ({claimed})")));
        }
        None => return Err(Some(format!("serviceaccounts {name:?} not found"))),
    }
    match signer.objects().uid(Kind::Pod, &namespace, &pod_name) {
        Some(uid) if uid == pod_claimed => {}
        Some(uid) => {
            let said =
                format!("pod UID ({uid}) does not match service account pod ref claim ({pod_claimed})");
            return Err(Some(said));
        }
        None => return Err(Some("service account token has been invalidated".into())),
    }
    Ok(json!({
        "authenticated": true,
        "user": {
            "username": claims["sub"],
            "uid": claimed,
            "groups": [
                "system:serviceaccounts",
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated",
            ],
            "extra": {
                "authentication.kubernetes.io/credential-id": [format!("JTI={}", text(&claims["jti"]))],
                "authentication.kubernetes.io/pod-name": [pod_name],
                "authentication.kubernetes.io/pod-uid": [pod_claimed],
            },
        },
        "audiences": common,
    }))
}

pub(super) fn strings(value: &Value) -> Vec<String> {
    let items = value.as_array().into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// As Go prints a list of quoted strings.
fn listed(items: &[String]) -> String {
    let items: Vec<String> = items.iter().map(|item| format!("{item:?}")).collect();
    format!("[{}]", items.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwt::Claims;

    const AUDIENCE: &str = "openbao";

    fn reviews() -> (Arc<Signer>, Reviews) {
        let signer = Arc::new(Signer::new().unwrap());
        (signer.clone(), Reviews::new(signer))
    }

    fn said(reviews: &Reviews, token: &str) -> String {
        match reviews.authenticate(token, &[AUDIENCE.to_owned()]) {
            Ok(status) => status["user"]["username"].as_str().unwrap().to_owned(),
            Err(said) => said,
        }
    }

    #[test]
    fn each_refusal_is_in_an_api_servers_words() {
        let (signer, reviews) = reviews();
        let claims = Claims::default();
        let said_of = |claims: &Claims| said(&reviews, &signer.sign(claims).unwrap());
        let expired = Claims { expires_in: None, ..claims.clone() };
        assert_eq!(said_of(&expired), "[invalid bearer token, service account token has expired]");
        let early = Claims { starts_in: Duration::from_secs(90), ..claims.clone() };
        assert_eq!(said_of(&early), "[invalid bearer token, service account token is not valid yet]");
        let elsewhere = Claims { audience: "somebody-else".into(), ..claims.clone() };
        let words = r#"token audiences ["somebody-else"] is invalid for the target audiences ["openbao"]"#;
        assert_eq!(said_of(&elsewhere), format!("[invalid bearer token, {words}]"));
        let forged = Signer::new().unwrap().sign(&claims).unwrap();
        let words = "go-jose/go-jose: error in cryptographic primitive";
        assert_eq!(said(&reviews, &forged), format!("[invalid bearer token, {words}]"));
        assert_eq!(said(&reviews, "garbage"), "invalid bearer token");
    }

    #[test]
    fn a_minute_too_early_or_too_late_is_forgiven() {
        let (signer, reviews) = reviews();
        let early = Claims { starts_in: Duration::from_secs(45), ..Claims::default() };
        assert_eq!(said(&reviews, &signer.sign(&early).unwrap()), "system:serviceaccount:default:pipeline");
        let late = signer.sign_at(&Claims::default(), -(3607 + 45)).unwrap();
        assert_eq!(said(&reviews, &late), "system:serviceaccount:default:pipeline");
        let too_late = signer.sign_at(&Claims::default(), -(3607 + 62)).unwrap();
        assert_eq!(said(&reviews, &too_late), "[invalid bearer token, service account token has expired]");
    }

    /// Each object is deleted before its token was ever reviewed, so that nothing is remembered.
    #[test]
    fn what_a_token_is_bound_to_must_be_there() {
        let (signer, reviews) = reviews();
        let [token, other] = [(); 2].map(|()| signer.sign(&Claims::default()).unwrap());
        let pod = Claims::default().pod();
        signer.objects().delete(Kind::Pod, "default", &pod);
        let invalidated = "[invalid bearer token, service account token has been invalidated]";
        assert_eq!(said(&reviews, &token), invalidated);
        signer.objects().create(Kind::Pod, "default", &pod);
        assert!(said(&reviews, &token).starts_with("[invalid bearer token, pod UID ("));
        signer.objects().delete(Kind::Account, "default", "pipeline");
        assert_eq!(said(&reviews, &token), r#"[invalid bearer token, serviceaccounts "pipeline" not found]"#);
        assert!(signer.sign(&Claims::default()).is_err(), "nobody asks for a token of no account");
        signer.objects().create(Kind::Account, "default", "pipeline");
        let said = said(&reviews, &other);
        assert!(said.starts_with("[invalid bearer token, service account UID ("), "{said}");
        assert!(said.contains(") does not match claim ("), "{said}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_good_token_is_good_for_ten_seconds_more() {
        let (signer, reviews) = reviews();
        let [token, unseen] = [(); 2].map(|()| signer.sign(&Claims::default()).unwrap());
        assert_eq!(said(&reviews, &token), "system:serviceaccount:default:pipeline");
        signer.objects().delete(Kind::Account, "default", "pipeline");
        assert!(said(&reviews, &unseen).contains("not found"));
        tokio::time::advance(REMEMBERED - Duration::from_millis(1)).await;
        assert_eq!(said(&reviews, &token), "system:serviceaccount:default:pipeline");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(said(&reviews, &token).contains("not found"));
    }

    #[test]
    fn a_reply_names_the_credential() {
        let (signer, reviews) = reviews();
        let token = signer.sign(&Claims::default()).unwrap();
        let status = reviews.authenticate(&token, &[AUDIENCE.to_owned()]).unwrap();
        let extra = &status["user"]["extra"];
        let jti = &signer.verify(&token).unwrap()["jti"];
        let named = format!("JTI={}", jti.as_str().unwrap());
        assert_eq!(extra["authentication.kubernetes.io/credential-id"], json!([named]));
    }
}
