//! `GET /status` and `GET /history`: what was counted, over which time, and how everything stands.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use super::{json as read, purge, status, world};
use crate::support::deployment::Deployment;
use crate::support::operator::{TOKEN, operate, token};
use crate::support::scrape::Scrape;
use crate::support::world::World;

#[tokio::test]
async fn the_status_tells_what_was_counted_and_what_it_saved() {
    let world = world("").await;
    let ann = world.user(1);
    ann.asks([1, 2]).await.gets([1, 2]);
    ann.asks([1, 2]).await.hit();
    ann.asks([1, 2]).await.hit();
    ann.asks([1, 4]).await.fetched([&[4]]);
    ann.asks([4]).await.hit();
    ann.clone()
        .adding("cookie", "a=b")
        .asks([1])
        .await
        .bypassed("cookie");
    ann.clone().without("x-uuid").asks([1]).await.status(422);
    ann.gets("/api/v1/other").await;

    let told = status(&world).await;
    for window in ["last_1m", "last_5m", "last_60m", "since_start"] {
        let traffic = &told["traffic"][window];
        assert_eq!(traffic["requests"], 8, "{window}");
        assert_eq!(traffic["passed_through"], 2, "{window}");
        let batches = json!({
            "hit": 3, "stale": 0, "partial": 1, "miss": 1, "bypass": 1, "rejected": 1, "error": 0
        });
        assert_eq!(traffic["batches"], batches, "{window}");
        let items = json!({"fresh": 5, "stale": 0, "absent": 1, "missing": 3});
        assert_eq!(traffic["items"], items, "{window}");
        let ratios = json!({"requests": 0.6, "items": 0.6667});
        assert_eq!(traffic["hit_ratio"], ratios, "{window}");
        assert_eq!(traffic["fetches"], 2, "{window}");
        assert_eq!(traffic["fetch_ids"], 3, "{window}");
        assert_eq!(traffic["vms_requests_saved"], 3, "{window}");
    }
    assert_eq!(told["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(told["ready"], true);
    assert_eq!(told["requests_in_flight"], 0);
    assert!(told["connections"].is_u64());
    assert_eq!(told["cache"]["items"], 3);
    assert_eq!(told["cache"]["users"], 1);
    assert_eq!(told["cache"]["max_bytes"], 256 << 20);
    assert!(told["cache"]["bytes"].as_u64().unwrap() > 1_000);
    assert_eq!(told["bypasses"]["cookie"], 1);
    assert_eq!(told["fetches"]["stored"], 2);
    assert_eq!(told["reloads"], json!([]));
}

#[tokio::test]
async fn a_window_forgets_what_is_older_than_it() {
    let world = world("").await;
    world.user(1).asks([1]).await.gets([1]);
    for (seconds, counted) in [
        (0, [1, 1, 1]),
        (61, [0, 1, 1]),
        (240, [0, 0, 1]),
        (3_400, [0, 0, 0]),
    ] {
        world.advance(seconds);
        let told = status(&world).await;
        let of = |window: &str| told["traffic"][window]["requests"].as_u64().unwrap();
        assert_eq!(
            ["last_1m", "last_5m", "last_60m"].map(of),
            counted,
            "{seconds}"
        );
        assert_eq!(of("since_start"), 1);
    }
}

#[tokio::test]
async fn the_history_has_a_place_for_each_step() {
    let world = world("").await;
    let ann = world.user(1);
    let history = async |query: &str| {
        let path = format!("/history{query}");
        read(
            &operate(world.edge.admin, Method::GET, &path, "")
                .await
                .status(200),
        )
    };
    world.advance(10);
    history("").await;
    ann.asks([1]).await;
    ann.asks([1]).await.hit();
    Scrape::settled(world.edge.admin).await;
    world.advance(10);
    history("").await;
    ann.gets("/api/v1/other").await;
    Scrape::settled(world.edge.admin).await;
    world.advance(10);
    let told = history("").await;
    assert_eq!(told["step_seconds"], 5);
    assert_eq!(told["requests_per_second"], json!([0.0, 0.2, 0.1]));
    assert_eq!(told["passed_through_per_second"], json!([0.0, 0.0, 0.1]));
    assert_eq!(told["batches_per_second"], json!([0.0, 0.2, 0.0]));
    assert_eq!(told["fetches_per_second"], json!([0.0, 0.1, 0.0]));
    let ratios = json!([Value::Null, 0.5, Value::Null]);
    assert_eq!(told["hit_ratio_requests"], ratios);
    assert_eq!(told["hit_ratio_items"], ratios);
    for quantile in ["latency_p50_ms", "latency_p99_ms"] {
        let latency = told[quantile].as_array().unwrap();
        assert!(latency[0].is_null() && latency[2].is_null(), "{latency:?}");
        assert!(latency[1].as_f64().unwrap() > 0.0, "{latency:?}");
    }
    let times = told["time"].as_array().unwrap();
    assert_eq!(
        times[2].as_f64().unwrap() - times[1].as_f64().unwrap(),
        10.0
    );

    world.advance(120);
    assert_eq!(
        history("?minutes=2").await["time"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let refused = operate(world.edge.admin, Method::GET, "/history?minutes=0", "").await;
    refused.status(422);
}

#[tokio::test]
async fn servers_are_told_with_their_latency_and_what_last_went_wrong() {
    let (_file, token) = token();
    let mut deployment = Deployment::new();
    let settings = format!("{token}upstream.breaker = {{ failures = 1, pause = \"1m\" }}");
    let world = World::before(&deployment, &settings);
    let ann = world.user(1);
    let server = async || status(&world).await["servers"][0].clone();
    let before = server().await;
    assert_eq!(before["address"], deployment.address.to_string());
    assert_eq!(
        (&before["latency"], &before["last_error"]),
        (&Value::Null, &Value::Null)
    );

    ann.asks([1]).await.gets([1]);
    ann.asks([2]).await.gets([2]);
    let well = server().await;
    assert_eq!(well["state"], "closed");
    assert_eq!(well["healthy"], true);
    assert_eq!(well["latency"]["fetches"], 2);
    let (p50, p99) = (&well["latency"]["p50_ms"], &well["latency"]["p99_ms"]);
    assert!(
        p50.as_f64().unwrap() > 0.0 && p50.as_f64() <= p99.as_f64(),
        "{well}"
    );

    deployment.goes_down().await;
    ann.asks([3]).await.status(502);
    world.advance(7);
    let failing = server().await;
    assert_eq!(
        (&failing["state"], &failing["breaker"]),
        (&json!("open"), &json!("open"))
    );
    assert_eq!(failing["last_error"]["when"]["seconds_ago"], 7.0);
    let why = failing["last_error"]["why"].as_str().unwrap();
    assert!(why.contains("refused"), "{why}");
    assert_eq!(status(&world).await["fetches"]["connect"], 1);
}

#[tokio::test]
async fn marks_are_told_without_saying_whose_they_are() {
    let world = world("").await;
    world.user(1).asks([1]).await;
    purge(&world, r#"{"items":[180],"mode":"soft"}"#).await;
    world.advance(3);
    purge(&world, r#"{"user":"tok-1-ios"}"#).await;
    let told = status(&world).await["marks"].clone();
    assert_eq!(told["set"], json!({"user": 1, "item": 1, "all": 0}));
    let latest = told["latest"].as_array().unwrap();
    assert_eq!(latest.len(), 2, "{told}");
    for (mark, (scope, strength, age)) in latest
        .iter()
        .zip([("user", "hard", 0.0), ("item", "soft", 3.0)])
    {
        assert_eq!(
            (&mark["scope"], &mark["strength"]),
            (&json!(scope), &json!(strength))
        );
        assert_eq!(mark["set"]["seconds_ago"], age);
        assert_eq!(mark.as_object().unwrap().len(), 3, "{mark}");
    }
}

#[tokio::test]
async fn the_configuration_is_told_with_its_secrets_masked() {
    let world = world("admin.hosts = [\"edge.internal\"]").await;
    let answer = operate(world.edge.admin, Method::GET, "/status", "").await;
    let told = read(&answer);
    let configuration = told["configuration"].as_str().unwrap();
    for line in [
        "hosts = [\"edge.internal\"]",
        "# token: ********",
        "fresh = \"30s\"",
    ] {
        assert!(
            configuration.lines().any(|shown| shown == line),
            "{configuration}"
        );
    }
    assert!(!answer.text().contains(TOKEN));
}

#[tokio::test]
async fn times_are_in_utc_and_in_seconds() {
    let world = world("").await;
    world.edge.advance(Duration::from_millis(1_500));
    let told = status(&world).await;
    assert_eq!(told["started"]["seconds_ago"], 1.5);
    let at = told["started"]["at"].as_str().unwrap();
    assert!(
        at.starts_with("20") && at.ends_with('Z') && at.len() == 24,
        "{at}"
    );
}
