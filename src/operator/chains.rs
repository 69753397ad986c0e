//! What an incremental snapshot of keyed state stands on: the pieces of the newest checkpoint that is known complete.
//!
//! A snapshot is a chain: a full piece, and increments over it in their order. Only a checkpoint whose completion this subtask was *told* is a base, never one that is
//! pending: what an aborted checkpoint held would be lost. Chains are kept short by [folding](super::folding), in the background.

use std::collections::BTreeMap;
use std::ops::Range;

use alluvium_actors::ids::CheckpointId;
use alluvium_actors::ports::store::{BlobHandle, ChainLimits, Piece, PieceContent, increment_name, parse_increment};
use alluvium_actors::ports::task::TaskContext;
use alluvium_actors::protocol::mutation::{Mutation, is_active};

use super::folding::Folded;
use super::state_writing::KEYED;

/// When a chain has so many times the increments at which it is to be folded, folding does not keep up: the next checkpoint is a full one.
const OVERDUE: usize = 16;

/// The chains of one operator in one subtask.
pub(crate) struct Chains {
    /// Nothing where checkpoints are self-contained.
    limits: Option<ChainLimits>,
    /// The newest checkpoint that is known complete.
    base: Option<Chain>,
    /// What was acknowledged, and what became of it is not known.
    candidates: BTreeMap<CheckpointId, Vec<Piece>>,
    /// A part of the base's chain in one piece. The next snapshot takes it.
    pub(super) folded: Option<Folded>,
}

/// A checkpoint with its pieces, the full one first.
#[derive(Clone)]
pub(crate) struct Chain {
    pub(crate) checkpoint: CheckpointId,
    pub(crate) pieces: Vec<Piece>,
}

impl Chains {
    /// No base yet.
    pub(crate) fn new(task: &TaskContext) -> Chains {
        Chains { limits: task.store.chains(), base: None, candidates: BTreeMap::new(), folded: None }
    }

    /// Whether snapshots are to be incremental.
    pub(crate) fn are_wanted(&self) -> bool {
        self.limits.is_some()
    }

    /// The state was restored from this chain, and nothing else is in it.
    pub(crate) fn restored(&mut self, chain: Chain) {
        self.base = Some(chain);
    }

    /// The checkpoint on which a snapshot for `checkpoint` may be an increment, with the pieces that it takes over. None of their blobs goes before
    /// `checkpoint` is complete or aborted.
    pub(crate) fn begin(&self, task: &TaskContext, checkpoint: CheckpointId) -> Option<Chain> {
        let limits = self.limits?;
        let base = self.base.as_ref()?;
        let pieces = match &self.folded {
            Some(folded) => folded.applied_to(&base.pieces).unwrap_or_else(|| base.pieces.clone()),
            None => base.pieces.clone(),
        };
        let (full, increments) = pieces.split_first()?;
        // What is so small that it lies in the manifest is written whole: that costs nothing.
        if !matches!(full.content, PieceContent::Blob(_))
            || increments.len() >= limits.increments.saturating_mul(OVERDUE)
        {
            return None;
        }
        // Where most of the state changed from one checkpoint to the next, the next increment would be as large as everything.
        let last = increments.last().filter(|last| last.name == increment_name(KEYED, base.checkpoint));
        if last.is_some_and(|last| length(last) > length(full) / 2) {
            return None;
        }
        let blobs: Vec<BlobHandle> = pieces.iter().filter_map(blob).cloned().collect();
        let shared = task.store.share(&task.fence, checkpoint, &blobs) || is_active(Mutation::BaseNotComplete);
        shared.then_some(Chain { checkpoint: base.checkpoint, pieces })
    }

    /// The snapshot for a checkpoint is durable: these are its pieces.
    pub(crate) fn written(&mut self, checkpoint: CheckpointId, pieces: &[Piece]) {
        if self.are_wanted() {
            self.candidates.insert(checkpoint, pieces.to_vec());
        }
    }

    /// Nothing will come of a checkpoint.
    pub(crate) fn aborted(&mut self, checkpoint: CheckpointId) {
        self.candidates.remove(&checkpoint);
    }

    /// The checkpoint is complete: it is the base from now on.
    pub(crate) fn completed(&mut self, checkpoint: CheckpointId) {
        let Some(pieces) = self.candidates.remove(&checkpoint) else { return };
        self.candidates = self.candidates.split_off(&checkpoint);
        // Once a manifest names it, or nobody will any more, it is not held here any longer.
        self.folded = self.folded.take().filter(|folded| folded.applied_to(&pieces).is_some());
        self.base = Some(Chain { checkpoint, pieces });
    }

    /// The part of the base's chain that is to be folded, if any is.
    pub(crate) fn to_fold(&self) -> Option<(CheckpointId, Vec<Piece>)> {
        let (limits, base) = (self.limits?, self.base.as_ref().filter(|_| self.folded.is_none())?);
        let part = part_to_fold(&base.pieces.iter().map(length).collect::<Vec<_>>(), limits)?;
        Some((base.checkpoint, base.pieces[part].to_vec()))
    }
}

/// Which pieces of a chain to fold into one, by their lengths in bytes.
///
/// All of them when the increments together have become too large for their base. Otherwise, when there are many, the newest ones: at least half of those that
/// are allowed, and older ones as long as they are no larger than the newer ones together. So a byte is written again when the increments have about doubled, and not with each of them.
fn part_to_fold(lengths: &[u64], limits: ChainLimits) -> Option<Range<usize>> {
    let (full, increments) = lengths.split_first()?;
    if increments.is_empty() {
        return None;
    }
    let all: u64 = lengths.iter().sum();
    if u128::from(all) * 100 >= u128::from(*full) * u128::from(limits.space_amplification) {
        return Some(0..lengths.len());
    }
    if increments.len() < limits.increments {
        return None;
    }
    let least = (limits.increments / 2).max(2);
    let (mut from, mut sum) = (lengths.len(), 0);
    while from > 1 && (lengths.len() - from < least || lengths[from - 1] <= sum) {
        from -= 1;
        sum += lengths[from];
    }
    let from = if lengths.len() - from < 2 { 0 } else { from };
    Some(from..lengths.len())
}

/// The length of a piece in bytes.
pub(super) fn length(piece: &Piece) -> u64 {
    match &piece.content {
        PieceContent::Inline(bytes) => bytes.len() as u64,
        PieceContent::Blob(handle) => handle.length,
    }
}

fn blob(piece: &Piece) -> Option<&BlobHandle> {
    match &piece.content {
        PieceContent::Inline(_) => None,
        PieceContent::Blob(handle) => Some(handle),
    }
}

/// Whether a piece of keyed state is an increment.
pub(super) fn is_increment(piece: &Piece) -> bool {
    parse_increment(&piece.name).is_some_and(|(of, _)| of == KEYED)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ChainLimits = ChainLimits { increments: 4, space_amplification: 150 };

    #[test]
    fn a_short_chain_of_small_increments_is_left_alone() {
        for lengths in [&[][..], &[100], &[100, 1], &[100, 10, 10, 10]] {
            assert_eq!(part_to_fold(lengths, LIMITS), None, "{lengths:?}");
        }
    }

    #[test]
    fn increments_that_are_half_as_large_as_the_base_are_folded_into_it() {
        assert_eq!(part_to_fold(&[100, 50], LIMITS), Some(0..2));
        assert_eq!(part_to_fold(&[100, 20, 20, 10], LIMITS), Some(0..4));
        assert_eq!(part_to_fold(&[0, 1], LIMITS), Some(0..2));
    }

    #[test]
    fn many_increments_are_folded_among_themselves_and_a_large_one_waits() {
        assert_eq!(part_to_fold(&[1_000, 1, 1, 1, 1], LIMITS), Some(1..5));
        assert_eq!(part_to_fold(&[1_000, 100, 1, 1, 1], LIMITS), Some(2..5));
        assert_eq!(part_to_fold(&[1_000, 3, 1, 1, 1], LIMITS), Some(1..5));
    }

    #[test]
    fn folding_all_of_a_long_stream_of_increments_keeps_the_chain_short_and_writes_little_again() {
        let limits = ChainLimits::default();
        let mut lengths = vec![1_000_000_u64];
        let (mut longest, mut folded) = (0, 0);
        for _ in 0..400 {
            lengths.push(1_000);
            if let Some(part) = part_to_fold(&lengths, limits) {
                let sum: u64 = lengths.drain(part.clone()).sum();
                lengths.insert(part.start, sum);
                folded += sum;
            }
            longest = longest.max(lengths.len());
        }
        assert!(longest <= 11, "{longest} pieces");
        assert!(folded < 400 * 1_000 * 3, "{folded} bytes for {}", 400 * 1_000);
    }

    #[test]
    fn a_limit_of_one_increment_folds_each_into_the_base() {
        let limits = ChainLimits { increments: 1, space_amplification: 1_000 };
        assert_eq!(part_to_fold(&[1_000, 1], limits), Some(0..2));
    }
}
