//! What keyed operators have in common: the table, its snapshots, its restore.

use std::task::{Context, Poll};

use alluvium_actors::ids::{CheckpointId, OperatorUid};
use alluvium_actors::ports::store::OperatorSnapshot;
use alluvium_actors::ports::task::{Cut, Failure};
use alluvium_actors::protocol::mutation::{Mutation, is_active};

use super::assembly::Site;
use super::chains::Chains;
use super::folding::Folding;
use super::link::Member;
use super::piece::encode;
use super::place::Place;
use super::state_reading::{Part, StateReading};
use super::state_writing::{KEYED, StateWriting};
use crate::record::{Key, key_group_range};
use crate::state::{Hold, Progress, Row, StateDescriptor, StateError, StateMapping, Table};

/// While all open snapshots together hold so many bytes in memory, no records are taken: each that changes an entry would add to them.
pub(crate) const SNAPSHOT_BYTES: usize = 8 * 1024 * 1024;

/// The keyed state of one operator in one subtask.
pub(crate) struct KeyedState<K, R, H> {
    pub(crate) table: Table<K, R, H>,
    pub(crate) site: Site,
    uid: OperatorUid,
    restoring: Option<(StateReading, Vec<StateMapping>)>,
    /// Open snapshots, in the order of their cuts.
    writing: Vec<StateWriting>,
    chains: Chains,
    folding: Option<Folding>,
    /// How many folds were begun.
    folds: u64,
}

impl<K: Key, R: Row, H: Hold<R>> KeyedState<K, R, H> {
    /// The state for the key groups of the subtask. What the restored checkpoint holds is on its way.
    pub(crate) fn new(site: Site, uid: OperatorUid, states: Vec<StateDescriptor>) -> KeyedState<K, R, H> {
        let task = &site.task;
        let groups = key_group_range(task.subtask.index, task.parallelism, task.max_parallelism);
        let mut table = Table::new(groups.clone(), task.max_parallelism, task.hash_seed, states);
        let chains = Chains::new(task);
        if chains.are_wanted() {
            table.record_changes();
        }
        let reading = StateReading::start(task, &uid, groups, site.place.label());
        let restoring = reading.map(|reading| (reading, Vec::new()));
        KeyedState { table, site, uid, restoring, writing: Vec::new(), chains, folding: None, folds: 0 }
    }

    /// Begins to fold the chain of the newest complete checkpoint where it has become too long. One fold at a time.
    fn fold(&mut self) {
        if self.folding.is_none()
            && let Some((checkpoint, pieces)) = self.chains.to_fold()
        {
            self.folds += 1;
            let task = &self.site.task;
            self.folding = Some(Folding::start(task, &self.uid, &self.table, checkpoint, pieces, self.folds));
        }
    }

    fn poll_fold(&mut self, context: &mut Context<'_>) {
        let Some(folding) = self.folding.take() else { return };
        match folding.poll::<K, R, H>(self.site.place.label(), context) {
            Err(under_way) => self.folding = Some(under_way),
            Ok(folded) => self.chains.folded = folded,
        }
    }
}

/// The keyed state is the member of the chain that keyed operators show: it is what they have beside user code.
impl<K: Key, R: Row, H: Hold<R>> Member for KeyedState<K, R, H> {
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
                Part::Header { mappings: found, keys } => {
                    *mappings = found;
                    self.table.reserve(keys);
                }
                Part::Chunks { piece, increment, chunks } => {
                    for chunk in chunks {
                        let restored = if increment {
                            self.table.apply_chunk(&mappings[piece], &chunk)
                        } else {
                            self.table.restore_chunk(&mappings[piece], &chunk)
                        };
                        restored.map_err(|error| self.site.place.unrecoverable(error))?;
                    }
                    // One part at a time: the mailbox wants to be looked at between two.
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Part::End => {
                    let chain = self.restoring.take().and_then(|(reading, _)| reading.own());
                    if let Some(chain) = chain.filter(|_| self.chains.are_wanted()) {
                        self.table
                            .restored_from(chain.checkpoint)
                            .map_err(|error| self.site.place.unrecoverable(error))?;
                        self.chains.restored(chain);
                    }
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        // Not where a checkpoint completes: behind the last one of a job nobody reads what would be folded.
        self.fold();
        self.poll_fold(context);
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
        let base = self.chains.begin(&self.site.task, cut.checkpoint);
        let closed = match &base {
            Some(base) => self.table.close_epoch_on(cut.checkpoint, base.checkpoint),
            None => self.table.close_epoch(cut.checkpoint).map(|()| false),
        };
        let increment = closed.map_err(|error| self.site.place.unrecoverable(error))?;
        let base = base.filter(|_| increment).map(|base| base.pieces);
        self.writing.push(StateWriting::new(&self.site.task, &self.uid, cut.checkpoint, KEYED, descriptors, base));
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
                let Some(position) = self.writing.iter().position(|writing| writing.checkpoint == checkpoint) else {
                    return Poll::Ready(Ok(None));
                };
                let pieces = self.writing.remove(position).pieces(content);
                self.chains.written(checkpoint, &pieces);
                if is_active(Mutation::BaseNotComplete) {
                    self.completed(checkpoint);
                }
                let subtask = self.site.task.subtask.index;
                Poll::Ready(Ok(Some(OperatorSnapshot { uid: self.uid.clone(), subtask, pieces })))
            }
        }
    }

    fn completed(&mut self, checkpoint: CheckpointId) {
        self.table.completed(checkpoint);
        self.chains.completed(checkpoint);
    }

    fn aborted(&mut self, checkpoint: CheckpointId) {
        self.table.abort(checkpoint);
        self.chains.aborted(checkpoint);
        if let Some(position) = self.writing.iter().position(|writing| writing.checkpoint == checkpoint) {
            self.writing.remove(position).abandon(&self.site.task);
        }
    }
}

#[cold]
pub(crate) fn encode_failure(operator: &str, error: &StateError) -> Failure {
    Failure::retryable(operator, error)
}
