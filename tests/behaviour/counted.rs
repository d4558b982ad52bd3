//! "Metrics": each moves by what happened, and nothing that clients send makes new ones.

use http::{Method, Request};
use http_body_util::Full;
use vms_edge::demo::vms::{Fault, Order, Times};
use vms_edge::ops::metrics::{FetchOutcome, Label};
use vms_edge::request::decline::Bypass;

use crate::support::edge::TestEdge;
use crate::support::scrape::{Scrape, Watch};
use crate::support::world::{SHOWS, Widget, World, send};

const HIT: &str = "batch_requests_total{result=\"hit\"}";
const STALE: &str = "batch_requests_total{result=\"stale\"}";
const PARTIAL: &str = "batch_requests_total{result=\"partial\"}";
const MISS: &str = "batch_requests_total{result=\"miss\"}";
const REJECTED: &str = "batch_requests_total{result=\"rejected\"}";
const ERROR: &str = "batch_requests_total{result=\"error\"}";
const FRESH_ITEMS: &str = "batch_items_total{result=\"fresh\"}";
const STALE_ITEMS: &str = "batch_items_total{result=\"stale\"}";
const ABSENT_ITEMS: &str = "batch_items_total{result=\"absent\"}";
const MISSING_ITEMS: &str = "batch_items_total{result=\"missing\"}";
const STORED: &str = "fetches_total{outcome=\"stored\"}";
const BROKEN: &str = "fetches_total{outcome=\"broken\"}";
const FETCHES: &str = "fetch_seconds_count";
const QUEUED: &str = "fetch_queue_seconds_count";
const FETCHED_IDS: &str = "fetch_ids_total";
const BATCH: &str = "request_seconds_count{kind=\"batch\"}";
const PASS: &str = "request_seconds_count{kind=\"pass\"}";
const BATCH_2XX: &str = "responses_total{kind=\"batch\",status=\"2xx\"}";
const BATCH_4XX: &str = "responses_total{kind=\"batch\",status=\"4xx\"}";
const BATCH_5XX: &str = "responses_total{kind=\"batch\",status=\"5xx\"}";
const PASS_2XX: &str = "responses_total{kind=\"pass\",status=\"2xx\"}";
const ITEMS: &str = "cache_items";
const USERS: &str = "cache_users";

/// Fresh 30 s, stale 60 s more; a PATCH of an intercom reaches its user and the item, a logout everything.
const SETTINGS: &str = "\
[[batch]]
path = \"/api/v1/intercom/shows\"
jitter = 0.0
stale_while_revalidate = \"60s\"
stale_if_error = \"60s\"
[[invalidate]]
methods = [\"PATCH\"]
path = \"/api/v1/intercom/{id}\"
scope = [\"user\", \"item\"]
[[invalidate]]
path = \"/api/v1/logout\"
scope = [\"all\"]
";

#[tokio::test]
async fn every_way_to_answer_a_batch_moves_what_it_should_and_nothing_else() {
    let world = World::with(SETTINGS).await;
    let ann = world.user(1);
    let mut watch = Watch::over(&world).await;

    ann.asks([1, 2, 4]).await.gets([1, 2]).is("fwd=miss");
    let fetch = [(STORED, 1), (FETCHES, 1), (QUEUED, 1)];
    let answered = [(BATCH, 1), (BATCH_2XX, 1)];
    let miss = [(MISS, 1), (MISSING_ITEMS, 3), (FETCHED_IDS, 3)];
    let kept = [(ITEMS, 3), (USERS, 1)];
    watch
        .sees(&[&fetch[..], &answered, &miss, &kept].concat())
        .await;

    ann.asks([1, 2, 4]).await.hit();
    let hit = [(HIT, 1), (FRESH_ITEMS, 2), (ABSENT_ITEMS, 1)];
    watch.sees(&[&hit[..], &answered].concat()).await;

    ann.asks([1, 4, 3, 5]).await.is("fwd=partial");
    let known = [(PARTIAL, 1), (FRESH_ITEMS, 1), (ABSENT_ITEMS, 1)];
    let missing = [(MISSING_ITEMS, 2), (FETCHED_IDS, 2), (ITEMS, 2)];
    watch
        .sees(&[&fetch[..], &answered, &known, &missing].concat())
        .await;

    ann.clone().without("x-uuid").asks([1]).await.status(422);
    ann.clone()
        .without("authorization")
        .asks([1])
        .await
        .untold();
    watch
        .sees(&[(REJECTED, 2), (BATCH, 2), (BATCH_4XX, 2)])
        .await;

    ann.gets("/api/v1/static/basic").await.status(200);
    watch.sees(&[(PASS, 1), (PASS_2XX, 1)]).await;

    // Twice, since a connection that was open already gets a second chance.
    world.vms.fault(Fault::CloseBeforeAnswer, Times::Next(2));
    world.user(3).asks([1, 2]).await.status(502);
    let asked = [
        (MISSING_ITEMS, 2),
        (FETCHED_IDS, 2),
        (FETCHES, 1),
        (QUEUED, 1),
    ];
    let failed = [(ERROR, 1), (BROKEN, 1), (BATCH, 1), (BATCH_5XX, 1)];
    watch.sees(&[&asked[..], &failed].concat()).await;
}

#[tokio::test]
async fn a_stale_answer_and_its_refresh_are_counted() {
    let world = World::with(SETTINGS).await;
    let ann = world.user(1);
    ann.asks([1, 2]).await;
    world.advance(20);
    ann.asks([3]).await;
    world.advance(15);
    let mut watch = Watch::over(&world).await;
    ann.asks([1, 2, 3]).await.is("ttl=-5");
    // The refresh ends when it ends; nothing else will move then.
    let stored = format!("vms_edge_{STORED}");
    Scrape::once(world.edge.admin, &stored, 3.0).await;
    let answer = [(STALE, 1), (FRESH_ITEMS, 1), (STALE_ITEMS, 2)];
    let answered = [(BATCH, 1), (BATCH_2XX, 1)];
    let refresh = [(STORED, 1), (FETCHED_IDS, 2), (FETCHES, 1), (QUEUED, 1)];
    watch
        .sees(&[&answer[..], &answered, &refresh].concat())
        .await;
}

#[tokio::test]
async fn marks_are_counted_by_what_they_cover() {
    let world = World::with(SETTINGS).await;
    let ann = world.user(1).with("content-type", "application/json");
    let mut watch = Watch::over(&world).await;
    let title = r#"{"title":"Ours"}"#;
    let path = "/api/v1/intercom/1";
    ann.sends(Method::PATCH, path, title).await.status(200);
    let marks = [
        ("marks_total{scope=\"user\"}", 1),
        ("marks_total{scope=\"item\"}", 1),
    ];
    let passed = [(PASS, 1), (PASS_2XX, 1)];
    watch.sees(&[&marks[..], &passed].concat()).await;
    ann.sends(Method::POST, "/api/v1/logout", "").await;
    let all = [("marks_total{scope=\"all\"}", 1)];
    watch.sees(&[&all[..], &passed].concat()).await;
}

#[tokio::test]
async fn an_answer_in_another_order_than_before_is_counted() {
    let world = World::new().await;
    world.user(1).asks([3, 1]).await.gets([1, 3]);
    world.vms.set_order(Order::AsAsked);
    let contradictions = "vms_edge_order_contradictions_total";
    assert_eq!(
        Scrape::of(world.edge.admin).await.value(contradictions),
        0.0
    );
    world.user(2).asks([3, 1]).await.gets([3, 1]);
    assert_eq!(
        Scrape::of(world.edge.admin).await.value(contradictions),
        1.0
    );
}

#[tokio::test]
async fn a_request_is_in_flight_from_its_arrival_to_its_end() {
    let world = World::new().await;
    let (ann, bob) = (world.user(1), world.user(2));
    let hold = world.vms.hold();
    let in_flight = async || {
        Scrape::of(world.edge.admin)
            .await
            .value("vms_edge_requests_in_flight")
    };
    let look = async {
        hold.arrived(1).await;
        assert_eq!(in_flight().await, 1.0);
        tokio::join!(bob.asks([1]), async {
            hold.arrived(2).await;
            assert_eq!(in_flight().await, 2.0);
            drop(hold);
        });
    };
    tokio::join!(ann.asks([1]), look);
    Scrape::settled(world.edge.admin).await;
}

/// Sends a request that is passed through for this reason.
async fn pass_through_because(reason: Bypass, ann: &Widget<'_>, world: &World) {
    let ann = ann.clone();
    match reason {
        Bypass::Method => drop(ann.sends(Method::POST, SHOWS, "").await),
        Bypass::Headers => drop(ann.without("x-uuid").asks([1]).await),
        Bypass::Authorization => drop(ann.with("authorization", "Basic abc").asks([1]).await),
        Bypass::Cookie => drop(ann.with("cookie", "a=b").asks([1]).await),
        Bypass::Credential => drop(ann.gets(&format!("{SHOWS}?ids[]=1&api_token=x")).await),
        Bypass::Connection => drop(ann.with("connection", "x-uuid").asks([1]).await),
        Bypass::Range => drop(ann.with("range", "bytes=0-1").asks([1]).await),
        Bypass::Conditional => drop(ann.with("if-none-match", "\"x\"").asks([1]).await),
        Bypass::CacheControl => drop(ann.with("cache-control", "no-store").asks([1]).await),
        Bypass::Protocol => drop(ann.with("x-http-method-override", "PUT").asks([1]).await),
        Bypass::Coding => drop(ann.with("accept-encoding", "identity;q=0").asks([1]).await),
        Bypass::Ids => drop(ann.gets(&format!("{SHOWS}?ids[]=0")).await),
        Bypass::Body => {
            let form = ann.with("content-type", "application/x-www-form-urlencoded");
            drop(form.sends(Method::GET, SHOWS, "ids[]=1").await);
        }
        Bypass::Unfit => {
            ann.asks([3]).await;
            world.vms.fault(Fault::NoStore, Times::Once);
            drop(ann.asks([1, 3]).await.gets([1, 3]));
        }
        Bypass::TooLarge => {
            world.vms.fault(Fault::Endless, Times::Once);
            drop(ann.asks([2]).await.gets([2]));
        }
        Bypass::Foreign => unreachable!("only a fault of the edge's own makes it"),
    }
}

#[tokio::test]
async fn every_reason_to_pass_a_batch_through_is_counted_under_its_name() {
    let world = World::with("headers.check = \"forward\"").await;
    let ann = world.user(1);
    let all = Bypass::ALL.into_iter();
    for reason in all.filter(|reason| *reason != Bypass::Foreign) {
        let before = Scrape::settled(world.edge.admin).await;
        pass_through_because(reason, &ann, &world).await;
        let now = Scrape::settled(world.edge.admin).await;
        let moved = now.moved_since(&before);
        let bypasses = moved.iter().filter(|(series, _)| series.contains("bypass"));
        let series = format!("vms_edge_bypass_total{{reason=\"{}\"}}", reason.name());
        let all = "vms_edge_batch_requests_total{result=\"bypass\"}";
        let expected = [(all, 1.0), (series.as_str(), 1.0)];
        assert!(
            bypasses.map(|(s, by)| (*s, *by)).eq(expected),
            "{reason:?}: {moved:?}"
        );
        let passed = moved.get("vms_edge_request_seconds_count{kind=\"pass\"}");
        assert_eq!(passed, Some(&1.0), "{reason:?}");
    }
}

/// How often each outcome of a fetch was counted.
async fn fetches(edge: &TestEdge) -> Vec<(&'static str, f64)> {
    let scrape = Scrape::settled(edge.admin).await;
    let outcomes = FetchOutcome::ALL.iter().map(|outcome| outcome.name());
    let counted = outcomes.map(|name| {
        let series = format!("vms_edge_fetches_total{{outcome=\"{name}\"}}");
        (name, scrape.value(&series))
    });
    counted.filter(|(_, count)| *count > 0.0).collect()
}

#[tokio::test]
async fn every_outcome_of_a_fetch_is_counted_under_its_name() {
    for (fault, outcome) in [
        (None, "stored"),
        (Some(Fault::NoStore), "unfit"),
        (Some(Fault::Status(429)), "status"),
        (Some(Fault::Hang), "timeout"),
        (Some(Fault::CutBody), "broken"),
        (Some(Fault::Endless), "too_large"),
    ] {
        let timeouts = "upstream.connect_timeout = \"100ms\"\nupstream.fetch_timeout = \"300ms\"";
        // An endless answer takes as long as it takes to read what is too large.
        let settings = if outcome == "timeout" { timeouts } else { "" };
        let world = World::with(settings).await;
        if let Some(fault) = fault {
            world.vms.fault(fault, Times::Once);
        }
        world.user(1).asks([1]).await;
        assert_eq!(fetches(&world.edge).await, [(outcome, 1.0)]);
    }
}

#[tokio::test]
async fn a_fetch_that_finds_no_permit_is_counted_as_busy() {
    let world = World::with("upstream.max_fetches = 1\nupstream.connect_timeout = \"50ms\"").await;
    let (ann, bob) = (world.user(1), world.user(2));
    let hold = world.vms.hold();
    let ask_meanwhile = async {
        hold.arrived(1).await;
        bob.asks([1]).await.status(503);
        drop(hold);
    };
    tokio::join!(ann.asks([1]), ask_meanwhile);
    assert_eq!(fetches(&world.edge).await, [("stored", 1.0), ("busy", 1.0)]);
}

#[tokio::test]
async fn fetches_that_have_their_turn_and_those_that_wait_for_it_are_shown() {
    let world = World::with("upstream.max_fetches = 1").await;
    let (ann, bob) = (world.user(1), world.user(2));
    let hold = world.vms.hold();
    let look = async {
        hold.arrived(1).await;
        let waits = "vms_edge_fetches_waiting";
        tokio::join!(bob.asks([1]), async {
            let full = Scrape::once(world.edge.admin, waits, 1.0).await;
            assert_eq!(full.value("vms_edge_fetches_in_flight"), 1.0);
            assert_eq!(full.value("vms_edge_fetch_places"), 1.0);
            assert_eq!(full.value("vms_edge_fetch_places_max"), 1.0);
            drop(hold);
        });
    };
    tokio::join!(ann.asks([1]), look);
    let empty = Scrape::settled(world.edge.admin).await;
    assert_eq!(empty.value("vms_edge_fetches_waiting"), 0.0);
    assert_eq!(empty.value("vms_edge_fetches_in_flight"), 0.0);
}

#[tokio::test]
async fn after_a_reload_the_bounds_in_effect_are_shown() {
    let world = World::with("upstream.max_fetches = 8\ncache.max_bytes = \"8MiB\"").await;
    let shown = async || {
        let scrape = Scrape::of(world.edge.admin).await;
        let bounds = ["fetch_places", "fetch_places_max", "cache_max_bytes"];
        bounds.map(|name| scrape.value(&format!("vms_edge_{name}")))
    };
    assert_eq!(shown().await, [8.0, 8.0, 8_388_608.0]);
    world
        .edge
        .reload("upstream.max_fetches = 4\ncache.max_bytes = \"4MiB\"");
    assert_eq!(shown().await, [4.0, 4.0, 4_194_304.0]);
}

#[tokio::test]
async fn each_thread_that_serves_is_shown_by_its_number_and_counts_what_it_does() {
    let world = World::with("server.threads = 2").await;
    let admin = world.edge.admin;
    let first = Scrape::of(admin).await;
    for runtime in ["0", "1", "background"] {
        for family in ["busy_seconds_total", "parks_total", "queued_tasks", "tasks"] {
            first.value(&format!(
                "vms_edge_runtime_{family}{{runtime=\"{runtime}\"}}"
            ));
        }
    }
    let busy = |scrape: &Scrape| -> f64 {
        ["0", "1"]
            .map(|thread| format!("vms_edge_runtime_busy_seconds_total{{runtime=\"{thread}\"}}"))
            .map(|series| scrape.value(&series))
            .iter()
            .sum()
    };
    world.user(1).asks([1]).await.gets([1]);
    assert!(busy(&Scrape::settled(admin).await) > busy(&first));
}

#[tokio::test]
async fn users_that_had_to_make_room_for_others_are_counted() {
    let world = World::with("cache.max_bytes = \"1MiB\"").await;
    let evicted = "vms_edge_cache_evictions_total{reason=\"size\"}";
    let admin = world.edge.admin;
    let mut asked = 0;
    while Scrape::of(admin).await.value(evicted) == 0.0 {
        for _ in 0..100 {
            asked += 1;
            world.user(asked).asks(1..=25).await;
        }
        assert!(asked < 10_000, "nobody had to go");
    }
    let scrape = Scrape::settled(admin).await;
    let users = scrape.value("vms_edge_cache_users") + scrape.value(evicted);
    assert_eq!(users, asked as f64);
    assert_eq!(scrape.value("vms_edge_cache_max_bytes"), 1_048_576.0);
    let aged = "vms_edge_cache_evictions_total{reason=\"age\"}";
    assert_eq!(scrape.value(aged), 0.0);
}

#[tokio::test]
async fn a_token_with_ever_new_phones_presses_nobody_else_out_and_is_counted() {
    let world = World::with("cache.max_bytes = \"1MiB\"").await;
    for user in 2..20 {
        world.user(user).asks(1..=25).await;
    }
    let phone = |number: u32| world.user(1).with("x-uuid", &format!("phone-{number}"));
    for number in 0..1_000 {
        phone(number).asks([1, 2, 3]).await.gets([1, 2, 3]);
    }
    let scrape = Scrape::settled(world.edge.admin).await;
    let evicted = |reason: &str| {
        scrape.value(&format!(
            "vms_edge_cache_evictions_total{{reason=\"{reason}\"}}"
        ))
    };
    let kept = scrape.value("vms_edge_cache_users");
    assert_eq!(evicted("size"), 0.0);
    assert_eq!(kept + evicted("user"), 18.0 + 1_000.0);
    assert!(kept < 200.0, "{kept} requesters");
    for user in 2..20 {
        world.user(user).asks(1..=25).await.is("hit");
    }
    phone(999).asks([1, 2, 3]).await.is("hit");
    phone(0).asks([1, 2, 3]).await.is("fwd=miss");
}

#[tokio::test]
async fn which_version_runs_is_shown() {
    let world = World::new().await;
    let version = env!("CARGO_PKG_VERSION");
    let build = format!("vms_edge_build_info{{version=\"{version}\"}}");
    assert_eq!(Scrape::of(world.edge.admin).await.value(&build), 1.0);
}

#[tokio::test]
async fn a_fetch_that_is_refused_a_connection_is_counted_as_such() {
    // Bound, but nobody listens.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let edge = TestEdge::before(socket.local_addr().unwrap());
    let request = Request::get(format!("{SHOWS}?ids[]=1"))
        .header("host", "vms.local")
        .header("authorization", "Bearer tok-1-ios")
        .header("x-client", "ios")
        .header("x-uuid", "device");
    let answer = send(edge.address, request.body(Full::default()).unwrap()).await;
    answer.status(502);
    assert_eq!(fetches(&edge).await, [("connect", 1.0)]);
}

#[tokio::test]
async fn nothing_that_clients_send_makes_a_new_series() {
    let world = World::new().await;
    world.user(1).asks([1]).await;
    let before = Scrape::settled(world.edge.admin).await;
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..300 {
        let name: String = (0..8).map(|_| random.alphanumeric()).collect();
        let widget = world
            .user(random.u64(1..1000))
            .with("x-client", ["ios", "web", &name][random.usize(..3)])
            .with("x-uuid", &name)
            .with("x-version", &name)
            .with("user-agent", &name);
        match random.u8(..4) {
            0 => drop(
                widget
                    .asks([random.u64(1..1_000_000), random.u64(1..1_000_000)])
                    .await,
            ),
            1 => drop(widget.gets(&format!("/{name}/{name}?{name}={name}")).await),
            2 => drop(
                widget
                    .gets(&format!("{SHOWS}?{name}=1&ids[]={}", random.i32(-5..5)))
                    .await,
            ),
            _ => {
                let method = Method::from_bytes(name.to_ascii_uppercase().as_bytes()).unwrap();
                drop(widget.sends(method, SHOWS, &name).await);
            }
        }
    }
    let after = Scrape::settled(world.edge.admin).await;
    assert!(after.series.keys().eq(before.series.keys()));
    assert!(after.series.len() < 300, "{} series", after.series.len());
}
