//! A connection of the generator: HTTP/1.1 on a socket of its own, with TLS or without.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use super::answer::{self, Answer, Head, Malformed};

/// Room for an answer before it grows: more than a batch of 25 items takes.
const ROOM: usize = 64 << 10;

/// The longest answer, head included.
const MAX_ANSWER: usize = 64 << 20;

/// Where requests go.
#[derive(Clone)]
pub(crate) struct Destination {
    pub(crate) address: SocketAddr,
    /// The address to come from, if that matters.
    pub(crate) own: Option<IpAddr>,
    pub(crate) tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error("cannot connect to {0}: {1}")]
    Connect(SocketAddr, io::Error),
    #[error("TLS with {0} fails: {1}")]
    Tls(SocketAddr, io::Error),
    #[error("the connection broke: {0}")]
    Lost(#[from] io::Error),
    #[error("the server closed the connection before the whole answer had come")]
    Closed,
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the answer is longer than 64 MiB")]
    TooLong,
}

/// A byte stream, encrypted or not.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection that is opened when it is needed, and kept.
pub(crate) struct Connection {
    to: Destination,
    stream: Option<Box<dyn Stream>>,
    /// Received bytes; those from `filled` on are free.
    received: Vec<u8>,
    filled: usize,
}

impl Destination {
    pub(crate) fn plain(address: SocketAddr) -> Self {
        Self {
            address,
            own: None,
            tls: None,
        }
    }

    /// The same for who comes from an address of his own.
    pub(crate) fn coming_from(self, own: IpAddr) -> Self {
        let own = Some(own);
        Self { own, ..self }
    }

    /// A new connection, its TLS handshake done.
    pub(crate) async fn connect(&self) -> Result<Box<dyn Stream>, Broken> {
        let connect = |error| Broken::Connect(self.address, error);
        let stream = self.connected().await.map_err(connect)?;
        stream.set_nodelay(true).map_err(connect)?;
        let Some((config, name)) = &self.tls else {
            return Ok(Box::new(stream));
        };
        let connector = TlsConnector::from(Arc::clone(config));
        let stream = connector.connect(name.clone(), stream).await;
        Ok(Box::new(
            stream.map_err(|error| Broken::Tls(self.address, error))?,
        ))
    }

    async fn connected(&self) -> io::Result<TcpStream> {
        let Some(own) = self.own else {
            return TcpStream::connect(self.address).await;
        };
        let socket = match own {
            IpAddr::V4(_) => TcpSocket::new_v4()?,
            IpAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // The ports of connections that have ended may be had again.
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::new(own, 0))?;
        socket.connect(self.address).await
    }
}

impl Connection {
    pub(crate) fn new(to: Destination) -> Self {
        Self {
            to,
            stream: None,
            received: vec![0; ROOM],
            filled: 0,
        }
    }

    /// Ends it, whatever is under way; it is opened again when it is needed.
    pub(crate) fn close(&mut self) {
        self.stream = None;
    }

    /// Sends a whole request and receives its answer. A server may close a kept connection at any time: one that is found
    /// closed before a byte of the answer came is replaced, once.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Result<Answer<'_>, Broken> {
        let exchanged = match self.exchange(request).await {
            Err(Broken::Closed | Broken::Lost(_)) if self.filled == 0 && self.stream.is_some() => {
                self.stream = None;
                self.exchange(request).await
            }
            exchanged => exchanged,
        };
        if !matches!(exchanged, Ok((Head { closes: false, .. }, _))) {
            self.stream = None;
        }
        let (head, body) = exchanged?;
        let body = &self.received[body];
        Ok(Answer { head, body })
    }

    /// What came lies in `received` then. On a new connection that broke `stream` is not kept, so that only an old one is
    /// tried again.
    async fn exchange(&mut self, request: &[u8]) -> Result<(Head, Range<usize>), Broken> {
        self.filled = 0;
        let is_new = self.stream.is_none();
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.to.connect().await?,
        };
        let exchanged = receive(&mut stream, request, &mut self.received, &mut self.filled).await;
        if exchanged.is_ok() || !is_new {
            self.stream = Some(stream);
        }
        exchanged
    }
}

async fn receive(
    stream: &mut Box<dyn Stream>,
    request: &[u8],
    received: &mut Vec<u8>,
    filled: &mut usize,
) -> Result<(Head, Range<usize>), Broken> {
    stream.write_all(request).await?;
    stream.flush().await?;
    loop {
        match stream.read(&mut received[*filled..]).await? {
            0 => return Err(Broken::Closed),
            count => *filled += count,
        }
        if let Some(whole) = answer::parse(&received[..*filled])? {
            return Ok(whole);
        }
        if *filled == received.len() {
            if received.len() >= MAX_ANSWER {
                return Err(Broken::TooLong);
            }
            received.resize(received.len() * 2, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]";

    #[tokio::test]
    async fn a_kept_connection_that_was_closed_meanwhile_is_replaced() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.read_u8().await.unwrap();
                stream.write_all(ANSWER).await.unwrap();
            }
        });
        let mut connection = Connection::new(Destination::plain(address));
        for _ in 0..2 {
            let answer = connection.ask(b"x").await.unwrap();
            assert_eq!((answer.head.status, answer.body), (200, &b"[]"[..]));
        }
        server.await.unwrap();
        let third = connection.ask(b"x").await;
        assert!(matches!(third, Err(Broken::Connect(..))));
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_is_not_asked_for_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            for answer in [ANSWER, &ANSWER[..20]] {
                stream.read_u8().await.unwrap();
                stream.write_all(answer).await.unwrap();
            }
        });
        let mut connection = Connection::new(Destination::plain(address));
        assert!(connection.ask(b"x").await.is_ok());
        assert!(matches!(connection.ask(b"x").await, Err(Broken::Closed)));
        server.await.unwrap();
    }
}
