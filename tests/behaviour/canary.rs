//! Two test users whom the edge asks for as a client would, and for whom it asks the VMS itself: what only one may see is
//! never shown to the other, and if it is, somebody hears of it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use vms_edge::ops::reload::Outcome;

use crate::support::deployment::Deployment;
use crate::support::edge::TestEdge;
use crate::support::scripted::Scripted;
use crate::support::service::Service;
use crate::support::soon;
use crate::support::world::{World, metrics};

/// The users' tokens in files, and a configuration that names them.
struct Users {
    _directory: TempDir,
    settings: String,
}

impl Users {
    /// Who ask for these ids as often as may be.
    fn asking(ids: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = |user: u8| {
            let path = directory.path().join(format!("user-{user}"));
            std::fs::write(&path, format!("tok-{user}-canary\n")).unwrap();
            format!("'{}'", path.display())
        };
        let (first, second) = (file(1), file(2));
        let settings = format!(
            "[canary]\ntoken_files = [{first}, {second}]\nids = {ids}\ninterval = \"100ms\"\n"
        );
        Self {
            _directory: directory,
            settings,
        }
    }
}

/// One that the first sees, one that the second sees, and one that both do.
const THREE: &str = "[2, 6, 1]";

/// How many rounds have shown this.
async fn rounds(edge: &TestEdge, result: &str) -> u64 {
    let series = format!("vms_edge_canary_runs_total{{result=\"{result}\"}} ");
    let metrics = metrics(edge).await;
    let count = metrics.lines().find_map(|line| line.strip_prefix(&series));
    count.map_or(0, |count| count.parse().unwrap())
}

/// Waits until so many rounds more have shown this.
async fn rounds_more(edge: &TestEdge, result: &str, count: u64) {
    let wanted = rounds(edge, result).await + count;
    let counted = async {
        while rounds(edge, result).await < wanted {
            tokio::task::yield_now().await;
        }
    };
    soon(result, counted).await;
}

#[tokio::test]
async fn users_who_see_different_things_are_shown_what_the_vms_shows_them_and_nobody_counts_it() {
    let users = Users::asking(THREE);
    let world = World::with(&users.settings).await;
    // From the fetch, and from memory.
    rounds_more(&world.edge, "ok", 3).await;
    let metrics = world.metrics().await;
    for family in [
        "vms_edge_batch_requests_total",
        "vms_edge_batch_items_total",
        "vms_edge_endpoint_requests_total",
        "vms_edge_endpoint_items_total",
        "vms_edge_request_seconds",
    ] {
        assert!(!metrics.contains(family), "{metrics}");
    }
    for other in ["leak", "differs", "indistinct"] {
        assert_eq!(rounds(&world.edge, other).await, 0, "{other}");
    }
    // Asked for twice at the VMS itself in each round, and once for each by the edge for its memory.
    let asked = world.vms.batches();
    let fills = "vms_edge_fetches_total{outcome=\"stored\"} 2\n";
    assert!(metrics.contains(fills) && asked.len() >= 8, "{metrics}");
    assert!(asked.iter().all(|batch| batch.ids == [2, 6, 1]));
}

#[tokio::test]
async fn an_answer_that_the_vms_gives_to_the_wrong_user_is_told_for_as_long_as_it_is_remembered() {
    let users = Users::asking(THREE);
    // Each is told the truth when it is asked for directly, and then, for the edge's memory, the other's.
    let asked = Arc::new(Mutex::new(HashMap::<String, u32>::new()));
    let vms = Scripted::start(move |mut connection| {
        let asked = Arc::clone(&asked);
        async move {
            while let Some(request) = connection.request().await {
                let token = request.head.one("authorization").unwrap().to_owned();
                let is_first = token == "Bearer tok-1-canary";
                let nth = {
                    let mut asked = asked.lock().unwrap();
                    let nth = asked.entry(token).or_default();
                    *nth += 1;
                    *nth
                };
                let is_mixed_up = nth == 2;
                let body = match is_first != is_mixed_up {
                    true => r#"[{"id":1,"of":"first"},{"id":2}]"#,
                    false => r#"[{"id":1,"of":"second"},{"id":6}]"#,
                };
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
                );
                connection.wire.send(answer).await;
            }
        }
    })
    .await;
    let mut service = Service::before(vms.address, &users.settings).await;
    for _ in 0..2 {
        let told = service
            .says("a canary was shown what only the other may see")
            .await;
        assert!(told.contains("ERROR"), "{told}");
        assert!(told.contains("of_second=[1, 6]"), "{told}");
        assert!(told.contains("of_first=[1, 2]"), "{told}");
    }
    let log = service.stops().await;
    assert!(!log.contains("tok-"), "{log}");
}

#[tokio::test]
async fn what_both_see_stamped_anew_at_every_tick_is_no_leak() {
    let users = Users::asking(THREE);
    // Sooner or later a tick falls between any two of the questions.
    let asked = Arc::new(AtomicUsize::new(0));
    let vms = Scripted::start(move |mut connection| {
        let asked = Arc::clone(&asked);
        async move {
            while let Some(request) = connection.request().await {
                let own = match request.head.one("authorization") {
                    Some("Bearer tok-1-canary") => 2,
                    _ => 6,
                };
                let tick = asked.fetch_add(1, Ordering::Relaxed) / 3;
                let body = format!(r#"[{{"id":1,"last_seen":{tick}}},{{"id":{own}}}]"#);
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
                );
                connection.wire.send(answer).await;
            }
        }
    })
    .await;
    let edge = TestEdge::with(&[vms.address.to_string()], &users.settings);
    for _ in 0..15 {
        rounds_more(&edge, "differs", 1).await;
        // What is stored is stale, and the next round has it refreshed.
        edge.advance(Duration::from_secs(40));
    }
    assert_eq!(rounds(&edge, "leak").await, 0);
}

#[tokio::test]
async fn what_has_changed_in_the_vms_is_no_leak() {
    let users = Users::asking(THREE);
    let world = World::with(&users.settings).await;
    rounds_more(&world.edge, "ok", 1).await;
    // Both have what is stored of it, and the VMS something else.
    world.vms.rename(1, "another");
    rounds_more(&world.edge, "differs", 2).await;
    world.advance(3_600);
    rounds_more(&world.edge, "ok", 2).await;
    assert_eq!(rounds(&world.edge, "leak").await, 0);
}

#[tokio::test]
async fn what_a_user_lost_before_a_reload_and_memory_has_still_is_no_leak() {
    let users = Users::asking(THREE);
    let world = World::with(&users.settings).await;
    rounds_more(&world.edge, "ok", 1).await;
    // From now on only the second may see it, and the first is answered from memory.
    world.vms.take_away(1, 1);
    rounds_more(&world.edge, "differs", 1).await;
    let applied = world.edge.reload(&users.settings);
    assert!(matches!(applied, Outcome::Applied { .. }), "{applied:?}");
    rounds_more(&world.edge, "ok", 2).await;
    assert_eq!(rounds(&world.edge, "leak").await, 0);
}

#[tokio::test]
async fn users_who_see_the_same_prove_nothing_and_somebody_is_told_once() {
    let users = Users::asking("[4]");
    let world = World::with(&users.settings).await;
    rounds_more(&world.edge, "indistinct", 2).await;
    assert_eq!(rounds(&world.edge, "ok").await, 0);

    let mut service = Service::before(world.vms_address, &users.settings).await;
    let told = service.says("choose ids that only one of them").await;
    assert!(told.contains("WARN"), "{told}");
}

#[tokio::test]
async fn while_the_vms_is_away_nothing_is_shown_and_nothing_said() {
    let users = Users::asking(THREE);
    let mut deployment = Deployment::new();
    let world = World::before(&deployment, &users.settings);
    rounds_more(&world.edge, "ok", 1).await;
    deployment.goes_down().await;
    rounds_more(&world.edge, "unavailable", 2).await;
    deployment.comes_up();
    rounds_more(&world.edge, "ok", 1).await;
    assert_eq!(rounds(&world.edge, "leak").await, 0);
}

#[tokio::test]
async fn a_token_that_the_vms_refuses_shows_nothing() {
    let users = Users::asking(THREE);
    let world = World::new().await;
    world.vms.revoke("tok-2-canary");
    let applied = world.edge.reload(&users.settings);
    assert!(matches!(applied, Outcome::Applied { .. }), "{applied:?}");
    rounds_more(&world.edge, "unavailable", 2).await;
    assert_eq!(rounds(&world.edge, "ok").await, 0);
}

#[tokio::test]
async fn a_token_that_the_vms_refuses_to_the_canary_is_worth_nothing_to_its_other_devices_either() {
    let users = Users::asking(THREE);
    let world = World::with(&users.settings).await;
    let other = world.user(2).with("authorization", "Bearer tok-2-canary");
    other.asks([1, 6]).await.gets([1, 6]);
    rounds_more(&world.edge, "ok", 1).await;
    world.vms.revoke("tok-2-canary");
    rounds_more(&world.edge, "unavailable", 2).await;
    // It would be fresh.
    other.asks([1, 6]).await.status(401);
}

#[tokio::test]
async fn the_vms_is_addressed_as_clients_do() {
    let users = Users::asking(THREE);
    let world = World::new().await;
    let upstream = world.vms_address.to_string();
    for (origin, host, scheme) in [
        ("", upstream.as_str(), "http"),
        ("https://vms.example.com", "vms.example.com", "https"),
        ("http://vms.local:8080", "vms.local:8080", "http"),
    ] {
        let settings = format!("{}origin = \"{origin}\"\n", users.settings);
        let edge = TestEdge::with(std::slice::from_ref(&upstream), &settings);
        world.vms.forget_requests();
        rounds_more(&edge, "ok", 2).await;
        drop(edge);
        let asked = world.vms.requests();
        assert!(!asked.is_empty());
        for request in asked {
            let field = |wanted: &str| {
                let mut fields = request.headers.iter();
                let named = |(name, _): &&(String, String)| name.eq_ignore_ascii_case(wanted);
                fields.find(named).map(|(_, value)| value.as_str())
            };
            assert_eq!(field("host"), Some(host));
            assert_eq!(field("x-forwarded-host"), Some(host));
            assert_eq!(field("x-forwarded-proto"), Some(scheme));
        }
    }
}

#[tokio::test]
async fn a_reload_begins_it_changes_it_and_ends_it() {
    let (users, others) = (Users::asking(THREE), Users::asking("[3, 9, 10]"));
    let world = World::new().await;
    let reload = |settings: &str| {
        let applied = world.edge.reload(settings);
        assert!(matches!(applied, Outcome::Applied { .. }), "{applied:?}");
    };
    const CONFIGURED: &str = "vms_edge_canary_configured 1\n";
    assert!(world.vms.batches().is_empty());
    assert!(!world.metrics().await.contains(CONFIGURED));
    reload(&users.settings);
    rounds_more(&world.edge, "ok", 2).await;
    assert!(world.metrics().await.contains(CONFIGURED));

    reload(&others.settings);
    rounds_more(&world.edge, "ok", 5).await;
    let asked = world.vms.batches();
    let first = asked.iter().position(|batch| batch.ids == [3, 9, 10]);
    let later = &asked[first.unwrap()..];
    assert!(later.iter().all(|batch| batch.ids == [3, 9, 10]));

    reload("");
    assert!(!world.metrics().await.contains(CONFIGURED));
    // One that had begun may have asked still; then the rounds of another edge tell that time passes.
    world.user(1).asks([1]).await.gets([1]);
    let asked = world.vms.batches().len();
    let clock = World::with(&users.settings).await;
    rounds_more(&clock.edge, "ok", 5).await;
    assert_eq!(world.vms.batches().len(), asked);
}
