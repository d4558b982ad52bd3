//! Putting stored items together into the JSON array that the VMS would have sent.

use std::borrow::Cow;
use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use crate::cache::Sorted;
use crate::cache::shelf::Shelf;
use crate::request::ids::AskedIds;

use super::order::Sequence;

/// Where on the shelf the usable items stand, in the order of the answer.
pub fn places<'a>(
    shelf: &Shelf,
    sorted: &'a Sorted,
    ids: &AskedIds,
    sequence: Sequence,
) -> Cow<'a, [usize]> {
    match sequence {
        Sequence::Ascending => Cow::Borrowed(&sorted.usable),
        Sequence::AsAsked => Cow::Owned(places_as_asked(shelf, sorted, ids)),
    }
}

/// Length of the array of the items at `places`, in bytes.
pub fn length(shelf: &Shelf, places: &[usize]) -> usize {
    let items = places.iter().map(|&place| shelf.range_at(place).len() + 1);
    // With a bracket in place of the comma after the last.
    (1 + items.sum::<usize>()).max(2)
}

/// The array of the items at `places`, in one allocation at the most.
///
/// Those that are neighbours on the shelf are copied in one piece, together with the comma that stands between them; if
/// they are all there are, mostly nothing is copied.
pub fn compose(shelf: &Shelf, places: &[usize]) -> Bytes {
    let ranges = places.iter().map(|&place| shelf.range_at(place));
    let mut array = BytesMut::new();
    let mut run = 0..0;
    for range in ranges {
        if run.is_empty() {
            run = range;
        } else if range.start == run.end + 1 {
            run.end = range.end;
        } else {
            begin(&mut array, shelf, places);
            put(&mut array, shelf, run);
            array.put_u8(b',');
            run = range;
        }
    }
    if run.start == 1
        && run.end == shelf.array_len() - 1
        && let Some(all) = shelf.array()
    {
        return all.clone();
    }
    begin(&mut array, shelf, places);
    put(&mut array, shelf, run);
    array.put_u8(b']');
    array.freeze()
}

fn put(array: &mut BytesMut, shelf: &Shelf, range: Range<usize>) {
    for part in shelf.parts(range) {
        array.put_slice(part);
    }
}

/// Allocates the answer, once it is clear that one has to be made.
fn begin(array: &mut BytesMut, shelf: &Shelf, places: &[usize]) {
    if array.is_empty() {
        array.reserve(length(shelf, places));
        array.put_u8(b'[');
    }
}

fn places_as_asked(shelf: &Shelf, sorted: &Sorted, ids: &AskedIds) -> Vec<usize> {
    let by_id = |id: &u64| {
        sorted
            .usable
            .binary_search_by_key(id, |&place| shelf.id_at(place))
            .ok()
            .map(|at| sorted.usable[at])
    };
    ids.in_order().iter().filter_map(by_id).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use pingora_http::ResponseHeader;
    use proptest::prelude::*;

    use super::*;
    use crate::cache::clock::Clock;
    use crate::cache::freshness::{Jitter, Windows};
    use crate::cache::header::StoredHeader;
    use crate::cache::marks::Fence;
    use crate::cache::shelf::{Fetch, FetchKind, Fill};
    use crate::cache::{Need, sort_out};
    use crate::config;
    use crate::origin::answer::split;
    use crate::request::key::UserId;

    fn item(id: u64) -> String {
        format!(
            "{{\"id\":{id},\"t\":\"{}\"}}",
            "x".repeat(usize::from(id > 9))
        )
    }

    fn array(ids: impl IntoIterator<Item = u64>) -> String {
        let items: Vec<String> = ids.into_iter().map(item).collect();
        format!("[{}]", items.join(","))
    }

    fn fill(owned: &BTreeSet<u64>, asked: &BTreeSet<u64>) -> Fill {
        let body = array(asked.intersection(owned).copied());
        let items = split(body.as_bytes(), "id").unwrap();
        Fill {
            fetch: Fetch {
                began: Clock::manual().0.now(),
                user: UserId::of_test(1),
                jitter: Jitter::default(),
                by: FetchKind::Whole,
            },
            header: Arc::new(StoredHeader::of(&ResponseHeader::build(200, None).unwrap())),
            header_bytes: 0,
            digests: Fill::digests(body.as_bytes(), &items),
            items,
            body: body.into(),
            absent: asked.difference(owned).copied().collect(),
        }
    }

    fn some_ids() -> impl Strategy<Value = BTreeSet<u64>> {
        proptest::collection::btree_set(1u64..30, 1..12)
    }

    proptest! {
        #[test]
        fn what_was_filled_in_parts_is_composed_as_if_asked_whole(
            owned in some_ids(),
            fills in proptest::collection::vec(some_ids(), 1..5),
            asked in Just((1u64..30).collect::<Vec<_>>()).prop_shuffle(),
            take in 1usize..29,
        ) {
            let shelf = fills.iter().fold(None, |shelf: Option<Shelf>, asked| {
                Some(Shelf::merged(shelf.as_ref(), &fill(&owned, asked), |_| true))
            }).unwrap();
            let filled: BTreeSet<u64> = fills.into_iter().flatten().collect();
            let ids = AskedIds::new(asked[..take].to_vec()).unwrap();
            let windows = Windows::new(&config::Batch::default());
            let fence = Fence::default();
            let now = Clock::manual().0.now();
            let sorted = sort_out(&shelf, &ids, &windows, &fence, Need::Answer, now);

            let known = |id: &u64| filled.contains(id) && owned.contains(id);
            let ascending = array(ids.ascending().iter().copied().filter(known));
            let composed = |sequence| {
                let places = places(&shelf, &sorted, &ids, sequence);
                let array = compose(&shelf, &places);
                assert_eq!(array.len(), length(&shelf, &places));
                array
            };
            prop_assert_eq!(composed(Sequence::Ascending), ascending);
            let as_asked = array(ids.in_order().iter().copied().filter(known));
            prop_assert_eq!(composed(Sequence::AsAsked), as_asked);

            let asked = places(&shelf, &sorted, &ids, Sequence::AsAsked);
            let ascending = places(&shelf, &sorted, &ids, Sequence::Ascending);
            let part = &ascending[..ascending.len() / 2];
            for (one, other) in [(&*asked, &*ascending), (&ascending, part), (part, part)] {
                let are_same = compose(&shelf, one) == compose(&shelf, other);
                prop_assert_eq!(shelf.tag(one).0 == shelf.tag(other).0, are_same);
            }

            let missing: Vec<u64> = ids.in_order().iter().copied().filter(|id| !filled.contains(id)).collect();
            prop_assert_eq!(&sorted.missing, &missing);
            prop_assert_eq!(sorted.known() + missing.len(), ids.len());
        }
    }
}
