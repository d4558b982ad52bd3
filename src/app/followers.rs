//! Parts that have settings of their own, and take over those of another configuration by themselves.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::StartError;
use super::lasting::Lasting;
use crate::config::Config;
use crate::listen::Rules;
use crate::listen::certificates::{self, Certificates};
use crate::ops::log::Control;
use crate::ops::spans::{Export, Span};

/// All of them. Clones are handles to the same ones.
#[derive(Clone)]
pub(super) struct Followers {
    pub(super) certificates: Arc<Certificates>,
    pub(super) rules: Arc<Rules>,
    pub(super) export: Arc<Export>,
    /// `None` where no log was started.
    pub(super) log: Option<Control>,
}

impl Followers {
    /// With the settings of `config`; what they do beside requests is done in `runtime`.
    ///
    /// # Errors
    ///
    /// When the operating system has no randomness to give.
    pub(super) fn start(
        config: &Config,
        lasting: &Lasting,
        spans: mpsc::Receiver<Span>,
        log: Option<Control>,
        runtime: &Handle,
    ) -> Result<Self, StartError> {
        let metrics = &lasting.metrics;
        let certificates = Certificates::new(&config.server, Arc::clone(metrics))?;
        let certificates = Arc::new(certificates);
        // They count in the metrics, which so must not keep them alive.
        let expiring = Arc::downgrade(&certificates);
        let days_left = move || {
            let certificates = expiring.upgrade();
            certificates.map_or_else(Vec::new, |shown| shown.days_left(SystemTime::now()))
        };
        metrics.clients().watch_certificates(days_left);
        if !config.server.tls.is_empty() {
            runtime.spawn(certificates::keep_watched(Arc::clone(&certificates)));
        }
        let export = Export::start(runtime, spans, &config.tracing, Arc::clone(metrics));
        Ok(Self {
            certificates,
            rules: Arc::new(Rules::of(config, &lasting.clock)),
            export: Arc::new(export),
            log,
        })
    }

    /// Takes over the settings of a configuration that was checked, and so cannot fail.
    pub(super) fn apply(&self, config: &Config) {
        self.certificates.apply(&config.server);
        self.rules.apply(config);
        self.export.apply(&config.tracing);
        if let Some(log) = &self.log {
            log.apply(&config.log);
        }
    }
}
