//! The answers of a batch: put together from memory, relayed as the VMS gave them, or the edge's own errors.

use http::{HeaderName, HeaderValue, Version, header};
use pingora_http::ResponseHeader;

use super::fill::Filled;
use super::{Author, Outcome, Reply};
use crate::cache::Sorted;
use crate::cache::clock::Time;
use crate::cache::header::is_of_one_request;
use crate::cache::shelf::Shelf;
use crate::origin::fetch::FetchError;
use crate::origin::forward;
use crate::reply::cache_status::CacheStatus;
use crate::reply::compose::compose;
use crate::reply::error::EdgeError;
use crate::reply::order::Sequence;
use crate::request::BatchRequest;
use crate::request::decline::Bypass;

/// An answer put together from a shelf.
pub(super) fn composed(
    shelf: &Shelf,
    sorted: &Sorted,
    batch: &BatchRequest,
    sequence: Sequence,
    now: Time,
    status: CacheStatus,
) -> Reply {
    let body = compose(shelf, sorted, &batch.ids, sequence);
    let mut header = shelf.header().to_response();
    let age = sorted
        .oldest
        .map_or(0, |oldest| now.since(oldest).as_secs());
    insert(&mut header, "Content-Length", body.len());
    insert(&mut header, "Age", age);
    append_cache_status(&mut header, status);
    Reply {
        header,
        body,
        author: Author::Vms,
        result: status.result(),
        upstream: None,
    }
}

/// The VMS's own answer, as it came to the one who asked for it.
pub(super) fn relayed(filled: &Filled, status: CacheStatus) -> Reply {
    let mut header = filled.answer.header.clone();
    forward::drop_response_hop_by_hop(&mut header);
    header.set_version(Version::HTTP_11);
    if !matches!(header.status.as_u16(), 204 | 304) {
        insert(&mut header, "Content-Length", filled.answer.body.len());
    }
    append_cache_status(&mut header, status);
    Reply {
        header,
        body: filled.answer.body.clone(),
        author: Author::Vms,
        result: status.result(),
        upstream: Some(filled.took),
    }
}

/// The VMS's own answer, for one who waited while another asked: a cookie is for the one who asked, and so is what tells
/// his request from others.
pub(super) fn shared(filled: &Filled, status: CacheStatus) -> Reply {
    let mut reply = relayed(filled, status);
    reply.header.remove_header(&header::SET_COOKIE);
    let names = reply.header.headers.keys();
    let others: Vec<HeaderName> = names
        .filter(|name| is_of_one_request(name.as_str()))
        .cloned()
        .collect();
    for name in &others {
        reply.header.remove_header(name);
    }
    reply
}

/// What becomes of a batch of which the VMS could not be asked.
pub(super) fn failed(error: &FetchError, status: CacheStatus) -> Outcome {
    let error = match error {
        FetchError::TooLarge => return Outcome::PassThrough(Bypass::TooLarge),
        FetchError::Open | FetchError::Busy(_) => EdgeError::Busy,
        FetchError::Timeout(_) => EdgeError::GatewayTimeout,
        FetchError::Connect(..) | FetchError::Broken(_) => EdgeError::BadGateway,
        FetchError::Panicked => EdgeError::Internal,
    };
    let body = error.body();
    let mut header = error.header(body.len());
    append_cache_status(&mut header, status);
    Outcome::Reply(Reply {
        header,
        body,
        author: Author::Edge,
        result: status.result(),
        upstream: None,
    })
}

/// Sets a field to a number.
fn insert(header: &mut ResponseHeader, name: &'static str, number: impl Into<HeaderValue>) {
    header
        .insert_header(name, number.into())
        .expect("a constant name and a number make a field");
}

fn append_cache_status(header: &mut ResponseHeader, status: CacheStatus) {
    header
        .append_header("Cache-Status", status.to_field())
        .expect("a cache status is a field value");
}
