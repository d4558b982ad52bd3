//! What is counted of every request, batch or not.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, HistogramVec, IntGauge, Registry};

use super::label::{Label, RequestKind, StatusClass};
use super::{CounterPer, Metrics, SECONDS, VALID, family, gauge};

/// Histograms and counters of requests, by their kind, and how many there are.
pub(super) struct Requests {
    pub(super) seconds: [Histogram; 2],
    responses: [CounterPer<StatusClass>; 2],
    in_flight: IntGauge,
}

impl Requests {
    pub(super) fn new(registry: &Registry) -> Self {
        let options = HistogramOpts::new(
            "vms_edge_request_seconds",
            "Time from a request's header to the last byte of its answer.",
        );
        let options = options.buckets(SECONDS.to_vec());
        let kinds = HistogramVec::new(options, &[RequestKind::NAME]).expect(VALID);
        registry.register(Box::new(kinds.clone())).expect(VALID);
        let took = |kind: RequestKind| kinds.with_label_values(&[kind.name()]);
        let responses = family(
            registry,
            "vms_edge_responses_total",
            "Requests by the class of the status that they were answered with.",
            &[RequestKind::NAME, StatusClass::NAME],
        );
        let answered = |kind: RequestKind| CounterPer::of(&responses, kind.name());
        Self {
            seconds: [took(RequestKind::Batch), took(RequestKind::Pass)],
            responses: [answered(RequestKind::Batch), answered(RequestKind::Pass)],
            in_flight: gauge(
                registry,
                "vms_edge_requests_in_flight",
                "Requests being answered now.",
            ),
        }
    }
}

impl Metrics {
    /// Counts a finished request.
    pub fn request(&self, kind: RequestKind, status: StatusClass, took: Duration) {
        self.requests.responses[kind.place()].add(status, 1);
        self.requests.seconds[kind.place()].observe(took.as_secs_f64());
    }

    /// Requests being answered now.
    pub fn in_flight(&self) -> &IntGauge {
        &self.requests.in_flight
    }
}
