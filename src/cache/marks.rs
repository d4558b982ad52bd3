//! Marks: the points in time at which a user, an item or everything was invalidated.
//!
//! Something stored is used only if its fetch began after every mark that covers it. So purging, read-your-writes and
//! the race between a fill and a write are one rule, and a mark costs the same however much it covers.
//!
//! A mark is remembered for as long as anything that it covers could be. If marks are so many that one must be
//! forgotten sooner, everything is marked instead: a lost mark must never bring back what it covered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use moka::notification::RemovalCause;
use moka::sync::Cache;

use super::clock::Time;
use super::shelf::Slot;
use crate::request::key::UserId;

/// Most users, and most items, whose marks are remembered one by one.
const MAX_MARKS: u64 = 100_000;

/// All marks.
pub struct Marks {
    everything: Arc<Latest>,
    users: Cache<UserId, Time>,
    items: Cache<u64, Time>,
    latest_item: Latest,
}

/// The marks that cover one user's shelf; by default none.
#[derive(Default)]
pub struct Fence<'a> {
    whole: Option<Time>,
    items: Option<(&'a Cache<u64, Time>, Time)>,
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
    /// No marks; each will be remembered for `longest`, the longest time for which anything stored is of use.
    pub fn new(longest: Duration) -> Self {
        let everything = Arc::new(Latest::default());
        Self {
            users: remembered(longest, &everything),
            items: remembered(longest, &everything),
            latest_item: Latest::default(),
            everything,
        }
    }

    /// Marks all items of a user.
    pub fn user(&self, user: UserId, now: Time) {
        raise(&self.users, user, now);
    }

    /// Marks an item, for everyone.
    pub fn item(&self, id: u64, now: Time) {
        raise(&self.items, id, now);
        self.latest_item.raise(now);
    }

    /// Marks everything.
    pub fn everything(&self, now: Time) {
        self.everything.raise(now);
    }

    /// What covers a user's shelf.
    pub fn fence(&self, user: &UserId) -> Fence<'_> {
        let marked = self.users.get(user);
        Fence {
            whole: marked.max(self.everything.get()),
            items: self.latest_item.get().map(|latest| (&self.items, latest)),
        }
    }
}

fn remembered<K: std::hash::Hash + Eq + Send + Sync + 'static>(
    longest: Duration,
    everything: &Arc<Latest>,
) -> Cache<K, Time> {
    let everything = Arc::clone(everything);
    Cache::builder()
        .max_capacity(MAX_MARKS)
        .time_to_live(longest.max(Duration::from_secs(1)))
        // What is asked for is remembered: a mark that nobody came across for longest is forgotten first.
        .eviction_policy(moka::policy::EvictionPolicy::lru())
        .eviction_listener(move |_, mark: Time, cause| {
            if cause == RemovalCause::Size {
                everything.raise(mark);
            }
        })
        .build()
}

/// Two marks at once may come in the wrong order; the later stands.
fn raise<K>(marks: &Cache<K, Time>, covered: K, now: Time)
where
    K: std::hash::Hash + Eq + Send + Sync + 'static,
{
    marks
        .entry(covered)
        .and_upsert_with(|before| before.map_or(now, |before| now.max(before.into_value())));
}

impl Fence<'_> {
    /// Whether a slot's fetch began before a mark that covers it, or with it.
    pub fn covers(&self, slot: &Slot) -> bool {
        self.covers_time(slot.id, slot.fetched)
    }

    /// Whether a fetch of `id` that began at `began` did so before a mark that covers it, or with it.
    pub fn covers_time(&self, id: u64, began: Time) -> bool {
        if self.whole.is_some_and(|mark| began <= mark) {
            return true;
        }
        match self.items {
            // Most fetches are younger than the latest mark of any item, and need no look at their own.
            Some((items, latest)) if began <= latest => {
                items.get(&id).is_some_and(|mark| began <= mark)
            }
            _ => false,
        }
    }
}
