//! The judge: whether an answer could have been given, by the VMS's history and the edge's promises.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;

use super::history::{History, Moment};
use super::phones::{CONFIGS, Read, Who};
use super::vms::{ANY_ZONE, Vms};
use crate::cache::clock::Time;
use crate::request::decline::Bypass;

/// A batch as its client sees it.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) who: Who,
    pub(super) ids: Vec<u64>,
    pub(super) no_cache: bool,
    /// What the phone holds, by its tags.
    pub(super) held: Vec<(String, Bytes)>,
    pub(super) asked: Moment,
    /// Whether all of it was stored, good enough instead of an error, when it was asked.
    pub(super) was_covered: bool,
}

/// What became of it.
#[derive(Debug)]
pub(super) enum Given {
    PassedThrough(Bypass),
    Reply {
        status: u16,
        cache_status: String,
        /// The tag, if it has one.
        tag: Option<String>,
        /// Whom its header is for, by what the VMS saw.
        seen: Option<String>,
        /// Not coded any more.
        body: Bytes,
    },
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PassedThrough(reason) => write!(f, "passed through: {}", reason.name()),
            Self::Reply {
                status,
                cache_status,
                ..
            } => write!(f, "{status} {cache_status}"),
        }
    }
}

/// An item of the model's VMS.
#[derive(Debug, Deserialize)]
struct Item {
    id: u64,
    /// Whom it is for, by what the VMS saw.
    seen: String,
    /// The same of its zone; `any` while nothing depended on it.
    zone: String,
    /// Of the moment at which the VMS made it.
    number: u64,
    seconds: u64,
}

/// What the VMS says to one whom it shows nothing.
#[derive(Deserialize)]
struct Refusal {
    seen: String,
    zone: String,
}

/// Since when the edge knows what of an id, for each of those whom the VMS can tell apart.
#[derive(Default)]
pub(super) struct Stored(HashMap<(String, u64), Moment>);

impl Stored {
    /// Notes what a fetch brought.
    pub(super) fn bring(&mut self, (read, started): (Read, Moment)) {
        for id in read.ids {
            let known = self.0.entry((read.seen.clone(), id)).or_insert(started);
            *known = (*known).max(started);
        }
    }

    /// Whether everything that is asked could be answered instead of an error.
    pub(super) fn covers(&self, question: &Question, vms: &Vms) -> bool {
        let history = vms.history.lock().unwrap();
        let batch = &CONFIGS[0].batches[0];
        let seen = question.who.seen();
        // Until the latest moment at which a fetch of this batch may fail.
        let bound = batch.absent.min(batch.fresh) + batch.stale_if_error - Duration::from_secs(20);
        question.ids.iter().all(|&id| {
            let known = self.0.get(&(seen.clone(), id));
            let mark = history.last_mark(question.who.user, id, false, question.asked);
            known.is_some_and(|known| {
                question.asked.time.since(known.time) < bound
                    && mark.is_none_or(|mark| known.time > mark.since.time)
            })
        })
    }
}

/// What is wrong with an answer that another user's answer, or a part of it, was given to.
pub(super) const ANOTHER_USERS: &str = "another user's";

/// The same of the user's other phone, of another language, or of whatever else the VMS can tell apart.
const ANOTHER_VIEW: &str = "for another phone, in another language, or otherwise not as asked";

/// Whether what is wrong is that somebody was shown what was not for him.
pub(super) fn is_leak(wrong: &str) -> bool {
    wrong.starts_with(ANOTHER_USERS) || wrong.starts_with(ANOTHER_VIEW)
}

/// Judges an answer that was given at `at`.
pub(super) fn judge(
    question: &Question,
    given: &Given,
    at: Moment,
    history: &History,
) -> Result<(), &'static str> {
    let (mut status, cache_status, tag, whose, mut body) = match given {
        // The VMS answers for itself.
        Given::PassedThrough(Bypass::Unfit) => return Ok(()),
        Given::PassedThrough(_) => return Err("passed through without a reason"),
        Given::Reply {
            status,
            cache_status,
            tag,
            seen,
            body,
        } => (*status, cache_status.as_str(), tag, seen, body),
    };
    let (who, user) = (question.who, question.who.user);
    if let Some(whose) = whose {
        is_for(who, whose, ANY_ZONE)?;
    }
    if status == 304 {
        // The phone shows what it holds by that tag.
        let mut held = question.held.iter();
        let Some((_, shown)) = held.find(|(held, _)| Some(held) == tag.as_ref()) else {
            return Err("not sent, and not held either");
        };
        (status, body) = (200, shown);
    }
    let says = |parameter| cache_status.split("; ").any(|said| said == parameter);
    if status >= 500 && question.was_covered && !question.no_cache {
        let marked = |id| {
            let mark = history.last_mark(user, id, false, at);
            mark.is_some_and(|mark| mark.since > question.asked)
        };
        if !question.ids.iter().any(|id| marked(*id)) {
            return Err("an error although all was covered");
        }
    }
    if status != 200 {
        // An error of the edge's own is for nobody.
        let said = serde_json::from_slice::<Refusal>(body);
        return said.map_or(Ok(()), |said| is_for(who, &said.seen, &said.zone));
    }
    let Ok(items) = serde_json::from_slice::<Vec<Item>>(body) else {
        // The VMS's own, to the one who asked for exactly it.
        return match says("fwd=miss") && !says("stored") {
            true => Ok(()),
            false => Err("not a JSON array of items"),
        };
    };
    if !items.is_sorted_by_key(|item| item.id) {
        return Err("not in the VMS's order");
    }
    let (batch, start) = (&CONFIGS[0].batches[0], history.start);
    let stands_in = says("detail=stale_if_error");
    let oldest = match stands_in {
        true => batch.fresh + batch.stale_if_error,
        false => batch.fresh + batch.stale_while_revalidate,
    };
    let is_relayed = says("fwd=miss") && !says("collapsed");
    for item in &items {
        is_for(who, &item.seen, &item.zone)?;
        if !question.ids.contains(&item.id) {
            return Err("an item that nobody asked for");
        }
        let made = start_plus(start, item.seconds);
        if !is_relayed && at.time.since(made) > oldest + Duration::from_secs(1) {
            return Err("too old");
        }
        // What the batch asked the VMS for itself is what the VMS would have said; all else is of now.
        let before = if is_relayed { question.asked } else { at };
        let mark = history.last_mark(user, item.id, false, before);
        if mark.is_some_and(|mark| item.number < mark.ends.number) {
            return Err("older than a mark");
        }
        let soft = history.last_mark(user, item.id, true, question.asked);
        let is_fresh = says("hit") && !cache_status.contains("ttl=-") && !says("ttl=0");
        if is_fresh && soft.is_some_and(|mark| item.number < mark.ends.number) {
            return Err("fresh although softly purged");
        }
    }
    for &id in &question.ids {
        if items.iter().any(|item| item.id == id) {
            continue;
        }
        let oldest = match stands_in {
            true => batch.absent + batch.stale_if_error,
            // A fetch may take five seconds, and so may the one before it that was waited for.
            false => batch.absent,
        };
        let earliest = at.time.since(start).saturating_sub(oldest);
        let earliest = match is_relayed {
            true => start,
            false => start_plus(start, earliest.as_secs()),
        };
        let before = if is_relayed { question.asked } else { at };
        let mark = history.last_mark(user, id, false, before);
        if !history.was_absent(user, id, mark.map(|mark| mark.ends), earliest) {
            return Err("a hole");
        }
    }
    Ok(())
}

/// Whether what the VMS said to one whom it saw so was told to the right one.
fn is_for(who: Who, seen: &str, zone: &str) -> Result<(), &'static str> {
    let user = |seen: &str| seen.split(' ').next().map(str::to_owned);
    let right = who.seen();
    if user(seen) != user(&right) {
        return Err(ANOTHER_USERS);
    }
    if seen != right || (zone != ANY_ZONE && zone != who.zone()) {
        return Err(ANOTHER_VIEW);
    }
    Ok(())
}

fn start_plus(start: Time, seconds: u64) -> Time {
    start.plus(Duration::from_secs(seconds))
}
