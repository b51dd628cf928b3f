//! What the pools that take the conformance suite have in common: they are deadpool's.
#![allow(dead_code, reason = "every test binary uses a part of it")]

use std::fmt::{Debug, Display};

use deadpool::managed::{Manager, Object, Pool};
use leasehold_core::async_trait;
use leasehold_testbed::conformance::{self, Connection};

/// What differs: how a borrowed connection is asked.
#[async_trait]
pub(crate) trait Ask: Send + 'static {
    /// Runs a statement that answers one text.
    async fn ask(&mut self, statement: &'static str) -> Result<String, String>;
}

/// A pool under test, which hands out `W`.
pub(crate) struct UnderTest<M: Manager, W: From<Object<M>>>(pub(crate) Pool<M, W>);

#[async_trait]
impl<M, W> conformance::Pool for UnderTest<M, W>
where
    M: Manager + Debug + 'static,
    M::Error: Display + Send,
    Pool<M, W>: Debug + Send + Sync,
    W: Ask + From<Object<M>>,
{
    async fn acquire(&self) -> Result<Box<dyn Connection>, String> {
        Ok(Box::new(Borrowed(self.0.get().await.map_err(shown)?)))
    }

    async fn close(&self) {
        self.0.close();
    }

    fn debug(&self) -> String {
        format!("{:?} {:?}", self.0, self.0.manager())
    }
}

struct Borrowed<W>(W);

#[async_trait]
impl<W: Ask> Connection for Borrowed<W> {
    async fn query(&mut self, statement: &'static str) -> Result<String, String> {
        self.0.ask(statement).await
    }
}

pub(crate) fn shown(error: impl Display) -> String {
    error.to_string()
}
