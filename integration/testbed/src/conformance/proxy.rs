//! Between a pool and the server, to hold handshakes back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::{Failure, Target, stage::let_pass};

/// Passes everything on, and can hold back what is said on new connections.
pub(super) struct Proxy {
    target: Target,
    hold: Arc<Hold>,
    delay: Arc<Delay>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub(super) async fn to(server: &Target) -> Result<Self, Failure> {
        let broken = |error: std::io::Error| Failure(format!("the proxy: {error}"));
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(broken)?;
        let port = listener.local_addr().map_err(broken)?.port();
        let target = Target { host: "127.0.0.1".to_owned(), port, database: server.database.clone() };
        let (hold, delay) = (Arc::<Hold>::default(), Arc::<Delay>::default());
        let (holds, delays) = (Arc::clone(&hold), Arc::clone(&delay));
        let server = (server.host.clone(), server.port);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, server.clone(), Arc::clone(&holds), Arc::clone(&delays)));
            }
        });
        Ok(Self { target, hold, delay, task })
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// Holds back every connection made from now on until [`release`](Self::release).
    pub(super) fn hold(&self) {
        self.hold.on.store(true, Ordering::Release);
        self.hold.new_ones.store(true, Ordering::Release);
    }

    /// Lets new connections pass, and goes on holding back those that are held.
    pub(super) fn hold_no_more(&self) {
        self.hold.new_ones.store(false, Ordering::Release);
    }

    /// Holds back every connection made from now on for so long.
    pub(super) fn delay(&self, handshake: Duration) {
        let millis = u64::try_from(handshake.as_millis()).unwrap_or(u64::MAX);
        self.delay.millis.store(millis, Ordering::Release);
    }

    /// How many connections were delayed.
    pub(super) fn delayed(&self) -> usize {
        self.delay.connections.load(Ordering::Acquire)
    }

    /// Lets what was held back go on, and what comes later pass.
    pub(super) fn release(&self) {
        self.hold_no_more();
        self.hold.on.store(false, Ordering::Release);
    }
}

#[derive(Default)]
struct Hold {
    on: AtomicBool,
    new_ones: AtomicBool,
}

#[derive(Default)]
struct Delay {
    millis: AtomicU64,
    connections: AtomicUsize,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The client has chosen its credentials once it has sent its first packet; what is held back is the server's answer.
async fn pass(mut client: TcpStream, server: (String, u16), hold: Arc<Hold>, delay: Arc<Delay>) {
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    if hold.new_ones.load(Ordering::Acquire) {
        until_credentials_are_sent(&mut client, &mut server).await;
        while hold.on.load(Ordering::Acquire) {
            let_pass(Duration::from_millis(5)).await;
        }
    }
    let millis = delay.millis.load(Ordering::Acquire);
    if millis > 0 {
        delay.connections.fetch_add(1, Ordering::AcqRel);
        let_pass(Duration::from_millis(millis)).await;
    }
    let _ = copy_bidirectional(&mut client, &mut server).await;
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
