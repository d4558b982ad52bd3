//! The judge: whether an answer could have been given, by the VMS's history and the edge's promises.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;

use super::history::{History, Moment};
use super::phones::CONFIG;
use super::vms::Vms;
use crate::cache::clock::Time;
use crate::request::decline::Bypass;

/// A batch as its client sees it.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) user: u8,
    pub(super) device: u8,
    pub(super) ids: Vec<u64>,
    pub(super) no_cache: bool,
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
    user: u8,
    device: u8,
    /// Of the moment at which the VMS made it.
    number: u64,
    seconds: u64,
}

/// Since when the edge knows what of an id, for each user and phone.
#[derive(Default)]
pub(super) struct Stored(HashMap<(u8, u8, u64), Moment>);

impl Stored {
    /// Notes what a fetch brought.
    pub(super) fn bring(&mut self, (user, device, ids, started): (u8, u8, Vec<u64>, Moment)) {
        for id in ids {
            let known = self.0.entry((user, device, id)).or_insert(started);
            *known = (*known).max(started);
        }
    }

    /// Whether everything that is asked could be answered instead of an error.
    pub(super) fn covers(&self, question: &Question, vms: &Vms) -> bool {
        let history = vms.history.lock().unwrap();
        let batch = &CONFIG.batches[0];
        // Until the latest moment at which a fetch of this batch may fail.
        let bound = batch.absent.min(batch.fresh) + batch.stale_if_error - Duration::from_secs(20);
        question.ids.iter().all(|&id| {
            let known = self.0.get(&(question.user, question.device, id));
            let mark = history.last_mark(question.user, id, false, question.asked);
            known.is_some_and(|known| {
                question.asked.time.since(known.time) < bound
                    && mark.is_none_or(|mark| known.time > mark.since.time)
            })
        })
    }
}

/// Judges an answer that was given at `at`.
pub(super) fn judge(
    question: &Question,
    given: &Given,
    at: Moment,
    history: &History,
) -> Result<(), &'static str> {
    let (status, cache_status, body) = match given {
        // The VMS answers for itself.
        Given::PassedThrough(Bypass::Unfit) => return Ok(()),
        Given::PassedThrough(_) => return Err("passed through without a reason"),
        Given::Reply {
            status,
            cache_status,
            body,
        } => (*status, cache_status.as_str(), body),
    };
    let says = |parameter| cache_status.split("; ").any(|said| said == parameter);
    if status >= 500 && question.was_covered && !question.no_cache {
        let marked = |id| {
            let mark = history.last_mark(question.user, id, false, at);
            mark.is_some_and(|mark| mark.since > question.asked)
        };
        if !question.ids.iter().any(|id| marked(*id)) {
            return Err("an error although all was covered");
        }
    }
    if status != 200 {
        return Ok(());
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
    let (batch, start) = (&CONFIG.batches[0], history.start);
    let stands_in = says("detail=stale_if_error");
    let oldest = match stands_in {
        true => batch.fresh + batch.stale_if_error,
        false => batch.fresh + batch.stale_while_revalidate,
    };
    let is_relayed = says("fwd=miss") && !says("collapsed");
    for item in &items {
        if (item.user, item.device) != (question.user, question.device) {
            return Err("somebody else's item");
        }
        if !question.ids.contains(&item.id) {
            return Err("an item that nobody asked for");
        }
        let made = start_plus(start, item.seconds);
        if !is_relayed && at.time.since(made) > oldest + Duration::from_secs(1) {
            return Err("too old");
        }
        // What the batch asked the VMS for itself is what the VMS would have said; all else is of now.
        let before = if is_relayed { question.asked } else { at };
        let mark = history.last_mark(question.user, item.id, false, before);
        if mark.is_some_and(|mark| item.number < mark.ends.number) {
            return Err("older than a mark");
        }
        let soft = history.last_mark(question.user, item.id, true, question.asked);
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
        let mark = history.last_mark(question.user, id, false, before);
        if !history.was_absent(question.user, id, mark.map(|mark| mark.ends), earliest) {
            return Err("a hole");
        }
    }
    Ok(())
}

fn start_plus(start: Time, seconds: u64) -> Time {
    start.plus(Duration::from_secs(seconds))
}
