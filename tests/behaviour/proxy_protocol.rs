//! The PROXY protocol: the client's address, told by a proxy that is believed, and by nobody else.

use std::net::SocketAddr;
use std::process::Command;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::authority::Authority;
use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::program::{run, said};
use crate::support::scrape::Scrape;
use crate::support::scripted::Scripted;
use crate::support::tools::tool;
use crate::support::wire::{Stream, Wire};

const BELIEVED: &str =
    "server.proxy_protocol = true\nserver.trusted_proxies = [\"127.0.0.1\"]\nserver.threads = 1\n";

const REFUSED: &str = "vms_edge_connections_refused_total{reason=\"proxy_protocol\"}";

/// A header of version 1 for the client 192.0.2.7.
const LINE: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n";

/// A header of version 2 for the client 2001:db8::7, with an addition.
fn binary() -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x21".to_vec();
    let client = "2001:db8::7".parse::<std::net::Ipv6Addr>().expect("valid");
    let edge = "2001:db8::1".parse::<std::net::Ipv6Addr>().expect("valid");
    let addition = b"\x02\x00\x04a.ex";
    let length = u16::try_from(36 + addition.len()).expect("it is short");
    header.extend(length.to_be_bytes());
    header.extend([client.octets(), edge.octets()].concat());
    header.extend([4711_u16.to_be_bytes(), 443_u16.to_be_bytes()].concat());
    header.extend(addition);
    header
}

/// A header of version 2 for the proxy itself.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";

async fn edge(settings: &str) -> (Scripted, TestEdge) {
    let vms = Scripted::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let edge = TestEdge::with(&[vms.address.to_string()], settings);
    (vms, edge)
}

async fn client_behind(header: &[u8], to: SocketAddr) -> Client {
    let mut client = Client::connect(to).await;
    client.send(header).await;
    client
}

#[tokio::test]
async fn the_client_in_the_header_is_who_the_vms_is_told_of() {
    let (vms, edge) = edge(BELIEVED).await;
    let binary = binary();
    for (header, address) in [
        (LINE, "192.0.2.7"),
        (&binary, "2001:db8::7"),
        (LOCAL, "127.0.0.1"),
        // It may be anybody's.
        (b"PROXY UNKNOWN\r\n", "0.0.0.0"),
    ] {
        let mut client = client_behind(header, edge.address).await;
        // It is said once for the connection, and what the client itself says of earlier hops is not believed.
        for _ in 0..2 {
            client
                .send("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n")
                .await;
            assert_eq!(client.response().await.text(), "ok");
            let told = vms.requests().pop().expect("a request");
            let told = told
                .head
                .one("x-forwarded-for")
                .expect("it is told")
                .to_owned();
            let believed = match address {
                // The proxy itself is trusted.
                "127.0.0.1" => "203.0.113.9, 127.0.0.1",
                _ => address,
            };
            assert_eq!(told, believed);
        }
    }
}

#[tokio::test]
async fn a_header_that_comes_in_pieces_with_the_request_behind_it_is_read() {
    let (vms, edge) = edge(BELIEVED).await;
    let mut client = client_behind(&LINE[..20], edge.address).await;
    let rest = [&LINE[20..], b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
    client.send(rest).await;
    assert_eq!(client.response().await.text(), "ok");
    let request = vms.only_request();
    assert_eq!(request.head.one("x-forwarded-for"), Some("192.0.2.7"));
}

#[tokio::test]
async fn before_a_handshake_it_is_read_too() {
    let authority = Authority::new();
    let settings = format!("{BELIEVED}{}", authority.table("localhost"));
    let (vms, edge) = edge(&settings).await;
    let mut stream = TcpStream::connect(edge.tls[0]).await.expect("it listens");
    stream.write_all(&binary()).await.expect("it is taken");
    let shaken = authority.shake_hands(stream, "localhost", &[]).await;
    let mut client = Client {
        wire: Wire::new(Stream::TlsClient(Box::new(shaken.expect("a handshake")))),
    };
    assert_eq!(client.get("/").await.text(), "ok");
    let request = vms.only_request();
    assert_eq!(request.head.one("x-forwarded-for"), Some("2001:db8::7"));
    assert_eq!(request.head.one("x-forwarded-proto"), Some("https"));

    let Some(curl) = tool("curl") else {
        return;
    };
    let mut curl = Command::new(curl);
    curl.args([
        "--silent",
        "--show-error",
        "--haproxy-protocol",
        "--http2",
        "--cacert",
    ])
    .arg(authority.ca())
    .arg(format!("https://localhost:{}/", edge.tls[0].port()));
    assert_eq!(said(&run(curl).await), "ok");
}

#[tokio::test]
async fn whoever_is_not_believed_or_says_nothing_of_the_kind_is_closed_and_counted() {
    let (vms, edge) = edge(BELIEVED).await;
    let mut refused = 0.0;
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        b"PROXY TCP4 192.0.2.7 198.51.100.1\r\n",
        b"PROXY TCP4 not-an-address 198.51.100.1 4711 443\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\x00\x0c............",
    ] {
        let mut client = client_behind(bytes, edge.address).await;
        let (answer, _) = client.wire.rest().await;
        assert_eq!(answer, b"", "{}", bytes.escape_ascii());
        refused += 1.0;
        Scrape::once(edge.admin, REFUSED, refused).await;
    }
    assert!(vms.requests().is_empty());

    let others = "server.proxy_protocol = true\nserver.trusted_proxies = [\"192.0.2.0/24\"]\n";
    let (vms, edge) = self::edge(others).await;
    let mut client = client_behind(LINE, edge.address).await;
    // Nothing was read of what it sent, so that it may be reset.
    client.wire.rest().await;
    Scrape::once(edge.admin, REFUSED, 1.0).await;
    assert!(vms.requests().is_empty());
}

#[tokio::test]
async fn a_proxy_that_says_nothing_is_closed_in_time() {
    let settings = format!("{BELIEVED}limits.header_timeout = \"200ms\"\n");
    let (_vms, edge) = edge(&settings).await;
    let mut silent = Client::connect(edge.address).await;
    let mut halfway = client_behind(&LINE[..20], edge.address).await;
    silent.wire.closed().await;
    halfway.wire.closed().await;
    Scrape::once(edge.admin, REFUSED, 2.0).await;
}

#[tokio::test]
async fn connections_are_counted_for_the_client_in_the_header() {
    for limit in ["address_connections", "address_connection_rate"] {
        connections_are_counted_by(limit).await;
    }
}

async fn connections_are_counted_by(limit: &str) {
    let settings = format!("{BELIEVED}limits.{limit} = 1\n");
    let (_vms, edge) = edge(&settings).await;
    let mut first = client_behind(LINE, edge.address).await;
    assert_eq!(first.get("/").await.status, 200);
    let mut again = client_behind(LINE, edge.address).await;
    again
        .response()
        .await
        .assert_edge_error(429, "Too Many Requests");
    let mut other = client_behind(&binary(), edge.address).await;
    assert_eq!(other.get("/").await.status, 200);
    // A proxy that speaks for itself is no client.
    let mut proxies = Vec::new();
    for _ in 0..3 {
        let mut proxy = client_behind(LOCAL, edge.address).await;
        assert_eq!(proxy.get("/").await.status, 200);
        proxies.push(proxy);
    }
}
