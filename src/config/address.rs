//! Addresses and names of hosts, as the file spells them.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::HeaderValue;
use ipnet::IpNet;
use pingora_core::tls;

use super::section::Kind;
use super::{Collector, Scheme, ServerName, WebOrigin};

/// An address to listen on.
pub(super) const LISTEN: Kind<SocketAddr> = Kind {
    allowed: "IP:PORT, such as 0.0.0.0:8080, 127.0.0.1:8080 or [::]:8080",
    parse: |text| {
        text.parse()
            .map_err(|_| "is not an address to listen on".to_owned())
    },
};

/// A server of the VMS.
pub(super) const SERVER: Kind<ServerName> = Kind {
    allowed: "HOST:PORT, such as 10.0.0.5:9000, [fd00::5]:9000 or vms.local:9000",
    parse: server,
};

/// A network, or a single address in it.
pub(super) const NETWORK: Kind<IpNet> = Kind {
    allowed: "a network or an address, such as 10.0.0.0/8, 192.168.1.7 or fd00::/8",
    parse: network,
};

/// The value of a Host header.
pub(super) const HOST: Kind<HeaderValue> = Kind {
    allowed: r#"HOST or HOST:PORT, such as vms.local, or "" for the client's own"#,
    parse: host_header,
};

/// How clients address the VMS.
pub(super) const WEB_ORIGIN: Kind<WebOrigin> = Kind {
    allowed: r#"http:// or https:// and HOST or HOST:PORT, such as https://vms.example.com, or "" for http:// and upstream.host or the first server"#,
    parse: web_origin,
};

/// A name that a certificate can hold.
pub(super) const CERTIFICATE_NAME: Kind<String> = Kind {
    allowed: r#"a DNS name or an IP address, such as vms.local, or "" for the server's own host"#,
    parse: |text| match text.parse::<IpAddr>() {
        Ok(ip) => Ok(ip.to_string()),
        Err(_) => dns_name(text),
    },
};

/// Where spans are sent.
pub(super) const COLLECTOR: Kind<Collector> = Kind {
    allowed: r#"the URL of a collector that takes OTLP over HTTP, such as http://127.0.0.1:4318, or "" for none"#,
    parse: collector,
};

/// Where collectors listen for OTLP over HTTP, if not told otherwise.
const OTLP_PORT: u16 = 4318;

/// A name under which the edge itself is reached.
pub(super) const NAME: Kind<String> = Kind {
    allowed: "a DNS name without port, such as edge.internal",
    parse: |text| match text.parse::<IpAddr>() {
        Ok(_) => Err("is an address, and those are let in anyway".to_owned()),
        Err(_) => dns_name(text),
    },
};

fn server(text: &str) -> Result<ServerName, String> {
    let (host, port) = text
        .rsplit_once(':')
        .filter(|(host, _)| !host.contains(':') || host.ends_with(']'))
        .ok_or("has no port")?;
    Ok(ServerName {
        host: host_name(host)?,
        port: port_number(port)?,
    })
}

fn collector(text: &str) -> Result<Collector, String> {
    let rest = text
        .strip_prefix("http://")
        .ok_or("does not begin with http://")?;
    if rest.contains(['?', '#']) {
        return Err("holds a query or a fragment".to_owned());
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err("holds a user or a password".to_owned());
    }
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("has a path with other characters than visible ASCII".to_owned());
    }
    let has_port = authority.rfind(':') > authority.rfind(']');
    let server = match has_port {
        true => server(authority)?,
        false => ServerName {
            host: host_name(authority)?,
            port: OTLP_PORT,
        },
    };
    Ok(Collector {
        server,
        path: path.trim_end_matches('/').to_owned(),
    })
}

fn network(text: &str) -> Result<IpNet, String> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(ip.into());
    }
    let network: IpNet = text.parse().map_err(|_| "is not a network")?;
    if network.addr() != network.network() {
        // Most likely a single host was meant; taking the whole network would trust too many.
        let (whole, single) = (network.trunc(), network.addr());
        return Err(format!(
            "has bits beyond its prefix: {whole} is the network, {single} the address"
        ));
    }
    Ok(network)
}

fn host_header(text: &str) -> Result<HeaderValue, String> {
    match text.rsplit_once(':').filter(|_| !text.ends_with(']')) {
        Some((host, port)) => {
            host_name(host)?;
            port_number(port)?;
        }
        None => {
            host_name(text)?;
        }
    }
    HeaderValue::from_str(text).map_err(|_| "is not a host".to_owned())
}

fn web_origin(text: &str) -> Result<WebOrigin, String> {
    let (scheme, host) = text
        .split_once("://")
        .ok_or("does not begin with http:// or https://")?;
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return Err("does not begin with http:// or https://".to_owned()),
    };
    if host.contains('@') {
        return Err("holds a user or a password".to_owned());
    }
    if host.contains(['/', '?', '#']) {
        return Err("holds more than a scheme, a host and a port".to_owned());
    }
    let host = host_header(host)?;
    Ok(WebOrigin { scheme, host })
}

/// An IP address, in brackets if IPv6, or a DNS name; without the brackets, in lower case.
fn host_name(text: &str) -> Result<String, String> {
    if let Some(inner) = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        let ip: Ipv6Addr = inner
            .parse()
            .map_err(|_| "has no IPv6 address in its brackets")?;
        return Ok(ip.to_string());
    }
    match text.parse() {
        Ok(IpAddr::V4(ip)) => Ok(ip.to_string()),
        Ok(IpAddr::V6(_)) => Err("has an IPv6 address without brackets".to_owned()),
        Err(_) => dns_name(text),
    }
}

fn dns_name(text: &str) -> Result<String, String> {
    match tls::ServerName::try_from(text) {
        Ok(tls::ServerName::DnsName(name)) => Ok(name.as_ref().to_ascii_lowercase()),
        _ => Err("has no valid host name".to_owned()),
    }
}

fn port_number(text: &str) -> Result<u16, String> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("has a port that is not a number".to_owned());
    }
    match text.parse() {
        Ok(0) | Err(_) => Err("has a port out of the range 1 to 65535".to_owned()),
        Ok(port) => Ok(port),
    }
}

/// Whether a listener on one address would be in the way of a listener on the other.
///
/// A wildcard takes every address of its family. Whether `[::]` takes IPv4 too is the system's choice, so it is left
/// to the system to refuse.
pub(super) fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let same_family = a.is_ipv4() == b.is_ipv4();
    let wildcard = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && (a.ip() == b.ip() || (same_family && wildcard))
}

/// Whether asking `server` would be asking whoever listens on `listener`, as far as the addresses tell.
pub(super) fn reaches(server: &ServerName, listener: SocketAddr) -> bool {
    let (bound, wildcard) = (listener.ip(), listener.ip().is_unspecified());
    let same_host = match server.host.parse::<IpAddr>() {
        Ok(ip) => ip == bound || (wildcard && ip.is_loopback() && ip.is_ipv4() == bound.is_ipv4()),
        Err(_) => server.host == "localhost" && (wildcard || bound.is_loopback()),
    };
    same_host && server.port == listener.port()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown<T: std::fmt::Display>(kind: &Kind<T>, text: &str) -> String {
        match (kind.parse)(text) {
            Ok(value) => value.to_string(),
            Err(problem) => problem,
        }
    }

    #[test]
    fn a_server_is_a_host_and_a_port() {
        for (text, expected) in [
            ("127.0.0.1:9000", "127.0.0.1:9000"),
            ("VMS.local:80", "vms.local:80"),
            ("vms_app:9000", "vms_app:9000"),
            ("[FD00:0::5]:9000", "[fd00::5]:9000"),
            ("vms.local", "has no port"),
            ("fd00::5:9000", "has no port"),
            ("vms.local:", "has a port out of the range 1 to 65535"),
            ("vms.local:0", "has a port out of the range 1 to 65535"),
            ("vms.local:65536", "has a port out of the range 1 to 65535"),
            ("vms.local:+80", "has a port that is not a number"),
            ("vms.local:http", "has a port that is not a number"),
            (":9000", "has no valid host name"),
            ("http://vms.local:80", "has no port"),
            ("vms local:80", "has no valid host name"),
            ("-vms:80", "has no valid host name"),
            ("10.0.0.256:80", "has no valid host name"),
            ("[10.0.0.5]:80", "has no IPv6 address in its brackets"),
        ] {
            assert_eq!(shown(&SERVER, text), expected, "{text}");
        }
    }

    #[test]
    fn a_single_address_is_a_network_of_one() {
        assert_eq!(shown(&NETWORK, "10.0.0.0/8"), "10.0.0.0/8");
        assert_eq!(shown(&NETWORK, "192.168.1.7"), "192.168.1.7/32");
        assert_eq!(shown(&NETWORK, "fd00::1"), "fd00::1/128");
        assert_eq!(shown(&NETWORK, "10.0.0.0/33"), "is not a network");
        assert_eq!(
            shown(&NETWORK, "10.0.0.1/8"),
            "has bits beyond its prefix: 10.0.0.0/8 is the network, 10.0.0.1 the address"
        );
    }

    #[test]
    fn a_host_header_is_a_host_with_or_without_a_port() {
        for good in [
            "vms.local",
            "VMS.local:8443",
            "10.0.0.5",
            "[fd00::5]",
            "[fd00::5]:80",
        ] {
            assert_eq!((HOST.parse)(good).unwrap(), good);
        }
        for bad in [
            "vms local",
            "https://vms.local",
            "vms.local:",
            "fd00::5",
            "vms.local/x",
            "a\r\nb",
        ] {
            assert!((HOST.parse)(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_wildcard_listener_is_in_the_way_of_its_whole_family() {
        let overlaps = |a: &str, b: &str| overlap(a.parse().unwrap(), b.parse().unwrap());
        assert!(overlaps("127.0.0.1:80", "127.0.0.1:80"));
        assert!(overlaps("0.0.0.0:80", "127.0.0.1:80"));
        assert!(overlaps("[::1]:80", "[::]:80"));
        assert!(!overlaps("0.0.0.0:80", "[::1]:80"));
        assert!(!overlaps("127.0.0.1:80", "127.0.0.1:81"));
        assert!(!overlaps("127.0.0.1:80", "127.0.0.2:80"));
        assert!(!overlaps("127.0.0.1:0", "127.0.0.1:0"));
    }

    #[test]
    fn the_edge_recognises_itself() {
        let itself = |server: &str, listener: &str| {
            reaches(&(SERVER.parse)(server).unwrap(), listener.parse().unwrap())
        };
        assert!(itself("127.0.0.1:8080", "0.0.0.0:8080"));
        assert!(itself("127.0.0.1:8080", "127.0.0.1:8080"));
        assert!(itself("localhost:8080", "0.0.0.0:8080"));
        assert!(itself("[::1]:8080", "[::]:8080"));
        assert!(!itself("127.0.0.1:9000", "0.0.0.0:8080"));
        assert!(!itself("10.0.0.5:8080", "0.0.0.0:8080"));
        assert!(!itself("127.0.0.2:8080", "127.0.0.1:8080"));
        assert!(!itself("vms.local:8080", "0.0.0.0:8080"));
    }
}
