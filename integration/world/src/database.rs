//! The database, as a driver sees it.

use std::{sync::Arc, time::Duration};

use leasehold_core::{Credentials, Error, ErrorKind, ExposeSecret, Party, Result, in_place::Connect};

use crate::{
    oracle::Oracle,
    plan::What,
    sometimes::Sometimes,
    truth::{Refusal, SessionId, Truth},
};

#[derive(Clone)]
pub(crate) struct Driver {
    pub(crate) truth: Arc<Truth>,
    pub(crate) oracle: Arc<Oracle>,
}

/// An open connection. Dropping it closes its session.
pub(crate) struct Connection {
    truth: Arc<Truth>,
    session: SessionId,
    pub(crate) user: String,
    /// Whether an answer is still to come for which nobody waits any more: whoever asks next would read it.
    is_out_of_step: bool,
}

impl Connection {
    pub(crate) fn query(&self) -> std::result::Result<(), Refusal> {
        if self.is_out_of_step {
            return Err(Refusal::OutOfStep);
        }
        self.truth.now().query(self.session)
    }

    /// As a query, but the answer takes its time, and whoever waits for it may go.
    pub(crate) async fn ask(&mut self) -> std::result::Result<(), Refusal> {
        self.is_out_of_step = true;
        slowly(&self.truth).await;
        self.is_out_of_step = false;
        self.query()
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
        slowly(&self.truth).await;
        let (user, password) = (credentials.username(), credentials.password().expose_secret());
        let session = self.truth.now().connect(user, password).map_err(|refusal| {
            match refusal {
                Refusal::Full => self.oracle.sometimes(Sometimes::DatabaseIsFull),
                Refusal::Credentials => self.oracle.sometimes(Sometimes::HandshakeRefused),
                Refusal::Down | Refusal::Cut | Refusal::OutOfStep => {}
            }
            error(refusal)
        })?;
        Ok(Connection {
            truth: Arc::clone(&self.truth),
            session,
            user: user.to_owned(),
            is_out_of_step: false,
        })
    }

    async fn check(&self, connection: &mut Connection) -> Result<()> {
        connection.query().map_err(error)
    }

    async fn ask(&self, connection: &mut Connection) -> Result<()> {
        connection.ask().await.map_err(error)
    }

    async fn end(&self, connection: &mut Connection) -> bool {
        self.truth.now().close(connection.session);
        true
    }

    async fn terminate_others(&self, connection: &mut Connection) -> Result<usize> {
        Ok(self.truth.now().terminate(&connection.user))
    }
}

/// The time that the database takes.
async fn slowly(truth: &Arc<Truth>) {
    let slow = truth.now().delay(|what| match what {
        What::HandshakesSlow { millis } => Some(*millis),
        _ => None,
    });
    truth.time.pass(slow.unwrap_or(Duration::from_millis(3))).await;
}

pub(crate) fn error(refusal: Refusal) -> Error {
    let kind = match refusal {
        Refusal::Down | Refusal::Cut | Refusal::OutOfStep => ErrorKind::DatabaseUnavailable,
        Refusal::Full => ErrorKind::DatabaseFull,
        Refusal::Credentials => ErrorKind::CredentialsRefused,
    };
    Error::new(kind, Party::Database, format!("{refusal:?}"))
}
