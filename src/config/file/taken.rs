//! Addresses that the edge listens on, of which no two may be in each other's way.

use std::net::SocketAddr;

use super::super::Server;
use super::super::address::overlap;

/// An address that is listened on, and the key that says so.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    pub(super) key: String,
    pub(super) address: SocketAddr,
}

/// What is wrong with `address`, if one of `taken` is in its way.
pub(super) fn clash(taken: &[Taken], address: SocketAddr) -> Option<String> {
    let in_the_way = |other: &&Taken| overlap(address, other.address);
    let other = taken.iter().find(in_the_way)?;
    let (key, other) = (&other.key, other.address);
    Some(format!("{address} is already taken by {key}, {other}"))
}

/// What `server` listens on.
pub(super) fn taken(server: &Server) -> Vec<Taken> {
    let plain = server.listen.iter().map(|address| ("listen", address));
    let tls = server.tls.iter().map(|tls| ("tls", &tls.listen));
    let numbered = plain.enumerate().chain(tls.enumerate());
    let taken = numbered.map(|(index, (key, address))| Taken {
        key: match key {
            "tls" => format!("server.tls[{index}].listen"),
            _ => format!("server.listen[{index}]"),
        },
        address: *address,
    });
    taken.collect()
}
