//! One connection of a link.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

use super::state::{Counts, Direction, State};

/// How much is read at once.
const CHUNK: usize = 16 * 1024;

/// How many chunks may be under way in one direction.
const UNDER_WAY: usize = 64;

/// A connection is over as a whole, and not only in one direction.
struct Over;

/// Passes on what is said, until both are done or the link has enough of it.
pub(super) async fn serve(
    mut client: TcpStream,
    server: (String, u16),
    mut state: watch::Receiver<State>,
    counts: Arc<Counts>,
) {
    let (resets, cut) = {
        let state = state.borrow();
        (state.resets, state.cut)
    };
    let connected = if cut { None } else { TcpStream::connect(server).await.ok() };
    let Some(mut server) = connected else {
        let _ = client.set_zero_linger();
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    counts.open.fetch_add(1, Ordering::AcqRel);
    let _open = Open(&counts);
    let pass = pass(&mut client, &mut server, state.clone(), &counts);
    let reset = tokio::select! {
        () = pass => false,
        reset = state.wait_for(|state| state.resets != resets) => reset.is_ok(),
    };
    if reset {
        let _ = (client.set_zero_linger(), server.set_zero_linger());
    }
}

struct Open<'a>(&'a Counts);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

async fn pass(
    client: &mut TcpStream,
    server: &mut TcpStream,
    mut state: watch::Receiver<State>,
    counts: &Counts,
) {
    handshake(client, server, &mut state, counts).await;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    // An error is a connection that is over as a whole.
    let _ = tokio::try_join!(
        one_way(from_client, to_server, Direction::ToServer, state.clone()),
        one_way(from_server, to_client, Direction::ToClient, state.clone()),
    );
}

/// Holds the server's answer back where that is asked for: the client has chosen its credentials once it has sent its first
/// packet.
async fn handshake(
    client: &mut TcpStream,
    server: &mut TcpStream,
    state: &mut watch::Receiver<State>,
    counts: &Counts,
) {
    let (holds, delay) = {
        let state = state.borrow();
        (state.holds_new, state.handshake)
    };
    if holds || !delay.is_zero() {
        until_credentials_are_sent(client, server).await;
    }
    if holds {
        let _ = state.wait_for(|state| !state.holds).await;
    }
    if !delay.is_zero() {
        counts.delayed.fetch_add(1, Ordering::AcqRel);
        sleep_until(Instant::now() + delay).await;
    }
}

/// In MariaDB the server speaks first, and the client's first packet is its answer.
async fn until_credentials_are_sent(client: &mut TcpStream, server: &mut TcpStream) {
    let (mut first, mut greeting) = ([0; 8], [0; 512]);
    loop {
        tokio::select! {
            said = client.peek(&mut first) => {
                if said.map_or(true, |length| length == 0 || length == first.len()) {
                    return;
                }
            }
            greeted = server.read(&mut greeting) => {
                let length = greeted.unwrap_or_default();
                if length == 0 || client.write_all(&greeting[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Passes on what is said in one direction, and its end.
async fn one_way(
    from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    direction: Direction,
    state: watch::Receiver<State>,
) -> Result<(), Over> {
    let before = state.borrow().half_closed[direction as usize];
    let mut half_closed = state.clone();
    let (queue, under_way) = mpsc::channel(UNDER_WAY);
    let outcome = tokio::select! {
        closed = half_closed.wait_for(|state| state.half_closed[direction as usize] != before) => {
            closed.map(drop).map_err(|_| Over)
        }
        passed = async {
            tokio::try_join!(read(from, queue, state.clone()), write(under_way, &mut to, direction, state))
        } => passed.map(drop),
    };
    outcome?;
    to.shutdown().await.map_err(|_| Over)
}

/// Notes when each chunk is due at the other end.
async fn read(
    mut from: impl AsyncRead + Unpin,
    queue: mpsc::Sender<(Instant, Vec<u8>)>,
    state: watch::Receiver<State>,
) -> Result<(), Over> {
    let mut latest = Instant::now();
    loop {
        let mut chunk = vec![0; CHUNK];
        let length = from.read(&mut chunk).await.map_err(|_| Over)?;
        if length == 0 {
            return Ok(());
        }
        chunk.truncate(length);
        let delay = state.borrow().delay();
        latest = latest.max(Instant::now() + delay);
        queue.send((latest, chunk)).await.map_err(|_| Over)?;
    }
}

async fn write(
    mut under_way: mpsc::Receiver<(Instant, Vec<u8>)>,
    mut to: impl AsyncWrite + Unpin,
    direction: Direction,
    mut state: watch::Receiver<State>,
) -> Result<(), Over> {
    let mut allowance = Allowance::default();
    while let Some((due, chunk)) = under_way.recv().await {
        sleep_until(due).await;
        let mut chunk = chunk.as_slice();
        while !chunk.is_empty() {
            let now = state.wait_for(|state| !state.silent).await.map_err(|_| Over)?.clone();
            // A twentieth of a second's worth at a time.
            let most = now.bandwidth.map_or(CHUNK, |bandwidth| bandwidth.get().div_ceil(20) as usize);
            let (piece, rest) = chunk.split_at(most.min(chunk.len()));
            chunk = rest;
            send(&mut to, piece, direction, &now, &mut allowance).await?;
            if let Some(bandwidth) = now.bandwidth {
                let takes = Duration::from_secs_f64(piece.len() as f64 / f64::from(bandwidth.get()));
                sleep_until(Instant::now() + takes).await;
            }
        }
    }
    Ok(())
}

/// Sends as much of a piece as the connection may still have, as it is or as noise.
async fn send(
    to: &mut (impl AsyncWrite + Unpin),
    piece: &[u8],
    direction: Direction,
    now: &State,
    allowance: &mut Allowance,
) -> Result<(), Over> {
    if direction == Direction::ToServer {
        return to.write_all(piece).await.map_err(|_| Over);
    }
    let allowed = allowance.take(now, piece.len());
    let mut said = piece[..allowed].to_vec();
    if now.garbled {
        said.fill_with(|| fastrand::u8(..));
    }
    to.write_all(&said).await.map_err(|_| Over)?;
    if allowed == piece.len() {
        return Ok(());
    }
    let _ = to.shutdown().await;
    Err(Over)
}

/// How much of what the server says a connection may still have.
#[derive(Default)]
struct Allowance {
    /// When it was set, by how often that had been done.
    set: u64,
    rest: Option<u64>,
}

impl Allowance {
    /// How many of so many bytes may pass.
    fn take(&mut self, now: &State, bytes: usize) -> usize {
        if self.set != now.rests {
            (self.set, self.rest) = (now.rests, now.rest);
        }
        let Some(rest) = &mut self.rest else { return bytes };
        let allowed = usize::try_from(*rest).map_or(bytes, |rest| rest.min(bytes));
        *rest -= allowed as u64;
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowance_is_for_each_connection_and_each_time_it_is_set() {
        let mut state = State { rest: Some(5), rests: 1, ..State::default() };
        let mut allowance = Allowance::default();
        assert_eq!(
            [allowance.take(&state, 3), allowance.take(&state, 3), allowance.take(&state, 3)],
            [3, 2, 0]
        );
        state = State::after(&state);
        assert_eq!(allowance.take(&state, 3), 3);
        state.rest = Some(0);
        state.rests += 1;
        assert_eq!(allowance.take(&state, 3), 0);
    }
}
