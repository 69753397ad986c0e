//! The part of the hash space that a subtask owns, and where a hash lies in it.
//!
//! The key group takes the top bits of the hash, so the hashes that reach a subtask share theirs. A position is the hash
//! relative to the start of the subtask's key groups, shifted until the range fills at least half of 32 bits: then the
//! table's slots use bits that routing left over, and the order of positions is the order of hashes.

use std::ops::Range;

use super::slots::Position;

/// A contiguous range of key groups, as hashes and positions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// The lowest value of the top 32 bits of the range's hashes.
    start: u64,
    /// How many values the top 32 bits can have: 1 to 2^32.
    width: u64,
    /// Positions are the hashes above the start, shifted left by this and cut to the upper 32 bits.
    shift: u32,
    first_group: u32,
    end_group: u32,
    max_parallelism: u32,
}

impl Span {
    /// The span of some key groups.
    ///
    /// # Panics
    /// When the range is empty or reaches beyond the max parallelism.
    pub(super) fn new(groups: Range<u32>, max_parallelism: u32) -> Span {
        assert!(
            !groups.is_empty() && groups.end <= max_parallelism,
            "a table needs at least one key group below the max parallelism {max_parallelism}, not {groups:?}"
        );
        let start = group_start(groups.start, max_parallelism);
        let width = group_start(groups.end, max_parallelism) - start;
        let bits = 64 - (width - 1).leading_zeros();
        Span { start, width, shift: 32 - bits, first_group: groups.start, end_group: groups.end, max_parallelism }
    }

    pub(super) fn max_parallelism(&self) -> u32 {
        self.max_parallelism
    }

    pub(super) fn groups(&self) -> Range<u32> {
        self.first_group..self.end_group
    }

    /// Whether a hash belongs to the span.
    #[inline(always)]
    pub(super) fn contains(&self, hash: u64) -> bool {
        (hash >> 32).wrapping_sub(self.start) < self.width
    }

    /// The position of a hash. Strictly below [`Span::end`] for hashes that the span [contains](Span::contains).
    #[inline(always)]
    pub(super) fn position(&self, hash: u64) -> Position {
        Position::new(((hash.wrapping_sub(self.start << 32) << self.shift) >> 32) as u32)
    }

    /// One above the highest position.
    pub(super) fn end(&self) -> u64 {
        self.width << self.shift
    }

    /// The key group of a position: exact, because a position keeps all the bits that decide it. (The lowest
    /// position of all is one more than its hash says, which no key group is narrow enough to notice.)
    #[inline]
    pub(super) fn group_of(&self, position: u32) -> u32 {
        let top = self.start + u64::from(position >> self.shift);
        ((top * u64::from(self.max_parallelism)) >> 32) as u32
    }

    /// One above the highest position of a key group of the span.
    #[inline]
    pub(super) fn group_end(&self, group: u32) -> u64 {
        (group_start(group + 1, self.max_parallelism) - self.start) << self.shift
    }
}

/// The lowest top-32-bits value of a key group.
fn group_start(group: u32, max_parallelism: u32) -> u64 {
    (u64::from(group) << 32).div_ceil(u64::from(max_parallelism))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::key_group;

    #[test]
    fn a_position_ascends_with_the_hash_and_knows_its_key_group() {
        for (groups, max_parallelism) in
            [(0..128, 128), (3..4, 128), (0..1, 1), (40..86, 129), (32_000..32_768, 32_768), (1..3, 3)]
        {
            let span = Span::new(groups.clone(), max_parallelism);
            assert!(span.end() > 1 << 31 && span.end() <= 1 << 32);
            let mut last = 0;
            for step in 0..100_000_u64 {
                let hash =
                    (span.start << 32) + ((u128::from(span.width << 32 >> 1) * 2 * u128::from(step)) / 100_000) as u64;
                assert!(span.contains(hash));
                let position = span.position(hash).get();
                assert!(position >= last && u64::from(position) < span.end());
                let group = span.group_of(position);
                assert_eq!(group, key_group(hash, max_parallelism));
                assert!(groups.contains(&group) && u64::from(position) < span.group_end(group));
                assert!(group == groups.start || u64::from(position) >= span.group_end(group - 1));
                last = position;
            }
            if let Some(before) = (span.start << 32).checked_sub(1) {
                assert!(!span.contains(before));
            }
        }
    }
}
