//! "What is stored", and for whom.

use std::time::Duration;

use vms_edge::demo::vms::{Fault, Pace, Times};

use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::scripted::Scripted;
use crate::support::world::{SHOWS, World};

#[tokio::test]
async fn nobody_is_answered_from_anothers_items() {
    let world = World::new().await;
    world.user(1).asks([1, 2, 3]).await.gets([1, 2, 3]);
    world
        .user(2)
        .asks([1, 2, 3])
        .await
        .gets([1, 3])
        .fetched([&[1, 2, 3]]);
    world.user(1).asks([1, 2, 3]).await.gets([1, 2, 3]).hit();
    world.user(2).asks([1, 2, 3]).await.gets([1, 3]).hit();
}

#[tokio::test]
async fn each_header_of_the_vary_list_and_its_absence_has_items_of_its_own() {
    let world = World::new().await;
    let ann = world.user(1);
    ann.asks([1]).await.is("fwd=miss");
    for (name, value) in [
        ("x-uuid", "another"),
        ("x-client", "android"),
        ("x-version", "25.0"),
        ("hl", "en"),
        ("accept-language", "en"),
        ("origin", "https://a.example"),
        ("host", "b.example"),
    ] {
        if name == "host" {
            continue;
        }
        ann.clone().with(name, value).asks([1]).await.is("fwd=miss");
        ann.clone().with(name, value).asks([1]).await.hit();
    }
    ann.clone()
        .without("x-version")
        .asks([1])
        .await
        .is("fwd=miss");
    ann.clone()
        .with("x-version", "")
        .asks([1])
        .await
        .is("fwd=miss");
    ann.clone()
        .with("user-agent", "other")
        .asks([1])
        .await
        .hit();
    ann.asks([1]).await.hit();
}

#[tokio::test]
async fn absent_ids_are_remembered_too() {
    let world = World::new().await;
    let ann = world.user(1);
    ann.asks([4, 5, 1]).await.gets([1]);
    ann.asks([4, 5]).await.gets([]).hit();
    ann.asks([5, 1, 4]).await.gets([1]).hit();
}

#[tokio::test]
async fn items_are_kept_byte_for_byte() {
    let world = World::new().await;
    let ann = world.user(1);
    let straight = ann
        .straight("/api/v1/intercom/shows?ids[]=2&ids[]=3&ids[]=1")
        .await;
    assert!(straight.text().contains("\\u041f") && straight.text().contains("\\/"));
    ann.asks([3]).await;
    ann.asks([1, 2]).await;
    let composed = ann.asks([2, 3, 1]).await;
    assert_eq!(composed.body, straight.body);
}

#[tokio::test]
async fn an_answer_that_does_not_fit_is_relayed_and_not_stored() {
    for (fault, status) in [
        (Fault::NoStore, 200),
        (Fault::Html, 200),
        (Fault::CutJson, 200),
        (Fault::Unasked, 200),
        (Fault::Twice, 200),
        (Fault::IdsAsStrings, 200),
        (Fault::NotAnArray, 200),
        (Fault::Gzipped, 200),
        (Fault::VaryOn("*".into()), 200),
        (Fault::VaryOn("X-Forwarded-For".into()), 200),
        (Fault::NoContent, 204),
        (Fault::NotModified, 304),
        (Fault::Redirect, 302),
        (Fault::Status(401), 401),
        (Fault::Status(403), 403),
        (Fault::Status(409), 409),
        (Fault::Status(419), 419),
        (Fault::Status(429), 429),
        (Fault::Status(500), 500),
        (Fault::Status(503), 503),
    ] {
        let world = World::new().await;
        let ann = world.user(1);
        world.vms.fault(fault.clone(), Times::Once);
        let straight = ann
            .straight("/api/v1/intercom/shows?ids%5B%5D=1&ids%5B%5D=2")
            .await;
        world.vms.fault(fault.clone(), Times::Once);
        let relayed = ann
            .asks([1, 2])
            .await
            .status(status)
            .is("fwd=miss")
            .is(&format!("fwd-status={status}"));
        assert!(
            !relayed.header("cache-status").unwrap().contains("stored"),
            "{fault:?}"
        );
        assert_eq!(relayed.body, straight.body, "{fault:?}");
        for name in [
            "content-type",
            "retry-after",
            "location",
            "vary",
            "content-encoding",
            "cache-control",
        ] {
            assert_eq!(
                relayed.header(name),
                straight.header(name),
                "{fault:?}: {name}"
            );
        }
        ann.asks([1, 2])
            .await
            .gets([1, 2])
            .is("fwd=miss")
            .fetched([&[1, 2]]);
    }
}

#[tokio::test]
async fn when_a_part_is_at_hand_an_unfit_answer_makes_the_whole_request_pass_through() {
    for fault in [
        Fault::NoStore,
        Fault::Html,
        Fault::CutJson,
        Fault::Unasked,
        Fault::NotAnArray,
        Fault::Gzipped,
        Fault::NoContent,
        Fault::NotModified,
        Fault::Redirect,
    ] {
        let world = World::new().await;
        let ann = world.user(1);
        ann.asks([1]).await;
        world.vms.fault(fault.clone(), Times::Once);
        let whole = ann.asks([1, 2]).await.gets([1, 2]);
        whole
            .is("fwd=bypass")
            .is("detail=unfit")
            .fetched([&[2], &[1, 2]]);
    }
}

#[tokio::test]
async fn when_a_part_is_at_hand_an_error_of_the_vms_is_still_relayed() {
    for status in [401, 403, 409, 429, 500, 503] {
        let world = World::new().await;
        let ann = world.user(1);
        ann.asks([1]).await;
        world.vms.fault(Fault::Status(status), Times::Once);
        ann.asks([1, 2])
            .await
            .status(status)
            .is("fwd=partial")
            .fetched([&[2]]);
    }
}

#[tokio::test]
async fn a_cut_or_broken_answer_is_a_502_and_nothing_is_stored() {
    for fault in [Fault::CutBody, Fault::CloseBeforeAnswer] {
        let world = World::new().await;
        let ann = world.user(1);
        world.vms.fault(fault, Times::Always);
        let failed = ann.asks([1]).await.status(502);
        assert_eq!(failed.header("content-type"), Some("application/json"));
        assert_eq!(failed.header("retry-after"), Some("1"));
        failed.body_is(r#"{"message":"Bad Gateway"}"#);
        world.vms.clear_faults();
        ann.asks([1]).await.gets([1]).is("fwd=miss");
    }
}

#[tokio::test]
async fn a_vms_that_never_answers_is_a_504_after_fetch_timeout() {
    let world =
        World::with("upstream.connect_timeout = \"100ms\"\nupstream.fetch_timeout = \"200ms\"")
            .await;
    let ann = world.user(1);
    world.vms.fault(Fault::Hang, Times::Once);
    ann.asks([1])
        .await
        .status(504)
        .body_is(r#"{"message":"Gateway Timeout"}"#);
    ann.asks([1]).await.gets([1]);
}

#[tokio::test]
async fn an_answer_that_drips_is_a_504_after_fetch_timeout_whenever_its_last_byte_came() {
    let world =
        World::with("upstream.connect_timeout = \"100ms\"\nupstream.fetch_timeout = \"200ms\"")
            .await;
    let ann = world.user(1);
    let drip = Fault::Drip(Pace::Every(Duration::from_millis(20)));
    world.vms.fault(drip, Times::Once);
    ann.asks([1]).await.status(504).fetched([&[1]]);
    ann.asks([1]).await.gets([1]).fetched([&[1]]);
}

#[tokio::test]
async fn a_429_is_relayed_with_what_it_says_and_not_asked_again() {
    let vms = Scripted::answering(
        "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Type: application/json\r\n\
         Content-Length: 2\r\n\r\n{}",
    )
    .await;
    let edge = TestEdge::before(vms.address);
    let mut client = Client::connect(edge.address).await;
    for asked in 1..3 {
        client
            .send(format!(
                "GET {SHOWS}?ids[]=1 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer t\r\nX-Client: ios\r\n\
                 X-UUID: d\r\nAccept: application/json\r\n\r\n"
            ))
            .await;
        let answer = client.response().await;
        assert_eq!((answer.status, answer.text()), (429, "{}"));
        assert_eq!(answer.head.one("retry-after"), Some("7"));
        assert_eq!(vms.requests().len(), asked);
    }
}

#[tokio::test]
async fn an_endless_answer_is_left_to_a_pass_through() {
    let world = World::new().await;
    world.vms.fault(Fault::Endless, Times::Once);
    world
        .user(1)
        .asks([1])
        .await
        .gets([1])
        .is("detail=too_large")
        .fetched([&[1], &[1]]);
}

#[tokio::test]
async fn cookies_limits_tracing_and_validators_are_relayed_once_and_never_replayed() {
    let world = World::new().await;
    let ann = world.user(1);
    let one_clients = [
        ("Set-Cookie", "session=secret"),
        ("X-RateLimit-Remaining", "59"),
        ("traceparent", "00-aa-bb-01"),
        ("ETag", "\"v1\""),
        ("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT"),
        ("X-Request-Id", "7"),
    ];
    for (name, value) in one_clients {
        world.vms.add_response_header(name, value);
    }
    world.vms.add_response_header("X-Powered-By", "PHP/8.2");
    world
        .vms
        .add_response_header("Access-Control-Allow-Origin", "*");
    let first = ann.asks([1]).await.is("stored");
    for (name, value) in one_clients {
        assert_eq!(first.header(name), Some(value), "{name}");
    }
    let hit = ann.asks([1]).await.hit();
    for (name, value) in one_clients {
        assert_ne!(hit.header(name), Some(value), "{name}");
        // What is put together has a tag of the edge's own.
        assert_eq!(hit.header(name).is_some(), name == "ETag", "{name}");
    }
    for name in [
        "x-powered-by",
        "access-control-allow-origin",
        "cache-control",
        "content-type",
    ] {
        assert_eq!(hit.header(name), first.header(name), "{name}");
    }
}

#[tokio::test]
async fn a_header_that_vary_names_joins_the_key_and_that_answer_is_not_stored() {
    let world = World::new().await;
    world.vms.add_response_header("Vary", "X-Region");
    let north = world.user(1).with("x-region", "north");
    let south = world.user(1).with("x-region", "south");
    let taught = north.asks([1]).await.gets([1]);
    assert!(!taught.header("cache-status").unwrap().contains("stored"));
    north.asks([1]).await.is("fwd=miss").is("stored");
    north.asks([1]).await.hit();
    south.asks([1]).await.is("fwd=miss");
    south.asks([1]).await.hit();
}

#[tokio::test]
async fn what_depends_on_where_a_client_is_is_not_stored() {
    let at_home = "[{\"id\":1,\"stream\":\"rtsp://192.168.0.2\"}]";
    let elsewhere = "[{\"id\":1,\"stream\":\"rtsp://vms.example\"}]";
    for (vary, trusted) in [
        ("X-Forwarded-For", ""),
        (
            "Accept, x-forwarded-for",
            "server.trusted_proxies = [\"127.0.0.0/8\"]",
        ),
        ("X-Real-IP", ""),
    ] {
        let vms = Scripted::start(move |mut connection| async move {
            while let Some(request) = connection.request().await {
                let seen = request
                    .head
                    .one("x-forwarded-for")
                    .expect("the edge says it");
                let is_at_home = seen.ends_with("127.0.0.1");
                let body = if is_at_home { at_home } else { elsewhere };
                let length = body.len();
                connection
                    .wire
                    .send(format!(
                        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nVary: {vary}\r\n\
                         Content-Length: {length}\r\n\r\n{body}"
                    ))
                    .await;
            }
        })
        .await;
        let edge = TestEdge::with(&[vms.address.to_string()], trusted);
        for _ in 0..2 {
            for (from, expected) in [("127.0.0.1", at_home), ("127.0.0.2", elsewhere)] {
                let mut client = Client::connect_from(from, edge.address).await;
                client
                    .send(format!(
                        "GET {SHOWS}?ids[]=1 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ann\r\n\
                         Accept: application/json\r\nX-Client: ios\r\nX-UUID: phone\r\n\
                         X-Forwarded-For: 10.0.0.1\r\nX-Real-IP: 10.0.0.1\r\n\r\n"
                    ))
                    .await;
                let answer = client.response().await;
                assert_eq!(answer.text(), expected, "{vary} {from}");
                let status = answer.head.one("cache-status").expect("it says so");
                assert!(!status.contains("stored"), "{status}");
            }
        }
    }
}

#[tokio::test]
async fn a_learnt_header_that_connection_names_is_not_fetched_under_a_key_that_has_it() {
    let world = World::new().await;
    world.vms.add_response_header("Vary", "X-Region");
    let north = world.user(1).with("x-region", "north");
    north.asks([1]).await.gets([1]);
    let stripped = north.clone().with("connection", "x-region");
    stripped.asks([1]).await.bypassed("connection");
    north.asks([1]).await.is("fwd=miss");
}

#[tokio::test]
async fn a_vary_on_what_the_key_covers_does_not_stop_storing() {
    let world = World::new().await;
    world
        .vms
        .add_response_header("Vary", "Accept-Encoding, Authorization, Origin");
    world.user(1).asks([1]).await.is("stored");
    world.user(1).asks([1]).await.hit();
}

#[tokio::test]
async fn items_expire_after_fresh_and_absences_after_absent() {
    let world = World::with(
        "[[batch]]\npath = \"/api/v1/intercom/shows\"\nfresh = \"30s\"\nabsent = \"10s\"\njitter = 0.0\nstale_while_revalidate = \"0s\"\nstale_if_error = \"0s\"",
    )
    .await;
    let ann = world.user(1);
    ann.asks([1, 4]).await.gets([1]);
    world.advance(9);
    let hit = ann.asks([1, 4]).await.hit();
    assert_eq!(hit.header("age"), Some("9"));
    assert_eq!(hit.header("cache-status"), Some("vms-edge; hit; ttl=1"));
    world.advance(1);
    ann.asks([1, 4]).await.gets([1]).fetched([&[4]]);
    world.advance(19);
    ann.asks([1]).await.hit();
    world.advance(1);
    ann.asks([1]).await.gets([1]).is("fwd=miss").fetched([&[1]]);
}

#[tokio::test]
async fn jitter_only_shortens_a_lifetime() {
    let world = World::with("[[batch]]\npath = \"/api/v1/intercom/shows\"\nfresh = \"100s\"\njitter = 0.5\nstale_while_revalidate = \"0s\"\nstale_if_error = \"0s\"").await;
    for user in 1..=20 {
        world.user(user).asks([1]).await.is("fwd=miss");
    }
    world.advance(50);
    for user in 1..=20 {
        world.user(user).asks([1]).await.gets([1]).is("hit");
    }
    world.advance(50);
    for user in 1..=20 {
        world.user(user).asks([1]).await.gets([1]).is("fwd=miss");
    }
}

#[tokio::test]
async fn a_fill_outlives_the_client_that_caused_it() {
    let world = World::new().await;
    let hold = world.vms.hold();
    let (address, ann) = (world.edge.address, world.user(1));
    let mut leaver = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut request =
        "GET /api/v1/intercom/shows?ids[]=1 HTTP/1.1\r\nHost: vms.local\r\n".to_owned();
    for (name, value) in &ann.headers {
        request += &format!("{name}: {}\r\n", value.to_str().unwrap());
    }
    tokio::io::AsyncWriteExt::write_all(&mut leaver, format!("{request}\r\n").as_bytes())
        .await
        .unwrap();
    hold.arrived(1).await;
    drop(leaver);
    drop(hold);
    // The fill has no one to tell; only its trace in memory shows when it is done.
    tokio::time::timeout(Duration::from_secs(10), async {
        while !world
            .metrics()
            .await
            .contains("vms_edge_fetches_total{outcome=\"stored\"} 1")
        {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the fill ends");
    ann.asks([1]).await.gets([1]).hit();
}

#[tokio::test]
async fn memory_is_bounded_by_max_bytes() {
    let world = World::with("cache.max_bytes = \"1MiB\"").await;
    for user in 1..=400 {
        world.user(user).asks(1..=25).await.status(200);
    }
    let metrics = world.metrics().await;
    let bytes = metrics
        .lines()
        .find_map(|line| line.strip_prefix("vms_edge_cache_bytes "))
        .unwrap();
    assert!(bytes.parse::<u64>().unwrap() <= 1 << 20, "{metrics}");
}
