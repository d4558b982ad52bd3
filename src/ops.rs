//! What operators see: metrics, logs, and the admin listener.

pub mod admin;
pub mod body;
pub mod explain;
pub mod history;
pub mod log;
pub mod metrics;
pub mod moment;
pub mod purge;
pub mod reload;
pub mod spans;
