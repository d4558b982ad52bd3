//! One requester's items, side by side.
//!
//! A shelf never changes: a fill makes a new one from the old. Its items stand side by side in ascending order of their
//! ids, which is the JSON array of them all: where one batch brought them, a batch for all of them is answered with that
//! array itself, and neighbours are copied into an answer in one piece.
//!
//! Each item and each absence carries for whom it was fetched: by the token that was sent to the VMS, not by the key under
//! which it is found. Whoever puts an answer together asks [`Shelf::is_of`] once more.

mod array;

use std::cmp::Reverse;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::clock::Time;
use super::digest::{self, Digest};
use super::freshness::{Jitter, Kind};
use super::header::StoredHeader;
use crate::request::key::UserId;
use crate::request::tag::Tag;
use array::{Array, Use};

/// Most ids that one shelf remembers; the longest-fetched go first.
///
/// A user who asks for ever new ids neither fills the memory nor makes each merge longer than the last.
pub const MAX_SLOTS: usize = 1024;

/// Most bytes of items on one shelf: twice the largest answer that is stored. Here too, the longest-fetched go.
pub const MAX_BYTES: usize = 16 << 20;

/// One requester's items and known absences. Immutable.
#[derive(Debug)]
pub struct Shelf {
    slots: Box<[Place]>,
    /// The fetches that told what is in the slots.
    fetches: Box<[Fetch]>,
    array: Array,
    header: Arc<StoredHeader>,
    /// What the header takes, if this shelf was the first to have it.
    header_bytes: usize,
    /// What was asked last, and the tag of its answer. Whoever finds it taken does without.
    last: Mutex<Option<(Places, Tag)>>,
}

/// Places on a shelf, each a bit: those of an answer in ascending order, as nearly all answers are.
type Places = u64;

/// Whether an answer is the one that was asked of a shelf last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recurrence {
    /// Another was, or it is not known.
    Anew,
    /// It was.
    Again,
}

/// What is known about one id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The id.
    pub id: u64,
    /// Whether there is an item.
    pub kind: Kind,
    /// The fetch that told it.
    pub fetch: Fetch,
}

/// A fetch of which something is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// When it began.
    pub began: Time,
    /// Whose token it carried.
    pub user: UserId,
    /// Its share of the jitter.
    pub jitter: Jitter,
    /// What it asked for.
    pub by: FetchKind,
}

/// A slot as it is kept.
#[derive(Clone, Copy, Debug)]
struct Place {
    id: u64,
    /// Of the item's bytes.
    digest: Digest,
    /// Where the item begins, or would. Where it ends is known from the next one.
    start: u32,
    /// Which of the shelf's fetches told it.
    fetch: u16,
    kind: Kind,
}

// An item of the VMS has some 500 bytes: each byte here is a fifth of a percent of all memory.
const _: () = assert!(size_of::<Place>() == Shelf::SLOT_BYTES);

/// What the fetch asked for that told of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchKind {
    /// All that a client asked for.
    Whole,
    /// What of it was missing.
    Part,
    /// What was stale, in the background.
    Refresh,
}

impl FetchKind {
    /// The name that operators are told.
    pub fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Part => "part",
            Self::Refresh => "refresh",
        }
    }
}

/// What one fetch told: items and absences, not yet on a shelf.
#[derive(Debug)]
pub struct Fill {
    /// The fetch.
    pub fetch: Fetch,
    /// The response header that a composed answer carries.
    pub header: Arc<StoredHeader>,
    /// Memory that this header takes beside those that are in use already, in bytes.
    pub header_bytes: usize,
    /// The body in which the items stand.
    pub body: Bytes,
    /// Id and place in the body of each item, ids distinct.
    pub items: Vec<(u64, Range<usize>)>,
    /// Digest of each item, in the same order.
    pub digests: Vec<Digest>,
    /// Ids that were asked and not answered.
    pub absent: Vec<u64>,
}

/// Memory that an allocation of so many bytes takes: allocators (mimalloc and jemalloc alike) hand out sizes of which there
/// are four between a power of two and the next.
pub fn occupied(bytes: usize) -> usize {
    const SMALLEST_STEP: usize = 16;
    let below = bytes
        .saturating_sub(1)
        .checked_ilog2()
        .map_or(0, |log| 1 << log);
    bytes.next_multiple_of((below / 4).max(SMALLEST_STEP))
}

/// One id on its way to a new shelf.
struct Piece<'a> {
    slot: Slot,
    digest: Digest,
    from: Source<'a>,
}

/// Where its bytes are.
enum Source<'a> {
    Fill(&'a [u8]),
    Shelf(&'a Shelf, Range<usize>),
}

impl Source<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Fill(bytes) => bytes.len(),
            Self::Shelf(_, range) => range.len(),
        }
    }
}

impl Shelf {
    /// Memory that one id takes beside its item.
    pub const SLOT_BYTES: usize = 32;

    /// A shelf with what `fill` tells, and of `before` the slots that `fill` does not replace and that `keep` keeps.
    ///
    /// Where both know an id, the fetch that began later wins: a slow answer never hides a newer one.
    pub fn merged(before: Option<&Self>, fill: &Fill, keep: impl Fn(&Slot) -> bool) -> Self {
        let mut pieces = fill.pieces();
        if let Some(before) = before {
            let slots = before.slots().enumerate();
            let kept = slots.filter(|(_, slot)| keep(slot));
            pieces.extend(kept.map(|(place, slot)| Piece {
                slot,
                digest: before.slots[place].digest,
                from: Source::Shelf(before, before.range_at(place)),
            }));
        }
        let usage = match pieces.len() > fill.items.len() + fill.absent.len() {
            true => Use::Parts,
            false => Use::Whole,
        };
        pieces.sort_by_key(|piece| (piece.slot.id, Reverse(piece.slot.fetch.began)));
        pieces.dedup_by_key(|piece| piece.slot.id);
        drop_longest_fetched(&mut pieces);
        let (header, header_bytes) = match before {
            Some(before) if *before.header == *fill.header => (&before.header, before.header_bytes),
            _ => (&fill.header, fill.header_bytes),
        };
        let (array, slots, fetches) = side_by_side(&pieces);
        Self {
            slots: slots.into_boxed_slice(),
            fetches: fetches.into_boxed_slice(),
            array: Array::new(array, usage),
            header: Arc::clone(header),
            header_bytes,
            last: Mutex::new(None),
        }
    }

    /// The slot of an id, and its place among the slots.
    pub fn find(&self, id: u64) -> Option<(usize, Slot)> {
        let place = self.slots.binary_search_by_key(&id, |slot| slot.id).ok()?;
        Some((place, self.slot(&self.slots[place])))
    }

    fn slot(&self, place: &Place) -> Slot {
        Slot {
            id: place.id,
            kind: place.kind,
            fetch: self.fetches[usize::from(place.fetch)],
        }
    }

    /// When the latest fetch began that told what is known here.
    pub fn latest(&self) -> Time {
        let latest = self.fetches.iter().map(|fetch| fetch.began).max();
        latest.unwrap_or_default()
    }

    /// Whether all that is known here, the absences and the header too, was fetched with this user's token.
    pub fn is_of(&self, user: &UserId) -> bool {
        self.fetches.iter().all(|fetch| fetch.user == *user)
    }

    /// The id at a place.
    pub fn id_at(&self, place: usize) -> u64 {
        self.slots[place].id
    }

    /// Where in the array of all items the one at a place stands.
    pub fn range_at(&self, place: usize) -> Range<usize> {
        let slot = &self.slots[place];
        let start = slot.start as usize;
        let end = match (slot.kind, self.slots.get(place + 1)) {
            (Kind::Absence, _) => start,
            (Kind::Item, None) => self.array.len() - 1,
            // A comma stands between two items.
            (Kind::Item, Some(next)) if next.kind == Kind::Item => next.start as usize - 1,
            (Kind::Item, Some(next)) => next.start as usize,
        };
        start..end
    }

    /// The tag of the answer that has the items at `places`, in this order, and whether it was asked last, too.
    pub fn tag(&self, places: &[usize]) -> (Tag, Recurrence) {
        let digests = places.iter().map(|&place| match planted!(TagOfIds) {
            true => Digest::of(&self.slots[place].id.to_le_bytes()),
            false => self.slots[place].digest,
        });
        let Some(asked) = bits(places) else {
            return (digest::tag(digests), Recurrence::Anew);
        };
        let mut last = self.last.try_lock();
        match last.as_deref() {
            Some(Some((places, tag))) if *places == asked || planted!(TagOfTheLast) => {
                (*tag, Recurrence::Again)
            }
            _ => {
                let tag = digest::tag(digests);
                if let Some(last) = &mut last {
                    **last = Some((asked, tag));
                }
                (tag, Recurrence::Anew)
            }
        }
    }

    /// The JSON array of all items in ascending order of their ids, if it can be had without being copied.
    pub fn array(&self) -> Option<&Bytes> {
        self.array.whole()
    }

    /// Length of that array in bytes.
    pub fn array_len(&self) -> usize {
        self.array.len()
    }

    /// What stands in a range of that array, to be read one after the other.
    pub fn parts(&self, range: Range<usize>) -> impl Iterator<Item = &[u8]> {
        self.array.parts(range)
    }

    /// The response header of the latest fill.
    pub fn header(&self) -> &Arc<StoredHeader> {
        &self.header
    }

    /// What it knows, in ascending order of the ids.
    pub fn slots(&self) -> impl ExactSizeIterator<Item = Slot> {
        self.slots.iter().map(|place| self.slot(place))
    }

    /// Bytes of memory that it occupies, behind the `Arc` of a store.
    pub fn size_bytes(&self) -> usize {
        const COUNTS_OF_ARC: usize = 2 * size_of::<usize>();
        occupied(COUNTS_OF_ARC + size_of::<Self>())
            + occupied(size_of_val::<[Place]>(&self.slots))
            + occupied(size_of_val::<[Fetch]>(&self.fetches))
            + self.array.occupied()
            + self.header_bytes
    }
}

/// Places as bits, if they ascend and are few enough.
fn bits(places: &[usize]) -> Option<Places> {
    let mut bits: Places = 0;
    for &place in places {
        let bit = 1_u64.checked_shl(u32::try_from(place).ok()?)?;
        // Those before are all below it.
        if bits >= bit {
            return None;
        }
        bits |= bit;
    }
    Some(bits)
}

/// The pieces as a JSON array, where in it each of them stands, and the fetches that told them.
fn side_by_side(pieces: &[Piece<'_>]) -> (Vec<u8>, Vec<Place>, Vec<Fetch>) {
    let mut array = Vec::with_capacity(length_of(pieces) + 2);
    array.push(b'[');
    let mut slots = Vec::with_capacity(pieces.len());
    let mut fetches = Fetches::default();
    for Piece { slot, digest, from } in pieces {
        if slot.kind == Kind::Item && array.len() > 1 {
            array.push(b',');
        }
        slots.push(Place {
            id: slot.id,
            digest: *digest,
            start: u32::try_from(array.len()).expect("a shelf is bounded far below 4 GiB"),
            fetch: fetches.number(slot.fetch),
            kind: slot.kind,
        });
        match from {
            Source::Fill(bytes) => array.extend_from_slice(bytes),
            Source::Shelf(before, range) => {
                let parts = before.parts(range.clone());
                parts.for_each(|part| array.extend_from_slice(part));
            }
        }
    }
    array.push(b']');
    (array, slots, fetches.0)
}

/// The fetches of a shelf, each once.
#[derive(Default)]
struct Fetches(Vec<Fetch>);

impl Fetches {
    /// The number of a fetch. The ids of one are mostly neighbours, so that those of the last are looked at first.
    fn number(&mut self, fetch: Fetch) -> u16 {
        let known = self.0.iter().rposition(|known| *known == fetch);
        let number = known.unwrap_or_else(|| {
            self.0.push(fetch);
            self.0.len() - 1
        });
        u16::try_from(number).expect("a shelf has far fewer slots, and each but one fetch")
    }
}

/// Bytes of a JSON array's inside with these items.
fn length_of(pieces: &[Piece<'_>]) -> usize {
    pieces.iter().map(|piece| piece.from.len() + 1).sum()
}

/// Of the pieces, which ascend by id, drops those that were fetched first, until they fit on one shelf.
fn drop_longest_fetched(pieces: &mut Vec<Piece<'_>>) {
    if pieces.len() <= MAX_SLOTS && length_of(pieces) <= MAX_BYTES {
        return;
    }
    pieces.sort_by_key(|piece| Reverse(piece.slot.fetch.began));
    pieces.truncate(MAX_SLOTS);
    let mut length = 0;
    pieces.retain(|piece| {
        length += piece.from.len() + 1;
        length <= MAX_BYTES
    });
    pieces.sort_by_key(|piece| piece.slot.id);
}

impl Fill {
    /// The digest of each of `items`, which stand in `body`.
    pub fn digests(body: &[u8], items: &[(u64, Range<usize>)]) -> Vec<Digest> {
        let digest = |(_, range): &(u64, Range<usize>)| Digest::of(&body[range.clone()]);
        items.iter().map(digest).collect()
    }

    fn pieces(&self) -> Vec<Piece<'_>> {
        let fetch = self.fetch;
        let items = self.items.iter().zip(&self.digests);
        let items = items.map(|((id, range), digest)| Piece {
            slot: Slot {
                id: *id,
                kind: Kind::Item,
                fetch,
            },
            digest: *digest,
            from: Source::Fill(&self.body[range.clone()]),
        });
        let absent = self.absent.iter().map(|id| Piece {
            slot: Slot {
                id: *id,
                kind: Kind::Absence,
                fetch,
            },
            digest: Digest::default(),
            from: Source::Fill(b""),
        });
        items.chain(absent).collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use pingora_http::ResponseHeader;

    use super::super::clock::Clock;
    use super::*;

    /// The time so many seconds after the beginning.
    pub(in super::super) fn second(seconds: u64) -> Time {
        let (clock, hand) = Clock::manual();
        hand.advance(Duration::from_secs(seconds));
        clock.now()
    }

    /// What a fetch told that began at `seconds`: items with their text, and absences.
    pub(in super::super) fn told(seconds: u64, items: &[(u64, &str)], absent: &[u64]) -> Fill {
        let mut body = Vec::new();
        let items = items.iter().map(|(id, text)| {
            let start = body.len();
            body.extend_from_slice(text.as_bytes());
            (*id, start..body.len())
        });
        let items: Vec<_> = items.collect();
        Fill {
            fetch: Fetch {
                began: second(seconds),
                user: UserId::of_test(1),
                jitter: Jitter::default(),
                by: FetchKind::Whole,
            },
            digests: Fill::digests(&body, &items),
            items,
            header: Arc::new(StoredHeader::of(&ResponseHeader::build(200, None).unwrap())),
            header_bytes: 0,
            body: body.into(),
            absent: absent.to_vec(),
        }
    }

    fn merged(before: Option<&Shelf>, fill: &Fill) -> Shelf {
        Shelf::merged(before, fill, |_| true)
    }

    /// The text of an id's item: empty if it is known to be absent, `None` if nothing is known. It is in one block.
    pub(in super::super) fn text_of(shelf: &Shelf, id: u64) -> Option<&str> {
        let (place, slot) = shelf.find(id)?;
        let mut parts = shelf.parts(shelf.range_at(place));
        let text = std::str::from_utf8(parts.next().unwrap()).unwrap();
        assert!(parts.next().is_none());
        assert_eq!(slot.kind == Kind::Absence, text.is_empty());
        Some(text)
    }

    #[test]
    fn a_tag_is_known_again_only_for_the_very_same_answer() {
        let shelf = merged(None, &told(1, &[(1, "a"), (2, "b"), (4, "d")], &[3]));
        let places = |ids: &[u64]| -> Vec<usize> {
            let place = |id: &u64| shelf.find(*id).unwrap().0;
            ids.iter().map(place).collect()
        };
        let ask = |ids: &[u64]| shelf.tag(&places(ids));
        let (tag, first) = ask(&[1, 2]);
        assert_eq!(
            (first, ask(&[1, 2])),
            (Recurrence::Anew, (tag, Recurrence::Again))
        );
        for other in [&[2, 1][..], &[1, 2, 4], &[1, 4], &[1], &[]] {
            let (told, asked) = ask(other);
            assert!(told != tag && asked == Recurrence::Anew, "{other:?}");
            ask(&[1, 2]);
        }
        // In the order asked, nothing is known again, and nothing else is forgotten for it.
        assert_eq!(ask(&[2, 1]), ask(&[2, 1]));
        assert_eq!(ask(&[1, 2]), (tag, Recurrence::Again));
        assert_eq!(
            [ask(&[]).1, ask(&[]).1],
            [Recurrence::Anew, Recurrence::Again]
        );
    }

    #[test]
    fn the_same_items_on_another_shelf_have_the_same_tag_and_others_in_their_place_do_not() {
        let before = merged(None, &told(1, &[(1, "a"), (2, "b")], &[]));
        let same = merged(Some(&before), &told(2, &[(2, "b"), (3, "c")], &[]));
        let changed = merged(Some(&before), &told(2, &[(2, "B")], &[]));
        let tag = |shelf: &Shelf| shelf.tag(&[0, 1]).0;
        assert_eq!(tag(&same), tag(&before));
        assert_ne!(tag(&changed), tag(&before));
    }

    #[test]
    fn of_a_long_shelf_only_its_beginning_is_known_again() {
        let items: Vec<(u64, &str)> = (1..=70).map(|id| (id, "a")).collect();
        let shelf = merged(None, &told(1, &items, &[]));
        let again = |place| (shelf.tag(&[place]), shelf.tag(&[place]).1).1;
        assert_eq!(
            (again(63), again(64)),
            (Recurrence::Again, Recurrence::Anew)
        );
    }

    #[test]
    fn items_stand_in_ascending_order_with_commas_between_them() {
        let shelf = merged(None, &told(1, &[(9, "nine"), (2, "two")], &[5, 1]));
        assert_eq!(shelf.array().unwrap(), &b"[two,nine]"[..]);
        let shelf = merged(Some(&shelf), &told(2, &[(5, "five")], &[10]));
        assert_eq!(shelf.array().unwrap(), &b"[two,five,nine]"[..]);
        let ids: Vec<_> = shelf.slots().map(|slot| slot.id).collect();
        assert_eq!(ids, [1, 2, 5, 9, 10]);
        assert_eq!(text_of(&shelf, 9), Some("nine"));
        assert_eq!(text_of(&shelf, 10), Some(""));
        assert_eq!(text_of(&shelf, 3), None);
    }

    #[test]
    fn a_later_fetch_wins_over_an_earlier_one_that_arrives_later() {
        let new = merged(None, &told(5, &[(1, "new")], &[2]));
        let late = told(3, &[(1, "old"), (2, "old"), (3, "old")], &[]);
        let shelf = merged(Some(&new), &late);
        assert_eq!(text_of(&shelf, 1), Some("new"));
        assert_eq!(text_of(&shelf, 2), Some(""));
        assert_eq!(text_of(&shelf, 3), Some("old"));
        assert_eq!(shelf.find(1).unwrap().1.fetch.began, second(5));
    }

    #[test]
    fn what_is_told_of_one_moment_counts_as_it_arrives() {
        let first = merged(None, &told(5, &[(1, "first")], &[]));
        let shelf = merged(Some(&first), &told(5, &[(1, "second")], &[]));
        assert_eq!(text_of(&shelf, 1), Some("second"));
    }

    #[test]
    fn an_absence_replaces_an_item_and_an_item_an_absence() {
        let shelf = merged(None, &told(1, &[(1, "one"), (2, "two")], &[3]));
        let shelf = merged(Some(&shelf), &told(2, &[(3, "three")], &[1]));
        assert_eq!(text_of(&shelf, 1), Some(""));
        assert_eq!(text_of(&shelf, 3), Some("three"));
        assert_eq!(shelf.array().unwrap(), &b"[two,three]"[..]);
    }

    #[test]
    fn what_is_not_to_be_kept_goes_and_what_was_just_told_stays() {
        let shelf = merged(None, &told(1, &[(1, "one"), (2, "two")], &[3, 4]));
        let fill = told(2, &[(5, "five")], &[4]);
        let shelf = Shelf::merged(Some(&shelf), &fill, |slot| slot.id == 2);
        let ids: Vec<_> = shelf.slots().map(|slot| slot.id).collect();
        assert_eq!(ids, [2, 4, 5]);
        assert_eq!(shelf.array().unwrap(), &b"[two,five]"[..]);
    }

    #[test]
    fn a_full_shelf_forgets_what_was_fetched_first_and_only_as_much_as_it_must() {
        let most = MAX_SLOTS as u64;
        let all: Vec<_> = (1..=most).map(|id| (id, "x")).collect();
        let full = merged(None, &told(1, &all, &[]));
        assert_eq!(full.slots().len(), MAX_SLOTS);

        let known: Vec<_> = all[..25].to_vec();
        let again = merged(Some(&full), &told(2, &known, &[]));
        assert_eq!(again.slots().len(), MAX_SLOTS, "nothing new came");

        let news = [(most + 1, "new"), (most + 2, "new")];
        let shelf = merged(Some(&again), &told(3, &news, &[]));
        assert_eq!(shelf.slots().len(), MAX_SLOTS);
        for id in (1..=25).chain([most + 1, most + 2]) {
            assert!(shelf.find(id).is_some(), "{id}");
        }
    }

    #[test]
    fn a_shelf_has_at_most_max_bytes_of_items() {
        let large = "x".repeat(MAX_BYTES / 4);
        let mut shelf = merged(None, &told(0, &[(1, "small")], &[]));
        for id in 2..10 {
            shelf = merged(Some(&shelf), &told(id, &[(id, &large)], &[]));
            assert!(shelf.array_len() <= MAX_BYTES + 2);
        }
        let ids: Vec<_> = shelf.slots().map(|slot| slot.id).collect();
        assert_eq!(ids, [7, 8, 9]);
    }

    #[test]
    fn the_header_is_that_of_the_latest_fill_and_weighs_once() {
        let mut fill = told(1, &[(1, "one")], &[]);
        fill.header_bytes = 1000;
        let first = merged(None, &fill);
        let same = merged(Some(&first), &told(2, &[(1, "two")], &[]));
        assert!(Arc::ptr_eq(same.header(), first.header()));
        assert_eq!(same.size_bytes(), first.size_bytes());

        let mut other = told(3, &[(1, "two")], &[]);
        let mut header = ResponseHeader::build(200, None).unwrap();
        header.append_header("X-Powered-By", "PHP").unwrap();
        other.header = Arc::new(StoredHeader::of(&header));
        other.header_bytes = 500;
        let changed = merged(Some(&same), &other);
        assert!(Arc::ptr_eq(changed.header(), &other.header));
        assert_eq!(changed.size_bytes(), first.size_bytes() - 500);
    }

    #[test]
    fn allocators_round_up_to_the_next_of_their_sizes() {
        for (bytes, taken) in [
            (0, 0),
            (1, 16),
            (16, 16),
            (48, 48),
            (65, 80),
            (128, 128),
            (129, 160),
            (200, 224),
            (256, 256),
            (257, 320),
            (20_025, 20_480),
        ] {
            assert_eq!(occupied(bytes), taken, "{bytes}");
        }
    }
}
