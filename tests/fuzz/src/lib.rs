//! Fuzz targets: functions that take any bytes, hold what the edge makes of them against another reading, and panic where
//! the two differ.
//!
//! `cargo fuzz` runs them on inputs of its own making (`make fuzz`), and `make test` on those that are kept: `seeds/` holds
//! what people wrote, each named for what it shows, `corpus/` what the fuzzer found that reaches further. README.md tells
//! how much was run.

#![forbid(unsafe_code)]

mod admin;
mod answer;
mod cache_status;
mod compose;
mod configuration;
mod connection;
mod headers;
mod ids;
mod message;

pub use admin::admin;
pub use answer::{answer, split};
pub use cache_status::cache_status;
pub use compose::compose_split;
pub use configuration::configuration;
pub use connection::connection;
pub use headers::headers;
pub use ids::ids;

/// A target: its name, which is that of its program and of its directories, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 9] = [
    ("ids", ids),
    ("headers", headers),
    ("answer", answer),
    ("split", split),
    ("compose_split", compose_split),
    ("cache_status", cache_status),
    ("configuration", configuration),
    ("admin", admin),
    ("connection", connection),
];
