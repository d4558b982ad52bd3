//! Bodies stream through, both ways and at once: what one end sends, the other has before the rest is there.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;

use crate::support::client::{Client, Framing};
use crate::support::edge::TestEdge;
use crate::support::scripted::{Connection, Scripted};
use crate::support::service::Service;
use crate::support::soon;

const PIECE: usize = 64 << 10;

/// More than all buffers on the way can hold.
const FLOOD: usize = 64 << 20;

fn pattern(length: usize) -> Vec<u8> {
    (0..=250).cycle().take(length).collect()
}

#[tokio::test]
async fn a_chunked_upload_streams() {
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let vms = Scripted::start(move |mut connection: Connection| {
        let arrived = arrived.clone();
        async move {
            let mut request = connection.head().await.expect("a request");
            while let Some(data) = connection.chunk(&mut request).await.expect("no cut") {
                arrived.send(data).expect("the test listens");
            }
            connection.answer("ok").await;
        }
    })
    .await;
    let edge = TestEdge::before(vms.address);
    let mut client = Client::connect(edge.address).await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    for chunk in ["one", "two", "three"] {
        client
            .send(format!("{:x}\r\n{chunk}\r\n", chunk.len()))
            .await;
        let data = soon("a chunk", arrivals.recv())
            .await
            .expect("the VMS lives");
        assert_eq!(data, chunk.as_bytes());
    }
    client.send("0\r\n\r\n").await;
    assert_eq!(client.response().await.text(), "ok");
    assert!(vms.only_request().head.is_chunked());
}

#[tokio::test]
async fn an_upload_of_known_length_streams() {
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let vms = Scripted::start(move |mut connection: Connection| {
        let arrived = arrived.clone();
        async move {
            let request = connection.head().await.expect("a request");
            assert_eq!(request.head.length(), Some(2 * PIECE));
            for _ in 0..2 {
                let piece = connection.wire.exactly(PIECE).await.expect("no cut");
                arrived.send(piece).expect("the test listens");
            }
            connection.answer("ok").await;
        }
    })
    .await;
    let edge = TestEdge::before(vms.address);
    let mut client = Client::connect(edge.address).await;
    let length = 2 * PIECE;
    client
        .send(format!(
            "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"
        ))
        .await;
    for _ in 0..2 {
        client.send(pattern(PIECE)).await;
        let piece = soon("a piece", arrivals.recv())
            .await
            .expect("the VMS lives");
        assert!(piece == pattern(PIECE));
    }
    assert_eq!(client.response().await.text(), "ok");
}

/// A VMS that begins its answer with this, and then sends what the test tells it to, until that ends.
async fn told_by(head: &'static str, pieces: mpsc::UnboundedReceiver<Vec<u8>>) -> Scripted {
    let pieces = Arc::new(tokio::sync::Mutex::new(pieces));
    Scripted::start(move |mut connection: Connection| {
        let pieces = Arc::clone(&pieces);
        async move {
            connection.request().await.expect("a request");
            connection.wire.send(head).await;
            let mut pieces = pieces.lock().await;
            while let Some(piece) = pieces.recv().await {
                connection.wire.send(piece).await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_chunked_answer_streams() {
    let (tell, pieces) = mpsc::unbounded_channel();
    let vms = told_by(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        pieces,
    )
    .await;
    let edge = TestEdge::before(vms.address);
    let mut client = Client::connect(edge.address).await;
    client.send("GET /events HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut response = client.begin("GET").await;
    for chunk in ["one", "two", "three"] {
        let bytes = format!("{:x}\r\n{chunk}\r\n", chunk.len()).into_bytes();
        tell.send(bytes).expect("the VMS lives");
        assert_eq!(
            client.more(&mut response).await.expect("a chunk"),
            chunk.as_bytes()
        );
    }
    tell.send(b"0\r\n\r\n".to_vec()).expect("the VMS lives");
    assert_eq!(client.more(&mut response).await, None);
    assert!(response.complete);
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_streams() {
    let (tell, pieces) = mpsc::unbounded_channel();
    let vms = told_by("HTTP/1.1 200 OK\r\n\r\n", pieces).await;
    let edge = TestEdge::before(vms.address);
    let mut client = Client::connect(edge.address).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut response = client.begin("GET").await;
    for piece in ["one", "two"] {
        tell.send(piece.into()).expect("the VMS lives");
        assert_eq!(
            client.more(&mut response).await.expect("a piece"),
            piece.as_bytes()
        );
    }
    drop(tell);
    assert_eq!(client.more(&mut response).await, None);
    assert!(response.complete);
}

#[tokio::test]
async fn an_answer_of_known_length_streams() {
    let (tell, pieces) = mpsc::unbounded_channel();
    let vms = told_by("HTTP/1.1 200 OK\r\nContent-Length: 131072\r\n\r\n", pieces).await;
    let edge = TestEdge::before(vms.address);
    let mut client = Client::connect(edge.address).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    tell.send(pattern(PIECE)).expect("the VMS lives");
    let mut response = client.begin("GET").await;
    let first = client.more(&mut response).await.expect("a piece");
    assert!(!first.is_empty());
    tell.send(pattern(PIECE)).expect("the VMS lives");
    let mut received = first;
    while let Some(more) = client.more(&mut response).await {
        received.extend(more);
    }
    assert!(received == [pattern(PIECE), pattern(PIECE)].concat());
}

#[tokio::test]
async fn an_answer_may_begin_before_its_request_has_ended() {
    let vms = Scripted::start(|mut connection| async move {
        let mut request = connection.head().await.expect("a request");
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        connection.wire.send(head).await;
        while let Some(data) = connection.chunk(&mut request).await.expect("no cut") {
            let data = String::from_utf8(data).expect("text");
            connection
                .wire
                .send(format!("{:x}\r\n{data}\r\n", data.len()))
                .await;
        }
        connection.wire.send("0\r\n\r\n").await;
    })
    .await;
    let edge = TestEdge::before(vms.address);
    let mut client = Client::connect(edge.address).await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    let mut response = client.begin("POST").await;
    for _ in 0..3 {
        client.send("4\r\nping\r\n").await;
        assert_eq!(client.more(&mut response).await.expect("an echo"), b"ping");
    }
    client.send("0\r\n\r\n").await;
    assert_eq!(client.more(&mut response).await, None);
    assert!(response.complete);
}

#[tokio::test]
async fn ten_megabytes_pass_either_way_unchanged() {
    const LENGTH: usize = 10_000_000;
    let vms = Scripted::start(|mut connection| async move {
        let request = connection.request().await.expect("a request");
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        connection.wire.send(head).await;
        for piece in request.body.chunks(100_000) {
            connection.wire.send(format!("{:x}\r\n", piece.len())).await;
            connection.wire.send(piece).await;
            connection.wire.send("\r\n").await;
        }
        connection.wire.send("0\r\n\r\n").await;
    })
    .await;
    let edge = TestEdge::before(vms.address);
    let mut client = Client::connect(edge.address).await;
    client
        .send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LENGTH}\r\n\r\n"
        ))
        .await;
    client.send(pattern(LENGTH)).await;
    let response = client.response().await;
    assert_eq!(response.framing, Framing::Chunked);
    assert!(response.complete && response.body == pattern(LENGTH));
}

#[tokio::test]
async fn an_upload_that_the_vms_does_not_read_is_not_gathered_in_memory() {
    let vms = Scripted::start(|mut connection| async move {
        connection.head().await.expect("a request");
        std::future::pending::<()>().await;
    })
    .await;
    // A process of its own, whose memory no other test takes.
    let service = Service::start(&format!(
        "server.listen = [\"127.0.0.1:0\"]\nadmin.listen = \"127.0.0.1:0\"\nupstream.servers = [\"{}\"]\n\
         upstream.idle_timeout = \"100ms\"",
        vms.address
    ))
    .await;
    let mut client = Client::connect(service.address).await;
    client
        .send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {FLOOD}\r\n\r\n"
        ))
        .await;
    let before = peak_memory(service.process());
    let piece = pattern(PIECE);
    let mut sent = 0;
    while sent < FLOOD && client.wire.try_send(&piece).await.is_ok() {
        sent += PIECE;
    }
    assert!(peak_memory(service.process()) - before < FLOOD / 4);
}

/// Most bytes of memory that a process ever had.
fn peak_memory(process: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("Linux tells");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = peak.and_then(|peak| peak.trim().strip_suffix(" kB"));
    let kilobytes: usize = kilobytes.expect("a size").parse().expect("a number");
    kilobytes << 10
}

#[tokio::test]
async fn of_an_answer_without_an_end_no_more_is_held_however_much_is_read() {
    let vms = Scripted::start(|mut connection| async move {
        connection.request().await.expect("a request");
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
        connection.wire.send(head).await;
        let chunk = [format!("{PIECE:x}\r\n").as_bytes(), &pattern(PIECE), b"\r\n"].concat();
        while connection.wire.try_send(&chunk).await.is_ok() {}
    })
    .await;
    let service = Service::before(vms.address, "log.access = false").await;
    // A fetch is given up when it is too large, and the batch passes through.
    for (target, requests) in [("/file", 1), ("/api/v1/intercom/shows?ids[]=1", 2)] {
        let before = vms.requests().len();
        let mut client = Client::connect(service.address).await;
        client
            .send(format!(
                "GET {target} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer t\r\nAccept: application/json\r\n\
                 X-Client: ios\r\nX-UUID: phone\r\n\r\n"
            ))
            .await;
        let mut answer = client.begin("GET").await;
        let mut peaks = [0; 2];
        // Whatever it takes to begin with, it has taken after the first part.
        for peak in &mut peaks {
            let mut read = 0;
            while read < FLOOD {
                read += client.more(&mut answer).await.expect("it goes on").len();
            }
            *peak = peak_memory(service.process());
        }
        let [first, second] = peaks;
        assert!(second - first < FLOOD / 4, "{target}: {peaks:?}");
        assert_eq!(vms.requests().len() - before, requests, "{target}");
    }
}

#[tokio::test]
async fn an_answer_that_the_client_does_not_read_is_not_gathered_in_memory() {
    let sent = Arc::new(AtomicUsize::new(0));
    let (cut, mut cuts) = mpsc::unbounded_channel();
    let vms = Scripted::start({
        let sent = Arc::clone(&sent);
        move |mut connection: Connection| {
            let (sent, cut) = (Arc::clone(&sent), cut.clone());
            async move {
                connection.request().await.expect("a request");
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {FLOOD}\r\n\r\n");
                connection.wire.send(head).await;
                while sent.load(Ordering::SeqCst) < FLOOD
                    && connection.wire.try_send(&pattern(PIECE)).await.is_ok()
                {
                    sent.fetch_add(PIECE, Ordering::SeqCst);
                }
                cut.send(()).expect("the test listens");
            }
        }
    })
    .await;
    let settings = "upstream.idle_timeout = \"100ms\"";
    let edge = TestEdge::with(&[vms.address.to_string()], settings);
    let mut client = Client::connect(edge.address).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    soon("the end of the VMS's answer", cuts.recv()).await;
    assert!(
        sent.load(Ordering::SeqCst) < FLOOD,
        "the edge took everything"
    );
}

#[tokio::test]
async fn an_answer_that_the_vms_gives_without_reading_on_reaches_the_client() {
    let vms = Scripted::start(|mut connection| async move {
        connection.head().await.expect("a request");
        let answer = "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno";
        connection.wire.send(answer).await;
        connection.wire.rest().await;
    })
    .await;
    let edge = TestEdge::before(vms.address);
    let mut client = Client::connect(edge.address).await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nhello")
        .await;
    let response = client.response().await;
    assert_eq!((response.status, response.text()), (413, "no"));
}

#[tokio::test]
async fn the_vms_learns_when_the_client_has_gone() {
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let vms = Scripted::start(move |mut connection: Connection| {
        let arrived = arrived.clone();
        async move {
            connection.request().await.expect("a request");
            arrived.send(()).expect("the test listens");
            connection.wire.closed().await;
            arrived.send(()).expect("the test listens");
        }
    })
    .await;
    let edge = TestEdge::before(vms.address);
    let mut client = Client::connect(edge.address).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    soon("the request", arrivals.recv()).await;
    drop(client);
    soon("the end of the connection", arrivals.recv()).await;
}
