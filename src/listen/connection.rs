//! One connection, from the moment it is accepted to its end.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use pingora_core::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora_core::listeners::tls::Acceptor;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::H2Options;
use pingora_core::server::ShutdownWatch;
use prometheus::IntGauge;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::certificates::TlsListener;
use super::exchange::{Exchange, Rest};
use super::farewell;
use super::http1::{self, Application};
use super::http2::{self, Manners, Patience};
use super::places::{Full, Place};
use super::proxy_protocol::{self, NoHeader, Speaker};
use super::shared::{Phase, Rule, Shared};
use super::socket::Socket;
use super::stream::ClientStream;
use super::transport::Transport;
use super::turns::Turns;
use crate::ops::metrics::{ConnectionRefusal, Handshake, ListenerKind, Metrics};
use crate::reply::error::EdgeError;
use crate::request::peer::{client_network, is_trusted};

/// Refused connections that are waited for at once. Those beyond are closed without a word.
const MAX_LINGERING: usize = 64;

/// Serves the client at `peer` for as long as the connection lasts.
pub(super) async fn serve<A>(
    shared: Arc<Shared<A>>,
    tls: Option<TlsListener>,
    turns: Turns,
    stream: TcpStream,
    peer: SocketAddr,
    shutdown: ShutdownWatch,
) where
    A: Application,
{
    let kind = match tls {
        Some(_) => ListenerKind::Tls,
        None => ListenerKind::Plain,
    };
    let gauge = shared.metrics.clients().connections(kind);
    let _open = Open::new(&shared.open, gauge);
    let exchange = Arc::new(Exchange::default());
    // A drain in haste cuts off who has not even said what he wants.
    let mut phase = shared.phase.subscribe();
    let prepared = tokio::select! {
        biased;
        // On its own, so that what a handshake needs is given back when it is over.
        prepared = Box::pin(prepare(&shared, tls.as_ref(), turns, stream, peer, &exchange)) => prepared,
        _ = phase.wait_for(|phase| *phase == Phase::Quick) => return,
    };
    let Some((client, _place)) = prepared else {
        return;
    };
    if client.speaks_http1() {
        return http1::serve(&*shared.app, Box::new(client), phase, &shutdown).await;
    }
    let proxy = Arc::clone(shared.app.proxy());
    // A proxy that is trusted has many clients, who are not to answer for one of them.
    let is_judged = !is_trusted(peer.ip(), &shared.rules.now().trusted_proxies);
    let streams = Arc::new(Streams {
        proxy,
        exchange,
        manners: is_judged.then(Manners::default),
        metrics: Arc::clone(&shared.metrics),
    });
    streams.process_new(Box::new(client), &shutdown).await;
}

/// All that comes before HTTP; `None` if it did not get as far.
async fn prepare<A>(
    shared: &Shared<A>,
    tls: Option<&TlsListener>,
    turns: Turns,
    stream: TcpStream,
    peer: SocketAddr,
    exchange: &Arc<Exchange>,
) -> Option<(ClientStream, Place)> {
    let rules = shared.rules.now();
    let further = rules.limits.header_timeout;
    let first = Instant::now() + further;
    let mut place = match shared.places.take(&rules.limits) {
        Ok(place) => place,
        Err(full) => {
            refuse(shared, full, tls, stream).await;
            return None;
        }
    };
    let is_trusted = is_trusted(peer.ip(), &rules.trusted_proxies);
    if !rules.proxy_protocol
        && !is_trusted
        && let Err(full) = admit(&mut place, peer.ip(), &rules)
    {
        // Others may have it while this one is told why.
        drop(place);
        refuse(shared, full, tls, stream).await;
        return None;
    }
    let mut socket = Socket::new(stream, peer, Arc::clone(exchange), turns).ok()?;
    let clients = shared.metrics.clients();
    if rules.proxy_protocol {
        let told = match is_trusted {
            true => proxy_header(&mut socket, first).await,
            false => Err(NoHeader::Invalid),
        };
        let Ok(speaker) = told else {
            clients.refused(ConnectionRefusal::ProxyProtocol);
            return None;
        };
        let client = match speaker {
            Speaker::Client(client) => Some(client),
            // Nobody whose word on earlier hops would be believed.
            Speaker::Anybody => Some(SocketAddr::from(([0; 4], 0))),
            // A proxy that speaks for itself is trusted, and so has no limit of its own.
            Speaker::Itself => None,
        };
        if let Some(client) = client {
            socket.speaks_for(client);
            if let Err(full) = admit(&mut place, client.ip(), &rules) {
                drop(place);
                refuse(shared, full, tls, socket).await;
                return None;
            }
        }
    }
    let transport = match tls {
        None => Transport::Plain(socket),
        Some(tls) => {
            let shaken = shake_hands(tls.acceptor(), socket, peer, exchange, first).await;
            clients.handshake(match shaken {
                Some(_) => Handshake::Ok,
                None => Handshake::Failed,
            });
            shaken?
        }
    };
    let exchange = Arc::clone(exchange);
    Some((
        ClientStream::new(transport, exchange, first, further),
        place,
    ))
}

/// Says whose a connection is, if he may have another one.
fn admit(place: &mut Place, client: IpAddr, rules: &Rule) -> Result<(), Full> {
    place.belongs_to(client, &rules.limits)?;
    match &rules.connecting {
        None => Ok(()),
        Some(limit) => {
            let admitted = limit.admit(&client_network(client));
            admitted.map_err(|_| Full::Pace)
        }
    }
}

/// Whom the proxy speaks for, as it says before the deadline.
async fn proxy_header(socket: &mut Socket, deadline: Instant) -> Result<Speaker, NoHeader> {
    let told = timeout_at(deadline, proxy_protocol::read(socket)).await;
    told.unwrap_or_else(|late| Err(NoHeader::Io(late.into())))
}

/// The stream within TLS, if both agree on it before the deadline.
async fn shake_hands(
    acceptor: Acceptor,
    socket: Socket,
    peer: SocketAddr,
    exchange: &Exchange,
    deadline: Instant,
) -> Option<Transport> {
    exchange.begin_handshake();
    let shaken = timeout_at(deadline, acceptor.tls_handshake(socket)).await;
    exchange.end_handshake();
    match shaken {
        Ok(Ok(stream)) => Some(Transport::Tls(Box::new(stream))),
        // Alerts and versions, never anything that was sent.
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "a TLS handshake failed");
            None
        }
        Err(_) => {
            tracing::debug!(%peer, "a TLS handshake was not done in time");
            None
        }
    }
}

/// Closes a connection for which there is no place. Before a TLS handshake there is no way to say why.
async fn refuse<A>(
    shared: &Shared<A>,
    full: Full,
    tls: Option<&TlsListener>,
    stream: impl AsyncRead + AsyncWrite + Unpin,
) {
    let (reason, answer) = match full {
        Full::Total => (ConnectionRefusal::Total, EdgeError::Busy),
        Full::Address => (ConnectionRefusal::Address, EdgeError::TooManyRequests),
        Full::Pace => (ConnectionRefusal::Pace, EdgeError::TooManyRequests),
    };
    shared.metrics.clients().refused(reason);
    if tls.is_none() && shared.lingering.fetch_add(1, Ordering::Relaxed) < MAX_LINGERING {
        farewell::tell(stream, &answer).await;
    }
    if tls.is_none() {
        shared.lingering.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts a connection for as long as it lives.
struct Open<'a> {
    count: &'a AtomicUsize,
    gauge: &'a IntGauge,
}

impl<'a> Open<'a> {
    fn new(count: &'a AtomicUsize, gauge: &'a IntGauge) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        gauge.inc();
        Self { count, gauge }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.gauge.dec();
        self.count.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The application, for the streams of one HTTP/2 connection: the first one ends the wait for it.
struct Streams<P> {
    proxy: Arc<P>,
    exchange: Arc<Exchange>,
    /// `None`: whatever the client takes back, the connection goes on.
    manners: Option<Manners>,
    metrics: Arc<Metrics>,
}

impl<P> Streams<P> {
    /// Leaves out a request that its client has taken back, and the rest of the connection if there were too many.
    fn leave_out(&self) {
        let clients = self.metrics.clients();
        clients.taken_back();
        let patience = self.manners.as_ref().map(Manners::takes_back);
        if patience == Some(Patience::Over) && !self.exchange.is_forsaken() {
            self.exchange.forsake();
            clients.forsaken();
        }
    }
}

#[async_trait]
impl<P> HttpServerApp for Streams<P>
where
    P: HttpServerApp + Send + Sync + 'static,
{
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        // A stream begins with its header.
        self.exchange.end(Rest::All);
        if http2::is_taken_back(&mut session) {
            self.leave_out();
            return None;
        }
        if let Some(manners) = &self.manners {
            manners.asks();
        }
        self.proxy.process_new_http(session, shutdown).await
    }

    fn h2_options(&self) -> Option<H2Options> {
        self.proxy.h2_options()
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.proxy.server_options()
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Future, poll_fn};
    use std::pin::pin;
    use std::task::Poll;
    use std::time::Duration;

    use rustls::ServerConfig;
    use rustls::server::ResolvesServerCertUsingSni;
    use tokio::net::TcpListener;

    use super::*;
    use crate::config::Identity;

    #[tokio::test]
    async fn a_handshake_may_wait_and_what_comes_after_it_may_not() {
        let nobody = Arc::new(ResolvesServerCertUsingSni::new());
        let config = ServerConfig::builder_with_provider(Arc::clone(Identity::provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(nobody);
        let acceptor = Acceptor::from_server_config(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        let exchange = Arc::new(Exchange::default());
        let socket = Socket::new(stream, peer, Arc::clone(&exchange), Turns::default()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);

        let mut shaken = pin!(shake_hands(acceptor, socket, peer, &exchange, deadline));
        let is_waiting = poll_fn(|cx| Poll::Ready(shaken.as_mut().poll(cx).is_pending())).await;
        assert!(is_waiting);
        assert!(exchange.may_wait());

        drop(client);
        assert!(shaken.await.is_none());
        assert!(!exchange.may_wait());
    }
}
