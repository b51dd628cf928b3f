//! The Kubernetes login against a real cluster: service accounts, TokenRequest and TokenReview.
//!
//! There are three ways in which a server can be allowed to ask the cluster: with a token of a reviewer's account, with the
//! token that is to be reviewed, and with its own pod's. The third needs a server that runs as a pod of the cluster, which
//! the testbed's does not; from there on it is the first way, with a token that the server reads from a file.

use std::{fs, path::PathBuf, time::Duration};

use leasehold_auth::Kubernetes;
use leasehold_core::{ErrorKind, Party, Provider as _};
use leasehold_suites::{Service, nothing_left, vault, wait_until};
use leasehold_testbed::{Cluster, Config, Recorder, Testbed};
use serde_json::json;

const MOUNT: &str = "k3s";
const NAMESPACE: &str = "app";
const ACCOUNT: &str = "pipeline";
const AUDIENCE: &str = "leasehold";
const HOUR: Duration = Duration::from_secs(3600);

/// A testbed whose server knows the cluster, and a file for tokens as a pod finds them.
struct Stage {
    testbed: Testbed,
    recorder: Recorder,
    cluster: Cluster,
    token: PathBuf,
}

impl Stage {
    /// `None`, and a line that says why, where there is no cluster.
    async fn set() -> Option<Self> {
        let cluster = Cluster::start(|text| println!("{text}")).await.unwrap();
        let Some(cluster) = cluster else {
            println!("skipped: the Kubernetes login against a real cluster");
            return None;
        };
        let testbed = Testbed::start(Config::default()).await.unwrap();
        cluster.create_namespace(NAMESPACE).await.unwrap();
        cluster.create_service_account(NAMESPACE, ACCOUNT).await.unwrap();
        let token = testbed.openbao().folder().join("token-of-the-cluster");
        let recorder = testbed.recorder().unwrap();
        Some(Self { testbed, recorder, cluster, token })
    }

    /// Lets the server ask the cluster with this token, or with the one that is to be reviewed.
    async fn mount(&self, reviewer: Option<&str>) {
        let bao = self.testbed.openbao();
        bao.request("POST", &format!("sys/auth/{MOUNT}"), Some(json!({ "type": "kubernetes" })))
            .await
            .unwrap();
        let mut config = json!({
            "kubernetes_host": self.cluster.address_for(&self.testbed),
            "kubernetes_ca_cert": self.cluster.authority(),
            // The machine that this runs on may itself be a pod.
            "disable_local_ca_jwt": true,
        });
        if let Some(reviewer) = reviewer {
            config["token_reviewer_jwt"] = reviewer.into();
        }
        bao.request("POST", &format!("auth/{MOUNT}/config"), Some(config)).await.unwrap();
        let role = json!({
            "bound_service_account_names": [ACCOUNT],
            "bound_service_account_namespaces": [NAMESPACE],
            "audience": AUDIENCE,
            "token_policies": [self.testbed.role()],
            "token_ttl": 60,
            "token_max_ttl": 600,
        });
        let path = format!("auth/{MOUNT}/role/{}", self.testbed.role());
        bao.request("POST", &path, Some(role)).await.unwrap();
    }

    /// Puts a token of an account in the file.
    async fn put(&self, account: &str, audiences: &[&str]) {
        let token = self.cluster.token(NAMESPACE, account, audiences, HOUR).await.unwrap();
        fs::write(&self.token, token).unwrap();
    }

    fn login(&self) -> Kubernetes {
        let vault = vault(&self.recorder).unwrap();
        Kubernetes::new(vault, self.testbed.role()).mount(MOUNT).jwt_path(&self.token)
    }

    /// Makes sure that what is in the file is refused as the login documents, and that the error does not tell it.
    async fn is_refused(&self, what: &str) {
        let Err(error) = self.login().issue().await else { panic!("{what} was let in") };
        println!("{what}: {error}");
        // The server says why, or "permission denied", as it does too when it cannot ask the API server.
        let is_refusal = matches!(error.kind(), ErrorKind::LoginRefused | ErrorKind::LoginDoubtful);
        assert!(is_refusal && error.party() == Party::Vault, "{what}: {error}");
        let token = fs::read_to_string(&self.token).unwrap();
        assert!(!format!("{error} {error:?}").contains(&token), "{what} is told");
    }

    /// Runs a service on what is in the file: it logs in and gets credentials that work, and gives back both.
    async fn serves(self) -> Self {
        let Self { testbed, recorder, cluster, token } = self;
        recorder.clear();
        let vault = vault(&recorder).unwrap();
        let login = Kubernetes::new(vault.clone(), testbed.role()).mount(MOUNT).jwt_path(&token);
        let service = Service::start_with(testbed, recorder, vault, Box::new(login)).await.unwrap();
        assert!(service.is_well().await);
        assert_eq!(service.recorder.count("POST", &format!("/v1/auth/{MOUNT}/login")), 1);
        let testbed = service.stop().await.unwrap();
        let recorder = testbed.recorder().unwrap();
        Self { testbed, recorder, cluster, token }
    }

    /// Takes the login and whatever came of it away.
    async fn unmount(&self) {
        self.testbed.openbao().request("DELETE", &format!("sys/auth/{MOUNT}"), None).await.unwrap();
        nothing_left(&self.testbed).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reviewer_asks_the_cluster() {
    let Some(stage) = Stage::set().await else { return };
    let cluster = &stage.cluster;
    cluster.create_namespace("openbao").await.unwrap();
    cluster.create_service_account("openbao", "token-reviewer").await.unwrap();
    cluster.let_review("openbao", "token-reviewer").await.unwrap();
    let reviewer = cluster.token("openbao", "token-reviewer", &[], HOUR).await.unwrap();
    stage.mount(Some(&reviewer)).await;
    stage.put(ACCOUNT, &[AUDIENCE]).await;
    let stage = stage.serves().await;

    stage.put(ACCOUNT, &["somebody-else"]).await;
    stage.is_refused("a token of another audience").await;
    stage.cluster.create_service_account(NAMESPACE, "other").await.unwrap();
    stage.put("other", &[AUDIENCE]).await;
    stage.is_refused("a token of another account").await;
    a_deleted_account_is_refused(&stage).await;
    stage.unmount().await;
}

/// The token says the truth until the end, and its signature is good: only the cluster knows that its account is gone.
async fn a_deleted_account_is_refused(stage: &Stage) {
    stage.put(ACCOUNT, &[AUDIENCE]).await;
    stage.login().issue().await.unwrap();
    stage.cluster.delete_service_account(NAMESPACE, ACCOUNT).await.unwrap();
    // The cluster remembers for ten seconds what it has found of a token.
    wait_until("the account is gone for the cluster too", Duration::from_secs(30), || async {
        stage.login().issue().await.is_err()
    })
    .await
    .unwrap();
    stage.is_refused("a token of a deleted account").await;
    // An account of the same name is another account.
    stage.cluster.create_service_account(NAMESPACE, ACCOUNT).await.unwrap();
    stage.is_refused("a token of the account before this one").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_reviews_itself() {
    let Some(stage) = Stage::set().await else { return };
    stage.mount(None).await;
    let both = [AUDIENCE, Cluster::API_AUDIENCE];
    stage.put(ACCOUNT, &both).await;
    stage.is_refused("a token of an account that may not review").await;
    stage.cluster.let_review(NAMESPACE, ACCOUNT).await.unwrap();
    // With this one the API server itself lets nobody in, so nothing is reviewed.
    stage.put(ACCOUNT, &[AUDIENCE]).await;
    stage.is_refused("a token that is not for the API server").await;
    stage.put(ACCOUNT, &both).await;
    let stage = stage.serves().await;
    stage.put(ACCOUNT, &[Cluster::API_AUDIENCE]).await;
    stage.is_refused("a token that is for the API server only").await;
    stage.unmount().await;
}
