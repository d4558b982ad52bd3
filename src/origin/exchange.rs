//! One request of the edge's own over one connection, and how an exchange is told to have failed.
//!
//! Pingora applies no timeout of a peer to such sessions: whoever calls this sets a deadline around it.

use std::fmt;

use bytes::{Bytes, BytesMut};
use http::{StatusCode, header};
use pingora_core::protocols::http::client::HttpSession;
use pingora_core::{Error, ErrorType};
use pingora_http::RequestHeader;

use super::forward;

/// Largest answer that the edge holds in memory for its own requests, in bytes.
pub const MAX_ANSWER_BYTES: usize = 8 << 20;

/// Pieces of a body that are read one after the other, of up to 64 KiB each, after which others have their turn: a large
/// answer that is all there would have the thread for milliseconds.
const PIECES_AT_ONCE: usize = 8;

/// Whether the connection ended, so that another one may do better: nobody was waited for in vain, and nothing came
/// that is not HTTP.
pub fn is_cut_off(error: &Error) -> bool {
    matches!(
        error.etype(),
        ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::WriteError
    )
}

/// What went wrong, and why, in words of the program's own: Pingora's context quotes what came over the wire, and with it
/// cookies and tokens.
pub struct Unquoted<'a>(pub &'a Error);

impl fmt::Display for Unquoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.root_etype().as_str())?;
        let cause = self.0.root_cause();
        if cause.is::<Error>() {
            return Ok(());
        }
        write!(f, ": {cause}")
    }
}

/// There was no final header.
#[derive(Debug)]
pub(super) struct NoHeader {
    /// Whether an interim one came before the end.
    pub(super) heard: bool,
    pub(super) error: Box<Error>,
}

/// The body did not come whole.
#[derive(Debug)]
pub(super) enum NoBody {
    Broken(Box<Error>),
    /// It is larger than [`MAX_ANSWER_BYTES`].
    TooLarge,
}

/// Sends the request, and reads up to the final header.
pub(super) async fn ask(
    session: &mut HttpSession,
    request: &RequestHeader,
    body: &Bytes,
) -> Result<StatusCode, NoHeader> {
    let mut heard = false;
    let answered = async {
        send(session, request, body).await?;
        loop {
            session.read_response_header().await?;
            let header = session.response_header().expect("a header was read");
            if header.status == StatusCode::SWITCHING_PROTOCOLS {
                return Error::e_explain(ErrorType::InvalidHTTPHeader, "a 101 nobody asked for");
            }
            if !header.status.is_informational() {
                forward::is_chunked(header)?;
                return Ok(header.status);
            }
            heard = true;
        }
    };
    answered.await.map_err(|error| NoHeader { heard, error })
}

async fn send(
    session: &mut HttpSession,
    request: &RequestHeader,
    body: &Bytes,
) -> pingora_core::Result<()> {
    session
        .write_request_header(Box::new(request.clone()))
        .await?;
    if !body.is_empty() {
        session.write_request_body(body.clone(), true).await?;
    }
    session.finish_request_body().await
}

/// Reads the body after the header.
pub(super) async fn read_body(session: &mut HttpSession) -> Result<Bytes, NoBody> {
    // Most answers come in one piece, which is then used as it is.
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let mut pieces = 0;
    while let Some(chunk) = session.read_response_body().await.map_err(NoBody::Broken)? {
        if first.len().max(rest.len()) + chunk.len() > MAX_ANSWER_BYTES {
            return Err(NoBody::TooLarge);
        }
        if first.is_empty() {
            first = chunk;
            continue;
        }
        if rest.is_empty() {
            rest.reserve(told_length(session).max(first.len() + chunk.len()));
            rest.extend_from_slice(&first);
        }
        rest.extend_from_slice(&chunk);
        pieces += 1;
        if pieces % PIECES_AT_ONCE == 0 {
            tokio::task::yield_now().await;
        }
    }
    Ok(if rest.is_empty() {
        first
    } else {
        rest.freeze()
    })
}

/// How long the body is by its header's word, in bytes, up to [`MAX_ANSWER_BYTES`]; zero if that says nothing.
fn told_length(session: &HttpSession) -> usize {
    let header = session.response_header();
    let told = header.and_then(|header| header.headers.get(header::CONTENT_LENGTH));
    let length = told.and_then(|told| told.to_str().ok()?.parse().ok());
    length.unwrap_or(0).min(MAX_ANSWER_BYTES)
}
