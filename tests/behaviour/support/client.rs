//! A client that sends exactly the bytes it is told to, and shows what came back as it came.

use std::net::SocketAddr;

use tokio::net::{TcpSocket, TcpStream};

use super::soon;
use super::wire::{Chunk, Head, Stream, Wire};

/// One connection to the edge.
pub(crate) struct Client {
    /// For what is not a request and its answer.
    pub(crate) wire: Wire,
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Response {
    /// The status code.
    pub(crate) status: u16,
    /// The words after it.
    pub(crate) reason: String,
    /// The header.
    pub(crate) head: Head,
    /// Status codes of the interim answers before it.
    pub(crate) interim: Vec<u16>,
    /// The body, without its framing.
    pub(crate) body: Vec<u8>,
    /// The lines of the trailer section.
    pub(crate) trailers: Vec<String>,
    /// How the body's end was to be known.
    pub(crate) framing: Framing,
    /// Whether that end came.
    pub(crate) complete: bool,
}

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is no body.
    Bodiless,
    /// By `Content-Length`.
    Length(usize),
    /// By the last chunk.
    Chunked,
    /// By the end of the connection.
    Close,
}

impl Client {
    /// Connects to an edge.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let connected = soon("a connection", TcpStream::connect(address)).await;
        Self::over(connected.expect("the edge accepts connections"))
    }

    /// Connects to an edge from an address of this machine's.
    pub(crate) async fn connect_from(own: &str, address: SocketAddr) -> Self {
        let own = SocketAddr::new(own.parse().expect("an address"), 0);
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(own).expect("loopback");
        let connected = soon("a connection", socket.connect(address)).await;
        Self::over(connected.expect("the edge accepts connections"))
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a socket has options");
        Self {
            wire: Wire::new(Stream::Plain(stream)),
        }
    }

    /// Sends exactly these bytes.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.wire.send(bytes).await;
    }

    /// Sends a request without a body, and reads its answer.
    pub(crate) async fn get(&mut self, target: &str) -> Response {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: vms.local\r\n\r\n"))
            .await;
        self.response().await
    }

    /// Reads the header of the next answer, which may be an interim one; `None` if the connection ends before.
    pub(crate) async fn head(&mut self) -> Option<(u16, Head)> {
        let bytes = soon("an answer", self.wire.head()).await.ok().flatten()?;
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut parsed = httparse::Response::new(&mut fields);
        let status = parsed.parse(&bytes).expect("an answer is HTTP");
        assert!(status.is_complete(), "an answer is HTTP");
        let code = parsed.code.expect("a complete header has a status");
        Some((code, Head::parse(&bytes)))
    }

    /// Reads the answer to any request but HEAD.
    pub(crate) async fn response(&mut self) -> Response {
        self.response_to("GET").await
    }

    /// Reads the answer to a request with this method.
    pub(crate) async fn response_to(&mut self, method: &str) -> Response {
        let mut response = self.begin(method).await;
        while let Some(more) = self.more(&mut response).await {
            response.body.extend(more);
        }
        response
    }

    /// Reads an answer up to its body.
    pub(crate) async fn begin(&mut self, method: &str) -> Response {
        let mut interim = Vec::new();
        let (status, head) = loop {
            let next = self.head().await;
            let (status, head) = next.expect("an answer comes before the connection ends");
            if status >= 200 || status == 101 {
                break (status, head);
            }
            interim.push(status);
        };
        let bodiless = method == "HEAD" || matches!(status, 101 | 204 | 304);
        let framing = match (bodiless, head.is_chunked(), head.length()) {
            (true, ..) => Framing::Bodiless,
            (_, true, Some(_)) => panic!("two framings"),
            (_, true, None) => Framing::Chunked,
            (_, false, Some(length)) => Framing::Length(length),
            (_, false, None) => Framing::Close,
        };
        let line = String::from_utf8_lossy(&head.first_line);
        Response {
            status,
            reason: line.splitn(3, ' ').nth(2).unwrap_or_default().to_owned(),
            interim,
            body: Vec::new(),
            trailers: Vec::new(),
            framing,
            complete: framing == Framing::Bodiless,
            head,
        }
    }

    /// Reads the next piece of a body as soon as it is there; `None` at its end, orderly or not.
    pub(crate) async fn more(&mut self, response: &mut Response) -> Option<Vec<u8>> {
        if response.complete {
            return None;
        }
        let read = soon("a piece of the body", self.piece(response)).await;
        read.ok().flatten()
    }

    async fn piece(&mut self, response: &mut Response) -> std::io::Result<Option<Vec<u8>>> {
        match response.framing {
            Framing::Bodiless => Ok(None),
            Framing::Length(left) => {
                let piece = match left {
                    0 => Vec::new(),
                    _ => self.wire.some(left).await?,
                };
                response.framing = Framing::Length(left - piece.len());
                response.complete = left == piece.len();
                Ok((!piece.is_empty()).then_some(piece))
            }
            Framing::Chunked => match self.wire.chunk().await? {
                Chunk::Data(data) => Ok(Some(data)),
                Chunk::Last(trailers) => {
                    response.trailers = trailers;
                    response.complete = true;
                    Ok(None)
                }
            },
            Framing::Close => {
                let piece = self.wire.some(usize::MAX).await?;
                response.complete = piece.is_empty();
                Ok((!piece.is_empty()).then_some(piece))
            }
        }
    }
}

impl Response {
    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    /// Asserts that this is an error of the edge's own: JSON, and nothing that tells what made it.
    #[track_caller]
    pub(crate) fn assert_edge_error(&self, status: u16, message: &str) {
        assert_eq!(
            (self.status, self.text()),
            (status, format!("{{\"message\":\"{message}\"}}").as_str())
        );
        assert_eq!(self.head.one("content-type"), Some("application/json"));
        assert_eq!(self.head.one("server"), None);
        assert!(self.complete);
    }
}
