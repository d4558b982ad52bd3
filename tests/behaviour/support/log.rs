//! Access lines, read back from a log in either format.

use serde_json::Value;

/// What an access line must say: method, path, status, bytes, cache result, reason of a bypass, and whether there was
/// an upstream time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Line {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) status: u64,
    pub(crate) bytes: u64,
    pub(crate) cache: String,
    pub(crate) bypass: String,
    pub(crate) upstream: bool,
}

/// A log in this format has exactly these access lines, in whatever order, and only lines by the rules of its format.
#[track_caller]
pub(crate) fn assert_has_lines(format: &str, log: &str, mut expected: Vec<Line>) {
    let mut lines = match format {
        "json" => access_lines(log),
        _ => access_lines_in_text(log),
    };
    lines.sort();
    expected.sort();
    for (line, expected) in lines.iter().zip(&expected) {
        assert_eq!(line, expected);
    }
    assert_eq!(lines.len(), expected.len());
}

/// The access lines of a log in JSON, of which every line must be an object.
fn access_lines(log: &str) -> Vec<Line> {
    let lines = log.lines().map(|line| -> Value {
        let value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(matches!(value, Value::Object(_)), "{line}");
        value
    });
    let access = lines.filter(|line| line["target"] == "vms_edge::access");
    let read = access.map(|line| {
        let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        assert!(
            line["time_us"].as_u64().is_some_and(|time| time > 0),
            "{line}"
        );
        assert_eq!(line["level"], "INFO");
        assert!(line["timestamp"].is_string());
        Line {
            method: text("method"),
            path: text("path"),
            status: line["status"].as_u64().expect("a status"),
            bytes: line["bytes"].as_u64().expect("bytes"),
            cache: text("cache"),
            bypass: text("bypass"),
            upstream: line["upstream_us"].is_u64(),
        }
    });
    read.collect()
}

/// The same of a log in text, of which every line must begin with a time and a level.
fn access_lines_in_text(log: &str) -> Vec<Line> {
    let lines = log.lines().filter_map(|line| {
        let (time, rest) = line.split_once(' ').expect("a time");
        assert!(time.starts_with("20") && time.ends_with('Z'), "{line}");
        let (level, rest) = rest.trim_start().split_once(' ').expect("a level");
        assert!(
            ["TRACE", "DEBUG", "INFO", "WARN", "ERROR"].contains(&level),
            "{line}"
        );
        rest.strip_prefix("vms_edge::access: request ")
    });
    let read = lines.map(|fields| {
        let field = |name: &str| {
            let mut fields = fields.split(' ').filter_map(|field| field.split_once('='));
            fields.find(|field| field.0 == name).map(|field| field.1)
        };
        let text = |name| field(name).unwrap_or("\"\"").trim_matches('"').to_owned();
        let number = |name| field(name)?.parse().ok();
        assert!(
            number("time_us").is_some_and(|time: u64| time > 0),
            "{fields}"
        );
        Line {
            method: text("method"),
            path: text("path"),
            status: number("status").expect("a status"),
            bytes: number("bytes").expect("bytes"),
            cache: text("cache"),
            bypass: text("bypass"),
            upstream: number("upstream_us").is_some(),
        }
    });
    read.collect()
}
