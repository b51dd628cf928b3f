//! As much of AMQP 0-9-1 as a test needs, so that nothing has to be linked or installed.
//!
//! <https://www.rabbitmq.com/amqp-0-9-1-protocol>

use std::io;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufStream},
    net::TcpStream,
};

use crate::error::{Error, Result, chain};

/// A connection that has logged in, and has no channel open.
#[derive(Debug)]
pub(super) struct Connection {
    stream: BufStream<TcpStream>,
}

/// A method, by its class and its number.
type Method = (u16, u16);

const START: Method = (10, 10);
const START_OK: Method = (10, 11);
const TUNE: Method = (10, 30);
const TUNE_OK: Method = (10, 31);
const OPEN: Method = (10, 40);
const OPEN_OK: Method = (10, 41);
const CLOSE: Method = (10, 50);
const CLOSE_OK: Method = (10, 51);
const CHANNEL_OPEN: Method = (20, 10);
const CHANNEL_OPEN_OK: Method = (20, 11);
const CHANNEL_CLOSE: Method = (20, 40);
const CHANNEL_CLOSE_OK: Method = (20, 41);
const DECLARE: Method = (50, 10);
const DECLARE_OK: Method = (50, 11);

const METHOD: u8 = 1;
const FRAME_END: u8 = 0xce;
const DURABLE: u8 = 2;

/// The channel of everything that is not about the connection.
const CHANNEL: u16 = 1;

impl Connection {
    pub(super) async fn open(port: u16, user: &str, password: &str, virtual_host: &str) -> Result<Self> {
        let request = format!("a login of {user}");
        let lost = |error: io::Error| lost(&request, &error);
        let stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(lost)?;
        let mut connection = Self { stream: BufStream::new(stream) };
        connection.stream.write_all(b"AMQP\x00\x00\x09\x01").await.map_err(lost)?;
        connection.stream.flush().await.map_err(lost)?;
        connection.receive(&request, START).await?;
        // Without this, a server that refuses us would say nothing and hang up.
        let told = [&short("authentication_failure_close"), &b"t\x01"[..]].concat();
        let properties = long(&[&short("capabilities"), &b"F"[..], &long(&told)].concat());
        let proof = long(format!("\0{user}\0{password}").as_bytes());
        let answer = [properties, short("PLAIN"), proof, short("en_US")].concat();
        connection.send(&request, 0, START_OK, &answer).await?;
        let mut limits = connection.receive(&request, TUNE).await?;
        // Without heartbeats, which nobody would send.
        if let Some(heartbeat) = limits.last_chunk_mut::<2>() {
            *heartbeat = [0, 0];
        }
        connection.send(&request, 0, TUNE_OK, &limits).await?;
        connection.send(&request, 0, OPEN, &[short(virtual_host), vec![0, 0]].concat()).await?;
        connection.receive(&request, OPEN_OK).await?;
        Ok(connection)
    }

    /// Declares a durable queue, and returns how many messages are in it.
    pub(super) async fn declare(&mut self, queue: &str) -> Result<u32> {
        let request = format!("declare {queue}");
        self.send(&request, CHANNEL, CHANNEL_OPEN, &short("")).await?;
        self.receive(&request, CHANNEL_OPEN_OK).await?;
        let arguments = [vec![0, 0], short(queue), vec![DURABLE], long(&[])].concat();
        self.send(&request, CHANNEL, DECLARE, &arguments).await?;
        let declared = self.receive(&request, DECLARE_OK).await?;
        self.send(&request, CHANNEL, CHANNEL_CLOSE, &[vec![0, 200], short(""), vec![0; 4]].concat()).await?;
        self.receive(&request, CHANNEL_CLOSE_OK).await?;
        // After the name: how many messages, and how many consumers.
        let messages = declared.len().checked_sub(8).and_then(|at| declared[at..].first_chunk());
        messages.map(|&bytes| u32::from_be_bytes(bytes)).ok_or_else(|| garbled(&request))
    }

    async fn send(&mut self, request: &str, channel: u16, method: Method, arguments: &[u8]) -> Result<()> {
        let (class, number) = method;
        let payload = [&class.to_be_bytes(), &number.to_be_bytes(), arguments].concat();
        let frame = [&[METHOD], &channel.to_be_bytes()[..], &long(&payload), &[FRAME_END]].concat();
        let sent = async {
            self.stream.write_all(&frame).await?;
            self.stream.flush().await
        };
        sent.await.map_err(|error| lost(request, &error))
    }

    /// Reads a method's arguments; one that closes the connection or the channel is an error.
    async fn receive(&mut self, request: &str, wanted: Method) -> Result<Vec<u8>> {
        let (method, arguments) = self.method().await.map_err(|error| lost(request, &error))?;
        let (channel, closed) = match method {
            CLOSE => (0, CLOSE_OK),
            CHANNEL_CLOSE => (CHANNEL, CHANNEL_CLOSE_OK),
            method if method == wanted => return Ok(arguments),
            _ => return Err(garbled(request)),
        };
        // It may be gone already.
        let _ = self.send(request, channel, closed, &[]).await;
        Err(refused(request, &arguments).unwrap_or_else(|| garbled(request)))
    }

    async fn method(&mut self) -> io::Result<(Method, Vec<u8>)> {
        let mut head = [0; 7];
        self.stream.read_exact(&mut head).await?;
        let [kind, _, _, size @ ..] = head;
        let mut payload = vec![0; usize::try_from(u32::from_be_bytes(size)).unwrap_or(0)];
        self.stream.read_exact(&mut payload).await?;
        let end = self.stream.read_u8().await?;
        match *payload {
            [a, b, c, d, ref arguments @ ..] if kind == METHOD && end == FRAME_END => {
                Ok(((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])), arguments.to_owned()))
            }
            _ => Err(io::Error::other("a frame that this client does not understand")),
        }
    }
}

fn short(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
    [&[length], &text.as_bytes()[..length.into()]].concat()
}

fn long(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes(), bytes].concat()
}

/// Why something was closed: a number, and a sentence.
fn refused(request: &str, arguments: &[u8]) -> Option<Error> {
    let (code, rest) = arguments.split_first_chunk()?;
    let (&length, rest) = rest.split_first()?;
    let body = String::from_utf8_lossy(rest.get(..length.into())?).into_owned();
    let status = u16::from_be_bytes(*code).to_string();
    Some(Error::Answer { server: "RabbitMQ", request: request.into(), status, body })
}

fn lost(request: &str, error: &io::Error) -> Error {
    Error::Unanswered { request: format!("RabbitMQ: {request}"), reason: chain(error) }
}

fn garbled(request: &str) -> Error {
    lost(request, &io::Error::other("an answer that this client does not understand"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_its_length_before_it() {
        assert_eq!(short("ab"), [2, b'a', b'b']);
        assert_eq!(long(b"ab"), [0, 0, 0, 2, b'a', b'b']);
        assert_eq!(short(&"a".repeat(300)).len(), 256);
    }

    #[test]
    fn a_refusal_is_a_number_and_a_sentence() {
        let refused = refused("a login", &[&[1, 147], &short("no")[..], &[0; 4]].concat()).unwrap();
        assert_eq!(refused.to_string(), "RabbitMQ answered 403 to a login: no");
        assert!(super::refused("a login", &[1, 147, 9, b'n']).is_none());
    }
}
