//! How busy the threads are: those that serve, each by its number, and the one in the background.
//!
//! Only what tokio promises to keep is read; the rest of its metrics needs a build with `tokio_unstable`.

use prometheus::proto::MetricFamily;
use tokio::runtime::RuntimeMetrics;

use super::reading::{counter_per, gauge_per};

const LABEL: &str = "runtime";

/// One runtime under its name.
pub(super) type Runtime = (String, RuntimeMetrics);

pub(super) fn families(runtimes: &[Runtime]) -> Vec<MetricFamily> {
    let each = |value: fn(&RuntimeMetrics) -> f64| {
        let runtimes = runtimes.iter();
        runtimes.map(move |(name, runtime)| (name.as_str(), value(runtime)))
    };
    vec![
        counter_per(
            "vms_edge_runtime_busy_seconds_total",
            "Time in which a runtime's threads did not wait, counted when they begin to wait.",
            LABEL,
            each(|runtime| {
                sum(runtime, |of| {
                    runtime.worker_total_busy_duration(of).as_secs_f64()
                })
            }),
        ),
        counter_per(
            "vms_edge_runtime_parks_total",
            "How often a runtime's threads ran out of work and waited.",
            LABEL,
            each(|runtime| sum(runtime, |of| runtime.worker_park_count(of) as f64)),
        ),
        gauge_per(
            "vms_edge_runtime_tasks",
            "Tasks that a runtime has: one for each connection, and a few more.",
            LABEL,
            each(|runtime| runtime.num_alive_tasks() as f64),
        ),
        gauge_per(
            "vms_edge_runtime_queued_tasks",
            "Tasks that were woken from another thread and wait to be run.",
            LABEL,
            each(|runtime| runtime.global_queue_depth() as f64),
        ),
    ]
}

fn sum(runtime: &RuntimeMetrics, value: impl Fn(usize) -> f64) -> f64 {
    (0..runtime.num_workers()).map(value).sum()
}
