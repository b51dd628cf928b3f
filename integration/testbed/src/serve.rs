//! The small HTTP servers of the testbed: one handler, with or without TLS.

use std::{
    future::{Future, pending},
    io,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use futures_util::stream;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Request, Response,
    body::{Bytes, Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
    time::timeout,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use crate::{
    backstage::Backstage,
    error::{Error, Result},
    pki::Identity,
};

/// What a handler returns: an answer, or `None` to drop the connection without one.
pub(crate) type Answer = Option<Response<Body>>;

/// What an answer says after its head.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// How long the first part of a body has to leave before its connection is closed.
const FLUSHED: Duration = Duration::from_millis(50);

/// A server that ends with its handle, its connections included.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    task: AbortHandle,
}

impl Server {
    /// Listens on a port of one of this machine's addresses, on a free one for 0.
    pub(crate) fn start<H, F>(
        backstage: &Backstage,
        address: impl Into<SocketAddr>,
        tls: Option<TlsAcceptor>,
        handler: H,
    ) -> Result<Self>
    where
        H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        let no_listener = "could not listen on a port of this machine";
        let listener = std::net::TcpListener::bind(address.into()).map_err(Error::system(no_listener))?;
        listener.set_nonblocking(true).map_err(Error::system(no_listener))?;
        let address = listener.local_addr().map_err(Error::system(no_listener))?;
        let _runtime = backstage.handle().enter();
        let listener = TcpListener::from_std(listener).map_err(Error::system(no_listener))?;
        let task = backstage.spawn(accept(listener, tls, handler)).abort_handle();
        Ok(Self { address, task })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A body that is said as a whole.
pub(crate) fn whole(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body that ends where its connection does. A head that tells its length tells that more was to come.
pub(crate) fn broken_off(body: impl Into<Bytes>) -> Body {
    let first = Ok(Frame::data(body.into()));
    let parts = stream::unfold(Some(first), |part| async move {
        match part {
            Some(part) => Some((part, None)),
            None => {
                let _ = timeout(FLUSHED, pending::<()>()).await;
                Some((Err(io::ErrorKind::ConnectionAborted.into()), None))
            }
        }
    });
    StreamBody::new(parts).boxed_unsync()
}

/// What a server needs to speak TLS as somebody.
pub(crate) fn acceptor(identity: &Identity) -> Result<TlsAcceptor> {
    let crypto = |error: &dyn std::fmt::Display| Error::Crypto(error.to_string());
    let certificate =
        CertificateDer::from_pem_slice(identity.certificate.as_bytes()).map_err(|error| crypto(&error))?;
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).map_err(|error| crypto(&error))?;
    // Named, because a program that links two providers has no default.
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![certificate], key))
        .map_err(|error| crypto(&error))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn accept<H, F>(listener: TcpListener, tls: Option<TlsAcceptor>, handler: H)
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(connection(stream, tls.clone(), handler.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection<H, F>(stream: TcpStream, tls: Option<TlsAcceptor>, handler: H)
where
    H: Fn(Request<Incoming>) -> F + Send + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    match tls {
        None => converse(stream, handler).await,
        Some(tls) => match tls.accept(stream).await {
            Ok(stream) => converse(stream, handler).await,
            Err(error) => tracing::debug!(%error, "a client broke the TLS handshake off"),
        },
    }
}

async fn converse<H, F>(stream: impl AsyncRead + AsyncWrite + Unpin + Send, handler: H)
where
    H: Fn(Request<Incoming>) -> F,
    F: Future<Output = Answer>,
{
    let service = service_fn(move |request| {
        let answer = handler(request);
        async move { answer.await.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionAborted)) }
    });
    // An error is a client that went away, or an answer that was to be dropped.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
