//! What is said twice to the VMS, and what never is.

use http::Request;
use http_body_util::Full;

use crate::support::client::Client;
use crate::support::deaf::Refusing;
use crate::support::edge::TestEdge;
use crate::support::scrape::Scrape;
use crate::support::scripted::{Connection, Scripted};
use crate::support::world::{Answer, SHOWS, send};

const EMPTY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const ITEM: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n[{\"id\":1}]";
const EARLY: &str = "HTTP/1.1 103 Early Hints\r\n\r\n";
/// Only what clients ask for is said at all.
const UNCHECKED: &str = "upstream.health.check = \"never\"\n";

/// How a connection ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Close,
    Reset,
    Hang,
}

/// A VMS that sends this for each request, on whatever connection, and then does that.
async fn sending(bytes: &'static str, end: End) -> Scripted {
    Scripted::start(move |mut connection: Connection| async move {
        if connection.request().await.is_none() {
            return;
        }
        connection.wire.send(bytes).await;
        match end {
            End::Close => {}
            End::Reset => connection.wire.reset(),
            End::Hang => std::future::pending().await,
        }
    })
    .await
}

/// The same, but only on the first connection; later ones are answered.
async fn sending_once(bytes: &'static str, end: End, answer: &'static str) -> Scripted {
    Scripted::start(move |mut connection: Connection| async move {
        if connection.request().await.is_none() {
            return;
        }
        if connection.number > 0 {
            connection.wire.send(answer).await;
            return;
        }
        connection.wire.send(bytes).await;
        if matches!(end, End::Reset) {
            connection.wire.reset();
        }
    })
    .await
}

fn edge(servers: &[&Scripted]) -> TestEdge {
    let servers: Vec<String> = servers.iter().map(|vms| vms.address.to_string()).collect();
    TestEdge::with(&servers, UNCHECKED)
}

/// What a client gets for one request without a body that passes through.
async fn passes(edge: &TestEdge, method: &str) -> u16 {
    let mut client = Client::connect(edge.address).await;
    let length = if matches!(method, "GET" | "HEAD") {
        ""
    } else {
        "Content-Length: 5\r\n"
    };
    let body = if length.is_empty() { "" } else { "hello" };
    client
        .send(format!(
            "{method} / HTTP/1.1\r\nHost: a\r\n{length}\r\n{body}"
        ))
        .await;
    client.response_to(method).await.status
}

/// What a widget gets for a batch that must be fetched.
async fn fetches(edge: &TestEdge) -> Answer {
    let request = Request::get(format!("{SHOWS}?ids[]=1"))
        .header("host", "vms.local")
        .header("authorization", "Bearer tok-1-ios")
        .header("x-client", "ios")
        .header("x-uuid", "device");
    send(edge.address, request.body(Full::default()).unwrap()).await
}

#[tokio::test]
async fn a_read_whose_new_connection_ends_without_an_answer_is_said_once_more() {
    for end in [End::Close, End::Reset] {
        for method in ["GET", "HEAD"] {
            let vms = sending_once("", end, EMPTY).await;
            assert_eq!(passes(&edge(&[&vms]), method).await, 200, "{end:?}");
            assert_eq!((vms.requests().len(), vms.connections()), (2, 2));

            let vms = sending("", end).await;
            assert_eq!(passes(&edge(&[&vms]), method).await, 502, "{end:?}");
            assert_eq!((vms.requests().len(), vms.connections()), (2, 2));
        }
    }
}

#[tokio::test]
async fn a_fetch_whose_new_connection_ends_without_an_answer_is_said_once_more() {
    for end in [End::Close, End::Reset] {
        let vms = sending_once("", end, ITEM).await;
        fetches(&edge(&[&vms])).await.gets([1]);
        assert_eq!((vms.requests().len(), vms.connections()), (2, 2));

        let vms = sending("", end).await;
        fetches(&edge(&[&vms])).await.status(502);
        assert_eq!((vms.requests().len(), vms.connections()), (2, 2));
    }
}

#[tokio::test]
async fn it_is_said_to_the_next_server_where_there_is_one() {
    for answer in [EMPTY, ITEM] {
        let (bad, good) = (
            sending("", End::Close).await,
            Scripted::answering(answer).await,
        );
        let edge = edge(&[&bad, &good]);
        let status = match answer {
            EMPTY => passes(&edge, "GET").await,
            _ => fetches(&edge).await.status.as_u16(),
        };
        assert_eq!(status, 200);
        assert_eq!((bad.requests().len(), good.requests().len()), (1, 1));
    }
}

#[tokio::test]
async fn a_write_is_never_said_twice_over_a_new_connection() {
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"] {
        for end in [End::Close, End::Reset] {
            let vms = sending_once("", end, EMPTY).await;
            let other = Scripted::answering(EMPTY).await;
            assert_eq!(
                passes(&edge(&[&vms, &other]), method).await,
                502,
                "{method}"
            );
            assert_eq!((vms.requests().len(), other.requests().len()), (1, 0));
        }
    }
}

#[tokio::test]
async fn nothing_is_said_twice_once_something_was_heard() {
    let cut = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[";
    for bytes in [EARLY, cut, "hello\r\n\r\n"] {
        let vms = sending(bytes, End::Close).await;
        passes(&self::edge(&[&vms]), "GET").await;
        assert_eq!(vms.requests().len(), 1, "{bytes}");

        // A client who is shown no interim answers.
        let vms = sending(bytes, End::Close).await;
        let edge = self::edge(&[&vms]);
        let mut client = Client::connect(edge.address).await;
        client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n").await;
        client.wire.rest().await;
        assert_eq!(vms.requests().len(), 1, "{bytes}");

        let vms = sending(bytes, End::Close).await;
        fetches(&self::edge(&[&vms])).await.status(502);
        assert_eq!(vms.requests().len(), 1, "{bytes}");
    }
}

#[tokio::test]
async fn a_timeout_is_not_repeated() {
    let impatient = "upstream.connect_timeout = \"100ms\"\nupstream.idle_timeout = \"100ms\"\n\
                     upstream.fetch_timeout = \"100ms\"\n";
    let vms = sending("", End::Hang).await;
    let edge = TestEdge::with(&[vms.address.to_string()], impatient);
    assert_eq!(passes(&edge, "GET").await, 504);
    assert_eq!(vms.requests().len(), 1);
    fetches(&edge).await.status(504);
    assert_eq!(vms.requests().len(), 2);
}

#[tokio::test]
async fn what_could_not_be_sent_goes_to_the_next_server_whatever_it_is() {
    let down = [Refusing::new(), Refusing::new()];
    for method in ["GET", "POST"] {
        let up = Scripted::answering(EMPTY).await;
        let servers = [down[0].address, down[1].address, up.address].map(|a| a.to_string());
        assert_eq!(
            passes(&TestEdge::with(&servers, UNCHECKED), method).await,
            200
        );
        assert_eq!(up.requests().len(), 1);
    }
    let up = Scripted::answering(ITEM).await;
    let servers = [down[0].address, down[1].address, up.address].map(|a| a.to_string());
    fetches(&TestEdge::with(&servers, UNCHECKED))
        .await
        .gets([1]);
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_tried_once_for_each_request() {
    let down = [Refusing::new(), Refusing::new()];
    let servers = [down[0].address, down[1].address].map(|a| a.to_string());
    let settings = format!("{UNCHECKED}upstream.breaker.failures = 3");
    let edge = TestEdge::with(&servers, &settings);
    // One failure of each of the two, twice.
    fetches(&edge).await.status(502);
    assert_eq!(passes(&edge, "POST").await, 502);
    let closed = "vms_edge_upstream_servers{state=\"closed\"}";
    assert_eq!(Scrape::of(edge.admin).await.value(closed), 2.0);
    fetches(&edge).await.status(502);
    assert_eq!(Scrape::of(edge.admin).await.value(closed), 0.0);
}

#[tokio::test]
async fn a_connection_of_a_second_try_is_kept_for_the_next_fetch() {
    let vms = Scripted::start(|mut connection: Connection| async move {
        while connection.request().await.is_some() {
            if connection.number == 0 {
                return;
            }
            connection.wire.send(ITEM).await;
        }
    })
    .await;
    let edge = edge(&[&vms]);
    for user in 1..=3 {
        let request = Request::get(format!("{SHOWS}?ids[]=1"))
            .header("host", "vms.local")
            .header("authorization", format!("Bearer tok-{user}-ios"))
            .header("x-client", "ios")
            .header("x-uuid", "device");
        let answer = send(edge.address, request.body(Full::default()).unwrap()).await;
        answer.gets([1]);
    }
    assert_eq!((vms.requests().len(), vms.connections()), (4, 2));
}

#[tokio::test]
async fn a_read_with_a_body_is_said_again_with_all_of_it_or_not_at_all() {
    // What is longer than the edge keeps cannot be said again.
    for (length, status, said) in [(10_000, 200, 2), (200_000, 502, 1)] {
        let vms = sending_once("", End::Close, EMPTY).await;
        let edge = edge(&[&vms]);
        let mut client = Client::connect(edge.address).await;
        let body = "0123456789".repeat(length / 10);
        client
            .send(format!(
                "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}"
            ))
            .await;
        assert_eq!(client.response().await.status, status, "{length}");
        let requests = vms.requests();
        assert_eq!(requests.len(), said, "{length}");
        for request in requests {
            assert_eq!(request.body, body.as_bytes());
        }
    }
}
