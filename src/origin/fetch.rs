//! The edge's own requests to the VMS: one GET, its whole answer, within one deadline.
//!
//! A fetch holds one of `upstream.max_fetches` permits from before it connects until its last byte. It waits for one as
//! long as for a connection (`connect_timeout`); who gets none is told that the edge is busy, while there is still time
//! to try again. Pingora applies no timeout of a peer to such sessions, so the
//! deadline stands around the whole.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::Method;
use pingora_core::connectors::http::Connector;
use pingora_core::protocols::http::client::HttpSession;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType};
use pingora_http::{RequestHeader, ResponseHeader};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use super::servers::Servers;
use crate::cache::clock::{Clock, Time};
use crate::config;

/// Largest answer that a fetch holds in memory, in bytes; a larger one is left to a pass-through.
pub const MAX_ANSWER_BYTES: usize = 8 << 20;

/// A complete answer of the VMS.
#[derive(Debug)]
pub struct Answer {
    /// Status and header, as they came.
    pub header: Box<ResponseHeader>,
    /// The body, without its framing.
    pub body: Bytes,
    /// When the request was sent.
    pub started: Time,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No permit in time: `upstream.max_fetches` are in flight.
    #[error("{0} fetches are in flight already")]
    Busy(usize),
    /// No connection: refused, unreachable, or not within `connect_timeout`.
    #[error("no connection to {}: {}", .0, Unquoted(.1))]
    Connect(SocketAddr, Box<Error>),
    /// Not complete within `fetch_timeout`.
    #[error("no complete answer within {0:?}")]
    Timeout(Duration),
    /// The connection broke, or what came is not HTTP.
    #[error("the answer broke off: {}", Unquoted(.0))]
    Broken(Box<Error>),
    /// The body is larger than [`MAX_ANSWER_BYTES`].
    #[error("the answer is larger than {MAX_ANSWER_BYTES} bytes")]
    TooLarge,
    /// The fetch's own task panicked.
    #[error("the fetch panicked")]
    Panicked,
}

/// What went wrong, and why, in words of the program's own: Pingora's context quotes what came over the wire, and with it
/// cookies and tokens.
struct Unquoted<'a>(&'a Error);

impl fmt::Display for Unquoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.root_etype().as_str())?;
        let cause = self.0.root_cause();
        if cause.is::<Error>() {
            return Ok(());
        }
        write!(f, ": {cause}")
    }
}

/// Whom fills ask.
#[async_trait]
pub trait Origin: Send + Sync {
    /// Sends the GET `request` with `body`, and reads the whole answer.
    ///
    /// # Errors
    ///
    /// Any [`FetchError`] but [`FetchError::Panicked`].
    async fn fetch(&self, request: &RequestHeader, body: &Bytes) -> Result<Answer, FetchError>;
}

/// The VMS as an [`Origin`]: sends fetches to its servers.
pub struct Fetcher {
    servers: Arc<Servers>,
    connections: Connector,
    permits: Semaphore,
    max_fetches: usize,
    queue_timeout: Duration,
    deadline: Duration,
    clock: Clock,
}

#[async_trait]
impl Origin for Fetcher {
    /// Sends it to the next server in turn.
    ///
    /// Another server is tried after a refused connection, and another connection after a pooled one that turned out to
    /// be closed: nothing of the answer had come then, and a GET may be said twice.
    async fn fetch(&self, request: &RequestHeader, body: &Bytes) -> Result<Answer, FetchError> {
        debug_assert_eq!(request.method, Method::GET, "only a GET may be said twice");
        let deadline = Instant::now() + self.deadline;
        let _permit = timeout(self.queue_timeout, self.permits.acquire())
            .await
            .map_err(|_| FetchError::Busy(self.max_fetches))?
            .expect("the semaphore is never closed");
        timeout_at(deadline, self.try_servers(request, body))
            .await
            .unwrap_or(Err(FetchError::Timeout(self.deadline)))
    }
}

impl Fetcher {
    /// With a pool of connections of its own.
    pub fn new(upstream: &config::Upstream, servers: Arc<Servers>, clock: Clock) -> Self {
        Self {
            servers,
            connections: Connector::new(Some(Servers::connector_options(upstream))),
            permits: Semaphore::new(upstream.max_fetches),
            max_fetches: upstream.max_fetches,
            queue_timeout: upstream.connect_timeout,
            deadline: upstream.fetch_timeout,
            clock,
        }
    }

    async fn try_servers(
        &self,
        request: &RequestHeader,
        body: &Bytes,
    ) -> Result<Answer, FetchError> {
        let mut refusals_left = self.servers.count() - 1;
        let mut closed_left = 1;
        loop {
            let peer = self.servers.next_peer(None);
            let started = self.clock.now();
            let (mut session, reused) = match self.connections.get_http_session(&peer).await {
                Ok(connected) => connected,
                Err(_) if refusals_left > 0 => {
                    refusals_left -= 1;
                    continue;
                }
                Err(error) => return Err(FetchError::Connect(peer._address.clone(), error)),
            };
            if let Err(error) = ask(&mut session, request, body).await {
                session.shutdown().await;
                if reused && closed_left > 0 {
                    closed_left -= 1;
                    continue;
                }
                return Err(FetchError::Broken(error));
            }
            return self.read(session, &peer, started).await;
        }
    }

    async fn read(
        &self,
        mut session: HttpSession,
        peer: &HttpPeer,
        started: Time,
    ) -> Result<Answer, FetchError> {
        match read_body(&mut session).await {
            Ok(body) => {
                let header = session
                    .response_header()
                    .expect("the header came before the body")
                    .clone();
                self.connections
                    .release_http_session(session, peer, peer.options.idle_timeout)
                    .await;
                Ok(Answer {
                    header: Box::new(header),
                    body,
                    started,
                })
            }
            Err(error) => {
                session.shutdown().await;
                Err(error)
            }
        }
    }
}

/// Sends the request, and reads up to the final header.
async fn ask(
    session: &mut HttpSession,
    request: &RequestHeader,
    body: &Bytes,
) -> pingora_core::Result<()> {
    session
        .write_request_header(Box::new(request.clone()))
        .await?;
    if !body.is_empty() {
        session.write_request_body(body.clone(), true).await?;
    }
    session.finish_request_body().await?;
    loop {
        session.read_response_header().await?;
        let status = session.response_header().map(|header| header.status);
        if !status.is_some_and(|status| status.is_informational()) {
            return Ok(());
        }
        if status == Some(http::StatusCode::SWITCHING_PROTOCOLS) {
            return Error::e_explain(ErrorType::InvalidHTTPHeader, "a 101 nobody asked for");
        }
    }
}

async fn read_body(session: &mut HttpSession) -> Result<Bytes, FetchError> {
    // Most answers come in one piece, which is then used as it is.
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(chunk) = session
        .read_response_body()
        .await
        .map_err(FetchError::Broken)?
    {
        if first.len().max(rest.len()) + chunk.len() > MAX_ANSWER_BYTES {
            return Err(FetchError::TooLarge);
        }
        if first.is_empty() {
            first = chunk;
            continue;
        }
        if rest.is_empty() {
            rest.extend_from_slice(&first);
        }
        rest.extend_from_slice(&chunk);
    }
    Ok(if rest.is_empty() {
        first
    } else {
        rest.freeze()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_broke_off_is_told_without_what_came_of_it() {
        let io = std::io::Error::other("reset");
        let caused = Error::because(ErrorType::ReadError, "buf: Set-Cookie: a", io);
        let told = FetchError::Broken(caused.more_context("Peer: b")).to_string();
        assert_eq!(told, "the answer broke off: ReadError: reset");
        let explained = Error::explain(ErrorType::InvalidHTTPHeader, "Set-Cookie: a");
        let told = FetchError::Broken(explained).to_string();
        assert_eq!(told, "the answer broke off: InvalidHTTPHeader");
    }
}
