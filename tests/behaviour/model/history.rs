//! The VMS's own history: every state that it was in, and from when to when it may have been in it.
//!
//! Whatever happens takes a tick, so that "before" and "after" are said of ticks. A change that is made through the edge
//! takes effect at some point between two of them; what is known is no more than that, and no less.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use vms_edge::demo::vms::{Endpoint, StandIn};

use super::schedule::{EVERYONE, IDS, Strength, Trouble, Who};

/// Counts what happens.
#[derive(Clone, Default)]
pub(super) struct Ticks(Arc<AtomicU64>);

impl Ticks {
    pub(super) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }
}

/// A tick, and what the edge's clock showed then.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Point {
    pub(super) tick: u64,
    pub(super) clock: Duration,
}

/// What a mark covers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scope {
    /// All that is one token's.
    Writer(Who),
    Item(u64),
    Everything,
}

/// After `tick`, nobody whom it covers may be shown what the VMS knew before its state `from`; not as fresh, if it is soft.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub(super) scope: Scope,
    pub(super) strength: Strength,
    pub(super) tick: u64,
    pub(super) from: usize,
}

/// One state of the VMS came into being between these ticks.
#[derive(Clone, Copy, Debug, Default)]
struct Moment {
    begun: u64,
    done: u64,
}

/// What one was shown of one intercom, if anything, from some state on.
type Views = Vec<(usize, Option<Bytes>)>;

pub(super) struct History {
    vms: StandIn,
    pub(super) users: [u64; 2],
    pub(super) ticks: Ticks,
    pub(super) now: Point,
    /// When the clock was moved, and to what.
    advances: Vec<Point>,
    /// The states, from the first one.
    moments: Vec<Moment>,
    views: HashMap<(Who, u64), Views>,
    /// The state from which a token is refused.
    refused: HashMap<(usize, &'static str), usize>,
    pub(super) marks: Vec<Mark>,
    troubles: Vec<(u64, Trouble)>,
    /// When no fetch was in flight.
    pub(super) settled: Point,
}

impl Mark {
    pub(super) fn covers(&self, who: Who, id: u64) -> bool {
        match self.scope {
            Scope::Writer(writer) => (writer.user, writer.session) == (who.user, who.session),
            Scope::Item(item) => item == id,
            Scope::Everything => true,
        }
    }
}

impl History {
    /// Begins with what the VMS knows now of two users.
    pub(super) fn begin(vms: &StandIn, users: [u64; 2], ticks: Ticks) -> Self {
        let mut history = Self {
            vms: vms.clone(),
            users,
            ticks,
            now: Point::default(),
            advances: Vec::new(),
            moments: vec![Moment::default()],
            views: HashMap::new(),
            refused: HashMap::new(),
            marks: Vec::new(),
            troubles: Vec::new(),
            settled: Point::default(),
        };
        for user in 0..users.len() {
            for id in IDS {
                history.look(user, id);
            }
        }
        history
    }

    pub(super) fn token(&self, who: Who) -> String {
        format!("tok-{}-{}", self.users[who.user], who.session)
    }

    /// The clock is about to be moved.
    pub(super) fn advance(&mut self, by: Duration) {
        self.now.tick = self.ticks.next();
        self.now.clock += by;
        self.advances.push(self.now);
    }

    /// The VMS may fail from now on.
    pub(super) fn trouble(&mut self, trouble: Trouble) {
        self.troubles.push((self.ticks.next(), trouble));
    }

    /// The VMS came to know something new about `id`, or about whom it refuses, since the tick `begun`.
    pub(super) fn changed(&mut self, begun: u64, users: &[usize], id: Option<u64>) -> usize {
        let done = self.ticks.next();
        self.moments.push(Moment { begun, done });
        for &user in users {
            if let Some(id) = id {
                self.look(user, id);
            }
        }
        self.latest()
    }

    /// A token is refused from the latest state on.
    pub(super) fn refused(&mut self, who: Who) {
        let latest = self.latest();
        self.refused
            .entry((who.user, who.session))
            .or_insert(latest);
    }

    pub(super) fn latest(&self) -> usize {
        self.moments.len() - 1
    }

    /// The state from which a token is refused, if that comes.
    pub(super) fn refused_from(&self, who: Who) -> Option<usize> {
        self.refused.get(&(who.user, who.session)).copied()
    }

    /// The state that the VMS was in at a tick, or the one that it was about to leave.
    pub(super) fn state_at(&self, tick: u64) -> usize {
        self.moments.partition_point(|moment| moment.done <= tick) - 1
    }

    /// The last state that the VMS may have been in by a tick.
    pub(super) fn state_by(&self, tick: u64) -> usize {
        self.moments.partition_point(|moment| moment.begun <= tick) - 1
    }

    /// The first tick at which the clock may have shown so much.
    pub(super) fn tick_at(&self, clock: Duration) -> u64 {
        let place = self.advances.partition_point(|point| point.clock < clock);
        match clock.is_zero() {
            true => 0,
            false => self
                .advances
                .get(place)
                .map_or(u64::MAX, |point| point.tick),
        }
    }

    /// What the clock showed at a tick.
    pub(super) fn clock_at(&self, tick: u64) -> Duration {
        let place = self.advances.partition_point(|point| point.tick <= tick);
        place
            .checked_sub(1)
            .map_or(Duration::ZERO, |last| self.advances[last].clock)
    }

    /// Whether the VMS had begun to fail by a tick, in a way of which `holds`.
    pub(super) fn was_troubled(&self, by: u64, holds: impl Fn(Trouble) -> bool) -> bool {
        let mut troubles = self.troubles.iter();
        troubles.any(|&(tick, trouble)| tick < by && holds(trouble))
    }

    /// Whether one was shown `item`, or with `None` that there is none, in any of the states.
    pub(super) fn had(
        &self,
        who: Who,
        id: u64,
        states: std::ops::RangeInclusive<usize>,
        item: Option<&[u8]>,
    ) -> bool {
        let views = &self.views[&(who, id)];
        let first = views.partition_point(|(state, _)| state <= states.start()) - 1;
        views[first..]
            .iter()
            .take_while(|(state, _)| state <= states.end())
            .any(|(_, shown)| shown.as_deref() == item)
    }

    /// Notes what a user's requesters are shown of an intercom now.
    fn look(&mut self, user: usize, id: u64) {
        let latest = self.latest();
        for who in EVERYONE.into_iter().filter(|who| who.user == user) {
            let mut headers = HeaderMap::new();
            headers.insert("x-uuid", who.device.parse().unwrap());
            headers.insert("hl", who.language.parse().unwrap());
            headers.insert("x-client", who.client.parse().unwrap());
            headers.insert("x-region", who.region.parse().unwrap());
            // A session that nobody ends: who is refused is noted apart.
            let token = format!("tok-{}-look", self.users[user]);
            let token = Some(token.as_str());
            let answer = self
                .vms
                .batch_answer(Endpoint::Intercoms, token, &headers, &[id]);
            let item = answer.body.slice(1..answer.body.len() - 1);
            let item = (!item.is_empty()).then_some(item);
            self.views
                .entry((who, id))
                .or_default()
                .push((latest, item));
        }
    }
}
