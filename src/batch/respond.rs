//! The answers of a batch: put together from memory, relayed as the VMS gave them, or the edge's own errors.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, Version, header};
use pingora_http::ResponseHeader;

use super::fill::{Filled, Filler};
use super::{Author, Outcome, Reply};
use crate::cache::Sorted;
use crate::cache::clock::Time;
use crate::cache::header::is_of_one_request;
use crate::cache::shelf::Shelf;
use crate::config::Compression;
use crate::origin::fetch::FetchError;
use crate::origin::forward;
use crate::reply::answers::Ready;
use crate::reply::cache_status::CacheStatus;
use crate::reply::compose::{compose, length, places};
use crate::reply::error::EdgeError;
use crate::reply::order::Sequence;
use crate::request::BatchRequest;
use crate::request::decline::Bypass;

/// An answer put together from a shelf: in a coding if there is one that the client takes, and without a body if the
/// client holds it.
///
/// `None` if anything on the shelf was not fetched for this very user. Keys see to it that nothing is; this holds where
/// they, the store or whoever used them were wrong.
pub(super) fn composed(
    filler: &Filler,
    shelf: &Shelf,
    sorted: &Sorted,
    batch: &BatchRequest,
    sequence: Sequence,
    now: Time,
    status: CacheStatus,
) -> Option<Reply> {
    let (answers, offered) = (&filler.answers, &filler.compression);
    if !shelf.is_of(&batch.user) && !planted!(NoOwnerCheck) {
        filler.end_foreign(&batch.key);
        return None;
    }
    let places = places(shelf, sorted, &batch.ids, sequence);
    let (tag, recurrence) = shelf.tag(&places);
    let plain = || answers.plain(tag, recurrence, || compose(shelf, &places));
    let ready = match is_worth_coding(shelf, &places, batch, offered) {
        true => answers.coded(tag, &batch.accepted, &offered.codings),
        false => Ready::default(),
    };
    let made = ready.wanted.map(|coding| {
        let body = plain();
        answers.make(tag, coding, body.clone());
        body
    });
    let coding = ready.body.as_ref().map(|(coding, _)| *coding);
    let held = batch.held.as_ref();
    let answer = confused!(HoldsAnother, tag);
    let held = held.and_then(|held| held.find(answer, coding, &batch.accepted));

    let mut header = shelf.header().to_response();
    // What was stored while no coding was offered does not say so yet.
    if !offered.codings.is_empty() && !shelf.header().varies_by_coding() {
        append(
            &mut header,
            "Vary",
            HeaderValue::from_static("Accept-Encoding"),
        );
    }
    let tag = held.unwrap_or_else(|| tag.strong(coding));
    insert(&mut header, "ETag", tag.to_value());
    let body = match (held, ready.body) {
        (Some(_), _) => {
            say_not_modified(&mut header);
            Bytes::new()
        }
        (None, Some((coding, body))) => {
            filler.metrics.encoded(coding);
            let name = HeaderValue::from_static(coding.name());
            insert(&mut header, "Content-Encoding", name);
            body
        }
        (None, None) => made.unwrap_or_else(plain),
    };
    if held.is_none() {
        insert(&mut header, "Content-Length", body.len());
    }
    let age = sorted
        .oldest
        .map_or(0, |oldest| now.since(oldest).as_secs());
    insert(&mut header, "Age", age);
    append(&mut header, "Cache-Status", status.to_value());
    Some(Reply {
        header,
        body,
        author: Author::Vms,
        result: status.result(),
        upstream: None,
    })
}

/// Whether the answer with the items at `places` may be sent in a coding.
fn is_worth_coding(
    shelf: &Shelf,
    places: &[usize],
    batch: &BatchRequest,
    offered: &Compression,
) -> bool {
    let mut codings = offered.codings.iter();
    codings.any(|&coding| batch.accepted.prefers(coding))
        && length(shelf, places) as u64 >= offered.min_bytes
}

/// Makes a 304 of the header of a 200: with all that guides caches, without what describes the body (RFC 9110, 15.4.5).
fn say_not_modified(header: &mut ResponseHeader) {
    const OF_THE_BODY: [HeaderName; 3] = [
        header::CONTENT_TYPE,
        header::CONTENT_LANGUAGE,
        header::CONTENT_DISPOSITION,
    ];
    const VALID: &str = "304 is a status";
    header.set_status(StatusCode::NOT_MODIFIED).expect(VALID);
    header.set_reason_phrase(None).expect(VALID);
    for name in &OF_THE_BODY {
        header.remove_header(name);
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
    append(&mut header, "Cache-Status", status.to_value());
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
    append(&mut header, "Cache-Status", status.to_value());
    Outcome::Reply(Reply {
        header,
        body,
        author: Author::Edge,
        result: status.result(),
        upstream: None,
    })
}

const VALID: &str = "a constant name and a value make a field";

/// Sets a field.
fn insert(header: &mut ResponseHeader, name: &'static str, value: impl Into<HeaderValue>) {
    header.insert_header(name, value.into()).expect(VALID);
}

/// Adds a line of a field.
fn append(header: &mut ResponseHeader, name: &'static str, value: HeaderValue) {
    header.append_header(name, value).expect(VALID);
}
