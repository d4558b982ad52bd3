//! What has happened in one schedule, and what the VMS would have shown when.

use crate::cache::clock::Time;

/// Users, from 0.
pub(super) const USERS: u8 = 3;
/// Phones of each, from 0.
pub(super) const DEVICES: u8 = 2;
/// Intercoms, from 1.
pub(super) const IDS: u64 = 5;

/// A place in the order of all that happened, and the time it happened at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment {
    pub(super) number: u64,
    pub(super) time: Time,
}

/// What a mark covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    User(u8),
    Item(u64),
    All,
}

impl Scope {
    fn covers(self, user: u8, id: u64) -> bool {
        match self {
            Self::User(marked) => marked == user,
            Self::Item(marked) => marked == id,
            Self::All => true,
        }
    }
}

/// A mark that the edge was given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    scope: Scope,
    is_soft: bool,
    /// What the VMS made before must not be seen any more …
    pub(super) ends: Moment,
    /// … from this moment on, by which the edge has read of it.
    pub(super) since: Moment,
}

/// The VMS's history, and the edge's marks.
pub(super) struct History {
    pub(super) start: Time,
    events: u64,
    marks: Vec<Mark>,
    /// Of each user and id, since when it is (not) the user's.
    owned: Vec<(u8, u64, Moment, bool)>,
    /// Of each user, since when the token is (not) good.
    good: Vec<(u8, bool)>,
}

impl History {
    pub(super) fn new(start: Time) -> Self {
        let at = Moment {
            number: 0,
            time: start,
        };
        let each = |user| (1..=IDS).map(move |id| (user, id, at, (id + u64::from(user)) % 3 != 0));
        Self {
            start,
            events: 0,
            marks: Vec::new(),
            owned: (0..USERS).flat_map(each).collect(),
            good: Vec::new(),
        }
    }

    /// The next moment.
    pub(super) fn now(&mut self, time: Time) -> Moment {
        self.events += 1;
        Moment {
            number: self.events,
            time,
        }
    }

    pub(super) fn mark(&mut self, scope: Scope, is_soft: bool, ends: Moment, since: Moment) {
        self.marks.push(Mark {
            scope,
            is_soft,
            ends,
            since,
        });
    }

    /// Gives a user an id that is not the user's, or takes it away.
    pub(super) fn turn(&mut self, at: Moment, user: u8, id: u64) {
        let owned = self.owns(user, id);
        self.owned.push((user, id, at, !owned));
    }

    pub(super) fn set_good(&mut self, user: u8, good: bool) {
        self.good.push((user, good));
    }

    pub(super) fn is_good(&self, user: u8) -> bool {
        let mut latest = self.good.iter().rev();
        latest
            .find(|(of, _)| *of == user)
            .is_none_or(|(_, good)| *good)
    }

    pub(super) fn owns(&self, user: u8, id: u64) -> bool {
        let mut latest = self.owned.iter().rev();
        let found = latest.find(|(of, owned, ..)| (*of, *owned) == (user, id));
        found.is_some_and(|(.., owned)| *owned)
    }

    /// The latest mark known before `before` that covers an item of a user.
    pub(super) fn last_mark(
        &self,
        user: u8,
        id: u64,
        is_soft: bool,
        before: Moment,
    ) -> Option<Mark> {
        let covers = |mark: &&Mark| {
            mark.is_soft == is_soft && mark.since < before && mark.scope.covers(user, id)
        };
        let covering = self.marks.iter().filter(covers).copied();
        covering.max_by_key(|mark| mark.ends)
    }

    /// Whether an id was not the user's at some moment after `since` and not before `earliest`.
    pub(super) fn was_absent(
        &self,
        user: u8,
        id: u64,
        since: Option<Moment>,
        earliest: Time,
    ) -> bool {
        let mut spells = self
            .owned
            .iter()
            .filter(|(of, owned, ..)| (*of, *owned) == (user, id))
            .peekable();
        while let Some((.., owned)) = spells.next() {
            let end = spells.peek().map(|(_, _, end, _)| *end);
            let lasted =
                end.is_none_or(|end| end.time >= earliest && since.is_none_or(|since| end > since));
            if !owned && lasted {
                return true;
            }
        }
        false
    }
}
