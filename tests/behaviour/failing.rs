//! When the VMS, or the client, fails: one clear error or a visible cut, and the edge lives on.

use crate::support::client::{Client, Response};
use crate::support::deaf::{Refusing, Silent};
use crate::support::edge::TestEdge;
use crate::support::scripted::{Connection, Scripted};
use crate::support::wire::{Stream, Wire};

const IMPATIENT: &str = "upstream.idle_timeout = \"50ms\"\nupstream.connect_timeout = \"50ms\"";
const BATCH: &str = "GET /api/v1/intercom/shows?ids[]=1 HTTP/1.1\r\nHost: a\r\n";

#[tokio::test]
async fn a_vms_that_is_down_is_a_bad_gateway() {
    let (refusing, silent) = (Refusing::new(), Silent::new().await);
    for address in [refusing.address, silent.address] {
        let edge = TestEdge::with(&[address.to_string()], IMPATIENT);
        let mut client = Client::connect(edge.address).await;
        let response = client.get("/").await;
        response.assert_edge_error(502, "Bad Gateway");
        assert_eq!(response.head.one("retry-after"), Some("1"));
        assert_eq!(response.head.one("connection"), Some("close"));
        client.wire.closed().await;
    }
}

#[tokio::test]
async fn an_error_for_head_has_no_body() {
    let edge = TestEdge::before(Refusing::new().address);
    let mut client = Client::connect(edge.address).await;
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.response_to("HEAD").await.status, 502);
    client.wire.closed().await;
}

#[tokio::test]
async fn the_edge_recovers_with_the_vms() {
    let down = Refusing::new();
    let edge = TestEdge::before(down.address);
    assert_eq!(
        Client::connect(edge.address).await.get("/").await.status,
        502
    );
    let listener = down.listen();
    let answered = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        let mut wire = Wire::new(Stream::Plain(stream));
        wire.head().await.expect("a request");
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .await;
    });
    assert_eq!(
        Client::connect(edge.address).await.get("/").await.status,
        200
    );
    answered.await.expect("the VMS does not panic");
}

#[tokio::test]
async fn a_client_that_is_still_sending_sees_the_error() {
    let edge = TestEdge::before(Refusing::new().address);
    let mut client = Client::connect(edge.address).await;
    let length = 32 << 20;
    client
        .send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"
        ))
        .await;
    client.send(vec![b'x'; length]).await;
    let response = client.response().await;
    response.assert_edge_error(502, "Bad Gateway");
    client.wire.closed().await;
}

/// What a client sees of a VMS that sends this and then does that.
async fn after(bytes: &'static str, end: fn(Connection) -> Option<Connection>) -> (Response, bool) {
    let vms = Scripted::start(move |mut connection: Connection| async move {
        connection.request().await.expect("a request");
        connection.wire.send(bytes).await;
        if let Some(_kept) = end(connection) {
            std::future::pending::<()>().await;
        }
    })
    .await;
    let edge = TestEdge::with(&[vms.address.to_string()], IMPATIENT);
    let mut client = Client::connect(edge.address).await;
    let response = client.get("/").await;
    let (rest, _) = client.wire.rest().await;
    (response, rest.is_empty())
}

fn keep(connection: Connection) -> Option<Connection> {
    Some(connection)
}

fn close(_: Connection) -> Option<Connection> {
    None
}

fn reset(connection: Connection) -> Option<Connection> {
    connection.wire.reset();
    None
}

#[tokio::test]
async fn silence_before_the_header_is_a_gateway_timeout() {
    for bytes in ["", "HTTP/1.1 200", "HTTP/1.1 103 Early Hints\r\n\r\n"] {
        let (response, ended) = after(bytes, keep).await;
        response.assert_edge_error(504, "Gateway Timeout");
        assert_eq!(response.head.one("retry-after"), Some("1"));
        assert!(ended);
    }
}

#[tokio::test]
async fn an_end_before_the_header_is_a_bad_gateway() {
    for end in [close, reset] {
        for bytes in ["", "HTTP/1.1 200 OK\r\nContent-Le"] {
            let (response, ended) = after(bytes, end).await;
            response.assert_edge_error(502, "Bad Gateway");
            assert!(ended);
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_a_bad_gateway() {
    for bytes in [
        "hello\r\n\r\n",
        "HTTP/1.1 99999 No\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ] {
        let (response, ended) = after(bytes, keep).await;
        assert_eq!((response.status, ended), (502, true), "{bytes}");
        response.assert_edge_error(502, "Bad Gateway");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_cut_where_the_client_can_see_it() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    for end in [keep, close, reset] {
        let (response, ended) = after(chunked, end).await;
        assert_eq!((response.status, response.text()), (200, "hello"));
        assert!(!response.complete && ended);
    }
    let (response, ended) = after("HTTP/1.1 200 OK\r\n\r\nhello", keep).await;
    assert_eq!(
        (response.text(), response.complete, ended),
        ("hello", false, true)
    );
}

#[tokio::test]
async fn an_answer_of_known_length_that_breaks_off_is_cut() {
    for end in [keep, close, reset] {
        let vms = Scripted::start(move |mut connection: Connection| async move {
            connection.request().await.expect("a request");
            let head = "HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n";
            connection.wire.send(head).await;
            connection.wire.send(vec![b'x'; 100_000]).await;
            if let Some(_kept) = end(connection) {
                std::future::pending::<()>().await;
            }
        })
        .await;
        let edge = TestEdge::with(&[vms.address.to_string()], IMPATIENT);
        let mut client = Client::connect(edge.address).await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let Some((200, _)) = client.head().await else {
            // A reset may take with it what the edge had not read yet.
            continue;
        };
        let (rest, _) = client.wire.rest().await;
        assert!(rest.len() <= 100_000 && rest.iter().all(|&byte| byte == b'x'));
    }
}

#[tokio::test]
async fn a_client_that_stops_in_the_middle_of_its_request_is_not_waited_for() {
    let vms = Scripted::start(|mut connection| async move {
        connection.request().await;
    })
    .await;
    let edge = TestEdge::with(&[vms.address.to_string()], IMPATIENT);
    let mut client = Client::connect(edge.address).await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhello")
        .await;
    // The VMS is as silent as the client is; whose silence is noticed first is chance.
    let response = client.response().await;
    assert!(matches!(response.status, 408 | 504), "{response:?}");
    client.wire.closed().await;
}

#[tokio::test]
async fn a_batch_with_too_large_a_body_is_refused() {
    let vms = Scripted::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let edge = TestEdge::before(vms.address);
    let widget = "Authorization: Bearer t\r\nX-Client: ios\r\nX-UUID: 1\r\nContent-Type: application/json\r\n";
    let body = "x".repeat((64 << 10) + 1);
    let announced = format!("Content-Length: {}\r\n\r\n{body}", body.len());
    let chunked = format!(
        "Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    for request in [announced, chunked] {
        let mut client = Client::connect(edge.address).await;
        client.send(format!("{BATCH}{widget}{request}")).await;
        let response = client.response().await;
        response.assert_edge_error(413, "The request body is too large.");
        client.wire.closed().await;
    }
    assert_eq!(vms.connections(), 0);
}

#[tokio::test]
async fn the_connection_lives_on_after_a_refusal_even_with_a_body_that_was_not_read() {
    let vms = Scripted::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let edge = TestEdge::before(vms.address);
    let mut client = Client::connect(edge.address).await;
    for (fields, status) in [
        ("\r\n", 401),
        ("Authorization: Bearer t\r\n\r\n", 422),
        ("Content-Length: 5\r\n\r\nhello", 401),
        (
            "Authorization: Bearer t\r\nContent-Length: 5\r\n\r\nhello",
            422,
        ),
    ] {
        client.send(format!("{BATCH}{fields}")).await;
        let response = client.response().await;
        assert_eq!(response.status, status);
        assert_eq!(response.head.one("connection"), Some("keep-alive"));
    }
    assert_eq!(client.get("/next").await.status, 200);
    assert_eq!(vms.only_request().line(), "GET /next HTTP/1.1");
}

#[tokio::test]
async fn the_connection_ends_after_a_refusal_that_the_client_may_be_waiting_for() {
    let edge = TestEdge::before(Refusing::new().address);
    for fields in [
        "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n",
        "Content-Length: 65537\r\n\r\n",
    ] {
        let mut client = Client::connect(edge.address).await;
        client.send(format!("{BATCH}{fields}")).await;
        let response = client.response().await;
        assert_eq!(response.status, 401);
        assert_eq!(response.head.one("connection"), Some("close"));
    }
}
