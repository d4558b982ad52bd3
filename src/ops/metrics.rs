//! Every metric, with its meaning. Labels are closed sets: no path, no user, no id; a batch endpoint has a name.
//!
//! What happens is counted here as it happens, in [`Metrics`]. What stands somewhere else already is read from there when
//! somebody looks, by one module for each such thing. Every family is there from the first reading on, at zero.

mod answers;
mod cache;
mod clients;
pub mod counts;
mod fetches;
mod label;
mod life;
mod process;
mod queue;
mod reading;
mod requests;
mod runtimes;
mod servers;
mod watched;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    TextEncoder,
};
use tokio::runtime::RuntimeMetrics;

use crate::cache::marks::Scope;
use crate::cache::store::Usage;
use crate::config::Coding;
use crate::origin::fetch::Queue;
use crate::origin::servers::Servers;
use crate::reply::answers::Answers;
use crate::reply::cache_status::BatchResult;
use crate::request::decline::Bypass;
pub use clients::ClientMetrics;
use fetches::Fetches;
pub use label::{
    CanaryResult, CertificateReload, ConnectionRefusal, FetchOutcome, Handshake, ItemResult, Label,
    LimitedBy, ListenerKind, ReloadResult, RequestKind, SpanResult, StatusClass, UpgradeResult,
};
use life::Life;
use process::Process;
use requests::Requests;
use watched::Watched;

/// A counter for each value of a label, found without hashing.
struct CounterPer<L> {
    counters: Vec<IntCounter>,
    label: std::marker::PhantomData<fn(L)>,
}

impl<L: Label> CounterPer<L> {
    fn new(registry: &Registry, name: &str, help: &str) -> Self {
        let family = family(registry, name, help, &[L::NAME]);
        Self::with(|value| family.with_label_values(&[value]))
    }

    /// The counters of one part, such as an endpoint, in a family of all.
    fn of(family: &IntCounterVec, part: &str) -> Self {
        Self::with(|value| family.with_label_values(&[part, value]))
    }

    fn with(counter: impl Fn(&str) -> IntCounter) -> Self {
        Self {
            counters: L::ALL.iter().map(|value| counter(value.name())).collect(),
            label: std::marker::PhantomData,
        }
    }

    fn add(&self, value: L, count: u64) {
        self.counters[value.place()].inc_by(count);
    }

    fn get(&self, value: L) -> u64 {
        self.counters[value.place()].get()
    }

    fn all(&self) -> impl Iterator<Item = (L, u64)> {
        L::ALL.iter().map(|&value| (value, self.get(value)))
    }
}

/// What is counted of one endpoint by itself.
pub struct EndpointCounters {
    requests: CounterPer<BatchResult>,
    items: CounterPer<ItemResult>,
    fetch_ids: IntCounter,
}

/// What is counted of each endpoint, told apart by the endpoint's name.
struct EndpointFamilies {
    requests: IntCounterVec,
    items: IntCounterVec,
    fetch_ids: IntCounterVec,
}

impl EndpointFamilies {
    fn new(registry: &Registry) -> Self {
        Self {
            requests: family(
                registry,
                "vms_edge_endpoint_requests_total",
                "Requests on a batch path, by endpoint and by how they were answered.",
                &["batch", BatchResult::NAME],
            ),
            items: family(
                registry,
                "vms_edge_endpoint_items_total",
                "Ids asked in batches, by endpoint and by what was known about them.",
                &["batch", ItemResult::NAME],
            ),
            fetch_ids: family(
                registry,
                "vms_edge_endpoint_fetch_ids_total",
                "Ids asked in fetches, by endpoint.",
                &["batch"],
            ),
        }
    }
}

const VALID: &str = "metric names are constant, valid and distinct";

/// Upper bounds of the duration buckets, in seconds: from a hit to the longest fetch.
const SECONDS: [f64; 15] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    10.0,
];

/// The metrics of one edge.
pub struct Metrics {
    registry: Registry,
    clients: ClientMetrics,
    endpoints: EndpointFamilies,
    batch_requests: CounterPer<BatchResult>,
    batch_items: CounterPer<ItemResult>,
    fetches: Fetches,
    bypasses: CounterPer<Bypass>,
    marks: CounterPer<Scope>,
    requests: Requests,
    rate_limited: CounterPer<LimitedBy>,
    spans: CounterPer<SpanResult>,
    encoded: CounterPer<Coding>,
    order_contradictions: IntCounter,
    foreign_shelves: IntCounter,
    canary_runs: CounterPer<CanaryResult>,
    canary_configured: IntGauge,
    life: Life,
    watched: Watched,
    process: Process,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All at zero, in a registry of their own.
    pub fn new() -> Self {
        let registry = Registry::new();
        let r = &registry;
        Self {
            clients: ClientMetrics::new(r),
            endpoints: EndpointFamilies::new(r),
            batch_requests: CounterPer::new(
                r,
                "vms_edge_batch_requests_total",
                "Requests on a batch path, by how they were answered.",
            ),
            batch_items: CounterPer::new(
                r,
                "vms_edge_batch_items_total",
                "Ids asked in batches, by what was known about them.",
            ),
            fetches: Fetches::new(r),
            bypasses: CounterPer::new(
                r,
                "vms_edge_bypass_total",
                "Requests on a batch path that passed through uncached, by reason.",
            ),
            marks: CounterPer::new(
                r,
                "vms_edge_marks_total",
                "Invalidations, by what they cover.",
            ),
            requests: Requests::new(r),
            rate_limited: CounterPer::new(
                r,
                "vms_edge_rate_limited_total",
                "Requests that were answered 429, by the limit that they were over.",
            ),
            spans: CounterPer::new(
                r,
                "vms_edge_spans_total",
                "Spans made, by whether the collector has taken them.",
            ),
            encoded: CounterPer::new(
                r,
                "vms_edge_encoded_total",
                "Answers from memory that were sent in a content coding.",
            ),
            order_contradictions: counter(
                r,
                "vms_edge_order_contradictions_total",
                "Answers of the VMS in another order than the one learnt before.",
            ),
            foreign_shelves: counter(
                r,
                "vms_edge_foreign_shelves_total",
                "Shelves dropped since something on them, or brought for them, was fetched for another user.",
            ),
            canary_runs: CounterPer::new(
                r,
                "vms_edge_canary_runs_total",
                "Rounds of the two test users, by what they have shown.",
            ),
            canary_configured: gauge(
                r,
                "vms_edge_canary_configured",
                "Whether the configuration in effect names the two test users: 1 or 0.",
            ),
            life: Life::new(r),
            watched: Watched::default(),
            process: Process::new(),
            registry,
        }
    }

    /// The counters of the endpoint of this name, as far as they got, also before a reload.
    pub fn endpoint(&self, name: &str) -> EndpointCounters {
        EndpointCounters {
            requests: CounterPer::of(&self.endpoints.requests, name),
            items: CounterPer::of(&self.endpoints.items, name),
            fetch_ids: self.endpoints.fetch_ids.with_label_values(&[name]),
        }
    }

    /// Counts a request on the path of an endpoint.
    pub fn batch(&self, endpoint: &EndpointCounters, result: BatchResult) {
        self.batch_requests.add(result, 1);
        endpoint.requests.add(result, 1);
    }

    /// Counts asked ids.
    pub fn items(&self, endpoint: &EndpointCounters, result: ItemResult, count: usize) {
        if count > 0 {
            self.batch_items.add(result, count as u64);
            endpoint.items.add(result, count as u64);
        }
    }

    /// Counts a request on the path of an endpoint that passes through uncached.
    pub fn bypass(&self, endpoint: &EndpointCounters, reason: Bypass) {
        self.batch(endpoint, BatchResult::Bypass);
        self.bypasses.add(reason, 1);
    }

    /// Counts a request over a rate limit.
    pub fn rate_limited(&self, by: LimitedBy) {
        self.rate_limited.add(by, 1);
    }

    /// Counts what became of spans.
    pub fn spans(&self, result: SpanResult, count: usize) {
        self.spans.add(result, count as u64);
    }

    /// Counts an answer from memory that is sent in a coding.
    pub fn encoded(&self, coding: Coding) {
        self.encoded.add(coding, 1);
    }

    /// Counts an answer in an unexpected order.
    pub fn order_contradicted(&self) {
        self.order_contradictions.inc();
    }

    /// Counts a shelf on which, or for which, something was found that was fetched for another user.
    pub fn foreign_shelf(&self) {
        self.foreign_shelves.inc();
    }

    /// Counts a round of the canaries.
    pub fn canary(&self, result: CanaryResult) {
        self.canary_runs.add(result, 1);
    }

    /// Shows whether there are to be rounds of the canaries, were it that nobody does them.
    pub fn canary_configured(&self, is_configured: bool) {
        self.canary_configured.set(i64::from(is_configured));
    }

    /// Counts an invalidation.
    pub fn mark(&self, scope: Scope) {
        self.marks.add(scope, 1);
    }

    /// Shows how `servers` stand and how full the `queue` before them is, in place of any before.
    pub fn watch_upstream(&self, servers: &Arc<Servers>, queue: &Arc<Queue>) {
        self.watched.servers.store(Some(Arc::clone(servers)));
        self.watched.queue.store(Some(Arc::clone(queue)));
    }

    /// Shows what is coded of answers, for as long as the process lives.
    pub fn watch_answers(&self, answers: Arc<Answers>) {
        self.watched.answers.get_or_init(|| answers);
    }

    /// Shows how busy these runtimes are, under these names, for as long as the process lives.
    pub fn watch_runtimes(&self, runtimes: Vec<(String, RuntimeMetrics)>) {
        self.watched.runtimes.get_or_init(|| runtimes);
    }

    /// Shows whether new requests are welcome, for as long as the process lives.
    pub fn watch_readiness(&self, ready: Arc<AtomicBool>) {
        self.watched.ready.get_or_init(|| ready);
    }

    /// What is counted of connections and certificates.
    pub fn clients(&self) -> &ClientMetrics {
        &self.clients
    }

    /// All metrics in Prometheus' text format, with these readings.
    pub fn render(&self, usage: Usage, log_dropped: usize) -> Vec<u8> {
        let mut families = self.registry.gather();
        families.extend(self.watched.families());
        families.extend(cache::families(usage));
        families.extend(self.process.families());
        families.push(reading::counter(
            "vms_edge_log_dropped_lines_total",
            "Log lines dropped because stderr was too slow or took none.",
            log_dropped as f64,
        ));
        families.sort_unstable_by(|one, other| one.name().cmp(other.name()));
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&families, &mut text)
            .expect("gathered metrics can be written to a Vec");
        text
    }
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    let counter = IntCounter::new(name, help).expect(VALID);
    registry.register(Box::new(counter.clone())).expect(VALID);
    counter
}

fn family(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    let family = IntCounterVec::new(Opts::new(name, help), labels).expect(VALID);
    registry.register(Box::new(family.clone())).expect(VALID);
    family
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    let gauge = IntGauge::new(name, help).expect(VALID);
    registry.register(Box::new(gauge.clone())).expect(VALID);
    gauge
}

fn seconds(registry: &Registry, name: &str, help: &str) -> Histogram {
    let options = HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
    let histogram = Histogram::with_opts(options).expect(VALID);
    registry.register(Box::new(histogram.clone())).expect(VALID);
    histogram
}
