//! How the servers of the VMS stand: a gauge that is read when somebody looks, since time alone moves it.

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts};

use super::{Label, VALID, signed};
use crate::origin::server::ServerState;
use crate::origin::servers::Servers;

/// Counts servers by their state; an address is no label.
pub(super) struct ServerStates {
    servers: Arc<Servers>,
    gauges: IntGaugeVec,
}

impl ServerStates {
    pub(super) fn of(servers: Arc<Servers>) -> Self {
        let options = Opts::new(
            "vms_edge_upstream_servers",
            "Addresses of the VMS, by whether they are asked.",
        );
        let gauges = IntGaugeVec::new(options, &[ServerState::NAME]).expect(VALID);
        Self { servers, gauges }
    }
}

impl Collector for ServerStates {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        for (state, count) in ServerState::ALL.iter().zip(self.servers.states()) {
            let gauge = self.gauges.with_label_values(&[state.name()]);
            gauge.set(signed(count as u64));
        }
        self.gauges.collect()
    }
}
