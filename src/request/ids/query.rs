//! Ids in a query, as PHP would read them.

use super::canonical;
use crate::config;
use crate::request::decline::{Bypass, is_credential};
use crate::request::php;

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
    let name = php::variable(name);
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
