//! Spans: what operators' tracing tools are told of requests and fetches.
//!
//! Whoever has a span to tell puts it in a queue and goes on; a task of its own ([`Export`]) sends what is there to the
//! collector. The queue is bounded: a collector that is slow or away costs spans, which are counted, and nothing else.
//!
//! No span names a user, a token, an id or a query.

mod export;
mod otlp;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use tokio::sync::mpsc;

pub use self::export::Export;
use super::metrics::{Metrics, SpanResult};
use crate::config;
use crate::request::trace::{Context, Place};

/// Most spans that wait for the collector; beyond them, spans are dropped and counted.
pub const MAX_WAITING: usize = 4096;

/// One span, ended.
#[derive(Clone, Debug)]
pub struct Span {
    /// Its place in its trace.
    pub place: Place,
    /// Whose part it is.
    pub kind: Kind,
    /// What was done: of few values, as OpenTelemetry asks.
    pub name: String,
    /// When it ended.
    pub ended: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// Whether it failed.
    pub has_failed: bool,
    /// The rest, under OpenTelemetry's names where there are some, else under `vms_edge`.
    pub attributes: Vec<(&'static str, Value)>,
}

/// Whose part a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Answering a request.
    Server,
    /// Sending one.
    Client,
}

/// An attribute's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Words.
    Text(Cow<'static, str>),
    /// A whole number.
    Number(i64),
    /// A time, in seconds.
    Seconds(f64),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<Duration> for Value {
    fn from(time: Duration) -> Self {
        Self::Seconds(time.as_secs_f64())
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

/// Where spans are put.
pub struct Spans {
    queue: mpsc::Sender<Span>,
    metrics: Arc<Metrics>,
}

impl Spans {
    /// An empty queue; what is put in can be taken out at the other end.
    pub fn new(metrics: Arc<Metrics>) -> (Self, mpsc::Receiver<Span>) {
        let (queue, other_end) = mpsc::channel(MAX_WAITING);
        (Self { queue, metrics }, other_end)
    }

    /// Puts a span in the queue, or drops it if that is full.
    pub fn record(&self, span: Span) {
        if self.queue.try_send(span).is_err() {
            self.metrics.spans(SpanResult::Dropped, 1);
        }
    }
}

/// The edge's place in the trace of a request with these headers; `None` while no spans are made.
///
/// Whether it is sampled is decided once for a whole trace, where that begins. A trusted proxy has decided already, and its
/// word holds; of all others it would be anybody's word, with which to have everything recorded, so that the share
/// decides.
pub fn begin(
    tracing: &config::Tracing,
    headers: &HeaderMap,
    peer_is_trusted: bool,
) -> Option<Place> {
    tracing.endpoint.as_ref()?;
    let is_drawn = || fastrand::f64() < tracing.sample;
    Some(match Context::of(headers) {
        Context::Of(parent) if peer_is_trusted => Place::below(Some(parent)),
        Context::Of(parent) => Place::below(Some(parent)).sampled(is_drawn()),
        Context::Absent | Context::Malformed => Place::below(None).sampled(is_drawn()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::store::Store;
    use crate::config::Config;

    fn tracing(settings: &str) -> config::Tracing {
        let text = format!("upstream.servers = [\"127.0.0.1:9\"]\n[tracing]\n{settings}");
        Config::parse(&text, "test").unwrap().tracing
    }

    fn headers(flags: &str) -> HeaderMap {
        let parent = format!("00-{}-{}-{flags}", "1".repeat(32), "2".repeat(16));
        HeaderMap::from_iter([("traceparent".parse().unwrap(), parent.parse().unwrap())])
    }

    #[test]
    fn the_share_decides_where_a_trace_begins_and_a_trusted_proxys_word_before_it() {
        let none = HeaderMap::new();
        assert_eq!(begin(&tracing("sample = 1.0"), &none, true), None);
        let of = |sample: f64| tracing(&format!("endpoint = \"http://a\"\nsample = {sample:?}"));
        let is_sampled = |sample, headers: &HeaderMap, is_trusted| {
            let place = begin(&of(sample), headers, is_trusted);
            place.expect("spans are made").is_sampled()
        };
        for is_trusted in [true, false] {
            assert!(is_sampled(1.0, &none, is_trusted) && !is_sampled(0.0, &none, is_trusted));
        }
        assert!(is_sampled(0.0, &headers("01"), true) && !is_sampled(1.0, &headers("00"), true));
        assert!(!is_sampled(0.0, &headers("01"), false) && is_sampled(1.0, &headers("00"), false));
        let sampled = (0..10_000)
            .filter(|_| is_sampled(0.25, &none, false))
            .count();
        assert!((2_000..3_000).contains(&sampled), "{sampled}");
    }

    #[test]
    fn what_is_too_much_for_the_queue_is_dropped_and_counted() {
        let metrics = Arc::new(Metrics::new());
        let (spans, mut other_end) = Spans::new(Arc::clone(&metrics));
        let span = Span {
            place: Place::below(None),
            kind: Kind::Server,
            name: "GET".to_owned(),
            ended: SystemTime::now(),
            took: Duration::ZERO,
            has_failed: false,
            attributes: Vec::new(),
        };
        for _ in 0..MAX_WAITING + 7 {
            spans.record(span.clone());
        }
        let usage = Store::new(1 << 20, Duration::ZERO).usage();
        let text = metrics.render(usage, 0);
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("vms_edge_spans_total{result=\"dropped\"} 7\n"));
        assert!(other_end.try_recv().is_ok());
    }
}
