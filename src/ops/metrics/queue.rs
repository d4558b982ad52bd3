//! How full the queue before the VMS is.

use prometheus::proto::MetricFamily;

use super::reading::gauge;
use crate::origin::fetch::Occupancy;

pub(super) fn families(occupancy: Occupancy) -> Vec<MetricFamily> {
    vec![
        gauge(
            "vms_edge_fetches_waiting",
            "Fetches that wait for their turn.",
            occupancy.waiting as f64,
        ),
        gauge(
            "vms_edge_fetches_in_flight",
            "Fetches that have their turn.",
            occupancy.in_flight as f64,
        ),
        gauge(
            "vms_edge_fetch_places",
            "Fetches that may have their turn at once now; fewer for a while after an outage.",
            occupancy.places as f64,
        ),
        gauge(
            "vms_edge_fetch_places_max",
            "Fetches that may have their turn at once when all is well.",
            occupancy.most as f64,
        ),
    ]
}
