//! The one place where parts are built and joined.
//!
//! [`Edge::bind`] does all that can fail before a single request is accepted; [`Edge::start`] then serves until
//! [`Running::stop`]. What follows from the configuration alone is a [`Site`], which [`Running::reload`] replaces.

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
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tracing_appender::non_blocking::ErrorCounter;

use self::lasting::{Lasting, Upkeep};
use self::reload::Reloader;
use self::sockets::{Bound, Inherited};
use crate::cache::clock::Clock;
use crate::config::Config;
use crate::edge::EdgeProxy;
use crate::edge::site::Site;
use crate::edge::workers::Workers;
use crate::ops::admin::{self, Admin};
use crate::ops::metrics::UpgradeResult;
use crate::ops::reload::{Asker, Reload};
use crate::origin::resolve::Unresolvable;
use crate::origin::trust::{self, Untrusted};

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

/// What an edge is given beside its configuration.
#[derive(Default)]
pub struct Given {
    /// The file that the configuration came from, and can be reloaded from.
    pub file: Option<PathBuf>,
    /// What time it is.
    pub clock: Clock,
    /// Sockets that listen already.
    pub sockets: Inherited,
    /// Counts the lines that the log dropped, for the metrics.
    pub log_dropped: Option<ErrorCounter>,
}

/// An edge whose ports are bound and whose upstream is resolved; no request is accepted yet.
pub struct Edge {
    file: Option<PathBuf>,
    log_dropped: Option<ErrorCounter>,
    lasting: Arc<Lasting>,
    site: Site,
    listeners: Vec<Bound>,
    admin: Bound,
    /// Runs what is not a request: the admin listener, resolving names, health checks, reloads.
    background: Runtime,
}

/// An edge that serves.
pub struct Running {
    listeners: Vec<Bound>,
    admin: Bound,
    /// Whether the admin listener accepts no more.
    admin_closed: watch::Sender<bool>,
    lasting: Arc<Lasting>,
    site: Arc<ArcSwap<Site>>,
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
            log_dropped,
        } = given;
        let background = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("vms-edge-background")
            .enable_all()
            .build()
            .map_err(StartError::Threads)?;
        let lasting = Lasting::new(&config, clock)?;
        let config = Arc::new(config);
        let (site, listeners, admin) = background.block_on(async {
            let site = lasting.site(Arc::clone(&config), None).await?;
            let listen = |address: &SocketAddr| sockets.listen("server.listen", *address);
            let listeners = config.server.listen.iter().map(listen);
            let listeners = listeners.collect::<Result<Vec<_>, _>>()?;
            let admin = sockets.listen("admin.listen", config.admin.listen)?;
            Ok::<_, StartError>((site, listeners, admin))
        })?;
        Ok(Self {
            file,
            log_dropped,
            lasting: Arc::new(lasting),
            site,
            listeners,
            admin,
            background,
        })
    }

    /// Begins to accept requests.
    ///
    /// # Errors
    ///
    /// When the machine has no threads or descriptors to give.
    pub fn start(self) -> Result<Running, StartError> {
        let (lasting, config) = (self.lasting, Arc::clone(&self.site.config));
        let ready = Arc::new(AtomicBool::new(true));
        lasting.make_room(&self.site);
        let upkeep = Upkeep::of(&self.site, self.background.handle());
        let site = Arc::new(ArcSwap::from_pointee(self.site));
        let reloader = Arc::new(Reloader::new(
            self.file,
            Arc::clone(&lasting),
            Arc::clone(&site),
            upkeep,
            self.background.handle().clone(),
            Vec::new(),
        ));

        let (store, told, purging) = (Arc::clone(&lasting.store), site.clone(), site.clone());
        let router = admin::router(Admin {
            metrics: Arc::clone(&lasting.metrics),
            usage: Box::new(move || store.usage()),
            ready: Arc::clone(&ready),
            log_dropped: self.log_dropped,
            config: Box::new(move || Arc::clone(&told.load().config)),
            purge: Box::new(move |purge| purging.load().invalidator.purge(purge)),
        });
        let admin = self.admin.try_clone().map_err(StartError::Threads)?;
        let admin_closed = watch::Sender::new(false);
        let mut closed = admin_closed.subscribe();
        self.background.spawn(async move {
            let listener = TcpListener::from_std(admin.socket);
            let listener = listener.expect("a bound socket can be registered");
            let closed = async move { drop(closed.wait_for(|closed| *closed).await) };
            axum::serve(listener, router)
                .with_graceful_shutdown(closed)
                .await
        });

        let in_flight = lasting.metrics.in_flight().clone();
        let clones = self.listeners.iter().map(|bound| bound.socket.try_clone());
        let sockets = clones.collect::<Result<Vec<_>, _>>();
        let sockets = sockets.map_err(StartError::Threads)?;
        let proxy = http_proxy(&config, EdgeProxy::new(Arc::clone(&site), in_flight));
        let workers =
            Workers::start(config.server.threads, &sockets, proxy).map_err(StartError::Threads)?;
        Ok(Running {
            listeners: self.listeners,
            admin: self.admin,
            admin_closed,
            lasting,
            site,
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
        let all = self.listeners.iter().chain([&self.admin]);
        all.map(Bound::try_clone).collect()
    }

    /// Reads the configuration's file again and puts it into effect, but for listeners, threads and the admin address.
    ///
    /// Not to be called from within a runtime.
    pub fn reload(&self, by: Asker) -> Reload {
        self.background.block_on(self.reloader.reload(by))
    }

    /// Counts an attempt to let a successor take over.
    pub fn handed_over(&self, successfully: bool) {
        self.lasting.metrics.upgraded(match successfully {
            true => UpgradeResult::HandedOver,
            false => UpgradeResult::Failed,
        });
    }

    /// The last reloads, the latest first.
    pub fn reloads(&self) -> Vec<Reload> {
        self.reloader.last()
    }

    /// Stops accepting, waits for requests in flight (at most `server.grace`), and ends all threads.
    ///
    /// Readiness turns first. Returns as soon as the last request is done.
    pub fn stop(self) {
        self.ready.store(false, Ordering::SeqCst);
        self.finish();
    }

    /// The same, for one whose successor accepts from its sockets already.
    pub fn leave(self) {
        // Whoever asks how the edge is, asks the successor.
        self.admin_closed.send_replace(true);
        self.finish();
    }

    fn finish(self) {
        // Whoever connects from now on is refused, or comes to the successor.
        drop((self.listeners, self.admin));
        self.workers.stop_accepting();
        let grace = self.site.load().config.server.grace;
        let deadline = Instant::now() + grace;
        let in_flight = || self.lasting.metrics.in_flight().get();
        let done = || !self.workers.accept() && in_flight() == 0;
        while !done() && Instant::now() < deadline {
            std::thread::sleep(SHUTDOWN_STEP);
        }
        let left = in_flight();
        if left > 0 {
            tracing::warn!(
                left,
                ?grace,
                "requests were cut off at the end of the grace"
            );
        }
        self.workers.stop_serving();
        self.background.shutdown_timeout(Duration::ZERO);
    }
}

/// Pingora's proxying around the edge's phases.
fn http_proxy(config: &Config, edge: EdgeProxy) -> HttpProxy<EdgeProxy> {
    let server = Arc::new(ServerConf {
        threads: config.server.threads,
        ca_file: trust::lasting_connector_file(),
        max_retries: MAX_TRIES,
        ..ServerConf::default()
    });
    let mut proxy = HttpProxy::new(edge, server);
    proxy.handle_init_modules();
    proxy
}

/// Servers and connections that one request tries at the most.
const MAX_TRIES: usize = 16;
