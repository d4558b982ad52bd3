//! Questions whose answers are known, and how they are asked again and again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use http::{HeaderMap, HeaderValue};
use vms_edge::demo::vms::{Endpoint, StandIn};

use super::rounds::Asks;
use crate::asking::{SHOWS, Widget};
use crate::authority;
use crate::generator::answer::Coding;
use crate::generator::expected::Expected;
use crate::generator::http2;
use crate::generator::{Asked, Script};

/// Users who ask, each for two overlapping batches: an answer is seldom the same twice in a row.
const USERS: u64 = 200;

/// The first user who follows from the stand-in's rules alone.
pub(crate) const FIRST_USER: u64 = 3;

/// Length of a token, as a Laravel Passport issues them.
const TOKEN_BYTES: usize = 900;

/// A batch of a user, and what the VMS answers.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    token: String,
    ids: Vec<u64>,
    pub(crate) answer: Bytes,
}

/// A request and what its answer has to be.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    pub(crate) request: Vec<u8>,
    pub(crate) expected: Expected,
}

/// Requests in any order, the same one in each run of a number.
struct AtRandom {
    prepared: Arc<[Prepared]>,
    random: Rng,
}

/// Requests one after the other, at times if they have any.
pub(super) struct InOrder<I>(pub(super) I);

/// Two overlapping batches of so many items for each user.
pub(crate) fn batches(vms: &StandIn, items: usize) -> Vec<Question> {
    let of_user = |user| {
        let token = long_token(user);
        let owned = vms.owned(user);
        let starts = [0, items.div_ceil(2)];
        starts.map(|start| question(vms, &token, &owned[start..start + items]))
    };
    (FIRST_USER..FIRST_USER + USERS).flat_map(of_user).collect()
}

/// A user's batch.
fn question(vms: &StandIn, token: &str, ids: &[u64]) -> Question {
    Question {
        token: token.to_owned(),
        ids: ids.to_vec(),
        answer: answer(vms, token, ids),
    }
}

/// What the VMS answers to a widget.
pub(super) fn answer(vms: &StandIn, token: &str, ids: &[u64]) -> Bytes {
    let mut headers = HeaderMap::new();
    headers.insert("x-uuid", HeaderValue::from_static(DEVICE));
    let answer = vms.batch_answer(Endpoint::Intercoms, Some(token), &headers, ids);
    answer.body
}

const DEVICE: &str = "b7f0c0de-1";

/// The widget of a token.
pub(crate) fn widget<'a>(token: &'a str, more: &'a str) -> Widget<'a> {
    Widget {
        host: authority::NAME,
        token,
        device: DEVICE,
        client: "ios",
        more,
    }
}

impl Question {
    /// Over HTTP/1.1, by a client that accepts this coding.
    pub(crate) fn prepared(&self, coding: Coding) -> Prepared {
        let more = match coding {
            Coding::Gzip => "Accept-Encoding: gzip\r\n",
            Coding::Brotli => "Accept-Encoding: br\r\n",
            Coding::Identity | Coding::Other => "",
        };
        let mut request = Vec::new();
        widget(&self.token, more).asks(SHOWS, &self.ids, &mut request);
        let expected = Expected::Exactly(self.answer.clone(), coding);
        Prepared { request, expected }
    }

    fn http2(&self) -> http2::Question {
        http2::Question {
            request: widget(&self.token, "").asks_http2(SHOWS, &self.ids),
            expected: Expected::Exactly(self.answer.clone(), Coding::Identity),
        }
    }
}

/// All of `questions`, over and over, by clients that accept this coding.
pub(super) fn over_and_over(questions: &[Question], coding: Coding) -> Asks {
    let prepared = questions.iter().map(|question| question.prepared(coding));
    at_random(prepared.collect())
}

/// Requests, over and over.
pub(super) fn at_random(prepared: Arc<[Prepared]>) -> Asks {
    Asks::Http1(Box::new(move |seed| {
        Box::new(AtRandom {
            prepared: Arc::clone(&prepared),
            random: Rng::with_seed(seed),
        })
    }))
}

/// The same over HTTP/2.
pub(super) fn over_http2(questions: &[Question]) -> Asks {
    Asks::Http2(questions.iter().map(Question::http2).collect())
}

impl Script for AtRandom {
    fn next(&mut self, request: &mut Vec<u8>) -> Option<Asked> {
        let prepared = &self.prepared[self.random.usize(..self.prepared.len())];
        request.extend_from_slice(&prepared.request);
        Some(Asked {
            due: Duration::ZERO,
            expected: prepared.expected.clone(),
        })
    }
}

impl<I: Iterator<Item = (Duration, Prepared)> + Send + 'static> Script for InOrder<I> {
    fn next(&mut self, request: &mut Vec<u8>) -> Option<Asked> {
        let (due, prepared) = self.0.next()?;
        request.extend_from_slice(&prepared.request);
        Some(Asked {
            due,
            expected: prepared.expected,
        })
    }
}

/// A token as long as those that a VMS issues.
fn long_token(user: u64) -> String {
    let start = format!("tok-{user}-");
    let rest = TOKEN_BYTES.saturating_sub(start.len());
    start + &"x".repeat(rest)
}
