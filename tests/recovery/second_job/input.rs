//! The input of the second job: what each source emits, as plain arithmetic. The job makes its records with it, and the oracle knows by it what must come out.

/// How much input there is, and from which seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input {
    pub(crate) seed: u64,
    /// Hundredths of the full amount, of which the fastest source has 20,000 records.
    pub(crate) percent: u64,
}

/// The sources with the records of the full amount, which is also their number per second: very different speeds, so that barriers come far apart.
pub(crate) const SOURCES: [(&str, u64); 4] = [("fast", 20_000), ("brisk", 3_000), ("slow", 400), ("rare", 50)];

const KEYS: u64 = 61;

/// How many records the source of the region that has nothing to do with the others emits in a second.
pub(crate) const RATE_APART: u64 = 5_000;

/// The keys of that region.
pub(crate) const KEYS_APART: u64 = 7;

/// Apart from this, ids say where they come from: the source times this, plus the index in it.
pub(crate) const STRIDE: u64 = 1_000_000_000;

impl Input {
    /// How many records a source has.
    pub(crate) fn count(self, source: usize) -> u64 {
        (SOURCES[source].1 * self.percent).div_ceil(100)
    }

    /// The id of a record.
    pub(crate) fn id(source: usize, index: u64) -> u64 {
        source as u64 * STRIDE + index
    }

    /// The key of a record.
    pub(crate) fn key(self, id: u64) -> u64 {
        self.mixed(id) % KEYS
    }

    /// Whether the second sink gets the record too.
    pub(crate) fn is_marked(self, id: u64) -> bool {
        self.mixed(id ^ 0x5555).is_multiple_of(3)
    }

    fn mixed(self, id: u64) -> u64 {
        let mut mixed = id.wrapping_add(self.seed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}
