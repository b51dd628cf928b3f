//! A server without a network, for simulations.

use std::fmt;

use async_trait::async_trait;
use http::{Request, Response};
use leasehold_core::Result;

/// A server that answers in place of the network. The client does everything else as usual: it follows redirects, reads the
/// envelope and tells the meaning of each status and body.
#[async_trait]
pub trait Transport: fmt::Debug + Send + Sync {
    /// Answers one request, with a status, headers and a body as they would come over the wire.
    ///
    /// # Errors
    /// If no answer comes: [`Unreachable`](leasehold_core::ErrorKind::Unreachable), made with
    /// [`Error::unanswered`](leasehold_core::Error::unanswered) if the request may have been carried out.
    ///
    /// # Cancel safety
    /// Dropped when the client's timeout is over, or with the request.
    async fn answer(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>>;
}
