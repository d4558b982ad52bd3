//! Split, kept and composed again, an answer is the bytes that the VMS would have sent.
//!
//! Input: lines, each of them something that happens to one user's shelf.
//!
//! ```text
//! fill 180 181 7       the VMS was asked for these ids, and what it answers is kept
//! fill 180:4000 7:0    the same; the VMS has written so many bytes more into these items since
//! late 180 181         the same of a fetch that began before the last fill
//! keep 180             from now on the shelf keeps of what it had only these, as a full store makes it
//! ask 181 180          what is composed for these, ascending
//! ask-in-order 181 180 the same in the order asked
//! ```
//!
//! Ids divisible by 7 are nobody's, so the VMS leaves them out. The model is a map from id to the latest item.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use vms_edge::cache::clock::{Clock, Hand, Time};
use vms_edge::cache::freshness::{Jitter, Windows};
use vms_edge::cache::header::StoredHeader;
use vms_edge::cache::marks::Marks;
use vms_edge::cache::shelf::{Fetch, FetchKind, Fill, Shelf};
use vms_edge::cache::{Need, sort_out};
use vms_edge::config::{Batch, Config, EndpointId};
use vms_edge::origin::answer::split;
use vms_edge::reply::compose::{compose, length, places};
use vms_edge::reply::order::Sequence;
use vms_edge::request::ids::AskedIds;
use vms_edge::request::key::{KeyMaker, UserId};

use crate::message;

/// Runs one input.
///
/// # Panics
///
/// If an answer is not what the VMS would have sent.
pub fn compose_split(data: &[u8]) {
    let mut world = World::new();
    for line in String::from_utf8_lossy(data).lines().take(64) {
        let mut words = line.split(' ');
        let what = words.next().unwrap_or_default();
        let ids: Vec<(u64, usize)> = words.filter_map(id).take(60).collect();
        let Some(asked) = AskedIds::new(ids.iter().map(|(id, _)| *id).collect()) else {
            continue;
        };
        match what {
            "fill" | "late" => world.fill(&asked, &ids, what == "late"),
            "keep" => world.keep = Some(asked),
            "ask" => world.ask(&asked, Sequence::Ascending),
            "ask-in-order" => world.ask(&asked, Sequence::AsAsked),
            _ => {}
        }
    }
}

/// An id, and how much is added to its item.
fn id(word: &str) -> Option<(u64, usize)> {
    let (id, more) = message::cut(word.as_bytes(), b":");
    let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<u64>().ok();
    let more = more.and_then(number).unwrap_or_default() % 10_000;
    let id = number(id).filter(|id| *id > 0)?;
    Some((id, usize::try_from(more).expect("it is small")))
}

/// A shelf, and what should be on it.
struct World {
    batch: Batch,
    marks: Marks,
    user: UserId,
    clock: Clock,
    hand: Hand,
    earlier: Time,
    shelf: Option<Shelf>,
    keep: Option<AskedIds>,
    /// When it was fetched, and the item; `None`: it is nobody's.
    model: BTreeMap<u64, (Time, Option<String>)>,
}

impl World {
    fn new() -> Self {
        let config = Config::parse("upstream.servers = [\"127.0.0.1:9\"]", "fuzz");
        let mut config = config.expect("it is a good configuration");
        let batch = config.batches.remove(0);
        let keys = KeyMaker::new().expect("the system has randomness");
        let (clock, hand) = Clock::manual();
        Self {
            marks: Marks::new(Windows::new(&batch).longest()),
            user: keys.holder(b"tok-1-phone"),
            earlier: clock.now(),
            batch,
            clock,
            hand,
            shelf: None,
            keep: None,
            model: BTreeMap::new(),
        }
    }

    fn fill(&mut self, asked: &AskedIds, more: &[(u64, usize)], is_late: bool) {
        let item = |id: u64| {
            let more = more.iter().find(|(other, _)| *other == id);
            is_somebodys(id).then(|| item(id, more.map_or(0, |(_, more)| *more)))
        };
        let answered: Vec<String> = asked
            .ascending()
            .iter()
            .filter_map(|id| item(*id))
            .collect();
        let body = Bytes::from(format!("[{}]", answered.join(",")));
        let items = split(&body, "id").expect("the VMS answers JSON");
        let found: Vec<&[u8]> = items
            .iter()
            .map(|(_, place)| &body[place.clone()])
            .collect();
        assert!(
            found.into_iter().eq(answered.iter().map(String::as_bytes)),
            "what was split"
        );

        let fetched = match is_late {
            true => self.earlier,
            false => {
                self.hand.advance(Duration::from_millis(1));
                self.clock.now()
            }
        };
        let absent = asked.ascending().iter().copied();
        let fill = Fill {
            fetch: Fetch {
                began: fetched,
                user: self.user,
                jitter: Jitter::new(0),
                by: FetchKind::Whole,
            },
            header: Arc::new(StoredHeader::of(
                &message::answer(200, &[]).expect("it is a header"),
            )),
            header_bytes: 0,
            digests: Fill::digests(&body, &items),
            body: body.clone(),
            items,
            absent: absent.filter(|id| !is_somebodys(*id)).collect(),
        };
        let keep = self.keep.take();
        let is_kept = |id| {
            keep.as_ref()
                .is_none_or(|ids| ids.ascending().contains(&id))
        };
        let before = self.shelf.take();
        self.shelf = Some(Shelf::merged(before.as_ref(), &fill, |slot| {
            is_kept(slot.id)
        }));

        self.model.retain(|id, _| is_kept(*id));
        for id in asked.ascending() {
            let known = self.model.get(id);
            if known.is_none_or(|(known, _)| *known <= fetched) {
                self.model.insert(*id, (fetched, item(*id)));
            }
        }
        if !is_late {
            // Nothing is newer: a batch for just that is answered with the very bytes.
            assert_eq!(self.composed(asked, Sequence::Ascending), Some(body));
        }
    }

    fn ask(&self, asked: &AskedIds, sequence: Sequence) {
        let ids = match sequence {
            Sequence::Ascending => asked.ascending(),
            Sequence::AsAsked => asked.in_order(),
        };
        let known = |id: &u64| self.model.get(id).and_then(|(_, item)| item.as_deref());
        let expected: Vec<&str> = ids.iter().filter_map(known).collect();
        let Some(composed) = self.composed(asked, sequence) else {
            assert!(expected.is_empty(), "there is no shelf");
            return;
        };
        let expected = format!("[{}]", expected.join(","));
        assert_eq!(composed, expected.as_bytes(), "{ids:?}");
    }

    /// What the edge would answer of the ids that it knows.
    fn composed(&self, asked: &AskedIds, sequence: Sequence) -> Option<Bytes> {
        let shelf = self.shelf.as_ref()?;
        let windows = Windows::new(&self.batch);
        let fence = self.marks.fence(EndpointId::of("/"), &self.user);
        let now = self.clock.now();
        let sorted = sort_out(shelf, asked, &windows, &fence, Need::Answer, now);
        let unknown: Vec<u64> = asked
            .in_order()
            .iter()
            .copied()
            .filter(|id| !self.model.contains_key(id))
            .collect();
        assert_eq!(sorted.missing, unknown);
        let places = places(shelf, &sorted, asked, sequence);
        let composed = compose(shelf, &places);
        assert_eq!(length(shelf, &places), composed.len());
        Some(composed)
    }
}

fn is_somebodys(id: u64) -> bool {
    !id.is_multiple_of(7)
}

/// An item as the VMS writes it, with nothing that JSON can do left out.
fn item(id: u64, more: usize) -> String {
    format!(
        "{{\"id\":{id},\"t\":\"\\u041f \\/ [],{{}}\\\"\",\"x\":[{{\"id\":0}},null,-1.5e3], \"y\" : \"{}\"}}",
        "y".repeat(more)
    )
}
