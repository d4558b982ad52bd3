//! An answer of the stand-in, complete in memory, spelt as Laravel spells it.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::php::json;
use super::validate::Errors;

/// What the VMS answers: status, end-to-end headers and the body's bytes.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: StatusCode,
    /// The end-to-end headers, without those that `add_response_header` adds.
    pub headers: HeaderMap,
    /// The body, before any framing.
    pub body: Bytes,
}

impl Answer {
    pub(crate) fn new(
        status: StatusCode,
        content_type: &'static str,
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut answer = Answer::bare(status);
        answer.put(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        answer.body = body.into();
        answer
    }

    /// Compact JSON, as controllers send it.
    pub(crate) fn json(status: StatusCode, body: impl Into<Bytes>) -> Answer {
        Answer::new(status, "application/json", body)
    }

    /// An answer without a body.
    pub(crate) fn bare(status: StatusCode) -> Answer {
        let mut answer = Answer {
            status,
            headers: HeaderMap::new(),
            body: Bytes::new(),
        };
        answer.put(
            header::CACHE_CONTROL,
            HeaderValue::from_static("no-cache, private"),
        );
        answer
    }

    /// An HTTP exception: pretty-printed, with slashes as they are.
    pub(crate) fn exception(status: StatusCode, message: &str) -> Answer {
        let mut body = b"{\n    \"message\": \"".to_vec();
        json::encode_inner(&mut body, message, false);
        body.extend(b"\"\n}");
        Answer::json(status, body)
    }

    pub(crate) fn message(status: StatusCode, message: &str) -> Answer {
        let mut body = b"{\"message\":".to_vec();
        json::encode_text(&mut body, message);
        body.push(b'}');
        Answer::json(status, body)
    }

    pub(crate) fn unauthenticated() -> Answer {
        Answer::message(StatusCode::UNAUTHORIZED, "Unauthenticated.")
    }

    pub(crate) fn not_found() -> Answer {
        Answer::exception(StatusCode::NOT_FOUND, "")
    }

    pub(crate) fn method_not_allowed(method: &Method, supported: &[&str]) -> Answer {
        let supported = supported.join(", ");
        let mut answer = Answer::exception(
            StatusCode::METHOD_NOT_ALLOWED,
            &format!(
                "The {method} method is not supported for this route. Supported methods: {supported}."
            ),
        );
        answer.put_text(header::ALLOW, &supported);
        answer
    }

    pub(crate) fn options(supported: &[&str]) -> Answer {
        let mut answer = Answer::new(StatusCode::OK, "text/html; charset=UTF-8", "");
        answer.put_text(header::ALLOW, &supported.join(","));
        answer
    }

    pub(crate) fn invalid(errors: &Errors) -> Answer {
        let mut body = b"{\"message\":\"The given data was invalid.\",\"errors\":{".to_vec();
        for (place, (field, messages)) in errors.0.iter().enumerate() {
            if place > 0 {
                body.push(b',');
            }
            json::encode_text(&mut body, field);
            body.extend(b":[");
            for (place, message) in messages.iter().enumerate() {
                if place > 0 {
                    body.push(b',');
                }
                json::encode_text(&mut body, message);
            }
            body.push(b']');
        }
        body.extend(b"}}");
        Answer::json(StatusCode::UNPROCESSABLE_ENTITY, body)
    }

    /// Sets a header in place of any of that name.
    pub(crate) fn put(&mut self, name: HeaderName, value: HeaderValue) {
        self.headers.insert(name, value);
    }

    /// As [`Answer::put`], for text made here, which is always printable.
    pub(crate) fn put_text(&mut self, name: HeaderName, value: &str) {
        let value = HeaderValue::from_str(value).expect("text made by the stand-in is printable");
        self.put(name, value);
    }
}
