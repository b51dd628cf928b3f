//! The one endpoint of a Kubernetes API server that OpenBao calls at a login.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header,
};
use serde_json::{Value, json};

use crate::{
    error::Result,
    jwt::{Claims, Signer},
    pki::Authority,
    serve::{Answer, Server, acceptor},
    site::{Ground, Site},
};

/// Where a real API server answers.
const PATH: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

/// The audience of tokens for the API server itself.
pub(crate) const API_AUDIENCE: &str = "https://kubernetes.default.svc.cluster.local";

const LOCALHOST: &str = "127.0.0.1";

/// This machine's name inside a container, where the engine runs in a virtual one, as Docker Desktop's does.
pub(crate) const DESKTOP: &str = "host.docker.internal";

/// Answers token reviews over HTTPS as an API server does.
#[derive(Debug)]
pub(crate) struct ApiServer {
    server: Server,
    /// What OpenBao knows this machine by.
    host: String,
    reviewer: String,
}

impl ApiServer {
    pub(crate) fn start(site: &Site, authority: &Authority, signer: &Arc<Signer>) -> Result<Self> {
        let reviewer = signer.sign(&Claims {
            namespace: "openbao".into(),
            name: "token-reviewer".into(),
            audience: API_AUDIENCE.into(),
            ..Claims::default()
        })?;
        let listen = |address: IpAddr, host: &str| {
            let (tls, signer) = (acceptor(&authority.server(host)?)?, signer.clone());
            Server::start(&site.backstage, address, Some(tls), move |request| answer(signer.clone(), request))
        };
        let here = Ipv4Addr::LOCALHOST.into();
        let (server, host) = match &site.ground {
            Ground::Machine => (listen(here, LOCALHOST)?, LOCALHOST.to_owned()),
            Ground::Pod(pod) => {
                let gateway = pod.gateway().map(|gateway| (gateway, gateway.to_string()));
                let on_gateway = gateway.map(|(gateway, name)| (listen(gateway, &name), name));
                match on_gateway {
                    Some((Ok(server), name)) => (server, name),
                    // The engine runs in a virtual machine, from where this name leads to our loopback.
                    _ => (listen(here, DESKTOP)?, DESKTOP.to_owned()),
                }
            }
        };
        Ok(Self { server, host, reviewer })
    }

    pub(crate) fn address(&self) -> String {
        format!("https://{}:{}", self.host, self.server.address().port())
    }

    /// The token that OpenBao shows to be allowed to ask.
    pub(crate) fn reviewer(&self) -> &str {
        &self.reviewer
    }
}

async fn answer(signer: Arc<Signer>, request: Request<Incoming>) -> Answer {
    let (parts, body) = request.into_parts();
    if parts.method != Method::POST || parts.uri.path() != PATH {
        return Some(failure(StatusCode::NOT_FOUND, "the server could not find the requested resource"));
    }
    let bearer = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = bearer.and_then(|value| value.strip_prefix("Bearer "));
    match bearer.map(|token| signer.verify(token)) {
        Some(Ok(claims)) if claims["aud"][0] == API_AUDIENCE => {}
        _ => return Some(failure(StatusCode::UNAUTHORIZED, "Unauthorized")),
    }
    let body = body.collect().await.ok()?.to_bytes();
    let Ok(review) = serde_json::from_slice::<Value>(&body) else {
        return Some(failure(StatusCode::BAD_REQUEST, "the body of the request is no TokenReview"));
    };
    let status = match examine(&signer, &review["spec"]) {
        Ok(status) => status,
        Err(reason) => json!({ "user": {}, "error": format!("[invalid bearer token, {reason}]") }),
    };
    Some(reply(
        StatusCode::CREATED,
        &json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "metadata": { "creationTimestamp": null },
            "spec": review["spec"],
            "status": status,
        }),
    ))
}

fn examine(signer: &Signer, spec: &Value) -> Result<Value, String> {
    let token = spec["token"].as_str().unwrap_or_default();
    let claims = signer.verify(token).map_err(|error| error.to_string())?;
    let strings = |value: &Value| match value {
        Value::Array(items) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    let mut wanted = strings(&spec["audiences"]);
    if wanted.is_empty() {
        wanted.push(API_AUDIENCE.into());
    }
    let offered = strings(&claims["aud"]);
    let common: Vec<&String> = wanted.iter().filter(|audience| offered.contains(audience)).collect();
    if common.is_empty() {
        return Err(format!("token audiences {offered:?} is invalid for the target audiences {wanted:?}"));
    }
    let kubernetes = &claims["kubernetes.io"];
    let namespace = kubernetes["namespace"].as_str().unwrap_or_default();
    Ok(json!({
        "authenticated": true,
        "user": {
            "username": claims["sub"],
            "uid": kubernetes["serviceaccount"]["uid"],
            "groups": [
                "system:serviceaccounts",
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated",
            ],
            "extra": {
                "authentication.kubernetes.io/pod-name": [kubernetes["pod"]["name"]],
                "authentication.kubernetes.io/pod-uid": [kubernetes["pod"]["uid"]],
            },
        },
        "audiences": common,
    }))
}

fn failure(status: StatusCode, message: &str) -> Response<Full<Bytes>> {
    let body = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "code": status.as_u16(),
    });
    reply(status, &body)
}

fn reply(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}
