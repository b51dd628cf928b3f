//! A standby as a container.

use std::sync::Arc;

use super::{NAME, SLOT};
use crate::{
    error::{Error, Result},
    image::Image,
    pod::{DATA, Pod, Spec},
    ports::Port,
    postgres::Postgres,
    server::{Server, Superuser},
    site::Site,
};

/// Lets the primary send its data, at the first start only, and runs as the server's user. The entrypoint runs it as it is.
const SCRIPT: &str = r#"
as_postgres() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  rm -rf "$PGDATA"
  install -d -m 0700 -o postgres -g postgres "$PGDATA"
  as_postgres pg_basebackup --username postgres --host 127.0.0.1 --port "$PRIMARY" --write-recovery-conf \
    --create-slot --slot "$SLOT" --wal-method stream --checkpoint fast --no-sync --pgdata "$PGDATA" || exit 1
fi
exec setpriv --reuid=postgres --regid=postgres --init-groups postgres -c listen_addresses='*' -c port="$PORT"
"#;

/// A server that is not started yet, and copies the primary's data at its first start.
pub(super) async fn server(
    site: &Site,
    pod: &Pod,
    primary: &Postgres,
    port: &Port,
) -> Result<(Server, Superuser)> {
    let Some(password) = primary.superuser_password() else {
        return Err(Error::Engine {
            request: format!("a container of {NAME}"),
            reason: "the primary's superuser has no password".into(),
        });
    };
    let container = pod.container(Spec {
        name: NAME,
        image: pod.image(Image::Postgres).await?,
        command: ["bash", "-c", SCRIPT].map(str::to_owned).into(),
        environment: vec![
            ("PGDATA", DATA.into()),
            ("PGPASSWORD", password.to_owned()),
            ("PRIMARY", primary.port().to_string()),
            ("PORT", port.number().to_string()),
            ("SLOT", SLOT.into()),
        ],
        stop: "INT",
    })?;
    let server = Server::new(NAME, Arc::new(container), &site.backstage);
    Ok((server, Superuser::Password(password.to_owned().into())))
}
