//! WebSockets pass through, however long they are silent; a connection changes to no other protocol.

use tokio::sync::mpsc;

use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::scripted::{Connection, Scripted};
use crate::support::soon;

const HANDSHAKE: &str = "GET /ws?app=1 HTTP/1.1\r\nHost: vms.local\r\nConnection: keep-alive, Upgrade\r\n\
                         Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: pusher\r\n\r\n";
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const EMPTY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// A VMS that opens a WebSocket and sends everything back, until its end.
async fn echoing() -> Scripted {
    Scripted::start(|mut connection| async move {
        connection.head().await.expect("a request");
        connection.wire.send(SWITCHING).await;
        loop {
            let bytes = connection.wire.some(usize::MAX).await.unwrap_or_default();
            if bytes.is_empty() {
                return;
            }
            connection.wire.send(bytes).await;
        }
    })
    .await
}

async fn open(edge: &TestEdge) -> Client {
    let mut client = Client::connect(edge.address).await;
    client.send(HANDSHAKE).await;
    let response = client.begin("GET").await;
    assert_eq!(response.status, 101);
    assert_eq!(response.head.one("upgrade"), Some("websocket"));
    assert_eq!(response.head.one("connection"), Some("Upgrade"));
    assert_eq!(
        response.head.one("sec-websocket-accept"),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
    client
}

async fn assert_echo(client: &mut Client, bytes: &[u8]) {
    client.send(bytes).await;
    let echo = soon("the echo", client.wire.exactly(bytes.len())).await;
    assert_eq!(echo.expect("the tunnel is open"), bytes);
}

#[tokio::test]
async fn a_websocket_carries_bytes_both_ways() {
    let vms = echoing().await;
    let edge = TestEdge::before(vms.address);
    let mut client = open(&edge).await;
    assert_echo(&mut client, b"\x81\x85\x00\x00\x00\x00hello").await;
    assert_echo(&mut client, b"GET / HTTP/1.1\r\n\r\n").await;
    assert_echo(&mut client, &[0; 100_000]).await;
    let request = vms.only_request();
    assert_eq!(request.line(), "GET /ws?app=1 HTTP/1.1");
    assert_eq!(request.head.one("upgrade"), Some("websocket"));
    assert_eq!(request.head.one("connection"), Some("Upgrade"));
    assert_eq!(request.head.one("sec-websocket-protocol"), Some("pusher"));
}

#[tokio::test]
async fn a_silent_websocket_outlives_the_idle_timeout() {
    let websocket = echoing().await;
    let silent = Scripted::start(|mut connection| async move {
        while connection.request().await.is_some() {
            std::future::pending::<()>().await;
        }
    })
    .await;
    // Requests take turns: the WebSocket goes to the first server, the next request to the second.
    let servers = [websocket.address.to_string(), silent.address.to_string()];
    let edge = TestEdge::with(&servers, "upstream.idle_timeout = \"100ms\"");
    let mut client = open(&edge).await;
    let mut other = Client::connect(edge.address).await;
    assert_eq!(other.get("/").await.status, 504);
    assert_echo(&mut client, b"still there").await;
}

#[tokio::test]
async fn a_websocket_ends_when_either_end_closes_it() {
    let (event, mut events) = mpsc::unbounded_channel();
    let vms = Scripted::start(move |mut connection: Connection| {
        let event = event.clone();
        async move {
            connection.head().await.expect("a request");
            connection.wire.send(SWITCHING).await;
            if connection.number == 0 {
                return;
            }
            connection.wire.closed().await;
            event.send(()).expect("the test listens");
        }
    })
    .await;
    let edge = TestEdge::before(vms.address);
    let mut client = open(&edge).await;
    client.wire.closed().await;
    let client = open(&edge).await;
    drop(client);
    soon("the end of the tunnel", events.recv()).await;
}

#[tokio::test]
async fn a_refused_websocket_is_an_answer_like_any_other() {
    let vms = Scripted::answering("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
    let edge = TestEdge::before(vms.address);
    let mut client = Client::connect(edge.address).await;
    for _ in 0..2 {
        client.send(HANDSHAKE).await;
        let response = client.response().await;
        assert_eq!((response.status, response.text()), (403, "no"));
        assert_eq!(response.head.one("connection"), Some("keep-alive"));
    }
}

#[tokio::test]
async fn no_other_protocol_is_asked_of_the_vms() {
    let vms = Scripted::answering(EMPTY).await;
    let edge = TestEdge::before(vms.address);
    for upgrade in ["h2c", "websocket, h2c", "TLS/1.0", "websocket2"] {
        let mut client = Client::connect(edge.address).await;
        let request = format!(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: {upgrade}\r\n\
             HTTP2-Settings: AAA\r\n\r\n"
        );
        client.send(request).await;
        assert_eq!(client.response().await.status, 200);
    }
    client_with_http_1_0(&edge).await;
    assert_eq!(vms.requests().len(), 5);
    for request in vms.requests() {
        assert_eq!(request.head.one("upgrade"), None);
        assert_eq!(request.head.one("connection"), None);
        assert_eq!(request.head.one("http2-settings"), None);
    }
}

async fn client_with_http_1_0(edge: &TestEdge) {
    let mut client = Client::connect(edge.address).await;
    client.send(HANDSHAKE.replace("HTTP/1.1", "HTTP/1.0")).await;
    assert_eq!(client.response().await.status, 200);
}

#[tokio::test]
async fn a_protocol_change_that_nobody_asked_for_opens_no_tunnel() {
    let vms = Scripted::answering(SWITCHING).await;
    let edge = TestEdge::before(vms.address);
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    ] {
        let mut client = Client::connect(edge.address).await;
        client.send(request).await;
        client
            .response()
            .await
            .assert_edge_error(502, "Bad Gateway");
        client.wire.closed().await;
    }
}

#[tokio::test]
async fn only_a_websocket_is_exempt_from_the_idle_timeout() {
    let vms = Scripted::start(|mut connection| async move {
        while connection.request().await.is_some() {
            std::future::pending::<()>().await;
        }
    })
    .await;
    let settings = "upstream.idle_timeout = \"100ms\"";
    let edge = TestEdge::with(&[vms.address.to_string()], settings);
    let mut client = Client::connect(edge.address).await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
        .await;
    client
        .response()
        .await
        .assert_edge_error(504, "Gateway Timeout");
}

#[tokio::test]
async fn bytes_sent_before_a_websocket_is_open_open_none() {
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let vms = Scripted::start(move |mut connection: Connection| {
        let arrived = arrived.clone();
        async move {
            connection.head().await.expect("a request");
            arrived.send(()).expect("the test listens");
            connection.wire.closed().await;
        }
    })
    .await;
    let edge = TestEdge::before(vms.address);
    let mut client = Client::connect(edge.address).await;
    client.send(HANDSHAKE).await;
    soon("the handshake", arrivals.recv()).await;
    client
        .send("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    client
        .response()
        .await
        .assert_edge_error(400, "Bad Request");
    client.wire.closed().await;
    assert_eq!(vms.requests().len(), 1);
}

#[tokio::test]
async fn bytes_sent_along_with_a_handshake_are_no_request() {
    let vms = Scripted::answering("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
    let edge = TestEdge::before(vms.address);
    let mut client = Client::connect(edge.address).await;
    client
        .send(format!(
            "{HANDSHAKE}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
        ))
        .await;
    client
        .response()
        .await
        .assert_edge_error(400, "Bad Request");
    client.wire.closed().await;
    assert_eq!(vms.connections(), 0);
}

#[tokio::test]
async fn what_follows_a_refused_handshake_is_looked_at_as_closely_as_ever() {
    let vms = Scripted::answering("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
    let edge = TestEdge::before(vms.address);
    for odd in [
        "GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\r\nhello\r\n0\r\n\r\n",
    ] {
        for handshake in [HANDSHAKE, &HANDSHAKE.replace("websocket", "h2c")] {
            let mut client = Client::connect(edge.address).await;
            client.send(handshake).await;
            assert_eq!(client.response().await.status, 403);
            client.send(odd).await;
            client
                .response()
                .await
                .assert_edge_error(400, "Bad Request");
            client.wire.closed().await;
        }
    }
    // Whether the head of what has an ill-formed body was passed on depends on what came first.
    let mut asked = vms.requests().into_iter().map(|request| request.line());
    assert!(asked.all(|line| line.starts_with("GET /ws") || line.starts_with("POST ")));
}
