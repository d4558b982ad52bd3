//! `GET /status`: all that is known of the edge at this moment, but for what is anybody's own.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Serialize, Serializer};

use super::Office;
use super::answer::json;
use crate::cache::clock::Time;
use crate::cache::marks::Marked;
use crate::ops::explain::Mark;
use crate::ops::history::{LONGEST, Window};
use crate::ops::log::Control;
use crate::ops::metrics::counts::Counts;
use crate::ops::metrics::{ItemResult, Label, ListenerKind};
use crate::ops::moment::{Moment, seconds};
use crate::ops::reload::Reload;
use crate::origin::latency::Quantiles;
use crate::origin::server::{Report, ServerState};
use crate::reply::cache_status::BatchResult;

pub(super) async fn show(State(office): State<Arc<Office>>) -> Response {
    office.look();
    json(StatusCode::OK, &Status::of(&office))
}

#[derive(Serialize)]
struct Status {
    version: &'static str,
    started: Moment,
    ready: bool,
    connections: i64,
    requests_in_flight: i64,
    log_lines_dropped: usize,
    traffic: Traffic,
    cache: Cache,
    servers: Vec<Server>,
    fetches: Named,
    bypasses: Named,
    marks: Marks,
    reloads: Vec<Reload>,
    /// As `vms-edge check` prints it.
    configuration: String,
}

/// What was counted, over windows that may be up to a step shorter than they are called.
#[derive(Serialize)]
struct Traffic {
    last_1m: Counted,
    last_5m: Counted,
    last_60m: Counted,
    since_start: Counted,
}

#[derive(Serialize)]
struct Counted {
    /// How long the window is.
    seconds: f64,
    requests: u64,
    passed_through: u64,
    batches: Named,
    items: Named,
    hit_ratio: HitRatio,
    fetches: u64,
    fetch_ids: u64,
    vms_requests_saved: i64,
}

/// Shares from 0 to 1; null where there was nothing.
#[derive(Serialize)]
struct HitRatio {
    requests: Option<f64>,
    items: Option<f64>,
}

#[derive(Serialize)]
struct Cache {
    bytes: u64,
    max_bytes: u64,
    items: u64,
    users: u64,
}

#[derive(Serialize)]
struct Server {
    address: String,
    state: &'static str,
    healthy: bool,
    breaker: &'static str,
    /// Of the fetches of the last minutes that were answered completely; null if there were none.
    latency: Option<Latency>,
    last_error: Option<LastError>,
}

#[derive(Serialize)]
struct Latency {
    p50_ms: f64,
    p99_ms: f64,
    fetches: usize,
}

#[derive(Serialize)]
struct LastError {
    when: Moment,
    why: String,
}

#[derive(Serialize)]
struct Marks {
    set: Named,
    latest: Vec<Mark>,
}

/// Numbers by name, in their own order.
struct Named(Vec<(&'static str, u64)>);

impl Serialize for Named {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

impl Status {
    fn of(office: &Office) -> Self {
        let admin = &office.admin;
        let (now, config, usage) = (admin.clock.now(), (admin.config)(), (admin.usage)());
        let servers = (admin.servers)().report();
        let clients = admin.metrics.clients();
        let kinds = ListenerKind::ALL.iter();
        let connections = kinds.map(|&kind| clients.connections(kind).get());
        Self {
            version: env!("CARGO_PKG_VERSION"),
            started: Moment::of(office.started, now),
            ready: admin.ready.load(Ordering::SeqCst),
            connections: connections.sum(),
            requests_in_flight: admin.metrics.in_flight().get(),
            log_lines_dropped: admin.log.as_ref().map_or(0, Control::dropped),
            traffic: Traffic::of(office, now),
            cache: Cache {
                bytes: usage.bytes,
                max_bytes: usage.max_bytes,
                items: usage.items,
                users: usage.shelves,
            },
            servers: servers.into_iter().map(|it| Server::of(it, now)).collect(),
            fetches: named(admin.metrics.fetches()),
            bypasses: named(admin.metrics.bypasses()),
            marks: Marks {
                set: named(admin.metrics.marks()),
                latest: (admin.marks)().iter().map(|it| mark(it, now)).collect(),
            },
            reloads: (admin.reloads)(),
            configuration: config.effective(),
        }
    }
}

impl Traffic {
    fn of(office: &Office, now: Time) -> Self {
        let counts = office.admin.metrics.counts();
        let history = office.history.lock();
        let last = |minutes: u64| {
            let length = Duration::from_secs(60 * minutes).min(LONGEST);
            Counted::of(&history.window(length, now, &counts))
        };
        Self {
            last_1m: last(1),
            last_5m: last(5),
            last_60m: last(60),
            since_start: Counted::of(&history.since_start(now, &counts)),
        }
    }
}

impl Counted {
    fn of(window: &Window) -> Self {
        let Window { length, counts } = window;
        let results = BatchResult::ALL.iter().zip(counts.results);
        let items = ItemResult::ALL.iter().zip(counts.items);
        Self {
            seconds: seconds(*length),
            requests: counts.requests,
            passed_through: counts.passed,
            batches: named(results.map(|(result, count)| (*result, count))),
            items: named(items.map(|(result, count)| (*result, count))),
            hit_ratio: HitRatio::of(counts),
            fetches: counts.fetches,
            fetch_ids: counts.fetch_ids,
            vms_requests_saved: counts.saved(),
        }
    }
}

impl HitRatio {
    fn of(counts: &Counts) -> Self {
        Self {
            requests: counts.hit_ratio(),
            items: counts.item_hit_ratio(),
        }
    }
}

impl Server {
    fn of(report: Report, now: Time) -> Self {
        Self {
            address: report.address.to_string(),
            state: report.state.name(),
            healthy: report.is_healthy,
            breaker: ServerState::from(report.breaker).name(),
            latency: report.latency.as_ref().map(Latency::of),
            last_error: report.last_error.map(|trouble| LastError {
                when: Moment::of(trouble.at, now),
                why: trouble.why,
            }),
        }
    }
}

impl Latency {
    fn of(quantiles: &Quantiles) -> Self {
        Self {
            p50_ms: milliseconds(quantiles.p50),
            p99_ms: milliseconds(quantiles.p99),
            fetches: quantiles.count,
        }
    }
}

/// To the microsecond.
pub(super) fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1_000_000.0).round() / 1_000.0
}

fn mark(marked: &Marked, now: Time) -> Mark {
    Mark {
        scope: marked.scope.name(),
        strength: marked.strength.name(),
        set: Moment::of(marked.at, now),
    }
}

fn named<L: Label>(counts: impl Iterator<Item = (L, u64)>) -> Named {
    Named(counts.map(|(label, count)| (label.name(), count)).collect())
}
