//! Streams, upgrades and the end of connections.

use crate::{TOKEN, shows, soon, started};

#[tokio::test]
async fn an_echo_comes_back_before_the_request_has_ended() {
    let (vms, _running, mut client) = started().await;
    let headers = [TOKEN, ("Transfer-Encoding", "chunked")];
    client.sends("POST", "/api/v1/echo", &headers, b"").await;
    let mut echo = client.begin("POST").await;
    assert_eq!(echo.status, 200);
    for chunk in ["one", "two"] {
        client.send(format!("3\r\n{chunk}\r\n")).await;
        assert_eq!(client.chunk(&mut echo).await, chunk.as_bytes());
    }
    client.send(b"0\r\n\r\n").await;
    assert_eq!(client.more(&mut echo).await, None);
    assert!(echo.complete);
    assert_eq!(vms.requests()[0].target, "/api/v1/echo");
    assert_eq!(shows(&mut client).await.status, 200);
    vms.assert_healthy();
}

#[tokio::test]
async fn a_websocket_is_opened_by_the_book_and_echoes() {
    let (vms, _running, mut client) = started().await;
    assert_eq!(client.request("GET", "/ws", &[], b"").await.status, 400);
    let headers = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let reply = client.request("GET", "/ws", &headers, b"").await;
    assert_eq!(reply.status, 101);
    let accept = reply.head.one("sec-websocket-accept");
    assert_eq!(accept, Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    client.send(b"\x81\x02hi").await;
    let echo = soon("the echo", client.wire.exactly(4)).await;
    assert_eq!(echo.unwrap(), b"\x81\x02hi");
    vms.assert_healthy();
}

#[tokio::test]
async fn connections_end_with_the_stand_in() {
    let (vms, running, mut client) = started().await;
    shows(&mut client).await;
    drop(running);
    assert!(client.head().await.is_none());
    vms.assert_healthy();
}
