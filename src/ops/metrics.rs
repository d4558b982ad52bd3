//! Every metric, with its meaning. Labels are closed sets: no path, no user, no id.

mod servers;

use std::sync::Arc;
use std::time::Duration;

use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    TextEncoder,
};

use crate::cache::store::Usage;
use crate::origin::answer::Unfit;
use crate::origin::fetch::FetchError;
use crate::origin::server::ServerState;
use crate::origin::servers::Servers;
use crate::reply::cache_status::BatchResult;
use crate::request::decline::Bypass;
use servers::ServerStates;

/// A closed set of label values.
pub trait Label: Copy + 'static {
    /// The label's name.
    const NAME: &'static str;
    /// Every value, in the order of their discriminants.
    const ALL: &'static [Self];
    /// The value as it is written.
    fn name(self) -> &'static str;
    /// Its place in [`Label::ALL`].
    fn place(self) -> usize;
}

macro_rules! label {
    ($(#[$doc:meta])* $set:ident as $label:literal { $($(#[$value_doc:meta])* $value:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $set { $($(#[$value_doc])* $value,)* }

        impl Label for $set {
            const NAME: &'static str = $label;
            const ALL: &'static [Self] = &[$(Self::$value,)*];
            fn name(self) -> &'static str {
                match self { $(Self::$value => $name,)* }
            }
            fn place(self) -> usize {
                self as usize
            }
        }
    };
}

label! {
    /// What was known about an asked id.
    ItemResult as "result" {
        /// A usable item.
        Fresh = "fresh",
        /// A stale item, answered while it is refreshed.
        Stale = "stale",
        /// Known to be absent.
        Absent = "absent",
        /// Nothing usable.
        Missing = "missing",
    }
}

label! {
    /// What came of a fetch.
    FetchOutcome as "outcome" {
        /// A 200 whose items were stored.
        Stored = "stored",
        /// A 200 that does not fit; relayed or passed through.
        Unfit = "unfit",
        /// Another status; relayed.
        Status = "status",
        /// No connection.
        Connect = "connect",
        /// Not complete in time.
        Timeout = "timeout",
        /// Broke off, or was not HTTP.
        Broken = "broken",
        /// No permit in time.
        Busy = "busy",
        /// Not sent: the VMS is left alone, its breaker is open.
        Open = "open",
        /// Larger than the edge holds.
        TooLarge = "too_large",
    }
}

label! {
    /// What a mark covers.
    MarkScope as "scope" {
        /// All items of one user.
        User = "user",
        /// One item, for everyone.
        Item = "item",
        /// Everything.
        All = "all",
    }
}

label! {
    /// What kind of request it was.
    RequestKind as "kind" {
        /// On a batch path, answered by the edge.
        Batch = "batch",
        /// Passed through.
        Pass = "pass",
    }
}

macro_rules! label_of {
    ($set:ident as $label:literal) => {
        impl Label for $set {
            const NAME: &'static str = $label;
            const ALL: &'static [Self] = &Self::ALL;
            fn name(self) -> &'static str {
                self.name()
            }
            fn place(self) -> usize {
                self as usize
            }
        }
    };
}

label_of!(BatchResult as "result");
label_of!(Bypass as "reason");
label_of!(ServerState as "state");

impl FetchOutcome {
    /// Of a fetch without answer.
    pub fn of_error(error: &FetchError) -> Self {
        match error {
            FetchError::Open => Self::Open,
            FetchError::Busy(_) => Self::Busy,
            FetchError::Connect(..) => Self::Connect,
            FetchError::Timeout(_) => Self::Timeout,
            FetchError::Broken(_) | FetchError::Panicked => Self::Broken,
            FetchError::TooLarge => Self::TooLarge,
        }
    }

    /// Of a fetch with an answer.
    pub fn of_fill<T>(fill: &Result<T, Unfit>) -> Self {
        match fill {
            Ok(_) => Self::Stored,
            Err(Unfit::Status(_)) => Self::Status,
            Err(_) => Self::Unfit,
        }
    }
}

/// A counter for each value of a label, found without hashing.
struct CounterPer<L> {
    counters: Vec<IntCounter>,
    label: std::marker::PhantomData<fn(L)>,
}

impl<L: Label> CounterPer<L> {
    fn new(registry: &Registry, name: &str, help: &str) -> Self {
        let family = IntCounterVec::new(Opts::new(name, help), &[L::NAME]).expect(VALID);
        let counters = L::ALL
            .iter()
            .map(|value| family.with_label_values(&[value.name()]))
            .collect();
        registry.register(Box::new(family)).expect(VALID);
        Self {
            counters,
            label: std::marker::PhantomData,
        }
    }

    fn add(&self, value: L, count: u64) {
        self.counters[value.place()].inc_by(count);
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
    batch_requests: CounterPer<BatchResult>,
    batch_items: CounterPer<ItemResult>,
    fetches: CounterPer<FetchOutcome>,
    fetch_ids: IntCounter,
    fetch_seconds: Histogram,
    bypasses: CounterPer<Bypass>,
    marks: CounterPer<MarkScope>,
    cache_bytes: IntGauge,
    cache_items: IntGauge,
    cache_users: IntGauge,
    request_seconds: [Histogram; 2],
    requests_in_flight: IntGauge,
    order_contradictions: IntCounter,
    log_dropped: IntGauge,
}

impl Metrics {
    /// All at zero, in a registry of their own.
    pub fn new() -> Self {
        let registry = Registry::new();
        let r = &registry;
        let kinds = prometheus::HistogramVec::new(
            HistogramOpts::new(
                "vms_edge_request_seconds",
                "Time from a request's header to the last byte of its answer.",
            )
            .buckets(SECONDS.to_vec()),
            &[RequestKind::NAME],
        )
        .expect(VALID);
        r.register(Box::new(kinds.clone())).expect(VALID);
        let kind = |kind: RequestKind| kinds.with_label_values(&[kind.name()]);
        Self {
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
            fetches: CounterPer::new(
                r,
                "vms_edge_fetches_total",
                "The edge's own requests to the VMS, by what came of them.",
            ),
            fetch_ids: counter(r, "vms_edge_fetch_ids_total", "Ids asked in fetches."),
            fetch_seconds: seconds(
                r,
                "vms_edge_fetch_seconds",
                "Time of a fetch, from waiting for a permit to its last byte.",
            ),
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
            cache_bytes: gauge(r, "vms_edge_cache_bytes", "Bytes that stored items occupy."),
            cache_items: gauge(
                r,
                "vms_edge_cache_items",
                "Ids remembered, known absences included.",
            ),
            cache_users: gauge(
                r,
                "vms_edge_cache_users",
                "Requesters (user, device, language …) with something stored.",
            ),
            request_seconds: [kind(RequestKind::Batch), kind(RequestKind::Pass)],
            requests_in_flight: gauge(
                r,
                "vms_edge_requests_in_flight",
                "Requests being answered now.",
            ),
            order_contradictions: counter(
                r,
                "vms_edge_order_contradictions_total",
                "Answers of the VMS in another order than the one learnt before.",
            ),
            log_dropped: gauge(
                r,
                "vms_edge_log_dropped_lines",
                "Log lines dropped because stderr was too slow.",
            ),
            registry,
        }
    }

    /// Counts a request on a batch path.
    pub fn batch(&self, result: BatchResult) {
        self.batch_requests.add(result, 1);
    }

    /// Counts asked ids.
    pub fn items(&self, result: ItemResult, count: usize) {
        self.batch_items.add(result, count as u64);
    }

    /// Counts a request that passes through uncached.
    pub fn bypass(&self, reason: Bypass) {
        self.batch_requests.add(BatchResult::Bypass, 1);
        self.bypasses.add(reason, 1);
    }

    /// Counts a fetch of `ids` ids.
    pub fn fetch(&self, ids: usize, took: Duration) {
        self.fetch_ids.inc_by(ids as u64);
        self.fetch_seconds.observe(took.as_secs_f64());
    }

    /// Counts what came of a fetch.
    pub fn fetch_outcome(&self, outcome: FetchOutcome) {
        self.fetches.add(outcome, 1);
    }

    /// Counts an answer in an unexpected order.
    pub fn order_contradicted(&self) {
        self.order_contradictions.inc();
    }

    /// Counts an invalidation.
    pub fn mark(&self, scope: MarkScope) {
        self.marks.add(scope, 1);
    }

    /// Counts a finished request.
    pub fn request(&self, kind: RequestKind, took: Duration) {
        self.request_seconds[kind.place()].observe(took.as_secs_f64());
    }

    /// Shows how `servers` stand at each reading.
    pub fn watch(&self, servers: &Arc<Servers>) {
        let states = ServerStates::of(Arc::clone(servers));
        self.registry.register(Box::new(states)).expect(VALID);
    }

    /// Requests being answered now.
    pub fn in_flight(&self) -> &IntGauge {
        &self.requests_in_flight
    }

    /// All metrics in Prometheus' text format, with these readings.
    pub fn render(&self, usage: Usage, log_dropped: usize) -> Vec<u8> {
        self.cache_bytes.set(signed(usage.bytes));
        self.cache_items.set(signed(usage.items));
        self.cache_users.set(signed(usage.shelves));
        self.log_dropped.set(signed(log_dropped as u64));
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut text)
            .expect("gathered metrics can be written to a Vec");
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    let counter = IntCounter::new(name, help).expect(VALID);
    registry.register(Box::new(counter.clone())).expect(VALID);
    counter
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
