//! Keys and key groups: which subtask owns a key.
//!
//! A key group is the unit in which keyed state is stored and handed to subtasks. Its number follows from the key's hash
//! and the job's max parallelism alone, so it never changes while the job lives; which subtask owns a group follows from
//! the parallelism, so it may change at a restore.

use std::ops::Range;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::hash::{KeyError, hash_key};

/// The largest max parallelism of a job.
pub const MAX_PARALLELISM_LIMIT: u32 = 32_768;

/// What a stream can be keyed by: equality, and an encoding that [`hash_key`] can hash.
///
/// Implemented for every type that has the properties. Equal keys must serialize alike. Floats and maps inside a key are
/// refused when the first such key is hashed; a `HashSet` cannot be told from a list and must not stand in a key, because
/// its order is random.
pub trait Key: Clone + Send + Eq + Serialize + DeserializeOwned + 'static {}

impl<T: Clone + Send + Eq + Serialize + DeserializeOwned + 'static> Key for T {}

/// How the key of a record is found. [`Borrowed`] and [`Owned`] make one from a closure.
///
/// The key is lent to a continuation, so that one code path serves keys that stand in the record (nothing is copied) and
/// keys that are computed from it.
pub trait KeySelector<T, K: Key>: Clone + Send + 'static {
    /// Calls `then` with the key of `record`.
    fn with_key<R>(&self, record: &T, then: impl FnOnce(&K) -> R) -> R;

    /// The hash of the key of `record` under the job's `seed`.
    ///
    /// # Errors
    /// When the key holds something that cannot be hashed, see [`KeyError`].
    #[inline]
    fn hash(&self, seed: u64, record: &T) -> Result<u64, KeyError> {
        self.with_key(record, |key| hash_key(seed, key))
    }
}

/// A [`KeySelector`] whose key stands in the record: `Borrowed(|flight: &Flight| &flight.tailnum)`.
#[derive(Clone, Copy, Debug)]
pub struct Borrowed<F>(pub F);

/// A [`KeySelector`] whose key is computed from the record: `Owned(|flight: &Flight| flight.minutes / 60)`.
#[derive(Clone, Copy, Debug)]
pub struct Owned<F>(pub F);

impl<T, K: Key, F: Fn(&T) -> &K + Clone + Send + 'static> KeySelector<T, K> for Borrowed<F> {
    #[inline]
    fn with_key<R>(&self, record: &T, then: impl FnOnce(&K) -> R) -> R {
        then((self.0)(record))
    }
}

impl<T, K: Key, F: Fn(&T) -> K + Clone + Send + 'static> KeySelector<T, K> for Owned<F> {
    #[inline]
    fn with_key<R>(&self, record: &T, then: impl FnOnce(&K) -> R) -> R {
        then(&(self.0)(record))
    }
}

/// The max parallelism of a job that does not set one: 1.5 times its parallelism, rounded up to a power of two, from 128
/// to [`MAX_PARALLELISM_LIMIT`].
#[must_use]
pub fn default_max_parallelism(parallelism: u32) -> u32 {
    let parallelism = parallelism.min(MAX_PARALLELISM_LIMIT);
    (parallelism + parallelism / 2).next_power_of_two().clamp(128, MAX_PARALLELISM_LIMIT)
}

/// The key group of a hash: its top 32 bits times `max_parallelism`, shifted right by 32. Below `max_parallelism`.
#[inline]
#[must_use]
pub fn key_group(hash: u64, max_parallelism: u32) -> u32 {
    (((hash >> 32) * u64::from(max_parallelism)) >> 32) as u32
}

/// The subtask, of `parallelism` many, that owns a key group: contiguous ranges whose sizes differ by at most one.
///
/// # Panics
/// When `max_parallelism` is zero.
#[inline]
#[must_use]
pub fn subtask_of(key_group: u32, max_parallelism: u32, parallelism: u32) -> u32 {
    (u64::from(key_group) * u64::from(parallelism) / u64::from(max_parallelism)) as u32
}

/// The key groups that a subtask, of `parallelism` many, owns: exactly those for which [`subtask_of`] names it.
///
/// # Panics
/// When `parallelism` is zero.
#[must_use]
pub fn key_group_range(subtask: u32, parallelism: u32, max_parallelism: u32) -> Range<u32> {
    let start = |subtask: u32| {
        (u64::from(subtask) * u64::from(max_parallelism)).div_ceil(u64::from(parallelism)).min(max_parallelism.into())
            as u32
    };
    start(subtask)..start(subtask.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ranges_of_the_subtasks_are_contiguous_complete_and_disjoint() {
        for max_parallelism in [1, 2, 3, 5, 127, 128, 129, 1000, 32_768] {
            for parallelism in [1, 2, 3, 7, 16, 100, 128, 1000].into_iter().filter(|p| *p <= max_parallelism) {
                let mut next = 0;
                for subtask in 0..parallelism {
                    let range = key_group_range(subtask, parallelism, max_parallelism);
                    assert_eq!(range.start, next, "subtask {subtask} of {parallelism}, {max_parallelism} groups");
                    assert!(!range.is_empty());
                    for group in range.clone() {
                        assert_eq!(subtask_of(group, max_parallelism, parallelism), subtask);
                    }
                    next = range.end;
                }
                assert_eq!(next, max_parallelism);
            }
        }
    }

    #[test]
    fn a_key_group_is_below_the_max_parallelism_and_ascends_with_the_hash() {
        for max_parallelism in [1, 3, 128, 32_768] {
            assert_eq!(key_group(0, max_parallelism), 0);
            assert_eq!(key_group(u64::MAX, max_parallelism), max_parallelism - 1);
            let groups: Vec<u32> = (0..=1000_u64).map(|i| key_group(i * (u64::MAX / 1000), max_parallelism)).collect();
            assert!(groups.is_sorted());
        }
    }

    #[test]
    fn the_default_max_parallelism_is_one_and_a_half_times_the_parallelism_as_a_power_of_two() {
        assert_eq!([1, 85, 86, 100, 200, 30_000].map(default_max_parallelism), [128, 128, 256, 256, 512, 32_768]);
    }

    fn borrowed<T, K: Key, F: Fn(&T) -> &K + Clone + Send + 'static>(select: F) -> Borrowed<F> {
        Borrowed(select)
    }

    #[test]
    fn both_selectors_give_the_same_hash() {
        let borrowed = borrowed(|record: &(String, u64)| &record.0);
        let owned = Owned(|record: &(String, u64)| record.0.clone());
        let record = ("N12345".to_owned(), 7);
        assert_eq!(borrowed.hash(9, &record).unwrap(), owned.hash(9, &record).unwrap());
    }
}
