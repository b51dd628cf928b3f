//! The order of the documented table.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{collections::HashMap, fs, path::Path, sync::Arc};

use leasehold_auth::{Environment, detect_in};
use leasehold_core::{ErrorKind, Result};

fn detect(variables: &[(&str, &str)]) -> Result<String> {
    let variables: HashMap<_, _> =
        variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    let environment = Environment::new(move |name| variables.get(name).cloned());
    detect_in(&environment, Arc::new(common::Scripted::default()), "pipeline").map(|login| login.name())
}

fn home(with_token_file: bool) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    if with_token_file {
        fs::write(home.path().join(".vault-token"), "hvs.file").unwrap();
    }
    home
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn an_explicit_token_comes_first() {
    let home = home(true);
    let others = [("HOME", text(home.path())), ("VAULT_TOKEN_PATH", "/t"), ("VAULT_JWT_FILE", "/jwt")];
    for name in ["BAO_TOKEN", "VAULT_TOKEN"] {
        let mut variables = others.to_vec();
        variables.push((name, "hvs.abc"));
        assert_eq!(detect(&variables).unwrap(), "given token");
    }
}

#[test]
fn then_a_token_file_that_is_named_and_then_the_one_at_home() {
    let home = home(true);
    let at_home = home.path().join(".vault-token");
    let named = [("HOME", text(home.path())), ("VAULT_TOKEN_PATH", "/t"), ("VAULT_JWT_FILE", "/jwt")];
    assert_eq!(detect(&named).unwrap(), "token file /t");
    assert_eq!(detect(&[named[0], named[2]]).unwrap(), format!("token file {}", at_home.display()));
}

#[test]
fn then_the_service_account_at_its_mount() {
    let home = home(false);
    let variables = [("HOME", text(home.path())), ("VAULT_JWT_FILE", "/jwt")];
    assert_eq!(detect(&variables).unwrap(), "auth/kubernetes/login");
    let elsewhere = [variables[0], variables[1], ("VAULT_KUBERNETES_MOUNT", "auth/eu/kubernetes/")];
    assert_eq!(detect(&elsewhere).unwrap(), "auth/eu/kubernetes/login");
}

#[test]
fn a_variable_that_is_empty_is_not_set() {
    let home = home(false);
    let variables = [
        ("HOME", text(home.path())),
        ("VAULT_TOKEN", " "),
        ("VAULT_TOKEN_PATH", ""),
        ("VAULT_JWT_FILE", "/jwt"),
    ];
    assert_eq!(detect(&variables).unwrap(), "auth/kubernetes/login");
}

#[test]
fn what_is_named_comes_before_what_a_developer_left_at_home() {
    let home = home(true);
    let variables = [("HOME", text(home.path())), ("VAULT_ROLE_ID", "id")];
    assert_eq!(detect(&variables).unwrap(), "auth/approle/login");
}

#[test]
fn then_an_approle_and_the_auth_mount_is_that_of_any_login() {
    let home = home(false);
    let mut variables =
        vec![("HOME", text(home.path())), ("VAULT_ROLE_ID", "id"), ("VAULT_JWT_FILE", "/jwt")];
    assert_eq!(detect(&variables).unwrap(), "auth/approle/login");
    variables.push(("VAULT_AUTH_MOUNT", "teams/a"));
    assert_eq!(detect(&variables).unwrap(), "auth/teams/a/login");
    variables[1].1 = "";
    assert_eq!(detect(&variables).unwrap(), "auth/teams/a/login");
    variables[2].0 = "BAO_JWT_FILE";
    assert_eq!(detect(&variables).unwrap(), "auth/teams/a/login");
}

#[test]
fn a_method_that_is_named_is_the_one() {
    let home = home(true);
    let everything = [
        ("HOME", text(home.path())),
        ("VAULT_TOKEN", "hvs.abc"),
        ("VAULT_ROLE_ID", "id"),
        ("VAULT_JWT_FILE", "/jwt"),
        ("VAULT_USERNAME", "pipeline"),
        ("VAULT_PASSWORD", "hunter2"),
    ];
    for (method, name) in [
        ("token", "given token"),
        ("approle", "auth/approle/login"),
        ("kubernetes", "auth/kubernetes/login"),
        ("jwt", "auth/jwt/login"),
        ("cert", "auth/cert/login"),
        ("userpass", "auth/userpass/login/pipeline"),
        ("ldap", "auth/ldap/login/pipeline"),
    ] {
        let mut variables = everything.to_vec();
        variables.push(("VAULT_AUTH_METHOD", method));
        assert_eq!(detect(&variables).unwrap(), name);
        let nothing = [("VAULT_AUTH_METHOD", method), ("VAULT_ROLE", "other")];
        match detect(&nothing) {
            Ok(name) => assert!(["auth/kubernetes/login", "auth/cert/login"].contains(&&*name), "{name}"),
            Err(error) => {
                let error = error.to_string();
                assert!(error.contains(&format!("VAULT_AUTH_METHOD is {method}, but")), "{error}");
            }
        }
    }
    let unknown = detect(&[("BAO_AUTH_METHOD", "gcp")]).unwrap_err();
    assert!(unknown.message().contains("\"gcp\"") && unknown.message().contains("approle"), "{unknown}");
}

#[tokio::test]
async fn the_role_of_the_environment_comes_before_the_programs() {
    let folder = tempfile::tempdir().unwrap();
    let jwt = folder.path().join("jwt");
    fs::write(&jwt, "a.b.c").unwrap();
    let jwt = text(&jwt).to_owned();
    for (variable, role) in [("VAULT_ROLE", "operators"), ("VAULT_OTHER", "pipeline")] {
        let vault = Arc::new(common::Scripted::default());
        let jwt = jwt.clone();
        let environment = Environment::new(move |name| match name {
            "VAULT_JWT_FILE" => Some(jwt.clone()),
            _ if name == variable => Some("operators".to_owned()),
            _ => None,
        });
        detect_in(&environment, vault.clone(), "pipeline").unwrap().issue().await.unwrap();
        assert_eq!(vault.asked()[0].1["role"], role);
    }
}

#[test]
fn when_nothing_fits_it_says_what_was_tried() {
    let home = home(false);
    let error = detect(&[("HOME", text(home.path()))]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    for tried in
        ["BAO_", "VAULT_AUTH_METHOD", "VAULT_TOKEN", "VAULT_ROLE_ID", ".vault-token", "serviceaccount/token"]
    {
        assert!(error.to_string().contains(tried), "{tried}: {error}");
    }
}
