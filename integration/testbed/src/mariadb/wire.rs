//! As much of the protocol of MariaDB and MySQL as a test needs, so that nothing has to be linked or installed.
//!
//! <https://mariadb.com/docs/server/reference/clientserver-protocol>,
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/PAGE_PROTOCOL.html>

use std::{fmt, io, path::PathBuf, sync::Arc};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufStream},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, pki_types::ServerName},
};

use super::proof::{self, CACHING, Next, SHA256};
use crate::error::{Error, Result, chain};

/// Rows of columns as text; `None` is `NULL`.
pub(crate) type Rows = Vec<Vec<Option<String>>>;

/// Where the server listens.
#[derive(Clone)]
pub(crate) enum Address {
    /// A port of the loopback interface.
    Tcp(u16),
    /// The same, with TLS.
    Tls(u16, Arc<ClientConfig>),
    /// A socket of the file system.
    Unix(PathBuf),
}

impl Address {
    /// Whether nobody can listen, so that a password may be sent as it is.
    fn is_private(&self) -> bool {
        !matches!(self, Self::Tcp(_))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(port) => write!(f, "Tcp({port})"),
            Self::Tls(port, _) => write!(f, "Tls({port})"),
            Self::Unix(path) => write!(f, "Unix({})", path.display()),
        }
    }
}

/// A connection that has logged in.
pub(crate) struct Connection {
    /// The server's name, in errors.
    server: &'static str,
    stream: BufStream<Box<dyn Stream>>,
    sequence: u8,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

// What the client can do: name a database, speak the protocol of this century, send a hashed password, send and take
// several statements, and name the way to log in.
const CAPABILITIES: u32 = 0x8 | 0x200 | 0x8000 | 0x1_0000 | 0x2_0000 | 0x8_0000;
const TLS: u32 = 0x800;
const UTF8: u8 = 45;
const NATIVE: &[u8] = b"mysql_native_password";
const QUERY: u8 = 3;
const OK: u8 = 0;
const ERROR: u8 = 0xff;
const END: u8 = 0xfe;
const NULL: u8 = 0xfb;
const MORE_RESULTS: u16 = 8;

impl Connection {
    pub(crate) async fn open(
        server: &'static str,
        address: &Address,
        user: &str,
        password: &str,
        database: &str,
    ) -> Result<Self> {
        let request = format!("a login of {user}");
        let unheard = |error: io::Error| lost(server, &request, &error);
        let stream: Box<dyn Stream> = match address {
            Address::Tcp(port) | Address::Tls(port, _) => {
                Box::new(TcpStream::connect(("127.0.0.1", *port)).await.map_err(unheard)?)
            }
            Address::Unix(path) => Box::new(UnixStream::connect(path).await.map_err(unheard)?),
        };
        let mut connection = Self { server, stream: BufStream::new(stream), sequence: 0 };
        let greeting = connection.receive(&request).await?;
        let scramble = scramble(&greeting).ok_or_else(|| connection.garbled(&request))?;
        let mut capabilities = CAPABILITIES;
        if let Address::Tls(_, config) = address {
            capabilities |= TLS;
            connection = connection.with_tls(&request, &header(capabilities), config).await?;
        }
        let mut answer = header(capabilities);
        answer.extend(user.as_bytes());
        answer.push(0);
        let proof = proof::native(password, &scramble);
        answer.extend([u8::try_from(proof.len()).unwrap_or(0)]);
        answer.extend(proof);
        answer.extend(database.as_bytes());
        answer.push(0);
        answer.extend(NATIVE);
        answer.push(0);
        connection.send(&answer).await.map_err(unheard)?;
        let mut verdict = connection.receive(&request).await?;
        // The server may want the same once more with another scramble, or in another way.
        if let Some(wanted) = verdict.strip_prefix(&[END]) {
            let end = wanted.iter().position(|&byte| byte == 0);
            let (plugin, scramble) = wanted.split_at(end.ok_or_else(|| connection.garbled(&request))?);
            let scramble = scramble.get(1..21).ok_or_else(|| connection.garbled(&request))?.to_owned();
            verdict = match plugin {
                NATIVE => connection.ask(&request, &proof::native(password, &scramble)).await?,
                CACHING => connection.prove(&request, password, &scramble, address).await?,
                // MySQL asks whom it does not know for this, by the name, so that nobody learns who there is.
                SHA256 => connection.show(&request, password, &scramble, address, proof::SHA256_KEY).await?,
                _ => return Err(connection.garbled(&request)),
            };
        }
        match verdict.first() {
            Some(&OK) => Ok(connection),
            _ => Err(connection.garbled(&request)),
        }
    }

    /// Goes on with TLS, once the server knows that.
    async fn with_tls(mut self, request: &str, header: &[u8], config: &Arc<ClientConfig>) -> Result<Self> {
        let server = self.server;
        let unheard = |error: io::Error| lost(server, request, &error);
        self.send(header).await.map_err(unheard)?;
        let name = ServerName::try_from("127.0.0.1").map_err(|error| unheard(io::Error::other(error)))?;
        let connector = TlsConnector::from(config.clone());
        let stream = connector.connect(name, self.stream.into_inner()).await.map_err(unheard)?;
        let stream: Box<dyn Stream> = Box::new(stream);
        Ok(Self { stream: BufStream::new(stream), ..self })
    }

    /// Logs in by `caching_sha2_password`: a user that the server has seen since its start is known by a hash, any other has
    /// to show the password itself, where nobody listens or encrypted for the server.
    async fn prove(
        &mut self,
        request: &str,
        password: &str,
        scramble: &[u8],
        address: &Address,
    ) -> Result<Vec<u8>> {
        let answer = self.ask(request, &proof::caching(password, scramble)).await?;
        match proof::next(&answer) {
            Some(Next::Verdict) => self.receive(request).await,
            Some(Next::Password) => self.show(request, password, scramble, address, proof::CACHING_KEY).await,
            // Such as that there is no password.
            None => Ok(answer),
        }
    }

    /// Shows the password: as it is where nobody listens, else encrypted with the key that the server sends when asked so.
    async fn show(
        &mut self,
        request: &str,
        password: &str,
        scramble: &[u8],
        address: &Address,
        key: u8,
    ) -> Result<Vec<u8>> {
        if address.is_private() || password.is_empty() {
            return self.ask(request, &[password.as_bytes(), &[0]].concat()).await;
        }
        let key = self.ask(request, &[key]).await?;
        let sealed = proof::sealed(password, scramble, &key).ok_or_else(|| self.garbled(request))?;
        self.ask(request, &sealed).await
    }

    /// Sends a packet, and reads the next.
    async fn ask(&mut self, request: &str, payload: &[u8]) -> Result<Vec<u8>> {
        self.send(payload).await.map_err(|error| lost(self.server, request, &error))?;
        self.receive(request).await
    }

    pub(crate) async fn query(&mut self, sql: &str) -> Result<Rows> {
        self.sequence = 0;
        self.send(&[&[QUERY], sql.as_bytes()].concat())
            .await
            .map_err(|error| lost(self.server, sql, &error))?;
        let mut rows = Vec::new();
        while self.result(sql, &mut rows).await? & MORE_RESULTS != 0 {}
        Ok(rows)
    }

    /// Reads one statement's result, and returns the server's status.
    async fn result(&mut self, sql: &str, rows: &mut Rows) -> Result<u16> {
        let server = self.server;
        let garbled = || garbled(server, sql);
        let head = self.receive(sql).await?;
        if head.first() == Some(&OK) {
            let mut fields = Fields(&head[1..]);
            // How many rows were affected, and the last number that was given out.
            fields.number().and_then(|_| fields.number()).ok_or_else(garbled)?;
            return fields.status().ok_or_else(garbled);
        }
        while !ends(&self.receive(sql).await?) {}
        loop {
            let row = self.receive(sql).await?;
            if ends(&row) {
                // A count of warnings comes first.
                return Fields(&row[3..]).status().ok_or_else(garbled);
            }
            let mut fields = Fields(&row);
            let mut columns = Vec::new();
            while !fields.0.is_empty() {
                columns.push(fields.text().ok_or_else(garbled)?);
            }
            rows.push(columns);
        }
    }

    async fn send(&mut self, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes();
        if length[3] != 0 {
            return Err(io::Error::other("more than the 16 MB of one packet"));
        }
        self.stream.write_all(&[length[0], length[1], length[2], self.sequence]).await?;
        self.sequence = self.sequence.wrapping_add(1);
        self.stream.write_all(payload).await?;
        self.stream.flush().await
    }

    /// Reads a packet; one that tells an error is an error.
    async fn receive(&mut self, request: &str) -> Result<Vec<u8>> {
        let server = self.server;
        let lost = |error: io::Error| lost(server, request, &error);
        let mut head = [0; 4];
        self.stream.read_exact(&mut head).await.map_err(lost)?;
        self.sequence = head[3].wrapping_add(1);
        let length = u32::from_le_bytes([head[0], head[1], head[2], 0]);
        let mut payload = vec![0; usize::try_from(length).unwrap_or(0)];
        self.stream.read_exact(&mut payload).await.map_err(lost)?;
        match payload.strip_prefix(&[ERROR]) {
            Some(error) => Err(refused(server, request, error)),
            None => Ok(payload),
        }
    }

    fn garbled(&self, request: &str) -> Error {
        garbled(self.server, request)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

/// What is left to read of a packet.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn number(&mut self) -> Option<usize> {
        let (&first, rest) = self.0.split_first()?;
        let width = match first {
            0xfc => 2,
            0xfd => 3,
            0xfe => 8,
            small => {
                self.0 = rest;
                return Some(small.into());
            }
        };
        let (bytes, rest) = rest.split_at_checked(width)?;
        self.0 = rest;
        let mut number = [0; 8];
        number[..width].copy_from_slice(bytes);
        usize::try_from(u64::from_le_bytes(number)).ok()
    }

    fn text(&mut self) -> Option<Option<String>> {
        if let Some(rest) = self.0.strip_prefix(&[NULL]) {
            self.0 = rest;
            return Some(None);
        }
        let length = self.number()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(Some(String::from_utf8_lossy(text).into_owned()))
    }

    fn status(&mut self) -> Option<u16> {
        self.0.first_chunk().map(|&bytes| u16::from_le_bytes(bytes))
    }
}

/// Whether a packet ends a list; a row that begins alike is longer.
fn ends(packet: &[u8]) -> bool {
    packet.first() == Some(&END) && packet.len() == 5
}

/// The random bytes in a greeting: eight after the server's version and the session's number, twelve after its abilities.
fn scramble(greeting: &[u8]) -> Option<Vec<u8>> {
    let version = greeting.iter().position(|&byte| byte == 0)?;
    let rest = greeting.get(version + 5..)?;
    Some([rest.get(..8)?, rest.get(27..39)?].concat())
}

/// What comes before the user's name, and by itself before TLS.
fn header(capabilities: u32) -> Vec<u8> {
    [&capabilities.to_le_bytes()[..], &[0; 4], &[UTF8], &[0; 23]].concat()
}

/// An error packet: a number, a mark with the SQLSTATE but in the earliest ones, and a sentence.
fn refused(server: &'static str, request: &str, packet: &[u8]) -> Error {
    let number = packet.first_chunk().map_or(0, |&bytes| u16::from_le_bytes(bytes));
    let text = String::from_utf8_lossy(packet.get(2..).unwrap_or_default());
    let body = text.strip_prefix('#').and_then(|text| text.get(5..)).unwrap_or(&text).to_owned();
    Error::Answer { server, request: request.into(), status: number.to_string(), body }
}

fn lost(server: &str, request: &str, error: &io::Error) -> Error {
    Error::Unanswered { request: format!("{server}: {request}"), reason: chain(error) }
}

fn garbled(server: &str, request: &str) -> Error {
    lost(server, request, &io::Error::other("an answer that this client does not understand"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_by_length() {
        let mut fields = Fields(&[1, b'a', NULL, 0, 0xfc, 2, 0, b'b', b'c', 9]);
        assert_eq!(fields.text(), Some(Some("a".into())));
        assert_eq!(fields.text(), Some(None));
        assert_eq!(fields.text(), Some(Some(String::new())));
        assert_eq!(fields.text(), Some(Some("bc".into())));
        assert_eq!(fields.text(), None);
    }
}
