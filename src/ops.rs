//! What operators see: metrics, logs, and the admin listener.

pub mod admin;
pub mod log;
pub mod metrics;
pub mod purge;
pub mod reload;
pub mod spans;
