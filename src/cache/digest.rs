//! What tells an item's bytes from all others, and an answer's from all others by those of its items.
//!
//! Unkeyed BLAKE3 of 128 bits: nobody finds two items with the same digest, by chance or by intent, and every edge finds
//! the same one.

use crate::request::tag::Tag;

/// Of one item's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 16]);

impl Digest {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(first_half(&blake3::hash(bytes)))
    }
}

/// The tag of an answer that has items with these digests, in this order. The same items make the same bytes: between them
/// are commas, and nothing else is added.
pub fn tag(digests: impl ExactSizeIterator<Item = Digest>) -> Tag {
    /// Says of what it is, so that no item can have the digest of an answer.
    const OF_AN_ANSWER: &[u8] = b"vms-edge answer 1";
    // Room for the digests of thirty items.
    let (mut stack, mut heap) = ([0; 512], Vec::new());
    let length = OF_AN_ANSWER.len() + digests.len() * size_of::<Digest>();
    let gathered = match stack.get_mut(..length) {
        Some(gathered) => gathered,
        None => {
            heap.resize(length, 0);
            &mut heap[..]
        }
    };
    let (of, places) = gathered.split_at_mut(OF_AN_ANSWER.len());
    of.copy_from_slice(OF_AN_ANSWER);
    for (place, Digest(digest)) in places.chunks_exact_mut(size_of::<Digest>()).zip(digests) {
        place.copy_from_slice(&digest);
    }
    Tag::of_digest(first_half(&blake3::hash(gathered)))
}

fn first_half(hash: &blake3::Hash) -> [u8; 16] {
    let (half, _) = hash.as_bytes().split_at(16);
    half.try_into().expect("a hash has 32 bytes")
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn tag_of(items: &[&str]) -> Tag {
        tag(items.iter().map(|item| Digest::of(item.as_bytes())))
    }

    #[test]
    fn the_order_counts_and_so_does_where_an_item_ends() {
        let mut seen = HashMap::new();
        for items in [
            &[][..],
            &["a"],
            &["a", "b"],
            &["b", "a"],
            &["a,b"],
            &["ab"],
            &["a", "b", "b"],
        ] {
            assert_eq!(seen.insert(tag_of(items), items), None);
        }
    }

    proptest! {
        #[test]
        fn tags_are_the_same_where_items_are(
            one in proptest::collection::vec("[ab]{1,2}", 0..80), other in proptest::collection::vec("[ab]{1,2}", 0..4),
        ) {
            let of = |items: &[String]| tag(items.iter().map(|item| Digest::of(item.as_bytes())));
            prop_assert_eq!(of(&one) == of(&other), one == other);
            prop_assert_eq!(of(&one), of(&one.clone()));
        }
    }
}
