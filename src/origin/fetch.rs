//! The edge's own requests to the VMS: one GET, its whole answer, within one deadline.
//!
//! A fetch that no server's breaker admits ends at once. Any other holds one of `upstream.max_fetches` places of the queue
//! from before it connects until its last byte; after an outage there are fewer. It waits for one as long as for a
//! connection (`connect_timeout`); who gets none is told that the edge is busy, while there is still time to try again.
//! Pingora applies no timeout of a peer to such sessions, so the deadline stands around the whole.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, StatusCode};
use pingora_core::connectors::http::Connector;
use pingora_core::protocols::http::client::HttpSession;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_timeout::timeout;

use super::decode::{self, Undecoded};
use super::exchange::{self, NoBody, Unquoted};
pub use super::queue::{Occupancy, Queue};
use super::server::Turn;
use super::servers::{Servers, Tried};
use crate::cache::clock::{Clock, Time};
use crate::config::{self, FetchCoding};
use crate::waited::waited;

pub use super::exchange::MAX_ANSWER_BYTES;

/// How long a VMS that has failed of late is waited for by whoever could be answered from memory: long enough for one that
/// is well again, and not seen as long by people.
const PATIENCE: Duration = Duration::from_millis(250);

/// A complete answer of the VMS.
#[derive(Debug)]
pub struct Answer {
    /// Status and header, as they came, but for a coding that was asked for and taken off.
    pub header: Box<ResponseHeader>,
    /// The body, without its framing and that coding.
    pub body: Bytes,
    /// When the request was sent.
    pub started: Time,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nobody was asked: the breaker of every server is open, or has its probes under way.
    #[error("the VMS is left alone, since it keeps failing")]
    Open,
    /// No permit in time: `upstream.max_fetches` are in flight.
    #[error("{0} fetches are in flight already")]
    Busy(usize),
    /// No connection: refused, unreachable, or not within `connect_timeout`.
    #[error("no connection to {}: {}", .0, Unquoted(.1))]
    Connect(SocketAddr, Box<Error>),
    /// Not complete within `fetch_timeout`.
    #[error("no complete answer within {0:?}")]
    Timeout(Duration),
    /// The connection broke, or what came is not HTTP, or not in the coding that it is said to be in.
    #[error("the answer broke off: {}", Unquoted(.0))]
    Broken(Box<Error>),
    /// The body is larger than [`MAX_ANSWER_BYTES`].
    #[error("the answer is larger than {MAX_ANSWER_BYTES} bytes")]
    TooLarge,
    /// The fetch's own task panicked.
    #[error("the fetch panicked")]
    Panicked,
}

/// How a fetch went, whatever came of it.
#[derive(Clone, Debug, Default)]
pub struct Course {
    /// How long it waited for its turn.
    pub queued: Duration,
    /// All the time it took, the wait for its turn included.
    pub took: Duration,
    /// How often a server was turned to.
    pub tries: usize,
    /// The server turned to last.
    pub server: Option<std::net::SocketAddr>,
}

/// Whom fills ask.
#[async_trait]
pub trait Origin: Send + Sync {
    /// Sends the GET `request` with `body`, and reads the whole answer; `course` is told how that goes.
    ///
    /// # Errors
    ///
    /// Any [`FetchError`] but [`FetchError::Panicked`].
    async fn fetch(
        &self,
        request: &RequestHeader,
        body: &Bytes,
        course: &mut Course,
    ) -> Result<Answer, FetchError>;

    /// Resolves when whoever can do without an answer should not wait for it any longer: during an
    /// outage and while the VMS is coming back, never while all is well.
    async fn patience(&self);
}

/// The VMS as an [`Origin`]: sends fetches to its servers.
pub struct Fetcher {
    servers: Arc<Servers>,
    connections: Connector,
    queue: Arc<Queue>,
    /// In which coding answers were asked for.
    coding: FetchCoding,
    deadline: Duration,
    clock: Clock,
}

/// What came of asking one server, other than an answer.
enum Failed {
    /// It could not be connected to, so the next one may be asked.
    Unreached(FetchError),
    /// The connection ended before anything of an answer came, so the request may be said once more.
    Unheard(FetchError),
    /// It is not to be repeated.
    Finally(FetchError),
}

#[async_trait]
impl Origin for Fetcher {
    /// Sends it to the next server in turn.
    ///
    /// Each other server is tried after one that cannot be connected to. Once, another connection is tried after one that
    /// ended: nothing of the answer had come then, and a GET may be said twice.
    async fn fetch(
        &self,
        request: &RequestHeader,
        body: &Bytes,
        course: &mut Course,
    ) -> Result<Answer, FetchError> {
        debug_assert_eq!(request.method, Method::GET, "only a GET may be said twice");
        if !self.servers.admit_fetches() {
            return Err(FetchError::Open);
        }
        let busy = || FetchError::Busy(self.queue.size());
        let (place, queued) = waited(self.queue.enter()).await;
        course.queued = queued;
        let _place = place.ok_or_else(busy)?;
        // From now on: how long it waited for its turn says nothing of the VMS. The timeout is Pingora's, which ends on a
        // tick of 10 ms: arming one of tokio's wakes the very thread that is about to wait for the VMS.
        let answer = timeout(self.deadline, self.try_servers(request, body, course))
            .await
            .unwrap_or(Err(FetchError::Timeout(self.deadline)));
        if self.servers.are_failing() {
            self.queue.shrink();
        } else if answer.is_ok() {
            self.queue.grow();
        }
        answer
    }

    async fn patience(&self) {
        match self.servers.are_failing() || self.queue.is_crowded() {
            true => tokio::time::sleep(PATIENCE).await,
            false => std::future::pending().await,
        }
    }
}

impl Fetcher {
    /// With a pool of connections of its own.
    pub fn new(upstream: &config::Upstream, servers: Arc<Servers>, clock: Clock) -> Self {
        Self {
            servers,
            connections: Connector::new(Some(Servers::connector_options(upstream))),
            queue: Arc::new(Queue::new(
                upstream.max_fetches,
                2 * upstream.breaker.probes,
                upstream.connect_timeout,
            )),
            coding: upstream.fetch_coding,
            deadline: upstream.fetch_timeout,
            clock,
        }
    }

    /// Where its fetches wait for their turn.
    pub fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    async fn try_servers(
        &self,
        request: &RequestHeader,
        body: &Bytes,
        course: &mut Course,
    ) -> Result<Answer, FetchError> {
        let mut tried = Tried::default();
        let mut failure = FetchError::Open;
        while let Some(turn) = self.servers.next_for_fetch(&tried) {
            let address = turn.address();
            course.tries += 1;
            course.server = Some(address);
            failure = match self.try_server(turn, request, body, &tried).await {
                Ok(answer) => return Ok(answer),
                Err(Failed::Unreached(error)) => {
                    tried.unreached.push(address);
                    error
                }
                Err(Failed::Unheard(error)) if !tried.repeated => {
                    tried.repeated = true;
                    tried.unheard = Some(address);
                    error
                }
                Err(Failed::Unheard(error) | Failed::Finally(error)) => return Err(error),
            };
        }
        Err(failure)
    }

    async fn try_server(
        &self,
        mut turn: Turn,
        request: &RequestHeader,
        body: &Bytes,
        tried: &Tried,
    ) -> Result<Answer, Failed> {
        let mut peer = self.servers.peer(&turn, tried, None);
        let (started, began) = (self.clock.now(), Instant::now());
        let connected = self.connections.get_http_session(&peer).await;
        let (mut session, reused) = connected.map_err(|error| {
            turn.unreached(&Unquoted(&error));
            Failed::Unreached(FetchError::Connect(peer._address.clone(), error))
        })?;
        let answered = exchange::ask(&mut session, request, body).await;
        let status = match answered {
            Ok(status) => status,
            Err(unanswered) => {
                session.shutdown().await;
                let unheard = !unanswered.heard && exchange::is_cut_off(&unanswered.error);
                // A pooled connection may have been closed for its age.
                match unheard && reused {
                    true => turn.told_nothing(),
                    false => turn.failed(&Unquoted(&unanswered.error)),
                }
                let error = FetchError::Broken(unanswered.error);
                return Err(match unheard {
                    true => Failed::Unheard(error),
                    false => Failed::Finally(error),
                });
            }
        };
        let is_coded = self.coding == FetchCoding::Gzip
            && session
                .response_header()
                .is_some_and(|header| decode::is_gzip(&header.headers));
        let mut read = exchange::read_body(&mut session).await;
        if is_coded {
            read = read.and_then(|body| decoded(&body));
        }
        judge(&mut turn, status, &read);
        match read {
            Ok(body) => {
                turn.took(began.elapsed());
                peer.group_key = self.servers.pool();
                let mut header = self.release(session, &peer).await;
                if is_coded {
                    decode::describe(&mut header);
                }
                Ok(Answer {
                    header,
                    body,
                    started,
                })
            }
            Err(fault) => {
                session.shutdown().await;
                Err(Failed::Finally(match fault {
                    NoBody::Broken(error) => FetchError::Broken(error),
                    NoBody::TooLarge => FetchError::TooLarge,
                }))
            }
        }
    }

    /// Keeps the connection for the next fetch.
    async fn release(&self, session: HttpSession, peer: &HttpPeer) -> Box<ResponseHeader> {
        let header = session.response_header();
        let header = header.expect("the header came before the body").clone();
        self.connections
            .release_http_session(session, peer, peer.options.idle_timeout)
            .await;
        Box::new(header)
    }
}

/// A body without its gzip.
fn decoded(body: &[u8]) -> Result<Bytes, NoBody> {
    const INVALID: ErrorType = ErrorType::Custom("InvalidCoding");
    decode::gunzip(body, MAX_ANSWER_BYTES).map_err(|undecoded| match undecoded {
        Undecoded::TooLarge => NoBody::TooLarge,
        Undecoded::Malformed => NoBody::Broken(Error::explain(
            INVALID,
            "the body is not the gzip that it is said to be",
        )),
    })
}

/// Tells the breaker what an answer says of the server.
///
/// A 500 does not count, nor does anything below: whoever answers so is alive, and the one user whose data it cannot
/// handle must not take the others' answers away.
fn judge(turn: &mut Turn, status: StatusCode, body: &Result<Bytes, NoBody>) {
    match (body, status.as_u16()) {
        (Err(NoBody::Broken(error)), _) => turn.failed(&Unquoted(error)),
        (Ok(_), 502..=504) => turn.failed(&format_args!("status {}", status.as_u16())),
        (Ok(_) | Err(NoBody::TooLarge), _) => turn.succeeded(),
    }
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
