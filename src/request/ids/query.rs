//! Ids in a query, as PHP would read them.

use std::borrow::Cow;

use percent_encoding::percent_decode;

use super::canonical;
use crate::config;
use crate::request::decline::{Bypass, is_credential};

/// Most parameters of a query, the ids included: PHP does not look at those beyond (`max_input_vars`).
const MAX_PARAMETERS: usize = 1000;

/// The ids of a query, and its other parameters as they came.
pub(super) fn read(query: &[u8], batch: &config::Batch) -> Result<(Vec<u64>, Vec<u8>), Bypass> {
    let mut ids = Vec::new();
    let mut indices: Vec<u64> = Vec::new();
    let mut others = Vec::new();
    for (place, parameter) in query.split(|&byte| byte == b'&').enumerate() {
        if place == MAX_PARAMETERS {
            return Err(Bypass::Ids);
        }
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
