use super::*;

fn read(path: &str) -> Asked<'_> {
    Asked { path, login: Login::None, write: false }
}

fn write(path: &str) -> Asked<'_> {
    Asked { path, login: Login::None, write: true }
}

fn login() -> Asked<'static> {
    Asked { path: "auth/kubernetes/login", login: Login::Jwt, write: true }
}

fn login_by_secret() -> Asked<'static> {
    Asked { path: "auth/approle/login", login: Login::Secret, write: true }
}

fn creds() -> Asked<'static> {
    read("database/creds/app")
}

fn renew() -> Asked<'static> {
    write("sys/leases/renew")
}

fn renew_self() -> Asked<'static> {
    write("auth/token/renew-self")
}

fn errors(texts: &[&str]) -> String {
    serde_json::json!({ "errors": texts }).to_string()
}

fn told(asked: &Asked<'_>, status: u16, body: &str) -> Error {
    classify(asked, &Refusal::new(status, body.as_bytes(), None, &Secrets::default()))
}

/// The answers of a real OpenBao 2.7.2 with PostgreSQL 15, word for word.
#[test]
fn what_openbao_says() {
    use ErrorKind::*;
    let table: &[(Asked<'_>, u16, &str, ErrorKind)] = &[
        (creds(), 400, "unknown role: nope", NotFound),
        (creds(), 400, "unsupported credential_type: \"rsa_private_key\"", Configuration),
        (write("sys/wrapping/unwrap"), 400, "wrapping token is not valid or does not exist", LoginRefused),
        (write("pki/issue/web"), 400, "common name a.b not allowed by this role", Configuration),
        (read("database/static-creds/nope"), 400, "unknown role: nope", NotFound),
        (
            read("nomount/creds/app"),
            404,
            "no handler for route \"nomount/creds/app\". route entry not found.",
            NotFound,
        ),
        (creds(), 404, "namespace not found", NotFound),
        (read("database/wat/app"), 404, "1 error occurred:\n\t* unsupported path\n\n", NotFound),
        (write("database/creds/app"), 405, "1 error occurred:\n\t* unsupported operation\n\n", NotFound),
        (creds(), 403, "permission denied", Denied),
        (creds(), 403, "1 error occurred:\n\t* permission denied\n\n", Denied),
        (read("auth/token/lookup-self"), 403, "permission denied", DeadToken),
        (renew_self(), 400, "lease is not renewable", NotRenewable),
        (renew_self(), 400, "batch tokens cannot be renewed", NotRenewable),
        (write("auth/token/revoke-self"), 400, "batch tokens cannot be revoked", NotRenewable),
        (renew(), 400, "lease not found", LeaseGone),
        (
            renew(),
            400,
            "failed to renew entry: resp: (*logical.Response)(nil) err: 1 error occurred:\n\t* ERROR: role \"v-token\" does not exist (SQLSTATE 42704)\n\n",
            RenewalFailed,
        ),
        (
            renew(),
            400,
            "failed to renew entry: resp: (*logical.Response)(nil) err: error during renew: could not find role with name \"app\"",
            RenewalFailed,
        ),
        (
            renew(),
            400,
            "failed to renew entry: resp: (*logical.Response)(nil) err: 1 error occurred:\n\t* failed to connect to `user=vroot database=postgres`: 127.0.0.1:18415 (127.0.0.1): dial error: dial tcp 127.0.0.1:18415: connect: connection refused\n\n",
            DatabaseUnavailable,
        ),
        (
            write("sys/leases/revoke"),
            400,
            "failed to revoke entry: resp: (*logical.Response)(nil) err: failed to connect to `user=vroot database=postgres`: 127.0.0.1:18415 (127.0.0.1): dial error: dial tcp 127.0.0.1:18415: connect: connection refused",
            DatabaseUnavailable,
        ),
        (
            creds(),
            500,
            "1 error occurred:\n\t* unable to start transaction: failed to connect to `user=vroot database=postgres`: 127.0.0.1:18415 (127.0.0.1): dial error: dial tcp 127.0.0.1:18415: connect: connection refused\n\n",
            DatabaseUnavailable,
        ),
        (
            creds(),
            500,
            "1 error occurred:\n\t* unable to start transaction: failed to connect to `user=vroot database=postgres`: 127.0.0.1:18415 (127.0.0.1): server error: FATAL: sorry, too many clients already (SQLSTATE 53300)\n\n",
            DatabaseUnavailable,
        ),
        (
            creds(),
            500,
            "1 error occurred:\n\t* unable to start transaction: failed to connect to `user=vroot database=postgres`: 127.0.0.1:18415 (127.0.0.1): failed SASL auth: FATAL: password authentication failed for user \"vroot\" (SQLSTATE 28P01)\n\n",
            DatabaseUnavailable,
        ),
        (
            creds(),
            500,
            "1 error occurred:\n\t* failed to execute query: ERROR: syntax error at or near \"ROLEX\" (SQLSTATE 42601)\n\n",
            DatabaseUnavailable,
        ),
        (login(), 429, "request path \"auth/approle/login\": rate limit quota exceeded", RateLimited),
        (creds(), 503, "Vault is sealed", Sealed),
        (login(), 503, "Vault is sealed", Sealed),
        (login_by_secret(), 400, "invalid username or password", LoginRefused),
        (login(), 400, "invalid role name \"nope\"", LoginRefused),
        (login_by_secret(), 400, "invalid role or secret ID", LoginRefused),
        (login(), 400, "could not load configuration", LoginRefused),
        (login(), 400, "missing jwt", LoginRefused),
        (login(), 403, "permission denied", LoginDoubtful),
        (login_by_secret(), 403, "permission denied", LoginRefused),
        (login(), 403, "invalid not before (nbf) claim: token not yet valid", LoginDoubtful),
        (renew(), 400, "failed to decode JSON input: unexpected EOF", Unexpected),
        (renew(), 400, "lease_id must be specified", Unexpected),
        (creds(), 400, "relative paths not supported", Unexpected),
    ];
    for (asked, status, text, kind) in table {
        let error = told(asked, *status, &errors(&[text]));
        assert_eq!(error.kind(), *kind, "{status} {text}");
        assert_eq!(error.party() == Party::Database, *kind == DatabaseUnavailable, "{text}");
    }
}

/// What Vault's source says, what proxies say, and what must not be mistaken for something else.
#[test]
fn what_others_say() {
    use ErrorKind::*;
    let table: &[(Asked<'_>, u16, &str, ErrorKind)] = &[
        (
            creds(),
            403,
            r#"{"errors":["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"]}"#,
            DeadToken,
        ),
        (login(), 403, r#"{"errors":["invalid token"]}"#, LoginRefused),
        (
            renew(),
            400,
            r#"{"errors":["failed to renew entry: resp: past the max TTL, cannot renew"]}"#,
            NotRenewable,
        ),
        (renew(), 400, r#"{"errors":["lease expired"]}"#, LeaseGone),
        (renew(), 400, r#"{"errors":["lease is expired, cannot renew"]}"#, LeaseGone),
        (renew(), 400, r#"{"errors":["invalid lease"]}"#, LeaseGone),
        (renew(), 500, r#"{"errors":["failed to renew entry: no backend"]}"#, RenewalFailed),
        (login(), 400, r#"{"errors":["lease not found"]}"#, LoginRefused),
        (login(), 404, r#"{"errors":["no handler for route"]}"#, NotFound),
        // The Kubernetes API behind a login is not a database.
        (
            login(),
            500,
            r#"{"errors":["Post \"https://10.0.0.1\": dial tcp: connect: connection refused"]}"#,
            Unreachable,
        ),
        // Nor is the storage behind kv.
        (
            read("secret/data/x"),
            500,
            r#"{"errors":["dial tcp 10.0.0.2:8500: connection refused"]}"#,
            Unreachable,
        ),
        (creds(), 500, r#"{"errors":["Error 1040: Too many connections"]}"#, DatabaseUnavailable),
        (
            creds(),
            500,
            r#"{"errors":["Error 1045 (28000): Access denied for user 'vault'@'%'"]}"#,
            DatabaseUnavailable,
        ),
        (creds(), 500, r#"{"errors":["internal error"]}"#, Unreachable),
        (
            creds(),
            500,
            r#"{"errors":["local node not active but active cluster node not found"]}"#,
            Unreachable,
        ),
        (creds(), 500, "", Unreachable),
        (creds(), 502, "<html>Bad Gateway</html>", Unreachable),
        (creds(), 504, "<html>connection refused</html>", Unreachable),
        (creds(), 599, "", Unreachable),
        (creds(), 503, "<html>sealed with a kiss</html>", Unreachable),
        (creds(), 503, r#"{"errors":["Vault is in standby mode"]}"#, Sealed),
        (creds(), 503, r#"{"errors":["upstream overloaded"]}"#, Unreachable),
        (creds(), 472, "", Unreachable),
        (creds(), 473, r#"{"errors":[]}"#, Unreachable),
        (creds(), 408, "", Unreachable),
        (creds(), 412, r#"{"errors":["required index state not present"]}"#, NotReplicated),
        (login(), 412, "", NotReplicated),
        (creds(), 429, "", RateLimited),
        (creds(), 404, r#"{"errors":[]}"#, NotFound),
        (creds(), 400, r#"{"errors":["something new"]}"#, Unexpected),
        (creds(), 401, "<html>log in</html>", Unreachable),
        (creds(), 418, "", Unexpected),
        (creds(), 100, "", Unexpected),
        (creds(), 400, "Client sent an HTTP request to an HTTPS server.\n", Configuration),
    ];
    for (asked, status, body, kind) in table {
        assert_eq!(told(asked, *status, body).kind(), *kind, "{status} {body}");
    }
}

/// A mesh, a WAF, an ingress: its word says nothing of a token, a policy, a login or a path.
#[test]
fn a_refusal_that_is_not_vaults_json_is_somebody_elses() {
    let bodies = [
        "",
        "RBAC: access denied",
        "<html>403 Forbidden</html>",
        "null",
        "[]",
        "{}",
        r#"{"message":"forbidden","code":403}"#,
        r#"{"error":"access_denied"}"#,
        r#"{"errors":null}"#,
        r#"{"errors":"permission denied"}"#,
        r#"{"errors":[{"title":"permission denied"}]}"#,
    ];
    let asked = [creds(), login(), renew(), renew_self(), read("auth/token/lookup-self")];
    for status in [400, 401, 403, 404, 405] {
        for (asked, body) in asked.iter().flat_map(|asked| bodies.map(|body| (asked, body))) {
            let error = told(asked, status, body);
            let what = format!("{} {status} {body}: {error}", asked.path);
            assert_eq!((error.kind(), error.party()), (ErrorKind::Unreachable, Party::Vault), "{what}");
            assert!(error.is_retryable() && !error.may_have_been_carried_out(), "{what}");
            assert!(error.message().contains("as if from a proxy"), "{what}");
        }
    }
    for (asked, status, body, kind) in [
        (creds(), 403, r#"{"errors":[]}"#, ErrorKind::Denied),
        (login(), 400, r#"{"errors":[]}"#, ErrorKind::LoginRefused),
        (creds(), 404, r#"{"warnings":["Invalid path"]}"#, ErrorKind::NotFound),
        (creds(), 401, r#"{"errors":["log in"]}"#, ErrorKind::Unexpected),
        // A deleted version of a kv entry, as OpenBao 2.7.2 answers.
        (
            read("kv2/data/mail"),
            404,
            r#"{"request_id":"f4b1","data":{"data":null,"metadata":{"deletion_time":"2026-11-27T14:00:00Z"}},"warnings":null}"#,
            ErrorKind::NotFound,
        ),
    ] {
        assert_eq!(told(&asked, status, body).kind(), kind, "Vault's own: {status} {body}");
    }
}

/// Two statements that touch the same role at the same moment, in which PostgreSQL serves only one.
#[test]
fn a_collision_inside_the_database_is_its_own_and_is_tried_again() {
    let collision = "failed to execute query: ERROR: tuple concurrently updated (SQLSTATE XX000)";
    for text in [collision.to_owned(), format!("1 error occurred:\n\t* {collision}\n\n")] {
        let error = told(&creds(), 500, &errors(&[&text]));
        assert_eq!(
            (error.kind(), error.party()),
            (ErrorKind::DatabaseUnavailable, Party::Database),
            "{text}"
        );
        assert!(error.is_retryable() && !error.may_have_been_carried_out(), "{error}");
        assert!(error.message().contains("tuple concurrently updated"), "{error}");
    }
    for (verb, status) in [("renew", 400), ("revoke", 400)] {
        let text = format!(
            "failed to {verb} entry: resp: (*logical.Response)(nil) err: 1 error occurred:\n\t* ERROR: tuple concurrently updated (SQLSTATE XX000)\n\n"
        );
        let path = format!("sys/leases/{verb}");
        let error = told(&write(&path), status, &errors(&[&text]));
        let whose = (error.kind(), error.party());
        assert_eq!(whose, (ErrorKind::DatabaseUnavailable, Party::Database), "{error:?}");
    }
}

/// The words of OpenBao 2.7.2 with a real API server: logins at auth/kubernetes and auth/jwt.
#[test]
fn a_login_that_may_pass_is_told_from_one_that_is_refused() {
    use ErrorKind::*;
    let get = |error: &str| format!("Get \"https://10.0.0.1/.well-known/openid-configuration\": {error}");
    let refused = get("dial tcp 10.0.0.1:443: connect: connection refused");
    let untrusted = get("tls: failed to verify certificate: x509: certificate signed by unknown authority");
    let keyset =
        |text: &str| format!("error configuring token validator: keyset configuration error: {text}");
    let keys = |text: &str| {
        format!(
            "error validating token: error verifying token signature: fetching keys oidc: get keys failed {text}"
        )
    };
    let invalid = |claim: &str| format!("error validating token: invalid {claim}");
    let passes: &[(u16, String, ErrorKind)] = &[
        (403, "permission denied".to_owned(), LoginDoubtful),
        (403, "1 error occurred:\n\t* permission denied\n\n".to_owned(), LoginDoubtful),
        (403, "invalid not before (nbf) claim: token not yet valid".to_owned(), LoginDoubtful),
        (400, invalid("not before (nbf) claim: token not yet valid"), LoginDoubtful),
        (400, invalid("issued at (iat) claim: token issued in the future"), LoginDoubtful),
        (400, "validation failed, token not valid yet (nbf)".to_owned(), LoginDoubtful),
        (400, keyset(&refused), Unreachable),
        (400, keyset(&untrusted), Unreachable),
        (400, keys(&refused), Unreachable),
        (403, format!("namespace not authorized err={refused}"), Unreachable),
    ];
    let refusals = [
        (403, "invalid expiration time (exp) claim: token is expired".to_owned()),
        (400, "missing jwt".to_owned()),
        (403, "invalid audience (aud) claim: audience claim does not match any expected audience".to_owned()),
        (403, "service account name not authorized".to_owned()),
        (403, "namespace not authorized".to_owned()),
        (403, "permission denied to this namespace".to_owned()),
        (400, "permission denied".to_owned()),
        (400, "invalid role name \"nope\"".to_owned()),
        (400, invalid("subject (sub) claim")),
        (400, invalid("issuer (iss) claim")),
        (400, invalid("expiration time (exp) claim: token is expired")),
        (
            400,
            "error validating token: error verifying token signature: failed to verify id token signature"
                .to_owned(),
        ),
        (400, "role \"nope\" could not be found".to_owned()),
        (400, "audience claim found in JWT but no audiences bound to the role".to_owned()),
    ];
    for (status, text, kind) in passes {
        let error = told(&login(), *status, &errors(&[text]));
        let party = if *kind == Unreachable { Party::Issuer } else { Party::Vault };
        assert_eq!((error.kind(), error.party()), (*kind, party), "{status} {text}");
        assert!(error.is_retryable() && !error.may_have_been_carried_out(), "{error}");
    }
    for (status, text) in &refusals {
        let error = told(&login(), *status, &errors(&[text]));
        assert_eq!((error.kind(), error.party()), (LoginRefused, Party::Vault), "{status} {text}");
        assert!(!error.is_retryable());
    }
    let two = told(&login(), 403, &errors(&["permission denied", "something else"]));
    assert_eq!(two.kind(), LoginRefused);
    assert_eq!(told(&login(), 403, "permission denied").kind(), Unreachable, "nor is it Vault's");
}

/// Each further try of these may be the one that locks everybody out who shares the role or the name.
#[test]
fn a_secret_that_is_refused_does_not_pass() {
    let asked = login_by_secret();
    for (status, text) in [
        (403, "permission denied"),
        (400, "invalid role or secret ID"),
        (400, "invalid username or password"),
        (403, "invalid not before (nbf) claim: token not yet valid"),
        (400, "invalid certificate or no client certificate supplied"),
    ] {
        let error = told(&asked, status, &errors(&[text]));
        assert_eq!(error.kind(), ErrorKind::LoginRefused, "{text}");
        assert!(!error.is_retryable());
    }
    let away = "LDAP Result Code 200 \"Network Error\": dial tcp 10.0.0.1:636: connect: connection refused";
    let error = told(&asked, 400, &errors(&[away]));
    assert_eq!((error.kind(), error.party()), (ErrorKind::Unreachable, Party::Issuer));
}

#[test]
fn what_may_pass_says_why_it_was_and_what_to_look_at() {
    let denied = told(&login(), 403, &errors(&["permission denied"]));
    for cause in [
        "forged",
        "pod is gone",
        "API server is away",
        "reviewer's own JWT",
        "no login is mounted",
        "debug log",
    ] {
        assert!(denied.message().contains(cause), "{cause}: {denied}");
    }
    let early = told(&login(), 403, &errors(&["invalid not before (nbf) claim: token not yet valid"]));
    assert!(early.message().contains("clocks of the issuer, of the server"), "{early}");
    let away = told(&login(), 400, &errors(&["Get \"https://a/b\": dial tcp 10.0.0.1:443: i/o timeout"]));
    assert!(
        away.to_string().starts_with("the issuer behind Vault: the server cannot reach whoever checks"),
        "{away}"
    );
    let locked = told(&login_by_secret(), 403, &errors(&["permission denied"]));
    assert!(
        locked.message().contains("too many refused tries") && !locked.message().contains("JWT"),
        "{locked}"
    );
}

/// From OpenBao 2.6.4 and 2.7.1 on a token's renewal looks at its login again; other methods did before.
#[test]
fn a_token_whose_login_has_lapsed_is_no_matter_of_policy() {
    let expired = "invalid expiration time (exp) claim: token is expired";
    for (status, text) in [
        (403, expired),
        (
            403,
            "failed to validate token and secret still exist for \"app\" during renewal: permission denied",
        ),
        (403, "service account name not authorized"),
        (403, "namespace not authorized"),
        (403, "invalid audience (aud) claim: audience claim does not match any expected audience"),
        (500, "role app does not exist during renewal"),
        (500, "failed to fetch jwt during renewal; existing auth tokens need to be re-issued"),
        (500, "client identity during renewal not matching client identity used during login"),
        (400, "anything"),
    ] {
        let text = format!("1 error occurred:\n\t* failed to renew entry: {text}\n\n");
        let error = told(&renew_self(), status, &errors(&[&text]));
        assert_eq!((error.kind(), error.party()), (ErrorKind::LoginLapsed, Party::Vault), "{status} {text}");
        assert!(!error.is_retryable() && !error.may_have_been_carried_out());
        assert!(
            error.message().contains("no policy is at fault") && !error.message().contains("add it to"),
            "{error}"
        );
    }
    for (asked, status, text, kind) in [
        (renew_self(), 403, "1 error occurred:\n\t* permission denied\n\n", ErrorKind::Denied),
        (renew_self(), 400, "batch tokens cannot be renewed", ErrorKind::NotRenewable),
        (renew_self(), 400, "failed to renew entry: past the max TTL, cannot renew", ErrorKind::NotRenewable),
        (renew_self(), 403, "invalid token", ErrorKind::DeadToken),
        (renew(), 403, "failed to renew entry: permission denied", ErrorKind::RenewalFailed),
    ] {
        assert_eq!(told(&asked, status, &errors(&[text])).kind(), kind, "{} {text}", asked.path);
    }
}

/// The load balancer gave up, or the server failed somewhere on its way: the user, or the token, may be there.
#[test]
fn a_failure_that_is_not_known_to_come_before_execution_may_have_been_one_after_it() {
    let may: &[(u16, &str)] = &[
        (500, r#"{"errors":["internal error"]}"#),
        (500, r#"{"errors":["1 error occurred:\n\t* context deadline exceeded\n\n"]}"#),
        (500, r#"{"errors":["failed to execute query: read tcp 10.0.0.1:1->10.0.0.2:5432: i/o timeout"]}"#),
        (500, r#"{"errors":["write tcp 10.0.0.1:1->10.0.0.2:5432: write: broken pipe"]}"#),
        (500, r#"{"errors":["Error 1044 (42000): Access denied for user 'vault'@'%' to database 'app'"]}"#),
        (500, r#"{"errors":["failed to commit: FATAL: terminating connection (SQLSTATE 57P01)"]}"#),
        (500, r#"{"errors":[]}"#),
        (500, ""),
        (502, "<html>Bad Gateway</html>"),
        (502, r#"{"errors":[]}"#),
        (504, "<html>Gateway Time-out</html>"),
        (
            503,
            "upstream connect error or disconnect/reset before headers. reset reason: connection termination",
        ),
        (520, ""),
        (599, ""),
    ];
    let before: &[(u16, &str)] = &[
        (
            500,
            r#"{"errors":["1 error occurred:\n\t* unable to start transaction: context deadline exceeded\n\n"]}"#,
        ),
        (500, r#"{"errors":["dial tcp 10.0.0.2:5432: i/o timeout"]}"#),
        (500, r#"{"errors":["failed to connect to `user=v`: server error: FATAL: sorry (SQLSTATE 53300)"]}"#),
        (500, r#"{"errors":["Error 1040: Too many connections"]}"#),
        (500, r#"{"errors":["Error 1045 (28000): Access denied for user 'vault'@'%'"]}"#),
        (
            500,
            r#"{"errors":["failed to execute query: ERROR: syntax error at or near \"ROLEX\" (SQLSTATE 42601)"]}"#,
        ),
        (500, r#"{"errors":["\"app\" is not an allowed role"]}"#),
        (500, r#"{"errors":["failed to find entry for connection with name: \"nosuch\""]}"#),
        (500, r#"{"errors":["local node not active but active cluster node not found"]}"#),
        (500, r#"{"errors":["could not load backend configuration"]}"#),
        (501, ""),
        (503, r#"{"errors":["Vault is sealed"]}"#),
        (503, r#"{"errors":["upstream overloaded"]}"#),
        (503, "<html>no healthy upstream</html>"),
        (
            503,
            "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure",
        ),
        (429, "quota"),
        (412, ""),
        (472, ""),
        (403, r#"{"errors":["permission denied"]}"#),
        (400, r#"{"errors":["context deadline exceeded"]}"#),
    ];
    for (table, may) in [(may, true), (before, false)] {
        for ((status, body), asked) in table.iter().flat_map(|row| [(row, creds()), (row, login())]) {
            let error = told(&asked, *status, body);
            assert_eq!(error.may_have_been_carried_out(), may, "{} {status} {body}: {error}", asked.path);
        }
    }
}

#[test]
fn messages_tell_what_to_do() {
    let table = [
        (
            creds(),
            403,
            errors(&["permission denied"]),
            "no `read` on database/creds/app (403: permission denied): add it to the token's policy",
        ),
        (renew(), 403, errors(&[]), "no `update` on sys/leases/renew (403): add it to the token's policy"),
        (creds(), 404, errors(&[]), "GET database/creds/app was answered 404: there is nothing"),
        (
            creds(),
            502,
            "<p>hunter2</p>".to_owned(),
            "GET database/creds/app was answered 502 and no JSON, as if from a proxy",
        ),
        (
            creds(),
            400,
            errors(&["unknown role: app"]),
            "GET database/creds/app was answered 400: unknown role: app",
        ),
        (
            creds(),
            500,
            errors(&["1 error occurred:\n\t* failed to connect to `user=v`\n\n"]),
            "behind database/creds/app: failed to connect to `user=v` (500)",
        ),
        (creds(), 400, errors(&["one", "two"]), "GET database/creds/app was answered 400: one; two"),
        (
            read("secret/none"),
            404,
            r#"{"warnings":["Invalid path for a versioned K/V secrets engine."]}"#.to_owned(),
            "GET secret/none was answered 404: Invalid path for a versioned K/V secrets engine.",
        ),
    ];
    for (asked, status, body, message) in table {
        assert_eq!(told(&asked, status, &body).message(), message);
    }
    for asked in [login(), login_by_secret()] {
        let error = told(&asked, 403, &errors(&["permission denied"]));
        assert!(error.message().contains("where no login is mounted"), "{error}");
    }
}

#[test]
fn the_wait_is_kept_whatever_the_status() {
    for status in [400, 403, 429, 500, 503] {
        let refusal = Refusal { status, retry_after: Some(Duration::from_secs(7)), ..Refusal::default() };
        assert_eq!(classify(&creds(), &refusal).retry_after(), Some(Duration::from_secs(7)), "{status}");
    }
}

#[test]
fn bodies_of_any_shape_are_survived() {
    for body in
        ["null", "[]", "3", "{", r#"{"errors":"hunter2"}"#, r#"{"errors":[{"a":"hunter2"},4,null]}"#, "\u{0}"]
    {
        let error = told(&creds(), 400, body);
        assert_eq!(error.kind(), ErrorKind::Unreachable);
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
