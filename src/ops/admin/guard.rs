//! Who may ask: whoever comes by a name that is ours, not from somebody else's page, and has the token.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use super::Office;
use super::answer::error;

/// Lets pass what names in `Host` an address, `localhost` or one of `admin.hosts`, and in `Origin`, if anything, the same.
///
/// A page whose name was made to resolve to this listener (DNS rebinding) is named in both.
pub(super) async fn place(
    State(office): State<Arc<Office>>,
    request: Request,
    next: Next,
) -> Response {
    let Some(host) = the_one(request.headers(), &header::HOST) else {
        return error(StatusCode::FORBIDDEN, "One Host is required.");
    };
    if !is_ours(host, &(office.admin.config)().admin.hosts) {
        let message =
            "Host must be an address, localhost, or one of the names that admin.hosts allows.";
        return error(StatusCode::FORBIDDEN, message);
    }
    let is_same = |origin: &HeaderValue| authority(origin) == Some(host.as_bytes());
    if !request
        .headers()
        .get_all(header::ORIGIN)
        .iter()
        .all(is_same)
    {
        let message = "Nothing is done for the pages of others.";
        return error(StatusCode::FORBIDDEN, message);
    }
    next.run(request).await
}

/// Lets pass what has the token of `admin.token_file`.
pub(super) async fn token(
    State(office): State<Arc<Office>>,
    request: Request,
    next: Next,
) -> Response {
    let config = (office.admin.config)();
    let Some(token) = &config.admin.token else {
        let message =
            "No admin.token_file is configured: only /healthz, /readyz and /metrics are answered.";
        return error(StatusCode::FORBIDDEN, message);
    };
    let authorization = the_one(request.headers(), &header::AUTHORIZATION);
    let presented = authorization.and_then(|field| field.as_bytes().strip_prefix(b"Bearer "));
    if presented.is_some_and(|presented| token.matches(presented)) {
        return next.run(request).await;
    }
    let message = "The token of admin.token_file is required, as Authorization: Bearer TOKEN.";
    let mut refusal = error(StatusCode::UNAUTHORIZED, message);
    let challenge = HeaderValue::from_static("Bearer");
    refusal
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, challenge);
    refusal
}

fn the_one<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a HeaderValue> {
    let mut fields = headers.get_all(name).iter();
    match (fields.next(), fields.next()) {
        (Some(field), None) => Some(field),
        _ => None,
    }
}

fn is_ours(host: &HeaderValue, names: &[String]) -> bool {
    let Ok(host) = host.to_str() else {
        return false;
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split_once(']').is_some_and(|(address, port)| {
            let port = port.strip_prefix(':').unwrap_or(port);
            address.parse::<Ipv6Addr>().is_ok() && is_port(port)
        });
    }
    let (name, port) = host.split_once(':').unwrap_or((host, ""));
    let is_known = || {
        let mut known = names.iter().map(String::as_str).chain(["localhost"]);
        known.any(|known| known.eq_ignore_ascii_case(name))
    };
    is_port(port) && (name.parse::<IpAddr>().is_ok() || is_known())
}

/// Host and port of an origin; `None` for `null`.
fn authority(origin: &HeaderValue) -> Option<&[u8]> {
    let origin = origin.as_bytes();
    let schemes: [&[u8]; 2] = [b"http://", b"https://"];
    schemes
        .iter()
        .find_map(|scheme| origin.strip_prefix(*scheme))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_localhost_and_configured_names_are_ours_with_any_port() {
        let names = ["edge.internal".to_owned()];
        for (host, expected) in [
            ("127.0.0.1", true),
            ("10.0.0.7:9090", true),
            ("[::1]", true),
            ("[fd00::7]:9090", true),
            ("localhost", true),
            ("LocalHost:9090", true),
            ("edge.internal", true),
            ("Edge.Internal:80", true),
            ("evil.example", false),
            ("evil.example:9090", false),
            ("localhost.evil.example", false),
            ("edge.internal.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("127.0.0.1@evil.example", false),
            ("[::1", false),
            ("[evil]:1", false),
            ("[::1]evil", false),
            ("localhost:80evil", false),
            ("", false),
        ] {
            let value = HeaderValue::from_str(host).unwrap();
            assert_eq!(is_ours(&value, &names), expected, "{host}");
        }
        let value = HeaderValue::from_bytes(b"localh\xf6st").unwrap();
        assert!(!is_ours(&value, &names));
    }

    #[test]
    fn an_origin_is_a_scheme_and_a_host() {
        let of = |origin: &'static str| {
            let origin = HeaderValue::from_static(origin);
            authority(&origin).map(<[u8]>::to_vec)
        };
        assert_eq!(
            of("http://127.0.0.1:9090"),
            Some(b"127.0.0.1:9090".to_vec())
        );
        assert_eq!(of("https://edge.internal"), Some(b"edge.internal".to_vec()));
        assert_eq!(of("null"), None);
        assert_eq!(of("file://"), None);
    }
}
