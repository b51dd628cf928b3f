//! Addresses that lead to one node or another.

use std::net::Ipv4Addr;

use http_body_util::BodyExt as _;
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    http::request::Parts,
};
use reqwest::{Client, redirect::Policy};

use super::roll::Roll;
use crate::{
    backstage::Backstage,
    error::{Error, Result, chain},
    recorder::end_to_end,
    serve::{Answer, Body, Server, whole},
};

/// How a node is chosen for a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    /// The one that leads.
    Leader,
    /// One that stands by.
    Standby,
    /// The one after the one before.
    Turns,
}

/// An HTTP server on loopback that passes each request on.
#[derive(Debug)]
pub(super) struct Front(Server);

impl Front {
    pub(super) fn start(backstage: &Backstage, roll: Roll, way: Way) -> Result<Self> {
        let client = Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            // A pooled connection to a node that was killed would fail a request that a new one serves.
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|error| Error::Unanswered { request: "a front".into(), reason: chain(&error) })?;
        let server = Server::start(backstage, (Ipv4Addr::LOCALHOST, 0), None, move |request| {
            pass(roll.clone(), way, client.clone(), request)
        });
        server.map(Self)
    }

    pub(super) fn address(&self) -> String {
        format!("http://{}", self.0.address())
    }
}

/// Finds a node and asks it; a node that does not answer becomes a dropped connection.
async fn pass(roll: Roll, way: Way, client: Client, request: Request<Incoming>) -> Answer {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.ok()?.to_bytes();
    match way {
        Way::Leader => forward(&client, roll.address(roll.leader().await?), &parts, body).await.ok(),
        Way::Standby => forward(&client, roll.address(roll.standby().await?), &parts, body).await.ok(),
        Way::Turns => {
            for _ in 0..roll.len() {
                let index = roll.in_turn().await?;
                match forward(&client, roll.address(index), &parts, body.clone()).await {
                    Ok(answer) => return Some(answer),
                    Err(error) => {
                        tracing::debug!(error = %chain(&error), index, "a node did not answer");
                        roll.set_out(index);
                        // It may have done what it was asked for, unless it took no connection.
                        if !error.is_connect() {
                            return None;
                        }
                    }
                }
            }
            None
        }
    }
}

async fn forward(
    client: &Client,
    node: &str,
    parts: &Parts,
    body: Bytes,
) -> Result<Response<Body>, reqwest::Error> {
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let request = client.request(parts.method.clone(), format!("{node}{path}"));
    let answer = request.headers(end_to_end(parts.headers.clone())).body(body).send().await?;
    let (status, headers) = (answer.status(), end_to_end(answer.headers().clone()));
    let mut response = Response::new(whole(answer.bytes().await?));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}
