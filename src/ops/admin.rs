//! The admin listener: health, readiness and metrics for probes and Prometheus, open to whoever reaches it; a page without
//! anything on it, that asks for the token; and all else for whoever has the token.
//!
//! A browser that was led here by somebody else's page (DNS rebinding) has no token, and is not even let try one: it says
//! in `Host` where it believes to be, and in `Origin` whose page it is. Both are looked at in `guard`.

mod answer;
mod explain;
mod guard;
mod history;
mod log;
mod page;
mod probes;
mod purge;
mod reload;
mod status;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware;
use axum::routing::{get, post};
use parking_lot::Mutex;

use self::answer::{error, sealed, wrong_method};
use super::explain::{Explanation, Supposed};
use super::history::{History, Sample};
use super::log::Control;
use super::metrics::Metrics;
use super::purge::Purge;
use super::reload::Reload;
use crate::cache::clock::{Clock, Time};
use crate::cache::marks::Marked;
use crate::cache::store::Usage;
use crate::config::Config;
use crate::origin::servers::Servers;

/// How often it is looked whether a sample is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the admin listener tells of, and what it can do. What a reload replaces is asked for each time.
pub struct Admin {
    /// Counted so far.
    pub metrics: Arc<Metrics>,
    /// What time it is.
    pub clock: Clock,
    /// The configuration in effect.
    pub config: Box<dyn Fn() -> Arc<Config> + Send + Sync>,
    /// The servers of the VMS.
    pub servers: Box<dyn Fn() -> Arc<Servers> + Send + Sync>,
    /// Tells how full the store is.
    pub usage: Box<dyn Fn() -> Usage + Send + Sync>,
    /// The latest marks, the last one first.
    pub marks: Box<dyn Fn() -> Vec<Marked> + Send + Sync>,
    /// The latest reloads, the last one first.
    pub reloads: Box<dyn Fn() -> Vec<Reload> + Send + Sync>,
    /// Whether new requests are welcome; false from the beginning of a shutdown.
    pub ready: Arc<AtomicBool>,
    /// The process's log; `None` where there is none.
    pub log: Option<Control>,
    /// Purges; nothing that was fetched before is used any more when it returns.
    pub purge: Box<dyn Fn(&Purge) + Send + Sync>,
    /// Says what would become of a request.
    pub explain: Box<dyn Fn(&Supposed) -> Explanation + Send + Sync>,
    /// Reads the configuration again, and puts it into effect.
    pub reload: Box<dyn Fn() -> Reloading + Send + Sync>,
}

/// A reload under way.
pub type Reloading = Pin<Box<dyn Future<Output = Reload> + Send>>;

/// An [`Admin`] at work, with its memory of the last hour.
pub struct Office {
    admin: Admin,
    started: Time,
    history: Mutex<History>,
}

impl Office {
    /// Opens; the history begins now.
    pub fn new(admin: Admin) -> Self {
        let started = admin.clock.now();
        Self {
            history: Mutex::new(History::new(started)),
            started,
            admin,
        }
    }

    /// Looks again and again, so that there is a history when somebody asks for it.
    pub async fn keep_history(self: Arc<Self>) {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        loop {
            tick.tick().await;
            self.look();
        }
    }

    /// Notes a sample if one is due.
    fn look(&self) {
        let now = self.admin.clock.now();
        let mut history = self.history.lock();
        let Some(last) = history.is_due(now) else {
            return;
        };
        history.note(Sample {
            at: now,
            counts: self.admin.metrics.counts(),
            latency: (self.admin.servers)().latency_since(last),
        });
    }
}

/// The admin listener's routes.
pub fn router(office: Arc<Office>) -> Router {
    let probes = Router::new()
        .route("/healthz", get(probes::healthy))
        .route("/readyz", get(probes::ready))
        .route("/metrics", get(probes::metrics))
        .method_not_allowed_fallback(wrong_method);
    let mut guarded = Router::new()
        .route("/status", get(status::show))
        .route("/history", get(history::show))
        .route("/explain", post(explain::explain))
        .route("/purge", post(purge::purge))
        .route("/reload", post(reload::reload));
    if office.admin.log.is_some() {
        guarded = guarded.route("/log", get(log::show).put(log::change));
    }
    let state = || Arc::clone(&office);
    guarded
        .fallback(async || error(StatusCode::NOT_FOUND, "There is nothing here."))
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(state(), guard::token))
        .merge(page::routes())
        .layer(middleware::from_fn_with_state(state(), guard::place))
        .merge(probes)
        .layer(middleware::map_response(sealed))
        .with_state(office)
}
