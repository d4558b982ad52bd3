//! The judge: holds what a client was told against the VMS's history.
//!
//! It knows nothing of how the edge works, only what it promises. Where requests overlap, it allows whatever could have
//! happened, and nothing else.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::value::RawValue;
use vms_edge::demo::vms::Order;

use super::history::{History, Mark, Point, Scope};
use super::schedule::{Question, Strength, Trouble};

pub(super) const FRESH: Duration = Duration::from_secs(30);
pub(super) const ABSENT: Duration = Duration::from_secs(20);
pub(super) const WHILE_REVALIDATE: Duration = Duration::from_secs(60);
pub(super) const IF_ERROR: Duration = Duration::from_secs(300);

/// A batch, and what came of it.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) question: Question,
    pub(super) sent: Point,
    /// The last time before it at which no fetch was in flight.
    pub(super) settled: Point,
    /// `None` if the client did not wait for it.
    pub(super) told: Option<Told>,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Told {
    /// When its last byte had come.
    pub(super) tick: u64,
    pub(super) status: u16,
    pub(super) is_whole: bool,
    /// In seconds.
    pub(super) age: Option<u64>,
    pub(super) cache_status: String,
    pub(super) body: Vec<u8>,
}

impl Told {
    /// Whether all of it is said to stay fresh for a second at least.
    fn is_fresh(&self) -> bool {
        let ttl = self.cache_status.split("; ttl=").nth(1);
        let ttl = ttl.and_then(|ttl| ttl.split(';').next()?.parse::<i64>().ok());
        ttl.is_some_and(|seconds| seconds >= 1)
    }
}

/// What is wrong with an answer.
type Wrong = String;

#[derive(serde::Deserialize)]
struct Named {
    id: u64,
}

/// Judges all answers of a schedule.
pub(super) fn judge(history: &mut History, asked: &[Asked], order: Order) -> Result<(), Wrong> {
    let refusals: Vec<Mark> = asked
        .iter()
        .filter_map(|asked| refusal(history, asked))
        .collect();
    history.marks.extend(refusals);
    for asked in asked {
        let Some(told) = &asked.told else { continue };
        let judged = match told.status {
            _ if !told.is_whole => judge_broken(history, told),
            200 => judge_items(history, asked, told, order),
            _ => judge_error(history, asked, told),
        };
        judged.map_err(|wrong| {
            let Asked { question, sent, .. } = asked;
            let Told { status, age, .. } = told;
            let (cache_status, body) = (&told.cache_status, String::from_utf8_lossy(&told.body));
            format!(
                "{wrong}: {question:?} at {:?} was told {status}, {cache_status}, age {age:?}: {body}",
                sent.clock
            )
        })?;
    }
    Ok(())
}

/// What a 401 or 403 forbids from then on.
fn refusal(history: &History, asked: &Asked) -> Option<Mark> {
    let told = asked.told.as_ref()?;
    if !matches!(told.status, 401 | 403) {
        return None;
    }
    let is_faulty = |trouble| trouble == Trouble::Status(told.status);
    let ended = history.refused_from(asked.question.who);
    // The VMS said so after this batch was sent; and if the token was really ended, then after that.
    let ended = ended.filter(|_| !history.was_troubled(told.tick, is_faulty));
    Some(Mark {
        scope: Scope::Writer(asked.question.who),
        strength: Strength::Hard,
        tick: told.tick,
        from: history.state_at(asked.sent.tick).max(ended.unwrap_or(0)),
    })
}

/// An answer breaks off only where the VMS's own did, while it passed through.
fn judge_broken(history: &History, told: &Told) -> Result<(), Wrong> {
    let is_excused = told.cache_status.contains("fwd=bypass")
        && history.was_troubled(told.tick, |trouble| trouble == Trouble::CutBody);
    match is_excused {
        true => Ok(()),
        false => Err("the answer broke off".to_owned()),
    }
}

fn judge_error(history: &History, asked: &Asked, told: &Told) -> Result<(), Wrong> {
    let status = told.status;
    let is_refused = history.refused_from(asked.question.who);
    let is_refused = is_refused.is_some_and(|from| from <= history.state_by(told.tick));
    let is_due = (status == 401 && is_refused)
        || history.was_troubled(told.tick, |trouble| trouble.excuses(status));
    match is_due {
        true => Ok(()),
        false => Err(format!("nothing at the VMS explains the status {status}")),
    }
}

fn judge_items(history: &History, asked: &Asked, told: &Told, order: Order) -> Result<(), Wrong> {
    let items: Vec<&RawValue> =
        serde_json::from_slice(&told.body).map_err(|error| format!("no array: {error}"))?;
    let mut shown: BTreeMap<u64, &[u8]> = BTreeMap::new();
    let mut answered = Vec::new();
    for item in items {
        let named: Named = serde_json::from_str(item.get()).map_err(|error| error.to_string())?;
        answered.push(named.id);
        shown.insert(named.id, item.get().as_bytes());
    }
    let mut expected = Vec::new();
    for &id in &asked.question.ids {
        if !expected.contains(&id) {
            expected.push(id);
        }
    }
    if order == Order::Ascending {
        expected.sort_unstable();
    }
    let asked_once = expected.clone();
    expected.retain(|id| shown.contains_key(id));
    let instead_of_error = told.cache_status.contains("detail=stale_if_error");
    // Rather in some order than with an error, as long as the VMS's own is not known.
    let is_excused = instead_of_error && answered.is_sorted() && answered.len() == expected.len();
    if answered != expected && !is_excused {
        return Err(format!("{answered:?} were answered, not {expected:?}"));
    }
    if instead_of_error && !history.was_troubled(told.tick, Trouble::is_failure) {
        return Err("nothing failed that stale items could stand in for".to_owned());
    }
    judge_age(history, asked, told, instead_of_error)?;
    for id in asked_once {
        let item = shown.get(&id).copied();
        judge_item(history, asked, told, id, item, instead_of_error)?;
    }
    Ok(())
}

/// No answer is older than the windows allow, but for what was in flight when it was asked for.
fn judge_age(
    history: &History,
    asked: &Asked,
    told: &Told,
    instead_of_error: bool,
) -> Result<(), Wrong> {
    let Some(age) = told.age.map(Duration::from_secs) else {
        return Ok(());
    };
    let window = FRESH
        + match instead_of_error {
            true => IF_ERROR,
            false => WHILE_REVALIDATE,
        };
    let in_flight = history.clock_at(told.tick) - asked.settled.clock;
    match age <= window.max(in_flight) {
        true => Ok(()),
        false => Err(format!(
            "an age of {age:?} is beyond the window of {window:?}"
        )),
    }
}

/// What is shown of an id, be it nothing, was so at the VMS at a time that may be told of.
fn judge_item(
    history: &History,
    asked: &Asked,
    told: &Told,
    id: u64,
    item: Option<&[u8]>,
    instead_of_error: bool,
) -> Result<(), Wrong> {
    let who = asked.question.who;
    // What has no age comes straight from the VMS.
    let began = |age: Duration| history.tick_at(asked.sent.clock.saturating_sub(age));
    let mut since = match told.age {
        // The age is told in whole seconds.
        Some(age) => began(Duration::from_secs(age + 1)).min(asked.sent.tick),
        None => asked.sent.tick,
    };
    if item.is_none() {
        let more = if instead_of_error {
            IF_ERROR
        } else {
            Duration::ZERO
        };
        since = since.max(began(ABSENT + more).min(asked.settled.tick));
    }
    // What answers from memory alone, and is fresh or tells of an absence, is not what a soft mark covers.
    let is_memory = told.cache_status.contains("; hit");
    let counts_soft = is_memory && (item.is_none() || told.is_fresh());
    let covering = history.marks.iter();
    let covering = covering.filter(|mark| mark.covers(who, id) && mark.tick < asked.sent.tick);
    let covering = covering.filter(|mark| counts_soft || mark.strength == Strength::Hard);
    let marked = covering.map(|mark| mark.from).max().unwrap_or(0);
    let first = history.state_at(since).max(marked);
    let last = history.state_by(told.tick);
    let last_valid = history
        .refused_from(who)
        .map_or(last, |from| last.min(from - 1));
    if first > last_valid {
        return Err(format!(
            "the VMS refuses this token since state {}",
            last_valid + 1
        ));
    }
    match history.had(who, id, first..=last_valid, item) {
        true => Ok(()),
        false => {
            let what = if item.is_some() { "shown" } else { "left out" };
            Err(format!(
                "intercom {id} was {what} as it was in none of the states {first} to {last_valid} (marked: {marked})"
            ))
        }
    }
}
