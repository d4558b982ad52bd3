//! What an answer has to be.

use std::cell::Cell;
use std::io::Read;
use std::sync::Arc;

use brotli_decompressor::Decompressor;
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use serde::Deserialize;

use super::answer::{Answer, Coding, Framing};

/// Answers that are looked through are one in so many; the head and the length of each are looked at.
const LOOKED_THROUGH: u32 = 64;

/// What an answer has to be, beside complete and a 200.
#[derive(Clone, Debug)]
pub(crate) enum Expected {
    /// These bytes, in this coding.
    Exactly(Bytes, Coding),
    /// A JSON array of objects with these ids, in any order.
    Ids(Arc<[u64]>),
    /// A JSON array of objects with some of these ids, or with none: not all need be the user's.
    Among(Arc<[u64]>),
}

/// What is wrong with an answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Wrong {
    #[error("the status is {0}")]
    Status(u16),
    #[error("the body has {is} bytes instead of {expected}")]
    Length { is: usize, expected: usize },
    #[error("the body is not what the VMS answers")]
    Body,
    #[error("the body is empty")]
    Empty,
    #[error("the content coding is {0:?}")]
    Coding(Coding),
    #[error("the body is no array of objects with the ids that were asked for")]
    Ids,
}

impl Wrong {
    /// A short word for counts.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Status(_) => "status",
            Self::Length { .. } | Self::Body | Self::Empty => "body",
            Self::Coding(_) => "coding",
            Self::Ids => "ids",
        }
    }
}

impl Expected {
    pub(crate) fn judge(&self, answer: &Answer<'_>) -> Result<(), Wrong> {
        let head = answer.head;
        if head.status != 200 {
            return Err(Wrong::Status(head.status));
        }
        if answer.body.is_empty() {
            return Err(Wrong::Empty);
        }
        let looks_through = looks_through();
        match self {
            Self::Exactly(_, coding) if head.coding != *coding => Err(Wrong::Coding(head.coding)),
            Self::Exactly(bytes, Coding::Identity) => {
                let (is, expected) = (answer.body.len(), bytes.len());
                match head.framing {
                    Framing::Length(_) if is != expected => Err(Wrong::Length { is, expected }),
                    _ if looks_through && answer.content() != *bytes => Err(Wrong::Body),
                    _ => Ok(()),
                }
            }
            Self::Exactly(bytes, _) if looks_through => match decoded(answer) {
                Some(content) if content == *bytes => Ok(()),
                _ => Err(Wrong::Body),
            },
            Self::Exactly(..) => Ok(()),
            Self::Ids(expected) if looks_through => match ids(answer) {
                Some(ids) if has_all(&ids, expected) => Ok(()),
                _ => Err(Wrong::Ids),
            },
            Self::Among(expected) if looks_through => match ids(answer) {
                Some(ids) if ids.iter().all(|id| expected.contains(id)) => Ok(()),
                _ => Err(Wrong::Ids),
            },
            Self::Ids(_) | Self::Among(_) => Ok(()),
        }
    }
}

/// Whether it is the turn of an answer to be looked through; the first one of each thread is.
fn looks_through() -> bool {
    thread_local!(static SEEN: Cell<u32> = const { Cell::new(0) });
    let seen = SEEN.get();
    SEEN.set((seen + 1) % LOOKED_THROUGH);
    seen == 0
}

/// The body as the VMS sent it, if its coding is known.
pub(crate) fn decoded(answer: &Answer<'_>) -> Option<Vec<u8>> {
    let content = answer.content();
    let mut bytes = Vec::new();
    match answer.head.coding {
        Coding::Identity => return Some(content),
        Coding::Gzip => MultiGzDecoder::new(&content[..]).read_to_end(&mut bytes),
        Coding::Brotli => Decompressor::new(&content[..], 4096).read_to_end(&mut bytes),
        Coding::Other => return None,
    }
    .ok()?;
    Some(bytes)
}

/// The ids of an answer, if it is an array of objects that have some.
fn ids(answer: &Answer<'_>) -> Option<Vec<u64>> {
    #[derive(Deserialize)]
    struct Item {
        id: u64,
    }
    let items: Vec<Item> = serde_json::from_slice(&decoded(answer)?).ok()?;
    Some(items.iter().map(|item| item.id).collect())
}

/// Whether these are all that were expected, in any order.
fn has_all(ids: &[u64], expected: &[u64]) -> bool {
    let sorted = |ids: &[u64]| {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids
    };
    sorted(ids) == sorted(expected)
}

#[cfg(test)]
mod tests {
    use super::super::answer::Head;
    use super::super::tally::Said;
    use super::*;

    fn answer(body: &[u8]) -> Answer<'_> {
        let head = Head {
            status: 200,
            framing: Framing::Length(body.len()),
            coding: Coding::Identity,
            said: Said::Nothing,
            closes: false,
        };
        Answer { head, body }
    }

    /// What is wrong, of whichever answer is looked through.
    fn wrong(expected: &Expected, answer: Answer<'_>) -> Option<&'static str> {
        let mut judged = (0..LOOKED_THROUGH).map(|_| expected.judge(&answer));
        judged.find_map(|judged| judged.err().map(|wrong| wrong.kind()))
    }

    #[test]
    fn an_answer_with_other_ids_is_wrong() {
        let expected = Expected::Ids(Arc::new([1, 2]));
        for (body, is_wrong) in [
            (&br#"[{"id":1},{"id":2}]"#[..], None),
            (br#"[{"id":2},{"id":1}]"#, None),
            (br#"[{"id":1}]"#, Some("ids")),
            (br#"[{"id":1},{"id":2},{"id":2}]"#, Some("ids")),
            (br#"{"message":"no"}"#, Some("ids")),
            (b"", Some("body")),
        ] {
            assert_eq!(wrong(&expected, answer(body)), is_wrong, "{body:?}");
        }
    }

    #[test]
    fn of_what_was_asked_some_may_be_missing_where_not_all_need_be_the_users() {
        let expected = Expected::Among(Arc::new([1, 2]));
        for (body, is_wrong) in [
            (&br#"[{"id":2}]"#[..], None),
            (b"[]", None),
            (br#"[{"id":3}]"#, Some("ids")),
            (b"<html>", Some("ids")),
        ] {
            assert_eq!(wrong(&expected, answer(body)), is_wrong, "{body:?}");
        }
    }

    #[test]
    fn an_answer_of_other_bytes_or_in_another_coding_is_wrong() {
        let expected = Expected::Exactly(Bytes::from_static(b"[1]"), Coding::Identity);
        assert_eq!(wrong(&expected, answer(b"[1]")), None);
        assert_eq!(wrong(&expected, answer(b"[12]")), Some("body"));
        assert_eq!(wrong(&expected, answer(b"[2]")), Some("body"));
        let compressed = Expected::Exactly(Bytes::from_static(b"[1]"), Coding::Gzip);
        assert_eq!(wrong(&compressed, answer(b"[1]")), Some("coding"));
    }

    #[test]
    fn what_is_compressed_is_looked_through_all_the_same() {
        // `[1]`, by gzip and by brotli.
        let gzip = b"\x1f\x8b\x08\0\0\0\0\0\x02\x03\x8b\x36\x8c\x05\0\xb8\x32\x2f\x4c\x03\0\0\0";
        let brotli = b"\x0b\x01\x80[1]\x03";
        for (coding, body) in [(Coding::Gzip, &gzip[..]), (Coding::Brotli, brotli)] {
            let mut answer = answer(body);
            answer.head.coding = coding;
            for (bytes, is_wrong) in [(&b"[1]"[..], None), (b"[2]", Some("body"))] {
                let expected = Expected::Exactly(Bytes::from_static(bytes), coding);
                assert_eq!(wrong(&expected, answer), is_wrong, "{coding:?}");
            }
        }
    }

    #[test]
    fn anything_but_a_200_is_wrong() {
        let mut answer = answer(b"{}");
        answer.head.status = 401;
        let expected = Expected::Ids(Arc::new([]));
        assert_eq!(wrong(&expected, answer), Some("status"));
    }
}
