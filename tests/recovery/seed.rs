//! Chance that can be repeated.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::ops::Range;
use std::time::Duration;

/// A stream of numbers from a seed.
#[derive(Clone, Debug)]
pub(crate) struct Seed {
    state: u64,
}

impl Seed {
    /// A new seed, or that of `RECOVERY_SEED`. It is printed, and shown when the test fails.
    pub(crate) fn draw(test: &str) -> Seed {
        let given = std::env::var("RECOVERY_SEED").ok();
        let seed = match given {
            Some(text) => text.parse().expect("RECOVERY_SEED is a number"),
            None => RandomState::new().build_hasher().finish() % 1_000_000_007,
        };
        println!("{test}: RECOVERY_SEED={seed}");
        Seed { state: seed }
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number of a range.
    pub(crate) fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    /// A time up to `longest`.
    pub(crate) fn up_to(&mut self, longest: Duration) -> Duration {
        Duration::from_micros(self.within(0..longest.as_micros() as u64 + 1))
    }
}
