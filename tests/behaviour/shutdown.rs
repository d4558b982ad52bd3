//! A shutdown: no new requests, those in flight finish, and the edge is gone as soon as the last one has.

use std::net::SocketAddr;
use std::thread::JoinHandle;

use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::scripted::{Connection, Scripted};
use crate::support::soon;

/// A VMS that says when a request has come, and answers in two halves, each when it is told to.
struct Slow {
    vms: Scripted,
    arrivals: mpsc::UnboundedReceiver<()>,
    go: mpsc::UnboundedSender<()>,
}

impl Slow {
    async fn start() -> Self {
        let (arrived, arrivals) = mpsc::unbounded_channel();
        let (go, told) = mpsc::unbounded_channel();
        let told = std::sync::Arc::new(tokio::sync::Mutex::new(told));
        let vms = Scripted::start(move |mut connection: Connection| {
            let (arrived, told) = (arrived.clone(), told.clone());
            async move {
                connection.request().await.expect("a request");
                arrived.send(()).expect("the test listens");
                let mut told = told.lock().await;
                told.recv().await;
                let half = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
                if connection.wire.try_send(half.as_bytes()).await.is_err() {
                    return;
                }
                told.recv().await;
                connection.wire.send("5\r\nworld\r\n0\r\n\r\n").await;
            }
        })
        .await;
        Self { vms, arrivals, go }
    }

    fn go(&self) {
        self.go.send(()).expect("the VMS waits");
    }
}

/// A request that the VMS has received and not answered.
async fn in_flight(slow: &mut Slow, edge: &TestEdge) -> Client {
    let mut client = Client::connect(edge.address).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    soon("the request", slow.arrivals.recv()).await;
    client
}

async fn ended(stopping: JoinHandle<()>) {
    let (tell, told) = oneshot::channel();
    std::thread::spawn(move || tell.send(stopping.join()));
    let joined = soon("the end of the edge", told).await;
    joined
        .expect("the thread tells")
        .expect("stopping does not panic");
}

async fn readiness(admin: SocketAddr) -> u16 {
    Client::connect(admin).await.get("/readyz").await.status
}

/// Waits until readiness has turned, which is the beginning of the shutdown.
async fn unready(admin: SocketAddr) {
    soon("the turn of readiness", async {
        while readiness(admin).await == 200 {}
    })
    .await;
}

#[tokio::test]
async fn an_idle_edge_stops_at_once() {
    let vms = Scripted::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let edge = TestEdge::with(&[vms.address.to_string()], "server.grace = \"1h\"");
    let mut client = Client::connect(edge.address).await;
    assert_eq!(client.get("/").await.status, 200);
    ended(edge.stop()).await;
    client.wire.closed().await;
}

#[tokio::test]
async fn a_request_in_flight_finishes_and_ends_the_shutdown() {
    let mut slow = Slow::start().await;
    let edge = TestEdge::with(&[slow.vms.address.to_string()], "server.grace = \"1h\"");
    let mut waiting = in_flight(&mut slow, &edge).await;
    let (address, admin) = (edge.address, edge.admin);
    assert_eq!(readiness(admin).await, 200);
    let stopping = edge.stop();
    unready(admin).await;
    soon("the end of listening", async {
        while TcpStream::connect(address).await.is_ok() {}
    })
    .await;
    assert_eq!(readiness(admin).await, 503);
    slow.go();
    let mut response = waiting.begin("GET").await;
    assert_eq!(waiting.more(&mut response).await.expect("half"), b"hello");
    assert!(!stopping.is_finished());
    slow.go();
    assert_eq!(waiting.more(&mut response).await.expect("half"), b"world");
    assert_eq!(waiting.more(&mut response).await, None);
    assert!(response.complete);
    ended(stopping).await;
}

#[tokio::test]
async fn the_end_of_the_grace_cuts_what_is_still_in_flight() {
    let mut slow = Slow::start().await;
    let edge = TestEdge::with(&[slow.vms.address.to_string()], "server.grace = \"50ms\"");
    let mut waiting = in_flight(&mut slow, &edge).await;
    slow.go();
    let mut response = waiting.begin("GET").await;
    assert_eq!(waiting.more(&mut response).await.expect("half"), b"hello");
    ended(edge.stop()).await;
    assert_eq!(waiting.more(&mut response).await, None);
    assert!(!response.complete);
}

#[tokio::test]
async fn a_request_on_a_connection_that_was_open_before_is_not_begun() {
    let mut slow = Slow::start().await;
    let edge = TestEdge::with(&[slow.vms.address.to_string()], "server.grace = \"1h\"");
    let idle = Client::connect(edge.address).await;
    let mut waiting = in_flight(&mut slow, &edge).await;
    let admin = edge.admin;
    let stopping = edge.stop();
    unready(admin).await;
    let mut idle = idle;
    idle.wire.closed().await;
    slow.go();
    slow.go();
    assert_eq!(waiting.response().await.text(), "helloworld");
    ended(stopping).await;
    assert_eq!(slow.vms.requests().len(), 1);
}
