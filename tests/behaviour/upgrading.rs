//! The program replaced while it serves: the new process takes the sockets over, and no client notices.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::task::JoinSet;
use vms_edge::demo::vms::StandIn;

use crate::support::client::Client;
use crate::support::scrape::Scrape;
use crate::support::scripted::Scripted;
use crate::support::service::Service;
use crate::support::world::SHOWS;

const UPGRADES: &str = "vms_edge_upgrades_total";

fn settings(upstream: SocketAddr, more: &str) -> String {
    format!(
        "server.listen = [\"127.0.0.1:0\"]\nadmin.listen = \"127.0.0.1:0\"\nserver.threads = 2\n\
         upstream.servers = [\"{upstream}\"]\n{more}"
    )
}

/// Clients that ask without a pause, each on a connection that it keeps for as long as it is let.
struct Load {
    clients: JoinSet<()>,
    enough: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
}

impl Load {
    fn on(address: SocketAddr, clients: usize) -> Self {
        let mut load = Self {
            clients: JoinSet::new(),
            enough: Arc::default(),
            answered: Arc::default(),
        };
        for number in 0..clients {
            let (enough, answered) = (Arc::clone(&load.enough), Arc::clone(&load.answered));
            load.clients.spawn(async move {
                let target = match number % 2 {
                    0 => format!("{SHOWS}?ids[]=1&ids[]=2"),
                    _ => "/api/v1/static/basic".to_owned(),
                };
                let request = format!(
                    "GET {target} HTTP/1.1\r\nHost: vms.local\r\nAuthorization: Bearer tok-1-ios\r\n\
                     Accept: application/json\r\nX-Client: ios\r\nX-UUID: phone-{number}\r\n\r\n"
                );
                while !enough.load(Ordering::SeqCst) {
                    let mut client = Client::connect(address).await;
                    loop {
                        client.send(&request).await;
                        let answer = client.response().await;
                        assert_eq!((answer.status, answer.complete), (200, true), "{target}");
                        answered.fetch_add(1, Ordering::SeqCst);
                        let is_last = answer.head.one("connection") == Some("close");
                        if is_last || enough.load(Ordering::SeqCst) {
                            break;
                        }
                    }
                }
            });
        }
        load
    }

    /// Waits until every client was answered several times more, on the average.
    async fn goes_on(&self) {
        let more = self.answered.load(Ordering::SeqCst) + 20 * self.clients.len();
        while self.answered.load(Ordering::SeqCst) < more {
            tokio::task::yield_now().await;
        }
    }

    /// Ends it; a request that failed fails the test here.
    async fn ends(mut self) {
        self.enough.store(true, Ordering::SeqCst);
        while let Some(client) = self.clients.join_next().await {
            client.expect("no request failed");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_upgrades_under_load_cost_not_one_request() {
    let vms = StandIn::without_record();
    let serving = vms.start().await.unwrap();
    let mut service = Service::start(&settings(serving.address(), "log.access = false")).await;
    let load = Load::on(service.addresses[0], 12);
    for _ in 0..10 {
        load.goes_on().await;
        service.upgrade().await;
    }
    load.goes_on().await;
    load.ends().await;
    service.signal("TERM");
    service.ends().await;
}

#[tokio::test]
async fn a_new_configuration_comes_with_the_new_process_and_may_listen_elsewhere() {
    let vms = Scripted::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let text = settings(vms.address, "");
    let mut service = Service::start(&text).await;
    let address = service.addresses[0];
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
    service.signal("TERM");
    let lines = service.ends().await;
    assert!(lines.iter().any(|line| line.contains("shutting down")));
}

#[tokio::test]
async fn if_the_new_process_cannot_start_the_old_one_goes_on() {
    let vms = Scripted::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let text = settings(vms.address, "");
    let mut service = Service::start(&text).await;
    let mut client = Client::connect(service.addresses[0]).await;
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
    let mut another = Client::connect(service.addresses[0]).await;
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
