//! The ids of a batch: read from a query or a JSON body, and written again for a fetch.
//!
//! PHP reads parameters generously (`%69ds[]`, `+ids[]`, `ids[a]` all reach `ids`); this module reads the plain
//! spellings only, and notices every other that would reach the same parameter, so that a request is either understood
//! as the VMS understands it or not at all. Writing is the inverse of reading.

mod body;
mod query;

use std::collections::HashSet;
use std::io::Write;

use super::decline::Bypass;
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
    let (in_query, others) = query::read(query, batch)?;
    let (ids, form) = match (in_query.is_empty(), body.is_empty()) {
        (_, true) => (in_query, Form::Query { others }),
        (true, false) => {
            let (ids, others) = body::read(body, batch)?;
            let query = query.to_vec();
            (ids, Form::Body { query, others })
        }
        // The VMS would take the body's ids, if the body is well-formed: its business.
        (false, false) => return Err(Bypass::Body),
    };
    Ok((AskedIds::new(ids).ok_or(Bypass::Ids)?, form))
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
    fn more_parameters_than_php_looks_at_are_declined() {
        let others = "a&".repeat(999);
        assert_eq!(query_ids(&format!("{others}ids[]=1")), Ok(vec![1]));
        assert_eq!(query_ids(&format!("{others}a&ids[]=1")), Err(Bypass::Ids));
        assert_eq!(
            query_ids(&format!("ids[]=1&{others}ids[]=2")),
            Err(Bypass::Ids)
        );
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
