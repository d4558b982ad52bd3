//! What the threads share with each connection: the application, the rules, the places, the counts.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use tokio::sync::watch;

use super::places::Places;
use crate::config::{Config, Limits};
use crate::ops::metrics::Metrics;

/// What all threads share.
pub(super) struct Shared<A> {
    pub(super) app: Arc<A>,
    pub(super) rules: Arc<Rules>,
    pub(super) places: Arc<Places>,
    pub(super) metrics: Arc<Metrics>,
    /// Connections that are open, refused ones included.
    pub(super) open: Arc<AtomicUsize>,
    /// Refused connections that are waited for.
    pub(super) lingering: AtomicUsize,
    pub(super) phase: watch::Sender<Phase>,
    /// How many accept loops there are.
    pub(super) accepting: Arc<AtomicUsize>,
}

/// What new connections are taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Serving,
    Patient,
    Quick,
    Over,
}

/// What connections are subject to, and a reload may change for those that come after it.
pub struct Rules(ArcSwap<Rule>);

/// The rules at one time.
pub(super) struct Rule {
    pub(super) limits: Limits,
    pub(super) trusted_proxies: Vec<IpNet>,
    pub(super) proxy_protocol: bool,
}

impl Rules {
    /// Those of `config`.
    pub fn of(config: &Config) -> Self {
        Self(ArcSwap::from_pointee(Rule::of(config)))
    }

    /// Takes over those of `config`.
    pub fn apply(&self, config: &Config) {
        self.0.store(Arc::new(Rule::of(config)));
    }

    /// Those that are in effect.
    pub(super) fn now(&self) -> Arc<Rule> {
        self.0.load_full()
    }
}

impl Rule {
    fn of(config: &Config) -> Self {
        Self {
            limits: config.limits,
            trusted_proxies: config.server.trusted_proxies.clone(),
            proxy_protocol: config.server.proxy_protocol,
        }
    }
}
