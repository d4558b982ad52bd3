//! How the servers of the VMS stand: a gauge that is read when somebody looks, since time alone moves it.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts, Registry};

use super::{Label, VALID, signed};
use crate::origin::server::ServerState;
use crate::origin::servers::Servers;

/// Counts servers by their state; an address is no label. Clones are handles to the same one.
#[derive(Clone)]
pub(super) struct ServerStates {
    servers: Arc<ArcSwapOption<Servers>>,
    gauges: IntGaugeVec,
}

impl ServerStates {
    /// Of no servers yet.
    pub(super) fn new(registry: &Registry) -> Self {
        let options = Opts::new(
            "vms_edge_upstream_servers",
            "Addresses of the VMS, by whether they are asked.",
        );
        let states = Self {
            servers: Arc::default(),
            gauges: IntGaugeVec::new(options, &[ServerState::NAME]).expect(VALID),
        };
        registry.register(Box::new(states.clone())).expect(VALID);
        states
    }

    /// Of these servers from now on.
    pub(super) fn watch(&self, servers: &Arc<Servers>) {
        self.servers.store(Some(Arc::clone(servers)));
    }
}

impl Collector for ServerStates {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let servers = self.servers.load();
        let counts = servers.as_ref().map(|servers| servers.states());
        for (state, count) in ServerState::ALL.iter().zip(counts.unwrap_or_default()) {
            let gauge = self.gauges.with_label_values(&[state.name()]);
            gauge.set(signed(count as u64));
        }
        self.gauges.collect()
    }
}
