//! The words of the file that stand for one of a few values: one table for reading and for printing.

use tracing::Level;

use super::{Check, ClientCertificate, FetchCoding, HealthCheck, LogFormat, Order};

/// `server.tls.client_certificate`.
pub(super) const CLIENT_CERTIFICATES: &[(&str, ClientCertificate)] = &[
    ("required", ClientCertificate::Required),
    ("optional", ClientCertificate::Optional),
];

/// `upstream.health.check`.
pub(super) const HEALTH_CHECKS: &[(&str, HealthCheck)] = &[
    ("auto", HealthCheck::Auto),
    ("always", HealthCheck::Always),
    ("never", HealthCheck::Never),
];

/// `upstream.fetch_coding`.
pub(super) const FETCH_CODINGS: &[(&str, FetchCoding)] = &[
    (FetchCoding::Identity.name(), FetchCoding::Identity),
    (FetchCoding::Gzip.name(), FetchCoding::Gzip),
];

/// `batch.order`.
pub(super) const ORDERS: &[(&str, Order)] = &[
    ("auto", Order::Auto),
    ("id", Order::Id),
    ("request", Order::Request),
];

/// `headers.check`.
pub(super) const CHECKS: &[(&str, Check)] =
    &[("enforce", Check::Enforce), ("forward", Check::Forward)];

/// `log.level`.
pub(super) const LEVELS: &[(&str, Level)] = &[
    ("trace", Level::TRACE),
    ("debug", Level::DEBUG),
    ("info", Level::INFO),
    ("warn", Level::WARN),
    ("error", Level::ERROR),
];

/// `log.format`.
pub(super) const FORMATS: &[(&str, LogFormat)] =
    &[("text", LogFormat::Text), ("json", LogFormat::Json)];

/// The word for `value`.
pub(super) fn name_of<T: PartialEq>(table: &[(&'static str, T)], value: &T) -> &'static str {
    table
        .iter()
        .find(|(_, other)| other == value)
        .map(|(name, _)| *name)
        .expect("every value has its word in the table")
}
