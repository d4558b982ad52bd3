//! What all answers have in common, and the reading of bodies.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::LengthLimitError;
use serde::Serialize;
use serde_json::json;

use crate::request::fields;

/// Longest wait for a body.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// An error, told as JSON.
pub(super) fn error(status: StatusCode, message: &str) -> Response {
    json(status, &json!({ "message": message }))
}

pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let body = serde_json::to_string(body).expect("numbers, strings and lists are valid JSON");
    let fields = [(header::CONTENT_TYPE, "application/json")];
    (status, fields, format!("{body}\n")).into_response()
}

pub(super) async fn wrong_method() -> Response {
    error(
        StatusCode::METHOD_NOT_ALLOWED,
        "That method is not for this path.",
    )
}

/// Nothing is stored on the way that does not say it may be, and no browser takes it for something else than it is.
pub(super) async fn sealed(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The JSON body of a request, of at most `max_bytes`.
///
/// # Errors
///
/// What to answer instead.
pub(super) async fn json_body(request: Request, max_bytes: usize) -> Result<Bytes, Response> {
    if !is_json(request.headers()) {
        let message = "The body must be of Content-Type application/json, uncoded.";
        return Err(error(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    let read = axum::body::to_bytes(request.into_body(), max_bytes);
    match tokio::time::timeout(BODY_DEADLINE, read).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(fault)) => {
            let source = std::error::Error::source(&fault);
            let too_large = source.is_some_and(|source| source.is::<LengthLimitError>());
            Err(match too_large {
                true => {
                    let message = format!("The body is larger than {max_bytes} bytes.");
                    error(StatusCode::PAYLOAD_TOO_LARGE, &message)
                }
                false => error(StatusCode::BAD_REQUEST, "The body broke off."),
            })
        }
        Err(_) => Err(error(
            StatusCode::REQUEST_TIMEOUT,
            "The body took too long.",
        )),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(media_type), None) = (types.next(), types.next()) else {
        return false;
    };
    fields::essence(media_type.as_bytes()) == b"application/json"
        && !headers.contains_key(header::CONTENT_ENCODING)
}
