//! What the admin listener is told of the edge, and what it can do to it.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

use super::lasting::Lasting;
use super::reload::Reloader;
use crate::edge::site::Site;
use crate::ops::admin::{self, Admin, Office};
use crate::ops::log::Control;
use crate::ops::reload::Asker;

/// What the admin listener tells of, and what it can do.
pub(super) fn office(
    lasting: &Arc<Lasting>,
    site: &Arc<ArcSwap<Site>>,
    reloader: &Arc<Reloader>,
    ready: &Arc<AtomicBool>,
    log: Option<Control>,
) -> Arc<Office> {
    let [told, asked, purging, explaining] = [(); 4].map(|()| Arc::clone(site));
    let (store, marks) = (Arc::clone(&lasting.store), Arc::clone(&lasting.marks));
    let (reloading, reloaded) = (Arc::clone(reloader), Arc::clone(reloader));
    Arc::new(Office::new(Admin {
        metrics: Arc::clone(&lasting.metrics),
        clock: lasting.clock.clone(),
        config: Box::new(move || Arc::clone(&told.load().config)),
        servers: Box::new(move || Arc::clone(&asked.load().servers)),
        usage: Box::new(move || store.usage()),
        marks: Box::new(move || marks.recent()),
        reloads: Box::new(move || reloaded.last()),
        ready: Arc::clone(ready),
        log,
        purge: Box::new(move |purge| purging.load().invalidator.purge(purge)),
        explain: Box::new(move |supposed| explaining.load().explain(supposed)),
        reload: Box::new(move || {
            let reloader = Arc::clone(&reloading);
            Box::pin(async move { reloader.reload(Asker::Admin).await })
        }),
    }))
}

/// Most connections of operators at once; more wait in the kernel. Nobody who only connects takes the clients' descriptors.
const MAX_CONNECTIONS: usize = 512;

/// Longest wait for the header of a request, from the answer before it or from the connection: longer than the time between
/// two looks of Prometheus.
const HEADER_TIMEOUT: Duration = Duration::from_secs(75);

/// Answers operators on `socket`, until the channel that is returned says that it is closed.
pub(super) fn open(
    office: Arc<Office>,
    socket: TcpListener,
    runtime: &Handle,
) -> watch::Sender<bool> {
    let router = admin::router(Arc::clone(&office));
    runtime.spawn(office.keep_history());
    let is_closed = watch::Sender::new(false);
    runtime.spawn(accept(socket, router, is_closed.subscribe()));
    is_closed
}

async fn accept(socket: TcpListener, router: Router, mut closed: watch::Receiver<bool>) {
    let listener = tokio::net::TcpListener::from_std(socket);
    let listener = listener.expect("a bound socket can be registered");
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => return,
            next = next => next,
        };
        let Ok((stream, _)) = accepted else {
            // There is no descriptor, or the connection is gone already.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let service = TowerToHyperService::new(router.clone());
        let connection = http.serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move {
            // Whoever breaks off has nothing more to be told.
            let _ = connection.await;
            drop(place);
        });
    }
}

/// How long the listener rests when it cannot accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
