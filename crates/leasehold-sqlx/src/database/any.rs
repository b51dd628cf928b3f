//! Whichever database a URL names.

use std::{
    borrow::Cow,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::{Context, Waker},
};

use leasehold_core::{Credentials, ExposeSecret, Result};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sqlx::{AnyConnection, ConnectOptions, any::AnyConnectOptions};
use url::Url;

use super::{BoxFuture, Database, Dialect, ask, configuration, mysql::MYSQL, postgres, refuse_credentials};
use crate::Builder;

/// Builds an [`AnyPool`](sqlx::AnyPool) that changes credentials. The scheme of the URL picks PostgreSQL, or MySQL and
/// MariaDB.
///
/// Call [`sqlx::any::install_default_drivers`] before, and name the database if it is PostgreSQL.
///
/// ```no_run
/// # use leasehold_core::{Credentials, Current, Result};
/// # async fn example(current: Current<Credentials>) -> Result<()> {
/// sqlx::any::install_default_drivers();
/// let url = std::env::var("DATABASE_URL").unwrap(); // mysql://db/orders, say
/// let pool: sqlx::AnyPool = leasehold_sqlx::Any::from_url(&url)?.connect(current).await?;
/// # Ok(())
/// # }
/// ```
///
/// sqlx has no place for credentials but that URL, so each connection's password is in one, percent-encoded. It is
/// printed by nothing of ours, but by the `Debug` of sqlx's own [`AnyConnectOptions`].
///
/// ```
/// use leasehold_sqlx::Any;
///
/// assert!(Any::from_url("postgres://db:5432/orders").is_ok());
/// assert!(Any::from_url("mysql://db:3306/orders").is_ok());
/// let error = Any::from_url("mysql://me:secret@db/orders").unwrap_err();
/// assert!(!error.to_string().contains("secret"));
/// ```
pub type Any = Builder<sqlx::Any>;

impl Database for sqlx::Any {
    const SCHEMES: &'static [&'static str] = &["postgres", "postgresql", "mysql", "mariadb"];

    fn dialect(base: &AnyConnectOptions) -> &'static Dialect {
        if is_postgres(base) { &postgres::POSTGRES } else { &MYSQL }
    }

    fn check(base: &AnyConnectOptions) -> Result<()> {
        let url = &base.database_url;
        if !Self::SCHEMES.contains(&url.scheme()) {
            return Err(configuration(format!(
                "{}:// is no database whose users are known here",
                url.scheme()
            )));
        }
        if !url.has_host() {
            return Err(configuration("the database URL names no host, so it has no place for credentials"));
        }
        if is_postgres(base) && Self::database(base).is_none() {
            return Err(configuration(postgres::NAMELESS));
        }
        // sqlx would take these for the credentials, in place of those in front of the host.
        refuse_credentials(&without_user(base))?;
        if !drivers_are_installed() {
            return Err(configuration(
                "call sqlx::any::install_default_drivers() before: sqlx knows no driver yet",
            ));
        }
        Ok(())
    }

    fn parse(url: Url) -> std::result::Result<AnyConnectOptions, sqlx::Error> {
        AnyConnectOptions::from_url(&url)
    }

    fn with(base: &AnyConnectOptions, credentials: &Credentials) -> AnyConnectOptions {
        let mut options = base.clone();
        // `Url` leaves a percent sign alone, so it would be taken for an escape.
        let encoded = |part| utf8_percent_encode(part, NON_ALPHANUMERIC).to_string();
        let url = &mut options.database_url;
        // They refuse a URL without a host, which was looked for.
        let _ = url.set_username(&encoded(credentials.username()));
        let _ = url.set_password(Some(&encoded(credentials.password().expose_secret())));
        options
    }

    fn address(base: &AnyConnectOptions) -> String {
        let url = &base.database_url;
        let port = url.port().unwrap_or_else(|| if is_postgres(base) { 5432 } else { 3306 });
        format!("{}:{port}", url.host_str().unwrap_or_default())
    }

    fn database(base: &AnyConnectOptions) -> Option<String> {
        let path = base.database_url.path().trim_start_matches('/');
        (!path.is_empty()).then(|| path.to_owned())
    }

    fn ask<'c>(
        connection: &'c mut AnyConnection,
        sql: Cow<'static, str>,
        arguments: Vec<String>,
    ) -> BoxFuture<'c, Option<String>> {
        ask!(connection, sql, arguments)
    }
}

fn is_postgres(base: &AnyConnectOptions) -> bool {
    sqlx::Postgres::SCHEMES.contains(&base.database_url.scheme())
}

/// What is in front of the host is overwritten, wherever it came from.
fn without_user(base: &AnyConnectOptions) -> Url {
    let mut url = base.database_url.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}

/// sqlx panics where a connection is opened before its drivers are installed, which would end the rotation's task, and
/// sqlx does not tell whether they are installed. With them, a scheme that nobody has is refused without any I/O.
fn drivers_are_installed() -> bool {
    let Ok(nobodys) = "leasehold-looks-for-drivers://".parse::<AnyConnectOptions>() else { return true };
    catch_unwind(AssertUnwindSafe(|| {
        let mut connecting = pin!(nobodys.connect());
        let _ = connecting.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }))
    .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ODD: &str = "@:/%#?'\" \\%41+ä";

    #[test]
    fn any_character_in_credentials_survives_the_url() {
        let base = sqlx::Any::parse("mysql://db/orders".parse().unwrap()).unwrap();
        let url = sqlx::Any::with(&base, &Credentials::new(ODD, ODD.to_owned())).database_url;
        let decoded = |part| percent_encoding::percent_decode_str(part).decode_utf8().unwrap();
        assert_eq!((&*decoded(url.username()), &*decoded(url.password().unwrap())), (ODD, ODD));
        assert_eq!((url.host_str(), url.path(), url.query()), (Some("db"), "/orders", None));
    }

    #[test]
    fn what_cannot_work_is_an_error_and_no_panic() {
        let check = |url: &str| sqlx::Any::check(&url.parse().unwrap());
        let missing = check("mysql://db/orders").unwrap_err().to_string();
        assert!(missing.contains("install_default_drivers"), "{missing}");
        sqlx::any::install_default_drivers();
        for url in [
            "sqlite://db",
            "mysql:///orders",
            "postgres://db",
            "postgres://db/orders?password=s3cret",
            "mysql://db/orders?user=s3cret",
        ] {
            let error = check(url).unwrap_err();
            assert_eq!(error.kind(), leasehold_core::ErrorKind::Configuration, "{url}");
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
        for url in ["mysql://db", "mariadb://db/orders", "postgresql://me:s3cret@db/orders"] {
            check(url).unwrap();
        }
    }

    #[test]
    fn nothing_secret_is_printed() {
        let options: AnyConnectOptions = "mysql://me:s3cret@db/orders".parse().unwrap();
        let printed = format!("{:?}", Any::new(options));
        assert!(printed.contains("db:3306") && printed.contains("orders"), "{printed}");
        assert!(!printed.contains("s3cret"), "{printed}");
    }
}
