//! `POST /explain`: what is told of a request is what becomes of it, and telling changes nothing.

use http::Method;
use serde_json::{Value, json};
use vms_edge::demo::vms::StandIn;

use super::{json as read, purge, world};
use crate::support::operator::{TOKEN, operate, token};
use crate::support::scrape::Scrape;
use crate::support::service::Service;
use crate::support::soon;
use crate::support::world::{SHOWS, Widget, World};

/// Without jitter, so that ages are exact: fresh 30 s, stale 60 s more, instead of an error 5 m; absences 10 s.
const WINDOWS: &str = "[[batch]]\npath = \"/api/v1/intercom/shows\"\njitter = 0.0\norder = \"id\"\nfresh = \"30s\"\nabsent = \"10s\"\n\
                       stale_while_revalidate = \"60s\"\nstale_if_error = \"5m\"\n";

/// What is told of a widget's request.
async fn explained(world: &World, widget: &Widget<'_>, target: &str) -> Value {
    let mut pairs: Vec<[String; 2]> = vec![["Host".to_owned(), "vms.local".to_owned()]];
    for (name, value) in &widget.headers {
        pairs.push([name.to_string(), value.to_str().unwrap().to_owned()]);
    }
    ask(world, &json!({"url": target, "headers": pairs})).await
}

async fn ask(world: &World, request: &Value) -> Value {
    let answer = operate(
        world.edge.admin,
        Method::POST,
        "/explain",
        request.to_string(),
    )
    .await;
    read(&answer.status(200))
}

fn target(ids: &[u64]) -> String {
    let ids = ids.iter().map(|id| format!("ids%5B%5D={id}"));
    format!("{SHOWS}?{}", ids.collect::<Vec<_>>().join("&"))
}

/// State, age and ttl of each id.
fn states(told: &Value) -> Vec<(u64, String, Option<f64>, Option<f64>)> {
    let of = |id: &Value| {
        let number = |name: &str| id["stored"][name].as_f64();
        (
            id["id"].as_u64().unwrap(),
            id["state"].as_str().unwrap().to_owned(),
            number("age"),
            number("ttl"),
        )
    };
    told["ids"].as_array().unwrap().iter().map(of).collect()
}

fn state(id: u64, state: &str, age: f64, ttl: f64) -> (u64, String, Option<f64>, Option<f64>) {
    (id, state.to_owned(), Some(age), Some(ttl))
}

#[tokio::test]
async fn each_id_is_told_as_it_ages() {
    let world = world(WINDOWS).await;
    let ann = world.user(1);
    let look = async || explained(&world, &ann, &target(&[4, 1])).await;
    let nothing = look().await;
    let none = json!({"id": 4, "state": "missing", "in_flight": false});
    assert_eq!(nothing["ids"][0], none);
    assert_eq!(nothing["answer"]["result"], "miss");

    ann.asks([4, 1]).await.gets([1]);
    for (seconds, expected, result) in [
        (
            0,
            [state(4, "absent", 0.0, 10.0), state(1, "fresh", 0.0, 30.0)],
            "hit",
        ),
        (
            20,
            [
                state(4, "stale_if_error", 20.0, -10.0),
                state(1, "fresh", 20.0, 10.0),
            ],
            "partial",
        ),
        (
            20,
            [
                state(4, "stale_if_error", 40.0, -30.0),
                state(1, "stale", 40.0, -10.0),
            ],
            "partial",
        ),
        (
            60,
            [
                state(4, "stale_if_error", 100.0, -90.0),
                state(1, "stale_if_error", 100.0, -70.0),
            ],
            "miss",
        ),
        (
            300,
            [
                state(4, "expired", 400.0, -390.0),
                state(1, "expired", 400.0, -370.0),
            ],
            "miss",
        ),
    ] {
        world.advance(seconds);
        let told = look().await;
        assert_eq!(states(&told), expected);
        assert_eq!(told["answer"]["result"], result, "{told}");
    }
}

#[tokio::test]
async fn the_mark_that_decides_is_told() {
    let world = world(WINDOWS).await;
    let ann = world.user(1);
    ann.asks([1, 2]).await.gets([1, 2]);
    let look = async || explained(&world, &ann, &target(&[1, 2])).await;
    world.advance(1);
    purge(&world, r#"{"items":[1],"mode":"soft"}"#).await;
    world.advance(2);
    let soft = look().await;
    assert_eq!(
        states(&soft),
        [state(1, "stale", 3.0, 0.0), state(2, "fresh", 3.0, 27.0)]
    );
    let mark = &soft["ids"][0]["mark"];
    assert_eq!(
        (&mark["scope"], &mark["strength"]),
        (&json!("item"), &json!("soft"))
    );
    assert_eq!(mark["set"]["seconds_ago"], 2.0);
    assert_eq!(soft["ids"][1].get("mark"), None);
    assert_eq!(soft["answer"]["result"], "stale");

    for (body, scope) in [
        (r#"{"user":"tok-1-ios"}"#, "user"),
        (r#"{"everything":true}"#, "all"),
    ] {
        world.advance(1);
        purge(&world, body).await;
        let hard = look().await;
        for id in hard["ids"].as_array().unwrap() {
            assert_eq!(
                (&id["state"], &id["mark"]["scope"]),
                (&json!("missing"), &json!(scope))
            );
            assert_eq!(id["mark"]["strength"], "hard");
            assert_eq!(
                (&id["stored"]["kind"], &id["stored"]["ttl"]),
                (&json!("item"), &Value::Null)
            );
        }
        assert_eq!(hard["answer"]["result"], "miss");
    }
}

#[tokio::test]
async fn how_an_id_was_fetched_and_whether_it_is_being_fetched_is_told() {
    let world = world(WINDOWS).await;
    let ann = world.user(1);
    let by = async || {
        let told = explained(&world, &ann, &target(&[1, 2])).await;
        [0, 1].map(|place| {
            told["ids"][place]["stored"]["by"]
                .as_str()
                .unwrap()
                .to_owned()
        })
    };
    ann.asks([1]).await.gets([1]);
    ann.asks([1, 2]).await.fetched([&[2]]);
    assert_eq!(by().await, ["whole", "part"]);

    world.advance(40);
    let hold = world.vms.hold();
    ann.asks([1]).await.is("hit");
    hold.arrived(1).await;
    let told = explained(&world, &ann, &target(&[1, 2])).await;
    let in_flight = [0, 1].map(|place| told["ids"][place]["in_flight"].as_bool().unwrap());
    assert_eq!(in_flight, [true, false]);
    let others = explained(&world, &world.user(2), &target(&[1])).await;
    assert_eq!(
        others["ids"][0],
        json!({"id": 1, "state": "missing", "in_flight": false})
    );
    drop(hold);
    let refreshed = async {
        while by().await != ["refresh", "part"] {
            tokio::task::yield_now().await;
        }
    };
    soon("the refresh", refreshed).await;
}

#[tokio::test]
async fn a_batch_is_told_to_be_what_it_is() {
    let world = world("").await;
    let ann = world.user(1);
    ann.asks([1, 2]).await.gets([1, 2]);
    for (widget, ids) in [
        (ann.clone(), &[1][..]),
        (ann.clone(), &[1, 9]),
        (ann.clone().with("x-uuid", "other"), &[1]),
        (ann.clone().with("cache-control", "no-cache"), &[2]),
    ] {
        let told = explained(&world, &widget, &target(ids)).await;
        assert_eq!(
            (&told["treated"], &told["reason"]),
            (&json!("batch"), &Value::Null)
        );
        let answer = widget.gets(&target(ids)).await;
        let said = answer.header("cache-status").unwrap();
        let result = match () {
            () if said.contains("; hit") => "hit",
            () if said.contains("fwd=partial") => "partial",
            () => "miss",
        };
        assert_eq!(told["answer"]["result"], result, "{said}");
    }
}

#[tokio::test]
async fn what_is_told_to_pass_through_does_and_for_that_reason() {
    let world = world("").await;
    let ann = world.user(1);
    ann.asks([1]).await.gets([1]);
    for (widget, target, reason) in [
        (ann.clone().adding("cookie", "a=b"), target(&[1]), "cookie"),
        (
            ann.clone().with("range", "bytes=0-1"),
            target(&[1]),
            "range",
        ),
        (ann.clone(), format!("{SHOWS}?ids=1"), "ids"),
        (
            ann.clone().with("connection", "x-uuid"),
            target(&[1]),
            "connection",
        ),
        (
            ann.clone().adding("authorization", "Bearer b"),
            target(&[1]),
            "authorization",
        ),
        (ann.clone(), "/api/v1/other".to_owned(), "path"),
    ] {
        let told = explained(&world, &widget, &target).await;
        assert_eq!(told["treated"], "passes_through", "{told}");
        assert_eq!(told["reason"], reason, "{told}");
        let answer = widget.gets(&target).await;
        match reason {
            // It has nothing to do with batches.
            "path" => assert_eq!(answer.header("cache-status"), None),
            _ => drop(answer.bypassed(reason)),
        }
    }
}

#[tokio::test]
async fn what_is_told_to_be_refused_is() {
    let world = world("").await;
    let ann = world.user(1);
    ann.asks([1]).await.gets([1]);
    for widget in [
        ann.clone().without("authorization"),
        ann.clone().with("x-client", "toaster").without("x-uuid"),
    ] {
        let told = explained(&world, &widget, &target(&[1])).await;
        assert_eq!(
            (&told["treated"], &told["reason"]),
            (&json!("refused"), &Value::Null)
        );
        let answer = widget.asks([1]).await;
        assert_eq!(told["refusal"]["status"], answer.status.as_u16());
        assert_eq!(told["refusal"]["body"], read(&answer));
    }
}

#[tokio::test]
async fn a_batch_in_a_body_and_a_framing_fault_are_told() {
    let world = world("").await;
    let mut headers = json!({
        "Host": "vms.local", "Authorization": "Bearer tok-1-ios", "X-Client": "ios", "X-UUID": "phone",
        "Content-Type": "application/json",
    });
    let request =
        |headers: &Value| json!({"url": SHOWS, "headers": headers, "body": "{\"ids\":[1]}"});
    let told = ask(&world, &request(&headers)).await;
    assert_eq!(
        (&told["treated"], &told["batch"]),
        (&json!("batch"), &json!(SHOWS))
    );
    assert_eq!(told["ids"][0]["id"], 1);
    let key = json!([
        "host",
        "x-uuid",
        "x-client",
        "x-version",
        "hl",
        "accept-language",
        "origin"
    ]);
    assert_eq!(told["key"], key);

    headers["Transfer-Encoding"] = json!("chunked");
    headers["Content-Length"] = json!("11");
    let told = ask(&world, &request(&headers)).await;
    assert_eq!(told["treated"], "framing_fault");
    assert_eq!(told["reason"], "both Content-Length and Transfer-Encoding");
    assert_eq!(told["refusal"]["status"], 400);

    let large =
        json!({"url": SHOWS, "headers": request(&headers)["headers"], "body": " ".repeat(70_000)});
    let mut large = large;
    large["headers"]["Transfer-Encoding"].take();
    large["headers"]
        .as_object_mut()
        .unwrap()
        .remove("Transfer-Encoding");
    large["headers"]["Content-Length"] = json!("70000");
    assert_eq!(ask(&world, &large).await["refusal"]["status"], 413);
}

#[tokio::test]
async fn headers_of_a_trusted_proxy_belong_to_the_key() {
    let world = world("server.trusted_proxies = [\"10.0.0.0/8\"]").await;
    for (peer, expected) in [("10.0.0.1", true), ("192.0.2.1", false)] {
        let told = ask(
            &world,
            &json!({"url": format!("http://vms.local{SHOWS}"), "peer": peer}),
        )
        .await;
        assert_eq!(told["treated"], "refused");
        let key = told["key"].as_array().unwrap();
        assert_eq!(
            key.contains(&json!("x-forwarded-proto")),
            expected,
            "{peer}"
        );
    }
}

#[tokio::test]
async fn telling_changes_nothing() {
    let world = world(WINDOWS).await;
    let ann = world.user(1);
    ann.asks([1, 4]).await.gets([1]);
    world.advance(40);
    let before = (
        Scrape::settled(world.edge.admin).await,
        world.vms.requests_total(),
    );
    for widget in [
        ann.clone(),
        world.user(2),
        ann.clone().adding("cookie", "a=b"),
    ] {
        for ids in [&[1][..], &[1, 4], &[1, 2, 3], &[4]] {
            explained(&world, &widget, &target(ids)).await;
        }
    }
    let after = Scrape::settled(world.edge.admin).await;
    assert!(
        after.moved_since(&before.0).is_empty(),
        "{:?}",
        after.moved_since(&before.0)
    );
    assert_eq!(world.vms.requests_total(), before.1);
    // It is as stale as it was: the next to ask is the first to refresh it.
    let told = explained(&world, &ann, &target(&[1])).await;
    assert_eq!(states(&told), [state(1, "stale", 40.0, -10.0)]);
}

#[tokio::test]
async fn a_token_that_is_explained_is_shown_nowhere() {
    const CANARY: &str = "tok-1-canary";
    let (_file, token) = token();
    let vms = StandIn::new();
    let serving = vms.start().await.unwrap();
    let edge = Service::before(serving.address(), &format!("{token}log.level = \"trace\"")).await;
    let bearer = format!("Bearer {CANARY}");
    let mut shown = String::new();
    for body in [
        json!({"url": format!("http://a{SHOWS}?ids[]=1"), "headers": {"Authorization": bearer, "X-Client": "ios", "X-UUID": "a"}}),
        json!({"url": format!("http://a{SHOWS}?ids[]=1&token={CANARY}"), "headers": {"Authorization": bearer, "X-Client": "ios", "X-UUID": "a"}}),
        json!({"url": format!("http://a{SHOWS}?ids[]=1"), "headers": {"Authorization": bearer, "X-Client": CANARY}}),
        json!({"url": format!("http://a{SHOWS}"), "headers": {"Cookie": CANARY, CANARY: CANARY}, "body": CANARY}),
        json!({"url": CANARY, "method": CANARY}),
        json!({"url": format!("/ {CANARY}")}),
        json!({"url": "/", "peer": CANARY}),
        json!({"url": "/", "headers": {"Authorization": [bearer]}}),
        json!({CANARY: CANARY}),
        json!(CANARY),
    ] {
        let answer = operate(edge.admin, Method::POST, "/explain", body.to_string()).await;
        shown += &format!("{:?} {}", answer.headers, answer.text());
    }
    shown += &operate(edge.admin, Method::GET, "/status", "").await.text();
    let log = edge.stops().await;
    assert!(
        shown.contains("\"treated\":\"batch\"") && shown.contains("\"credential\""),
        "{shown}"
    );
    for secret in [CANARY, TOKEN] {
        assert!(
            !shown.contains(secret) && !log.contains(secret),
            "{shown} {log}"
        );
    }
}
