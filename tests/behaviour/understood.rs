//! "Which requests are batches": what is answered by the edge, and what passes through and why.

use http::Method;

use crate::support::world::{SHOWS, World};

#[tokio::test]
async fn a_batch_is_fetched_once_and_then_answered_from_memory() {
    let world = World::new().await;
    let ann = world.user(1);
    let first = ann
        .asks([1, 2, 3])
        .await
        .gets([1, 2, 3])
        .is("fwd=miss")
        .is("stored");
    let first = first.fetched([&[1, 2, 3]]);
    let second = ann.asks([1, 2, 3]).await.hit();
    assert_eq!(first.body, second.body);
}

#[tokio::test]
async fn only_the_missing_ids_are_fetched_in_one_request() {
    let world = World::new().await;
    let ann = world.user(1);
    ann.asks([1, 3]).await.fetched([&[1, 3]]);
    let partial = ann.asks([1, 2, 3, 4, 9]).await.gets([1, 2, 3, 9]);
    partial
        .is("fwd=partial")
        .is("detail=\"hit=2 miss=3\"")
        .fetched([&[2, 4, 9]]);
    ann.asks([2, 4, 9]).await.gets([2, 9]).hit();
}

#[tokio::test]
async fn the_three_spellings_of_brackets_are_one() {
    let world = World::new().await;
    let ann = world.user(1);
    ann.gets(&format!("{SHOWS}?ids[]=1&ids[]=2"))
        .await
        .gets([1, 2])
        .is("fwd=miss");
    ann.gets(&format!("{SHOWS}?ids%5B%5D=1&ids%5b%5d=2"))
        .await
        .gets([1, 2])
        .hit();
    ann.gets(&format!("{SHOWS}?ids[0]=1&ids%5B1%5D=2"))
        .await
        .gets([1, 2])
        .hit();
}

#[tokio::test]
async fn ids_in_a_json_body_are_a_batch_and_missing_ones_are_fetched_in_a_body() {
    let world = World::new().await;
    let ann = world.user(1);
    ann.asks_in_body(r#"{"ids":[1,"2"]}"#)
        .await
        .gets([1, 2])
        .fetched([&[1, 2]]);
    ann.asks_in_body(r#"{"ids":["1"]}"#).await.gets([1]).hit();
    ann.asks_in_body(r#"{"ids":[1,9]}"#)
        .await
        .gets([1, 9])
        .fetched([&[9]]);
    let fetch = world.vms.requests().pop().unwrap();
    assert_eq!(fetch.target, SHOWS);
    assert_eq!(fetch.body, r#"{"ids":[9]}"#);
}

#[tokio::test]
async fn a_content_type_without_a_body_leaves_the_ids_in_the_query() {
    let world = World::new().await;
    let ann = world.user(1).with("content-type", "application/json");
    ann.asks([1]).await.gets([1]).is("fwd=miss");
    ann.asks([1]).await.gets([1]).hit();
}

#[tokio::test]
async fn ids_the_vms_must_judge_pass_through_with_its_answer() {
    let world = World::new().await;
    let ann = world.user(1);
    for query in [
        "ids=1",
        "ids=1,2",
        "ids[]=",
        "ids[]=abc",
        "ids[]=007",
        "ids[]=1.0",
        "ids[]=%201",
        "ids[]=0",
        "ids[]=-1",
        "ids[]=99999999999999999999",
        "ids[a]=1",
        "ids[0]=1&ids[0]=3",
        "ids[]=1&ids[0]=2",
        "%69ds[]=1",
        "",
        "foo=bar",
    ] {
        let target = format!("{SHOWS}?{query}");
        let through = ann.gets(&target).await.bypassed("ids");
        let straight = ann.straight(&target).await;
        assert_eq!(
            (through.status, through.body),
            (straight.status, straight.body),
            "{query}"
        );
    }
}

#[tokio::test]
async fn more_ids_than_max_ids_pass_through_repeats_counted() {
    let world = World::new().await;
    let ann = world.user(1);
    ann.asks(1..=25).await.status(200).is("fwd=miss");
    ann.asks(1..=26).await.status(422).bypassed("ids");
    ann.asks([1; 25]).await.gets([1]).hit();
    ann.asks([1; 26]).await.status(422).bypassed("ids");
}

#[tokio::test]
async fn repeats_are_taken_once() {
    let world = World::new().await;
    let ann = world.user(1);
    ann.asks([3, 1, 3, 1]).await.gets([1, 3]);
    ann.asks([1, 1, 3, 9, 9])
        .await
        .gets([1, 3, 9])
        .fetched([&[9]]);
}

#[tokio::test]
async fn another_parameter_belongs_to_the_key_and_goes_with_the_fetch() {
    let world = World::new().await;
    let ann = world.user(1);
    ann.gets(&format!("{SHOWS}?ids[]=1&hl=en&foo=%62"))
        .await
        .is("fwd=miss");
    ann.gets(&format!("{SHOWS}?hl=en&ids[]=1&foo=%62"))
        .await
        .hit();
    ann.gets(&format!("{SHOWS}?ids[]=1&hl=ru&foo=%62"))
        .await
        .is("fwd=miss");
    ann.gets(&format!("{SHOWS}?hl=en&ids[]=1&ids[]=9&foo=%62"))
        .await
        .fetched([&[9]]);
    let fetch = world.vms.requests().pop().unwrap();
    assert_eq!(fetch.target, format!("{SHOWS}?ids%5B%5D=9&hl=en&foo=%62"));
}

#[tokio::test]
async fn only_the_path_byte_for_byte_is_a_batch() {
    let world = World::new().await;
    let ann = world.user(1);
    for path in [
        "/api/v1/intercom/shows/",
        "/api/v1/intercom/%73hows",
        "/index.php/api/v1/intercom/shows",
    ] {
        for _ in 0..2 {
            let answer = ann.gets(&format!("{path}?ids[]=1")).await.gets([1]);
            assert_eq!(answer.header("cache-status"), None, "{path}");
            answer.fetched([&[1]]);
        }
    }
    ann.gets("//api/v1/intercom/shows?ids[]=1")
        .await
        .status(404);
}

#[tokio::test]
async fn only_get_is_a_batch() {
    let world = World::new().await;
    let ann = world.user(1);
    let target = format!("{SHOWS}?ids[]=1");
    ann.sends(Method::POST, &target, "{}")
        .await
        .status(405)
        .bypassed("method");
    ann.sends(Method::HEAD, &target, "")
        .await
        .status(200)
        .bypassed("method");
    ann.sends(Method::OPTIONS, &target, "")
        .await
        .bypassed("method");
}

#[tokio::test]
async fn an_authorization_that_readers_may_read_in_two_ways_passes_through_uncached() {
    let world = World::new().await;
    let plain = "Bearer tok-1-ios";
    for odd in [
        "bearer tok-1-ios",
        "Bearer  tok-1-ios",
        "Bearer tok-1-ios,x",
        "Basic a, Bearer tok-1-ios",
        "Bearer tok 1",
        "Basic abc",
    ] {
        let ann = world.user(1).with("authorization", odd);
        for _ in 0..2 {
            ann.asks([1]).await.bypassed("authorization");
        }
    }
    let two = world
        .user(1)
        .with("authorization", "Basic x")
        .adding("authorization", plain);
    two.asks([1]).await.gets([1]).bypassed("authorization");
}

#[tokio::test]
async fn another_credential_beside_the_token_passes_through_uncached() {
    let world = World::new().await;
    let ann = world.user(1);
    for _ in 0..2 {
        ann.clone()
            .with("cookie", "laravel_session=x")
            .asks([1])
            .await
            .bypassed("cookie");
        for name in ["token", "api_token", "access_token", "api.token"] {
            ann.gets(&format!("{SHOWS}?ids[]=1&{name}=x"))
                .await
                .bypassed("credential");
        }
        ann.asks_in_body(r#"{"ids":[1],"api_token":"x"}"#)
            .await
            .bypassed("credential");
    }
}

#[tokio::test]
async fn a_request_for_more_than_a_plain_batch_passes_through_uncached() {
    let world = World::new().await;
    for (name, value, reason) in [
        ("range", "bytes=0-1", "range"),
        ("if-none-match", "\"x\"", "conditional"),
        ("connection", "X-UUID", "connection"),
        ("connection", "authorization", "connection"),
        ("cache-control", "no-store", "cache_control"),
        ("x-http-method-override", "DELETE", "protocol"),
        ("accept-encoding", "gzip, identity;q=0", "coding"),
    ] {
        for _ in 0..2 {
            world
                .user(1)
                .with(name, value)
                .asks([1])
                .await
                .bypassed(reason);
        }
    }
}

#[tokio::test]
async fn no_cache_makes_every_id_missing_and_stores_what_comes() {
    let world = World::new().await;
    let ann = world.user(1);
    ann.asks([1, 2]).await.fetched([&[1, 2]]);
    world.vms.rename(1, "Renamed");
    let refreshed = ann
        .clone()
        .with("cache-control", "no-cache")
        .asks([1, 2])
        .await;
    assert!(refreshed.text().contains("Renamed"));
    refreshed.is("fwd=miss").fetched([&[1, 2]]);
    assert!(ann.asks([1, 2]).await.hit().text().contains("Renamed"));
}

#[tokio::test]
async fn a_body_that_is_not_plain_json_passes_through() {
    let world = World::new().await;
    let ann = world.user(1);
    ann.asks_in_body(r#"{"ids":[1,2"#)
        .await
        .status(422)
        .bypassed("body");
    ann.asks_in_body(r#"{"ids":[1],"ids":[2]}"#)
        .await
        .bypassed("body");
    ann.asks_in_body(r#"{"ids":[]}"#)
        .await
        .status(422)
        .bypassed("ids");
    ann.asks_in_body(r#"{"ids":[1.0]}"#).await.bypassed("ids");
    let form = ann
        .clone()
        .with("content-type", "application/x-www-form-urlencoded");
    form.sends(Method::GET, SHOWS, "ids[]=1")
        .await
        .status(422)
        .bypassed("body");
    let both = ann.with("content-type", "application/json");
    both.sends(Method::GET, &format!("{SHOWS}?ids[]=3"), r#"{"ids":[1]}"#)
        .await
        .gets([1])
        .bypassed("body");
}

#[tokio::test]
async fn a_second_batch_endpoint_has_items_of_its_own() {
    let world = World::with(
        "[[batch]]\npath = \"/api/v1/intercom/shows\"\n[[batch]]\npath = \"/api/v1/cameras/shows\"",
    )
    .await;
    let ann = world.user(1);
    ann.asks([1]).await.gets([1]).is("fwd=miss");
    let cameras = "/api/v1/cameras/shows?ids[]=654";
    ann.gets(cameras).await.gets([654]).is("fwd=miss");
    ann.gets(cameras).await.gets([654]).hit();
    ann.asks([1]).await.gets([1]).hit();
}

#[tokio::test]
async fn a_part_whose_target_would_grow_too_long_is_asked_whole() {
    let world = World::with(&format!("[[batch]]\npath = \"{SHOWS}\"\nmax_ids = 100")).await;
    let ann = world.user(1);
    // The brackets of a part are escaped, and it has nearly as many ids.
    let long = "a".repeat(64_325);
    let asking = |ids: std::ops::RangeInclusive<u64>| {
        let ids: Vec<String> = ids.map(|id| format!("ids[]={id}")).collect();
        format!("{SHOWS}?{}&x={long}", ids.join("&"))
    };
    ann.gets(&asking(1..=1)).await.gets([1]).is("stored");
    let whole = ann.gets(&asking(1..=100)).await.status(422);
    whole.bypassed("too_large");
}

#[tokio::test]
async fn a_token_that_is_longer_than_any_should_be_is_refused_or_passes_through_uncached() {
    let longest = format!("Bearer tok-1-{}", "x".repeat((8 << 10) - "tok-1-".len()));
    let longer = format!("{longest}x");
    let world = World::new().await;
    let ann = world.user(1).with("authorization", &longest);
    ann.asks([1]).await.is("fwd=miss");
    let ann = world.user(1).with("authorization", &longer);
    ann.asks([1]).await.status(431).untold();
    // Where the checks refuse nothing the VMS is the judge.
    let world = World::with("headers.check = \"forward\"\n").await;
    let ann = world.user(1).with("authorization", &longer);
    ann.asks([1]).await.bypassed("headers");
}
