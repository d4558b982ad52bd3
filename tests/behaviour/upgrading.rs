//! The program replaced while it serves: the new process takes the sockets over, and no client notices.

mod load;

use std::net::SocketAddr;

use vms_edge::demo::vms::StandIn;

use self::load::Load;
use crate::support::certificate::SelfSigned;
use crate::support::client::Client;
use crate::support::scrape::Scrape;
use crate::support::scripted::Scripted;
use crate::support::service::Service;
use crate::support::soon;

const UPGRADES: &str = "vms_edge_upgrades_total";

fn settings(upstream: SocketAddr, more: &str) -> String {
    format!(
        "server.listen = [\"127.0.0.1:0\"]\nadmin.listen = \"127.0.0.1:0\"\nserver.threads = 2\n\
         upstream.servers = [\"{upstream}\"]\n{more}"
    )
}

/// A WebSocket to the stand-in VMS, which says everything again.
async fn websocket(address: SocketAddr) -> Client {
    let mut client = Client::connect(address).await;
    let handshake = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    client.send(handshake).await;
    assert_eq!(client.begin("GET").await.status, 101);
    client
}

async fn assert_open(websocket: &mut Client) {
    websocket.send("still there?").await;
    let echo = soon("the echo", websocket.wire.exactly(12)).await;
    assert_eq!(echo.expect("it is open"), b"still there?");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_upgrades_under_load_cost_not_one_request_nor_a_websocket() {
    let vms = StandIn::without_record();
    let serving = vms.start().await.unwrap();
    let certificate = SelfSigned::new();
    let more = format!(
        "server.grace = \"1h\"\nlog.access = false\n{}",
        certificate.listener()
    );
    let mut service = Service::start(&settings(serving.address(), &more)).await;
    let mut websocket = websocket(service.address).await;
    let load = Load::on(&service, 8, 4, &certificate);
    for _ in 0..10 {
        load.goes_on().await;
        service.upgrade().await;
    }
    load.goes_on().await;
    load.ends().await;
    let scrape = Scrape::of(service.admin).await;
    let handed_over = format!("{UPGRADES}{{result=\"handed_over\"}}");
    assert_eq!(scrape.value(&handed_over), 1.0, "the last one took over");
    assert_open(&mut websocket).await;
    drop(websocket);
    // The first process ends with its last client, and so the log does with the last one.
    service.stops().await;
}

#[tokio::test]
async fn a_websocket_is_kept_until_the_grace_is_over() {
    let vms = StandIn::without_record();
    let serving = vms.start().await.unwrap();
    let more = "server.grace = \"1s\"";
    let mut service = Service::start(&settings(serving.address(), more)).await;
    let mut websocket = websocket(service.address).await;
    service.upgrade().await;
    assert_open(&mut websocket).await;
    let cut = service.says("requests were cut off").await;
    assert!(cut.contains("the grace is over"), "{cut}");
    let end = soon("the end", websocket.wire.some(1)).await;
    assert!(end.unwrap_or_default().is_empty());
}

#[tokio::test]
async fn a_second_signal_ends_the_grace() {
    let vms = StandIn::without_record();
    let serving = vms.start().await.unwrap();
    let text = settings(serving.address(), "server.grace = \"1h\"");
    let mut service = Service::start(&text).await;
    let mut websocket = websocket(service.address).await;
    service.signal("TERM");
    service.says("shutting down").await;
    assert_open(&mut websocket).await;
    service.signal("TERM");
    let cut = service.says("requests were cut off").await;
    assert!(cut.contains("somebody was in haste"), "{cut}");
    service.ends().await;
}

#[tokio::test]
async fn one_that_leaves_is_asked_to_stop_before_anybody_is_cut_off() {
    let vms = StandIn::without_record();
    let serving = vms.start().await.unwrap();
    let text = settings(serving.address(), "server.grace = \"1h\"");
    let mut service = Service::start(&text).await;
    let leaving = service.process();
    let mut websocket = websocket(service.address).await;
    let mut idle = Client::connect(service.address).await;
    assert_eq!(idle.get("/api/v1/static/basic").await.status, 200);
    service.upgrade().await;
    service.signal_to(leaving, "TERM");
    // What is idle is closed at once then, and what is in flight is not.
    assert!(idle.head().await.is_none());
    // Often enough that a process which is ending would be gone before the last.
    for _ in 0..200 {
        assert_open(&mut websocket).await;
    }
    service.signal_to(leaving, "TERM");
    let cut = service.says("requests were cut off").await;
    assert!(cut.contains("somebody was in haste"), "{cut}");
}

#[tokio::test]
async fn a_new_configuration_comes_with_the_new_process_and_may_listen_elsewhere() {
    let vms = Scripted::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let text = settings(vms.address, "");
    let mut service = Service::start(&text).await;
    let address = service.address;
    service.configure(&text.replace(
        "server.listen = [\"127.0.0.1:0\"]",
        "server.listen = [\"127.0.0.1:0\", \"127.0.0.2:0\"]",
    ));
    service.upgrade().await;
    let serving = service.says("serving").await;
    assert!(serving.contains(&format!("addresses=[{address}, 127.0.0.2:")));
    let mut client = Client::connect(address).await;
    assert_eq!(client.get("/").await.status, 200);
    drop(client);
    assert!(service.stops().await.contains("shutting down"));
}

#[tokio::test]
async fn if_the_new_process_cannot_start_the_old_one_goes_on() {
    let vms = Scripted::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let text = settings(vms.address, "");
    let mut service = Service::start(&text).await;
    let mut client = Client::connect(service.address).await;
    assert_eq!(client.get("/").await.status, 200);

    service.configure(&format!("{text}no.such.key = 1"));
    service.signal("QUIT");
    service.says("edge.toml:").await;
    let line = service.says("not handed over").await;
    assert!(line.contains("exit status: 78"), "{line}");

    service.configure(&text);
    service.install("#!/bin/sh\nexit 3\n");
    service.signal("QUIT");
    let line = service.says("not handed over").await;
    assert!(line.contains("exit status: 3"), "{line}");

    service.uninstall();
    service.signal("QUIT");
    let line = service.says("not handed over").await;
    assert!(line.contains("cannot be started"), "{line}");

    // The same process, on the same connection and on new ones.
    assert_eq!(client.get("/").await.status, 200);
    let mut another = Client::connect(service.address).await;
    assert_eq!(another.get("/").await.status, 200);
    let scrape = Scrape::of(service.admin).await;
    assert_eq!(
        scrape.value(&format!("{UPGRADES}{{result=\"failed\"}}")),
        3.0
    );
}

#[tokio::test]
async fn whoever_takes_over_by_hand_is_told_that_it_is_not_for_hands() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = directory.path().join("edge.toml");
    std::fs::write(&config, "upstream.servers = [\"127.0.0.1:9\"]").expect("a file");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_vms-edge"))
        .args(["run", "--take-over", "--config"])
        .arg(config)
        .stdin(std::process::Stdio::null())
        .output()
        .expect("it runs");
    let said = String::from_utf8(output.stderr).expect("text");
    let line = "vms-edge: --take-over is what a vms-edge starts its successor with: ";
    assert!(
        said.starts_with(line) && said.lines().count() == 1,
        "{said}"
    );
    assert_eq!(output.status.code(), Some(1));
}
