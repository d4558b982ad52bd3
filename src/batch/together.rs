//! Putting a batch together from what was at hand, what it fetched itself, and what others fetched meanwhile.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::fill::{Filled, Filler, Landed, Question, has_failed};
use super::plan::Parts;
use super::waits::Waits;
use super::{Asked, BatchEndpoint, Outcome, answered, respond};
use crate::cache::shelf::{FetchKind, Shelf};
use crate::cache::store::Stored;
use crate::cache::{Need, Sorted, sort_out};
use crate::origin::answer::{Unfit, covered_by_key};
use crate::origin::fetch::FetchError;
use crate::reply::cache_status::CacheStatus;
use crate::request::decline::Bypass;
use crate::waited::waited;

/// What a flight that was waited for comes to.
enum Part {
    /// Items and absences.
    Fits(Arc<Filled>),
    /// An answer of the VMS that holds for this batch too, such as 401 or 429.
    Said(Arc<Filled>),
    /// The VMS failed.
    Failed(Landed),
    /// Whatever came, it is no part of this answer: the whole request passes through.
    PassesThrough(Bypass),
    /// It says nothing about this batch.
    Lost,
}

/// A flight that was waited for.
struct Landing {
    part: Part,
    is_own: bool,
}

/// How the ids of a batch were come by.
#[derive(Clone, Copy)]
struct Counts {
    hit: usize,
    miss: usize,
    collapsed: bool,
}

impl Counts {
    fn status(self, status: u16, stored: bool) -> CacheStatus {
        let collapsed = self.collapsed;
        match self.hit {
            0 => CacheStatus::Miss {
                status,
                stored,
                collapsed,
            },
            hit => CacheStatus::Partial {
                hit,
                miss: self.miss,
                status,
                stored,
                collapsed,
            },
        }
    }
}

impl BatchEndpoint {
    /// Waits for what is in flight, and puts the answer together; `None` if others' flights did not bring what was hoped
    /// for, so that it has to be planned again.
    pub(super) async fn together(
        self: &Arc<Self>,
        filler: &Arc<Filler>,
        asked: &Asked<'_>,
        parts: Parts,
        told: &mut Waits,
    ) -> Option<Outcome> {
        if let Some(lead) = parts.refresh {
            self.refresh(filler, asked, lead);
        }
        let mut counts = Counts {
            hit: 0,
            miss: parts.awaited,
            collapsed: parts.awaited > 0,
        };
        let mut own_told = None;
        let mut others = Duration::ZERO;
        let mut waits: Vec<_> = parts.waits.into_iter().map(|wait| (wait, false)).collect();
        if let Some(lead) = parts.own {
            let part = Question::part(asked, lead.ids(), &self.config, FetchKind::Part);
            let Some(question) = part else {
                return Some(Outcome::PassThrough(Bypass::TooLarge));
            };
            counts.miss += lead.ids().len();
            waits.insert(0, (lead.wait(), true));
            own_told = Some(question.told());
            filler.take_off(self, question, lead);
        }
        counts.hit = asked.batch.ids.len() - counts.miss;
        filler.metrics.collapsed(parts.awaited);
        let at_hand = parts.shelf.as_deref().map(Deref::deref);
        let landings = async {
            let mut landings = Vec::with_capacity(waits.len());
            for (wait, is_own) in waits {
                let (landed, time) = waited(wait.landed()).await;
                if !is_own {
                    others += time;
                }
                let part = match &landed {
                    Some(landed) if filler.is_foreign(landed, &asked.batch) => {
                        Part::PassesThrough(Bypass::Foreign)
                    }
                    _ => part(landed, is_own, &asked.keyed),
                };
                landings.push(Landing { part, is_own });
            }
            landings
        };
        let landings = self.in_time(filler, &asked.batch, at_hand, landings);
        let landings = match waited(landings).await {
            (Ok(landings), _) => landings,
            (Err(stale), in_vain) => {
                told.vain += in_vain;
                return Some(stale);
            }
        };
        told.own.extend(own_told);
        told.others += others;
        self.put_together(filler, asked, parts.shelf, &landings, counts)
    }

    fn put_together(
        &self,
        filler: &Filler,
        asked: &Asked<'_>,
        shelf: Option<Arc<Stored>>,
        landings: &[Landing],
        counts: Counts,
    ) -> Option<Outcome> {
        // What the VMS says of the requester or of itself goes before what memory could make of the rest.
        for landing in landings {
            match &landing.part {
                Part::PassesThrough(reason) => return Some(Outcome::PassThrough(*reason)),
                Part::Said(filled) => return Some(said(filled, landing.is_own, counts)),
                _ => {}
            }
        }
        let fills: Vec<&Filled> = landings
            .iter()
            .filter_map(|landing| match &landing.part {
                Part::Fits(filled) => Some(&**filled),
                _ => None,
            })
            .collect();
        let at_hand = shelf.as_deref().map(Deref::deref);
        let merged = merged(at_hand, &fills);
        let whole = merged.as_ref().or(at_hand);
        let failed = landings.iter().find_map(|landing| match &landing.part {
            Part::Failed(landed) => Some((landed, landing.is_own)),
            _ => None,
        });
        if let Some((landed, is_own)) = failed {
            let stale = self.instead_of_error(filler, &asked.batch, whole, landed.as_deref().ok());
            return Some(stale.unwrap_or_else(|| failure(landed, is_own, counts)));
        }
        if landings.iter().any(|l| matches!(l.part, Part::Lost)) {
            return None;
        }
        self.composed(filler, asked, whole?, &fills, counts)
    }

    /// The answer, if `whole` has all that was asked.
    fn composed(
        &self,
        filler: &Filler,
        asked: &Asked<'_>,
        whole: &Shelf,
        fills: &[&Filled],
        counts: Counts,
    ) -> Option<Outcome> {
        let batch = &asked.batch;
        let now = filler.clock.now();
        // A write or a refused token may meanwhile have ended what was at hand, or what others fetched; and what was
        // at hand has grown older. What was fetched for this answer is good for it, however short the windows are.
        let fence = filler.marks.fence(self.config.endpoint, &batch.user);
        let usable = sort_out(whole, &batch.ids, &self.windows, &fence, Need::Answer, now);
        let was_brought = |id| fills.iter().any(|filled| filled.tells_of(id));
        let is_lacking = |id: &u64| match whole.find(*id) {
            _ if planted!(AnswersWithHoles) => false,
            Some(_) if planted!(NoSecondLook) => false,
            Some((_, slot)) if was_brought(*id) => !planted!(TrustsOlder) && fence.covers(&slot),
            _ => usable.missing.contains(id),
        };
        if batch.ids.in_order().iter().any(is_lacking) {
            return None;
        }
        let all = Sorted::everything(whole, &batch.ids);
        // What landed may have taught another order than the one assumed before it.
        let sequence = self.order.sequence(&answered(whole, &all, batch))?;
        let status = counts.status(200, true);
        let reply = respond::composed(filler, whole, &all, batch, sequence, now, status);
        let Some(mut reply) = reply else {
            return Some(Outcome::PassThrough(Bypass::Foreign));
        };
        reply.upstream = longest(fills);
        Some(Outcome::Reply(reply))
    }
}

/// What a flight comes to for one who waited.
fn part(landed: Option<Landed>, is_own: bool, keyed: &[HeaderName]) -> Part {
    let filled = match landed {
        None if is_own => return Part::Failed(Err(Arc::new(FetchError::Panicked))),
        None => return Part::Lost,
        Some(Err(error)) => {
            return match *error {
                FetchError::TooLarge => Part::PassesThrough(Bypass::TooLarge),
                // It may have been that request, or that connection: who waited asks by himself.
                FetchError::Broken(_) if !is_own => Part::Lost,
                _ => Part::Failed(Err(error)),
            };
        }
        Some(Ok(filled)) => filled,
    };
    match filled.fill {
        Ok(_) => Part::Fits(filled),
        // It may be another's by what the key does not cover, such as the language.
        Err(_)
            if !is_own
                && !planted!(SharesWhatVaries)
                && covered_by_key(&filled.answer.header.headers, keyed).is_err() =>
        {
            Part::Lost
        }
        Err(_) if has_failed(&Ok(Arc::clone(&filled))) => Part::Failed(Ok(filled)),
        // What the VMS finds wrong with a request is about the ids of that one.
        Err(Unfit::Status(400 | 413 | 414 | 422)) if !is_own => Part::Lost,
        Err(Unfit::Status(400..)) => Part::Said(filled),
        Err(_) => Part::PassesThrough(Bypass::Unfit),
    }
}

/// What was at hand, with all that was brought; `None` if nothing was.
fn merged(at_hand: Option<&Shelf>, fills: &[&Filled]) -> Option<Shelf> {
    let fills = fills.iter().filter_map(|filled| filled.fill.as_ref().ok());
    fills.fold(None, |merged: Option<Shelf>, fill| {
        let before = merged.as_ref().or(at_hand);
        Some(Shelf::merged(before, fill, |_| true))
    })
}

/// What is told of a failure that nothing at hand can stand in for.
fn failure(landed: &Landed, is_own: bool, counts: Counts) -> Outcome {
    match landed {
        Err(error) => {
            let partial = counts.hit > 0;
            respond::failed(error, CacheStatus::Failed { partial })
        }
        Ok(filled) if filled.status() < 400 => Outcome::PassThrough(Bypass::Unfit),
        Ok(filled) => said(filled, is_own, counts),
    }
}

/// The VMS's own answer to a fetch, which holds for the whole batch.
fn said(filled: &Filled, is_own: bool, counts: Counts) -> Outcome {
    let status = counts.status(filled.status(), false);
    Outcome::Reply(match is_own {
        true => respond::relayed(filled, status),
        false => respond::shared(filled, status),
    })
}

/// How long the VMS was waited for.
fn longest(fills: &[&Filled]) -> Option<Duration> {
    fills.iter().map(|filled| filled.took).max()
}
