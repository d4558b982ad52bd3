//! Spans as OTLP has them: `ExportTraceServiceRequest` of opentelemetry-proto 1.x, as far as the edge fills it in.
//!
//! The numbers are those of the official definitions, by which a test has an official decoder read what is sent.

use std::time::{Duration, UNIX_EPOCH};

use prost::{Message, Oneof};

use super::{Kind, Span, Value};

/// `SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK`: whether the parent is another process's is known.
const REMOTE_IS_KNOWN: u32 = 0x100;

/// `SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK`: it is.
const IS_REMOTE: u32 = 0x200;

/// `STATUS_CODE_ERROR`.
const ERROR: i32 = 2;

#[derive(Clone, PartialEq, Message)]
pub(super) struct Request {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<SpanMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct SpanMessage {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
    #[prost(fixed32, tag = "16")]
    flags: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(oneof = "Choice", tags = "1, 3, 4")]
    value: Option<Choice>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Choice {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Number(i64),
    #[prost(double, tag = "4")]
    Seconds(f64),
}

/// `ExportTraceServiceResponse`: what the collector could not use.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Response {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected_spans: i64,
}

impl Response {
    /// How many of `sent` spans it has not taken.
    pub(super) fn rejected(&self, sent: usize) -> usize {
        let rejected = self.partial_success.as_ref();
        let rejected = rejected.map_or(0, |partial| partial.rejected_spans);
        usize::try_from(rejected).unwrap_or(0).min(sent)
    }
}

impl Request {
    /// With these spans of a service that is called so; `instance` tells this process from others.
    pub(super) fn of(spans: Vec<Span>, service_name: &str, instance: &str) -> Self {
        let attribute = |key, value: &str| key_value(key, Value::from(value.to_owned()));
        let version = env!("CARGO_PKG_VERSION");
        let resource = Resource {
            attributes: vec![
                attribute("service.name", service_name),
                attribute("service.version", version),
                attribute("service.instance.id", instance),
            ],
        };
        let scope = Scope {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: version.to_owned(),
        };
        Self {
            resource_spans: vec![ResourceSpans {
                resource: Some(resource),
                scope_spans: vec![ScopeSpans {
                    scope: Some(scope),
                    spans: spans.into_iter().map(message).collect(),
                }],
            }],
        }
    }
}

fn message(span: Span) -> SpanMessage {
    let ended = span.ended.duration_since(UNIX_EPOCH).unwrap_or_default();
    let parent = span.place.parent;
    let is_remote = match span.kind {
        Kind::Server if parent.is_some() => IS_REMOTE,
        Kind::Server | Kind::Client => 0,
    };
    SpanMessage {
        trace_id: span.place.trace.as_bytes().to_vec(),
        span_id: span.place.span.as_bytes().to_vec(),
        parent_span_id: parent.map_or_else(Vec::new, |parent| parent.as_bytes().to_vec()),
        name: span.name,
        kind: match span.kind {
            Kind::Server => 2,
            Kind::Client => 3,
        },
        start_time_unix_nano: nanoseconds(ended.saturating_sub(span.took)),
        end_time_unix_nano: nanoseconds(ended),
        attributes: span
            .attributes
            .into_iter()
            .map(|(key, value)| key_value(key, value))
            .collect(),
        status: span.has_failed.then_some(Status { code: ERROR }),
        flags: u32::from(span.place.flags()) | REMOTE_IS_KNOWN | is_remote,
    }
}

fn key_value(key: &str, value: Value) -> KeyValue {
    let choice = match value {
        Value::Text(text) => Choice::Text(text.into_owned()),
        Value::Number(number) => Choice::Number(number),
        Value::Seconds(seconds) => Choice::Seconds(seconds),
    };
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(choice),
        }),
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
