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
mod patience;
pub(crate) mod program;
pub(crate) mod reach;
pub(crate) mod relay;
pub(crate) mod scrape;
pub(crate) mod scripted;
pub(crate) mod service;
pub(crate) mod tools;
pub(crate) mod vectors;
pub(crate) mod wire;
pub(crate) mod world;

pub(crate) use patience::{PATIENCE, soon};
