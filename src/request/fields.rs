//! Reading header fields, of requests and of answers alike.

use http::{HeaderMap, HeaderName, header};

/// The comma-separated members of a list field, over all its lines, trimmed (RFC 9110, 5.6.1).
pub fn members(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    headers
        .get_all(name)
        .into_iter()
        .flat_map(|field| field.as_bytes().split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
}

/// The fields that `Connection` names, which are of one connection only (RFC 9110, 7.6.1).
pub fn nominated(headers: &HeaderMap) -> impl Iterator<Item = HeaderName> {
    members(headers, header::CONNECTION).filter_map(|name| HeaderName::from_bytes(name).ok())
}

/// Whether a list field has this member, whatever its case.
pub fn has_member(headers: &HeaderMap, name: HeaderName, member: &[u8]) -> bool {
    members(headers, name).any(|found| found.eq_ignore_ascii_case(member))
}

/// A media type without its parameters, in lower case (RFC 9110, 8.3.1).
pub fn essence(media_type: &[u8]) -> Vec<u8> {
    media_type
        .split(|&byte| byte == b';')
        .next()
        .unwrap_or_default()
        .trim_ascii()
        .to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_is_told_without_parameters_and_in_lower_case() {
        for media_type in ["application/json", "Application/JSON ; charset=\"a;b\""] {
            assert_eq!(essence(media_type.as_bytes()), b"application/json");
        }
        assert_eq!(essence(b""), b"");
    }
}
