//! One HTTP/1.1 connection as bytes, seen from either end: nothing is normalised, so that a test sees what was sent.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::soon;

/// The end of a header.
const BLANK_LINE: &[u8] = b"\r\n\r\n";

/// A connection and what was read ahead of it.
pub(crate) struct Wire {
    stream: Stream,
    buffer: Vec<u8>,
}

/// What carries the bytes.
pub(crate) enum Stream {
    /// TCP.
    Plain(TcpStream),
    /// TLS over TCP, at the server's end.
    Tls(Box<TlsStream<TcpStream>>),
    /// TLS over TCP, at the client's end.
    TlsClient(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

/// A piece of a chunked body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Chunk {
    /// Its data, without the framing.
    Data(Vec<u8>),
    /// The last one, with the lines of the trailer section.
    Last(Vec<String>),
}

impl Wire {
    /// A connection of which nothing was read yet.
    pub(crate) fn new(stream: Stream) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    /// Sends exactly these bytes.
    pub(crate) async fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let stream = self.stream();
        let sent = async {
            stream.write_all(bytes).await?;
            stream.flush().await
        };
        soon("room to send", sent).await
    }

    /// Sends exactly these bytes, which must be taken.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let sent = self.try_send(bytes.as_ref()).await;
        sent.expect("the other end takes what is sent");
    }

    /// Says that nothing more will be sent.
    pub(crate) async fn end(&mut self) {
        self.stream()
            .shutdown()
            .await
            .expect("the other end is still there");
    }

    /// Closes the connection with a reset.
    pub(crate) fn reset(self) {
        let stream = match &self.stream {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => stream.get_ref().0,
            Stream::TlsClient(stream) => stream.get_ref().0,
        };
        stream.set_zero_linger().expect("a socket can be reset");
    }

    /// The TLS session, if there is one.
    pub(crate) fn tls(&self) -> Option<&rustls::ServerConnection> {
        match &self.stream {
            Stream::Plain(_) | Stream::TlsClient(_) => None,
            Stream::Tls(stream) => Some(stream.get_ref().1),
        }
    }

    /// Reads a header, to the end of its blank line; `None` if the connection ends before its first byte.
    pub(crate) async fn head(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let end = find(&self.buffer, BLANK_LINE);
            if let Some(end) = end {
                return Ok(Some(self.take(end + BLANK_LINE.len())));
            }
            if self.fill().await? == 0 {
                return match self.buffer.is_empty() {
                    true => Ok(None),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
        }
    }

    /// Reads this many bytes.
    pub(crate) async fn exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < count {
            if self.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.take(count))
    }

    /// Reads at least one byte and at most `limit`; none at the end of the connection.
    pub(crate) async fn some(&mut self, limit: usize) -> io::Result<Vec<u8>> {
        if self.buffer.is_empty() {
            self.fill().await?;
        }
        Ok(self.take(limit.min(self.buffer.len())))
    }

    /// Reads one chunk of a chunked body.
    pub(crate) async fn chunk(&mut self) -> io::Result<Chunk> {
        let size = self.line().await?;
        let size = size.split(';').next().expect("a split has a first part");
        let size = usize::from_str_radix(size, 16).expect("a chunk size is hexadecimal");
        if size > 0 {
            let data = self.exactly(size).await?;
            assert_eq!(self.line().await?, "", "a chunk ends with a line break");
            return Ok(Chunk::Data(data));
        }
        let mut trailers = Vec::new();
        loop {
            match self.line().await? {
                line if line.is_empty() => return Ok(Chunk::Last(trailers)),
                line => trailers.push(line),
            }
        }
    }

    /// Waits until something has come, or the connection has ended.
    pub(crate) async fn comes(&mut self) {
        if self.buffer.is_empty() {
            let _ = self.fill().await;
        }
    }

    /// Reads to the end of the connection, and tells whether that was an orderly one.
    pub(crate) async fn rest(&mut self) -> (Vec<u8>, bool) {
        let end = async {
            loop {
                match self.fill().await {
                    Ok(0) => break true,
                    Ok(_) => {}
                    Err(_) => break false,
                }
            }
        };
        let clean = soon("the end of the connection", end).await;
        (std::mem::take(&mut self.buffer), clean)
    }

    /// Waits for the other end to close without another byte.
    pub(crate) async fn closed(&mut self) {
        let (rest, _) = self.rest().await;
        assert_eq!(String::from_utf8_lossy(&rest), "", "nothing more is sent");
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                let line = self.take(end + 2);
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if self.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn fill(&mut self) -> io::Result<usize> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.read_buf(&mut self.buffer).await,
            Stream::Tls(stream) => stream.read_buf(&mut self.buffer).await,
            Stream::TlsClient(stream) => stream.read_buf(&mut self.buffer).await,
        }
    }

    fn stream(&mut self) -> &mut (dyn Duplex + Send) {
        match &mut self.stream {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => stream.as_mut(),
            Stream::TlsClient(stream) => stream.as_mut(),
        }
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let rest = self.buffer.split_off(count);
        std::mem::replace(&mut self.buffer, rest)
    }
}

trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|part| part == wanted)
}

/// A header, read as little as possible.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// Request line or status line.
    pub(crate) first_line: Vec<u8>,
    /// Names as they are written, and values, in their order.
    pub(crate) fields: Vec<(String, Vec<u8>)>,
}

impl Head {
    /// Takes a header apart, its blank line included.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let bytes = bytes.strip_suffix(BLANK_LINE).expect("a blank line");
        let mut lines = bytes
            .split(|&byte| byte == b'\n')
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let first_line = lines.next().expect("a first line").to_vec();
        let fields = lines
            .map(|line| {
                let colon = line.iter().position(|&byte| byte == b':').expect("a colon");
                let name = String::from_utf8_lossy(&line[..colon]).into_owned();
                (name, line[colon + 1..].trim_ascii().to_vec())
            })
            .collect();
        Self { first_line, fields }
    }

    /// The values of a field, whatever the case of its name.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let named = |field: &&(String, Vec<u8>)| field.0.eq_ignore_ascii_case(name);
        self.fields
            .iter()
            .filter(named)
            .map(|(_, value)| std::str::from_utf8(value).expect("the value is text"))
            .collect()
    }

    /// The value of a field that may be there once.
    pub(crate) fn one(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() <= 1, "{name} is there once: {all:?}");
        all.first().copied()
    }

    /// The length that is announced.
    pub(crate) fn length(&self) -> Option<usize> {
        let length = self.one("content-length")?;
        Some(length.parse().expect("a length is a number"))
    }

    /// Whether the body comes in chunks.
    pub(crate) fn is_chunked(&self) -> bool {
        self.one("transfer-encoding") == Some("chunked")
    }
}
