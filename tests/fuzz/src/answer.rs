//! The VMS's answer: what of it may be stored, and where its items stand.
//!
//! Input of [`answer`]: the fields of an answer as lines of `Name: value`, perhaps a status before them, then an empty line and
//! the body; of [`split`]: a body alone. The model reads the fields word by word, and the body with `serde_json`.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use vms_edge::origin::answer::{self, Items, Unfit};

use crate::message;

/// What was asked for.
const ASKED: [u64; 4] = [1, 2, 3, 180];

/// The fields that the key covers.
const KEYED: [&str; 2] = ["hl", "x-uuid"];

/// Runs one input.
///
/// # Panics
///
/// If the edge stores what the model does not, or the other way round, or gives another reason.
pub fn answer(data: &[u8]) {
    let (head, body) = message::cut(data, b"\n\n");
    let (status, _) = message::cut(head, b"\n");
    let status = std::str::from_utf8(status).unwrap_or_default();
    let status = status.parse().unwrap_or(200);
    let Some(response) = message::answer(status, &message::fields(head)) else {
        return;
    };
    let body = body.unwrap_or_default();
    let keyed = KEYED.map(HeaderName::from_static);
    let taken = answer::take_apart(&response, body, "id", &ASKED, &keyed);
    assert_eq!(taken, judged(status, &response.headers, body));
}

/// Runs one input.
///
/// # Panics
///
/// If the edge finds other items in a body than another parser.
pub fn split(data: &[u8]) {
    let found = answer::split(data, "id");
    assert_eq!(found, split_by_serde(data));
    let Ok(items) = found else {
        return;
    };
    for (id, place) in items {
        let item: serde_json::Value = match serde_json::from_slice(&data[place]) {
            Ok(item) => item,
            // That of its parser is nested deeper than some take.
            Err(_) => continue,
        };
        assert_eq!(item["id"].as_u64(), Some(id));
    }
}

fn judged(status: u16, headers: &HeaderMap, body: &[u8]) -> Result<Items, Unfit> {
    if status != 200 {
        return Err(Unfit::Status(status));
    }
    let content_type = lines(headers, "content-type");
    let content_type = content_type.first().map(String::as_str).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default();
    let essence = essence.trim_matches(is_space);
    let is_json = match essence.split_once('/') {
        Some(("application", kind)) => kind == "json" || kind.ends_with("+json"),
        _ => false,
    };
    if !is_json {
        return Err(Unfit::ContentType);
    }
    let codings = list(headers, "content-encoding");
    if codings.iter().any(|coding| coding != "identity") {
        return Err(Unfit::ContentEncoding);
    }
    if list(headers, "cache-control").contains(&"no-store".to_owned()) {
        return Err(Unfit::NoStore);
    }
    vary(headers)?;
    let items = split_by_serde(body)?;
    for (n, (id, _)) in items.iter().enumerate() {
        if items[..n].iter().any(|(other, _)| other == id) {
            return Err(Unfit::Twice);
        }
    }
    if items.iter().any(|(id, _)| !ASKED.contains(id)) {
        return Err(Unfit::Unasked);
    }
    Ok(items)
}

/// What is not in the key, and not told apart by what a key is.
fn vary(headers: &HeaderMap) -> Result<(), Unfit> {
    let mut new = Vec::new();
    for name in list(headers, "vary") {
        let covered = [
            "accept-encoding",
            "authorization",
            "cookie",
            "host",
            "",
            KEYED[0],
            KEYED[1],
        ];
        let of_one_request = ["x-request-id", "traceparent", "tracestate"];
        let of_one_address = ["x-forwarded-for", "x-real-ip"];
        let is_uncovered = |name: &HeaderName| {
            of_one_request.contains(&name.as_str())
                || of_one_address.contains(&name.as_str().replace('_', "-").as_str())
        };
        if covered.contains(&name.as_str()) {
            continue;
        }
        match HeaderName::from_bytes(name.as_bytes()) {
            Ok(name) if name != "*" && !is_uncovered(&name) => new.push(name),
            _ => return Err(Unfit::VaryAny),
        }
    }
    match new.is_empty() {
        true => Ok(()),
        false => Err(Unfit::VaryNew(new)),
    }
}

/// The same as the edge's own, by another parser, which reads twice.
fn split_by_serde(body: &[u8]) -> Result<Items, Unfit> {
    let objects: Vec<&RawValue> = serde_json::from_slice(body).map_err(|_| Unfit::Shape)?;
    let items = objects.into_iter().map(|object| {
        let text = object.get();
        if !text.starts_with('{') {
            return Err(Unfit::Shape);
        }
        let mut object = serde_json::Deserializer::from_str(text);
        let ids = object.deserialize_map(Ids).map_err(|_| Unfit::Id)?;
        let start = text.as_ptr().addr() - body.as_ptr().addr();
        match ids[..] {
            [id] if id > 0 => Ok((id, start..start + text.len())),
            _ => Err(Unfit::Id),
        }
    });
    items.collect()
}

/// Everything that an object has under the name `id`.
struct Ids;

impl<'de> Visitor<'de> for Ids {
    type Value = Vec<u64>;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        #[derive(Deserialize)]
        struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

        let mut ids = Vec::new();
        while let Some(Name(name)) = map.next_key()? {
            match name == "id" {
                true => ids.push(map.next_value()?),
                false => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(ids)
    }
}

/// The lines of a field in small letters, each byte a character.
fn lines(headers: &HeaderMap, name: &str) -> Vec<String> {
    let lines = headers.get_all(name).iter();
    let text = |line: &[u8]| {
        line.iter()
            .map(|&byte| char::from(byte))
            .collect::<String>()
    };
    lines
        .map(|line| text(line.as_bytes()).to_ascii_lowercase())
        .collect()
}

/// The members of a list, over all its lines.
fn list(headers: &HeaderMap, name: &str) -> Vec<String> {
    if !headers.contains_key(name) {
        return Vec::new();
    }
    let all = lines(headers, name).join(",");
    all.split(',')
        .map(|member| member.trim_matches(is_space).to_owned())
        .collect()
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t')
}
