//! The credentials that a request may have carried, read as generously as any server might read them.
//!
//! Whom a request may be answered for, only the one plain form says. But when the VMS refuses a request, it has refused
//! some token in it, and what is stored under that token must go, however it was written. A token found here that the
//! VMS did not look at costs its holder a fetch; nobody can name another's.

use http::header;
use percent_encoding::percent_decode;
use pingora_http::RequestHeader;

use super::decline::is_credential;
use super::key::{KeyMaker, UserId};
use super::{MAX_TOKEN_BYTES, php, query};

/// Most tokens that are looked at in one request.
const MAX_TOKENS: usize = 16;

/// The users whose tokens a request may have carried, each once.
pub fn holders(request: &RequestHeader, keys: &KeyMaker) -> Vec<UserId> {
    let mut tokens = Vec::new();
    for field in request.headers.get_all(header::AUTHORIZATION) {
        in_field(field.as_bytes(), &mut tokens);
    }
    in_query(query(request), &mut tokens);
    let mut holders: Vec<UserId> = tokens.iter().map(|token| keys.holder(token)).collect();
    holders.sort_unstable();
    holders.dedup();
    holders
}

/// `Bearer TOKEN`, in whatever case and with whatever around it; cut at a comma, as Laravel does, or at white space.
fn in_field(field: &[u8], tokens: &mut Vec<Vec<u8>>) {
    const SCHEME: &[u8] = b"bearer";
    for (at, word) in field.windows(SCHEME.len()).enumerate() {
        if tokens.len() == MAX_TOKENS {
            return;
        }
        if word.eq_ignore_ascii_case(SCHEME) {
            let rest = field[at + SCHEME.len()..].trim_ascii_start();
            let ends = |byte: &u8| *byte == b',' || byte.is_ascii_whitespace();
            add(rest.split(ends).next().unwrap_or_default(), tokens);
        }
    }
}

/// The values of parameters that are called as a token is, as they are written and decoded.
fn in_query(query: &[u8], tokens: &mut Vec<Vec<u8>>) {
    for parameter in query.split(|&byte| byte == b'&') {
        let mut parts = parameter.splitn(2, |&byte| byte == b'=');
        let (name, value) = (parts.next(), parts.next());
        let (Some(name), Some(value)) = (name, value) else {
            continue;
        };
        if is_credential(&php::variable(name)) {
            add(value, tokens);
            add(&percent_decode(value).collect::<Vec<u8>>(), tokens);
            // Laravel takes blanks off both ends.
            add(php::decode(value).trim_ascii(), tokens);
        }
    }
}

fn add(token: &[u8], tokens: &mut Vec<Vec<u8>>) {
    let is_stored_under = (1..=MAX_TOKEN_BYTES).contains(&token.len());
    let is_new = |tokens: &[Vec<u8>]| tokens.iter().all(|other| other != token);
    if is_stored_under && tokens.len() < MAX_TOKENS && is_new(tokens) {
        tokens.push(token.to_vec());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the holder of `token` is among those of a request.
    fn holds(token: &str, target: &str, authorization: &[&str]) -> bool {
        let keys = KeyMaker::new().unwrap();
        let mut request = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
        for field in authorization {
            request.append_header("Authorization", *field).unwrap();
        }
        holders(&request, &keys).contains(&keys.holder(token.as_bytes()))
    }

    #[test]
    fn a_token_is_found_however_it_is_written() {
        for fields in [
            &["Bearer tok-1"][..],
            &["bearer tok-1"],
            &["BEARER\ttok-1"],
            &["Bearer   tok-1  "],
            &["Bearer tok-1,rest"],
            &["Basic a, Bearer tok-1"],
            &["Bearer other", "Bearer tok-1"],
            &["Bearer tok-1", "Bearer other"],
            &["Bearer Bearer tok-1"],
            &["Bearertok-1"],
        ] {
            assert!(holds("tok-1", "/", fields), "{fields:?}");
        }
        for target in [
            "/?token=tok-1",
            "/?a=b&api_token=tok-1",
            "/?ACCESS_TOKEN=tok%2D1",
            "/?%74oken=tok-1",
            "/?+token=tok-1",
            "/?token[]=tok-1&x",
            "/?api.token=tok-1",
            "/?api+token=tok-1",
            "/?api%20token=tok-1",
            "/?api[token=tok-1",
            "/?Access%5Btoken=tok-1",
            "/?api.token[a][b]=tok-1",
            "/?token%00x=tok-1",
            "/?token=+tok-1%20",
        ] {
            assert!(holds("tok-1", target, &[]), "{target}");
        }
        assert!(holds("to%2Dk", "/?token=to%2Dk", &[]), "as it is written");
    }

    #[test]
    fn nobody_else_is_found() {
        for (target, fields) in [
            ("/", &[][..]),
            ("/?q=tok-1&tokens=tok-1", &["Basic tok-1"]),
            ("/?token", &["Bearer ", "Bearer tok-2", "Bearer tok-11"]),
            ("/?api[token]=tok-1&token[=tok-1&api%00.token=tok-1", &[]),
        ] {
            assert!(!holds("tok-1", target, fields), "{target} {fields:?}");
        }
    }

    #[test]
    fn only_so_many_are_looked_at() {
        let keys = KeyMaker::new().unwrap();
        let query: String = (0..1_000).map(|n| format!("token={n}&")).collect();
        let target = format!("/?{query}");
        let mut request = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
        let fields: Vec<String> = (0..1_000).map(|n| format!("Bearer {n}")).collect();
        request
            .append_header("Authorization", fields.join(", "))
            .unwrap();
        assert_eq!(holders(&request, &keys).len(), MAX_TOKENS);
        let query: String = (0..MAX_TOKENS).map(|n| format!("token={n}&")).collect();
        let target = format!("/?{query}");
        let once = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
        assert_eq!(holders(&once, &keys).len(), MAX_TOKENS);
        let first = keys.holder(b"0");
        assert!(holders(&request, &keys).contains(&first));
    }
}
