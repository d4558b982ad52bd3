//! What an operator wants purged, read strictly from the body of `POST /purge`: whatever is not understood is refused
//! before anything is done, since a purge that does less than was meant leaves what should be gone.
//!
//! `admin/purge` is the handler, and `batch::invalidate` does it.
//!
//! A token is never shown again, and neither is anything of a body that was refused: it may hold one.

use serde_json::Value;

use super::body::{Fields, NotUnderstood, shown};
use crate::cache::marks::Strength;
use crate::config::{Batch, EndpointId};
use crate::request::MAX_TOKEN_BYTES;

/// Largest body that is read, in bytes.
pub const MAX_BODY_BYTES: usize = 64 << 10;

/// Most ids in one purge, repeats counted.
const MAX_ITEMS: usize = 1_000;

const FIELDS: &str = "items, batch, user, everything, mode";

/// A purge, understood: at least one of items, user and everything.
pub struct Purge {
    /// Whether what is purged is gone or stale.
    pub strength: Strength,
    /// Ids, each once, ascending.
    pub items: Vec<u64>,
    /// Whose ids they are; none if there are no ids.
    pub endpoints: Vec<EndpointId>,
    /// All items of whoever holds this token.
    pub user: Option<Holder>,
    /// Everything.
    pub everything: bool,
}

/// A user's token, which does not show itself.
pub struct Holder(String);

impl Holder {
    /// The token.
    pub fn token(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl Purge {
    /// Reads a body; `batches` are the endpoints that there are.
    ///
    /// # Errors
    ///
    /// What is wrong with the first field that is.
    pub fn read(body: &[u8], batches: &[Batch]) -> Result<Self, NotUnderstood> {
        let Fields(fields) = Fields::read(body, r#"{"items":[180]}"#)?;
        let mut purge = Self {
            strength: Strength::Hard,
            items: Vec::new(),
            endpoints: batches.iter().map(|batch| batch.endpoint).collect(),
            user: None,
            everything: false,
        };
        for (name, value) in &fields {
            match name.as_str() {
                "items" => purge.items = items(value)?,
                "batch" => purge.endpoints = vec![endpoint(value, batches)?],
                "user" => purge.user = Some(holder(value)?),
                "everything" => purge.everything = flag(value)?,
                "mode" => purge.strength = strength(value)?,
                _ => {
                    return Err(NotUnderstood::new(
                        shown(name),
                        "is no field of a purge",
                        FIELDS,
                    ));
                }
            }
        }
        if purge.items.is_empty() {
            if fields.iter().any(|(name, _)| name == "batch") {
                let reason = "says whose ids the items are, and there are none";
                return Err(NotUnderstood::new(
                    "batch",
                    reason,
                    "only together with items",
                ));
            }
            purge.endpoints.clear();
            if purge.user.is_none() && !purge.everything {
                let reason = "says nothing that could be purged";
                return Err(NotUnderstood::new(
                    "the body",
                    reason,
                    "at least one of items, user, everything",
                ));
            }
        }
        Ok(purge)
    }
}

fn items(value: &Value) -> Result<Vec<u64>, NotUnderstood> {
    const ALLOWED: &str = "a list of 1 to 1000 ids, positive integers below 2^63";
    let wrong = |field: &str, reason: &str| Err(NotUnderstood::new(field, reason, ALLOWED));
    let Value::Array(list) = value else {
        return wrong("items", "is not a list");
    };
    if list.is_empty() {
        return wrong("items", "is empty");
    }
    if list.len() > MAX_ITEMS {
        return wrong("items", &format!("holds {} ids", list.len()));
    }
    let mut items = Vec::with_capacity(list.len());
    for (place, value) in list.iter().enumerate() {
        match value.as_i64().and_then(|id| u64::try_from(id).ok()) {
            Some(id) if id > 0 => items.push(id),
            _ => return wrong(&format!("items[{place}]"), "is not a positive integer"),
        }
    }
    items.sort_unstable();
    items.dedup();
    Ok(items)
}

fn endpoint(value: &Value, batches: &[Batch]) -> Result<EndpointId, NotUnderstood> {
    let path = value.as_str();
    let known = batches
        .iter()
        .find(|batch| Some(batch.path.as_str()) == path);
    known.map(|batch| batch.endpoint).ok_or_else(|| {
        let paths: Vec<&str> = batches.iter().map(|batch| batch.path.as_str()).collect();
        NotUnderstood::new("batch", "is the path of no [[batch]]", paths.join(", "))
    })
}

fn holder(value: &Value) -> Result<Holder, NotUnderstood> {
    const ALLOWED: &str =
        "the user's token alone, without Bearer: 1 to 8192 characters of visible ASCII, no comma";
    let wrong = |reason: &str| Err(NotUnderstood::new("user", reason, ALLOWED));
    let Value::String(token) = value else {
        return wrong("is not a string");
    };
    if token.is_empty() || token.len() > MAX_TOKEN_BYTES {
        return wrong(&format!("holds {} bytes", token.len()));
    }
    if !token
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b',')
    {
        return wrong("holds a space, a comma or other characters than visible ASCII");
    }
    Ok(Holder(token.clone()))
}

fn flag(value: &Value) -> Result<bool, NotUnderstood> {
    let not_one = || NotUnderstood::new("everything", "is not a boolean", "true, false");
    value.as_bool().ok_or_else(not_one)
}

fn strength(value: &Value) -> Result<Strength, NotUnderstood> {
    let known = Strength::ALL
        .into_iter()
        .find(|strength| Some(strength.name()) == value.as_str());
    known.ok_or_else(|| NotUnderstood::new("mode", "is none of the choices", "hard, soft"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn batches() -> Vec<Batch> {
        let text = "upstream.servers = [\"vms:1\"]\n[[batch]]\npath = \"/a/shows\"\n[[batch]]\npath = \"/b/shows\"\nname = \"b\"";
        Config::parse(text, "test").unwrap().batches
    }

    fn read(body: &str) -> Result<Purge, String> {
        Purge::read(body.as_bytes(), &batches()).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn understood(body: &str) -> Purge {
        read(body).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn selectors_may_be_combined() {
        let purge = understood(r#" {"mode":"soft","items":[181,180,181],"user":"tok-en"} "#);
        assert_eq!(
            (purge.strength, purge.items),
            (Strength::Soft, vec![180, 181])
        );
        assert_eq!(
            purge.endpoints,
            ["/a/shows", "/b/shows"].map(EndpointId::of)
        );
        assert_eq!(purge.user.expect("a token").token(), b"tok-en");
        assert!(!purge.everything);

        let purge =
            understood(r#"{"items":[9223372036854775807],"batch":"/b/shows","everything":false}"#);
        assert_eq!(
            (purge.strength, purge.items),
            (Strength::Hard, vec![(1 << 63) - 1])
        );
        assert_eq!(purge.endpoints, [EndpointId::of("/b/shows")]);

        let purge = understood(r#"{"everything":true}"#);
        assert!(purge.everything && purge.items.is_empty() && purge.endpoints.is_empty());
    }

    #[test]
    fn whatever_is_not_understood_is_refused_with_its_field_the_reason_and_what_is_allowed() {
        let ids = "allowed: a list of 1 to 1000 ids, positive integers below 2^63";
        let token = "allowed: the user's token alone, without Bearer: 1 to 8192 characters of visible ASCII, no comma";
        let object =
            r#"the body: is not a JSON object; allowed: an object such as {"items":[180]}"#;
        let nothing = "the body: says nothing that could be purged; allowed: at least one of items, user, everything";
        for (body, message) in [
            ("", object.to_owned()),
            ("[]", object.to_owned()),
            ("\"canary\"", object.to_owned()),
            ("{\"items\":[1]} x", object.to_owned()),
            ("{\"items\":[1]", object.to_owned()),
            ("{}", nothing.to_owned()),
            (r#"{"everything":false}"#, nothing.to_owned()),
            (r#"{"mode":"hard"}"#, nothing.to_owned()),
            (r#"{"item":[1]}"#, format!("item: is no field of a purge; allowed: {FIELDS}")),
            (r#"{"canary-1":[1]}"#, format!("a field: is no field of a purge; allowed: {FIELDS}")),
            (r#"{"items":[1],"items":[2]}"#, "items: is given twice; allowed: each field once".to_owned()),
            (r#"{"items":{}}"#, format!("items: is not a list; {ids}")),
            (r#"{"items":null}"#, format!("items: is not a list; {ids}")),
            (r#"{"items":[]}"#, format!("items: is empty; {ids}")),
            (r#"{"items":[1,0]}"#, format!("items[1]: is not a positive integer; {ids}")),
            (r#"{"items":[-1]}"#, format!("items[0]: is not a positive integer; {ids}")),
            (r#"{"items":["1"]}"#, format!("items[0]: is not a positive integer; {ids}")),
            (r#"{"items":[1.0]}"#, format!("items[0]: is not a positive integer; {ids}")),
            (r#"{"items":[9223372036854775808]}"#, format!("items[0]: is not a positive integer; {ids}")),
            (r#"{"items":[1],"batch":"/c"}"#, "batch: is the path of no [[batch]]; allowed: /a/shows, /b/shows".to_owned()),
            (r#"{"items":[1],"batch":1}"#, "batch: is the path of no [[batch]]; allowed: /a/shows, /b/shows".to_owned()),
            (r#"{"user":"t","batch":"/a/shows"}"#, "batch: says whose ids the items are, and there are none; allowed: only together with items".to_owned()),
            (r#"{"user":7}"#, format!("user: is not a string; {token}")),
            (r#"{"user":""}"#, format!("user: holds 0 bytes; {token}")),
            (r#"{"user":"Bearer canary"}"#, format!("user: holds a space, a comma or other characters than visible ASCII; {token}")),
            (r#"{"user":"a,b"}"#, format!("user: holds a space, a comma or other characters than visible ASCII; {token}")),
            (r#"{"everything":1}"#, "everything: is not a boolean; allowed: true, false".to_owned()),
            (r#"{"everything":true,"mode":"HARD"}"#, "mode: is none of the choices; allowed: hard, soft".to_owned()),
        ] {
            assert_eq!(read(body).err(), Some(message), "{body}");
        }
    }

    #[test]
    fn ids_and_tokens_have_limits() {
        let list = |count: usize| format!("{{\"items\":[{}]}}", vec!["7"; count].join(","));
        assert_eq!(understood(&list(MAX_ITEMS)).items, [7]);
        let many = read(&list(MAX_ITEMS + 1)).err().expect("too many");
        assert!(many.starts_with("items: holds 1001 ids; "), "{many}");
        let token = |length: usize| format!("{{\"user\":\"{}\"}}", "x".repeat(length));
        assert!(understood(&token(MAX_TOKEN_BYTES)).user.is_some());
        assert!(read(&token(MAX_TOKEN_BYTES + 1)).is_err());
        let deep = format!(
            "{{\"items\":{}1{}}}",
            "[".repeat(30_000),
            "]".repeat(30_000)
        );
        assert!(read(&deep).is_err());
    }
}
