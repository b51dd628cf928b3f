//! A proxy between the pool and the server, which delays handshakes, or logs in as somebody else.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

use super::nap;

pub(crate) struct Proxy {
    pub(crate) port: u16,
    delay: Arc<AtomicU64>,
}

impl Proxy {
    /// `login` replaces the user's name in each handshake.
    pub(crate) async fn start(server: u16, login: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let delay = Arc::new(AtomicU64::new(0));
        let shared = Arc::clone(&delay);
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(client, server, Arc::clone(&shared), login));
            }
        });
        Self { port, delay }
    }

    /// How long the server's answers to a handshake are held back.
    pub(crate) fn delay(&self, delay: Duration) {
        self.delay.store(u64::try_from(delay.as_millis()).unwrap(), Ordering::Relaxed);
    }
}

async fn serve(mut client: TcpStream, server: u16, delay: Arc<AtomicU64>, login: Option<&str>) {
    let mut server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
    let Some(mut startup) = packet(&mut client).await else { return };
    if let Some(login) = login {
        startup = with_login(&startup, login);
    }
    let length = u32::try_from(startup.len() + 4).unwrap();
    server.write_all(&length.to_be_bytes()).await.unwrap();
    server.write_all(&startup).await.unwrap();
    // The name is in the packet already, so what comes after is too late to change it.
    nap(delay.load(Ordering::Relaxed)).await;
    let _ = copy_bidirectional(&mut client, &mut server).await;
}

async fn packet(client: &mut TcpStream) -> Option<Vec<u8>> {
    let length = client.read_u32().await.ok()?;
    let mut body = vec![0; length as usize - 4];
    client.read_exact(&mut body).await.ok()?;
    Some(body)
}

/// A protocol version, then names and values, each ended by a zero, and a zero.
fn with_login(startup: &[u8], login: &str) -> Vec<u8> {
    let mut fields: Vec<&[u8]> = startup[4..].split(|byte| *byte == 0).collect();
    let user = fields.iter().step_by(2).position(|name| *name == b"user").unwrap() * 2 + 1;
    fields[user] = login.as_bytes();
    [&startup[..4], &fields.join(&0)].concat()
}
