//! A proxy between the pool and the server, which logs in as somebody else.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

pub(crate) struct Proxy {
    pub(crate) port: u16,
}

impl Proxy {
    /// `login` replaces the user's name in each handshake.
    pub(crate) async fn start(server: u16, login: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(client, server, login));
            }
        });
        Self { port }
    }
}

async fn serve(mut client: TcpStream, server: u16, login: &str) {
    let mut server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
    let Some(startup) = packet(&mut client).await else { return };
    let startup = with_login(&startup, login);
    let length = u32::try_from(startup.len() + 4).unwrap();
    server.write_all(&length.to_be_bytes()).await.unwrap();
    server.write_all(&startup).await.unwrap();
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
