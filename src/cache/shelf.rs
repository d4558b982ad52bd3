//! One requester's items, side by side.
//!
//! A shelf never changes: a fill makes a new one from the old. Its items stand in one block of bytes in ascending
//! order of their ids, which is the JSON array of them all: a batch for all of them is answered with that block itself,
//! and neighbours are copied into an answer in one piece.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::clock::Time;
use super::freshness::{Jitter, Kind};
use super::header::StoredHeader;

/// Most ids that one shelf remembers; the longest-fetched go first.
///
/// A user who asks for ever new ids neither fills the memory nor makes each merge longer than the last.
pub const MAX_SLOTS: usize = 1024;

/// One requester's items and known absences. Immutable.
#[derive(Debug)]
pub struct Shelf {
    slots: Box<[Slot]>,
    array: Bytes,
    header: Arc<StoredHeader>,
}

/// What is known about one id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The id.
    pub id: u64,
    /// When the fetch that told it began.
    pub fetched: Time,
    /// That fetch's share of the jitter.
    pub jitter: Jitter,
    start: u32,
    /// Length of the item in bytes; 0 for an absence, since no JSON object is empty.
    len: u32,
}

/// What one fetch told: items and absences, not yet on a shelf.
#[derive(Debug)]
pub struct Fill {
    /// When the fetch began.
    pub fetched: Time,
    /// The fetch's share of the jitter.
    pub jitter: Jitter,
    /// The response header that a composed answer carries.
    pub header: Arc<StoredHeader>,
    /// The body in which the items stand.
    pub body: Bytes,
    /// Id and place in the body of each item, ids distinct.
    pub items: Vec<(u64, Range<usize>)>,
    /// Ids that were asked and not answered.
    pub absent: Vec<u64>,
}

impl Slot {
    /// An item, or the knowledge that there is none.
    pub fn kind(&self) -> Kind {
        if self.len == 0 {
            Kind::Absence
        } else {
            Kind::Item
        }
    }
}

/// One id on its way to a new shelf.
struct Piece<'a> {
    slot: Slot,
    bytes: &'a [u8],
}

impl Shelf {
    /// A shelf with what `fill` tells, and of `before` the slots that `fill` does not replace and that `keep` keeps.
    ///
    /// Where both know an id, the fetch that began later wins: a slow answer never hides a newer one.
    pub fn merged(before: Option<&Self>, fill: &Fill, keep: impl Fn(&Slot) -> bool) -> Self {
        let mut pieces = fill.pieces();
        if let Some(before) = before {
            let kept = before.slots.iter().filter(|slot| keep(slot));
            pieces.extend(kept.map(|slot| Piece {
                slot: *slot,
                bytes: before.bytes_of(slot),
            }));
        }
        if pieces.len() > MAX_SLOTS {
            pieces.sort_by_key(|piece| std::cmp::Reverse(piece.slot.fetched));
            pieces.truncate(MAX_SLOTS);
        }
        pieces.sort_by_key(|piece| (piece.slot.id, std::cmp::Reverse(piece.slot.fetched)));
        pieces.dedup_by_key(|piece| piece.slot.id);
        let header = match before {
            Some(before) if *before.header == *fill.header => &before.header,
            _ => &fill.header,
        };
        Self::from_pieces(&pieces, Arc::clone(header))
    }

    fn from_pieces(pieces: &[Piece<'_>], header: Arc<StoredHeader>) -> Self {
        let total: usize = pieces.iter().map(|piece| piece.bytes.len() + 1).sum();
        let mut array = Vec::with_capacity(total + 2);
        array.push(b'[');
        let mut slots = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let mut slot = piece.slot;
            if slot.kind() == Kind::Item && array.len() > 1 {
                array.push(b',');
            }
            slot.start =
                u32::try_from(array.len()).expect("MAX_SLOTS bounded answers fit in 4 GiB");
            array.extend_from_slice(piece.bytes);
            slots.push(slot);
        }
        array.push(b']');
        Self {
            slots: slots.into_boxed_slice(),
            array: array.into_boxed_slice().into(),
            header,
        }
    }

    /// The slot of an id, and its place among the slots.
    pub fn find(&self, id: u64) -> Option<(usize, &Slot)> {
        let place = self.slots.binary_search_by_key(&id, |slot| slot.id).ok()?;
        Some((place, &self.slots[place]))
    }

    /// The id at a place.
    pub fn id_at(&self, place: usize) -> u64 {
        self.slots[place].id
    }

    /// Where in [`Shelf::array`] the item at a place stands.
    pub fn range_at(&self, place: usize) -> Range<usize> {
        let slot = &self.slots[place];
        slot.start as usize..slot.start as usize + slot.len as usize
    }

    /// The JSON array of all items in ascending order of their ids.
    pub fn array(&self) -> &Bytes {
        &self.array
    }

    /// The response header of the latest fill.
    pub fn header(&self) -> &Arc<StoredHeader> {
        &self.header
    }

    /// How many ids it knows of.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Bytes of memory that it occupies, without the header that it shares with other shelves.
    pub fn size_bytes(&self) -> usize {
        size_of::<Self>() + size_of_val::<[Slot]>(&self.slots) + self.array.len()
    }

    fn bytes_of(&self, slot: &Slot) -> &[u8] {
        &self.array[slot.start as usize..slot.start as usize + slot.len as usize]
    }
}

impl Fill {
    fn pieces(&self) -> Vec<Piece<'_>> {
        let slot = |id, len: usize| Slot {
            id,
            fetched: self.fetched,
            jitter: self.jitter,
            start: 0,
            len: u32::try_from(len).expect("an answer is bounded far below 4 GiB"),
        };
        let items = self.items.iter().map(|(id, range)| Piece {
            slot: slot(*id, range.len()),
            bytes: &self.body[range.clone()],
        });
        let absent = self.absent.iter().map(|id| Piece {
            slot: slot(*id, 0),
            bytes: b"",
        });
        items.chain(absent).collect()
    }
}
