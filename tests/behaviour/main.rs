//! The edge's behaviour through real sockets: one edge and one VMS per test, on ports of their own.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails, and says where"
)]

mod admin;
mod ageing;
mod answers;
mod breaker;
mod canary;
mod checks;
mod clients;
mod codings;
mod collapse;
mod conformance;
mod connections;
mod counted;
mod documented;
mod endpoints;
mod failing;
mod fetching;
mod framing;
mod health;
mod http1_wire;
mod http2;
mod http2_wire;
mod logging;
mod malformed;
mod model;
mod monitoring;
mod passing;
mod process;
mod promised;
mod proxy_protocol;
mod purging;
mod rate_limits;
mod refusing;
mod reloading;
mod repeating;
mod request_ids;
mod resident;
mod secrets;
mod service_manager;
mod shutdown;
mod slow;
mod slow_clients;
mod stored;
mod straight;
mod streaming;
mod support;
mod tls;
mod tls_clients;
mod tracing;
mod transcripts;
mod turns;
mod understood;
mod upgrading;
mod upstream;
mod validators;
mod vms_wire;
mod websocket;
mod writing;
