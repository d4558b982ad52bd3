//! A VMS that fails is left alone, what could wait for it does not, and it is not stampeded when it is back.

use http::{Method, Request};
use http_body_util::Full;
use tokio::task::JoinSet;
use vms_edge::demo::vms::{Fault, Times};

use crate::support::client::Client;
use crate::support::deaf::Refusing;
use crate::support::deployment::Deployment;
use crate::support::edge::TestEdge;
use crate::support::scrape::Scrape;
use crate::support::scripted::{Connection, Scripted};
use crate::support::world::{Answer, SHOWS, Widget, World, send};
use crate::support::{PATIENCE, soon, world::metrics};

const EMPTY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// One failure opens it.
const FRAGILE: &str = "upstream.breaker.failures = 1\nupstream.health.check = \"never\"\n";

/// Fresh 30 s, stale 60 s more, instead of an error 300 s more; no jitter.
const WINDOWS: &str = "[[batch]]\npath = \"/api/v1/intercom/shows\"\nfresh = \"30s\"\njitter = 0.0\n\
                       stale_while_revalidate = \"60s\"\nstale_if_error = \"5m\"\n";

/// The only server is in this state.
async fn assert_is(edge: &TestEdge, state: &str) {
    let line = format!("vms_edge_upstream_servers{{state=\"{state}\"}} 1\n");
    let metrics = metrics(edge).await;
    assert!(metrics.contains(&line), "not {state}: {metrics}");
}

/// Waits until the metrics say so.
async fn becomes(edge: &TestEdge, line: &str) {
    let said = async {
        while !metrics(edge).await.contains(line) {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, said).await;
    if waited.is_err() {
        panic!("{line} did not come: {}", metrics(edge).await);
    }
}

/// All widgets ask at once.
fn ask_at_once(widgets: &[Widget<'_>]) -> JoinSet<Answer> {
    widgets
        .iter()
        .map(|widget| widget.asks_apart([1, 3]))
        .collect()
}

/// The next so many of them are answered, and with what they asked for.
async fn answered(asking: &mut JoinSet<Answer>, count: usize) {
    for _ in 0..count {
        let answer = soon("an answer", asking.join_next()).await;
        answer
            .expect("more are asking")
            .expect("no panic")
            .gets([1, 3]);
    }
}

#[tokio::test]
async fn a_redeploy_is_not_seen_by_widgets_and_the_vms_is_not_stampeded_when_it_is_back() {
    let mut deployment = Deployment::new();
    let settings = format!("upstream.fetch_timeout = \"2s\"\n{WINDOWS}");
    let world = World::before(&deployment, &settings);
    let widgets: Vec<Widget<'_>> = (1..=8).map(|user| world.user(user)).collect();
    for widget in &widgets {
        widget.asks([1, 3]).await.gets([1, 3]).is("fwd=miss");
    }
    world.advance(100);
    let told = || (world.vms.requests_total(), world.vms.connections());

    // It refuses: after five failures nobody asks it.
    deployment.goes_down().await;
    for widget in &widgets {
        widget.asks([1, 3]).await.gets([1, 3]).is("ttl=-70");
    }
    let counted = Scrape::settled(world.edge.admin).await;
    for (outcome, count) in [("connect", 5.0), ("open", 3.0)] {
        let series = format!("vms_edge_fetches_total{{outcome=\"{outcome}\"}}");
        assert_eq!(counted.value(&series), count, "{outcome}");
    }
    assert_is(&world.edge, "open").await;

    // It accepts, but hangs: three find out, and nobody waits for them.
    let hold = world.vms.hold();
    deployment.comes_up();
    let before = told();
    answered(&mut ask_at_once(&widgets), 8).await;
    assert_eq!(told(), before);
    world.advance(1);
    answered(&mut ask_at_once(&widgets), 8).await;
    soon("three probes", hold.arrived(3)).await;
    assert_eq!(told().0, before.0 + 3);
    assert_is(&world.edge, "half_open").await;
    let timed_out = "vms_edge_fetches_total{outcome=\"timeout\"} 3\n";
    becomes(&world.edge, timed_out).await;
    assert_is(&world.edge, "open").await;

    // It is well: for the rest of the pause nobody asks it.
    drop(hold);
    answered(&mut ask_at_once(&widgets), 8).await;
    assert_eq!(told().0, before.0 + 3);

    // It is probed by three at once, and by three more.
    world.advance(1);
    for probed in [3, 6] {
        let hold = world.vms.hold();
        answered(&mut ask_at_once(&widgets), 8).await;
        soon("three probes", hold.arrived(3)).await;
        assert_eq!(told().0, before.0 + 3 + probed);
        assert_is(&world.edge, "half_open").await;
        drop(hold);
        let stored = format!(
            "vms_edge_fetches_total{{outcome=\"stored\"}} {}\n",
            8 + probed
        );
        becomes(&world.edge, &stored).await;
    }

    // And then by all who are left.
    assert_is(&world.edge, "closed").await;
    answered(&mut ask_at_once(&widgets), 8).await;
    assert_eq!(told().0, before.0 + 3 + 8);
    for widget in &widgets {
        widget.asks([1, 3]).await.gets([1, 3]).hit();
    }
}

/// A batch of a user who has nothing stored.
fn batch(user: u64) -> Request<Full<bytes::Bytes>> {
    let request = Request::get(format!("{SHOWS}?ids[]=1"))
        .header("host", "vms.local")
        .header("authorization", format!("Bearer tok-{user}-ios"))
        .header("x-client", "ios")
        .header("x-uuid", "device");
    request.body(Full::default()).unwrap()
}

/// A VMS that never answers batches, and cuts the connection at everything else.
async fn hanging() -> Scripted {
    Scripted::start(|mut connection: Connection| async move {
        let request = connection.request().await.expect("a request");
        if request.line().contains(SHOWS) {
            std::future::pending::<()>().await;
        }
    })
    .await
}

#[tokio::test]
async fn an_open_breaker_answers_without_asking_or_waiting() {
    let vms = hanging().await;
    // Whoever waited for a permit would wait longer than the test does.
    let settings = "upstream.max_fetches = 1\nupstream.connect_timeout = \"1m\"\nupstream.fetch_timeout = \"5m\"\n";
    let edge = TestEdge::with(&[vms.address.to_string()], &format!("{FRAGILE}{settings}"));
    let holds_the_permit = tokio::spawn(send(edge.address, batch(1)));
    let arrives = async {
        while vms.requests().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    soon("the first fetch", arrives).await;
    let cut = Client::connect(edge.address).await.get("/").await;
    assert_eq!(cut.status, 502);
    let asked = (vms.requests().len(), vms.connections());

    for user in 2..20 {
        let answer = soon("an answer", send(edge.address, batch(user))).await;
        let answer = answer.status(503).is("detail=failed");
        assert_eq!(answer.header("retry-after"), Some("1"));
        answer.body_is(r#"{"message":"Service Unavailable"}"#);
    }
    assert_eq!((vms.requests().len(), vms.connections()), asked);
    let counted = Scrape::of(edge.admin).await;
    assert_eq!(
        counted.value("vms_edge_fetches_total{outcome=\"open\"}"),
        18.0
    );
    holds_the_permit.abort();
}

#[tokio::test]
async fn a_fetch_without_a_permit_says_nothing_of_the_vms() {
    let settings =
        format!("{FRAGILE}upstream.max_fetches = 1\nupstream.connect_timeout = \"50ms\"");
    let world = World::with(&settings).await;
    let (ann, bob) = (world.user(1), world.user(2));
    let hold = world.vms.hold();
    let ask_meanwhile = async {
        hold.arrived(1).await;
        bob.asks([1]).await.status(503);
        assert_is(&world.edge, "closed").await;
        drop(hold);
    };
    tokio::join!(ann.asks([1]), ask_meanwhile);
}

#[tokio::test]
async fn a_vms_that_is_well_again_is_asked_although_memory_could_answer() {
    let world = World::with(&format!("{FRAGILE}{WINDOWS}")).await;
    let ann = world.user(1);
    ann.asks([1]).await.gets([1]);
    world.advance(100);
    world.vms.fault(Fault::Status(503), Times::Once);
    ann.asks([1]).await.gets([1]).is("detail=stale_if_error");
    assert_is(&world.edge, "open").await;
    world.vms.rename(1, "Renamed");
    world.advance(1);
    let answer = ann.asks([1]).await.gets([1]).is("fwd=miss");
    assert!(answer.text().contains("Renamed"));
    assert_is(&world.edge, "half_open").await;
}

#[tokio::test]
async fn what_piled_up_during_an_outage_comes_down_on_the_vms_a_few_at_a_time() {
    let settings = "upstream.breaker.probes = 1\nupstream.connect_timeout = \"1m\"\nupstream.fetch_timeout = \"5m\"";
    let world = World::with(&format!("{FRAGILE}{settings}")).await;
    world.vms.fault(Fault::Status(503), Times::Once);
    world.user(1).asks([1]).await.status(503);
    world.advance(1);
    for user in 1..=2 {
        world.user(user).asks([1]).await.gets([1]);
    }
    assert_is(&world.edge, "closed").await;

    // Twice as many as probed it, and one more for the success that closed the breaker.
    let hold = world.vms.hold();
    let widgets: Vec<Widget<'_>> = (11..=20).map(|user| world.user(user)).collect();
    let mut asking: JoinSet<Answer> = widgets.iter().map(|w| w.asks_apart([1])).collect();
    soon("three fetches", hold.arrived(3)).await;
    Scrape::once(world.edge.admin, "vms_edge_requests_in_flight", 10.0).await;
    assert_eq!(hold.waiting(), 3);
    drop(hold);
    for _ in 0..10 {
        let answer = soon("an answer", asking.join_next()).await;
        answer.expect("ten ask").expect("no panic").gets([1]);
    }
}

#[tokio::test]
async fn what_a_failing_server_does_is_a_failure() {
    for fault in [
        Fault::CloseBeforeAnswer,
        Fault::CutBody,
        Fault::Hang,
        Fault::Status(502),
        Fault::Status(503),
        Fault::Status(504),
    ] {
        let timeouts = "upstream.connect_timeout = \"100ms\"\nupstream.fetch_timeout = \"300ms\"";
        let hangs = fault == Fault::Hang;
        let world = World::with(&format!("{FRAGILE}{}", if hangs { timeouts } else { "" })).await;
        world.vms.fault(fault.clone(), Times::Once);
        assert!(world.user(1).asks([1]).await.status.as_u16() > 500);
        let asked = world.vms.requests_total();
        let left_alone = world.user(2).asks([1]).await.status(503);
        assert_eq!(world.vms.requests_total(), asked, "{fault:?}");
        left_alone.untold();
        assert_is(&world.edge, "open").await;
    }
}

#[tokio::test]
async fn no_connection_and_no_http_are_failures() {
    let garbled = Scripted::answering("hello\r\n\r\n").await;
    for address in [Refusing::new().address, garbled.address] {
        let edge = TestEdge::with(&[address.to_string()], FRAGILE);
        send(edge.address, batch(1)).await.status(502);
        assert_is(&edge, "open").await;
    }
    assert_eq!(garbled.connections(), 1);
}

#[tokio::test]
async fn what_passes_through_and_finds_no_connection_is_a_failure() {
    for method in ["GET", "POST"] {
        let down = Refusing::new();
        let edge = TestEdge::with(&[down.address.to_string()], FRAGILE);
        let mut client = Client::connect(edge.address).await;
        let request = format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        client.send(request).await;
        assert_eq!(client.response().await.status, 502);
        assert_is(&edge, "open").await;
    }
}

#[tokio::test]
async fn an_answer_of_a_server_that_is_alive_is_no_failure_whatever_it_says() {
    for fault in [
        Fault::Status(500),
        Fault::Status(429),
        Fault::Status(401),
        Fault::Status(404),
        Fault::Html,
        Fault::CutJson,
        Fault::NoStore,
        Fault::Endless,
    ] {
        let world = World::with(FRAGILE).await;
        world.vms.fault(fault.clone(), Times::Once);
        world.user(1).asks([1]).await;
        assert_is(&world.edge, "closed").await;
        world.user(2).asks([1]).await.gets([1]);
    }
}

#[tokio::test]
async fn one_success_takes_back_the_failures_before_it() {
    let world = World::with("upstream.breaker.failures = 2").await;
    for user in 1..5 {
        world.vms.fault(Fault::Status(503), Times::Once);
        world.user(user).asks([1]).await.status(503);
        assert_is(&world.edge, "closed").await;
        world.user(user).asks([1]).await.gets([1]);
    }
    world.vms.fault(Fault::Status(503), Times::Next(2));
    for user in 5..7 {
        world.user(user).asks([1]).await.status(503);
    }
    assert_is(&world.edge, "open").await;
}

/// A VMS that answers with the status that stands in the path, and cuts the connection where none does.
async fn obedient() -> Scripted {
    Scripted::start(|mut connection: Connection| async move {
        while let Some(request) = connection.request().await {
            let line = request.line();
            let Some(status) = line
                .split(['/', ' '])
                .find(|part| part.len() == 3 && part.parse::<u16>().is_ok())
            else {
                return;
            };
            let answer = format!("HTTP/1.1 {status} It is\r\nContent-Length: 0\r\n\r\n");
            connection.wire.send(answer).await;
        }
    })
    .await
}

#[tokio::test]
async fn of_what_passes_through_only_trouble_with_the_connection_is_a_failure() {
    let vms = obedient().await;
    let edge = TestEdge::with(&[vms.address.to_string()], FRAGILE);
    let mut client = Client::connect(edge.address).await;
    for status in [200, 404, 429, 500, 502, 503, 504] {
        assert_eq!(client.get(&format!("/{status}")).await.status, status);
        assert_is(&edge, "closed").await;
    }
    // The pooled connection may have been closed for its age; a write is not said over another.
    client
        .send("POST /cut HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        .await;
    assert_eq!(client.response().await.status, 502);
    assert_is(&edge, "closed").await;
    assert_eq!(
        Client::connect(edge.address).await.get("/cut").await.status,
        502
    );
    assert_is(&edge, "open").await;
}

#[tokio::test]
async fn of_what_passes_through_an_error_takes_no_failures_back_and_anything_else_does() {
    for (status, state) in [(500, "open"), (200, "closed"), (404, "closed")] {
        let vms = obedient().await;
        let edge = TestEdge::with(&[vms.address.to_string()], "upstream.breaker.failures = 3");
        // Said twice, and so two failures; the first of the others is one too many.
        for path in ["/cut".to_owned(), format!("/{status}"), "/cut".to_owned()] {
            let answer = Client::connect(edge.address).await.get(&path).await;
            let expected = if path == "/cut" { 502 } else { status };
            assert_eq!(answer.status, expected);
        }
        assert_is(&edge, state).await;
    }
}

#[tokio::test]
async fn a_pooled_connection_that_was_closed_for_its_age_is_no_failure() {
    let item = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n[{\"id\":1}]";
    let vms = Scripted::start(move |mut connection: Connection| async move {
        // Each connection is good for one request, and does not say so.
        if connection.request().await.is_some() {
            connection.wire.send(item).await;
            connection.request().await;
        }
    })
    .await;
    let edge = TestEdge::with(&[vms.address.to_string()], FRAGILE);
    for user in 1..=4 {
        send(edge.address, batch(user)).await.gets([1]);
        assert_is(&edge, "closed").await;
    }
    assert_eq!((vms.requests().len(), vms.connections()), (7, 4));
}

#[tokio::test]
async fn what_passes_through_is_never_refused_for_an_open_breaker_and_closes_it_once_it_is_probed()
{
    let vms = obedient().await;
    let settings = format!("{FRAGILE}upstream.breaker.probes = 1");
    let edge = TestEdge::with(&[vms.address.to_string()], &settings);
    let mut client = Client::connect(edge.address).await;
    assert_eq!(client.get("/cut").await.status, 502);
    for _ in 0..3 {
        assert_eq!(
            Client::connect(edge.address).await.get("/200").await.status,
            200
        );
        assert_is(&edge, "open").await;
    }
    edge.advance(std::time::Duration::from_secs(1));
    for state in ["half_open", "closed"] {
        assert_eq!(
            Client::connect(edge.address).await.get("/200").await.status,
            200
        );
        assert_is(&edge, state).await;
    }
}

#[tokio::test]
async fn what_passes_through_goes_to_the_server_that_works() {
    let (bad, good) = (
        Scripted::start(|mut connection: Connection| async move {
            connection.request().await;
        })
        .await,
        Scripted::answering(EMPTY).await,
    );
    let servers = [bad.address.to_string(), good.address.to_string()];
    let edge = TestEdge::with(&servers, FRAGILE);
    let mut client = Client::connect(edge.address).await;
    for _ in 0..6 {
        assert_eq!(client.get("/").await.status, 200);
    }
    assert_eq!((bad.requests().len(), good.requests().len()), (1, 6));

    // After its pause it is probed, with what can be said again, and fails again.
    edge.advance(std::time::Duration::from_secs(1));
    for _ in 0..6 {
        let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
        client.send(post).await;
        assert_eq!(client.response_to(Method::POST.as_str()).await.status, 200);
    }
    assert_eq!((bad.requests().len(), good.requests().len()), (1, 12));
    for _ in 0..6 {
        assert_eq!(client.get("/").await.status, 200);
    }
    assert_eq!((bad.requests().len(), good.requests().len()), (2, 18));
}

#[tokio::test]
async fn fetches_go_to_the_server_that_works() {
    let (bad, good) = (Deployment::new(), Deployment::new());
    bad.vms.fault(Fault::Status(503), Times::Always);
    let servers = [bad.address.to_string(), good.address.to_string()];
    let edge = TestEdge::with(&servers, FRAGILE);
    let mut statuses = Vec::new();
    for user in 1..=6 {
        statuses.push(send(edge.address, batch(user)).await.status.as_u16());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 503]);
    assert_eq!((bad.vms.batches_total(), good.vms.batches_total()), (1, 5));
}
