//! The star: every arrow between library crates ends at core; and what it takes to compile it once.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    path::Path,
    process::Command,
};

use serde_json::Value;

#[test]
fn every_arrow_between_library_crates_ends_at_core() {
    let packages = packages();
    let libraries: Vec<_> = packages.iter().filter(|package| is_library(package)).collect();
    assert!(libraries.len() >= 6, "the workspace has its crates");
    let names: Vec<_> = libraries.iter().filter_map(|package| package["name"].as_str()).collect();
    for package in &libraries {
        for dependency in dependencies(package) {
            let inside = names.contains(&dependency);
            assert!(!inside || dependency == "leasehold-core", "{} -> {dependency}", package["name"]);
        }
    }
}

#[test]
fn only_leasehold_vault_knows_vaultrs_and_http() {
    for package in
        packages().iter().filter(|package| is_library(package) && package["name"] != "leasehold-vault")
    {
        for foreign in ["vaultrs", "rustify", "reqwest", "hyper"] {
            assert!(!dependencies(package).contains(&foreign), "{} -> {foreign}", package["name"]);
        }
    }
}

#[test]
fn core_auth_secrets_and_renewal_stay_light() {
    for package in ["leasehold-core", "leasehold-auth", "leasehold-secrets", "leasehold-renewal"] {
        let tree = cargo(&[
            "tree",
            "--package",
            package,
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ]);
        let mut crates: Vec<_> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
        crates.sort_unstable();
        crates.dedup();
        crates.retain(|name| !name.is_empty() && !name.starts_with("leasehold-"));
        assert!(crates.len() <= 30, "{package} weighs {} third-party crates: {crates:?}", crates.len());
        assert!(
            !crates.iter().any(|name| ["reqwest", "hyper", "sqlx", "vaultrs"].contains(name)),
            "{package}: {crates:?}"
        );
    }
}

/// Otherwise `cargo testbed test` would compile it twice: once for itself, and once for the tests.
#[test]
fn what_cargo_testbed_links_has_no_other_features_in_tests() {
    let tree =
        |edges| cargo(&["tree", "--workspace", "--edges", edges, "--prefix", "none", "--format", "{p} {f}"]);
    let (linked, tested) = (tree("normal,build"), tree("normal,build,dev"));
    let features = |tree: &str| -> BTreeMap<String, BTreeSet<String>> {
        let mut features = BTreeMap::<_, BTreeSet<_>>::new();
        for line in
            tree.lines().map(|line| line.trim_end_matches(" (*)").trim_end()).filter(|line| !line.is_empty())
        {
            let mut words = line.splitn(3, ' ').map(str::to_owned);
            let package = format!("{} {}", words.next().unwrap(), words.next().unwrap());
            features.entry(package).or_default().insert(words.next().unwrap_or_default());
        }
        features
    };
    let tested = features(&tested);
    for (package, linked) in features(&linked) {
        assert_eq!(linked, tested[&package], "{package}: integration/everything asks for what is missing");
    }
}

fn packages() -> Vec<Value> {
    let metadata: Value =
        serde_json::from_str(&cargo(&["metadata", "--no-deps", "--format-version", "1"])).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

fn is_library(package: &Value) -> bool {
    let manifest = Path::new(package["manifest_path"].as_str().unwrap());
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    manifest.starts_with(workspace.join("crates"))
}

fn dependencies(package: &Value) -> Vec<&str> {
    let all = package["dependencies"].as_array().unwrap().iter();
    all.filter(|dependency| dependency["kind"].is_null())
        .filter_map(|dependency| dependency["name"].as_str())
        .collect()
}

fn cargo(arguments: &[&str]) -> String {
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo).args(arguments).arg("--offline").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
