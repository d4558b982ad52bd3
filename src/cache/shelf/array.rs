//! The JSON array of a shelf's items, in one block of memory or in blocks of one size.
//!
//! Allocators hand out few sizes, and cut pages of memory into blocks of one of them: one block for 9,121 bytes takes
//! 10,240, and six of those a page of 65,536. In blocks of one size, which fills a page and which every shelf can use
//! again that another gave back, all but the last are full. But only what is in one block can be an answer without being
//! copied.

use std::ops::Range;

use bytes::Bytes;

use super::occupied;

/// Of this size, 16 blocks fill a page of mimalloc to the last byte.
///
/// Measured with 20,000 shelves of eleven items, beside their payload: 11.8 to 12.9 % with this, 12.9 to 14.0 % with half
/// or a quarter of it, 15.2 to 16.4 % with 3,584 bytes, of which a page has 1,024 to spare.
const BLOCK_BYTES: usize = 4096;

/// What an array will be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// As a whole: it is what one batch was answered.
    Whole,
    /// In parts: it is what several batches were answered.
    Parts,
}

/// The bytes of an array. Immutable.
#[derive(Debug)]
pub(super) enum Array {
    /// In one block, of whatever size.
    Whole(Bytes),
    /// In blocks of [`BLOCK_BYTES`]; the last may be shorter.
    Parts(Box<[Box<[u8]>]>),
}

impl Array {
    pub(super) fn new(array: Vec<u8>, usage: Use) -> Self {
        if usage == Use::Whole || array.len() <= BLOCK_BYTES {
            return Self::Whole(array.into_boxed_slice().into());
        }
        Self::Parts(array.chunks(BLOCK_BYTES).map(Box::from).collect())
    }

    /// All of it, if it is in one block.
    pub(super) fn whole(&self) -> Option<&Bytes> {
        match self {
            Self::Whole(array) => Some(array),
            Self::Parts(_) => None,
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Whole(array) => array.len(),
            Self::Parts(blocks) => {
                let last = blocks.last().map_or(0, |block| block.len());
                blocks.len().saturating_sub(1) * BLOCK_BYTES + last
            }
        }
    }

    /// What stands in a range, to be read one after the other.
    pub(super) fn parts(&self, range: Range<usize>) -> impl Iterator<Item = &[u8]> + Clone {
        let (first, rest) = match self {
            Self::Whole(array) => (&array[range], None),
            Self::Parts(blocks) => {
                let block = range.start / BLOCK_BYTES;
                let at = block * BLOCK_BYTES;
                let first = &blocks[block][range.start - at..];
                match range.len() <= first.len() {
                    true => (&first[..range.len()], None),
                    false => (
                        first,
                        Some((&blocks[block + 1..], range.len() - first.len())),
                    ),
                }
            }
        };
        let rest = rest.into_iter().flat_map(|(blocks, length)| {
            let blocks = blocks.iter().enumerate();
            blocks.map_while(move |(number, block)| {
                let left = length.checked_sub(number * BLOCK_BYTES)?;
                Some(&block[..left.min(block.len())])
            })
        });
        std::iter::once(first).chain(rest)
    }

    /// Bytes of memory that its blocks take.
    pub(super) fn occupied(&self) -> usize {
        match self {
            Self::Whole(array) => occupied(array.len()),
            Self::Parts(blocks) => {
                let of_blocks = blocks.iter().map(|block| occupied(block.len()));
                occupied(size_of_val::<[Box<[u8]>]>(blocks)) + of_blocks.sum::<usize>()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(bytes: usize) -> Vec<u8> {
        (0..=250).cycle().take(bytes).collect()
    }

    fn waste(bytes: usize, usage: Use) -> usize {
        Array::new(pattern(bytes), usage).occupied() - bytes
    }

    #[test]
    fn blocks_of_one_size_waste_little() {
        let sum = |usage| {
            let sizes = (5_000..40_000).step_by(97);
            sizes.map(|bytes| waste(bytes, usage)).sum::<usize>()
        };
        assert!(sum(Use::Parts) * 4 < sum(Use::Whole));
        assert!(
            (5_000..40_000)
                .step_by(97)
                .all(|bytes| waste(bytes, Use::Parts) < bytes / 8)
        );
        assert_eq!(waste(BLOCK_BYTES, Use::Whole), 0);
    }

    #[test]
    fn what_is_asked_as_a_whole_is_in_one_block() {
        let whole = Array::new(pattern(9_121), Use::Whole);
        assert_eq!(whole.whole().unwrap(), &pattern(9_121));
        assert_eq!(Array::new(pattern(9_121), Use::Parts).whole(), None);
        let small = Array::new(pattern(BLOCK_BYTES), Use::Parts);
        assert_eq!(small.whole().unwrap(), &pattern(BLOCK_BYTES));
    }

    proptest! {
        #[test]
        fn the_parts_of_a_range_are_what_was_put_there(
            bytes in 2usize..20_000,
            ends in (0usize..20_000, 0usize..20_000),
            usage in prop_oneof![Just(Use::Whole), Just(Use::Parts)],
        ) {
            // An item begins before the bracket that ends the array.
            let start = ends.0.min(ends.1).min(bytes - 1);
            let end = ends.0.max(ends.1).clamp(start, bytes);
            let array = Array::new(pattern(bytes), usage);
            prop_assert_eq!(array.len(), bytes);
            let parts: Vec<&[u8]> = array.parts(start..end).collect();
            prop_assert_eq!(parts.concat(), &pattern(bytes)[start..end]);
        }
    }
}
