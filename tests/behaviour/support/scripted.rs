//! A VMS that answers byte for byte what a test tells it to, and remembers byte for byte what it was asked.
//!
//! Each connection is handed to the test's script. A panic in a script fails the test, at the latest when the VMS is
//! dropped.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinError};
use tokio_rustls::TlsAcceptor;

use super::wire::{Chunk, Head, Stream, Wire};

/// A listening VMS; it is gone when the test drops it.
pub(crate) struct Scripted {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    log: Arc<Log>,
    accepting: AbortHandle,
}

#[derive(Default)]
struct Log {
    connections: AtomicUsize,
    requests: Mutex<Vec<Request>>,
    panics: Mutex<Vec<String>>,
}

/// One connection from the edge.
pub(crate) struct Connection {
    /// For what is not a request and its answer.
    pub(crate) wire: Wire,
    /// Which connection this is, from 0.
    pub(crate) number: usize,
    log: Arc<Log>,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The header.
    pub(crate) head: Head,
    /// The body, without its framing.
    pub(crate) body: Vec<u8>,
    /// The lines of the trailer section.
    pub(crate) trailers: Vec<String>,
}

impl Scripted {
    /// A VMS that speaks plain HTTP.
    pub(crate) async fn start<F, Fut>(script: F) -> Self
    where
        F: Fn(Connection) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self::listen(None, script).await
    }

    /// A VMS that speaks TLS; a connection whose handshake fails is not handed to the script.
    pub(crate) async fn start_tls<F, Fut>(tls: rustls::ServerConfig, script: F) -> Self
    where
        F: Fn(Connection) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self::listen(Some(TlsAcceptor::from(Arc::new(tls))), script).await
    }

    /// A VMS that answers every request with this, for as long as the edge keeps the connection.
    pub(crate) async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer = Arc::new(answer.into());
        Self::start(move |mut connection| {
            let answer = Arc::clone(&answer);
            async move {
                while connection.request().await.is_some() {
                    connection.wire.send(answer.as_slice()).await;
                }
            }
        })
        .await
    }

    async fn listen<F, Fut>(tls: Option<TlsAcceptor>, script: F) -> Self
    where
        F: Fn(Connection) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("the system has a free port");
        let address = listener.local_addr().expect("a bound listener");
        let log = Arc::new(Log::default());
        let script = Arc::new(script);
        let accepting = tokio::spawn({
            let log = Arc::clone(&log);
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let (log, tls, script) = (Arc::clone(&log), tls.clone(), Arc::clone(&script));
                    let number = log.connections.fetch_add(1, Ordering::SeqCst);
                    let told = tokio::spawn({
                        let log = Arc::clone(&log);
                        async move {
                            if let Some(wire) = wire(stream, tls).await {
                                script(Connection { wire, number, log }).await;
                            }
                        }
                    });
                    tokio::spawn(async move {
                        if let Err(error) = told.await {
                            log.note(error);
                        }
                    });
                }
            }
        });
        Self {
            address,
            log,
            accepting: accepting.abort_handle(),
        }
    }

    /// How many connections there were.
    pub(crate) fn connections(&self) -> usize {
        self.log.connections.load(Ordering::SeqCst)
    }

    /// Every request that was read, in the order in which their headers came.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.log
            .requests
            .lock()
            .expect("no script holds it")
            .clone()
    }

    /// The only request that was read.
    #[track_caller]
    pub(crate) fn only_request(&self) -> Request {
        let mut requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests.remove(0)
    }
}

async fn wire(stream: TcpStream, tls: Option<TlsAcceptor>) -> Option<Wire> {
    stream.set_nodelay(true).expect("a socket has options");
    let stream = match tls {
        None => Stream::Plain(stream),
        Some(tls) => Stream::Tls(Box::new(tls.accept(stream).await.ok()?)),
    };
    Some(Wire::new(stream))
}

impl Log {
    fn note(&self, error: JoinError) {
        if let Ok(panic) = error.try_into_panic() {
            let text = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            let text = text.unwrap_or_default();
            self.panics.lock().expect("no script holds it").push(text);
        }
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.accepting.abort();
        let panics = self.log.panics.lock().expect("no script holds it");
        assert!(
            panics.is_empty() || std::thread::panicking(),
            "the VMS's script panicked: {panics:?}"
        );
    }
}

impl Connection {
    /// Reads a whole request and remembers it; `None` if the edge is done with the connection or cuts it off.
    pub(crate) async fn request(&mut self) -> Option<Request> {
        let mut request = self.head().await?;
        let place = self.log.requests.lock().expect("not held").len() - 1;
        if let Some(length) = request.head.length() {
            request.body = self.wire.exactly(length).await.ok()?;
        } else if request.head.is_chunked() {
            while let Some(data) = self.chunk(&mut request).await? {
                request.body.extend(data);
            }
        }
        self.log.requests.lock().expect("not held")[place] = request.clone();
        Some(request)
    }

    /// Reads a request up to its body and remembers that; `None` if the edge is done with the connection.
    pub(crate) async fn head(&mut self) -> Option<Request> {
        let head = Head::parse(&self.wire.head().await.ok()??);
        let request = Request {
            head,
            body: Vec::new(),
            trailers: Vec::new(),
        };
        let mut requests = self.log.requests.lock().expect("not held");
        requests.push(request.clone());
        Some(request)
    }

    /// Reads a chunk of a request's body; the inner `None` is its end, the outer a cut.
    pub(crate) async fn chunk(&mut self, request: &mut Request) -> Option<Option<Vec<u8>>> {
        match self.wire.chunk().await.ok()? {
            Chunk::Data(data) => Some(Some(data)),
            Chunk::Last(trailers) => {
                request.trailers = trailers;
                Some(None)
            }
        }
    }

    /// Sends an answer with this body.
    pub(crate) async fn answer(&mut self, body: &str) {
        let length = body.len();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
        self.wire.send(answer).await;
    }
}

impl Request {
    /// Method, target and version.
    pub(crate) fn line(&self) -> String {
        String::from_utf8_lossy(&self.head.first_line).into_owned()
    }
}
