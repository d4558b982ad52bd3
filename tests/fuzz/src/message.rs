//! Headers as text: what targets are given, so that a person can read and write their inputs.

use http::{HeaderName, HeaderValue};
use pingora_http::{RequestHeader, ResponseHeader};

/// The part of a text before the first `separator`, and the part after it.
pub(crate) fn cut<'a>(text: &'a [u8], separator: &[u8]) -> (&'a [u8], Option<&'a [u8]>) {
    let found = text
        .windows(separator.len())
        .position(|part| part == separator);
    match found {
        Some(at) => (&text[..at], Some(&text[at + separator.len()..])),
        None => (text, None),
    }
}

/// The fields of a text of `Name: value` lines. What is not such a line is no field, as it is none to a server.
pub(crate) fn fields(text: &[u8]) -> Vec<(HeaderName, HeaderValue)> {
    let lines = text.split(|&byte| byte == b'\n');
    let field = |line: &[u8]| {
        let (name, value) = cut(line, b":");
        let name = HeaderName::from_bytes(name).ok()?;
        let value = HeaderValue::from_bytes(value?.trim_ascii()).ok()?;
        Some((name, value))
    };
    lines.filter_map(field).collect()
}

/// A GET of `target` with these fields; `None` if no server would take the target for one.
pub(crate) fn get(target: &[u8], fields: &[(HeaderName, HeaderValue)]) -> Option<RequestHeader> {
    if target.iter().any(|byte| *byte <= b' ' || *byte == 0x7f) {
        return None;
    }
    let mut request = RequestHeader::build("GET", target, Some(fields.len())).ok()?;
    for (name, value) in fields {
        request.append_header(name, value).ok()?;
    }
    Some(request)
}

/// An answer with these fields.
pub(crate) fn answer(status: u16, fields: &[(HeaderName, HeaderValue)]) -> Option<ResponseHeader> {
    let mut response = ResponseHeader::build(status, Some(fields.len())).ok()?;
    for (name, value) in fields {
        response.append_header(name, value).ok()?;
    }
    Some(response)
}
