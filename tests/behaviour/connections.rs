//! Connections: how many there may be, how long they may take to say something, and how they end.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::authority::Authority;
use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::scrape::Scrape;
use crate::support::scripted::{Connection, Scripted};
use crate::support::service::Service;
use crate::support::soon;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

async fn edge(settings: &str) -> (Scripted, TestEdge) {
    let vms = Scripted::answering(OK).await;
    let edge = TestEdge::with(&[vms.address.to_string()], settings);
    (vms, edge)
}

fn refused(reason: &str) -> String {
    format!("vms_edge_connections_refused_total{{reason=\"{reason}\"}}")
}

const PLAIN: &str = "vms_edge_connections{listener=\"plain\"}";
const TLS: &str = "vms_edge_connections{listener=\"tls\"}";

/// A client whose connection is served.
async fn served(edge: &TestEdge) -> Client {
    let mut client = Client::connect(edge.address).await;
    assert_eq!(client.get("/").await.status, 200);
    client
}

#[tokio::test]
async fn beyond_the_limit_of_all_a_connection_is_answered_503_and_closed() {
    let (vms, edge) = edge("limits.connections = 2").await;
    let first = served(&edge).await;
    let _second = served(&edge).await;
    let mut third = Client::connect(edge.address).await;
    third.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let response = third.response().await;
    response.assert_edge_error(503, "Service Unavailable");
    assert_eq!(response.head.one("retry-after"), Some("1"));
    assert_eq!(response.head.one("connection"), Some("close"));
    third.wire.closed().await;
    assert_eq!(vms.requests().len(), 2);
    let scrape = Scrape::of(edge.admin).await;
    assert_eq!(scrape.value(&refused("total")), 1.0);

    drop(first);
    // What was closed makes room as soon as the edge has seen it.
    Scrape::once(edge.admin, PLAIN, 1.0).await;
    served(&edge).await;
}

#[tokio::test]
async fn beyond_the_limit_of_an_address_a_connection_is_answered_429_and_closed() {
    let (_vms, edge) = edge("limits.address_connections = 1").await;
    let _first = served(&edge).await;
    let mut second = Client::connect(edge.address).await;
    let response = second.response().await;
    response.assert_edge_error(429, "Too Many Requests");
    assert_eq!(response.head.one("retry-after"), Some("1"));
    second.wire.closed().await;
    let scrape = Scrape::of(edge.admin).await;
    assert_eq!(scrape.value(&refused("address")), 1.0);

    // Another address has its own.
    let mut other = Client::connect_from("127.0.0.2", edge.address).await;
    assert_eq!(other.get("/").await.status, 200);
}

#[tokio::test]
async fn whoever_connects_more_often_than_an_address_may_is_answered_429_and_closed() {
    let authority = Authority::new();
    let (_vms, edge) = edge(&format!(
        "limits.address_connection_rate = 1\nlimits.address_connection_burst = 2\n{}",
        authority.table("a.example")
    ))
    .await;
    drop(served(&edge).await);
    let mut first = authority.client(edge.tls[0], "a.example").await;
    assert_eq!(first.get("/").await.status, 200);
    let mut third = Client::connect(edge.address).await;
    let response = third.response().await;
    response.assert_edge_error(429, "Too Many Requests");
    assert_eq!(response.head.one("retry-after"), Some("1"));
    third.wire.closed().await;
    let mut closed = Client::connect(edge.tls[0]).await;
    closed.wire.closed().await;
    let scrape = Scrape::of(edge.admin).await;
    assert_eq!(scrape.value(&refused("address_connection_rate")), 2.0);

    // Another address has its own, and who is there may ask as often as he likes.
    let mut other = Client::connect_from("127.0.0.2", edge.address).await;
    assert_eq!(other.get("/").await.status, 200);
    for _ in 0..5 {
        assert_eq!(first.get("/").await.status, 200);
    }
    edge.advance(Duration::from_secs(1));
    served(&edge).await;
}

#[tokio::test]
async fn whoever_is_refused_takes_no_place_from_others_while_he_is_told_why() {
    let limits = "limits.connections = 2\nlimits.address_connection_rate = 1";
    let (_vms, edge) = edge(limits).await;
    let _there = served(&edge).await;
    let mut refused = Client::connect(edge.address).await;
    refused
        .response()
        .await
        .assert_edge_error(429, "Too Many Requests");
    // He has not closed his side yet.
    let mut other = Client::connect_from("127.0.0.2", edge.address).await;
    assert_eq!(other.get("/").await.status, 200);
    drop(refused);
}

#[tokio::test]
async fn a_proxy_that_is_believed_has_no_limit_of_its_own() {
    let trusted = "limits.address_connections = 1\nlimits.address_connection_rate = 1\nserver.trusted_proxies = [\"127.0.0.0/8\"]";
    let (_vms, edge) = edge(trusted).await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(served(&edge).await);
    }
}

#[tokio::test]
async fn a_limit_that_a_reload_brings_counts_those_who_are_there() {
    let (_vms, edge) = edge("").await;
    let mut there = served(&edge).await;
    edge.reload("limits.connections = 1");
    let mut another = Client::connect(edge.address).await;
    another
        .response()
        .await
        .assert_edge_error(503, "Service Unavailable");
    assert_eq!(there.get("/").await.status, 200);
}

#[tokio::test]
async fn beyond_a_limit_tls_is_closed_without_a_handshake() {
    let authority = Authority::new();
    let (_vms, edge) = edge(&format!(
        "limits.connections = 1\n{}",
        authority.table("a.example")
    ))
    .await;
    let mut first = authority.client(edge.tls[0], "a.example").await;
    assert_eq!(first.get("/").await.status, 200);
    Scrape::once(edge.admin, TLS, 1.0).await;
    let stream = TcpStream::connect(edge.tls[0]).await.expect("it listens");
    assert!(
        authority
            .shake_hands(stream, "a.example", &[])
            .await
            .is_err()
    );
    Scrape::once(edge.admin, &refused("total"), 1.0).await;
}

/// Sends a byte now and then, until the edge has had enough.
async fn drip(client: &mut Client, byte: u8) {
    let drips = async {
        loop {
            if client.wire.try_send(&[byte]).await.is_err() {
                return;
            }
            // The pause between two of them; an answer ends it.
            if timeout(Duration::from_millis(20), client.wire.comes())
                .await
                .is_ok()
            {
                return;
            }
        }
    };
    soon("the end of the edge's patience", drips).await;
}

#[tokio::test]
async fn a_header_that_drips_is_answered_408_and_its_connection_closed() {
    let authority = Authority::new();
    let settings = format!(
        "limits.header_timeout = \"300ms\"\n{}",
        authority.table("a.example")
    );
    let (vms, edge) = edge(&settings).await;
    for which in ["new", "kept", "tls"] {
        let mut client = match which {
            "new" => Client::connect(edge.address).await,
            "kept" => served(&edge).await,
            _ => authority.client(edge.tls[0], "a.example").await,
        };
        client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ").await;
        drip(&mut client, b'x').await;
        let response = client.response().await;
        response.assert_edge_error(408, "Request Timeout");
        assert_eq!(response.head.one("connection"), Some("close"));
        client.wire.rest().await;
    }
    assert_eq!(vms.requests().len(), 1, "only the one that was complete");
}

#[tokio::test]
async fn who_says_nothing_is_closed_without_a_word_but_not_between_two_requests() {
    let authority = Authority::new();
    let settings = format!(
        "limits.header_timeout = \"300ms\"\n{}",
        authority.table("a.example")
    );
    let (_vms, edge) = edge(&settings).await;
    let mut kept = served(&edge).await;
    let mut with_a_line_too_many = served(&edge).await;
    with_a_line_too_many.send("\r\n").await;
    let mut greeted = authority.client(edge.tls[0], "a.example").await;
    let mut silent = Client::connect(edge.address).await;
    let mut handshake = Client::connect(edge.tls[0]).await;
    handshake.send(b"\x16\x03\x01").await;
    let h2 = authority.connect(edge.tls[0], "a.example", &["h2"]).await;
    let (_sender, h2) = h2::client::handshake(h2).await.expect("HTTP/2");
    silent.wire.closed().await;
    handshake.wire.closed().await;
    greeted.wire.closed().await;
    drop(soon("the end of the connection", h2).await);
    let failed = "vms_edge_tls_handshakes_total{result=\"failed\"}";
    Scrape::once(edge.admin, failed, 1.0).await;
    // By now they have waited for longer than a header may take.
    assert_eq!(kept.get("/").await.status, 200);
    assert_eq!(with_a_line_too_many.get("/").await.status, 200);
}

#[tokio::test]
async fn a_client_that_leaves_while_the_vms_thinks_is_noticed_whatever_lines_it_sent_before() {
    let vms = Scripted::start(|mut connection: Connection| async move {
        connection.request().await;
        connection.wire.closed().await;
    })
    .await;
    let edge = TestEdge::before(vms.address);
    let in_flight = "vms_edge_requests_in_flight";
    for lines in ["", "\r\n", "\r\n\n\r\n"] {
        let mut client = Client::connect(edge.address).await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        Scrape::once(edge.admin, in_flight, 1.0).await;
        client.send(lines).await;
        drop(client);
        Scrape::once(edge.admin, in_flight, 0.0).await;
    }
}

#[tokio::test]
async fn many_requests_on_one_connection_each_have_the_whole_time() {
    let (_vms, edge) = edge("limits.header_timeout = \"300ms\"").await;
    let mut client = served(&edge).await;
    let mut clock = Client::connect(edge.address).await;
    for round in 0..20 {
        client.send("GET / HTTP/1.1\r\nHost:").await;
        client.send(" a\r\n\r\n").await;
        assert_eq!(client.response().await.status, 200, "{round}");
    }
    clock.wire.closed().await;
    client.send("GET / HTTP/1.1\r\nHost:").await;
    client.send(" a\r\n\r\n").await;
    assert_eq!(client.response().await.status, 200);
}

/// A VMS that reads whatever comes, and answers when it is complete.
async fn reader() -> Scripted {
    Scripted::start(|mut connection: Connection| async move {
        while connection.request().await.is_some() {
            connection.answer("ok").await;
        }
    })
    .await
}

#[tokio::test]
async fn a_header_that_is_too_large_is_answered_431_on_the_first_request_and_on_the_next() {
    let vms = Scripted::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let edge = TestEdge::before(vms.address);
    for earlier in 0..2 {
        let mut client = Client::connect(edge.address).await;
        for _ in 0..earlier {
            // One that is just not too large.
            let cookie = "x".repeat(60 << 10);
            client
                .send(format!(
                    "GET / HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n"
                ))
                .await;
            assert_eq!(client.response().await.status, 200);
        }
        let large = format!(
            "GET / HTTP/1.1\r\nHost: a\r\nCookie: {}",
            "x".repeat(100 << 10)
        );
        client.send(large).await;
        let response = client.response().await;
        response.assert_edge_error(431, "Request Header Fields Too Large");
        assert_eq!(vms.requests().len(), earlier);
    }
}

#[tokio::test]
async fn a_body_that_drips_is_answered_408_and_its_connection_closed() {
    let vms = reader().await;
    let edge = TestEdge::with(
        &[vms.address.to_string()],
        "limits.body_timeout = \"300ms\"",
    );
    let batch = "GET /api/v1/intercom/shows HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer t\r\nX-Client: ios\r\n\
                 X-UUID: u\r\nAccept: application/json\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n{";
    let upload = "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\n";
    let chunked = "POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n";
    for request in [batch, upload, chunked] {
        let mut client = Client::connect(edge.address).await;
        client.send(request).await;
        drip(&mut client, b' ').await;
        let response = client.response().await;
        response.assert_edge_error(408, "Request Timeout");
        client.wire.rest().await;
        // So is one that falls silent.
        let mut client = Client::connect(edge.address).await;
        client.send(request).await;
        client
            .response()
            .await
            .assert_edge_error(408, "Request Timeout");
    }
}

#[tokio::test]
async fn over_http_2_a_body_that_drips_is_answered_408() {
    let authority = Authority::new();
    let vms = reader().await;
    let settings = format!(
        "limits.body_timeout = \"300ms\"\n{}",
        authority.table("a.example")
    );
    let edge = TestEdge::with(&[vms.address.to_string()], &settings);
    let mut client = authority.h2_client(edge.tls[0], "a.example").await;
    let request = http::Request::post("https://vms.local/upload")
        .body(())
        .expect("valid");
    let (answer, mut body) = client.send_request(request, false).expect("it can be sent");
    let mut answer = std::pin::pin!(answer);
    let drips = async {
        loop {
            // One that was answered may be reset.
            let _ = body.send_data(bytes::Bytes::from_static(b"x"), false);
            if let Ok(answer) = timeout(Duration::from_millis(20), &mut answer).await {
                break answer.expect("an answer");
            }
        }
    };
    assert_eq!(soon("an answer", drips).await.status(), 408);
}

#[tokio::test]
async fn over_http_2_a_body_that_falls_silent_is_noticed_too() {
    let authority = Authority::new();
    let vms = reader().await;
    let timeouts = "limits.body_timeout = \"300ms\"\nupstream.idle_timeout = \"300ms\"\n";
    let settings = format!("{timeouts}{}", authority.table("a.example"));
    let edge = TestEdge::with(&[vms.address.to_string()], &settings);
    let mut client = authority.h2_client(edge.tls[0], "a.example").await;
    let batch = http::Request::get("https://vms.local/api/v1/intercom/shows")
        .header("authorization", "Bearer t")
        .header("x-client", "ios")
        .header("x-uuid", "u")
        .header("accept", "application/json")
        .header("content-type", "application/json");
    let upload = http::Request::post("https://vms.local/upload");
    // The edge waits for the body of the one itself, and for the VMS with the other, which waits for the rest of it.
    for (request, status) in [(batch, 408), (upload, 504)] {
        let request = request.body(()).expect("valid");
        let (answer, mut body) = client.send_request(request, false).expect("it can be sent");
        body.send_data(bytes::Bytes::from_static(b"{"), false)
            .expect("it can be sent");
        let answer = soon("an answer", answer).await.expect("an answer");
        assert_eq!(answer.status(), status);
    }
}

#[tokio::test]
async fn a_websocket_has_no_deadline_for_a_body() {
    let vms = Scripted::start(|mut connection: Connection| async move {
        connection.head().await.expect("a request");
        let answer =
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        connection.wire.send(answer).await;
        while let Ok(bytes) = connection.wire.some(1024).await {
            if bytes.is_empty() || connection.wire.try_send(&bytes).await.is_err() {
                return;
            }
        }
    })
    .await;
    let limits = "limits.header_timeout = \"200ms\"\nlimits.body_timeout = \"100ms\"";
    let edge = TestEdge::with(&[vms.address.to_string()], limits);
    let mut client = Client::connect(edge.address).await;
    client
        .send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        .await;
    assert_eq!(client.head().await.expect("an answer").0, 101);
    let mut clock = Client::connect(edge.address).await;
    clock.wire.closed().await;
    for _ in 0..2 {
        client.send("hello").await;
        assert_eq!(client.wire.exactly(5).await.expect("an echo"), b"hello");
    }
}

#[tokio::test]
async fn an_edge_without_descriptors_serves_again_when_there_are_some() {
    let vms = Scripted::answering(OK).await;
    let mut service = Service::before(vms.address, "log.access = false").await;
    service.limit_descriptors(48);
    let mut clients = Vec::new();
    for _ in 0..64 {
        clients.push(Client::connect(service.address).await);
    }
    let said = service.says("no connection can be accepted now").await;
    assert!(said.contains("Too many open files"), "{said}");
    drop(clients);
    let mut client = Client::connect(service.address).await;
    assert_eq!(client.get("/").await.status, 200);
    let log = service.stops().await;
    let again = log.lines().filter(|line| line.contains("can be accepted"));
    // It is said once for each time, and there may be some while connections come and go.
    assert!(again.count() < 10, "it does not turn in circles: {log}");
}

/// Ends with how often a client was answered before it was told that this was the last answer.
async fn asks_to_the_end(mut client: Client) -> usize {
    for answered in 1.. {
        let response = client.get("/").await;
        assert_eq!((response.status, response.text()), (200, "ok"));
        if response.head.one("connection") == Some("close") {
            client.wire.closed().await;
            return answered;
        }
    }
    unreachable!("it goes on until it is told")
}

/// The same for a client of HTTP/2, which is told by the end of its connection.
async fn asks_to_the_end_by_h2(mut client: h2::client::SendRequest<bytes::Bytes>) -> usize {
    let mut answered = 0;
    // What is sent before the end of the connection is known is answered.
    while let Ok(ready) = client.clone().ready().await {
        client = ready;
        let request = http::Request::get("https://a/").body(()).expect("valid");
        let Ok((answer, _)) = client.send_request(request, true) else {
            break;
        };
        match answer.await {
            Ok(answer) => assert_eq!(answer.status(), 200),
            // The one refusal there is says that nothing was done (RFC 9113, 8.7).
            Err(error)
                if error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM) =>
            {
                break;
            }
            Err(error) => panic!("{error}"),
        }
        answered += 1;
    }
    answered
}

#[tokio::test]
async fn an_edge_that_leaves_loses_no_request_on_a_connection_that_there_is() {
    let authority = Authority::new();
    let settings = format!(
        "server.threads = 2\nserver.grace = \"1h\"\n{}",
        authority.table("a.example")
    );
    let (vms, edge) = edge(&settings).await;
    let (address, tls) = (edge.address, edge.tls[0]);
    let mut busy = Vec::new();
    let mut idle = Vec::new();
    for _ in 0..20 {
        busy.push(tokio::spawn(asks_to_the_end(served(&edge).await)));
        idle.push(served(&edge).await);
        idle.push(authority.client(tls, "a.example").await);
        idle.push(Client::connect(address).await);
    }
    let mut h2 = Vec::new();
    for _ in 0..5 {
        let client = authority.h2_client(tls, "a.example").await;
        h2.push(tokio::spawn(asks_to_the_end_by_h2(client)));
    }
    let before = vms.requests().len();
    soon("requests of all of them", async {
        while vms.requests().len() < before + 100 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let leaving = edge.leave();
    for client in busy {
        soon("the last answer", client)
            .await
            .expect("no request is lost");
    }
    for client in h2 {
        let answered = soon("the last answer", client)
            .await
            .expect("no request is lost");
        assert!(answered > 0);
    }
    // Those who wait have all the time that they need.
    assert!(
        TcpStream::connect(address).await.is_err(),
        "nobody accepts any more"
    );
    assert!(!leaving.is_finished());
    for client in idle {
        assert_eq!(asks_to_the_end(client).await, 1);
    }
    soon("the end", tokio::task::spawn_blocking(|| leaving.join()))
        .await
        .expect("no abort")
        .expect("no panic");
}

#[tokio::test]
async fn a_shutdown_waits_for_nobody_who_has_not_asked() {
    let authority = Authority::new();
    let settings = format!("server.grace = \"1h\"\n{}", authority.table("a.example"));
    let (_vms, edge) = edge(&settings).await;
    let mut kept = served(&edge).await;
    let mut silent = Client::connect(edge.address).await;
    let mut begun = Client::connect(edge.address).await;
    begun.send("GET / HT").await;
    let mut handshake = Client::connect(edge.tls[0]).await;
    handshake.send(b"\x16\x03\x01").await;
    let _h2 = authority.h2_client(edge.tls[0], "a.example").await;
    Scrape::once(edge.admin, PLAIN, 3.0).await;
    Scrape::once(edge.admin, TLS, 2.0).await;
    let stopping = edge.stop();
    soon("the end", tokio::task::spawn_blocking(|| stopping.join()))
        .await
        .expect("no abort")
        .expect("no panic");
    for client in [&mut kept, &mut silent, &mut begun, &mut handshake] {
        client.wire.closed().await;
    }
}
