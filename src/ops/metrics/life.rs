//! What is counted of a process's life: its configurations, and its successors.

use prometheus::{IntGauge, Registry};

use super::label::{ReloadResult, UpgradeResult};
use super::{CounterPer, Metrics, gauge};

/// Counters of reloads and upgrades.
pub(super) struct Life {
    reloads: CounterPer<ReloadResult>,
    last_reload_success: IntGauge,
    upgrades: CounterPer<UpgradeResult>,
}

impl Life {
    pub(super) fn new(registry: &Registry) -> Self {
        let last_reload_success = gauge(
            registry,
            "vms_edge_config_last_reload_success",
            "Whether the configuration in effect is that of the file as it was last read: 1 or 0.",
        );
        last_reload_success.set(1);
        Self {
            reloads: CounterPer::new(
                registry,
                "vms_edge_reloads_total",
                "Reloads of the configuration, by what became of them.",
            ),
            last_reload_success,
            upgrades: CounterPer::new(
                registry,
                "vms_edge_upgrades_total",
                "Attempts to let a new process take over, by what became of them.",
            ),
        }
    }
}

impl Metrics {
    /// Counts a reload of the configuration.
    pub fn reloaded(&self, result: ReloadResult) {
        self.life.reloads.add(result, 1);
        let success = i64::from(result == ReloadResult::Applied);
        self.life.last_reload_success.set(success);
    }

    /// Counts an attempt to let a new process take over.
    pub fn upgraded(&self, result: UpgradeResult) {
        self.life.upgrades.add(result, 1);
    }
}
