//! Which channel the hash of a key goes to; and, with two channels, the records of a slice sorted by it without a branch and without moving one: only
//! their positions are sorted.
//!
//! Which of two channels a key goes to is as good as random, so a branch on it would be predicted wrongly for half of the records. With more channels
//! sorting gained nothing over taking the records one by one (`docs/performance.md`).

use crate::record::{key_group, key_group_range, subtask_of};

/// The way from hashes to channels.
pub(crate) struct Spread {
    max_parallelism: u32,
    /// The consumer of each key group: saves a division per record.
    channel_of_group: Vec<u16>,
    /// With two channels: the upper halves of hashes go to the second one from here on. Above all of them when it owns no group.
    second_from: u64,
    firsts: Vec<u32>,
    seconds: Vec<u32>,
}

impl Spread {
    pub(crate) fn new(channels: u32, max_parallelism: u32) -> Spread {
        // A group is floor(upper half * max / 2^32): it reaches `first` when the upper half reaches ceil(first * 2^32 / max).
        let first = u64::from(key_group_range(1, channels, max_parallelism).start);
        Spread {
            max_parallelism,
            channel_of_group: (0..max_parallelism)
                .map(|group| subtask_of(group, max_parallelism, channels) as u16)
                .collect(),
            second_from: (first << 32).div_ceil(u64::from(max_parallelism)),
            firsts: Vec::new(),
            seconds: Vec::new(),
        }
    }

    /// The channel of one hash.
    #[inline]
    pub(crate) fn channel(&self, hash: u64) -> usize {
        usize::from(self.channel_of_group[key_group(hash, self.max_parallelism) as usize])
    }

    /// The positions of the hashes that go to the first and to the second of two channels, each ascending.
    pub(crate) fn in_two(&mut self, hashes: &[u64]) -> (&[u32], &[u32]) {
        // Only ever longer: what is behind the positions of this slice is left over from another one.
        if self.firsts.len() < hashes.len() {
            self.firsts.resize(hashes.len(), 0);
            self.seconds.resize(hashes.len(), 0);
        }
        let (firsts, seconds) = (&mut self.firsts[..hashes.len()], &mut self.seconds[..hashes.len()]);
        let mut second = 0;
        // Every position is written to both, and one of them is advanced.
        for (position, hash) in hashes.iter().enumerate() {
            firsts[position - second] = position as u32;
            seconds[second] = position as u32;
            second += usize::from(hash >> 32 >= self.second_from);
        }
        (&firsts[..hashes.len() - second], &seconds[..second])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_owner(spread: &Spread, hashes: &[u64], owner: usize) -> Vec<u32> {
        (0..hashes.len() as u32).filter(|position| spread.channel(hashes[*position as usize]) == owner).collect()
    }

    #[test]
    fn two_channels_are_told_apart_at_exactly_the_hash_at_which_the_key_group_changes_owner() {
        for max_parallelism in [1, 2, 3, 5, 127, 128, 1000, 32_768] {
            let mut spread = Spread::new(2, max_parallelism);
            let from = spread.second_from << 32;
            let hashes = [0, 1, from.wrapping_sub(1), from, from.wrapping_add(u64::from(u32::MAX)), u64::MAX];
            let owned = (by_owner(&spread, &hashes, 0), by_owner(&spread, &hashes, 1));
            let (firsts, seconds) = spread.in_two(&hashes);
            assert_eq!((firsts, seconds), (&owned.0[..], &owned.1[..]), "{max_parallelism} key groups");
        }
    }

    #[test]
    fn every_position_is_with_its_channel_once_and_in_order() {
        let mut spread = Spread::new(2, 128);
        for length in [256_u64, 0, 1, 255, 257, 1000, 2] {
            let hashes: Vec<u64> = (1..=length).map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect();
            let owned = (by_owner(&spread, &hashes, 0), by_owner(&spread, &hashes, 1));
            let (firsts, seconds) = spread.in_two(&hashes);
            assert_eq!((firsts, seconds), (&owned.0[..], &owned.1[..]), "{length} records");
        }
    }
}
