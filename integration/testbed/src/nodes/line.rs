//! Between processes, whose network is everybody's: each connection passes here, where it can be held back.

use std::{
    io,
    net::Ipv4Addr,
    sync::{Mutex, PoisonError},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::{JoinHandle, JoinSet},
};

use super::switch::{Party, Switch};
use crate::{
    backstage::Backstage,
    error::{Error, Result},
    ports::Port,
};

/// A port that leads to another one.
#[derive(Debug)]
pub(super) struct Line {
    port: Port,
    way: Way,
    switch: Switch,
    backstage: Backstage,
    task: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Clone, Copy, Debug)]
struct Way {
    port: u16,
    target: u16,
    to: Party,
    /// Who comes here, where that is known; otherwise they are nodes, and it is looked up which.
    from: Option<Party>,
}

impl Line {
    /// A line for clients.
    pub(super) fn for_clients(
        switch: &Switch,
        port: Port,
        target: u16,
        node: usize,
        backstage: &Backstage,
    ) -> Self {
        Self::new(switch, port, target, (Some(Party::Client), Party::Node(node)), backstage)
    }

    /// A line for nodes.
    pub(super) fn for_nodes(
        switch: &Switch,
        port: Port,
        target: u16,
        to: Party,
        backstage: &Backstage,
    ) -> Self {
        Self::new(switch, port, target, (None, to), backstage)
    }

    fn new(
        switch: &Switch,
        port: Port,
        target: u16,
        (from, to): (Option<Party>, Party),
        backstage: &Backstage,
    ) -> Self {
        let way = Way { port: port.number(), target, to, from };
        Self { port, way, switch: switch.clone(), backstage: backstage.clone(), task: Mutex::default() }
    }

    pub(super) fn port(&self) -> u16 {
        self.port.number()
    }

    /// Accepts connections, if it does not yet.
    pub(super) fn open(&self) -> Result<()> {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if task.is_some() {
            return Ok(());
        }
        let no_listener = || Error::system("could not listen in front of a node");
        let listener =
            std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, self.way.port)).map_err(no_listener())?;
        listener.set_nonblocking(true).map_err(no_listener())?;
        let _runtime = self.backstage.handle().enter();
        let listener = TcpListener::from_std(listener).map_err(no_listener())?;
        *task = Some(self.backstage.spawn(accept(listener, self.way, self.switch.clone())));
        Ok(())
    }

    /// Refuses connections from here on, and closes those that there are.
    pub(super) async fn close(&self) {
        if let Some(task) = self.release() {
            let _ = task.await;
        }
    }

    /// As [`Line::close`], without waiting for it.
    pub(super) fn release(&self) -> Option<JoinHandle<()>> {
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        task.inspect(JoinHandle::abort)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.release();
    }
}

async fn accept(listener: TcpListener, way: Way, switch: Switch) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(pass(stream, way, switch.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Passes on what both ends say. An error is an end that went away, and closes the other.
async fn pass(caller: TcpStream, way: Way, switch: Switch) -> Option<()> {
    let from = match way.from {
        Some(from) => from,
        None => who(&caller, way, &switch).await?,
    };
    let pair = (from, way.to);
    switch.passable(pair).await;
    let called = TcpStream::connect((Ipv4Addr::LOCALHOST, way.target)).await.ok()?;
    for stream in [&caller, &called] {
        stream.set_nodelay(true).ok()?;
    }
    let ((caller_says, caller_hears), (called_says, called_hears)) =
        (caller.into_split(), called.into_split());
    let there = copy(caller_says, called_hears, pair, &switch);
    let back = copy(called_says, caller_hears, pair, &switch);
    tokio::try_join!(there, back).ok().map(drop)
}

/// The node that made a connection. Where that cannot be seen, on other systems than Linux, nobody can be cut off.
async fn who(caller: &TcpStream, way: Way, switch: &Switch) -> Option<Party> {
    if !cfg!(target_os = "linux") {
        return Some(Party::Client);
    }
    switch.node(caller.peer_addr().ok()?.port(), way.port).await
}

async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    pair: (Party, Party),
    switch: &Switch,
) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 14];
    loop {
        let read = from.read(&mut buffer).await?;
        // Nor does anybody who is cut off learn that the other end has closed.
        switch.passable(pair).await;
        match read {
            0 => return to.shutdown().await,
            read => to.write_all(&buffer[..read]).await?,
        }
    }
}
