//! Names of parameters as PHP reads them, in which the same one may be written in many ways.
//!
//! Whoever looks for a parameter looks here for what it is called, so that nothing is one parameter to one part of the edge
//! and another to the next.

use std::borrow::Cow;

use percent_encoding::percent_decode;

/// The variable that PHP would put a parameter of this name into: decoded, without leading spaces, up to a NUL or to the
/// first pair of brackets, with dots, spaces and an unclosed bracket as underscores.
pub fn variable(name: &[u8]) -> Cow<'_, str> {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if name.iter().all(plain) {
        return String::from_utf8_lossy(name);
    }
    let decoded = decode(name);
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

/// A name or a value without its percent signs, and with a blank for each plus sign.
pub fn decode(text: &[u8]) -> Vec<u8> {
    let spaced: Vec<u8> = text
        .iter()
        .map(|&byte| if byte == b'+' { b' ' } else { byte })
        .collect();
    percent_decode(&spaced).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_same_however_it_is_spelled() {
        for name in [
            "api_token",
            "api.token",
            "api+token",
            "api token",
            "api%20token",
            "api%2Etoken",
            "api[token",
            "api%5Btoken",
            "api%5ftoken",
            "%61pi_token",
            "+api_token",
            "%20+ api.token",
            "api_token[]",
            "api.token[x][y]",
            "api+token%5Bx%5D",
            "api_token[x]y",
            "api_token%00",
            "api.token%00x",
            "api_token%00[",
        ] {
            assert_eq!(variable(name.as_bytes()), "api_token", "{name}");
        }
    }

    #[test]
    fn another_name_is_another() {
        for (name, read) in [
            ("api[token]", "api"),
            ("api-token", "api-token"),
            ("api%2Btoken", "api+token"),
            ("api_token+", "api_token_"),
            ("api_token[", "api_token_"),
            ("api%00_token", "api"),
            ("API_TOKEN", "API_TOKEN"),
            ("api%2token", "api%2token"),
            ("%09api_token", "\tapi_token"),
            ("", ""),
            ("[]", ""),
        ] {
            assert_eq!(variable(name.as_bytes()), read, "{name}");
        }
    }
}
