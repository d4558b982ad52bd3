//! Answers of every form reach the client in a form that it understands: bodies, their ends, and answers without one.

use crate::support::client::{Client, Framing, Response};
use crate::support::edge::TestEdge;
use crate::support::scripted::Scripted;

/// How a client sees this answer to a request with this first line; the VMS closes the connection after it.
async fn seen(first_line: &str, answer: &'static str) -> Response {
    let vms = Scripted::start(move |mut connection| async move {
        if connection.request().await.is_some() {
            connection.wire.send(answer).await;
        }
    })
    .await;
    let edge = TestEdge::before(vms.address);
    let mut client = Client::connect(edge.address).await;
    client
        .send(format!("{first_line}\r\nHost: vms.local\r\n\r\n"))
        .await;
    let method = first_line.split(' ').next().unwrap_or_default();
    let response = client.response_to(method).await;
    if response.head.one("connection") == Some("close") {
        client.wire.closed().await;
    }
    response
}

#[tokio::test]
async fn an_answer_to_head_keeps_its_length_and_has_no_body() {
    let response = seen(
        "HEAD / HTTP/1.1",
        "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n",
    )
    .await;
    assert_eq!((response.status, response.head.length()), (200, Some(7)));
    assert_eq!(response.head.one("connection"), Some("keep-alive"));
    let response = seen(
        "HEAD / HTTP/1.1",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    )
    .await;
    assert!(response.head.is_chunked());
    let response = seen("HEAD / HTTP/1.1", "HTTP/1.1 200 OK\r\n\r\n").await;
    assert_eq!(response.head.length(), None);
}

#[tokio::test]
async fn the_connection_lives_on_after_answers_without_a_body() {
    let vms = Scripted::start(|mut connection| async move {
        for answer in [
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\nContent-Length: 9\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        ] {
            if connection.request().await.is_none() {
                return;
            }
            connection.wire.send(answer).await;
        }
    })
    .await;
    let edge = TestEdge::before(vms.address);
    let mut client = Client::connect(edge.address).await;
    assert_eq!(client.get("/").await.status, 204);
    let response = client.get("/").await;
    assert_eq!((response.status, response.head.length()), (304, Some(9)));
    assert_eq!(response.head.one("etag"), Some("\"1\""));
    client
        .send("HEAD / HTTP/1.1\r\nHost: vms.local\r\n\r\n")
        .await;
    assert_eq!(client.response_to("HEAD").await.head.length(), Some(9));
    assert_eq!(client.get("/").await.text(), "ok");
    assert_eq!(vms.connections(), 1);
}

#[tokio::test]
async fn a_chunked_answer_stays_chunked() {
    let response = seen(
        "GET / HTTP/1.1",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    )
    .await;
    assert_eq!(
        (response.framing, response.text()),
        (Framing::Chunked, "abcde")
    );
    assert!(response.complete);
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_is_framed_so_that_its_end_can_be_seen() {
    let response = seen("GET / HTTP/1.1", "HTTP/1.1 200 OK\r\n\r\nabcde").await;
    assert_eq!(
        (response.framing, response.text()),
        (Framing::Chunked, "abcde")
    );
    assert!(response.complete);
    assert_eq!(response.head.one("connection"), Some("keep-alive"));
}

#[tokio::test]
async fn an_http_1_0_client_gets_no_chunks() {
    for answer in [
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nabcde",
    ] {
        let response = seen("GET / HTTP/1.0\r\nConnection: keep-alive", answer).await;
        assert_eq!(
            (response.framing, response.text()),
            (Framing::Close, "abcde")
        );
        assert_eq!(response.head.one("connection"), Some("close"));
    }
}

#[tokio::test]
async fn an_http_1_0_client_may_keep_its_connection() {
    let vms = Scripted::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let edge = TestEdge::before(vms.address);
    let mut client = Client::connect(edge.address).await;
    for _ in 0..2 {
        client
            .send("GET / HTTP/1.0\r\nHost: vms.local\r\nConnection: keep-alive\r\n\r\n")
            .await;
        let response = client.response().await;
        assert_eq!(response.head.one("connection"), Some("keep-alive"));
    }
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(
        client.response().await.head.one("connection"),
        Some("close")
    );
    client.wire.closed().await;
    for (request, host) in vms.requests().iter().zip(["vms.local", "vms.local", ""]) {
        assert_eq!(request.head.all("host"), [host]);
    }
    assert!(vms.requests().iter().all(|r| r.line() == "GET / HTTP/1.1"));
}

#[tokio::test]
async fn the_answer_of_an_http_1_0_vms_is_said_in_http_1_1() {
    let response = seen(
        "GET / HTTP/1.1",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    assert_eq!(response.head.first_line, b"HTTP/1.1 200 OK");
    assert_eq!(response.text(), "ok");
}

#[tokio::test]
async fn interim_answers_reach_the_client_before_the_final_one() {
    let response = seen(
        "GET / HTTP/1.1",
        "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    assert_eq!(
        (response.interim.as_slice(), response.text()),
        (&[103, 102][..], "ok")
    );
}

#[tokio::test]
async fn an_http_1_0_client_gets_no_interim_answers() {
    let response = seen(
        "GET / HTTP/1.0",
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    assert_eq!(
        (response.interim.as_slice(), response.text()),
        (&[][..], "ok")
    );
}

#[tokio::test]
async fn a_client_that_expects_100_sends_its_body_when_the_vms_says_so() {
    let vms = Scripted::start(|mut connection| async move {
        let mut request = connection.head().await.expect("a request");
        assert_eq!(request.head.one("expect"), Some("100-continue"));
        connection.wire.send("HTTP/1.1 100 Continue\r\n\r\n").await;
        request.body = connection.wire.exactly(5).await.expect("a body");
        assert_eq!(request.body, b"hello");
        connection.answer("ok").await;
    })
    .await;
    let edge = TestEdge::before(vms.address);
    let mut client = Client::connect(edge.address).await;
    client
        .send("POST / HTTP/1.1\r\nHost: vms.local\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        .await;
    assert_eq!(client.head().await.expect("an interim answer").0, 100);
    client.send("hello").await;
    assert_eq!(client.response().await.text(), "ok");
}

#[tokio::test]
async fn a_client_that_expects_100_may_get_its_answer_instead() {
    let vms = Scripted::start(|mut connection| async move {
        connection.head().await.expect("a request");
        let answer = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno";
        connection.wire.send(answer).await;
        connection.wire.rest().await;
    })
    .await;
    let edge = TestEdge::before(vms.address);
    let mut client = Client::connect(edge.address).await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        .await;
    let response = client.response().await;
    assert_eq!((response.status, response.text()), (401, "no"));
    assert_eq!(response.head.one("connection"), Some("close"));
}

#[tokio::test]
async fn trailers_of_an_answer_are_dropped_and_its_end_is_kept() {
    let response = seen(
        "GET / HTTP/1.1",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n",
    )
    .await;
    assert_eq!(response.text(), "ok");
    assert!(response.complete);
    assert!(response.trailers.is_empty());
    assert_eq!(response.head.one("trailer"), None);
}

#[tokio::test]
async fn trailers_of_a_request_are_dropped_and_its_end_is_kept() {
    let vms = Scripted::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let edge = TestEdge::before(vms.address);
    let mut client = Client::connect(edge.address).await;
    client
        .send(
            "POST / HTTP/1.1\r\nHost: vms.local\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
             2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n",
        )
        .await;
    assert_eq!(client.response().await.status, 200);
    assert_eq!(client.get("/next").await.status, 200);
    let request = &vms.requests()[0];
    assert_eq!(request.body, b"ok");
    assert!(request.trailers.is_empty());
    assert_eq!(request.head.one("trailer"), None);
}
