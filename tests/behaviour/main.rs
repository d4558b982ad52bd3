//! The edge's behaviour through real sockets: one edge and one VMS per test, on ports of their own.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails, and says where"
)]

mod ageing;
mod answers;
mod checks;
mod clients;
mod fetching;
mod model;
mod stored;
mod support;
mod transcripts;
mod understood;
