//! Asking the VMS: which server, with which header, and what to make of its answer.

pub mod answer;
pub mod breaker;
pub mod checker;
pub mod collapse;
mod decode;
pub mod exchange;
pub mod fetch;
pub mod forward;
pub mod health;
mod json;
pub mod latency;
mod queue;
pub mod resolve;
pub mod server;
pub mod servers;
pub mod trust;
