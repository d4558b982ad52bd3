//! Marks: the points in time at which a user, an item or everything was invalidated.
//!
//! Something stored is used only if its fetch began after every mark that covers it. So purging, read-your-writes and
//! the race between a fill and a write are one rule, and a mark costs the same however much it covers. A soft mark takes
//! only the freshness of what it covers: that is stale from then on, and otherwise as old as it is.
//!
//! A mark is remembered for as long as anything that it covers could be, on a shelf or on its way there. If marks are so
//! many that one must be forgotten sooner, it becomes one of everything: a lost mark must never bring back what it
//! covered.

mod remembered;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::clock::{Clock, Time};
use super::shelf::Slot;
use crate::config::EndpointId;
use crate::request::key::UserId;
use remembered::Remembered;

/// Most users, and most items, whose marks of one strength are remembered one by one.
const MAX_MARKS: usize = 100_000;

/// What a mark does to what it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strength {
    /// It is not used any more.
    Hard,
    /// It is stale at best.
    Soft,
}

impl Strength {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Hard, Self::Soft];

    /// The name in purges and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hard => "hard",
            Self::Soft => "soft",
        }
    }
}

/// What a mark covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All items of a user.
    User,
    /// An item, for everyone.
    Item,
    /// Everything.
    All,
}

impl Scope {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Self; 3] = [Self::User, Self::Item, Self::All];

    /// The name in metrics and in what operators are told.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Item => "item",
            Self::All => "all",
        }
    }
}

/// That there is a mark, but not whose: which user or item it is about is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marked {
    /// What it covers.
    pub scope: Scope,
    /// What it does.
    pub strength: Strength,
    /// When it was set.
    pub at: Time,
}

/// How many of the latest marks of each scope are told, so that many of one kind do not hide a rare one.
const RECENT: usize = 8;

/// All marks.
pub struct Marks {
    hard: Layer,
    soft: Layer,
    /// The latest of each scope, the last one last. Whoever holds the lock takes no other.
    recent: Mutex<[VecDeque<Marked>; Scope::ALL.len()]>,
}

/// All marks of one strength.
struct Layer {
    everything: Latest,
    users: Remembered<UserId>,
    latest_user: Latest,
    items: Remembered<(EndpointId, u64)>,
    latest_item: Latest,
}

/// The marks that cover one user's shelf; by default none.
#[derive(Default)]
pub struct Fence<'a> {
    hard: Option<Cover<'a>>,
    soft: Option<Cover<'a>>,
}

/// Those of one strength.
struct Cover<'a> {
    /// The latest that covers the whole shelf.
    whole: Option<Time>,
    latest_item: Option<Time>,
    endpoint: EndpointId,
    layer: &'a Layer,
}

/// The latest of some points in time.
#[derive(Default)]
struct Latest(AtomicU64);

impl Latest {
    fn raise(&self, to: Time) {
        self.0.fetch_max(to.as_nanos() + 1, Ordering::SeqCst);
    }

    fn get(&self) -> Option<Time> {
        let raised = self.0.load(Ordering::SeqCst);
        raised.checked_sub(1).map(Time::from_nanos)
    }
}

impl Marks {
    /// No marks; each will be remembered for `longest`, the longest time from when a fetch begins to when nothing that it
    /// brought is of use.
    pub fn new(longest: Duration) -> Self {
        Self::with_room(longest, MAX_MARKS)
    }

    fn with_room(longest: Duration, most: usize) -> Self {
        Self {
            hard: Layer::new(longest, most),
            soft: Layer::new(longest, most),
            recent: Mutex::default(),
        }
    }

    /// Remembers each mark for `longest` from now on, if that is longer than before.
    ///
    /// The marks that were forgotten already no longer mattered, since nothing that they covered was of use any more; with
    /// longer windows it might be again. So all that is as old as that ends here.
    pub fn lengthen(&self, longest: Duration, clock: &Clock) {
        let before = self.hard.users.longest();
        if longest <= before {
            return;
        }
        // Lengthened first and looked at the clock then, so that nothing is forgotten between the two.
        for layer in [&self.hard, &self.soft] {
            layer.users.lengthen(longest);
            layer.items.lengthen(longest);
        }
        if let Some(oldest_of_use) = clock.now().minus(before) {
            self.hard.everything.raise(oldest_of_use);
        }
    }

    /// Marks all items of a user, of every endpoint.
    pub fn user(&self, strength: Strength, user: UserId, now: Time) {
        let marked = confused!(MarksAnother, user);
        let layer = self.layer(strength);
        layer.users.raise(marked, now, &layer.everything);
        layer.latest_user.raise(now);
        self.note(Scope::User, strength, now);
    }

    /// Marks an item of an endpoint, for everyone.
    pub fn item(&self, strength: Strength, endpoint: EndpointId, id: u64, now: Time) {
        let layer = self.layer(strength);
        layer.items.raise((endpoint, id), now, &layer.everything);
        layer.latest_item.raise(now);
        self.note(Scope::Item, strength, now);
    }

    /// Marks everything.
    pub fn everything(&self, strength: Strength, now: Time) {
        self.layer(strength).everything.raise(now);
        self.note(Scope::All, strength, now);
    }

    /// What covers a user's shelf of an endpoint's items.
    pub fn fence(&self, endpoint: EndpointId, user: &UserId) -> Fence<'_> {
        let whose = confused!(FenceOfAnother, *user);
        Fence {
            hard: self.hard.cover(endpoint, &whose),
            soft: self.soft.cover(endpoint, &whose),
        }
    }

    /// The mark that decides about something of a user's whose fetch began at `began`: the latest hard one that covers it,
    /// else the latest soft one.
    pub fn covering(
        &self,
        endpoint: EndpointId,
        user: &UserId,
        id: u64,
        began: Time,
    ) -> Option<Marked> {
        Strength::ALL.into_iter().find_map(|strength| {
            let latest = self.layer(strength).latest(endpoint, user, id)?;
            let (scope, at) = latest;
            let marked = Marked {
                scope,
                strength,
                at,
            };
            (began <= at).then_some(marked)
        })
    }

    /// The latest marks of each scope, the last one first.
    pub fn recent(&self) -> Vec<Marked> {
        let mut recent: Vec<Marked> = self.recent.lock().iter().flatten().copied().collect();
        recent.sort_by_key(|marked| std::cmp::Reverse(marked.at));
        recent
    }

    fn note(&self, scope: Scope, strength: Strength, at: Time) {
        let mut recent = self.recent.lock();
        let of_scope = &mut recent[scope as usize];
        if of_scope.len() == RECENT {
            of_scope.pop_front();
        }
        of_scope.push_back(Marked {
            scope,
            strength,
            at,
        });
    }

    fn layer(&self, strength: Strength) -> &Layer {
        match strength {
            Strength::Hard => &self.hard,
            Strength::Soft => &self.soft,
        }
    }
}

impl Layer {
    fn new(longest: Duration, most: usize) -> Self {
        Self {
            everything: Latest::default(),
            users: Remembered::new(longest, most),
            latest_user: Latest::default(),
            items: Remembered::new(longest, most),
            latest_item: Latest::default(),
        }
    }

    /// The latest mark that is about an item of a user's.
    fn latest(&self, endpoint: EndpointId, user: &UserId, id: u64) -> Option<(Scope, Time)> {
        let user = self.users.get(user).map(|at| (Scope::User, at));
        let item = self.items.get(&(endpoint, id)).map(|at| (Scope::Item, at));
        // Looked at last, since it takes the place of marks that are forgotten.
        let everything = self.everything.get().map(|at| (Scope::All, at));
        let marks = [user, item, everything].into_iter().flatten();
        marks.max_by_key(|(_, at)| *at)
    }

    /// `None` costs no more than looking at three numbers: most layers have no marks that matter.
    fn cover(&self, endpoint: EndpointId, user: &UserId) -> Option<Cover<'_>> {
        let marked = self.latest_user.get().and_then(|_| self.users.get(user));
        // Looked at last, since it takes the place of marks that are forgotten.
        let (latest_item, everything) = (self.latest_item.get(), self.everything.get());
        let whole = marked.max(everything);
        (whole.is_some() || latest_item.is_some()).then_some(Cover {
            whole,
            latest_item,
            endpoint,
            layer: self,
        })
    }
}

impl Cover<'_> {
    fn covers(&self, id: u64, began: Time) -> bool {
        let ended_by = |mark: Option<Time>| mark.is_some_and(|mark| began <= mark);
        if ended_by(self.whole) {
            return true;
        }
        // Most slots are younger than the latest mark of any item, and need not be looked up. A mark that was
        // forgotten since the fence was made is one of everything now.
        ended_by(self.latest_item)
            && (ended_by(self.layer.items.get(&(self.endpoint, id)))
                || ended_by(self.layer.everything.get()))
    }
}

impl Fence<'_> {
    /// Whether a slot's fetch began before a hard mark that covers it, or with it: it is not used any more.
    pub fn covers(&self, slot: &Slot) -> bool {
        self.covers_time(slot.id, slot.fetch.began)
    }

    /// The same of anything about `id` whose fetch began at `began`.
    pub fn covers_time(&self, id: u64, began: Time) -> bool {
        let hard = self.hard.as_ref();
        hard.is_some_and(|cover| cover.covers(id, began))
    }

    /// Whether a slot's fetch began before a soft mark that covers it, or with it: it is stale at best.
    pub fn softens(&self, slot: &Slot) -> bool {
        let soft = self.soft.as_ref();
        soft.is_some_and(|cover| cover.covers(slot.id, slot.fetch.began))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::super::freshness::{Jitter, Kind};
    use super::super::shelf::tests::second;
    use super::super::shelf::{Fetch, FetchKind};
    use super::Strength::{Hard, Soft};
    use super::*;
    use crate::request::key::KeyMaker;

    static INTERCOMS: LazyLock<EndpointId> = LazyLock::new(|| EndpointId::of("/intercoms"));
    static CAMERAS: LazyLock<EndpointId> = LazyLock::new(|| EndpointId::of("/cameras"));

    const LONGEST: Duration = Duration::from_secs(100);

    #[test]
    fn a_slot_is_covered_and_softened_by_when_its_fetch_began() {
        let marks = Marks::new(LONGEST);
        marks.item(Hard, *INTERCOMS, 1, second(5));
        marks.item(Soft, *INTERCOMS, 2, second(5));
        let fence = marks.fence(*INTERCOMS, &UserId::of_test(1));
        let slot = |id, began| Slot {
            id,
            kind: Kind::Item,
            fetch: Fetch {
                began: second(began),
                user: UserId::of_test(1),
                jitter: Jitter::default(),
                by: FetchKind::Whole,
            },
        };
        for (id, began, covered, softened) in [
            (1, 5, true, false),
            (1, 6, false, false),
            (2, 5, false, true),
            (2, 6, false, false),
            (3, 5, false, false),
        ] {
            let slot = slot(id, began);
            let told = (fence.covers(&slot), fence.softens(&slot));
            assert_eq!(told, (covered, softened), "{id} of {began}");
        }
    }

    #[test]
    fn what_operators_are_told_has_names() {
        assert_eq!([Hard, Soft].map(Strength::name), ["hard", "soft"]);
        assert_eq!(Scope::ALL.map(Scope::name), ["user", "item", "all"]);
    }

    /// A clock that stands still.
    fn at(seconds: u64) -> Clock {
        let (clock, hand) = Clock::manual();
        hand.advance(Duration::from_secs(seconds));
        clock
    }

    fn users() -> (UserId, UserId) {
        let keys = KeyMaker::new().unwrap();
        (keys.holder(b"ann"), keys.holder(b"bob"))
    }

    #[test]
    fn a_mark_covers_what_it_names_and_what_began_before_it_or_with_it() {
        let (ann, bob) = users();
        let marks = Marks::new(LONGEST);
        let covers = |endpoint, user, id, began| {
            let fence = marks.fence(endpoint, &user);
            fence.covers_time(id, second(began))
        };
        assert!(!covers(*INTERCOMS, ann, 180, 0));

        marks.item(Hard, *INTERCOMS, 180, second(5));
        assert!(covers(*INTERCOMS, ann, 180, 5) && covers(*INTERCOMS, bob, 180, 0));
        assert!(!covers(*INTERCOMS, ann, 180, 6), "it began later");
        assert!(!covers(*INTERCOMS, ann, 181, 0), "another item");
        assert!(!covers(*CAMERAS, ann, 180, 0), "a camera of that number");

        marks.user(Hard, ann, second(7));
        assert!(covers(*CAMERAS, ann, 1, 7) && covers(*INTERCOMS, ann, 1, 7));
        assert!(!covers(*CAMERAS, bob, 1, 0) && !covers(*CAMERAS, ann, 1, 8));

        marks.everything(Hard, second(9));
        assert!(covers(*CAMERAS, bob, 1, 9) && covers(*INTERCOMS, ann, 2, 9));
        assert!(!covers(*CAMERAS, bob, 1, 10));
    }

    #[test]
    fn of_two_marks_the_later_stands_whichever_comes_first() {
        let (ann, _) = users();
        let marks = Marks::new(LONGEST);
        for now in [7, 5] {
            marks.user(Hard, ann, second(now));
            marks.item(Hard, *INTERCOMS, 1, second(now + 2));
        }
        let fence = marks.fence(*INTERCOMS, &ann);
        assert!(fence.covers_time(2, second(7)) && !fence.covers_time(2, second(8)));
        assert!(fence.covers_time(1, second(9)) && !fence.covers_time(1, second(10)));
    }

    #[test]
    fn with_longer_windows_nothing_comes_back_whose_mark_was_forgotten() {
        let (ann, bob) = users();
        let marks = Marks::new(LONGEST);
        marks.user(Hard, ann, second(50));
        marks.user(Soft, ann, second(60));
        // The one of ann is older than anything that could be of use, and makes room.
        marks.user(Hard, bob, second(200));
        marks.user(Soft, bob, second(200));
        assert!(!marks.fence(*INTERCOMS, &ann).covers_time(1, second(40)));

        marks.lengthen(10 * LONGEST, &at(250));
        let fence = marks.fence(*INTERCOMS, &ann);
        assert!(fence.covers_time(1, second(40)) && fence.covers_time(1, second(150)));
        assert!(
            !fence.covers_time(1, second(151)),
            "it was of use before, and is"
        );
        // From now on each is remembered for longer.
        marks.user(Hard, ann, second(900));
        assert!(marks.fence(*INTERCOMS, &bob).covers_time(1, second(200)));
    }

    #[test]
    fn shorter_windows_or_a_young_process_end_nothing() {
        let (ann, _) = users();
        let marks = Marks::new(LONGEST);
        marks.lengthen(LONGEST / 2, &at(250));
        marks.lengthen(2 * LONGEST, &at(99));
        assert!(!marks.fence(*INTERCOMS, &ann).covers_time(1, second(0)));
    }

    #[test]
    fn a_fence_made_before_a_mark_may_miss_it_but_not_one_that_was_forgotten_since() {
        let (ann, _) = users();
        let marks = Marks::with_room(LONGEST, 2);
        marks.item(Hard, *INTERCOMS, 1, second(5));
        let fence = marks.fence(*INTERCOMS, &ann);
        for id in 2..5 {
            marks.item(Hard, *INTERCOMS, id, second(6));
        }
        assert!(fence.covers_time(1, second(5)));
    }

    proptest! {
        /// However little room there is, forgetting only ever covers more.
        #[test]
        fn no_mark_is_lost_for_want_of_room(
            room in 1usize..8,
            marked in prop::collection::vec((any::<bool>(), 0u64..3, 0u64..20, 0u64..50), 0..60),
        ) {
            let keys = KeyMaker::new().unwrap();
            let user = |n: u64| keys.holder(&n.to_le_bytes());
            let nobody = user(1_000);
            for strength in [Hard, Soft] {
                let marks = Marks::with_room(LONGEST, room);
                let mut now = 0;
                for &(is_item, kind, which, step) in &marked {
                    now += step;
                    let endpoint = if kind == 0 { *INTERCOMS } else { *CAMERAS };
                    match is_item {
                        true => marks.item(strength, endpoint, which, second(now)),
                        false => marks.user(strength, user(which), second(now)),
                    }
                }
                let end = now;
                let mut now = 0;
                for &(is_item, kind, which, step) in &marked {
                    now += step;
                    if end - now > LONGEST.as_secs() {
                        continue;
                    }
                    let endpoint = if kind == 0 { *INTERCOMS } else { *CAMERAS };
                    let who = if is_item { nobody } else { user(which) };
                    let fence = marks.fence(endpoint, &who);
                    let cover = match strength {
                        Hard => fence.hard,
                        Soft => fence.soft,
                    };
                    let cover = cover.expect("there are marks");
                    prop_assert!(cover.covers(which, second(now)));
                    prop_assert!(!cover.covers(which, second(end + 1)), "later than all marks");
                }
            }
        }
    }

    #[test]
    fn the_latest_marks_of_each_scope_are_told_and_nobody_is_named() {
        let (ann, _) = users();
        let marks = Marks::new(LONGEST);
        marks.everything(Hard, second(1));
        for now in 2..100 {
            marks.user(Soft, ann, second(now));
        }
        marks.item(Hard, *INTERCOMS, 1, second(100));
        let told: Vec<_> = marks.recent();
        let of = |scope, strength, at| Marked {
            scope,
            strength,
            at: second(at),
        };
        assert_eq!(told.len(), 1 + RECENT + 1);
        assert_eq!(told[0], of(Scope::Item, Hard, 100));
        assert_eq!(told[1], of(Scope::User, Soft, 99));
        assert_eq!(told[9], of(Scope::All, Hard, 1));
    }

    proptest! {
        /// What an operator is told covers an item is what decides about it.
        #[test]
        fn a_mark_is_named_if_and_only_if_it_decides(
            marked in prop::collection::vec((0u8..3, any::<bool>(), 0u64..3, 0u64..30), 0..12),
            id in 0u64..3, began in 0u64..30,
        ) {
            let (ann, bob) = users();
            let marks = Marks::new(LONGEST);
            for (scope, is_hard, which, now) in marked {
                let strength = if is_hard { Hard } else { Soft };
                match scope {
                    0 => marks.user(strength, if which == 0 { ann } else { bob }, second(now)),
                    1 => marks.item(strength, *INTERCOMS, which, second(now)),
                    _ if which == 0 => marks.everything(strength, second(now)),
                    _ => marks.item(strength, *CAMERAS, which, second(now)),
                }
            }
            let fence = marks.fence(*INTERCOMS, &ann);
            let covers = |cover: &Option<Cover<'_>>| {
                cover.as_ref().is_some_and(|cover| cover.covers(id, second(began)))
            };
            let decides = match (covers(&fence.hard), covers(&fence.soft)) {
                (true, _) => Some(Hard),
                (false, true) => Some(Soft),
                (false, false) => None,
            };
            let named = marks.covering(*INTERCOMS, &ann, id, second(began));
            prop_assert_eq!(named.map(|marked| marked.strength), decides);
            prop_assert!(named.is_none_or(|marked| marked.at >= second(began)));
        }
    }

    #[test]
    fn what_does_not_fit_becomes_a_mark_of_everything_up_to_its_time_and_no_further() {
        let (_, bob) = users();
        let marks = Marks::new(LONGEST);
        for id in 0..MAX_MARKS as u64 {
            marks.item(Soft, *INTERCOMS, id, second(1));
        }
        let softened = |id, began| {
            let fence = marks.fence(*CAMERAS, &bob);
            fence
                .soft
                .expect("there are marks")
                .covers(id, second(began))
        };
        assert!(!softened(5, 1), "a camera");
        marks.item(Soft, *INTERCOMS, MAX_MARKS as u64, second(3));
        assert!(softened(5, 1), "the earliest mark is one of everything");
        assert!(!softened(5, 2));
        assert!(!marks.fence(*CAMERAS, &bob).covers_time(5, second(0)));
    }

    #[test]
    fn soft_and_hard_marks_know_nothing_of_each_other() {
        let (ann, bob) = users();
        let marks = Marks::new(LONGEST);
        assert!(
            marks.fence(*INTERCOMS, &ann).soft.is_none(),
            "nothing to look at"
        );
        marks.user(Soft, ann, second(5));
        let fence = marks.fence(*INTERCOMS, &ann);
        assert!(!fence.covers_time(1, second(5)));
        assert!(fence.soft.expect("a mark").covers(1, second(5)));
        assert!(marks.fence(*INTERCOMS, &bob).soft.is_none());
        marks.everything(Hard, second(4));
        assert!(marks.fence(*INTERCOMS, &bob).covers_time(1, second(4)));
    }
}
