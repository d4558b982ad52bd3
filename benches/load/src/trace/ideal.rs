//! The fewest ids, and the fewest requests for them, that a trace needs the VMS to be asked for.
//!
//! The model: whoever caches keeps each item of each device on its own, knows at once what it asked for, and asks the VMS
//! for an item again only when somebody wants it after it has been fresh, which it is from when it was asked for. All
//! that a batch wants and that is not fresh is one request, as nobody can know of other batches yet. So each id is asked
//! for once in a window that begins with whoever asks first, and no batch that finds something fresh asks for it. The
//! time that the VMS takes does not matter: what is being asked for need not be asked for again.
//!
//! In truth, a batch that is due within a moment of the end of a window may come a little earlier or later than the model
//! has it, so that a cache may ask for a little less, too.

use std::collections::HashMap;
use std::time::Duration;

use super::{Batch, Device};

/// What the VMS has to be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ideal {
    pub(crate) ids: u64,
    /// When requests come.
    pub(crate) requests: Vec<Duration>,
}

/// What `batches`, in the order in which they are due, need at the least if items are fresh for so long.
pub(crate) fn ideal(batches: &[Batch], fresh: Duration) -> Ideal {
    let mut asked: HashMap<(Device, usize), Duration> = HashMap::new();
    let mut ideal = Ideal::default();
    for batch in batches {
        let before = ideal.ids;
        for place in batch.places.clone() {
            let last = asked.get(&(batch.widget, place));
            if last.is_none_or(|last| batch.due - *last >= fresh) {
                asked.insert((batch.widget, place), batch.due);
                ideal.ids += 1;
            }
        }
        if ideal.ids > before {
            ideal.requests.push(batch.due);
        }
    }
    ideal
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(seconds: u64, device: u64, start: usize) -> Batch {
        Batch {
            due: Duration::from_secs(seconds),
            widget: Device { user: 7, device },
            places: start..start + 10,
        }
    }

    #[test]
    fn each_id_is_asked_for_once_in_a_window() {
        let batches = [
            batch(0, 0, 0),
            // Half of it is known.
            batch(1, 0, 5),
            // All of it is.
            batch(4, 0, 2),
            // What was asked for first is no longer fresh, the other half still is.
            batch(5, 0, 5),
            // Another device knows nothing.
            batch(5, 1, 5),
        ];
        let ideal = ideal(&batches, Duration::from_secs(5));
        assert_eq!(ideal.ids, 10 + 5 + 5 + 10);
        let requests = [0, 1, 5, 5].map(Duration::from_secs);
        assert_eq!(ideal.requests, requests);
    }

    #[test]
    fn nothing_is_needed_of_a_trace_without_batches() {
        assert_eq!(ideal(&[], Duration::from_secs(5)), Ideal::default());
    }
}
