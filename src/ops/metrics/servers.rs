//! How the servers of the VMS stand; time alone moves it.

use prometheus::proto::MetricFamily;

use super::Label;
use super::reading::gauge_per;
use crate::origin::server::ServerState;
use crate::origin::servers::Servers;

/// Counts servers by their state; an address is no label.
pub(super) fn families(servers: &Servers) -> Vec<MetricFamily> {
    let states = ServerState::ALL.iter().zip(servers.states());
    vec![gauge_per(
        "vms_edge_upstream_servers",
        "Addresses of the VMS, by whether they are asked.",
        ServerState::NAME,
        states.map(|(state, count)| (state.name(), count as f64)),
    )]
}
