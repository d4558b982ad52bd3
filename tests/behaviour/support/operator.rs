//! An operator: somebody who reaches the admin listener, and has the token that opens all of it.

use std::io::Write;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use tempfile::NamedTempFile;

use super::world::{Answer, send};

pub(crate) const TOKEN: &str = "a-token-of-the-operators";

/// The field that shows the token.
pub(crate) fn bearer() -> String {
    format!("Bearer {TOKEN}")
}

/// A file with the token, and the setting that names it; the file must outlive the start.
pub(crate) fn token() -> (NamedTempFile, String) {
    let mut file = NamedTempFile::new().unwrap();
    writeln!(file, "{TOKEN}").unwrap();
    let setting = format!("admin.token_file = {:?}\n", file.path());
    (file, setting)
}

/// Asks the admin listener with these fields and no others.
pub(crate) async fn ask(
    admin: SocketAddr,
    method: Method,
    path: &str,
    fields: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    send(admin, request.body(Full::new(body.into())).unwrap()).await
}

/// Asks with the token, and with `body` as JSON if it is not empty.
pub(crate) async fn operate(
    admin: SocketAddr,
    method: Method,
    path: &str,
    body: impl Into<String>,
) -> Answer {
    let (body, bearer) = (body.into(), bearer());
    let fields = [
        ("host", "localhost"),
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
    ];
    let fields = match body.is_empty() {
        true => &fields[..2],
        false => &fields,
    };
    let answer = ask(admin, method, path, fields, body).await;
    for (name, value) in [
        ("content-type", "application/json"),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{path}");
    }
    answer
}

/// Purges with the token.
pub(crate) async fn purge(admin: SocketAddr, body: impl Into<String>) -> Answer {
    operate(admin, Method::POST, "/purge", body).await
}
