//! The edge's own entity tags (RFC 9110, 8.8.3): how they are written, and which of them a client holds already.
//!
//! A tag says which bytes an answer has and nothing else, so that every edge before one VMS gives the same answer the
//! same tag, before a restart and after it. It is followed by the name of the content coding, if there is one. The VMS's
//! own tags look otherwise: a request that holds only such is left to the VMS.

use http::{HeaderMap, HeaderValue, header};

use super::coding::Accepted;
use super::decline::Bypass;
use crate::config::Coding;

const PREFIX: &[u8] = b"ve-";
const HEX: &[u8; 16] = b"0123456789abcdef";
const HEX_BYTES: usize = 32;

/// What tells an answer's bytes, before any coding, from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag([u8; 16]);

/// A tag in the form in which it stands in a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TagOf {
    /// Of these bytes.
    pub tag: Tag,
    /// In this coding.
    pub coding: Option<Coding>,
    /// Whether somebody on the way made a weak one of it, having changed the coding.
    pub is_weak: bool,
}

/// What a client holds already, by its `If-None-Match`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// `*`: whatever there is.
    Anything,
    /// Answers with these tags, and perhaps others that are not the edge's.
    Tags(Vec<TagOf>),
}

impl Tag {
    /// Of a digest of the bytes.
    pub fn of_digest(digest: [u8; 16]) -> Self {
        Self(digest)
    }

    /// As a strong validator of the answer in a coding.
    pub fn strong(self, coding: Option<Coding>) -> TagOf {
        TagOf {
            tag: self,
            coding,
            is_weak: false,
        }
    }
}

impl TagOf {
    /// The field's value.
    pub fn to_value(self) -> HeaderValue {
        const LONGEST: usize = b"W/\"\"".len() + PREFIX.len() + HEX_BYTES + "-zstd".len();
        let mut text = [0; LONGEST];
        let mut length = 0;
        let mut put = |bytes: &[u8]| {
            text[length..length + bytes.len()].copy_from_slice(bytes);
            length += bytes.len();
        };
        if self.is_weak {
            put(b"W/");
        }
        put(b"\"");
        put(PREFIX);
        for byte in self.tag.0 {
            let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
            put(&[HEX[high], HEX[low]]);
        }
        if let Some(coding) = self.coding {
            put(b"-");
            put(coding.name().as_bytes());
        }
        put(b"\"");
        HeaderValue::from_bytes(&text[..length]).expect("a tag is visible ASCII")
    }

    /// One of the edge's own, from what stands between the quotes.
    fn read(opaque: &[u8], is_weak: bool) -> Option<Self> {
        let (hex, rest) = opaque.strip_prefix(PREFIX)?.split_at_checked(HEX_BYTES)?;
        let coding = match rest.strip_prefix(b"-") {
            Some(name) => {
                let is_named = |coding: &Coding| coding.name().as_bytes() == name;
                Some(Coding::ALL.into_iter().find(is_named)?)
            }
            None if rest.is_empty() => None,
            None => return None,
        };
        let mut digest = [0; 16];
        for (byte, pair) in digest.iter_mut().zip(hex.chunks_exact(2)) {
            let digit = |digit| u8::try_from(HEX.iter().position(|hex| *hex == digit)?).ok();
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self {
            tag: Tag(digest),
            coding,
            is_weak,
        })
    }
}

impl Held {
    /// Reads `If-None-Match`; `None` where there is none.
    ///
    /// # Errors
    ///
    /// The VMS has to judge it: it is not written as it should be, or none of its tags is the edge's.
    pub fn read(headers: &HeaderMap) -> Result<Option<Self>, Bypass> {
        let mut held = None;
        for line in headers.get_all(header::IF_NONE_MATCH) {
            let line = line.as_bytes().trim_ascii();
            match (&mut held, line) {
                (None, b"*") => held = Some(Self::Anything),
                (Some(Self::Anything), _) | (Some(_), b"*") => return Err(Bypass::Conditional),
                (None, line) => held = Some(Self::Tags(tags(line)?)),
                (Some(Self::Tags(earlier)), line) => earlier.append(&mut tags(line)?),
            }
        }
        match held {
            Some(Self::Tags(tags)) if tags.is_empty() => Err(Bypass::Conditional),
            held => Ok(held),
        }
    }

    /// The tag by which the client holds an answer, so that it need not be sent again; compared weakly (RFC 9110, 13.1.2).
    ///
    /// It may hold it in another coding than the one that it would be sent in, but in none that it does not take: a cache
    /// may hold for one client what another must not be given.
    pub fn find(&self, tag: Tag, coding: Option<Coding>, accepted: &Accepted) -> Option<TagOf> {
        let tags = match self {
            Self::Anything => return Some(tag.strong(coding)),
            Self::Tags(tags) => tags,
        };
        let is_taken = |held: &&TagOf| match held.coding {
            None => true,
            Some(coding) => accepted.weight(coding) > 0,
        };
        let mut same = tags.iter().filter(|held| held.tag == tag).filter(is_taken);
        let first = *same.next()?;
        let as_sent = |held: &&TagOf| held.coding == coding;
        Some(
            *[&first]
                .into_iter()
                .chain(same)
                .find(as_sent)
                .unwrap_or(&first),
        )
    }
}

/// The edge's tags of one line; others may stand beside them.
fn tags(mut line: &[u8]) -> Result<Vec<TagOf>, Bypass> {
    let mut tags = Vec::new();
    loop {
        while let [b',' | b' ' | b'\t', rest @ ..] = line {
            line = rest;
        }
        if line.is_empty() {
            return Ok(tags);
        }
        let (is_weak, quoted) = match line.strip_prefix(b"W/") {
            Some(quoted) => (true, quoted),
            None => (false, line),
        };
        let opaque = quoted.strip_prefix(b"\"").ok_or(Bypass::Conditional)?;
        let end = opaque.iter().position(|&byte| byte == b'"');
        let (opaque, rest) = opaque.split_at(end.ok_or(Bypass::Conditional)?);
        tags.extend(TagOf::read(opaque, is_weak));
        line = rest[1..].trim_ascii_start();
        if !line.is_empty() && line[0] != b',' {
            return Err(Bypass::Conditional);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    fn held(lines: &[&str]) -> Result<Option<Held>, Bypass> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::IF_NONE_MATCH, line.parse().unwrap());
        }
        Held::read(&headers)
    }

    const ONE: Tag = Tag([0x1f; 16]);
    const PLAIN: &str = "\"ve-1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f\"";
    const GZIP: &str = "\"ve-1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f-gzip\"";

    fn takes(line: &str) -> Accepted {
        let mut headers = HeaderMap::new();
        headers.append(header::ACCEPT_ENCODING, line.parse().unwrap());
        Accepted::read(&headers)
    }

    #[test]
    fn a_tag_is_written_with_its_coding() {
        assert_eq!(ONE.strong(None).to_value(), PLAIN);
        assert_eq!(ONE.strong(Some(Coding::Gzip)).to_value(), GZIP);
    }

    #[test]
    fn the_edges_tags_are_found_beside_others() {
        let plain = ONE.strong(None);
        let weak = TagOf {
            is_weak: true,
            ..ONE.strong(Some(Coding::Gzip))
        };
        let line = format!("\"a,b\" ,W/{GZIP},, {PLAIN}");
        assert_eq!(held(&[&line]), Ok(Some(Held::Tags(vec![weak, plain]))));
        assert_eq!(
            held(&["\"other\"", PLAIN]),
            Ok(Some(Held::Tags(vec![plain])))
        );
        assert_eq!(held(&[" * "]), Ok(Some(Held::Anything)));
        assert_eq!(held(&[]), Ok(None));
    }

    #[test]
    fn what_is_not_the_edges_is_left_to_the_vms() {
        for lines in [
            &["\"x\""][..],
            &["W/\"x\", \"y\""],
            &[""],
            &["ve-1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f"],
            &["\"ve-1F1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f\""],
            &["\"ve-1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f-deflate\""],
            &["\"ve-1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f-\""],
            &["\"ve-1f1f\""],
            &[PLAIN, "*"],
            &["*", PLAIN],
            &["*, *"],
            &["\"unended"],
            &["\"a\" \"b\""],
            &["w/\"a\""],
        ] {
            assert_eq!(held(lines), Err(Bypass::Conditional), "{lines:?}");
        }
    }

    #[test]
    fn an_answer_that_is_held_in_another_coding_is_held_if_the_client_takes_that() {
        let held = held(&[GZIP]).unwrap().unwrap();
        let gzip = ONE.strong(Some(Coding::Gzip));
        let found = |line| held.find(ONE, Some(Coding::Br), &takes(line));
        assert_eq!(found("br, gzip"), Some(gzip));
        assert_eq!(found("br"), None);
        assert_eq!(found("br, gzip;q=0"), None);
        assert_eq!(held.find(Tag([0; 16]), None, &takes("gzip")), None);
    }

    #[test]
    fn of_several_that_are_held_the_one_is_named_that_would_be_sent() {
        let held = held(&[GZIP, PLAIN]).unwrap().unwrap();
        let found = held.find(ONE, None, &takes("gzip"));
        assert_eq!(found, Some(ONE.strong(None)));
        let anything = Held::Anything.find(ONE, None, &takes("gzip"));
        assert_eq!(anything, Some(ONE.strong(None)));
    }

    proptest! {
        #[test]
        fn a_written_tag_is_read_back(
            digest: [u8; 16], coding in proptest::option::of(select(Coding::ALL.to_vec())), is_weak: bool,
        ) {
            let written = TagOf { tag: Tag(digest), coding, is_weak };
            let value = written.to_value();
            let read = held(&[value.to_str().unwrap()]);
            prop_assert_eq!(read, Ok(Some(Held::Tags(vec![written]))));
        }

        #[test]
        fn no_line_makes_reading_panic(line in "[\"W/ve\\-0-9a-f*, ]{0,80}") {
            let _ = held(&[&line]);
        }
    }
}
