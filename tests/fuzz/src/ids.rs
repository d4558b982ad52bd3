//! The ids of a batch: whatever the edge understands, the VMS understands alike, and so it does whatever the edge writes.
//!
//! Input: a query; after the first line break, if there is one, a JSON body. The VMS is the stand-in, which reads both by
//! PHP's own rules.

use std::sync::LazyLock;

use http::{HeaderMap, Method};
use serde_json::Value;
use vms_edge::config::{Batch, Config, Headers};
use vms_edge::demo::vms::{SeenBatch, StandIn};
use vms_edge::request::key::KeyMaker;
use vms_edge::request::{BatchRequest, Endpoint, Scheme, examine, query};

use crate::message;

const PATH: &str = "/api/v1/intercom/shows";

/// What a client sends beside its ids. Its language may be in the query or the body.
const FIELDS: &str = "Authorization: Bearer tok-1-phone\nX-Client: ios\nX-UUID: phone\nHost: vms";

/// Runs one input.
///
/// # Panics
///
/// If edge and VMS understand it differently.
pub fn ids(data: &[u8]) {
    let (asked, body) = message::cut(data, b"\n");
    let body = body.unwrap_or_default();
    let mut fields = message::fields(FIELDS.as_bytes());
    if !body.is_empty() {
        let framing = format!(
            "Content-Type: application/json\nContent-Length: {}",
            body.len()
        );
        fields.extend(message::fields(framing.as_bytes()));
    }
    let target = [PATH.as_bytes(), b"?", asked].concat();
    let Some(request) = message::get(&target, &fields) else {
        return;
    };
    let edge = &*EDGE;
    let checked = examine(&request, &edge.headers).expect("the header is a widget's");
    let endpoint = Endpoint {
        batch: &edge.batch,
        vary: &[],
        peer_is_trusted: false,
        scheme: Scheme::Http,
        era: 0,
    };
    let understood = checked.read(&request, body, &endpoint, &edge.keys);
    if body.is_empty()
        && let Some(plain) = plainly_asked(query(&request), &edge.batch)
    {
        let read = understood.as_ref().map(|batch| batch.ids.in_order());
        assert_eq!(read, Ok(&plain[..]), "it was asked in the plainest form");
    }
    let Ok(batch) = understood else {
        return;
    };
    assert!(
        !names_credential(query(&request)),
        "there is another credential"
    );
    if !body.is_empty() {
        let read = in_json(body, &edge.batch);
        assert!(read.is_none_or(|ids| ids == batch.ids.in_order()));
    }
    // The stand-in takes targets as text.
    if let Ok(target) = std::str::from_utf8(request.raw_path()) {
        understood_alike(edge, &request.headers, target, body, &batch);
    }
}

/// What does not change from one input to the next.
struct Edge {
    batch: Batch,
    headers: Headers,
    keys: KeyMaker,
    vms: StandIn,
}

static EDGE: LazyLock<Edge> = LazyLock::new(|| {
    let config = Config::parse("upstream.servers = [\"127.0.0.1:9\"]", "fuzz");
    let mut config = config.expect("it is a good configuration");
    Edge {
        batch: config.batches.remove(0),
        headers: config.headers,
        keys: KeyMaker::new().expect("the system has randomness"),
        vms: StandIn::without_record(),
    }
});

/// The VMS finds the same ids in a request as it came as the edge does; if it finds none, it finds none in what the edge
/// would send either. And what it would answer is the same.
fn understood_alike(
    edge: &Edge,
    headers: &HeaderMap,
    target: &str,
    body: &[u8],
    batch: &BatchRequest,
) {
    let asked = batch.ids.in_order();
    let seen = |target: &str, body: &[u8]| edge.vms.batch(&Method::GET, target, headers, body);
    let came = seen(target, body);
    if let Some(SeenBatch { ids, .. }) = &came {
        assert_eq!(ids, asked, "the VMS reads others");
    }
    let answer = |target: &str, body: &[u8]| {
        let answer = edge.vms.answer(&Method::GET, target, headers, body);
        (answer.status, answer.headers, answer.body)
    };
    let (half, _) = asked.split_at(asked.len().div_ceil(2));
    for part in [asked, half, &asked[..1]] {
        let (query, body) = batch.form.write(part, &edge.batch);
        let Ok(query) = String::from_utf8(query) else {
            return;
        };
        let fetched = seen(&format!("{PATH}?{query}"), &body);
        let ids = fetched.map(|batch| batch.ids);
        assert_eq!(ids, came.as_ref().map(|_| part.to_vec()), "{query}");
    }
    let (query, written) = batch.form.write(asked, &edge.batch);
    if let Ok(query) = String::from_utf8(query) {
        let fetched = answer(&format!("{PATH}?{query}"), &written);
        assert_eq!(fetched, answer(target, body), "{query}");
    }
}

/// The ids of a query that nobody could misread: each parameter is either `ids[]` in one of its spellings, or has a name of
/// small letters that means nothing else.
fn plainly_asked(query: &[u8], batch: &Batch) -> Option<Vec<u64>> {
    let query = std::str::from_utf8(query).ok()?;
    let mut ids = Vec::new();
    for parameter in query.split('&') {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if ["ids[]", "ids%5B%5D", "ids%5b%5d"].contains(&name) {
            let id: u64 = value.parse().ok()?;
            let is_plain = id > 0 && id <= i64::MAX as u64 && id.to_string() == value;
            is_plain.then(|| ids.push(id))?;
        } else if name == "ids"
            || name.ends_with("token")
            || !name.bytes().all(|byte| byte.is_ascii_lowercase())
        {
            return None;
        }
    }
    if ids.is_empty() || ids.len() > batch.max_ids || query.len() > 2000 {
        return None;
    }
    let mut once = Vec::new();
    ids.retain(|id| {
        !once.contains(id) && {
            once.push(*id);
            true
        }
    });
    Some(ids)
}

/// Whether PHP would find a credential among the parameters of a query.
fn names_credential(query: &[u8]) -> bool {
    query.split(|&byte| byte == b'&').any(|parameter| {
        let (name, _) = message::cut(parameter, b"=");
        let name = decoded(name);
        let (name, _) = message::cut(&name, b"\0");
        let name = String::from_utf8_lossy(name);
        let name = name.trim_start_matches(' ');
        // Brackets that are closed make a list of it; those that are not are part of the name.
        let stem = match name.split_once('[') {
            Some((stem, rest)) if rest.contains(']') => stem,
            _ => name,
        };
        let variable = stem.replace([' ', '.', '['], "_").to_ascii_lowercase();
        ["token", "api_token", "access_token"].contains(&variable.as_str())
    })
}

/// Without percent signs and pluses that stand for something else.
fn decoded(name: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut at = 0;
    while let Some(&byte) = name.get(at) {
        let digits = name.get(at + 1..at + 3);
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let digits = digits.filter(|digits| !digits.starts_with('+'));
        let value = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(match (byte, value) {
            (b'%', Some(value)) => {
                at += 2;
                value
            }
            (b'+', _) => b' ',
            (byte, _) => byte,
        });
        at += 1;
    }
    decoded
}

/// The ids of a JSON body that the edge understood, as another parser reads it; `None` if that takes less for JSON, as the
/// VMS does too, which then answers nobody.
fn in_json(body: &[u8], batch: &Batch) -> Option<Vec<u64>> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let ids = body[&batch.ids].as_array().cloned().unwrap_or_default();
    let read = |id: &Value| match id {
        Value::String(text) => text.parse().unwrap_or_default(),
        id => id.as_u64().unwrap_or_default(),
    };
    let mut once = Vec::new();
    for id in ids.iter().map(read) {
        if !once.contains(&id) {
            once.push(id);
        }
    }
    Some(once)
}
