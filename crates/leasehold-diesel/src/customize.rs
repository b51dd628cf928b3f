//! The user's customizer, which our own connections go through too.

use std::{fmt, sync::Arc};

use diesel::{
    ConnectionError,
    r2d2::{CustomizeConnection, Error},
};

use crate::{database::Database, rider::aboard};

/// What r2d2 and the rotation both call.
pub(crate) type Customizer<C> = Arc<dyn CustomizeConnection<C, Error>>;

/// Calls the user's customizer.
pub(crate) struct Customize<C>(pub(crate) Customizer<C>);

impl<C: Database> CustomizeConnection<C, Error> for Customize<C> {
    fn on_acquire(&self, connection: &mut C) -> Result<(), Error> {
        self.0.on_acquire(connection)?;
        let Some(aboard) = aboard(connection) else {
            let why = "the customizer called `set_instrumentation`, where the pool keeps which credentials opened a \
                       connection: call `leasehold_diesel::set_instrumentation` instead";
            return Err(Error::ConnectionError(ConnectionError::BadConnection(why.into())));
        };
        // Whatever was asked on it so far, it goes to the pool now.
        aboard.set_idle(true);
        Ok(())
    }

    fn on_release(&self, connection: C) {
        self.0.on_release(connection);
    }
}

impl<C> fmt::Debug for Customize<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
