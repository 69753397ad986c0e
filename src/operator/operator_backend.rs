//! The operator state of one instance: its table, its snapshots, its restore.

use std::task::{Context, Poll};

use alluvium_actors::ids::{CheckpointId, OperatorUid};
use alluvium_actors::ports::store::{OperatorSnapshot, Piece};
use alluvium_actors::ports::task::{Cut, Failure};

use super::assembly::Site;
use super::keyed::{SNAPSHOT_BYTES, encode_failure};
use super::link::Member;
use super::operator_reading::{OperatorPart, OperatorReading};
use super::piece::encode;
use super::place::Place;
use super::state_writing::StateWriting;
use crate::state::{OperatorStateSet, OperatorTable, Progress, StateMapping};

/// The name of the piece that holds operator state.
pub(crate) const OPERATOR: &str = "operator";

/// The operator state of one operator in one subtask.
pub(crate) struct OperatorBackend<S: OperatorStateSet> {
    pub(crate) table: OperatorTable<S>,
    pub(crate) site: Site,
    uid: OperatorUid,
    /// Whether the restored checkpoint holds something of the operator.
    restored: bool,
    restoring: Option<(OperatorReading, Vec<StateMapping>)>,
    /// Open snapshots, in the order of their cuts.
    writing: Vec<StateWriting>,
}

impl<S: OperatorStateSet> OperatorBackend<S> {
    /// The states of the instance. What the restored checkpoint holds is on its way.
    pub(crate) fn new(site: Site, uid: OperatorUid, states: &S) -> OperatorBackend<S> {
        let table = OperatorTable::new(states, site.task.hash_seed);
        let restoring = OperatorReading::start(&site.task, &uid).map(|reading| (reading, Vec::new()));
        OperatorBackend { table, site, uid, restored: restoring.is_some(), restoring, writing: Vec::new() }
    }

    /// Whether the job began with a checkpoint that holds state of this operator.
    pub(crate) fn is_restored(&self) -> bool {
        self.restored
    }
}

/// It is what an operator shows of itself beside user code.
impl<S: OperatorStateSet> Member for OperatorBackend<S> {
    fn walk(&mut self, visit: &mut dyn FnMut(&mut dyn Member)) {
        visit(self);
    }

    fn place(&self) -> Option<&Place> {
        Some(&self.site.place)
    }

    fn poll_restore(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        while let Some((reading, mappings)) = &mut self.restoring {
            let label = self.site.place.label();
            let part = match reading.poll(&self.site.task, self.table.descriptors(), label, context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(part) => part?,
            };
            match part {
                OperatorPart::Header { mappings: found } => *mappings = found,
                OperatorPart::Chunks { piece, chunks, settle } => {
                    for chunk in chunks {
                        let restored = self.table.restore_chunk(&mappings[piece], &chunk);
                        restored.map_err(|error| self.site.place.unrecoverable(error))?;
                    }
                    for (state, elements) in settle {
                        let settled = self.table.settle(state, elements);
                        settled.map_err(|error| self.site.place.unrecoverable(error))?;
                    }
                    // One part at a time: the mailbox wants to be looked at between two.
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                OperatorPart::End => self.restoring = None,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        if self.writing.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let waiting: usize = self.writing.iter().map(StateWriting::waiting_bytes).sum();
        // Writing goes on whenever the subtask is scheduled, and wakes it.
        if waiting + self.table.snapshot_bytes() > SNAPSHOT_BYTES { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn close_epoch(&mut self, cut: Cut) -> Result<(), Failure> {
        let label = self.site.place.label();
        let descriptors =
            self.table.descriptors().iter().map(|state| encode(state, label)).collect::<Result<_, _>>()?;
        self.table.close_epoch(cut.checkpoint).map_err(|error| self.site.place.unrecoverable(error))?;
        self.writing.push(StateWriting::new(&self.site.task, &self.uid, cut.checkpoint, OPERATOR, descriptors, None));
        Ok(())
    }

    fn poll_snapshot(
        &mut self,
        checkpoint: CheckpointId,
        budget: usize,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<OperatorSnapshot>, Failure>> {
        let Some(writing) = self.writing.iter_mut().find(|writing| writing.checkpoint == checkpoint) else {
            return Poll::Ready(Ok(None));
        };
        let label = self.site.place.label();
        if writing.wants_chunks() {
            match self.table.advance(checkpoint, budget, &mut writing.waiting) {
                Ok(Progress::More) => {}
                Ok(Progress::Done) => writing.complete = true,
                Err(error) => {
                    let failure = encode_failure(label, &error);
                    self.aborted(checkpoint);
                    return Poll::Ready(Err(failure));
                }
            }
        }
        match writing.poll(&self.site.task, label, context) {
            Poll::Pending => {
                if writing.wants_chunks() {
                    context.waker().wake_by_ref();
                }
                Poll::Pending
            }
            Poll::Ready(Err(failure)) => {
                self.aborted(checkpoint);
                Poll::Ready(Err(failure))
            }
            Poll::Ready(Ok(content)) => {
                self.writing.retain(|writing| writing.checkpoint != checkpoint);
                let subtask = self.site.task.subtask.index;
                let pieces = vec![Piece { name: OPERATOR.to_owned(), content }];
                Poll::Ready(Ok(Some(OperatorSnapshot { uid: self.uid.clone(), subtask, pieces })))
            }
        }
    }

    fn aborted(&mut self, checkpoint: CheckpointId) {
        self.table.abort(checkpoint);
        if let Some(position) = self.writing.iter().position(|writing| writing.checkpoint == checkpoint) {
            self.writing.remove(position).abandon(&self.site.task);
        }
    }
}
