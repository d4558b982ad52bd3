//! Health checks: what is asked, what passes, and who is passed over for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use vms_edge::cache::clock::Clock;
use vms_edge::config::Config;
use vms_edge::origin::checker::Checker;
use vms_edge::origin::resolve::SystemResolver;
use vms_edge::origin::servers::Servers;

use crate::support::client::Client;
use crate::support::deaf::Refusing;
use crate::support::edge::TestEdge;
use crate::support::scrape::Scrape;
use crate::support::scripted::{Connection, Scripted};

/// Servers and their checker, without an edge and its clockwork.
async fn checked(servers: &[String], settings: &str) -> (Arc<Servers>, Arc<Checker>) {
    let text = format!("upstream.servers = {servers:?}\n{settings}");
    let upstream = Config::parse(&text, "test").unwrap().upstream;
    let resolver = Box::new(SystemResolver);
    let servers = Servers::resolve(&upstream, None, resolver, Clock::manual().0, None).await;
    let servers = Arc::new(servers.unwrap());
    let checker = Checker::new(&upstream, Arc::clone(&servers));
    (servers, Arc::new(checker))
}

/// How many are asked and how many passed over, nobody's breaker being open.
fn well_and_sick(servers: &Servers) -> (usize, usize) {
    let [closed, 0, 0, unhealthy] = servers.states() else {
        panic!("{:?}", servers.states());
    };
    (closed, unhealthy)
}

/// A VMS that answers with the status it is told.
async fn told(status: &Arc<AtomicU16>) -> Scripted {
    let status = Arc::clone(status);
    Scripted::start(move |mut connection: Connection| {
        let status = Arc::clone(&status);
        async move {
            while connection.request().await.is_some() {
                let status = status.load(Ordering::SeqCst);
                let answer = format!("HTTP/1.1 {status} It is\r\nContent-Length: 2\r\n\r\nok");
                connection.wire.send(answer).await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_check_is_a_small_request_on_a_connection_of_its_own() {
    let vms = told(&Arc::new(AtomicU16::new(200))).await;
    let address = vms.address.to_string();
    let (_, checker) = checked(std::slice::from_ref(&address), "").await;
    checker.round().await;
    checker.round().await;
    assert_eq!((vms.requests().len(), vms.connections()), (2, 2));
    let request = vms.requests().remove(0);
    assert_eq!(request.line(), "GET /api/v1/static/basic HTTP/1.1");
    assert_eq!(request.head.one("host"), Some(address.as_str()));
    assert_eq!(request.head.one("user-agent"), Some("vms-edge"));
    assert_eq!(request.head.one("connection"), Some("close"));
    assert_eq!(request.head.one("authorization"), None);

    let settings = "upstream.host = \"vms.local\"\nupstream.health.path = \"/up\"";
    let (_, checker) = checked(&[address], settings).await;
    checker.round().await;
    let request = vms.requests().pop().unwrap();
    assert_eq!(request.line(), "GET /up HTTP/1.1");
    assert_eq!(request.head.one("host"), Some("vms.local"));
}

#[tokio::test]
async fn it_takes_as_many_rounds_as_configured_to_pass_a_server_over_and_to_ask_it_again() {
    let status = Arc::new(AtomicU16::new(500));
    let (sick, well) = (
        told(&status).await,
        told(&Arc::new(AtomicU16::new(200))).await,
    );
    let addresses = [sick.address.to_string(), well.address.to_string()];
    let (servers, checker) = checked(&addresses, "").await;
    for expected in [(2, 0), (2, 0), (1, 1), (1, 1)] {
        checker.round().await;
        assert_eq!(well_and_sick(&servers), expected);
    }
    status.store(200, Ordering::SeqCst);
    for expected in [(1, 1), (2, 0)] {
        checker.round().await;
        assert_eq!(well_and_sick(&servers), expected);
    }
    assert_eq!((sick.requests().len(), well.requests().len()), (6, 6));
}

/// One result is enough.
const AT_ONCE: &str = "upstream.health.unhealthy = 1\nupstream.health.healthy = 1\n";

#[tokio::test]
async fn any_complete_answer_below_500_passes() {
    for (status, expected) in [
        (200, (1, 0)),
        (302, (1, 0)),
        (401, (1, 0)),
        (404, (1, 0)),
        (429, (1, 0)),
        (500, (0, 1)),
        (503, (0, 1)),
    ] {
        let vms = told(&Arc::new(AtomicU16::new(status))).await;
        let (servers, checker) = checked(&[vms.address.to_string()], AT_ONCE).await;
        checker.round().await;
        assert_eq!(well_and_sick(&servers), expected, "{status}");
    }
}

#[tokio::test]
async fn no_complete_answer_in_time_fails() {
    for (bytes, hangs) in [
        ("", false),
        ("", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[", false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[", true),
        ("hello\r\n\r\n", true),
    ] {
        let vms = Scripted::start(move |mut connection: Connection| async move {
            connection.request().await;
            connection.wire.send(bytes).await;
            if hangs {
                std::future::pending::<()>().await;
            }
        })
        .await;
        let impatient = format!("{AT_ONCE}upstream.health.timeout = \"200ms\"");
        let (servers, checker) = checked(&[vms.address.to_string()], &impatient).await;
        checker.round().await;
        assert_eq!(well_and_sick(&servers), (0, 1), "{bytes:?} {hangs}");
        assert_eq!(vms.requests().len(), 1);
    }
    let (servers, checker) = checked(&[Refusing::new().address.to_string()], AT_ONCE).await;
    checker.round().await;
    assert_eq!(well_and_sick(&servers), (0, 1));
}

#[tokio::test]
async fn checks_are_off_by_default_with_one_server_and_on_with_two() {
    let two = ["10.0.0.1:80".to_owned(), "10.0.0.2:80".to_owned()];
    for (check, wanted) in [
        ("auto", [false, true]),
        ("always", [true, true]),
        ("never", [false, false]),
    ] {
        let settings = format!("upstream.health.check = \"{check}\"");
        for (count, wanted) in [1, 2].into_iter().zip(wanted) {
            let (_, checker) = checked(&two[..count], &settings).await;
            assert_eq!(checker.is_wanted(), wanted, "{check} {count}");
        }
    }
    let (_, checker) = checked(&two[..1], "").await;
    assert!(!checker.is_wanted());
}

#[tokio::test]
async fn an_edge_passes_over_whom_its_checks_find_unhealthy_and_asks_it_again_when_it_is_well() {
    let status = Arc::new(AtomicU16::new(503));
    let (sick, well) = (
        told(&status).await,
        told(&Arc::new(AtomicU16::new(200))).await,
    );
    let servers = [sick.address.to_string(), well.address.to_string()];
    let settings = "upstream.health = { interval = \"100ms\", unhealthy = 1, healthy = 1 }";
    let edge = TestEdge::with(&servers, settings);
    let unhealthy = "vms_edge_upstream_servers{state=\"unhealthy\"}";
    Scrape::once(edge.admin, unhealthy, 1.0).await;

    let own = |vms: &Scripted| {
        let requests = vms.requests().into_iter();
        requests
            .filter(|request| request.line() == "GET /own HTTP/1.1")
            .count()
    };
    let mut client = Client::connect(edge.address).await;
    for _ in 0..4 {
        assert_eq!(client.get("/own").await.status, 200);
    }
    assert_eq!((own(&sick), own(&well)), (0, 4));

    status.store(200, Ordering::SeqCst);
    Scrape::once(edge.admin, unhealthy, 0.0).await;
    for _ in 0..4 {
        assert_eq!(client.get("/own").await.status, 200);
    }
    assert_eq!((own(&sick), own(&well)), (2, 6));
}
