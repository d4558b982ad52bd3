//! Changes that pass no edge: somebody else renames what everyone has. An edge shows them when a purge has named them, or
//! when what it remembers is too old; until then it may show what was so before.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use vms_edge::demo::vms::StandIn;

/// The intercoms that everyone has.
pub(super) const IDS: std::ops::RangeInclusive<u64> = 1..=3;

/// Windows of the edge, see edge.toml.
const WINDOW: Duration = Duration::from_secs(2 + 4);
const WINDOW_INSTEAD_OF_ERROR: Duration = Duration::from_secs(2 + 30);

/// How long a fetch may have been under way, and by how much the edge's ages, in whole seconds, may be off.
const UNDER_WAY: Duration = Duration::from_secs(5 + 1);

/// All that was renamed, and by when everyone must know.
#[derive(Debug, Default)]
pub(super) struct News(Mutex<[Vec<Told>; 3]>);

/// One change of an intercom; its place is its number, and stands in the title.
#[derive(Clone, Copy, Debug)]
struct Told {
    at: Instant,
    /// When an operator had purged the intercom after it.
    purged: Option<Instant>,
}

impl News {
    /// Renames an intercom at the VMS, and returns the number of the change.
    pub(super) fn rename(&self, vms: &StandIn, id: u64) -> usize {
        let told = &mut self.lock()[place(id)];
        vms.rename(id, &format!("news {}", told.len() + 1));
        told.push(Told {
            at: Instant::now(),
            purged: None,
        });
        told.len()
    }

    /// A purge of the intercom was answered that was sent after change `number`.
    pub(super) fn purged(&self, id: u64, number: usize) {
        let now = Instant::now();
        self.lock()[place(id)][number - 1].purged = Some(now);
    }

    /// Whether an answer to a request that was sent then may still have this title.
    pub(super) fn may_be_called(
        &self,
        id: u64,
        title: &str,
        sent: Instant,
        instead_of_error: bool,
    ) -> bool {
        let number = match title.strip_prefix("news ") {
            None => 0,
            Some(number) => match number.parse::<usize>() {
                Ok(number) => number,
                Err(_) => return false,
            },
        };
        let told = &self.lock()[place(id)];
        let window = match instead_of_error {
            true => WINDOW_INSTEAD_OF_ERROR,
            false => WINDOW,
        };
        let is_known = |told: &&Told| {
            let is_old = sent.saturating_duration_since(told.at) > window + UNDER_WAY;
            is_old || told.purged.is_some_and(|purged| purged < sent)
        };
        let known = told.iter().rposition(|told| is_known(&told));
        number >= known.map_or(0, |place| place + 1) && number <= told.len()
    }

    fn lock(&self) -> MutexGuard<'_, [Vec<Told>; 3]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place(id: u64) -> usize {
    usize::try_from(id - IDS.start()).expect("there are three")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_purged_or_is_too_old_must_not_be_shown() {
        let (news, vms) = (News::default(), StandIn::without_record());
        let later = |seconds| Instant::now() + Duration::from_secs(seconds);
        let may = |number: usize, sent, instead| {
            let title = if number == 0 {
                "by rule".to_owned()
            } else {
                format!("news {number}")
            };
            news.may_be_called(2, &title, sent, instead)
        };
        assert!(may(0, later(1000), false));
        assert!(!may(1, later(0), false), "nobody has told it yet");
        let number = news.rename(&vms, 2);
        assert!(may(0, later(11), false) && may(1, later(11), false));
        assert!(!may(0, later(13), false) && may(1, later(13), false));
        assert!(may(0, later(13), true) && !may(0, later(39), true));
        news.purged(2, number);
        assert!(!may(0, later(1), true) && may(1, later(1), true));
        assert!(news.may_be_called(3, "by rule", later(1), false));
    }
}
