//! One HTTP/1.1 answer, read where it lies: nothing is copied, and nothing allocated.

use std::ops::Range;

use httparse::{EMPTY_HEADER, Status};

use super::tally::Said;

/// Header fields of an answer, at the most.
const MAX_FIELDS: usize = 64;

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer<'a> {
    pub(crate) head: Head,
    /// With its framing, if that is chunked.
    pub(crate) body: &'a [u8],
}

/// What the head of an answer says that matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) framing: Framing,
    pub(crate) coding: Coding,
    /// What the answer says of the cache.
    pub(crate) said: Said,
    /// Whether the server closes the connection after it.
    pub(crate) closes: bool,
}

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(usize),
    Chunked,
}

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Identity,
    Gzip,
    Brotli,
    Other,
}

/// What was received is no answer that the generator understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer is not HTTP/1.1 as it is spoken here")]
pub(crate) struct Malformed;

/// The head of the answer with which `received` begins, and where its body lies; `None` if it is not whole yet.
pub(crate) fn parse(received: &[u8]) -> Result<Option<(Head, Range<usize>)>, Malformed> {
    let mut fields = [EMPTY_HEADER; MAX_FIELDS];
    let mut head = httparse::Response::new(&mut fields);
    let Status::Complete(start) = head.parse(received).map_err(|_| Malformed)? else {
        return Ok(None);
    };
    let status = head.code.ok_or(Malformed)?;
    let mut framing = Framing::Length(0);
    let mut coding = Coding::Identity;
    let mut said = Said::Nothing;
    let mut closes = false;
    for field in head.headers.iter() {
        let (name, value) = (field.name, field.value);
        if name.eq_ignore_ascii_case("content-length") {
            framing = Framing::Length(number(value).ok_or(Malformed)?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            framing = Framing::Chunked;
        } else if name.eq_ignore_ascii_case("content-encoding") {
            coding = Coding::of(value);
        } else if name.eq_ignore_ascii_case("cache-status") {
            said = Said::of(value);
        } else if name.eq_ignore_ascii_case("connection") {
            closes = value.eq_ignore_ascii_case(b"close");
        }
    }
    let end = match framing {
        Framing::Length(length) => start.checked_add(length).ok_or(Malformed)?,
        Framing::Chunked => match end_of_chunks(received, start)? {
            Some(end) => end,
            None => return Ok(None),
        },
    };
    if end > received.len() {
        return Ok(None);
    }
    let head = Head {
        status,
        framing,
        coding,
        said,
        closes,
    };
    Ok(Some((head, start..end)))
}

impl Answer<'_> {
    /// The body without its framing.
    pub(crate) fn content(&self) -> Vec<u8> {
        match self.head.framing {
            Framing::Length(_) => self.body.to_vec(),
            Framing::Chunked => {
                let mut content = Vec::with_capacity(self.body.len());
                let mut at = 0;
                while let Ok(Some(chunk)) = chunk(self.body, at) {
                    if chunk.is_empty() {
                        break;
                    }
                    at = chunk.end + 2;
                    content.extend_from_slice(&self.body[chunk]);
                }
                content
            }
        }
    }
}

impl Coding {
    pub(crate) fn of(value: &[u8]) -> Self {
        match value {
            b"identity" => Self::Identity,
            b"gzip" => Self::Gzip,
            b"br" => Self::Brotli,
            _ => Self::Other,
        }
    }
}

/// Where a chunked body that begins at `start` ends; trailers are none that we know of.
fn end_of_chunks(received: &[u8], start: usize) -> Result<Option<usize>, Malformed> {
    let mut at = start;
    while let Some(chunk) = chunk(received, at)? {
        at = chunk.end + 2;
        if chunk.is_empty() {
            return Ok((at <= received.len()).then_some(at));
        }
    }
    Ok(None)
}

/// Where the content of the chunk lies whose size stands at `at`; `None` if the size is not whole yet.
fn chunk(bytes: &[u8], at: usize) -> Result<Option<Range<usize>>, Malformed> {
    let Some(rest) = bytes.get(at..) else {
        return Ok(None);
    };
    match httparse::parse_chunk_size(rest).map_err(|_| Malformed)? {
        Status::Partial => Ok(None),
        Status::Complete((line, size)) => {
            let start = at + line;
            let size = usize::try_from(size).map_err(|_| Malformed)?;
            let end = start.checked_add(size).ok_or(Malformed)?;
            Ok(Some(start..end))
        }
    }
}

fn number(value: &[u8]) -> Option<usize> {
    std::str::from_utf8(value).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &[u8] =
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nCache-Status: vms-edge; hit; ttl=3\r\n\r\n[{}]";
    const CHUNKED: &[u8] =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n[{}\r\n1;x=y\r\n]\r\n0\r\n\r\n";

    #[test]
    fn an_answer_is_whole_with_its_last_byte_and_not_before() {
        for whole in [PLAIN, CHUNKED] {
            for length in 0..whole.len() {
                assert_eq!(parse(&whole[..length]), Ok(None), "{length}");
            }
            let and_more = [whole, b"HTTP/1.1 "].concat();
            let (head, body) = parse(&and_more).unwrap().unwrap();
            assert_eq!((head.status, body.end), (200, whole.len()));
            let body = &and_more[body];
            let answer = Answer { head, body };
            assert_eq!(answer.content(), b"[{}]");
        }
    }

    #[test]
    fn what_the_cache_says_is_heard() {
        let (head, _) = parse(PLAIN).unwrap().unwrap();
        assert_eq!(head.said, Said::Hit);
    }

    #[test]
    fn what_is_not_http_is_told() {
        assert_eq!(parse(b"SSH-2.0-OpenSSH\r\n\r\n"), Err(Malformed));
        let chunk = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n";
        assert_eq!(parse(chunk), Err(Malformed));
    }
}
