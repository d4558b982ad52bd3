//! Requests that two readers could take for different ones: refused, and the VMS sees not one byte of them.

use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::scripted::{Connection, Scripted};
use crate::support::soon;
use tokio::sync::mpsc;

const EMPTY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// Asserts that each of these is refused with 400 and a closed connection, and that the VMS hears nothing of it.
async fn assert_refused(requests: &[&str]) {
    let vms = Scripted::answering(EMPTY).await;
    let edge = TestEdge::before(vms.address);
    for request in requests {
        let mut client = Client::connect(edge.address).await;
        client.send(request).await;
        let response = client.response().await;
        response.assert_edge_error(400, "Bad Request");
        assert_eq!(response.head.one("connection"), Some("close"), "{request}");
        client.wire.closed().await;
    }
    assert_eq!(vms.connections(), 0);
    assert_eq!(
        Client::connect(edge.address).await.get("/").await.status,
        200
    );
}

#[tokio::test]
async fn a_body_with_two_lengths_is_refused() {
    assert_refused(&[
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\ncontent-length:0\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5,6\r\n\r\nhello",
    ])
    .await;
}

#[tokio::test]
async fn a_length_that_is_not_a_plain_number_is_refused() {
    assert_refused(&[
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
    ])
    .await;
}

#[tokio::test]
async fn a_transfer_coding_other_than_chunked_is_refused() {
    assert_refused(&[
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \u{b}chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ])
    .await;
}

#[tokio::test]
async fn a_request_names_one_host() {
    assert_refused(&[
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
    ])
    .await;
}

#[tokio::test]
async fn a_target_is_a_path_on_this_server() {
    assert_refused(&[
        "GET http://vms.local/ HTTP/1.1\r\nHost: vms.local\r\n\r\n",
        "GET HTTP://other/ HTTP/1.1\r\nHost: vms.local\r\n\r\n",
        "GET a HTTP/1.1\r\nHost: vms.local\r\n\r\n",
        "GET ?a HTTP/1.1\r\nHost: vms.local\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: vms.local\r\n\r\n",
        "GET #/a HTTP/1.1\r\nHost: vms.local\r\n\r\n",
    ])
    .await;
}

#[tokio::test]
async fn what_is_not_http_is_refused() {
    assert_refused(&[
        "hello\r\n\r\n",
        "GET /\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX-A : 1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n: 1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX-A: 1\u{0}2\r\n\r\n",
        "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    ])
    .await;
}

#[tokio::test]
async fn a_target_that_is_not_utf_8_is_refused() {
    let vms = Scripted::answering(EMPTY).await;
    let edge = TestEdge::before(vms.address);
    let mut client = Client::connect(edge.address).await;
    client.send(b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.response().await.status, 400);
    assert_eq!(vms.connections(), 0);
}

#[tokio::test]
async fn a_target_with_what_no_uri_has_as_it_is_is_refused() {
    assert_refused(&[
        "GET /?a=\"b\" HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /?a<b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /?a>b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a<b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a\u{7f}b HTTP/1.1\r\nHost: a\r\n\r\n",
    ])
    .await;
}

#[tokio::test]
async fn a_blank_in_a_target_is_refused() {
    let vms = Scripted::answering(EMPTY).await;
    let edge = TestEdge::before(vms.address);
    for target in ["/a b", " /a", "/a ", "/a?b c"] {
        let mut client = Client::connect(edge.address).await;
        client
            .get(target)
            .await
            .assert_edge_error(400, "Bad Request");
        client.wire.closed().await;
    }
    assert_eq!(vms.connections(), 0);
}

#[tokio::test]
async fn whoever_still_sends_what_is_refused_is_told_why() {
    let vms = Scripted::answering(EMPTY).await;
    let edge = TestEdge::before(vms.address);
    let large = "x".repeat(4 << 20);
    for (head, status, message) in [
        ("GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", 400, "Bad Request"),
        (
            "GET / HTTP/1.1\r\nX: ",
            431,
            "Request Header Fields Too Large",
        ),
    ] {
        let mut client = Client::connect(edge.address).await;
        let sent = client
            .wire
            .try_send(format!("{head}{large}").as_bytes())
            .await;
        sent.expect("it is received to the end");
        client.response().await.assert_edge_error(status, message);
        client.wire.closed().await;
    }
    assert_eq!(vms.connections(), 0);
}

#[tokio::test]
async fn connect_is_not_allowed() {
    let vms = Scripted::answering(EMPTY).await;
    let edge = TestEdge::before(vms.address);
    let mut client = Client::connect(edge.address).await;
    client
        .send("CONNECT vms.local:80 HTTP/1.1\r\nHost: vms.local:80\r\n\r\n")
        .await;
    let response = client.response().await;
    response.assert_edge_error(405, "Method Not Allowed");
    let allowed = response.head.one("allow").expect("what is allowed");
    assert!(allowed.starts_with("GET, HEAD, POST") && !allowed.contains("CONNECT"));
    client.wire.closed().await;
    assert_eq!(vms.connections(), 0);
}

/// A VMS that reports the bodies it receives, or `None` for one that is cut off.
async fn reporting() -> (Scripted, mpsc::UnboundedReceiver<Option<Vec<u8>>>) {
    let (report, reports) = mpsc::unbounded_channel();
    let vms = Scripted::start(move |mut connection: Connection| {
        let report = report.clone();
        async move {
            let request = connection.request().await;
            let whole = request.is_some();
            report
                .send(request.map(|request| request.body))
                .expect("the test listens");
            if whole {
                connection.wire.send(EMPTY).await;
            }
        }
    })
    .await;
    (vms, reports)
}

#[tokio::test]
async fn an_ill_formed_chunk_is_refused_and_never_ends_a_request_at_the_vms() {
    for chunk in [
        "5\nhello\n0\n\n",
        "z\r\n",
        "-1\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "ffffffffffffffffff\r\n",
    ] {
        let (vms, mut reports) = reporting().await;
        let edge = TestEdge::before(vms.address);
        let mut client = Client::connect(edge.address).await;
        let request =
            format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}");
        client.send(request).await;
        client
            .response()
            .await
            .assert_edge_error(400, "Bad Request");
        client.wire.closed().await;
        let report = soon("the VMS's report", reports.recv()).await;
        assert_eq!(report, Some(None), "{chunk:?}");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_never_ends_a_request_at_the_vms() {
    for request in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        let (vms, mut reports) = reporting().await;
        let edge = TestEdge::before(vms.address);
        let mut client = Client::connect(edge.address).await;
        client.send(request).await;
        client.wire.end().await;
        assert_eq!(soon("the VMS's report", reports.recv()).await, Some(None));
        client.wire.rest().await;
    }
}

#[tokio::test]
async fn requests_sent_ahead_are_answered_one_by_one() {
    let vms = Scripted::start(|mut connection| async move {
        while let Some(request) = connection.request().await {
            let line = request.line();
            let body = format!("{line} {}", String::from_utf8_lossy(&request.body));
            connection.answer(&body).await;
        }
    })
    .await;
    let edge = TestEdge::before(vms.address);
    let mut client = Client::connect(edge.address).await;
    client
        .send(
            "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n\
             POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 26\r\n\r\nGET /no HTTP/1.1\r\nHost:a\r\n\
             POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
             GET /4 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n\
             GET /never HTTP/1.1\r\nHost: a\r\n\r\n",
        )
        .await;
    assert_eq!(client.response().await.text(), "GET /1 HTTP/1.1 ");
    assert_eq!(
        client.response().await.text(),
        "POST /2 HTTP/1.1 GET /no HTTP/1.1\r\nHost:a\r\n"
    );
    assert_eq!(client.response().await.text(), "POST /3 HTTP/1.1 abc");
    assert_eq!(client.response().await.text(), "GET /4 HTTP/1.1 ");
    client.wire.closed().await;
    assert_eq!(vms.requests().len(), 4);
}

#[tokio::test]
async fn a_body_that_was_not_read_is_no_request() {
    let vms = Scripted::answering(EMPTY).await;
    let edge = TestEdge::before(vms.address);
    let mut client = Client::connect(edge.address).await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let length = smuggled.len();
    client
        .send(format!(
            "GET /api/v1/intercom/shows?ids[]=1 HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{smuggled}\
             GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        ))
        .await;
    assert_eq!(client.response().await.status, 401);
    assert_eq!(client.response().await.status, 200);
    client.wire.closed().await;
    assert_eq!(vms.only_request().line(), "GET /next HTTP/1.1");
}

#[tokio::test]
async fn a_request_sent_while_another_is_answered_waits_its_turn() {
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let (go, wait) = mpsc::unbounded_channel::<()>();
    let wait = std::sync::Arc::new(tokio::sync::Mutex::new(wait));
    let vms = Scripted::start(move |mut connection: Connection| {
        let (arrived, wait) = (arrived.clone(), wait.clone());
        async move {
            while let Some(request) = connection.request().await {
                arrived.send(request.line()).expect("the test listens");
                wait.lock().await.recv().await;
                connection.answer(&request.line()).await;
            }
        }
    })
    .await;
    let edge = TestEdge::before(vms.address);
    let mut client = Client::connect(edge.address).await;
    client
        .send("POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        .await;
    soon("the first request", arrivals.recv()).await;
    client.send("GET /2 HTTP/1.1\r\nHost: a\r\n\r\n").await;
    // Another client's request shows that the edge had the time to read the second one.
    let mut other = Client::connect(edge.address).await;
    other.send("GET /other HTTP/1.1\r\nHost: a\r\n\r\n").await;
    soon("the other request", arrivals.recv()).await;
    go.send(()).expect("the VMS waits");
    go.send(()).expect("the VMS waits");
    assert_eq!(client.response().await.text(), "POST /1 HTTP/1.1");
    go.send(()).expect("the VMS waits");
    assert_eq!(client.response().await.text(), "GET /2 HTTP/1.1");
    assert_eq!(other.response().await.text(), "GET /other HTTP/1.1");
}
