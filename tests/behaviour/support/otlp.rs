//! A collector that takes OTLP over HTTP, and what it was sent, read by `protoc` with OpenTelemetry's own definitions.
//!
//! Nothing of the edge's is used to read it, so that what is read is what any collector reads.

use std::io::Write;
use std::process::{Command, Stdio};

use super::scripted::{Request, Scripted};
use super::tools::tool;

const OK: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n";

/// A collector that takes everything.
pub(crate) async fn collector() -> Scripted {
    Scripted::answering(OK).await
}

/// A message: its fields, in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Message(Vec<(String, Field)>);

#[derive(Clone, Debug, PartialEq)]
enum Field {
    /// As text format has it, without quotes.
    Value(Vec<u8>),
    Message(Message),
}

/// A span, with what is told of its service.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) message: Message,
    pub(crate) resource: Message,
}

/// The spans that a collector was sent so far.
pub(crate) fn spans(collector: &Scripted) -> Vec<Span> {
    let mut spans = Vec::new();
    for request in collector.requests() {
        let export = decode(&request);
        for resource_spans in export.all("resource_spans") {
            let resource = resource_spans.all("resource").remove(0);
            for scope_spans in resource_spans.all("scope_spans") {
                assert_eq!(scope_spans.all("scope")[0].text("name"), "vms-edge");
                spans.extend(scope_spans.all("spans").into_iter().map(|message| Span {
                    message,
                    resource: resource.clone(),
                }));
            }
        }
    }
    spans
}

fn decode(request: &Request) -> Message {
    assert_eq!(request.line(), "POST /v1/traces HTTP/1.1");
    assert_eq!(
        request.head.one("content-type"),
        Some("application/x-protobuf")
    );
    let mut protoc = Command::new(tool("protoc").expect("a test without it has ended"))
        .arg("--decode=opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest")
        .arg(concat!(
            "-I",
            env!("CARGO_MANIFEST_DIR"),
            "/tests/data/otlp"
        ))
        .arg("opentelemetry/proto/collector/trace/v1/trace_service.proto")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("protoc is there");
    let mut input = protoc.stdin.take().expect("it is piped");
    input.write_all(&request.body).expect("protoc reads all");
    drop(input);
    let output = protoc.wait_with_output().expect("protoc ends");
    assert!(output.status.success(), "{:?}", request.body);
    let text = String::from_utf8(output.stdout).expect("text format is text");
    let mut lines = text.lines();
    Message::read(&mut lines)
}

impl Message {
    /// Reads text format, one field a line, up to the end of the message.
    fn read<'a>(lines: &mut impl Iterator<Item = &'a str>) -> Self {
        let mut fields = Vec::new();
        while let Some(line) = lines.next().map(str::trim) {
            if line == "}" {
                break;
            }
            let (name, field) = match line.strip_suffix(" {") {
                Some(name) => (name, Field::Message(Self::read(lines))),
                None => {
                    let (name, value) = line.split_once(": ").expect("a name and a value");
                    (name, Field::Value(unquoted(value)))
                }
            };
            let is_known = !name.starts_with(|first: char| first.is_ascii_digit());
            assert!(is_known, "the definitions have no field {name}");
            fields.push((name.to_owned(), field));
        }
        Self(fields)
    }

    /// The messages in the fields of this name.
    pub(crate) fn all(&self, name: &str) -> Vec<Message> {
        let named = self.0.iter().filter(|field| field.0 == name);
        let messages = named.map(|(_, field)| match field {
            Field::Message(message) => message.clone(),
            Field::Value(_) => panic!("{name} is a value"),
        });
        messages.collect()
    }

    /// The value of a field; empty if it is not there.
    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        let found = self.0.iter().find(|field| field.0 == name);
        match found.map(|found| &found.1) {
            Some(Field::Value(value)) => value.clone(),
            Some(Field::Message(_)) => panic!("{name} is a message"),
            None => Vec::new(),
        }
    }

    pub(crate) fn text(&self, name: &str) -> String {
        String::from_utf8(self.bytes(name)).expect("it is text")
    }

    pub(crate) fn number(&self, name: &str) -> u64 {
        self.text(name).parse().expect("it is a number")
    }

    /// The value of one of its attributes.
    pub(crate) fn attribute(&self, key: &str) -> Option<String> {
        let attributes = self.all("attributes").into_iter();
        let found = attributes.filter(|attribute| attribute.text("key") == key);
        let mut values = found.map(|attribute| attribute.all("value").remove(0));
        let (value, another) = (values.next()?, values.next());
        assert!(
            another.is_none() && value.0.len() == 1,
            "{key} is there once"
        );
        Some(value.text(&value.0[0].0))
    }
}

impl Span {
    pub(crate) fn attribute(&self, key: &str) -> Option<String> {
        self.message.attribute(key)
    }

    /// Trace, span and parent, in hexadecimal.
    pub(crate) fn ids(&self) -> [String; 3] {
        ["trace_id", "span_id", "parent_span_id"].map(|name| {
            let bytes = self.message.bytes(name);
            bytes.iter().map(|byte| format!("{byte:02x}")).collect()
        })
    }
}

/// What text format quotes, as it was.
fn unquoted(value: &str) -> Vec<u8> {
    let Some(quoted) = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')) else {
        return value.as_bytes().to_vec();
    };
    let mut bytes = Vec::new();
    let mut rest = quoted.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next().expect("something is escaped") {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            first @ b'0'..=b'7' => {
                let digits = [first, rest.next().unwrap(), rest.next().unwrap()];
                let digit =
                    |value: u8, digit: &u8| value.wrapping_mul(8).wrapping_add(digit - b'0');
                digits.iter().fold(0, digit)
            }
            other => other,
        });
    }
    bytes
}
