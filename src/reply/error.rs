//! The errors that the edge answers by itself: what the client sees, in the VMS's own shape.
//!
//! What went wrong inside is for the log; a client learns the status, a sentence, and when to try again.

use bytes::Bytes;
use pingora_core::protocols::http::date::get_cached_date;
use pingora_http::ResponseHeader;
use serde::{Serialize, Serializer};

use crate::request::checks::{Fault, Refusal};

/// Seconds after which a client may try again when the VMS could not be asked.
const RETRY_AFTER_SECONDS: u64 = 1;

/// What a client may ask, as far as the edge is concerned. CONNECT, which alone is not among them, would be a tunnel.
const ALLOWED: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE";

/// An error answer of the edge's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EdgeError {
    /// The header checks refused the request.
    Refused(Refusal),
    /// The request cannot be understood as HTTP: 400.
    BadRequest,
    /// A method that a proxy of this kind serves nobody: 405.
    MethodNotAllowed,
    /// The client did not send its request in time: 408.
    RequestTimeout,
    /// The header is larger than the edge holds: 431.
    HeaderTooLarge,
    /// The client asks for more at once than it may: 429.
    TooManyRequests,
    /// The client asks too often: 429.
    TooManyAttempts {
        /// When it may ask again, in seconds.
        retry_after_seconds: u64,
    },
    /// Something failed in the edge itself: 500.
    Internal,
    /// The VMS refused the connection, or its answer broke off: 502.
    BadGateway,
    /// The VMS is not asked now: it is left alone, or too many fetches are in flight; or there are too many connections.
    /// 503.
    Busy,
    /// The VMS did not answer in time: 504.
    GatewayTimeout,
}

impl EdgeError {
    /// Its status code.
    pub fn status(&self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Refused(Refusal::Unauthenticated) => 401,
            Self::MethodNotAllowed => 405,
            Self::RequestTimeout => 408,
            Self::Refused(Refusal::BodyTooLarge) => 413,
            Self::Refused(Refusal::Invalid(_)) => 422,
            Self::TooManyRequests => 429,
            Self::TooManyAttempts { .. } => 429,
            Self::HeaderTooLarge | Self::Refused(Refusal::AuthorizationTooLarge) => 431,
            Self::Internal => 500,
            Self::BadGateway => 502,
            Self::Busy => 503,
            Self::GatewayTimeout => 504,
        }
    }

    fn message(&self) -> &'static str {
        match self {
            Self::Refused(Refusal::Unauthenticated) => "Unauthenticated.",
            Self::Refused(Refusal::Invalid(_)) => "The given data was invalid.",
            Self::Refused(Refusal::BodyTooLarge) => "The request body is too large.",
            Self::BadRequest => "Bad Request",
            Self::MethodNotAllowed => "Method Not Allowed",
            Self::RequestTimeout => "Request Timeout",
            Self::TooManyRequests => "Too Many Requests",
            Self::TooManyAttempts { .. } => "Too Many Attempts.",
            Self::HeaderTooLarge | Self::Refused(Refusal::AuthorizationTooLarge) => {
                "Request Header Fields Too Large"
            }
            Self::Internal => "Server Error",
            Self::BadGateway => "Bad Gateway",
            Self::Busy => "Service Unavailable",
            Self::GatewayTimeout => "Gateway Timeout",
        }
    }

    /// Its JSON body.
    pub fn body(&self) -> Bytes {
        let faults = match self {
            Self::Refused(Refusal::Invalid(faults)) => faults.as_slice(),
            _ => &[],
        };
        let body = Body {
            message: self.message(),
            errors: faults,
        };
        serde_json::to_vec(&body)
            .expect("constant strings are valid JSON")
            .into()
    }

    /// Its header, for a body of `length` bytes.
    pub fn header(&self, length: usize) -> Box<ResponseHeader> {
        self.build_header(length)
            .expect("constant names and values make a header")
    }

    /// All of it, as HTTP/1.1 says it on a connection that it ends, where there is no session to write it.
    pub fn last_answer(&self) -> Vec<u8> {
        let body = self.body();
        let header = self.header(body.len());
        let reason = header.get_reason_phrase().unwrap_or_default();
        let mut answer = format!("HTTP/1.1 {} {reason}\r\n", self.status()).into_bytes();
        for (name, value) in &header.headers {
            answer.extend_from_slice(name.as_str().as_bytes());
            answer.extend_from_slice(b": ");
            answer.extend_from_slice(value.as_bytes());
            answer.extend_from_slice(b"\r\n");
        }
        answer.extend_from_slice(b"date: ");
        answer.extend_from_slice(get_cached_date().as_bytes());
        answer.extend_from_slice(b"\r\nconnection: close\r\n\r\n");
        answer.extend_from_slice(&body);
        answer
    }

    fn build_header(&self, length: usize) -> pingora_core::Result<Box<ResponseHeader>> {
        let mut header = Box::new(ResponseHeader::build(self.status(), Some(6))?);
        header.insert_header("Content-Type", "application/json")?;
        header.insert_header("Content-Length", length)?;
        header.insert_header("Cache-Control", "no-store")?;
        match self {
            Self::Refused(Refusal::Unauthenticated) => {
                header.insert_header("WWW-Authenticate", "Bearer")?;
            }
            Self::TooManyAttempts {
                retry_after_seconds,
            } => header.insert_header("Retry-After", *retry_after_seconds)?,
            Self::MethodNotAllowed => header.insert_header("Allow", ALLOWED)?,
            Self::RequestTimeout
            | Self::TooManyRequests
            | Self::BadGateway
            | Self::Busy
            | Self::GatewayTimeout => {
                header.insert_header("Retry-After", RETRY_AFTER_SECONDS)?;
            }
            _ => {}
        }
        Ok(header)
    }
}

/// The shape of Laravel's errors: a message, and what is wrong with each field.
#[derive(Serialize)]
struct Body<'a> {
    message: &'static str,
    #[serde(
        skip_serializing_if = "<[Fault]>::is_empty",
        serialize_with = "by_header"
    )]
    errors: &'a [Fault],
}

fn by_header<S: Serializer>(faults: &[Fault], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(
        faults
            .iter()
            .map(|fault| (fault.header(), [fault.message()])),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_every_fault_in_laravels_shape() {
        let error = EdgeError::Refused(Refusal::Invalid(vec![Fault::ClientMissing, Fault::Accept]));
        assert_eq!(error.status(), 422);
        assert_eq!(
            error.body(),
            r#"{"message":"The given data was invalid.","errors":{"X-Client":["The X-Client header is required."],"Accept":["The Accept header must admit application/json."]}}"#
        );
    }

    #[test]
    fn a_missing_token_is_answered_as_the_vms_would() {
        let error = EdgeError::Refused(Refusal::Unauthenticated);
        assert_eq!(error.body(), r#"{"message":"Unauthenticated."}"#);
        let header = error.header(30);
        assert_eq!(
            (header.status.as_u16(), &header.headers["www-authenticate"]),
            (401, &"Bearer".parse().unwrap())
        );
    }

    #[test]
    fn a_last_answer_is_complete_and_says_that_it_is_the_last() {
        let answer = String::from_utf8(EdgeError::TooManyRequests.last_answer()).unwrap();
        let (before, rest) = answer.split_once("date: ").unwrap();
        let (date, rest) = rest.split_once("\r\n").unwrap();
        assert_eq!(
            before,
            "HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\ncontent-length: 31\r\n\
             cache-control: no-store\r\nretry-after: 1\r\n"
        );
        assert!(date.ends_with(" GMT"), "{date}");
        assert_eq!(
            rest,
            "connection: close\r\n\r\n{\"message\":\"Too Many Requests\"}"
        );
    }

    #[test]
    fn an_upstream_failure_says_when_to_try_again() {
        for error in [
            EdgeError::BadGateway,
            EdgeError::Busy,
            EdgeError::GatewayTimeout,
        ] {
            assert_eq!(error.header(0).headers["retry-after"], "1");
        }
    }
}
