//! What the admin listener is told of the edge, and what it can do to it.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::sync::watch;

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

/// Answers operators on `socket`, until the channel that is returned says that it is closed.
pub(super) fn open(
    office: Arc<Office>,
    socket: TcpListener,
    runtime: &Handle,
) -> watch::Sender<bool> {
    let router = admin::router(Arc::clone(&office));
    runtime.spawn(office.keep_history());
    let is_closed = watch::Sender::new(false);
    let mut closed = is_closed.subscribe();
    runtime.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(socket);
        let listener = listener.expect("a bound socket can be registered");
        let closed = async move { drop(closed.wait_for(|closed| *closed).await) };
        axum::serve(listener, router)
            .with_graceful_shutdown(closed)
            .await
    });
    is_closed
}
