//! How full the store is, and what it let go.

use prometheus::proto::MetricFamily;

use super::reading::{counter_per, gauge};
use crate::cache::store::Usage;

pub(super) fn families(usage: Usage) -> Vec<MetricFamily> {
    vec![
        gauge(
            "vms_edge_cache_bytes",
            "Bytes that stored items occupy.",
            usage.bytes as f64,
        ),
        gauge(
            "vms_edge_cache_max_bytes",
            "Bytes that stored items may occupy.",
            usage.max_bytes as f64,
        ),
        gauge(
            "vms_edge_cache_items",
            "Ids remembered, known absences included.",
            usage.items as f64,
        ),
        gauge(
            "vms_edge_cache_users",
            "Requesters (user, device, language …) with something stored.",
            usage.shelves as f64,
        ),
        counter_per(
            "vms_edge_cache_evictions_total",
            "Requesters of whom all that was stored was let go, by why.",
            "reason",
            [
                ("size", usage.evicted_for_room as f64),
                ("age", usage.evicted_for_age as f64),
                ("user", usage.evicted_for_user as f64),
            ],
        ),
    ]
}
