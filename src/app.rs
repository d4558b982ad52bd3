//! The one place where parts are built and joined.
//!
//! [`Edge::bind`] does all that can fail before a single request is accepted; [`Edge::start`] then serves until
//! [`Running::stop`]. What follows from the configuration alone is a [`Site`], which [`Running::reload`] replaces.

mod admin;
mod followers;
mod lasting;
mod reload;
pub mod sockets;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::HttpProxy;
use prometheus::IntGauge;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};

use self::followers::Followers;
use self::lasting::{Lasting, Upkeep};
use self::reload::Reloader;
use self::sockets::{Bound, Inherited};
use crate::cache::clock::Clock;
use crate::config::Config;
use crate::edge::at_hand::Front;
use crate::edge::site::Site;
use crate::edge::{EdgeProxy, MAX_TRIES};
use crate::listen::certificates::{Certificates, NoTls};
use crate::listen::{self, Drain, Listener, Workers};
use crate::ops::log::Control;
use crate::ops::metrics::UpgradeResult;
use crate::ops::reload::{Asker, Reload};
use crate::ops::spans::Span;
use crate::origin::resolve::Unresolvable;
use crate::origin::trust::{self, Untrusted};

/// How often a shutdown looks whether the last request is done.
const SHUTDOWN_STEP: Duration = Duration::from_millis(10);

/// How long a shutdown waits for the request of a client that was accepted but has not spoken yet. Without it, whoever
/// connected in the last moment would be hung up on.
const FIRST_WORD: Duration = Duration::from_millis(100);

/// How long a shutdown waits for clients to take their last answers, once all requests are done.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why the edge cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("{key}: cannot listen on {address}: {source}")]
    Listen {
        /// The configuration key.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A server of the VMS has no address.
    #[error(transparent)]
    Upstream(#[from] Unresolvable),
    /// The edge's certificates cannot be shown.
    #[error(transparent)]
    Tls(#[from] NoTls),
    /// The VMS's certificate cannot be verified.
    #[error(transparent)]
    Trust(#[from] Untrusted),
    /// The operating system has no randomness to give.
    #[error("no randomness for the secret of this process: {0}")]
    Secret(getrandom::Error),
    /// Threads cannot be started.
    #[error("cannot start threads: {0}")]
    Threads(io::Error),
    /// There are no descriptors for the sockets that listen.
    #[error("cannot duplicate a listening socket: {0}")]
    Descriptors(io::Error),
}

/// What an edge is given beside its configuration.
#[derive(Default)]
pub struct Given {
    /// The file that the configuration came from, and can be reloaded from.
    pub file: Option<PathBuf>,
    /// What time it is.
    pub clock: Clock,
    /// Sockets that listen already.
    pub sockets: Inherited,
    /// The log of the process, for operators.
    pub log: Option<Control>,
}

/// An edge whose ports are bound and whose upstream is resolved; no request is accepted yet.
pub struct Edge {
    file: Option<PathBuf>,
    log: Option<Control>,
    lasting: Arc<Lasting>,
    /// Where the spans come out that are made.
    spans: mpsc::Receiver<Span>,
    site: Site,
    listeners: Vec<Bound>,
    tls_listeners: Vec<Bound>,
    admin: Bound,
    /// Runs what is not a request: the admin listener, resolving names, health checks, reloads.
    background: Runtime,
}

/// An edge that serves.
pub struct Running {
    listeners: Vec<Bound>,
    tls_listeners: Vec<Bound>,
    admin: Bound,
    /// Whether the admin listener accepts no more.
    admin_closed: watch::Sender<bool>,
    lasting: Arc<Lasting>,
    site: Arc<ArcSwap<Site>>,
    followers: Followers,
    reloader: Arc<Reloader>,
    ready: Arc<AtomicBool>,
    workers: Workers,
    background: Runtime,
}

impl Edge {
    /// Resolves the upstream, then binds every address that is not listened on already.
    ///
    /// # Errors
    ///
    /// Any [`StartError`]; what was bound is released.
    pub fn bind(config: Config, given: Given) -> Result<Self, StartError> {
        let Given {
            file,
            clock,
            mut sockets,
            log,
        } = given;
        let background = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("vms-edge-background")
            .enable_all()
            .build()
            .map_err(StartError::Threads)?;
        let (lasting, spans) = Lasting::new(&config, clock)?;
        let config = Arc::new(config);
        let (site, listeners, tls_listeners, admin) = background.block_on(async {
            let site = lasting.site(Arc::clone(&config), None).await?;
            let mut listen = |key: &'static str, addresses: &[SocketAddr]| {
                let listen = |address: &SocketAddr| sockets.listen(key, *address);
                addresses.iter().map(listen).collect::<Result<Vec<_>, _>>()
            };
            let listeners = listen("server.listen", &config.server.listen)?;
            let tls_listeners = listen("server.tls.listen", &config.server.tls_listeners())?;
            let admin = sockets.listen("admin.listen", config.admin.listen)?;
            Ok::<_, StartError>((site, listeners, tls_listeners, admin))
        })?;
        Ok(Self {
            file,
            log,
            lasting: Arc::new(lasting),
            spans,
            site,
            listeners,
            tls_listeners,
            admin,
            background,
        })
    }

    /// Begins to accept requests.
    ///
    /// # Errors
    ///
    /// When the machine has no threads, descriptors or randomness to give.
    pub fn start(self) -> Result<Running, StartError> {
        let (lasting, config) = (self.lasting, Arc::clone(&self.site.config));
        let runtime = self.background.handle();
        let ready = Arc::new(AtomicBool::new(true));
        lasting.metrics.watch_readiness(Arc::clone(&ready));
        lasting.make_room(&self.site);
        let upkeep = Upkeep::of(&self.site, runtime);
        let followers = Followers::start(&config, &lasting, self.spans, self.log, runtime)?;
        let site = Arc::new(ArcSwap::from_pointee(self.site));
        let reloader = Arc::new(Reloader::new(
            self.file,
            Arc::clone(&lasting),
            Arc::clone(&site),
            upkeep,
            runtime.clone(),
            followers.clone(),
        ));

        let listeners = listeners(
            &self.listeners,
            &self.tls_listeners,
            &followers.certificates,
        );
        let listeners = listeners.map_err(StartError::Descriptors)?;
        let in_flight = lasting.metrics.in_flight().clone();
        let workers = Workers::start(
            config.server.threads,
            &listeners,
            Arc::clone(&followers.rules),
            front(&config, &site, in_flight),
            Arc::clone(&lasting.metrics),
        );
        let workers = workers.map_err(StartError::Threads)?;
        let mut runtimes = workers.runtimes();
        runtimes.push(("background".to_owned(), self.background.metrics()));
        lasting.metrics.watch_runtimes(runtimes);

        // Last: whoever asks whether the edge is ready, or for its metrics, is answered when all of it is there.
        let admin = self.admin.try_clone();
        let socket = admin.map_err(StartError::Descriptors)?.socket;
        let office = admin::office(&lasting, &site, &reloader, &ready, followers.log.clone());
        let admin_closed = admin::open(office, socket, runtime);
        Ok(Running {
            listeners: self.listeners,
            tls_listeners: self.tls_listeners,
            admin: self.admin,
            admin_closed,
            lasting,
            site,
            followers,
            reloader,
            ready,
            workers,
            background: self.background,
        })
    }
}

impl Running {
    /// Where clients connect.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(Bound::address).collect()
    }

    /// Where clients connect with TLS.
    pub fn tls_addresses(&self) -> Vec<SocketAddr> {
        self.tls_listeners.iter().map(Bound::address).collect()
    }

    /// What they are shown there.
    pub fn certificates(&self) -> &Certificates {
        &self.followers.certificates
    }

    /// Where operators connect.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.address()
    }

    /// Handles to all sockets that listen, for whoever is to go on listening.
    ///
    /// # Errors
    ///
    /// When there are no descriptors to be had.
    pub fn sockets(&self) -> io::Result<Vec<Bound>> {
        let clients = self.listeners.iter().chain(&self.tls_listeners);
        clients.chain([&self.admin]).map(Bound::try_clone).collect()
    }

    /// Reads the configuration's file again and puts it into effect, but for listeners, threads and the admin address.
    ///
    /// Not to be called from within a runtime.
    pub fn reload(&self, by: Asker) -> Reload {
        self.background.block_on(self.reloader.reload(by))
    }

    /// Counts what became of an attempt to let a successor take over.
    pub fn upgraded(&self, result: UpgradeResult) {
        self.lasting.metrics.upgraded(result);
    }

    /// The last reloads, the latest first.
    pub fn reloads(&self) -> Vec<Reload> {
        self.reloader.last()
    }

    /// Stops accepting, waits for requests in flight (at most `server.grace`), and ends all threads.
    ///
    /// Readiness turns first. Returns as soon as the last request is done.
    pub fn stop(self) {
        self.stop_unless(|| false);
    }

    /// The same, but once `in_haste` says so nothing is waited for any more.
    pub fn stop_unless(self, in_haste: impl FnMut() -> bool) {
        self.ready.store(false, Ordering::SeqCst);
        self.finish(Drain::Quick, in_haste);
    }

    /// The same, for one whose successor accepts from its sockets already: whoever has a connection may ask once more on it,
    /// until `in_haste` says so for the first time.
    pub fn leave(self, in_haste: impl FnMut() -> bool) {
        // Whoever asks how the edge is, asks the successor.
        self.admin_closed.send_replace(true);
        self.finish(Drain::Patient, in_haste);
    }

    fn finish(self, drain: Drain, mut in_haste: impl FnMut() -> bool) {
        // Whoever connects from now on is refused, or comes to the successor.
        drop((self.listeners, self.tls_listeners, self.admin));
        let grace = self.site.load().config.server.grace;
        let deadline = Instant::now() + grace;
        // Whether somebody was in haste before it was done.
        let mut wait = |deadline: Instant, done: &dyn Fn() -> bool| {
            while !done() && Instant::now() < deadline {
                std::thread::sleep(SHUTDOWN_STEP);
                if in_haste() {
                    return true;
                }
            }
            false
        };
        let in_flight = || self.lasting.metrics.in_flight().get();
        let are_gone = || !self.workers.accepts() && self.workers.connections() == 0;
        let patience = match drain {
            Drain::Patient => grace,
            Drain::Quick => FIRST_WORD,
        };
        self.workers.drain(Drain::Patient);
        let mut is_hasty = wait(deadline.min(Instant::now() + patience), &are_gone);
        // One that leaves for its successor had not been asked to stop: that was the first time.
        is_hasty &= drain == Drain::Quick;
        self.workers.drain(Drain::Quick);
        is_hasty = is_hasty || wait(deadline, &|| !self.workers.accepts() && in_flight() == 0);
        // What was answered last may be on its way still, behind a client that has yet to take it.
        is_hasty = is_hasty || wait(deadline.min(Instant::now() + FAREWELL), &are_gone);
        let left = in_flight();
        if left > 0 {
            let why = match is_hasty {
                true => "somebody was in haste",
                false => "the grace is over",
            };
            tracing::warn!(left, ?grace, why, "requests were cut off");
        }
        self.workers.stop_serving();
        // What was traced last is told as far as the grace allows, and a moment beyond it.
        let moment = deadline
            .saturating_duration_since(Instant::now())
            .max(FAREWELL);
        let told = async { tokio::time::timeout(moment, self.followers.export.finish()).await };
        if self.background.block_on(told).is_err() {
            tracing::warn!("the last spans were not told");
        }
        self.background.shutdown_timeout(Duration::ZERO);
    }
}

/// What the workers listen on.
fn listeners(
    plain: &[Bound],
    tls: &[Bound],
    certificates: &Certificates,
) -> io::Result<Vec<Listener>> {
    let plain = plain.iter().map(|bound| (bound, None));
    let tls = tls.iter();
    let tls = tls.map(|bound| (bound, certificates.listener(bound.configured)));
    let listener = |(bound, tls): (&Bound, _)| {
        let socket = bound.socket.try_clone()?;
        Ok(Listener { socket, tls })
    };
    plain.chain(tls).map(listener).collect()
}

/// What is at hand, and Pingora's proxying around the edge's phases for all else.
fn front(config: &Config, site: &Arc<ArcSwap<Site>>, in_flight: IntGauge) -> Front {
    let server = Arc::new(ServerConf {
        threads: config.server.threads,
        ca_file: trust::lasting_connector_file(),
        max_retries: MAX_TRIES,
        ..ServerConf::default()
    });
    let phases = EdgeProxy::new(Arc::clone(site), in_flight.clone());
    let mut proxy = HttpProxy::new(phases, server);
    proxy.h2_options = Some(listen::http2_options());
    proxy.server_options = Some(listen::server_options());
    proxy.handle_init_modules();
    Front::new(proxy, Arc::clone(site), in_flight)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::demo::vms::StandIn;
    use crate::planted::X_PANIC;

    /// Where the handling of a request panics, and which request comes there.
    const PLACES: [(&str, &str); 3] = [("at hand", BATCH), ("asked", USER), ("answered", USER)];

    const BATCH: &str = "/api/v1/intercom/shows?ids[]=1";
    const USER: &str = "/api/v1/user";

    fn edge_before(vms: SocketAddr, tls: &str) -> Running {
        let text = format!(
            "server.listen = [\"127.0.0.1:0\"]\nserver.threads = 1\nadmin.listen = \"127.0.0.1:0\"\n\
             upstream.servers = [\"{vms}\"]\n[[batch]]\npath = \"/api/v1/intercom/shows\"\n{tls}"
        );
        let config = Config::parse(&text, "test").unwrap();
        // It starts runtimes of its own, which must not happen on a thread of the test's.
        let start = move || Edge::bind(config, Given::default()).and_then(Edge::start);
        std::thread::spawn(start).join().unwrap().unwrap()
    }

    /// Sends a request, and returns what of an answer's first bytes comes before the connection's end.
    async fn asked(client: &mut TcpStream, target: &str, place: &str) -> String {
        let head = format!(
            "GET {target} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer tok-1-ios\r\nX-Client: ios\r\n\
             X-UUID: phone\r\nAccept: application/json\r\n{X_PANIC}: {place}\r\n\r\n"
        );
        client.write_all(head.as_bytes()).await.unwrap();
        let mut answer = vec![0; 64 << 10];
        let length = client.read(&mut answer).await.unwrap_or(0);
        String::from_utf8_lossy(&answer[..length]).into_owned()
    }

    #[tokio::test]
    async fn a_request_whose_handling_panics_fails_alone() {
        let vms = StandIn::new().start().await.unwrap();
        let running = edge_before(vms.address(), "");
        let address = running.addresses()[0];
        let connect = || async { TcpStream::connect(address).await.unwrap() };
        // All are served by one thread.
        let mut neighbour = connect().await;
        for (place, target) in PLACES {
            for _ in 0..2 {
                let answer = asked(&mut neighbour, BATCH, "nowhere").await;
                assert!(answer.starts_with("HTTP/1.1 200 "), "{place}: {answer}");
            }
            assert_eq!(asked(&mut connect().await, target, place).await, "");
            let again = asked(&mut connect().await, target, "nowhere").await;
            assert!(again.starts_with("HTTP/1.1 200 "), "{place}: {again}");
        }
        let answer = asked(&mut neighbour, BATCH, "nowhere").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        // None of those that failed is counted for ever; the last one is until its answer has left.
        let is_none_left = async {
            while running.lasting.metrics.in_flight().get() > 0 {
                tokio::task::yield_now().await;
            }
        };
        let patience = Duration::from_secs(10);
        tokio::time::timeout(patience, is_none_left).await.unwrap();
        std::thread::spawn(|| running.stop()).join().unwrap();
    }

    #[tokio::test]
    async fn a_stream_whose_handling_panics_fails_without_its_connection() {
        let vms = StandIn::new().start().await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let names = ["vms.local".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let (certificate, key) = (
            directory.path().join("a.pem"),
            directory.path().join("a.key"),
        );
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let tls = format!(
            "[[server.tls]]\nlisten = \"127.0.0.1:0\"\ncertificate = {certificate:?}\nkey = {key:?}\n"
        );
        let running = edge_before(vms.address(), &tls);

        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(running.tls_addresses()[0])
            .await
            .unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
        let name = "vms.local".try_into().unwrap();
        let stream = connector.connect(name, stream).await.unwrap();
        let (streams, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let ask = |place: &'static str| {
            let mut streams = streams.clone();
            let request = http::Request::get(format!("https://vms.local{USER}"))
                .header("authorization", "Bearer tok-1-ios")
                .header(X_PANIC, place);
            let (answer, _) = streams
                .send_request(request.body(()).unwrap(), true)
                .unwrap();
            answer
        };
        for place in ["asked", "answered"] {
            let (before, broken, after) = (ask("nowhere"), ask(place), ask("nowhere"));
            let (before, broken, after) = tokio::join!(before, broken, after);
            assert_eq!(before.unwrap().status(), 200, "{place}");
            assert!(broken.is_err_and(|error| error.is_reset()), "{place}");
            assert_eq!(after.unwrap().status(), 200, "{place}");
        }
        std::thread::spawn(|| running.stop()).join().unwrap();
    }
}
