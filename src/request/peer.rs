//! Who the client is: the peer of its connection, or whom a trusted peer speaks for.
//!
//! Nothing here knows what is done about it: who is believed shapes keys and forwarding headers, and who counts as one
//! client shapes limits, each elsewhere.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

use super::{Scheme, fields};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The client's side of a request.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Address of the connection.
    pub address: IpAddr,
    /// Whether what it says of earlier hops is believed.
    pub is_trusted: bool,
    /// How the connection is protected.
    pub scheme: Scheme,
}

impl Peer {
    /// A peer at `address`, believed if that is in one of the `trusted` networks.
    pub fn new(address: IpAddr, scheme: Scheme, trusted: &[IpNet]) -> Self {
        Self {
            address: address.to_canonical(),
            is_trusted: is_trusted(address, trusted),
            scheme,
        }
    }
}

/// Whether `address` is in one of the `trusted` networks.
pub fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    // A dual-stack listener shows IPv4 peers as ::ffff:a.b.c.d.
    let address = address.to_canonical();
    trusted.iter().any(|network| network.contains(&address))
}

/// The address of the client: the last hop that none of the `trusted` proxies is, as far as they tell.
///
/// Each proxy adds the address that it saw to the end of `X-Forwarded-For`, so what stands there is believed from the end,
/// up to the first that is no proxy's; what stands before that, anybody may have written.
pub fn client_address(headers: &HeaderMap, peer: Peer, trusted: &[IpNet]) -> IpAddr {
    let mut client = peer.address;
    if !peer.is_trusted {
        return client;
    }
    let mut hops: Vec<&[u8]> = fields::members(headers, X_FORWARDED_FOR).collect();
    while is_trusted(client, trusted)
        && let Some(hop) = hops.pop()
        && let Some(address) = hop_address(hop)
    {
        client = address.to_canonical();
    }
    client
}

/// What counts as one client: an IPv4 address, or the IPv6 network of 64 bits that a single line is given.
pub fn client_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

/// An address as proxies write it, some of them with a port.
fn hop_address(hop: &[u8]) -> Option<IpAddr> {
    let hop = std::str::from_utf8(hop).ok()?;
    let bare = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']'));
    let with_port = || Some(hop.parse::<SocketAddr>().ok()?.ip());
    bare.unwrap_or(hop).parse().ok().or_else(with_port)
}

#[cfg(test)]
mod tests {
    use pingora_http::RequestHeader;

    use super::*;

    #[test]
    fn the_client_is_the_last_hop_that_no_trusted_proxy_is() {
        let trusted: Vec<IpNet> = ["10.0.0.0/8", "fd00::/8"]
            .map(|n| n.parse().unwrap())
            .into();
        let client = |peer: &str, lines: &[&str]| {
            let mut request = RequestHeader::build("GET", b"/", None).unwrap();
            for line in lines {
                request.append_header("X-Forwarded-For", *line).unwrap();
            }
            let peer = Peer::new(peer.parse().unwrap(), Scheme::Http, &trusted);
            client_address(&request.headers, peer, &trusted).to_string()
        };
        assert_eq!(client("192.0.2.1", &["1.1.1.1"]), "192.0.2.1");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["6.6.6.6, 1.1.1.1"]), "1.1.1.1");
        assert_eq!(
            client("10.0.0.1", &["6.6.6.6", "1.1.1.1, 10.0.0.2"]),
            "1.1.1.1"
        );
        assert_eq!(
            client("10.0.0.1", &["1.1.1.1:80, [fd00::2]:443"]),
            "1.1.1.1"
        );
        assert_eq!(client("10.0.0.1", &["[2001:db8::1]"]), "2001:db8::1");
        assert_eq!(client("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
        assert_eq!(
            client("10.0.0.1", &["1.1.1.1, unknown, 10.0.0.2"]),
            "10.0.0.2"
        );
    }

    #[test]
    fn an_ipv6_line_is_one_client() {
        let network = |text: &str| client_network(text.parse().unwrap());
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:1"));
        assert_ne!(network("2001:db8:0:1::1"), network("2001:db8::1"));
        assert_eq!(network("::ffff:10.0.0.1"), network("10.0.0.1"));
    }
}
