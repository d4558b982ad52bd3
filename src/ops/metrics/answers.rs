//! What was coded of the answers from memory, and what that takes.

use prometheus::proto::MetricFamily;

use super::reading::{counter_per, gauge};
use crate::reply::answers::Usage;

pub(super) fn families(usage: Usage) -> Vec<MetricFamily> {
    vec![
        gauge(
            "vms_edge_compressed_bytes",
            "Bytes that compressed answers occupy.",
            usage.coded_bytes as f64,
        ),
        counter_per(
            "vms_edge_compressions_total",
            "Answers that were to be compressed, by what came of it.",
            "result",
            [
                ("made", usage.made as f64),
                ("useless", usage.useless as f64),
                ("dropped", usage.dropped as f64),
            ],
        ),
    ]
}
