//! Taking the VMS's answer apart into items, or finding why it cannot be.
//!
//! Only a complete 200 whose body is a JSON array of objects with distinct integer ids, all of them asked for, is
//! taken apart. Each item stays the bytes that the VMS sent: JSON is never written anew, so `\/` and `\uXXXX` survive.

use std::ops::Range;

use http::{HeaderMap, HeaderName, StatusCode, header};
use pingora_http::ResponseHeader;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::request::correlation;
use crate::request::fields::{essence, has_member, members};

/// Why a 200 of the VMS is not stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Another status than 200.
    #[error("status {0} is not 200")]
    Status(u16),
    /// Not a JSON media type, or none.
    #[error("the content type is not JSON")]
    ContentType,
    /// A content coding that nobody asked for.
    #[error("the content is coded")]
    ContentEncoding,
    /// `Cache-Control: no-store`.
    #[error("the VMS says no-store")]
    NoStore,
    /// `Vary: *`.
    #[error("the VMS says Vary: *")]
    VaryAny,
    /// `Vary` names headers that do not belong to the key yet.
    #[error("Vary names headers that are not in the key: {0:?}")]
    VaryNew(Vec<HeaderName>),
    /// Not a JSON array of objects.
    #[error("the body is not a JSON array of objects")]
    Shape,
    /// An object without one integer id.
    #[error("an object has no integer id")]
    Id,
    /// The same id twice.
    #[error("an id is answered twice")]
    Twice,
    /// An id that was not asked for.
    #[error("an id is answered that was not asked")]
    Unasked,
    /// The VMS refused the user while the answer was on its way.
    #[error("the user was refused meanwhile")]
    Refused,
}

impl Unfit {
    /// Whether a 200 is not what it should be, as when something before the VMS answers in its place.
    pub fn is_malformed(&self) -> bool {
        match self {
            Self::ContentType
            | Self::ContentEncoding
            | Self::Shape
            | Self::Id
            | Self::Twice
            | Self::Unasked => true,
            Self::Status(_) | Self::NoStore | Self::VaryAny | Self::VaryNew(_) | Self::Refused => {
                false
            }
        }
    }
}

/// Id and place in the body of each item, in the order in which they were answered.
pub type Items = Vec<(u64, Range<usize>)>;

/// Takes apart the answer to a fetch of `asked` (ascending) under a key that covers the headers `keyed`.
///
/// # Errors
///
/// Why it may not be stored.
pub fn take_apart(
    response: &ResponseHeader,
    body: &[u8],
    id_member: &str,
    asked: &[u64],
    keyed: &[HeaderName],
) -> Result<Items, Unfit> {
    storable(response, keyed)?;
    let items = split(body, id_member)?;
    let mut ids: Vec<u64> = items.iter().map(|(id, _)| *id).collect();
    ids.sort_unstable();
    if ids.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Unfit::Twice);
    }
    if ids.iter().any(|id| asked.binary_search(id).is_err()) {
        return Err(Unfit::Unasked);
    }
    Ok(items)
}

fn storable(response: &ResponseHeader, keyed: &[HeaderName]) -> Result<(), Unfit> {
    if response.status != StatusCode::OK {
        return Err(Unfit::Status(response.status.as_u16()));
    }
    let headers = &response.headers;
    if !headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| is_json(value.as_bytes()))
    {
        return Err(Unfit::ContentType);
    }
    if members(headers, header::CONTENT_ENCODING)
        .any(|coding| !coding.eq_ignore_ascii_case(b"identity"))
    {
        return Err(Unfit::ContentEncoding);
    }
    if has_member(headers, header::CACHE_CONTROL, b"no-store") {
        return Err(Unfit::NoStore);
    }
    covered_by_key(headers, keyed)
}

/// Whether the key covers every header that `Vary` names (RFC 9110, 12.5.5).
///
/// `Accept-Encoding` is met by asking for the identity coding, which everybody takes; `Authorization`, `Cookie` and
/// `Host` by what a key is.
fn covered_by_key(headers: &HeaderMap, keyed: &[HeaderName]) -> Result<(), Unfit> {
    const ALWAYS: [HeaderName; 4] = [
        header::ACCEPT_ENCODING,
        header::AUTHORIZATION,
        header::COOKIE,
        header::HOST,
    ];
    let mut new = Vec::new();
    for member in members(headers, header::VARY) {
        if member == b"*" {
            return Err(Unfit::VaryAny);
        }
        if member.is_empty() {
            continue;
        }
        let name = HeaderName::from_bytes(member).map_err(|_| Unfit::VaryAny)?;
        // No two requests have the same.
        if correlation::is_own(&name) {
            return Err(Unfit::VaryAny);
        }
        if !ALWAYS.contains(&name) && !keyed.contains(&name) {
            new.push(name);
        }
    }
    if new.is_empty() {
        Ok(())
    } else {
        Err(Unfit::VaryNew(new))
    }
}

/// `application/json`, or a `+json` type, whatever its parameters.
fn is_json(content_type: &[u8]) -> bool {
    let essence = essence(content_type);
    essence == b"application/json"
        || (essence.starts_with(b"application/") && essence.ends_with(b"+json"))
}

/// Finds the objects of a JSON array, and the id of each.
pub fn split(body: &[u8], id_member: &str) -> Result<Items, Unfit> {
    let objects: Vec<&RawValue> = serde_json::from_slice(body).map_err(|_| Unfit::Shape)?;
    let mut items = Vec::with_capacity(objects.len());
    for object in objects {
        let text = object.get();
        if !text.starts_with('{') {
            return Err(Unfit::Shape);
        }
        let id = id_of(text, id_member)?;
        let start = text.as_ptr().addr() - body.as_ptr().addr();
        items.push((id, start..start + text.len()));
    }
    Ok(items)
}

/// The one positive integer under `id_member`.
fn id_of(object: &str, id_member: &str) -> Result<u64, Unfit> {
    let mut deserializer = serde_json::Deserializer::from_str(object);
    let ids = deserializer
        .deserialize_map(IdVisitor { id_member })
        .map_err(|_| Unfit::Id)?;
    match ids[..] {
        [id] if id > 0 => Ok(id),
        _ => Err(Unfit::Id),
    }
}

struct IdVisitor<'a> {
    id_member: &'a str,
}

impl<'de> Visitor<'de> for IdVisitor<'_> {
    type Value = Vec<u64>;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("an object with an integer id")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut ids = Vec::with_capacity(1);
        while let Some(Name(name)) = map.next_key()? {
            if name == self.id_member {
                ids.push(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(ids)
    }
}

/// A member's name, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] std::borrow::Cow<'a, str>);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn response(status: u16, fields: &[(&'static str, &str)]) -> ResponseHeader {
        let mut response = ResponseHeader::build(status, None).unwrap();
        for (name, value) in fields {
            response.append_header(*name, *value).unwrap();
        }
        response
    }

    fn judged(status: u16, fields: &[(&'static str, &str)], body: &str) -> Result<Items, Unfit> {
        let keyed = [HeaderName::from_static("hl")];
        take_apart(
            &response(status, fields),
            body.as_bytes(),
            "id",
            &[1, 2, 3],
            &keyed,
        )
    }

    const JSON: (&str, &str) = ("Content-Type", "application/json");

    #[test]
    fn an_array_of_asked_objects_is_taken_apart_byte_for_byte() {
        let body = "[{\"id\":2,\"t\":\"\\u041f \\/ [],{}\"},{\"x\":{\"id\":9},\"id\":1}]";
        let items = judged(200, &[JSON], body).unwrap();
        let texts: Vec<_> = items
            .iter()
            .map(|(id, range)| (*id, &body[range.clone()]))
            .collect();
        assert_eq!(
            texts,
            [
                (2, "{\"id\":2,\"t\":\"\\u041f \\/ [],{}\"}"),
                (1, "{\"x\":{\"id\":9},\"id\":1}")
            ]
        );
        assert_eq!(judged(200, &[JSON], "[]"), Ok(vec![]));
    }

    #[test]
    fn only_a_200_with_json_is_stored() {
        assert_eq!(judged(206, &[JSON], "[]"), Err(Unfit::Status(206)));
        assert_eq!(
            judged(200, &[("Content-Type", "text/html")], "[]"),
            Err(Unfit::ContentType)
        );
        assert_eq!(judged(200, &[], "[]"), Err(Unfit::ContentType));
        assert!(
            judged(
                200,
                &[("Content-Type", "Application/JSON; charset=utf-8")],
                "[]"
            )
            .is_ok()
        );
        assert!(judged(200, &[("Content-Type", "application/vnd.x+json")], "[]").is_ok());
        assert_eq!(
            judged(200, &[JSON, ("Content-Encoding", "gzip")], "[]"),
            Err(Unfit::ContentEncoding)
        );
    }

    #[test]
    fn no_store_stops_storing_and_laravels_no_cache_private_does_not() {
        assert_eq!(
            judged(200, &[JSON, ("Cache-Control", "private, No-Store")], "[]"),
            Err(Unfit::NoStore)
        );
        assert!(judged(200, &[JSON, ("Cache-Control", "no-cache, private")], "[]").is_ok());
    }

    #[test]
    fn vary_stops_storing_unless_the_key_covers_it() {
        assert!(
            judged(
                200,
                &[JSON, ("Vary", "Accept-Encoding, HL"), ("Vary", "Cookie")],
                "[]"
            )
            .is_ok()
        );
        assert_eq!(
            judged(200, &[JSON, ("Vary", "hl, *")], "[]"),
            Err(Unfit::VaryAny)
        );
        assert_eq!(
            judged(200, &[JSON, ("Vary", "X-Request-Id")], "[]"),
            Err(Unfit::VaryAny)
        );
        assert_eq!(
            judged(200, &[JSON, ("Vary", "X-Region")], "[]"),
            Err(Unfit::VaryNew(vec![HeaderName::from_static("x-region")]))
        );
    }

    #[test]
    fn a_body_of_another_shape_is_not_stored() {
        for (body, unfit) in [
            ("", Unfit::Shape),
            ("{\"data\":[]}", Unfit::Shape),
            ("[1]", Unfit::Shape),
            ("[[]]", Unfit::Shape),
            ("[{\"id\":1}", Unfit::Shape),
            ("[{\"id\":1}] x", Unfit::Shape),
            ("[{\"id\":\"1\"}]", Unfit::Id),
            ("[{\"id\":1.0}]", Unfit::Id),
            ("[{\"id\":-1}]", Unfit::Id),
            ("[{\"id\":0}]", Unfit::Id),
            ("[{\"id\":null}]", Unfit::Id),
            ("[{\"uid\":1}]", Unfit::Id),
            ("[{\"id\":1,\"i\\u0064\":2}]", Unfit::Id),
            ("[{\"id\":1},{\"id\":1}]", Unfit::Twice),
            ("[{\"id\":1},{\"id\":7}]", Unfit::Unasked),
        ] {
            assert_eq!(judged(200, &[JSON], body), Err(unfit), "{body}");
        }
    }

    proptest! {
        #[test]
        fn no_body_makes_splitting_panic(body in any::<Vec<u8>>(), text in "[\\[\\]{}:,\"id0-9 ]{0,60}") {
            let _ = split(&body, "id");
            let _ = split(text.as_bytes(), "id");
        }

        #[test]
        fn items_joined_again_are_the_body(ids in proptest::collection::btree_set(1u64..1000, 0..20)) {
            let items: Vec<String> = ids.iter().map(|id| format!("{{\"id\":{id},\"n\":[{{\"id\":0}}]}}")).collect();
            let body = format!("[{}]", items.join(","));
            let parts = split(body.as_bytes(), "id").unwrap();
            let texts: Vec<&str> = parts.iter().map(|(_, range)| &body[range.clone()]).collect();
            prop_assert_eq!(format!("[{}]", texts.join(",")), body.clone());
            prop_assert_eq!(parts.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ids.into_iter().collect::<Vec<_>>());
        }
    }
}
