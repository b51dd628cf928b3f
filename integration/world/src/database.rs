//! The database, as a driver sees it.

use std::{sync::Arc, time::Duration};

use leasehold_core::{Credentials, Error, ErrorKind, ExposeSecret, Party, Result, in_place::Connect};

use crate::{
    plan::What,
    truth::{Refusal, SessionId, Truth},
};

#[derive(Clone)]
pub(crate) struct Driver(pub(crate) Arc<Truth>);

/// An open connection. Dropping it closes its session.
pub(crate) struct Connection {
    truth: Arc<Truth>,
    session: SessionId,
    pub(crate) user: String,
}

impl Connection {
    pub(crate) fn query(&self) -> std::result::Result<(), Refusal> {
        self.truth.now().query(self.session)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.truth.now().is_open(self.session)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.truth.now().close(self.session);
    }
}

impl Connect for Driver {
    type Connection = Connection;

    async fn connect(&self, credentials: &Credentials) -> Result<Connection> {
        let slow = self.0.now().weather.iter().find_map(|what| match what {
            What::HandshakesSlow { millis } => Some(*millis),
            _ => None,
        });
        self.0.time.pass(Duration::from_millis(slow.unwrap_or(3))).await;
        let (user, password) = (credentials.username(), credentials.password().expose_secret());
        let session = self.0.now().connect(user, password).map_err(error)?;
        Ok(Connection { truth: Arc::clone(&self.0), session, user: user.to_owned() })
    }

    async fn check(&self, connection: &mut Connection) -> Result<()> {
        connection.query().map_err(error)
    }

    async fn ask(&self, connection: &mut Connection) -> Result<()> {
        connection.query().map_err(error)
    }

    async fn end(&self, connection: &mut Connection) -> bool {
        self.0.now().close(connection.session);
        true
    }

    async fn terminate_others(&self, connection: &mut Connection) -> Result<usize> {
        Ok(self.0.now().terminate(&connection.user))
    }
}

pub(crate) fn error(refusal: Refusal) -> Error {
    let kind = match refusal {
        Refusal::Down | Refusal::Cut => ErrorKind::DatabaseUnavailable,
        Refusal::Full => ErrorKind::DatabaseFull,
        Refusal::Credentials => ErrorKind::CredentialsRefused,
    };
    Error::new(kind, Party::Database, format!("{refusal:?}"))
}
