//! A way from a client to a server, on which things go wrong.
//!
//! It knows nothing of what is said on it, so it is good for every database and for HTTP. The crates that do the same were not
//! taken: `noxious` has had no release since 2021 and brings releases of the same age with it, and `toxiproxy` is a program of
//! its own, in Go.

mod connection;
mod state;

use std::{
    fmt,
    net::Ipv4Addr,
    num::NonZeroU32,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    net::TcpListener,
    sync::watch,
    task::{AbortHandle, JoinSet},
};

pub use state::Direction;
use state::{Counts, State};

use crate::{
    backstage::{Backstage, poll},
    error::{Error, Result},
    ports::Port,
};

/// How long a port may be in use after whoever listened on it was told to go.
const PATIENCE: Duration = Duration::from_secs(10);

/// A TCP proxy in front of one server, whose connections can be made slow, silent, half-closed, or be cut.
///
/// It ends with its handle, and its connections with it. Each setting holds for the connections that are open and for those to
/// come, until it is set again or everything is [mended](Link::mend).
pub struct Link {
    port: Port,
    state: watch::Sender<State>,
    listens: watch::Receiver<bool>,
    counts: Arc<Counts>,
    task: AbortHandle,
    _backstage: Backstage,
}

impl Link {
    /// Starts one in front of a server. Nothing is wrong on it yet.
    ///
    /// # Errors
    ///
    /// [`Error::System`] when there is no port to listen on.
    pub async fn to(host: &str, port: u16) -> Result<Self> {
        let (server, port) = ((host.to_owned(), port), Port::reserve()?);
        let backstage = Backstage::new()?;
        let (state, seen) = watch::channel(State::default());
        let (tell, listens) = watch::channel(false);
        let counts = Arc::<Counts>::default();
        let road = Road { port: port.number(), server, state: seen, counts: counts.clone() };
        let task = backstage.spawn(road.run(tell)).abort_handle();
        let link = Self { port, state, listens, counts, task, _backstage: backstage };
        link.until_it_listens(true).await?;
        Ok(link)
    }

    /// The host to give to a client instead of the server's.
    pub fn host(&self) -> &'static str {
        "127.0.0.1"
    }

    /// The port to give to a client instead of the server's.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.counts.open.load(Ordering::Acquire)
    }

    /// Holds everything back for so long, each way, and for up to `jitter` more. What was sent first arrives first.
    pub fn latency(&self, latency: Duration, jitter: Duration) {
        self.change(|state| (state.latency, state.jitter) = (latency, jitter));
    }

    /// Lets so many bytes per second pass each way on each connection; any number without one.
    pub fn bandwidth(&self, bytes_per_second: Option<NonZeroU32>) {
        self.change(|state| state.bandwidth = bytes_per_second);
    }

    /// Lets nothing pass any more. Connections stay open, new ones are accepted, and nobody is told: a cable that was pulled.
    pub fn silence(&self) {
        self.change(|state| state.silent = true);
    }

    /// Replaces everything that the server says by as many bytes of noise.
    pub fn garble(&self) {
        self.change(|state| state.garbled = true);
    }

    /// Lets each connection, open or new, have so many bytes more from the server. It is closed when there would be another.
    pub fn truncate(&self, bytes: u64) {
        self.change(|state| {
            state.rest = Some(bytes);
            state.rests += 1;
        });
    }

    /// Ends one direction of every open connection as if the sender had said that it is done. The other direction goes on, and
    /// nobody reads any more what the sender still says.
    pub fn half_close(&self, direction: Direction) {
        self.change(|state| state.half_closed[direction as usize] += 1);
    }

    /// Resets every open connection. New ones are as good as before.
    pub fn reset(&self) {
        self.change(|state| state.resets += 1);
    }

    /// Resets every open connection and refuses new ones until it is [mended](Link::mend).
    ///
    /// # Errors
    ///
    /// [`Error::System`] when it goes on listening.
    pub async fn cut(&self) -> Result<()> {
        self.change(|state| {
            state.cut = true;
            state.resets += 1;
        });
        self.until_it_listens(false).await
    }

    /// Takes back everything but what is over: closed connections stay closed.
    ///
    /// # Errors
    ///
    /// [`Error::System`] when it cannot listen again after [`Link::cut`].
    pub async fn mend(&self) -> Result<()> {
        self.change(|state| *state = State::after(state));
        self.until_it_listens(true).await
    }

    /// Holds the server's first answer back on connections that are made from now on, until [`Link::release`]: the client
    /// has chosen its credentials by then.
    pub fn hold_handshakes(&self) {
        self.change(|state| (state.holds, state.holds_new) = (true, true));
    }

    /// Lets new connections pass, and goes on holding back those that are held.
    pub fn hold_no_more(&self) {
        self.change(|state| state.holds_new = false);
    }

    /// Lets what was held back go on, and what comes later pass.
    pub fn release(&self) {
        self.change(|state| (state.holds, state.holds_new) = (false, false));
    }

    /// Holds the server's first answer back for so long on connections that are made from now on.
    pub fn delay_handshakes(&self, delay: Duration) {
        self.change(|state| state.handshake = delay);
    }

    /// How many handshakes were delayed.
    pub fn delayed_handshakes(&self) -> usize {
        self.counts.delayed.load(Ordering::Acquire)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        self.state.send_modify(change);
    }

    async fn until_it_listens(&self, wanted: bool) -> Result<()> {
        let mut listens = self.listens.clone();
        match listens.wait_for(|listens| *listens == wanted).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::System {
                what: "the link's port is in somebody else's hands",
                source: std::io::ErrorKind::AddrInUse.into(),
            }),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.borrow();
        f.debug_struct("Link").field("port", &self.port()).field("state", &*state).finish_non_exhaustive()
    }
}

/// What a link's task needs.
struct Road {
    port: u16,
    server: (String, u16),
    state: watch::Receiver<State>,
    counts: Arc<Counts>,
}

impl Road {
    /// Listens except while it is cut; ends when it cannot.
    async fn run(self, tell: watch::Sender<bool>) {
        let mut state = self.state.clone();
        // They go with this task.
        let mut connections = JoinSet::new();
        loop {
            let Some(listener) = listen(self.port).await else { return };
            tell.send_replace(true);
            let cut = async { state.wait_for(|state| state.cut).await.map(drop) };
            let ended = tokio::select! {
                cut = cut => cut,
                () = self.accept(listener, &mut connections) => Ok(()),
            };
            tell.send_replace(false);
            if ended.is_err() || state.wait_for(|state| !state.cut).await.is_err() {
                return;
            }
        }
    }

    async fn accept(&self, listener: TcpListener, connections: &mut JoinSet<()>) {
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    if let Ok((client, _)) = accepted {
                        let (server, state) = (self.server.clone(), self.state.clone());
                        connections.spawn(connection::serve(client, server, state, self.counts.clone()));
                    }
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

async fn listen(port: u16) -> Option<TcpListener> {
    let bind = || async { Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.ok()) };
    poll(PATIENCE, bind).await.ok().flatten()
}
