//! Several nodes of OpenBao that are one, and what can be done to each.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests may panic, and say what they measured")]

mod common;

use std::time::Duration;

use common::{client, connect, eventually_within, lasting, start_with};
use leasehold_testbed::{Cut, Error, Node, NodeState, Nodes, Product, Testbed};
use reqwest::Response;
use serde_json::{Value, json};
use tokio::time::Instant;

/// How long an election may take on a machine that has other things to do.
const ELECTION: Duration = Duration::from_secs(45);

/// OpenBao alone has a seal that opens by itself and takes no other server.
fn is_of_another_product() -> bool {
    let other = Product::from_env().unwrap() != Product::OpenBao;
    if other {
        println!("skipped: nodes are OpenBao's");
    }
    other
}

async fn three() -> (Testbed, Nodes) {
    let testbed = start_with(lasting()).await;
    let nodes = Nodes::start(&testbed, 3).await.unwrap();
    (testbed, nodes)
}

async fn ask(address: &str, token: &str, path: &str) -> Response {
    try_ask(address, token, path).await.unwrap()
}

async fn try_ask(address: &str, token: &str, path: &str) -> reqwest::Result<Response> {
    client().get(format!("{address}/v1/{path}")).header("X-Vault-Token", token).send().await
}

async fn answer(address: &str, token: &str, path: &str) -> Value {
    let answer = ask(address, token, path).await;
    let (status, body) = (answer.status(), answer.text().await.unwrap());
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

/// Logs in with the testbed's service account.
async fn log_in(testbed: &Testbed, address: &str) -> String {
    let jwt = std::fs::read_to_string(testbed.service_account().token_path()).unwrap();
    let url = format!("{address}/v1/auth/{}/login", testbed.kubernetes_mount());
    let body = json!({ "role": testbed.role(), "jwt": jwt });
    let answer = client().post(url).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let answer: Value = answer.json().await.unwrap();
    answer["auth"]["client_token"].as_str().unwrap().to_owned()
}

async fn becomes(node: &Node, state: NodeState) {
    let what = format!("{} is {state:?}", node.address());
    eventually_within(ELECTION, &what, || async { node.state().await.unwrap() == state }).await;
}

/// Waits until another node than this one leads, and returns it with how long that took.
async fn successor<'a>(nodes: &'a Nodes, of: &str) -> &'a Node {
    let began = Instant::now();
    eventually_within(ELECTION, "another node leads", || async {
        nodes.leader().await.unwrap().address() != of
    })
    .await;
    println!("a successor after {:?}", began.elapsed());
    nodes.leader().await.unwrap()
}

/// The nodes that stand by.
async fn standbys(nodes: &Nodes) -> usize {
    let mut count = 0;
    for node in nodes.all() {
        count += usize::from(node.state().await.unwrap() == NodeState::Standby);
    }
    count
}

async fn write(nodes: &Nodes, value: u32) {
    nodes.request("POST", "notes/one", Some(json!({ "value": value }))).await.unwrap();
}

/// Waits until a node reads what was written; it lags a little.
async fn sees(node: &Node, value: u32) {
    eventually_within(ELECTION, "what was written is read", || async {
        let read = node.request("GET", "notes/one", None).await;
        read.is_ok_and(|read| read["data"]["value"] == value)
    })
    .await;
}

async fn mount_notes(nodes: &Nodes) {
    nodes.request("POST", "sys/mounts/notes", Some(json!({ "type": "kv" }))).await.unwrap();
}

#[tokio::test]
async fn three_nodes_start_and_serve_credentials() {
    if is_of_another_product() {
        return;
    }
    let (testbed, nodes) = three().await;
    // On two idle cores some fourteen seconds. A bound on it would only tell how busy the machine is.
    println!("three nodes started in {:?}", nodes.took());
    assert_eq!((nodes.all().len(), standbys(&nodes).await), (3, 2));

    // One by one, and each of them all the same.
    let (token, mut leases) = (log_in(&testbed, &nodes.address()).await, 0);
    let addresses = [nodes.address(), nodes.leader_address(), nodes.standby_address()];
    for address in addresses.into_iter().chain(nodes.all().iter().map(Node::address)) {
        let credentials = answer(&address, &token, "database/creds/pipeline").await;
        connect(&testbed, &credentials).await.unwrap();
        leases += 1;
        assert_eq!(nodes.leases().await.unwrap().len(), leases);
    }
    assert_eq!(testbed.postgres().dynamic_users().await.unwrap().len(), leases);
    // They know nothing of each other.
    assert!(testbed.openbao().leases().await.unwrap().is_empty());

    let environment = nodes.environment(&testbed);
    let value = |name: &str| environment.iter().filter(|(other, _)| other == name).collect::<Vec<_>>();
    assert_eq!(value("VAULT_ADDR")[0].1, nodes.address());
    assert_eq!(value("TESTBED_ROOT_TOKEN")[0].1, nodes.root_token());
    assert_eq!((value("VAULT_ADDR").len(), value("DATABASE_URL").len()), (1, 1));
    assert_eq!(value("NODE_ADDRS")[0].1.split(',').count(), 3);
    assert!(!format!("{nodes:?}").contains(nodes.root_token()));
}

#[tokio::test]
async fn two_nodes_are_no_cluster() {
    let testbed = start_with(lasting()).await;
    for count in [0, 2, 8] {
        let error = Nodes::start(&testbed, count).await.unwrap_err();
        assert!(matches!(error, Error::System { .. }), "{error}");
    }
}

#[tokio::test]
async fn addresses_lead_where_they_say() {
    if is_of_another_product() {
        return;
    }
    let (_testbed, nodes) = three().await;
    let leads = |address: String| {
        let token = nodes.root_token().to_owned();
        async move { answer(&address, &token, "sys/leader").await["is_self"].as_bool().unwrap() }
    };
    for _ in 0..3 {
        assert!(leads(nodes.leader_address()).await);
        assert!(!leads(nodes.standby_address()).await);
        // In turn: of three that follow each other one leads.
        let mut turns = [false; 3];
        for turn in &mut turns {
            *turn = leads(nodes.address()).await;
        }
        assert_eq!(turns.into_iter().filter(|leads| *leads).count(), 1, "{turns:?}");
    }

    let first = nodes.leader().await.unwrap();
    first.kill().await.unwrap();
    let second = successor(&nodes, &first.address()).await;
    assert!(leads(nodes.leader_address()).await);
    assert!(!leads(nodes.standby_address()).await);
    // A container's port takes connections for nobody: there the first request is lost.
    let mut lost = 0;
    for _ in 0..9 {
        lost += usize::from(try_ask(&nodes.address(), nodes.root_token(), "sys/leader").await.is_err());
    }
    assert!(lost <= usize::from(nodes.container_label().is_some()), "{lost} of 9 lost");

    first.bring_back().await.unwrap();
    nodes.settle().await.unwrap();
    second.step_down().await.unwrap();
    eventually_within(ELECTION, "the address follows", || async {
        let asked = try_ask(&nodes.leader_address(), nodes.root_token(), "sys/leader").await;
        let Ok(asked) = asked else { return false };
        let leader = asked.json::<Value>().await.unwrap()["leader_address"].clone();
        leader != second.address() && leader.as_str().is_some_and(|leader| !leader.is_empty())
    })
    .await;
    assert!(leads(nodes.leader_address()).await);
}

#[tokio::test]
async fn a_killed_and_a_stopped_leader_have_successors_and_come_back() {
    if is_of_another_product() {
        return;
    }
    let (_testbed, nodes) = three().await;
    mount_notes(&nodes).await;

    let first = nodes.leader().await.unwrap();
    first.kill().await.unwrap();
    assert_eq!(first.state().await.unwrap(), NodeState::Silent);
    let second = successor(&nodes, &first.address()).await;
    write(&nodes, 1).await;
    first.start_again().await.unwrap();
    becomes(first, NodeState::Standby).await;
    sees(first, 1).await;
    nodes.settle().await.unwrap();

    second.stop().await.unwrap();
    assert_eq!(second.state().await.unwrap(), NodeState::Silent);
    successor(&nodes, &second.address()).await;
    write(&nodes, 2).await;
    second.bring_back().await.unwrap();
    sees(second, 2).await;

    // All at once: nobody leads, and then somebody does.
    for node in nodes.all() {
        node.kill().await.unwrap();
    }
    assert!(try_ask(&nodes.address(), nodes.root_token(), "notes/one").await.is_err());
    assert!(try_ask(&nodes.leader_address(), nodes.root_token(), "notes/one").await.is_err());
    for node in nodes.all() {
        node.start_again().await.unwrap();
    }
    nodes.settle().await.unwrap();
    assert_eq!(nodes.request("GET", "notes/one", None).await.unwrap()["data"]["value"], 2);
}

#[tokio::test]
async fn a_paused_a_sealed_and_a_tired_leader_have_successors_and_come_back() {
    if is_of_another_product() {
        return;
    }
    let (_testbed, nodes) = three().await;

    let first = nodes.leader().await.unwrap();
    first.pause().await.unwrap();
    assert_eq!(first.state().await.unwrap(), NodeState::Silent);
    let second = successor(&nodes, &first.address()).await;
    first.resume().await.unwrap();
    becomes(first, NodeState::Standby).await;
    nodes.settle().await.unwrap();

    second.seal().await.unwrap();
    assert_eq!(second.state().await.unwrap(), NodeState::Sealed);
    assert_eq!(ask(&second.address(), nodes.root_token(), "sys/mounts").await.status(), 503);
    let third = successor(&nodes, &second.address()).await;
    second.unseal().await.unwrap();
    becomes(second, NodeState::Standby).await;
    nodes.settle().await.unwrap();

    third.step_down().await.unwrap();
    successor(&nodes, &third.address()).await;
    becomes(third, NodeState::Standby).await;

    // One that stands by as well; and one call undoes everything.
    nodes.settle().await.unwrap();
    let standby = nodes.standby().await.unwrap();
    standby.seal().await.unwrap();
    assert_eq!(standby.state().await.unwrap(), NodeState::Sealed);
    standby.bring_back().await.unwrap();
    standby.pause().await.unwrap();
    standby.bring_back().await.unwrap();
    assert_eq!(standby.state().await.unwrap(), NodeState::Standby);
}

#[tokio::test]
async fn a_leader_cut_off_from_the_others_is_deposed_while_clients_reach_it() {
    if is_of_another_product() {
        return;
    }
    let (_testbed, nodes) = three().await;
    mount_notes(&nodes).await;
    write(&nodes, 1).await;

    let first = nodes.leader().await.unwrap();
    first.cut_off(Cut::Nodes).await.unwrap();
    let second = successor(&nodes, &first.address()).await;
    write(&nodes, 2).await;
    sees(second, 2).await;
    // It answers, follows nobody, and has not heard.
    becomes(first, NodeState::Standby).await;
    let read = try_ask(&first.address(), nodes.root_token(), "notes/one").await;
    if let Ok(read) = read {
        let body = read.text().await.unwrap();
        println!("what the deposed leader reads: {body}");
        assert!(!body.contains(r#""value":2"#), "{body}");
    }
    // By another name: once it is connected again, what it was asked for may yet arrive.
    let written = first.request("POST", "notes/two", Some(json!({ "value": 3 }))).await;
    assert!(written.is_err(), "{written:?}");

    first.reconnect().await.unwrap();
    sees(first, 2).await;
    nodes.settle().await.unwrap();
}

#[tokio::test]
async fn a_node_cut_off_from_everybody_is_silent_and_comes_back() {
    if is_of_another_product() {
        return;
    }
    let (_testbed, nodes) = three().await;
    mount_notes(&nodes).await;

    let standby = nodes.standby().await.unwrap();
    standby.cut_off(Cut::Everybody).await.unwrap();
    assert_eq!(standby.state().await.unwrap(), NodeState::Silent);
    write(&nodes, 1).await;
    standby.reconnect().await.unwrap();
    becomes(standby, NodeState::Standby).await;
    sees(standby, 1).await;
    nodes.settle().await.unwrap();

    let first = nodes.leader().await.unwrap();
    first.cut_off(Cut::Everybody).await.unwrap();
    assert_eq!(first.state().await.unwrap(), NodeState::Silent);
    let second = successor(&nodes, &first.address()).await;
    write(&nodes, 2).await;
    // Another cut takes the place of the one before.
    first.cut_off(Cut::Nodes).await.unwrap();
    becomes(first, NodeState::Standby).await;
    first.bring_back().await.unwrap();
    sees(first, 2).await;

    // Killed while it was cut off, and brought back in one go.
    second.cut_off(Cut::Everybody).await.unwrap();
    second.kill().await.unwrap();
    successor(&nodes, &second.address()).await;
    second.bring_back().await.unwrap();
    sees(second, 2).await;
}
