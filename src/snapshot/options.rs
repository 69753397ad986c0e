//! How a store is opened.

use alluvium_actors::ports::store::ChainLimits;

/// Pieces shorter than this, in bytes, are put into the manifest: `state.storage.fs.memory-threshold`.
pub const DEFAULT_INLINE_LIMIT: usize = 20 * 1024;

/// The highest value that [`StoreOptions::inline_limit`] takes, in bytes.
pub const LARGEST_INLINE_LIMIT: usize = 1024 * 1024;

/// How a [`Store`](super::Store) is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// The name of the job. A store belongs to one job.
    pub job: String,
    /// The seed of the key hash, taken if the store holds none yet; from then on the stored one counts.
    pub new_hash_seed: u64,
    /// Pieces shorter than this, in bytes, are put into the manifest. At most [`LARGEST_INLINE_LIMIT`].
    pub inline_limit: usize,
    /// Whether recovery may pass over a damaged or missing checkpoint to an older one of the same line. Off by
    /// default. Recovery then also reads every blob whole before it takes a checkpoint.
    pub fall_back_to_older: bool,
    /// Whether it may do so even if a sink may have committed output of the checkpoint that is passed over: that
    /// output is then repeated. Off by default; of no effect without `fall_back_to_older`.
    pub accept_repeats: bool,
    /// How long chains of increments may become; `None`, the default, makes every checkpoint self-contained.
    pub chains: Option<ChainLimits>,
}

impl StoreOptions {
    /// The default options for a job. `new_hash_seed` should be random.
    #[must_use]
    pub fn new(job: &str, new_hash_seed: u64) -> StoreOptions {
        StoreOptions {
            job: job.to_owned(),
            new_hash_seed,
            inline_limit: DEFAULT_INLINE_LIMIT,
            fall_back_to_older: false,
            accept_repeats: false,
            chains: None,
        }
    }
}
