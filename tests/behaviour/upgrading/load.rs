//! A load that tolerates no failure.

use std::error::Error as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsConnector;

use crate::support::certificate::{NAME, SelfSigned};
use crate::support::client::Client;
use crate::support::service::Service;
use crate::support::soon;
use crate::support::world::SHOWS;

/// Clients that ask without a pause, each on a connection that it keeps for as long as it is let.
pub(super) struct Load {
    clients: JoinSet<()>,
    progress: Arc<Progress>,
}

#[derive(Default)]
struct Progress {
    answered: AtomicUsize,
    enough: AtomicBool,
}

impl Progress {
    fn is_enough(&self) -> bool {
        self.enough.load(Ordering::SeqCst)
    }
}

impl Load {
    /// So many clients of HTTP/1.1, and so many of HTTP/2, who believe `certificate`.
    pub(super) fn on(
        service: &Service,
        http1: usize,
        http2: usize,
        certificate: &SelfSigned,
    ) -> Self {
        let mut load = Self {
            clients: JoinSet::new(),
            progress: Arc::default(),
        };
        for number in 0..http1 {
            let progress = Arc::clone(&load.progress);
            load.clients
                .spawn(ask_by_http1(service.address, number, progress));
        }
        let tls = certificate.believed(&[b"h2"]);
        for number in 0..http2 {
            let progress = Arc::clone(&load.progress);
            let address = service.tls_addresses[0];
            load.clients
                .spawn(ask_by_http2(address, tls.clone(), number, progress));
        }
        load
    }

    /// Waits until every client was answered several times more, on the average.
    pub(super) async fn goes_on(&self) {
        let answered = || self.progress.answered.load(Ordering::SeqCst);
        let more = answered() + 20 * self.clients.len();
        let reached = async {
            while answered() < more {
                tokio::task::yield_now().await;
            }
        };
        soon("more answers", reached).await;
    }

    /// Ends it; a request that failed fails the test here.
    pub(super) async fn ends(mut self) {
        self.progress.enough.store(true, Ordering::SeqCst);
        while let Some(client) = self.clients.join_next().await {
            client.expect("no request failed");
        }
    }
}

/// What each client asks for: a batch, mostly from memory, or what passes through.
fn target(number: usize) -> String {
    match number % 2 {
        0 => format!("{SHOWS}?ids[]=1&ids[]=2"),
        _ => "/api/v1/static/basic".to_owned(),
    }
}

fn fields(number: usize) -> [(&'static str, String); 4] {
    [
        ("authorization", "Bearer tok-1-ios".to_owned()),
        ("accept", "application/json".to_owned()),
        ("x-client", "ios".to_owned()),
        ("x-uuid", format!("phone-{number}")),
    ]
}

async fn ask_by_http1(address: SocketAddr, number: usize, progress: Arc<Progress>) {
    let target = target(number);
    let fields = fields(number).map(|(name, value)| format!("{name}: {value}\r\n"));
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: {NAME}\r\n{}\r\n",
        fields.concat()
    );
    while !progress.is_enough() {
        let mut client = Client::connect(address).await;
        loop {
            client.send(&request).await;
            let answer = client.response().await;
            assert_eq!((answer.status, answer.complete), (200, true), "{target}");
            progress.answered.fetch_add(1, Ordering::SeqCst);
            let is_last = answer.head.one("connection") == Some("close");
            if is_last || progress.is_enough() {
                break;
            }
        }
    }
}

/// A connection on which the edge has said that it takes no more (GOAWAY) is left for another, as clients do; a request
/// that was begun on it has to be answered.
async fn ask_by_http2(
    address: SocketAddr,
    tls: TlsConnector,
    number: usize,
    progress: Arc<Progress>,
) {
    let target = target(number);
    while !progress.is_enough() {
        let (mut sender, driver) = connect(address, &tls).await;
        while !progress.is_enough() && sender.ready().await.is_ok() {
            let mut request = Request::get(format!("https://{NAME}{target}"));
            for (name, value) in fields(number) {
                request = request.header(name, value);
            }
            let request = request.body(Full::<Bytes>::default()).expect("a request");
            let answer = sender.try_send_request(request).await;
            let answer = match answer {
                Ok(answer) => answer,
                // It was not sent, so nobody has begun it.
                Err(unsent) if unsent.message().is_some() => break,
                Err(crossed) if was_never_begun(crossed.error()) => break,
                Err(error) => panic!("{target}: {:?}", error.error()),
            };
            assert_eq!(answer.status(), 200, "{target}");
            let body = answer.into_body().collect().await;
            body.expect("a whole answer");
            progress.answered.fetch_add(1, Ordering::SeqCst);
        }
        drop(sender);
        driver.abort();
    }
}

/// Whether the edge has said that it will not begin a request that crossed its GOAWAY on the way, so that clients say it
/// again elsewhere (RFC 9113, 6.8).
fn was_never_begun(error: &hyper::Error) -> bool {
    let cause = error
        .source()
        .and_then(|cause| cause.downcast_ref::<h2::Error>());
    cause.is_some_and(|cause| {
        let says_so = cause.is_go_away() && cause.is_remote();
        says_so && cause.reason() == Some(h2::Reason::NO_ERROR)
    })
}

async fn connect(
    address: SocketAddr,
    tls: &TlsConnector,
) -> (SendRequest<Full<Bytes>>, JoinHandle<hyper::Result<()>>) {
    let stream = TcpStream::connect(address).await.expect("it listens");
    let name = NAME.try_into().expect("a name");
    let stream = tls.connect(name, stream).await.expect("a handshake");
    let connected = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (sender, connection) = connected.expect("HTTP/2");
    (sender, tokio::spawn(connection))
}
