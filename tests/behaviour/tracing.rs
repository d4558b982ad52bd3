//! Traces: continued towards the VMS, never kept.

use std::collections::BTreeSet;

use crate::support::world::World;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

fn parent() -> String {
    format!("00-{TRACE}-{SPAN}-01")
}

/// Trace, span and flags of a `traceparent`.
fn parts(parent: &str) -> [&str; 3] {
    let parts: Vec<&str> = parent.split('-').collect();
    assert!(parts.len() == 4 && parts[0] == "00", "{parent}");
    [parts[1], parts[2], parts[3]]
}

#[tokio::test]
async fn each_request_to_the_vms_has_a_span_of_its_own_in_the_clients_trace() {
    let world = World::new().await;
    let ann = world
        .user(1)
        .with("traceparent", &parent())
        .with("tracestate", "a=1,b=2");
    ann.asks([1, 2]).await.is("fwd=miss");
    ann.asks([1, 2]).await.hit();
    ann.asks([1, 3]).await.fetched([&[3]]);
    ann.gets("/api/v1/static/basic").await.status(200);
    let mut spans = BTreeSet::new();
    for request in world.vms.requests() {
        let [trace, span, flags] = parts(request.values("traceparent")[0]);
        assert_eq!((trace, flags), (TRACE, "01"));
        assert_eq!(request.values("tracestate"), ["a=1,b=2"]);
        spans.insert(span.to_owned());
    }
    assert!(spans.len() == 3 && !spans.contains(SPAN), "{spans:?}");
}

#[tokio::test]
async fn a_trace_that_cannot_be_read_begins_anew_and_none_is_invented() {
    let world = World::new().await;
    let ann = world.user(1);
    let odd = ann.clone().with("traceparent", &parent().to_uppercase());
    odd.with("tracestate", "a=1").asks([1]).await.is("fwd=miss");
    ann.asks([2]).await.is("fwd=miss");
    ann.clone()
        .with("tracestate", "a=1")
        .gets("/api/v1/static/basic")
        .await
        .status(200);
    let requests = world.vms.requests();
    let [trace, _, flags] = parts(requests[0].values("traceparent")[0]);
    assert!(!trace.eq_ignore_ascii_case(TRACE));
    assert_eq!(flags, "02", "nobody asked for it to be recorded");
    assert!(requests[0].values("tracestate").is_empty());
    assert!(requests[1].values("traceparent").is_empty());
    assert!(requests[2].values("traceparent").is_empty());
}

#[tokio::test]
async fn a_trace_belongs_to_no_key() {
    let world = World::new().await;
    let ann = world.user(1).with("traceparent", &parent());
    ann.asks([1]).await.is("fwd=miss");
    let other = parent().replace("4bf9", "5bf9");
    ann.clone()
        .with("traceparent", &other)
        .asks([1])
        .await
        .hit();
    ann.without("traceparent").asks([1]).await.hit();
}
