//! As much of Redis's protocol as a test needs, so that nothing has to be linked or installed.
//!
//! <https://redis.io/docs/latest/develop/reference/protocol-spec>

use std::io;

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream},
    net::TcpStream,
};

use crate::error::{Error, Result, chain};

/// A connection that has logged in.
#[derive(Debug)]
pub(super) struct Connection {
    stream: BufStream<TcpStream>,
}

impl Connection {
    pub(super) async fn open(port: u16, user: &str, password: &str) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await;
        let stream = stream.map_err(|error| lost(&format!("a login of {user}"), &error))?;
        let mut connection = Self { stream: BufStream::new(stream) };
        connection.command(&["AUTH", user, password]).await?;
        Ok(connection)
    }

    pub(super) async fn command(&mut self, words: &[&str]) -> Result<Value> {
        // Not all of it: the rest may be a password.
        let request = words.first().copied().unwrap_or_default();
        let answer = async {
            self.send(words).await?;
            self.receive().await
        };
        match answer.await.map_err(|error| lost(request, &error))? {
            Ok(value) => Ok(value),
            Err(refusal) => {
                let (status, body) = refusal.split_once(' ').unwrap_or((&refusal, ""));
                Err(Error::Answer {
                    server: "Redis",
                    request: request.into(),
                    status: status.into(),
                    body: body.into(),
                })
            }
        }
    }

    async fn send(&mut self, words: &[&str]) -> io::Result<()> {
        self.stream.write_all(format!("*{}\r\n", words.len()).as_bytes()).await?;
        for word in words {
            self.stream.write_all(format!("${}\r\n{word}\r\n", word.len()).as_bytes()).await?;
        }
        self.stream.flush().await
    }

    /// Reads a value, or what Redis said instead.
    async fn receive(&mut self) -> io::Result<Result<Value, String>> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let garbled = || io::Error::other(format!("an answer that this client does not understand: {line}"));
        let line = line.trim_end();
        let (kind, rest) = line.split_at_checked(1).ok_or_else(garbled)?;
        let number = || rest.parse::<i64>().map_err(|_| garbled());
        Ok(Ok(match kind {
            "-" => return Ok(Err(rest.into())),
            "+" => rest.into(),
            ":" => number()?.into(),
            "$" => match usize::try_from(number()?) {
                Ok(length) => {
                    let mut text = vec![0; length + 2];
                    self.stream.read_exact(&mut text).await?;
                    String::from_utf8_lossy(&text[..length]).into()
                }
                Err(_) => Value::Null,
            },
            "*" => {
                let mut values = Vec::new();
                for _ in 0..number()? {
                    match Box::pin(self.receive()).await? {
                        Ok(value) => values.push(value),
                        Err(refusal) => return Ok(Err(refusal)),
                    }
                }
                values.into()
            }
            _ => return Err(garbled()),
        }))
    }
}

fn lost(request: &str, error: &io::Error) -> Error {
    Error::Unanswered { request: format!("Redis: {request}"), reason: chain(error) }
}
