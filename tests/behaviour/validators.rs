//! Entity tags of answers from memory, and what is not sent again to whoever holds it.

use http::Method;
use vms_edge::demo::vms::StandIn;

use crate::support::client::Client;
use crate::support::operator;
use crate::support::scrape::Scrape;
use crate::support::scripted::Scripted;
use crate::support::world::{Answer, SHOWS, World};

/// The tag of an answer.
fn tag(answer: &Answer) -> String {
    answer
        .header("etag")
        .expect("an answer from memory has a tag")
        .to_owned()
}

#[tokio::test]
async fn whoever_holds_an_answer_from_memory_is_told_that_it_is_good_still() {
    let world = World::with("compression.codings = []").await;
    let ann = world.user(1);
    let miss = ann.asks([1, 2]).await.is("fwd=miss");
    assert_eq!(miss.header("etag"), None, "it is the VMS's own");
    let hit = ann.asks([1, 2]).await.gets([1, 2]).hit();
    let tag = tag(&hit);
    world.advance(7);

    let again = ann.with("if-none-match", &tag).asks([1, 2]).await;
    let again = again.status(304).hit();
    assert_eq!(again.header("etag"), Some(tag.as_str()));
    assert_eq!(again.header("age"), Some("7"));
    assert_eq!(again.header("cache-control"), hit.header("cache-control"));
    assert_eq!(again.header("vary"), hit.header("vary"));
    assert!(again.header("date").is_some());
    for of_the_body in ["content-length", "content-type", "transfer-encoding"] {
        assert_eq!(again.header(of_the_body), None);
    }
    assert!(again.body.is_empty());
    let scrape = Scrape::settled(world.edge.admin).await;
    let hits = scrape.value("vms_edge_batch_requests_total{result=\"hit\"}");
    assert_eq!(hits, 2.0);
}

#[tokio::test]
async fn tags_are_compared_weakly_and_among_others() {
    let world = World::new().await;
    let ann = world.user(1);
    ann.asks([1]).await;
    let tag = tag(&ann.asks([1]).await.hit());
    for held in [
        format!("W/{tag}"),
        format!("\"other\", {tag}"),
        "*".to_owned(),
    ] {
        let ann = ann.clone().with("if-none-match", &held);
        ann.asks([1]).await.status(304).hit();
    }
    let ann = ann.with("if-none-match", "\"ve-00000000000000000000000000000000\"");
    ann.asks([1]).await.gets([1]).hit();
}

#[tokio::test]
async fn the_vmss_own_tags_and_other_preconditions_are_left_to_the_vms() {
    let world = World::new().await;
    let ann = world.user(1);
    ann.asks([1]).await;
    let tag = tag(&ann.asks([1]).await.hit());
    for (name, value) in [
        ("if-none-match", "\"of-the-vms\""),
        ("if-match", tag.as_str()),
        ("if-modified-since", "Mon, 01 Jan 2024 00:00:00 GMT"),
    ] {
        let ann = ann.clone().with(name, value);
        ann.asks([1]).await.bypassed("conditional");
        let asked = world.vms.requests().pop().unwrap();
        assert_eq!(asked.values(name), [value]);
    }
    let ann = ann.with("if-none-match", &tag);
    let ann = ann.with("if-modified-since", "Mon, 01 Jan 2024 00:00:00 GMT");
    ann.asks([1]).await.bypassed("conditional");
}

#[tokio::test]
async fn what_is_not_at_hand_is_fetched_and_sent_whole_whatever_the_client_holds() {
    let world = World::new().await;
    let ann = world.user(1);
    ann.asks([1, 2]).await;
    let tag = tag(&ann.asks([1, 2]).await.hit());
    let ann = ann.with("if-none-match", &format!("{tag}, \"of-the-vms\""));
    // Another phone, of which nothing is stored.
    let other = ann.clone().with("x-uuid", "b7f0c0de-2");
    other.asks([1, 2]).await.gets([1, 2]).is("fwd=miss");
    assert!(
        world
            .vms
            .requests()
            .pop()
            .unwrap()
            .values("if-none-match")
            .is_empty()
    );
    let fresh = ann.clone().with("cache-control", "no-cache");
    fresh.asks([1, 2]).await.gets([1, 2]).is("fwd=miss");
    // A part of it is as good as all of it: what is put together is what the client holds.
    world.advance(10_000);
    other.asks([1]).await.gets([1]).is("fwd=miss");
    let partial = other.asks([1, 2]).await.status(304).is("fwd=partial");
    partial.fetched([&[2]]);
}

#[tokio::test]
async fn after_a_write_nobody_is_told_that_what_he_holds_is_good_unless_it_was_fetched_again() {
    let (_file, token) = operator::token();
    let rule = "[[invalidate]]\npath = \"/api/v1/intercom/{id}\"\nscope = [\"user\", \"item\"]";
    let world = World::with(&format!("{token}{rule}")).await;
    let ann = world.user(1);
    ann.asks([1, 2]).await;
    let tag = tag(&ann.asks([1, 2]).await.hit());
    let holds = ann.clone().with("if-none-match", &tag);
    holds.asks([1, 2]).await.status(304).hit();

    let renamed = r#"{"title":"Another"}"#;
    let write = ann.clone().with("content-type", "application/json");
    write
        .sends(Method::PUT, "/api/v1/intercom/1", renamed)
        .await
        .status(200);
    world.advance(1);
    let answer = holds.asks([1, 2]).await.gets([1, 2]).is("fwd=miss");
    assert!(answer.text().contains("Another"));
    let now = holds.asks([1, 2]).await.gets([1, 2]).hit();
    assert_ne!(self::tag(&now), tag);
    assert!(now.text().contains("Another"));

    // The same content, fetched after a mark, is what the client holds.
    let holds = ann.with("if-none-match", &self::tag(&now));
    let purged = operator::purge(world.edge.admin, r#"{"items":[1]}"#).await;
    purged.status(200);
    world.advance(1);
    let fetched = holds.asks([1, 2]).await.status(304).is("fwd=partial");
    fetched.fetched([&[1]]);
    holds.asks([1, 2]).await.status(304).hit();
}

#[tokio::test]
async fn a_tag_says_what_the_bytes_are_and_nothing_of_who_asked_for_what() {
    let world = World::with("compression.codings = []\n[[batch]]\npath = \"/api/v1/intercom/shows\"\norder = \"request\"").await;
    let (ann, bob) = (world.user(1), world.user(2));
    for widget in [&ann, &bob] {
        for ids in [&[1, 3][..], &[3, 1]] {
            widget.asks(ids.iter().copied()).await;
        }
    }
    let of = async |widget: &crate::support::world::Widget<'_>, ids: &[u64]| {
        let answer = widget.asks(ids.iter().copied()).await.hit();
        (tag(&answer), answer.body)
    };
    let mut answers = Vec::new();
    for widget in [&ann, &bob] {
        for ids in [&[1, 3][..], &[3, 1], &[1], &[1, 3]] {
            answers.push(of(widget, ids).await);
        }
    }
    for (tag, body) in &answers {
        for (other_tag, other_body) in &answers {
            assert_eq!(tag == other_tag, body == other_body);
        }
    }
    // Who knows a tag of what he may not see is told no more than without it.
    let foreign = ann.asks([2]).await;
    drop(foreign);
    let tag = tag(&ann.asks([2]).await.hit());
    let bob = bob.with("if-none-match", &tag);
    bob.asks([2]).await.gets([]);
    bob.asks([2]).await.gets([]).hit();
}

#[tokio::test]
async fn another_edge_gives_the_same_answer_the_same_tag() {
    let vms = StandIn::new();
    let serving = vms.start().await.unwrap();
    let servers = [serving.address().to_string()];
    let mut tags = Vec::new();
    for _ in 0..2 {
        let edge = crate::support::edge::TestEdge::with(&servers, "");
        let mut client = Client::connect(edge.address).await;
        for _ in 0..2 {
            client.send(batch("")).await;
            let answer = client.response().await;
            assert_eq!(answer.status, 200);
            tags.extend(answer.head.one("etag").map(str::to_owned));
        }
    }
    assert_eq!(tags.len(), 2);
    assert_eq!(tags[0], tags[1]);
}

/// A request for intercom 1, with more fields.
fn batch(fields: &str) -> String {
    format!(
        "GET {SHOWS}?ids[]=1 HTTP/1.1\r\nHost: vms.local\r\nAuthorization: Bearer tok-1-ios\r\n\
         X-Client: ios\r\nX-UUID: phone\r\n{fields}\r\n"
    )
}

#[tokio::test]
async fn a_connection_goes_on_after_a_304() {
    let world = World::new().await;
    let mut client = Client::connect(world.edge.address).await;
    client.send(batch("")).await;
    client.response().await;
    client.send(batch("")).await;
    let tag = client.response().await.head.one("etag").unwrap().to_owned();
    for _ in 0..2 {
        client
            .send(batch(&format!("If-None-Match: {tag}\r\n")))
            .await;
        let answer = client.response().await;
        assert_eq!(
            (answer.status, answer.reason.as_str()),
            (304, "Not Modified")
        );
        assert!(!answer.head.is_chunked() && answer.head.length().is_none());
    }
    client.send(batch("")).await;
    assert_eq!(client.response().await.status, 200);
}

#[tokio::test]
async fn a_vms_with_tags_of_its_own_is_asked_about_them_and_answers_as_ever() {
    let vms = Scripted::start(|mut connection| async move {
        while let Some(request) = connection.request().await {
            match request.head.one("if-none-match") {
                Some(_) => connection.wire.send("HTTP/1.1 304 Not Modified\r\nETag: \"vms\"\r\n\r\n").await,
                None => {
                    let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nETag: \"vms\"\r\n\
                                  Content-Length: 10\r\n\r\n[{\"id\":1}]";
                    connection.wire.send(answer).await;
                }
            }
        }
    })
    .await;
    let edge = crate::support::edge::TestEdge::before(vms.address);
    let mut client = Client::connect(edge.address).await;
    client.send(batch("")).await;
    let miss = client.response().await;
    assert_eq!(miss.head.one("etag"), Some("\"vms\""));
    client.send(batch("If-None-Match: \"vms\"\r\n")).await;
    let held = client.response().await;
    assert_eq!((held.status, held.head.one("etag")), (304, Some("\"vms\"")));
    client.send(batch("")).await;
    let hit = client.response().await;
    assert!(hit.head.one("etag").unwrap().starts_with("\"ve-"));
}
