//! The records of the workloads, as `docs/performance.md` defines them.

use serde::{Deserialize, Serialize};

/// A record: a key and a value.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Record {
    pub key: u64,
    pub value: u64,
}

/// Workload W0: records go to the sink as they are.
#[derive(Clone, Copy, Debug)]
pub struct W0 {
    pub keys: u64,
}

impl W0 {
    /// The record of this index.
    #[inline(always)]
    pub fn record(self, index: u64) -> Record {
        let random = split_mix(index);
        Record { key: (random >> 1) % self.keys, value: random >> 48 }
    }
}

/// Workload W1: a running sum per key. Every key comes once, in order, then keys at random.
#[derive(Clone, Copy, Debug)]
pub struct W1 {
    pub keys: u64,
}

impl W1 {
    /// The record of this index.
    #[inline(always)]
    pub fn record(self, index: u64) -> Record {
        let random = split_mix(index);
        let key = if index < self.keys { index } else { (random >> 1) % self.keys };
        Record { key, value: random >> 48 }
    }
}

/// The generator of the workloads.
#[inline(always)]
pub fn split_mix(index: u64) -> u64 {
    let mut z = index.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
