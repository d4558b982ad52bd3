//! What is counted of clients before they ask anything: connections, handshakes, certificates.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, IntCounter, IntGauge, IntGaugeVec, Opts, Registry};

use super::label::{CertificateReload, ConnectionRefusal, Handshake, Label, ListenerKind};
use super::{CounterPer, VALID};

/// Counters and gauges of connections and certificates.
pub struct ClientMetrics {
    registry: Registry,
    connections: [IntGauge; 2],
    refused: CounterPer<ConnectionRefusal>,
    handshakes: CounterPer<Handshake>,
    reloads: CounterPer<CertificateReload>,
    taken_back: IntCounter,
    forsaken: IntCounter,
}

impl ClientMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let options = Opts::new("vms_edge_connections", "Connections of clients.");
        let open = IntGaugeVec::new(options, &[ListenerKind::NAME]).expect(VALID);
        registry.register(Box::new(open.clone())).expect(VALID);
        let open = |kind: ListenerKind| open.with_label_values(&[kind.name()]);
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help).expect(VALID);
            registry.register(Box::new(counter.clone())).expect(VALID);
            counter
        };
        Self {
            connections: [open(ListenerKind::Plain), open(ListenerKind::Tls)],
            refused: CounterPer::new(
                registry,
                "vms_edge_connections_refused_total",
                "Connections closed before any request, by reason.",
            ),
            handshakes: CounterPer::new(
                registry,
                "vms_edge_tls_handshakes_total",
                "TLS handshakes with clients.",
            ),
            reloads: CounterPer::new(
                registry,
                "vms_edge_tls_reloads_total",
                "Certificates that had changed, by whether the new one serves.",
            ),
            taken_back: counter(
                "vms_edge_requests_taken_back_total",
                "Requests over HTTP/2 that their client took back before they were looked at.",
            ),
            forsaken: counter(
                "vms_edge_connections_ended_total",
                "Connections of HTTP/2 that were ended because their client took too much back.",
            ),
            registry: registry.clone(),
        }
    }

    /// Connections of this kind that are open.
    pub fn connections(&self, kind: ListenerKind) -> &IntGauge {
        &self.connections[kind.place()]
    }

    /// Counts a connection that was closed before any request.
    pub fn refused(&self, reason: ConnectionRefusal) {
        self.refused.add(reason, 1);
    }

    /// Counts a request over HTTP/2 that was taken back before it was looked at.
    pub fn taken_back(&self) {
        self.taken_back.inc();
    }

    /// Counts a connection that was ended because too much was taken back.
    pub fn forsaken(&self) {
        self.forsaken.inc();
    }

    /// Counts a TLS handshake.
    pub fn handshake(&self, result: Handshake) {
        self.handshakes.add(result, 1);
    }

    /// Counts a certificate that had changed.
    pub fn certificate_reload(&self, result: CertificateReload) {
        self.reloads.add(result, 1);
    }

    /// Shows at each reading the days for which each certificate is still good, as `days_left` tells them.
    pub fn watch_certificates(&self, days_left: impl Fn() -> Vec<f64> + Send + Sync + 'static) {
        let expiries = Expiries::of(Box::new(days_left));
        self.registry.register(Box::new(expiries)).expect(VALID);
    }
}

/// Days to the end of each certificate; its label is the place of its table in the file, from 0.
struct Expiries {
    days_left: Box<dyn Fn() -> Vec<f64> + Send + Sync>,
    gauges: GaugeVec,
}

impl Expiries {
    fn of(days_left: Box<dyn Fn() -> Vec<f64> + Send + Sync>) -> Self {
        let options = Opts::new(
            "vms_edge_tls_certificate_expiry_days",
            "Days for which a certificate is still good, by the place of its table in the file; negative after that.",
        );
        let gauges = GaugeVec::new(options, &["certificate"]).expect(VALID);
        Self { days_left, gauges }
    }
}

impl Collector for Expiries {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // A reload may have taken certificates away.
        self.gauges.reset();
        for (place, days) in (self.days_left)().into_iter().enumerate() {
            self.gauges
                .with_label_values(&[&place.to_string()])
                .set(days);
        }
        self.gauges.collect()
    }
}
