//! Taking the VMS's answer apart into items, or finding why it cannot be.
//!
//! Only a complete 200 whose body is a JSON array of objects with distinct integer ids, all of them asked for, is
//! taken apart. Each item stays the bytes that the VMS sent: JSON is never written anew, so `\/` and `\uXXXX` survive.

use std::ops::Range;

use http::{HeaderMap, HeaderName, StatusCode, header};
use pingora_http::ResponseHeader;

use super::forward;
use super::json::Json;
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
    /// `Vary: *`, or a `Vary` on what no key covers.
    #[error("the VMS says Vary: *, or names what tells one request or address from another")]
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
/// `Accept-Encoding` is met by what fetches ask for, which is the same for everybody; `Authorization`, `Cookie` and
/// `Host` by what a key is.
///
/// # Errors
///
/// [`Unfit::VaryNew`] names those that it does not cover; [`Unfit::VaryAny`] if it can cover none.
pub fn covered_by_key(headers: &HeaderMap, keyed: &[HeaderName]) -> Result<(), Unfit> {
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
        if ALWAYS.contains(&name) || keyed.contains(&name) {
            continue;
        }
        // No two requests have the same, or it is not the client's own that the VMS sees.
        if correlation::is_own(&name) || forward::tells_address(&name) {
            return Err(Unfit::VaryAny);
        }
        new.push(name);
    }
    if new.is_empty() || planted!(StoresWhatVaries) {
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
///
/// # Errors
///
/// [`Unfit::Shape`] if it is not JSON or not such an array, [`Unfit::Id`] if an object has not just one positive integer
/// under `id_member`.
pub fn split(body: &[u8], id_member: &str) -> Result<Items, Unfit> {
    let mut json = Json::new(body).ok_or(Unfit::Shape)?;
    let mut items = Vec::new();
    let mut fault = None;
    let read = json.array(|json| {
        let start = json.place();
        if json.peek() != Some(b'{') {
            fault.get_or_insert(Unfit::Shape);
            return json.skip();
        }
        let mut ids = Ids::None;
        json.object(|json, name| {
            let start = json.place();
            json.skip()?;
            ids = match is_called(name, id_member) {
                Some(false) => return Some(()),
                Some(true) if ids == Ids::None => Ids::One(&body[start..json.place()]),
                // Twice, or a name that might be the same.
                _ => Ids::Unclear,
            };
            Some(())
        })?;
        match ids.one() {
            Some(id) => items.push((id, start..json.place())),
            None => fault = fault.take().or(Some(Unfit::Id)),
        }
        Some(())
    });
    if read.is_none() || !json.ends() {
        return Err(Unfit::Shape);
    }
    fault.map_or(Ok(items), Err)
}

/// Whether a member's name, as it is written, is this one; `None` if nobody can tell.
fn is_called(written: &[u8], name: &str) -> Option<bool> {
    if !written.contains(&b'\\') {
        return Some(written == name.as_bytes());
    }
    let quoted = [b"\"", written, b"\""].concat();
    let read: String = serde_json::from_slice(&quoted).ok()?;
    Some(read == name)
}

/// What an object has under the name of the id.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ids<'a> {
    None,
    One(&'a [u8]),
    Unclear,
}

impl Ids<'_> {
    /// The one that there is, if it is a number above zero that is written as an integer.
    fn one(self) -> Option<u64> {
        let Self::One(text) = self else {
            return None;
        };
        let text = std::str::from_utf8(text).ok()?;
        text.parse().ok().filter(|number| *number > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::*;
    use proptest::sample::Index;
    use serde::Deserialize;
    use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
    use serde_json::value::RawValue;

    use super::*;

    /// The same as [`split`], read twice and by another parser.
    fn split_by_serde(body: &[u8]) -> Result<Items, Unfit> {
        let objects: Vec<&RawValue> = serde_json::from_slice(body).map_err(|_| Unfit::Shape)?;
        let items = objects.into_iter().map(|object| {
            let text = object.get();
            if !text.starts_with('{') {
                return Err(Unfit::Shape);
            }
            let mut object = serde_json::Deserializer::from_str(text);
            let ids = object.deserialize_map(FindIds).map_err(|_| Unfit::Id)?;
            let start = text.as_ptr().addr() - body.as_ptr().addr();
            match ids[..] {
                [id] if id > 0 => Ok((id, start..start + text.len())),
                _ => Err(Unfit::Id),
            }
        });
        items.collect()
    }

    struct FindIds;

    impl<'de> Visitor<'de> for FindIds {
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
        for uncovered in [
            "X-Request-Id",
            "X-Forwarded-For",
            "hl, x_forwarded_for",
            "X-Real-IP",
        ] {
            assert_eq!(
                judged(200, &[JSON, ("Vary", uncovered)], "[]"),
                Err(Unfit::VaryAny),
                "{uncovered}"
            );
        }
        let body = response(200, &[JSON, ("Vary", "X-Real-IP")]);
        let configured = [HeaderName::from_static("x-real-ip")];
        assert_eq!(covered_by_key(&body.headers, &configured), Ok(()));
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

    fn item() -> impl Strategy<Value = String> {
        let name = prop_oneof![
            4 => Just("id"), 1 => Just("i\\u0064"), 1 => Just("i\\ud800"), 4 => Just("x"), 1 => Just("Id"), 1 => Just(""),
        ];
        let value = prop_oneof![
            6 => "[1-9][0-9]{0,3}", 1 => Just("0".to_owned()), 1 => Just("18446744073709551616".to_owned()),
            1 => "-[0-9]", 1 => "[0-9]\\.[0-9]", 1 => "\"[0-9\\[{]\"", 1 => Just("{\"id\":7}".to_owned()),
            1 => Just("[{}]".to_owned()), 1 => Just("null".to_owned()),
        ];
        let member = (name, value).prop_map(|(name, value)| format!("\"{name}\": {value}"));
        let members = proptest::collection::vec(member, 0..4);
        prop_oneof![
            8 => members.prop_map(|members| format!("{{{}}}", members.join(","))),
            1 => Just("7".to_owned()), 1 => Just("[]".to_owned()),
        ]
    }

    proptest! {
        #[test]
        fn items_are_found_as_another_parser_finds_them(
            items in proptest::collection::vec(item(), 0..4),
            change in prop::option::of((any::<Index>(), 0usize..2, prop::option::of(any::<u8>()))),
        ) {
            let mut body = format!("[{}]", items.join(" ,\n")).into_bytes();
            if let Some((at, taken, put)) = change {
                let at = at.index(body.len());
                body.splice(at..at + taken, put);
            }
            prop_assert_eq!(split(&body, "id"), split_by_serde(&body), "{}", body.escape_ascii());
        }

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
