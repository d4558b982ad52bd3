//! What operators send: `POST /purge` and `POST /explain`.
//!
//! Input: a body. Each reads it; the model of a purge is `serde_json`'s value of it. Whatever is refused is never quoted: the
//! word [`CANARY`] stands for a token.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde_json::Value;
use vms_edge::config::{Batch, Config, EndpointId};
use vms_edge::ops::explain::Supposed;
use vms_edge::ops::purge::Purge;

/// In bodies, what nobody may be shown.
const CANARY: &str = "canary";

const PATHS: [&str; 2] = ["/a/shows", "/b/shows"];

static BATCHES: LazyLock<Vec<Batch>> = LazyLock::new(|| {
    let batch = |path: &str| format!("[[batch]]\npath = \"{path}\"\nname = \"{}\"\n", &path[1..2]);
    let text = format!(
        "upstream.servers = [\"127.0.0.1:9\"]\n{}",
        PATHS.map(batch).concat()
    );
    let config = Config::parse(&text, "fuzz").expect("it is a good configuration");
    config.batches
});

/// Runs one input.
///
/// # Panics
///
/// If something else is purged than was said, or a refusal shows what it refuses.
pub fn admin(data: &[u8]) {
    match Purge::read(data, &BATCHES) {
        Ok(purge) => is_what_was_said(&purge, data),
        Err(refusal) => is_discreet(&refusal.to_string()),
    }
    match Supposed::read(data) {
        Ok(supposed) => is_one_request(&supposed),
        Err(refusal) => is_discreet(&refusal.to_string()),
    }
}

fn is_discreet(refusal: &str) {
    // The name of a field may be told if it is but a short word.
    let (field, rest) = refusal.split_once(':').unwrap_or_default();
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    let may_be_told = field.len() <= 16 && field.bytes().all(is_word);
    assert!(may_be_told || !field.contains(CANARY), "{refusal}");
    assert!(!rest.contains(CANARY), "{refusal}");
    assert!(refusal.chars().all(|c| !c.is_control()), "{refusal}");
    assert!(refusal.len() < 1000, "{refusal}");
}

/// A purge does what its body says: no less, and nothing that it does not say.
fn is_what_was_said(purge: &Purge, body: &[u8]) {
    let body: Value = serde_json::from_slice(body).expect("what is understood is JSON");
    let fields = body.as_object().expect("what is understood is an object");
    let known = ["items", "batch", "user", "everything", "mode"];
    assert!(
        fields.keys().all(|name| known.contains(&name.as_str())),
        "{body}"
    );

    let said: BTreeSet<u64> = match fields.get("items") {
        None => BTreeSet::new(),
        Some(items) => {
            let items = items.as_array().expect("what is understood is a list");
            items
                .iter()
                .map(|id| id.as_u64().expect("an id is a number"))
                .collect()
        }
    };
    assert!(said.iter().all(|id| *id > 0 && *id <= i64::MAX as u64));
    assert!(said.iter().eq(&purge.items), "{body}");

    let paths = match fields.get("batch") {
        Some(path) => vec![path.as_str().expect("a path is a string")],
        None => PATHS.to_vec(),
    };
    let endpoints: Vec<EndpointId> = paths.into_iter().map(EndpointId::of).collect();
    match said.is_empty() {
        true => assert!(purge.endpoints.is_empty(), "{body}"),
        false => assert_eq!(purge.endpoints, endpoints, "{body}"),
    }

    let user = purge.user.as_ref().map(|holder| holder.token());
    let token = fields
        .get("user")
        .map(|token| token.as_str().expect("a token is a string"));
    assert_eq!(user, token.map(str::as_bytes), "{body}");
    let everything = fields.get("everything").is_some_and(|all| *all == true);
    assert_eq!(purge.everything, everything, "{body}");
    let mode = fields
        .get("mode")
        .map_or("hard", |mode| mode.as_str().expect("a mode is a string"));
    assert_eq!(purge.strength.name(), mode, "{body}");
    assert!(
        !said.is_empty() || user.is_some() || everything,
        "it says nothing"
    );
}

/// What is explained is one request: its header, as it would have come, has the fields that are looked at, and no more.
fn is_one_request(supposed: &Supposed) {
    let mut fields = [httparse::EMPTY_HEADER; 1024];
    let mut parsed = httparse::Request::new(&mut fields);
    let head = [&supposed.received[..], b"\r\n"].concat();
    match parsed.parse(&head) {
        Ok(httparse::Status::Complete(length)) => assert_eq!(length, head.len(), "it goes on"),
        Ok(httparse::Status::Partial) => panic!("a header has an end"),
        Err(httparse::Error::TooManyHeaders) => return,
        Err(fault) => panic!("{fault} in {:?}", head.escape_ascii().to_string()),
    }
    let request = &supposed.request;
    assert_eq!(parsed.method, Some(request.method.as_str()));
    let count = |name: &str| request.headers.get_all(name).iter().count();
    for field in parsed.headers.iter() {
        let same = parsed.headers.iter();
        let same = same.filter(|other| other.name.eq_ignore_ascii_case(field.name));
        assert_eq!(same.count(), count(field.name), "{}", field.name);
    }
    assert_eq!(parsed.headers.len(), request.headers.len());
    let is_framed = count("content-length") > 0 || count("transfer-encoding") > 0;
    assert!(
        is_framed || supposed.body.is_empty(),
        "a body without a length"
    );
}
