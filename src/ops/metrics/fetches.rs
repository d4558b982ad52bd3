//! What is counted of fetches, those of all endpoints together.

use std::time::Duration;

use prometheus::{Histogram, IntCounter, Registry};

use super::label::FetchOutcome;
use super::{CounterPer, EndpointCounters, Metrics, counter, seconds};

/// Counters and histograms of fetches.
pub(super) struct Fetches {
    pub(super) outcomes: CounterPer<FetchOutcome>,
    pub(super) ids: IntCounter,
    collapsed_ids: IntCounter,
    pub(super) seconds: Histogram,
    queue_seconds: Histogram,
}

impl Fetches {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            outcomes: CounterPer::new(
                registry,
                "vms_edge_fetches_total",
                "Fetches wanted, by what came of them; busy and open were not sent.",
            ),
            ids: counter(
                registry,
                "vms_edge_fetch_ids_total",
                "Ids asked in fetches.",
            ),
            collapsed_ids: counter(
                registry,
                "vms_edge_collapsed_ids_total",
                "Missing ids that another batch was fetching already, and that were waited for.",
            ),
            seconds: seconds(
                registry,
                "vms_edge_fetch_seconds",
                "Time of a fetch, from waiting for a turn to its last byte.",
            ),
            queue_seconds: seconds(
                registry,
                "vms_edge_fetch_queue_seconds",
                "Time that a fetch waited for its turn.",
            ),
        }
    }
}

impl Metrics {
    /// Counts a fetch of `ids` ids.
    pub fn fetch(&self, endpoint: &EndpointCounters, ids: usize, took: Duration) {
        self.fetches.ids.inc_by(ids as u64);
        endpoint.fetch_ids.inc_by(ids as u64);
        self.fetches.seconds.observe(took.as_secs_f64());
    }

    /// Counts a fetch's wait for its turn.
    pub fn queued(&self, time: Duration) {
        self.fetches.queue_seconds.observe(time.as_secs_f64());
    }

    /// Counts ids that another batch's fetch brings.
    pub fn collapsed(&self, ids: usize) {
        self.fetches.collapsed_ids.inc_by(ids as u64);
    }

    /// Counts what came of a fetch.
    pub fn fetch_outcome(&self, outcome: FetchOutcome) {
        self.fetches.outcomes.add(outcome, 1);
    }
}
