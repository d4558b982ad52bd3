//! The ids of a batch: read from a query or a JSON body, and written again for a fetch.
//!
//! PHP reads parameters generously (`%69ds[]`, `+ids[]`, `ids[a]` all reach `ids`); this module reads the plain
//! spellings only, and notices every other that would reach the same parameter, so that a request is either understood
//! as the VMS understands it or not at all. Writing is the inverse of reading.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::io::Write;

use percent_encoding::percent_decode;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::decline::{Bypass, is_credential};
use crate::config;

/// The ids of one batch: at least one, each positive and below 2⁶³, none twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedIds {
    in_order: Vec<u64>,
    ascending: Vec<u64>,
}

impl AskedIds {
    /// Takes each id once, at its first place; `None` when there is none.
    pub fn new(mut ids: Vec<u64>) -> Option<Self> {
        let mut ascending = ids.clone();
        ascending.sort_unstable();
        ascending.dedup();
        if ascending.len() < ids.len() {
            let mut seen = HashSet::with_capacity(ascending.len());
            ids.retain(|id| seen.insert(*id));
        }
        (!ids.is_empty()).then_some(Self {
            in_order: ids,
            ascending,
        })
    }

    /// As the client asked.
    pub fn in_order(&self) -> &[u64] {
        &self.in_order
    }

    /// Smallest first.
    pub fn ascending(&self) -> &[u64] {
        &self.ascending
    }

    /// How many; never 0.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.in_order.len()
    }
}

/// How a batch was written, and what it says beside its ids. All of it belongs to the key and goes with every fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// `?ids[]=1&ids[]=2`.
    Query {
        /// The other parameters, as they came, joined by `&`.
        others: Vec<u8>,
    },
    /// `{"ids":[1,2]}`.
    Body {
        /// The whole query, as it came.
        query: Vec<u8>,
        /// The other members of the object, as they came, joined by `,`.
        others: Vec<u8>,
    },
}

impl Form {
    /// The query (without question mark) and the body that ask for `ids` in this form.
    ///
    /// Brackets are percent-encoded, as RFC 3986 wants them and both mobile SDKs send them.
    pub fn write(&self, ids: &[u64], batch: &config::Batch) -> (Vec<u8>, Vec<u8>) {
        const WRITTEN: &str = "writing to a Vec cannot fail";
        let name = &batch.ids;
        match self {
            Self::Query { others } => {
                let mut query = Vec::with_capacity(ids.len() * (name.len() + 16) + others.len());
                for (n, id) in ids.iter().enumerate() {
                    let separator = if n == 0 { "" } else { "&" };
                    write!(query, "{separator}{name}%5B%5D={id}").expect(WRITTEN);
                }
                if !others.is_empty() {
                    query.push(b'&');
                    query.extend_from_slice(others);
                }
                (query, Vec::new())
            }
            Self::Body { query, others } => {
                let mut body = Vec::with_capacity(ids.len() * 12 + others.len() + name.len() + 8);
                write!(body, "{{\"{name}\":[").expect(WRITTEN);
                for (n, id) in ids.iter().enumerate() {
                    let separator = if n == 0 { "" } else { "," };
                    write!(body, "{separator}{id}").expect(WRITTEN);
                }
                body.push(b']');
                if !others.is_empty() {
                    body.push(b',');
                    body.extend_from_slice(others);
                }
                body.push(b'}');
                (query.clone(), body)
            }
        }
    }
}

/// Finds the ids in `query`, or in `body` when the query has none.
pub(super) fn read(
    query: &[u8],
    body: &[u8],
    batch: &config::Batch,
) -> Result<(AskedIds, Form), Bypass> {
    let (in_query, others) = read_query(query, batch)?;
    let (ids, form) = match (in_query.is_empty(), body.is_empty()) {
        (_, true) => (in_query, Form::Query { others }),
        (true, false) => {
            let (ids, others) = read_body(body, batch)?;
            let query = query.to_vec();
            (ids, Form::Body { query, others })
        }
        // The VMS would take the body's ids, if the body is well-formed: its business.
        (false, false) => return Err(Bypass::Body),
    };
    Ok((AskedIds::new(ids).ok_or(Bypass::Ids)?, form))
}

/// The ids of a query, and its other parameters as they came.
fn read_query(query: &[u8], batch: &config::Batch) -> Result<(Vec<u64>, Vec<u8>), Bypass> {
    let mut ids = Vec::new();
    let mut indices: Vec<u64> = Vec::new();
    let mut others = Vec::new();
    for parameter in query.split(|&byte| byte == b'&') {
        let (name, value) = match parameter.iter().position(|&byte| byte == b'=') {
            Some(end) => (&parameter[..end], &parameter[end + 1..]),
            None => (parameter, &b""[..]),
        };
        match name_of(name, &batch.ids) {
            Name::Ids(index) => {
                if ids.len() == batch.max_ids {
                    return Err(Bypass::Ids);
                }
                ids.push(canonical(value).ok_or(Bypass::Ids)?);
                if let Some(index) = index {
                    if indices.contains(&index) {
                        return Err(Bypass::Ids);
                    }
                    indices.push(index);
                }
            }
            Name::IdsOtherwise => return Err(Bypass::Ids),
            Name::Credential => return Err(Bypass::Credential),
            Name::Other => {
                if !others.is_empty() {
                    others.push(b'&');
                }
                others.extend_from_slice(parameter);
            }
        }
    }
    // `ids[]=1&ids[0]=2` is one id to PHP: the second overwrites the first.
    if !indices.is_empty() && indices.len() != ids.len() {
        return Err(Bypass::Ids);
    }
    Ok((ids, others))
}

/// What the name of a query parameter means to PHP.
enum Name {
    /// The ids, in a spelling that the edge reads: `ids[]`, or `ids[N]` with its N.
    Ids(Option<u64>),
    /// The ids, in any other spelling.
    IdsOtherwise,
    Credential,
    Other,
}

fn name_of(name: &[u8], ids: &str) -> Name {
    if let Some(rest) = name.strip_prefix(ids.as_bytes()) {
        let index = strip_bracket(rest, b'[', b"%5B")
            .and_then(|rest| strip_last_bracket(rest, b']', b"%5D"));
        match index {
            Some(b"") => return Name::Ids(None),
            Some(b"0") => return Name::Ids(Some(0)),
            Some(index) => {
                return canonical(index).map_or(Name::IdsOtherwise, |n| Name::Ids(Some(n)));
            }
            None => {}
        }
    }
    let name = php_name(name);
    if name == ids {
        Name::IdsOtherwise
    } else if is_credential(&name) {
        Name::Credential
    } else {
        Name::Other
    }
}

fn strip_bracket<'a>(name: &'a [u8], plain: u8, encoded: &[u8; 3]) -> Option<&'a [u8]> {
    match name.split_at_checked(3) {
        Some((head, rest)) if head.eq_ignore_ascii_case(encoded) => Some(rest),
        _ => name.strip_prefix(&[plain]),
    }
}

fn strip_last_bracket<'a>(name: &'a [u8], plain: u8, encoded: &[u8; 3]) -> Option<&'a [u8]> {
    match name.len().checked_sub(3).map(|at| name.split_at(at)) {
        Some((rest, tail)) if tail.eq_ignore_ascii_case(encoded) => Some(rest),
        _ => name.strip_suffix(&[plain]),
    }
}

/// The variable that PHP would put a parameter of this name into: decoded, without leading spaces, up to the first
/// pair of brackets, with dots, spaces and an unclosed bracket as underscores.
fn php_name(name: &[u8]) -> Cow<'_, str> {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if name.iter().all(plain) {
        return String::from_utf8_lossy(name);
    }
    let spaced: Vec<u8> = name
        .iter()
        .map(|&byte| if byte == b'+' { b' ' } else { byte })
        .collect();
    let decoded: Vec<u8> = percent_decode(&spaced).collect();
    let mut variable = Vec::with_capacity(decoded.len());
    let start = decoded.iter().take_while(|&&byte| byte == b' ').count();
    for (at, &byte) in decoded.iter().enumerate().skip(start) {
        match byte {
            0 => break,
            b'[' if decoded[at..].contains(&b']') => break,
            b'.' | b' ' | b'[' => variable.push(b'_'),
            byte => variable.push(byte),
        }
    }
    Cow::Owned(String::from_utf8_lossy(&variable).into_owned())
}

/// A canonical positive decimal below 2⁶³: the only spelling that means the same number to every reader.
pub(super) fn canonical(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 || digits[0] == b'0' {
        return None;
    }
    let mut number: u64 = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        number = number * 10 + u64::from(digit - b'0');
    }
    (number <= i64::MAX as u64).then_some(number)
}

/// The ids of a JSON body, and its other members as they came.
fn read_body(body: &[u8], batch: &config::Batch) -> Result<(Vec<u64>, Vec<u8>), Bypass> {
    let Members(members) = serde_json::from_slice(body).map_err(|_| Bypass::Body)?;
    let mut ids = None;
    let mut names = HashSet::new();
    let mut others = Vec::new();
    for (name, value) in &members {
        if is_credential(name) {
            return Err(Bypass::Credential);
        }
        if !names.insert(name) {
            return Err(Bypass::Body);
        }
        if *name == batch.ids {
            ids = Some(read_list(value.get(), batch.max_ids)?);
            continue;
        }
        if !others.is_empty() {
            others.push(b',');
        }
        serde_json::to_writer(&mut others, name).expect("writing a string to a Vec cannot fail");
        others.push(b':');
        others.extend_from_slice(value.get().as_bytes());
    }
    Ok((ids.ok_or(Bypass::Ids)?, others))
}

fn read_list(list: &str, max_ids: usize) -> Result<Vec<u64>, Bypass> {
    let values: Vec<&RawValue> = serde_json::from_str(list).map_err(|_| Bypass::Ids)?;
    if values.len() > max_ids {
        return Err(Bypass::Ids);
    }
    let read = |value: &&RawValue| {
        let text = value.get().as_bytes();
        let digits = match text {
            [b'"', inner @ .., b'"'] => inner,
            _ => text,
        };
        canonical(digits).ok_or(Bypass::Ids)
    };
    values.iter().map(read).collect()
}

/// The members of a JSON object in their order, each value as it came.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn batch() -> config::Batch {
        config::Batch::default()
    }

    fn query_ids(query: &str) -> Result<Vec<u64>, Bypass> {
        read(query.as_bytes(), b"", &batch()).map(|(ids, _)| ids.in_order)
    }

    fn body_ids(body: &str) -> Result<Vec<u64>, Bypass> {
        read(b"", body.as_bytes(), &batch()).map(|(ids, _)| ids.in_order)
    }

    #[test]
    fn brackets_may_be_plain_encoded_or_indexed() {
        for query in [
            "ids[]=1&ids[]=2",
            "ids%5B%5D=1&ids%5b%5D=2",
            "ids[0]=1&ids[1]=2",
            "ids[7]=1&ids%5B3%5D=2",
            "a=b&ids[]=1&&c&ids[]=2",
        ] {
            assert_eq!(query_ids(query), Ok(vec![1, 2]), "{query}");
        }
    }

    #[test]
    fn repeats_are_counted_then_taken_once() {
        assert_eq!(query_ids("ids[]=3&ids[]=1&ids[]=3"), Ok(vec![3, 1]));
        let repeated = |n| vec!["ids[]=1"; n].join("&");
        assert_eq!(query_ids(&repeated(25)), Ok(vec![1]));
        assert_eq!(query_ids(&repeated(26)), Err(Bypass::Ids));
    }

    #[test]
    fn ids_that_are_not_canonical_are_for_the_vms_to_judge() {
        for value in [
            "",
            "0",
            "007",
            "-1",
            "+1",
            "%201",
            "1.0",
            "1e0",
            "abc",
            "1%30",
            "%31",
            "1,2",
            "9223372036854775808",
            "99999999999999999999",
            "1%00",
        ] {
            assert_eq!(
                query_ids(&format!("ids[]={value}")),
                Err(Bypass::Ids),
                "{value}"
            );
        }
        assert_eq!(
            query_ids("ids[]=9223372036854775807"),
            Ok(vec![i64::MAX as u64])
        );
    }

    #[test]
    fn every_other_spelling_that_php_reads_as_ids_is_declined() {
        for query in [
            "",
            "ids=1",
            "ids",
            "ids[]",
            "ids[a]=1",
            "ids[01]=1",
            "ids[]=1&ids[0]=2",
            "ids[0]=1&ids[0]=3",
            "ids[][]=1",
            "ids[]=1&ids=2",
            "ids[]=1&%69ds[]=2",
            "ids[]=1&+ids[]=2",
            "ids[]=1&%20ids=2",
            "ids[]=1&ids%00x=2",
            "ids[0][x]=1",
            "foo=bar",
        ] {
            assert_eq!(query_ids(query), Err(Bypass::Ids), "{query}");
        }
    }

    #[test]
    fn another_credential_in_the_query_or_the_body_is_declined() {
        for name in [
            "token",
            "api_token",
            "access_token",
            "api.token",
            "api+token",
            "api[token",
            "%74oken",
            "Token",
            "token[]",
        ] {
            assert_eq!(
                query_ids(&format!("ids[]=1&{name}=x")),
                Err(Bypass::Credential),
                "{name}"
            );
        }
        assert_eq!(
            body_ids(r#"{"ids":[1],"api_token":"x"}"#),
            Err(Bypass::Credential)
        );
        assert_eq!(
            body_ids(r#"{"ids":[1],"\u0074oken":"x"}"#),
            Err(Bypass::Credential)
        );
    }

    #[test]
    fn a_json_body_lists_numbers_or_strings() {
        assert_eq!(body_ids(r#"{"ids":[1,"3"]}"#), Ok(vec![1, 3]));
        assert_eq!(
            body_ids(" { \"hl\" : \"ru\", \"ids\" : [ 2 ] } "),
            Ok(vec![2])
        );
    }

    #[test]
    fn a_json_body_of_another_shape_is_declined() {
        for (body, reason) in [
            ("{\"ids\":[1,2", Bypass::Body),
            ("[1,2]", Bypass::Body),
            ("{\"ids\":[1],\"ids\":[2]}", Bypass::Body),
            ("{\"ids\":[1],\"x\":1,\"x\":2}", Bypass::Body),
            ("{\"ids\":[1]} {}", Bypass::Body),
            ("{\"ids\":[]}", Bypass::Ids),
            ("{\"ids\":[1.0]}", Bypass::Ids),
            ("{\"ids\":[1e0]}", Bypass::Ids),
            ("{\"ids\":[\"\\u0031\"]}", Bypass::Ids),
            ("{\"ids\":[null]}", Bypass::Ids),
            ("{\"ids\":[[1]]}", Bypass::Ids),
            ("{\"ids\":{\"0\":1}}", Bypass::Ids),
            ("{\"ids\":\"1\"}", Bypass::Ids),
            ("{}", Bypass::Ids),
            ("{\"ids\":[18446744073709551616]}", Bypass::Ids),
        ] {
            assert_eq!(body_ids(body), Err(reason), "{body}");
        }
        let deep = format!(
            "{{\"ids\":[1],\"x\":{}{}}}",
            "[".repeat(500),
            "]".repeat(500)
        );
        assert!(body_ids(&deep).is_err() || body_ids(&deep) == Ok(vec![1]));
    }

    #[test]
    fn a_body_beside_ids_in_the_query_is_declined() {
        assert_eq!(
            read(b"ids[]=3", br#"{"ids":[1]}"#, &batch()),
            Err(Bypass::Body)
        );
    }

    #[test]
    fn other_parameters_are_kept_as_they_came_in_their_order() {
        let (_, form) = read(b"hl=en&ids[]=1&Foo=%62&&x", b"", &batch()).unwrap();
        assert_eq!(
            form,
            Form::Query {
                others: b"hl=en&Foo=%62&&x".to_vec()
            }
        );
    }

    proptest! {
        #[test]
        fn what_is_written_reads_as_the_same_ids_and_form(
            ids in proptest::collection::vec(1u64..=i64::MAX as u64, 1..=25),
            others in proptest::collection::vec("[a-h]{1,3}=[a-z%0-9]{0,4}", 0..3),
            in_body in any::<bool>(),
        ) {
            let others = others.join("&").into_bytes();
            let form = if in_body {
                Form::Body { query: others, others: br#""hl":"ru""#.to_vec() }
            } else {
                Form::Query { others }
            };
            let ids = AskedIds::new(ids).unwrap();
            let (query, body) = form.write(ids.in_order(), &batch());
            prop_assert_eq!(read(&query, &body, &batch()), Ok((ids, form)));
        }

        #[test]
        fn no_query_or_body_makes_reading_panic(query in any::<Vec<u8>>(), body in any::<Vec<u8>>()) {
            let _ = read(&query, &body, &batch());
        }
    }
}
