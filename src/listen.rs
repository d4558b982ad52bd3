//! Where connections come from: listeners, TLS, PROXY protocol, limits, and the threads that serve.
//!
//! [`Workers`] accept. Each connection then goes through `connection`: it finds a place within the limits (`places`, and for
//! how often somebody comes [`buckets`]), tells who it is for (`proxy_protocol`) and shakes hands ([`certificates`]), all
//! before one deadline, which goes on until the first request's header is there (`stream`, on a `transport`, of which one is
//! a `socket`). What comes that begins no request may wait until others were looked at (`turns`). What all of them share is
//! in `shared`. With HTTP/2 it is Pingora's from then on. With HTTP/1.1 its requests are read here, one after the other
//! (`http1`): the application may have an answer at hand, and Pingora is given the others. Whoever is refused is told why,
//! and waited for a moment (`farewell`). What the application is, this room does not know.
//!
//! Pingora's own accept loop does none of these, so it is not used. What it does do is done here too: its sockets' options,
//! and what it tells the application of a connection.

pub mod buckets;
pub mod certificates;
mod chunks;
mod connection;
mod exchange;
mod farewell;
mod http1;
mod http2;
mod places;
mod proxy_protocol;
mod shared;
mod socket;
mod stream;
mod transport;
mod turns;
#[cfg(test)]
mod wakings;
mod workers;

use std::time::Duration;

pub use http1::{Answer, Application, Client};
pub use http2::{as_http1, is_taken_back, options as http2_options, server_options};
pub use shared::Rules;
pub use stream::header_came;
pub use workers::{Drain, Listener, Workers};

/// How long a client's connection without a request is kept, whatever it speaks: longer than the idle timeout of the
/// balancers that stand before the edge (Traefik 90 s, nginx 60 s), so that it is they who close.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
