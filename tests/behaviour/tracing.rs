//! Traces: continued towards the VMS, never kept, and told to a collector where one is configured.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use vms_edge::demo::vms::{Fault, StandIn, Times};
use vms_edge::ops::reload::Outcome;

use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::otlp::{self, Span, collector};
use crate::support::scrape::Scrape;
use crate::support::scripted::Scripted;
use crate::support::service::Service;
use crate::support::soon;
use crate::support::tools::tool;
use crate::support::world::{SHOWS, World};

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

const EXPORTED: &str = "vms_edge_spans_total{result=\"exported\"}";
const DROPPED: &str = "vms_edge_spans_total{result=\"dropped\"}";

fn settings(collector: &Scripted, more: &str) -> String {
    format!(
        "server.trusted_proxies = [\"127.0.0.1\"]\n[tracing]\nendpoint = \"http://{}\"\n{more}\n",
        collector.address
    )
}

/// The spans that a collector has, once there are so many.
async fn spans(collector: &Scripted, count: usize) -> Vec<Span> {
    let wait = async {
        loop {
            let spans = otlp::spans(collector);
            if spans.len() >= count {
                return spans;
            }
            tokio::task::yield_now().await;
        }
    };
    let spans = soon("the spans", wait).await;
    assert_eq!(spans.len(), count, "{spans:?}");
    spans
}

/// What a collector is told of ann, who comes with a trace: a batch that is fetched, the same from memory, and what passes
/// through.
struct Told {
    world: World,
    fetch: Span,
    miss: Span,
    hit: Span,
    passed: Span,
}

/// `None` where nothing can read it.
async fn told_of_ann() -> Option<Told> {
    tool("protoc")?;
    let collector = collector().await;
    let only_hers = settings(&collector, "sample = 0.0\nservice_name = \"door\"");
    let world = World::with(&only_hers).await;
    let ann = world
        .user(1)
        .with("traceparent", &parent())
        .with("x-request-id", "hers");
    ann.asks([7, 12345]).await.is("fwd=miss");
    ann.asks([7, 12345]).await.hit();
    ann.gets("/api/v1/static/basic?secret=1").await.status(200);
    let spans = spans(&collector, 4).await;
    let [fetch, miss, hit, passed] = spans.try_into().expect("there are four");
    Some(Told {
        world,
        fetch,
        miss,
        hit,
        passed,
    })
}

#[tokio::test]
async fn a_collector_is_told_what_caused_what() {
    let Some(told) = told_of_ann().await else {
        return;
    };
    let [trace, fetching, caused_by] = told.fetch.ids();
    let [_, missing, from] = told.miss.ids();
    assert_eq!(
        (trace.as_str(), from.as_str(), &caused_by),
        (TRACE, SPAN, &missing)
    );
    for span in [&told.miss, &told.hit, &told.passed] {
        assert_eq!(span.ids()[0], TRACE);
    }
    let [_, passing, _] = told.passed.ids();
    let requests = told.world.vms.requests();
    for (request, span) in requests.iter().zip([&fetching, &passing]) {
        let parent = request.values("traceparent")[0];
        assert_eq!(parts(parent), [TRACE, span, "01"]);
    }
    let counted = Scrape::once(told.world.edge.admin, EXPORTED, 4.0).await;
    assert_eq!(counted.value(DROPPED), 0.0);
}

#[tokio::test]
async fn a_collector_is_told_of_nobodys_secrets() {
    let Some(told) = told_of_ann().await else {
        return;
    };
    for span in [&told.fetch, &told.miss, &told.hit, &told.passed] {
        assert_eq!(span.resource.attribute("service.name").unwrap(), "door");
        let version = span.resource.attribute("service.version");
        assert_eq!(version.as_deref(), Some(env!("CARGO_PKG_VERSION")));
        let time = |name| span.message.number(name);
        assert!(time("start_time_unix_nano") <= time("end_time_unix_nano"));
        assert!(span.message.all("status").is_empty());
        let text = format!("{:?}", span.message);
        for secret in ["tok-1", "12345", "secret", "b7f0c0de"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}

#[tokio::test]
async fn a_collector_is_told_what_was_asked_and_what_became_of_it() {
    let Some(told) = told_of_ann().await else {
        return;
    };
    let shows = format!("GET {SHOWS}");
    let of_fetch = [
        "vms_edge.ids",
        "vms_edge.outcome",
        "http.response.status_code",
        "server.port",
    ];
    let server = vms_address(&told.world);
    assert_eq!(
        fields(&told.fetch, &of_fetch),
        [&shows, "SPAN_KIND_CLIENT", "2", "stored", "200", &server]
    );
    let of_request = [
        "vms_edge.cache",
        "vms_edge.ids",
        "http.response.status_code",
        "http.route",
        "url.path",
    ];
    let kind = "SPAN_KIND_SERVER";
    assert_eq!(
        fields(&told.miss, &of_request),
        [&shows, kind, "miss", "2", "200", SHOWS, SHOWS]
    );
    assert_eq!(fields(&told.hit, &of_request)[2], "hit");
    let path = "/api/v1/static/basic";
    assert_eq!(
        fields(&told.passed, &of_request),
        ["GET", kind, "-", "-", "200", "-", path]
    );
    let id = told.miss.attribute("vms_edge.request_id");
    assert_eq!(id.as_deref(), Some("hers"));
    assert!(told.fetch.attribute("vms_edge.queue_seconds").is_some());
}

/// Name, kind, and these attributes.
fn fields(span: &Span, keys: &[&str]) -> Vec<String> {
    let attributes = keys
        .iter()
        .map(|key| span.attribute(key).unwrap_or("-".to_owned()));
    [span.message.text("name"), span.message.text("kind")]
        .into_iter()
        .chain(attributes)
        .collect()
}

fn vms_address(world: &World) -> String {
    world.vms_address.port().to_string()
}

#[tokio::test]
async fn what_failed_is_told_as_failed() {
    if tool("protoc").is_none() {
        return;
    }
    let collector = collector().await;
    let world = World::with(&settings(&collector, "sample = 1.0")).await;
    world.vms.fault(Fault::CloseBeforeAnswer, Times::Always);
    let ann = world.user(1);
    ann.asks([1]).await.status(502);
    let spans = spans(&collector, 2).await;
    let [fetch, request] = &spans[..] else {
        panic!("{spans:?}");
    };
    assert_eq!(request.ids()[2], "", "it begins the trace");
    assert_eq!(fetch.ids()[2], request.ids()[1]);
    for (span, error) in [(fetch, "broken"), (request, "502")] {
        assert_eq!(
            span.message.all("status")[0].text("code"),
            "STATUS_CODE_ERROR"
        );
        assert_eq!(span.attribute("error.type").as_deref(), Some(error));
    }
    // Said again, on another connection.
    assert_eq!(
        fetch.attribute("http.request.resend_count").as_deref(),
        Some("1")
    );
}

#[tokio::test]
async fn whether_a_trace_is_told_is_decided_where_it_begins() {
    if tool("protoc").is_none() {
        return;
    }
    let collector = collector().await;
    let world = World::with(&settings(&collector, "sample = 1.0")).await;
    let ann = world.user(1);
    let unsampled = parent().replace("-01", "-00");
    ann.clone()
        .with("traceparent", &unsampled)
        .asks([1])
        .await
        .is("fwd=miss");
    ann.clone()
        .with("traceparent", "rubbish")
        .asks([1])
        .await
        .hit();
    let spans = spans(&collector, 1).await;
    assert_ne!(spans[0].ids()[0], TRACE);
    let told = world.vms.requests();
    assert_eq!(parts(told[0].values("traceparent")[0])[2], "00");
}

#[tokio::test]
async fn a_shutdown_sends_what_is_left() {
    if tool("protoc").is_none() {
        return;
    }
    let collector = collector().await;
    let vms = StandIn::new();
    let serving = vms.start().await.unwrap();
    let settings = settings(&collector, "sample = 1.0");
    let edge = TestEdge::with(&[serving.address().to_string()], &settings);
    let mut client = Client::connect(edge.address).await;
    for _ in 0..600 {
        assert_eq!(client.get("/api/v1/static/basic").await.status, 200);
    }
    let stopping = edge.stop();
    spans(&collector, 600).await;
    tokio::task::spawn_blocking(|| stopping.join().unwrap())
        .await
        .unwrap();
    // More than fit into one batch.
    assert!(collector.requests().len() > 1);
}

#[tokio::test]
async fn a_collector_that_does_not_answer_holds_up_neither_requests_nor_the_end() {
    let silent = Scripted::start(|mut connection| async move {
        connection.request().await;
        std::future::pending::<()>().await;
    })
    .await;
    let world = World::with(&settings(&silent, "sample = 1.0\ntimeout = \"10ms\"")).await;
    let ann = world.user(1);
    ann.asks([1]).await.is("fwd=miss");
    for _ in 0..50 {
        ann.asks([1]).await.hit();
    }
    let counted = Scrape::once(world.edge.admin, DROPPED, 52.0).await;
    assert_eq!(counted.value(EXPORTED), 0.0);
    ann.asks([1]).await.hit();
}

#[tokio::test]
async fn a_collector_that_is_away_is_told_of_once_and_once_when_it_is_back() {
    let is_away = Arc::new(AtomicBool::new(true));
    let collector = Scripted::start({
        let is_away = Arc::clone(&is_away);
        move |mut connection| {
            let is_away = Arc::clone(&is_away);
            async move {
                while connection.request().await.is_some() {
                    let status = match is_away.load(Ordering::SeqCst) {
                        true => "503 Service Unavailable",
                        false => "200 OK",
                    };
                    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
                    connection.wire.send(answer).await;
                }
            }
        }
    })
    .await;
    let vms = StandIn::new();
    let serving = vms.start().await.unwrap();
    let settings = format!(
        "log.access = false\n{}",
        settings(&collector, "sample = 1.0")
    );
    let service = Service::before(serving.address(), &settings).await;
    let mut client = Client::connect(service.address).await;
    for (series, times) in [(DROPPED, 2), (EXPORTED, 2)] {
        for time in 1..=times {
            assert_eq!(client.get("/api/v1/static/basic").await.status, 200);
            Scrape::once(service.admin, series, f64::from(time)).await;
        }
        is_away.store(false, Ordering::SeqCst);
    }
    let log = service.stops().await;
    let lines = |said: &str| log.lines().filter(|line| line.contains(said)).count();
    assert_eq!(lines("the collector takes no spans"), 1, "{log}");
    assert_eq!(lines("status 503"), 1, "{log}");
    assert_eq!(lines("the collector takes spans again"), 1, "{log}");
}

#[tokio::test]
async fn spans_are_made_from_a_reload_on_until_another() {
    let collector = collector().await;
    let world = World::new().await;
    let ann = world.user(1);
    ann.gets("/api/v1/static/basic").await.status(200);
    let settings = settings(&collector, "sample = 1.0");
    for (settings, spans) in [
        (settings.as_str(), 1.0),
        ("", 1.0),
        (settings.as_str(), 2.0),
    ] {
        let reload = world.edge.reload(settings);
        assert!(matches!(reload, Outcome::Applied { .. }), "{reload:?}");
        ann.gets("/api/v1/static/basic").await.status(200);
        Scrape::once(world.edge.admin, EXPORTED, spans).await;
    }
    assert_eq!(collector.requests().len(), 2);
}
