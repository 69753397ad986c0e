//! The links of a chain: one virtual call per slice, never per record.

use std::task::{Context, Poll};

use alluvium_actors::drive::outputs::Outputs;
use alluvium_actors::ids::CheckpointId;
use alluvium_actors::ports::store::OperatorSnapshot;
use alluvium_actors::ports::task::{CommitRequest, Cut, Failure, SLICE_RECORDS};

use super::head::Head;
use super::place::Place;
use crate::record::batch::Slice;

/// A place in a chain that takes records of type `T`: an operator with what follows it, the partitioner of an output edge, or a sink.
pub(crate) trait Link<T>: Member {
    /// Takes all records of the slice through this operator and everything behind it in the chain. Leaves the slice empty, its
    /// buffers intact.
    fn push(&mut self, slice: &mut Slice<T>, outputs: &mut Outputs) -> Result<(), Failure>;
}

/// The end of a chain in front of an edge whose records go where user code says: by their key, or by a function.
pub(crate) trait Partitioner<T>: Link<T> {
    /// Appends the channel of each record of a slice that was in flight when a checkpoint was taken, and fills its hash column as a push does.
    ///
    /// # Errors
    /// When user code fails, or says something else of a key than it did.
    fn channels(&mut self, slice: &mut Slice<T>, channels: &mut Vec<usize>) -> Result<(), Failure>;
}

/// A place with two inputs of different types: always at the head of a chain.
pub(crate) trait TwoInputLink<A, B>: Member {
    /// As [`Link::push`], for the left input.
    fn push_left(&mut self, slice: &mut Slice<A>, outputs: &mut Outputs) -> Result<(), Failure>;

    /// As [`Link::push`], for the right input.
    fn push_right(&mut self, slice: &mut Slice<B>, outputs: &mut Outputs) -> Result<(), Failure>;
}

/// Takes everything in `out` on, in slices of at most [`SLICE_RECORDS`]. Leaves it empty.
pub(crate) fn push_in_slices<U>(
    out: &mut Slice<U>,
    next: &mut dyn Link<U>,
    outputs: &mut Outputs,
) -> Result<(), Failure> {
    if out.len() <= SLICE_RECORDS {
        return next.push(out, outputs);
    }
    let mut records = std::mem::take(&mut out.records).into_iter();
    loop {
        out.records.extend(records.by_ref().take(SLICE_RECORDS));
        if out.is_empty() {
            return Ok(());
        }
        next.push(out, outputs)?;
    }
}

/// What the chain asks of each of its members, head to tail. The defaults are those of an operator without state.
pub(crate) trait Member {
    /// Calls `visit` for this member, then for those behind it.
    fn walk(&mut self, visit: &mut dyn FnMut(&mut dyn Member));

    /// Its place, if user code runs in it.
    fn place(&self) -> Option<&Place> {
        None
    }

    /// The link of this number, by which records that were in flight enter the chain, if this member is it.
    fn inlet(&mut self, number: usize) -> Option<&mut dyn Head> {
        let _ = number;
        None
    }

    /// Reads this member's state of the restored checkpoint.
    fn poll_restore(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let _ = context;
        Poll::Ready(Ok(()))
    }

    /// Whether this member can take a slice.
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let _ = context;
        Poll::Ready(Ok(()))
    }

    /// Sends on what this member holds back (partial batches).
    fn flush(&mut self, outputs: &mut Outputs) {
        let _ = outputs;
    }

    /// The end of all data.
    fn finish(&mut self, outputs: &mut Outputs) -> Result<(), Failure> {
        let _ = outputs;
        Ok(())
    }

    /// The synchronous part of a snapshot.
    fn close_epoch(&mut self, cut: Cut) -> Result<(), Failure> {
        let _ = cut;
        Ok(())
    }

    /// One slice of the asynchronous part; ready with `None` when this member keeps nothing in checkpoints. Not called again for a
    /// checkpoint after it was ready. Several checkpoints may be under way.
    fn poll_snapshot(
        &mut self,
        checkpoint: CheckpointId,
        budget: usize,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<OperatorSnapshot>, Failure>> {
        let _ = (checkpoint, budget, context);
        Poll::Ready(Ok(None))
    }

    /// The checkpoint was aborted.
    fn aborted(&mut self, checkpoint: CheckpointId) {
        let _ = checkpoint;
    }

    /// The checkpoint is complete.
    fn completed(&mut self, checkpoint: CheckpointId) {
        let _ = checkpoint;
    }

    /// Takes the commits that may be carried out now.
    fn take_commits(&mut self, commits: &mut Vec<CommitRequest>) {
        let _ = commits;
    }

    /// A commit returned.
    fn committed(&mut self, sink: u32, checkpoint: CheckpointId) {
        let _ = (sink, checkpoint);
    }

    /// Whether transactions of completed checkpoints still wait for their commit to return.
    fn has_open_commits(&self) -> bool {
        false
    }
}
