//! Which server is asked, over which connection, and how often.

use std::sync::Arc;

use crate::support::client::Client;
use crate::support::deaf::{Refusing, Silent};
use crate::support::edge::TestEdge;
use crate::support::scripted::{Connection, Scripted};

/// For tests that count what each of several servers was asked.
const UNCHECKED: &str = "upstream.health.check = \"never\"\n";
const EMPTY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";

#[tokio::test]
async fn servers_are_asked_in_turn() {
    let (first, second) = (
        Scripted::answering(EMPTY).await,
        Scripted::answering(EMPTY).await,
    );
    let servers = [first.address.to_string(), second.address.to_string()];
    let edge = TestEdge::with(&servers, UNCHECKED);
    let mut client = Client::connect(edge.address).await;
    for _ in 0..6 {
        assert_eq!(client.get("/").await.status, 200);
    }
    assert_eq!((first.requests().len(), second.requests().len()), (3, 3));
    assert_eq!((first.connections(), second.connections()), (1, 1));
}

#[tokio::test]
async fn a_server_that_refuses_is_skipped_whatever_the_request() {
    let (down, up) = (Refusing::new(), Scripted::answering(EMPTY).await);
    let servers = [down.address.to_string(), up.address.to_string()];
    let edge = TestEdge::with(&servers, UNCHECKED);
    let mut client = Client::connect(edge.address).await;
    for _ in 0..2 {
        assert_eq!(client.get("/").await.status, 200);
        client.send(POST).await;
        assert_eq!(client.response().await.status, 200);
    }
    let bodies: Vec<_> = up
        .requests()
        .into_iter()
        .map(|request| request.body)
        .collect();
    assert_eq!(bodies, [&b""[..], b"hello", b"", b"hello"]);
}

#[tokio::test]
async fn a_server_that_does_not_accept_is_skipped_after_connect_timeout() {
    let (down, up) = (Silent::new().await, Scripted::answering(EMPTY).await);
    let servers = [down.address.to_string(), up.address.to_string()];
    let settings = format!("{UNCHECKED}upstream.connect_timeout = \"50ms\"");
    let edge = TestEdge::with(&servers, &settings);
    let mut client = Client::connect(edge.address).await;
    for _ in 0..2 {
        assert_eq!(client.get("/").await.status, 200);
    }
    assert_eq!(up.requests().len(), 2);
}

#[tokio::test]
async fn a_connection_to_the_vms_is_used_again() {
    let vms = Scripted::answering(EMPTY).await;
    let edge = TestEdge::before(vms.address);
    for _ in 0..3 {
        let mut client = Client::connect(edge.address).await;
        assert_eq!(client.get("/").await.status, 200);
        client.send(POST).await;
        assert_eq!(client.response().await.status, 200);
    }
    assert_eq!((vms.requests().len(), vms.connections()), (6, 1));
}

#[tokio::test]
async fn a_connection_that_the_vms_wants_closed_is_not_used_again() {
    let answer = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let vms = Scripted::answering(answer).await;
    let edge = TestEdge::before(vms.address);
    let mut client = Client::connect(edge.address).await;
    for _ in 0..3 {
        let response = client.get("/").await;
        assert_eq!(response.head.one("connection"), Some("keep-alive"));
    }
    assert_eq!(vms.connections(), 3);
}

/// A VMS that closes its first connections at their second request, without a word; and what became of a request that
/// met with that.
async fn on_a_closed_connection(request: &str, answers: [usize; 3]) -> (u16, usize) {
    let answers = Arc::new(answers);
    let vms = Scripted::start(move |mut connection: Connection| {
        let answers = Arc::clone(&answers);
        async move {
            for _ in 0..answers[connection.number] {
                if connection.request().await.is_some() {
                    connection.wire.send(EMPTY).await;
                }
            }
            connection.request().await;
        }
    })
    .await;
    let edge = TestEdge::before(vms.address);
    let mut client = Client::connect(edge.address).await;
    assert_eq!(client.get("/").await.status, 200);
    client.send(request).await;
    let method = request.split(' ').next().unwrap_or_default();
    let status = client.response_to(method).await.status;
    (status, vms.requests().len() - 1)
}

#[tokio::test]
async fn a_read_is_said_again_when_its_connection_turns_out_to_be_closed() {
    for method in ["GET", "HEAD"] {
        let request = format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(
            on_a_closed_connection(&request, [1, 1, 0]).await,
            (200, 2),
            "{method}"
        );
    }
}

#[tokio::test]
async fn a_read_is_said_again_over_a_new_connection() {
    let both = Arc::new(tokio::sync::Barrier::new(2));
    let vms = Scripted::start(move |mut connection: Connection| {
        let both = Arc::clone(&both);
        async move {
            connection.request().await;
            if connection.number < 2 {
                // Two connections, because two requests are in flight at once; both end with the next request.
                both.wait().await;
            }
            connection.wire.send(EMPTY).await;
            connection.request().await;
        }
    })
    .await;
    let edge = TestEdge::before(vms.address);
    let mut clients = [
        Client::connect(edge.address).await,
        Client::connect(edge.address).await,
    ];
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    }
    for client in &mut clients {
        assert_eq!(client.response().await.status, 200);
    }
    assert_eq!(clients[0].get("/").await.status, 200);
    assert_eq!((vms.requests().len(), vms.connections()), (4, 3));
}

#[tokio::test]
async fn a_read_is_said_again_once() {
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(on_a_closed_connection(request, [1, 0, 1]).await, (502, 2));
}

#[tokio::test]
async fn a_write_is_never_said_twice() {
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let request = format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
        assert_eq!(
            on_a_closed_connection(&request, [1, 1, 1]).await,
            (502, 1),
            "{method}"
        );
    }
}

#[tokio::test]
async fn a_server_may_be_a_name() {
    let vms = Scripted::answering(EMPTY).await;
    let server = format!("localhost:{}", vms.address.port());
    let edge = TestEdge::with(&[server], "");
    assert_eq!(
        Client::connect(edge.address).await.get("/").await.status,
        200
    );
}
