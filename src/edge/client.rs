//! The client's connection, where the edge answers by itself: reading what a batch announces, writing the answer, and
//! leaving the connection so that the client sees all of it.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use pingora_core::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use crate::reply::error::EdgeError;
use crate::request::correlation::{RequestId, SENT_REQUEST_ID};
use crate::request::{Body, Checked, MAX_BODY_BYTES, framing};

/// Longest wait for the rest of a request that was answered before its body was read.
///
/// A connection that is closed with unread input is reset, and a client that is still sending may then never see the
/// answer.
const LINGER: Duration = Duration::from_secs(2);

/// Reads the body that a batch announces; `None` if it is too large.
///
/// Pingora keeps what is read, so that the request can still be passed on.
pub(super) async fn read_body(
    session: &mut Session,
    checked: &Checked,
    deadline: Option<Instant>,
    idle: Duration,
) -> Result<Option<Bytes>> {
    match checked.body() {
        Body::Empty => return Ok(Some(Bytes::new())),
        Body::TooLarge => return Ok(None),
        Body::Json => {}
    }
    session.enable_retry_buffering();
    let body = read_json(session, idle);
    match deadline {
        None => body.await,
        Some(deadline) => {
            let read = tokio::time::timeout_at(deadline.into(), body).await;
            read.unwrap_or_else(|_| Err(late()))
        }
    }
}

async fn read_json(session: &mut Session, idle: Duration) -> Result<Option<Bytes>> {
    let mut body = BytesMut::new();
    loop {
        // Of a body that comes by HTTP/2, Pingora does not bound the silence.
        let chunk = tokio::time::timeout(idle, session.read_request_body()).await;
        let chunk = chunk.map_err(|_| late())?.map_err(Error::into_down)?;
        let Some(chunk) = chunk else {
            break;
        };
        if body.len() + chunk.len() > MAX_BODY_BYTES {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body.freeze()))
}

/// Lets the next piece of a body come as late as `deadline`, after a silence of `idle` at the most.
///
/// # Errors
///
/// When the deadline has passed.
pub(super) fn keep_to(
    session: &mut Session,
    deadline: Option<Instant>,
    idle: Duration,
) -> Result<()> {
    let Some(deadline) = deadline else {
        session.set_read_timeout(Some(idle));
        return Ok(());
    };
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(late());
    }
    session.set_read_timeout(Some(left.min(idle)));
    Ok(())
}

fn late() -> Box<Error> {
    Error::explain(ErrorType::ReadTimedout, "the body took too long").into_down()
}

/// Answers. Whatever goes wrong, it is the client who has not taken it.
pub(super) async fn write(
    session: &mut Session,
    header: Box<ResponseHeader>,
    body: Bytes,
) -> Result<()> {
    let has_body = !matches!(header.status.as_u16(), 204 | 304);
    let written = session.write_response_header(header, !has_body).await;
    written.map_err(Error::into_down)?;
    if has_body {
        let written = session.write_response_body(Some(body), true).await;
        written.map_err(Error::into_down)?;
    }
    Ok(())
}

/// Answers with an error of the edge's own, which always tells the request's id: whoever it puzzles may ask an operator.
pub(super) async fn write_error(
    session: &mut Session,
    error: &EdgeError,
    id: &RequestId,
) -> Result<()> {
    let body = error.body();
    let mut header = error.header(body.len());
    header.insert_header(SENT_REQUEST_ID, id.to_value())?;
    write(session, header, body).await
}

/// Answers with an error and closes the connection, once the client had the time to read why.
pub(super) async fn write_last_error(
    session: &mut Session,
    error: &EdgeError,
    id: &RequestId,
) -> Result<()> {
    session.set_keepalive(None);
    write_error(session, error, id).await?;
    session.set_total_drain_timeout(Some(LINGER));
    // A client that sends on regardless is cut off.
    let _ = session.drain_request_body().await;
    Ok(())
}

/// Lets the connection outlive an answer that is given before a small body was read.
pub(super) fn drain_small_body(session: &mut Session) {
    let request = session.req_header();
    let waits = framing::expects_continue(request);
    if !waits && framing::length(request).is_some_and(|length| length <= MAX_BODY_BYTES) {
        session.set_close_on_response_before_downstream_finish(false);
        session.set_total_drain_timeout(Some(LINGER));
    }
}
