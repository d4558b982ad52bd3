//! The one place where parts are built and joined.
//!
//! [`Edge::bind`] does all that can fail before a single request is accepted; [`Edge::start`] then serves until
//! [`Running::stop`].

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pingora_core::server::configuration::ServerConf;
use pingora_proxy::HttpProxy;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Runtime;

use crate::batch::fill::Filler;
use crate::batch::invalidate::Invalidator;
use crate::cache::clock::Clock;
use crate::cache::freshness::Windows;
use crate::cache::marks::Marks;
use crate::cache::store::Store;
use crate::config::{Config, HealthCheck};
use crate::edge::EdgeProxy;
use crate::edge::workers::Workers;
use crate::ops::admin::{self, Admin, Office};
use crate::ops::log::Control;
use crate::ops::metrics::Metrics;
use crate::origin::checker::{self, Checker};
use crate::origin::fetch::Fetcher;
use crate::origin::resolve::{RESOLVE_EVERY, SystemResolver, Unresolvable};
use crate::origin::servers::Servers;
use crate::origin::trust::{self, Untrusted};
use crate::request::key::KeyMaker;

/// Connections that the kernel holds until they are accepted (bounded by `net.core.somaxconn`).
const BACKLOG: u32 = 4096;

/// How often a shutdown looks whether the last request is done.
const SHUTDOWN_STEP: Duration = Duration::from_millis(10);

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
    /// The VMS's certificate cannot be verified.
    #[error(transparent)]
    Trust(#[from] Untrusted),
    /// The operating system has no randomness to give.
    #[error("no randomness for the secret of this process: {0}")]
    Secret(getrandom::Error),
    /// Threads cannot be started.
    #[error("cannot start threads: {0}")]
    Threads(io::Error),
}

/// An edge whose ports are bound and whose upstream is resolved; no request is accepted yet.
pub struct Edge {
    config: Config,
    clock: Clock,
    listeners: Vec<std::net::TcpListener>,
    admin: std::net::TcpListener,
    servers: Servers,
    /// Runs what is not a request: the admin listener, resolving names, health checks.
    background: Runtime,
}

/// An edge that serves.
pub struct Running {
    addresses: Vec<SocketAddr>,
    admin_address: SocketAddr,
    filler: Arc<Filler>,
    ready: Arc<AtomicBool>,
    grace: Duration,
    workers: Workers,
    background: Runtime,
}

impl Edge {
    /// Resolves the upstream, then binds every address.
    ///
    /// # Errors
    ///
    /// Any [`StartError`]; what was bound is released.
    pub fn bind(config: Config, clock: Clock) -> Result<Self, StartError> {
        let background = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("vms-edge-background")
            .enable_all()
            .build()
            .map_err(StartError::Threads)?;
        let authorities = trust::authorities(&config.upstream)?;
        let (servers, listeners, admin) = background.block_on(async {
            let resolver = Box::new(SystemResolver);
            let upstream = &config.upstream;
            let servers = Servers::resolve(upstream, authorities, resolver, clock.clone()).await?;
            let listen = |address: &SocketAddr| listen("server.listen", *address);
            let listeners = config.server.listen.iter().map(listen);
            let listeners = listeners.collect::<Result<Vec<_>, _>>()?;
            let admin = self::listen("admin.listen", config.admin.listen)?;
            Ok::<_, StartError>((servers, listeners, admin))
        })?;
        Ok(Self {
            config,
            clock,
            listeners,
            admin,
            servers,
            background,
        })
    }

    /// Begins to accept requests.
    ///
    /// `log` is the process's, for operators who ask about it.
    ///
    /// # Errors
    ///
    /// When the machine has no randomness or no threads to give.
    pub fn start(self, log: Option<Control>) -> Result<Running, StartError> {
        let config = Arc::new(self.config);
        let clock = self.clock;
        let addresses = self.listeners.iter().map(bound_address).collect();
        let admin_address = bound_address(&self.admin);
        let ready = Arc::new(AtomicBool::new(true));
        let servers = Arc::new(self.servers);
        let metrics = Arc::new(Metrics::new());
        metrics.watch(&servers);
        let longest = config
            .batches
            .iter()
            .map(|batch| Windows::new(batch).longest())
            .max()
            .unwrap_or_default();
        let fetcher = Fetcher::new(&config.upstream, Arc::clone(&servers), clock.clone());
        let filler = Arc::new(Filler {
            store: Arc::new(Store::new(config.cache.max_bytes, longest)),
            // What is in the air when a mark is set is younger than the longest fetch.
            marks: Arc::new(Marks::new(longest + config.upstream.longest_fetch())),
            flights: Arc::default(),
            detach: Box::new(|fill| drop(tokio::spawn(fill))),
            origin: Box::new(fetcher),
            clock: clock.clone(),
            metrics: Arc::clone(&metrics),
            host: config.upstream.host.clone(),
        });

        let keys = Arc::new(KeyMaker::new().map_err(StartError::Secret)?);
        let invalidator = Invalidator::new(Arc::clone(&filler), Arc::clone(&keys), &config);
        let invalidator = Arc::new(invalidator);

        self.background.spawn(keep_resolved(Arc::clone(&servers)));
        if config.upstream.health.check != HealthCheck::Never {
            let checker = Checker::new(&config.upstream, Arc::clone(&servers));
            self.background
                .spawn(checker::keep_checked(Arc::new(checker)));
        }
        let (in_effect, asked) = (Arc::clone(&config), Arc::clone(&servers));
        let (counted, marked) = (Arc::clone(&filler), Arc::clone(&filler));
        let purging = Arc::clone(&invalidator);
        let edge = EdgeProxy::new(&config, Arc::clone(&filler), servers, keys, invalidator);
        let office = Arc::new(Office::new(Admin {
            metrics,
            clock,
            config: Box::new(move || Arc::clone(&in_effect)),
            servers: Box::new(move || Arc::clone(&asked)),
            usage: Box::new(move || counted.store.usage()),
            marks: Box::new(move || marked.marks.recent()),
            reloads: Box::new(Vec::new),
            ready: Arc::clone(&ready),
            log,
            purge: Box::new(move |purge| purging.purge(purge)),
            explain: Box::new(edge.explain()),
            reload: None,
        }));
        let (router, admin) = (admin::router(Arc::clone(&office)), self.admin);
        self.background.spawn(office.keep_history());
        self.background.spawn(async move {
            let listener =
                TcpListener::from_std(admin).expect("a bound listener can be registered");
            axum::serve(listener, router).await
        });

        let proxy = http_proxy(&config, edge);
        let workers = Workers::start(config.server.threads, &self.listeners, proxy)
            .map_err(StartError::Threads)?;
        Ok(Running {
            addresses,
            admin_address,
            filler,
            ready,
            grace: config.server.grace,
            workers,
            background: self.background,
        })
    }
}

impl Running {
    /// Where clients connect.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where operators connect.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// Stops accepting, waits for requests in flight (at most `server.grace`), and ends all threads.
    ///
    /// Readiness turns first. Returns as soon as the last request is done.
    pub fn stop(self) {
        self.ready.store(false, Ordering::SeqCst);
        self.workers.stop_accepting();
        let deadline = Instant::now() + self.grace;
        let in_flight = || self.filler.metrics.in_flight().get();
        let done = || !self.workers.accept() && in_flight() == 0;
        while !done() && Instant::now() < deadline {
            std::thread::sleep(SHUTDOWN_STEP);
        }
        let left = in_flight();
        if left > 0 {
            tracing::warn!(left, grace = ?self.grace, "requests were cut off at the end of the grace");
        }
        self.workers.stop_serving();
        self.background.shutdown_timeout(Duration::ZERO);
    }
}

/// Pingora's proxying around the edge's phases.
fn http_proxy(config: &Config, edge: EdgeProxy) -> HttpProxy<EdgeProxy> {
    let server = Arc::new(ServerConf {
        threads: config.server.threads,
        ca_file: trust::connector_file(&config.upstream),
        max_retries: MAX_TRIES,
        ..ServerConf::default()
    });
    let mut proxy = HttpProxy::new(edge, server);
    proxy.handle_init_modules();
    proxy
}

/// Servers and connections that one request tries at the most.
const MAX_TRIES: usize = 16;

fn listen(key: &'static str, address: SocketAddr) -> Result<std::net::TcpListener, StartError> {
    let listen = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        // A restarted edge may listen although connections of its predecessor are still closing.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)?.into_std()
    };
    listen().map_err(|source| StartError::Listen {
        key,
        address,
        source,
    })
}

fn bound_address(listener: &std::net::TcpListener) -> SocketAddr {
    listener
        .local_addr()
        .expect("a bound listener has an address")
}

async fn keep_resolved(servers: Arc<Servers>) {
    let mut tick = tokio::time::interval(RESOLVE_EVERY);
    tick.tick().await;
    loop {
        tick.tick().await;
        for failure in servers.refresh().await {
            tracing::warn!(%failure, "the addresses it had are kept");
        }
    }
}
