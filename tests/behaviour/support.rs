//! What the behaviour tests are told with.

pub(crate) mod authority;
pub(crate) mod browser;
pub(crate) mod certificate;
pub(crate) mod client;
pub(crate) mod deaf;
pub(crate) mod deployment;
pub(crate) mod edge;
pub(crate) mod log;
pub(crate) mod operator;
pub(crate) mod otlp;
pub(crate) mod program;
pub(crate) mod reach;
pub(crate) mod scrape;
pub(crate) mod scripted;
pub(crate) mod service;
pub(crate) mod tools;
pub(crate) mod wire;
pub(crate) mod world;

use std::future::Future;
use std::time::Duration;

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for what must come; a test that waits in vain fails instead of hanging.
pub(crate) async fn soon<T>(what: &str, event: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, event)
        .await
        .unwrap_or_else(|_| panic!("{what} did not come"))
}
