//! What stands somewhere else already, and is read from there when somebody looks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use prometheus::proto::MetricFamily;

use super::reading::gauge;
use super::runtimes::{self, Runtime};
use super::{answers, queue, servers};
use crate::origin::fetch::Queue;
use crate::origin::servers::Servers;
use crate::reply::answers::Answers;

/// Where it stands; each part is silent until it is known.
#[derive(Default)]
pub(super) struct Watched {
    /// Of the configuration in effect.
    pub(super) servers: ArcSwapOption<Servers>,
    /// Of the configuration in effect.
    pub(super) queue: ArcSwapOption<Queue>,
    pub(super) answers: OnceLock<Arc<Answers>>,
    pub(super) runtimes: OnceLock<Vec<Runtime>>,
    pub(super) ready: OnceLock<Arc<AtomicBool>>,
}

impl Watched {
    pub(super) fn families(&self) -> Vec<MetricFamily> {
        let mut families = Vec::new();
        if let Some(servers) = &*self.servers.load() {
            families.extend(servers::families(servers));
        }
        if let Some(queue) = &*self.queue.load() {
            families.extend(queue::families(queue.occupancy()));
        }
        let answers = self.answers.get().map(|answers| answers.usage());
        families.extend(answers::families(answers.unwrap_or_default()));
        if let Some(runtimes) = self.runtimes.get() {
            families.extend(runtimes::families(runtimes));
        }
        if let Some(ready) = self.ready.get() {
            families.push(gauge(
                "vms_edge_ready",
                "1 while new requests are welcome; 0 from the beginning of a shutdown.",
                f64::from(u8::from(ready.load(Ordering::Relaxed))),
            ));
        }
        families
    }
}
