//! The sink that writes into a ledger, through the public traits.

use std::collections::BTreeMap;
use std::fmt;
use std::task::{Context, Poll};

use alluvium_actors::ids::{CheckpointId, Moment, RunNumber};
use alluvium_actors::ports::fence::Fence;
use alluvium_actors::ports::sink::SinkScope;
use serde::{Deserialize, Serialize};

use super::ledger::{CommitAnswer, Ledger, Mode, TransactionName};
use crate::connect::sink::{CommitOutcome, Guarantee, Sink, SinkCommit, SinkContext, SinkWriter};
use crate::connect::sink_name::SinkName;
use crate::error::{OperatorError, OperatorResult};
use crate::record::Record;
use crate::record::batch::Slice;

/// What a checkpoint keeps of a transaction: its name. The records are in the outside system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerCommittable {
    run: RunNumber,
    checkpoint: CheckpointId,
    subtask: u32,
}

impl<T: Record> Sink<T> for Ledger<T> {
    type Committable = LedgerCommittable;
    type State = ();
    type Writer = LedgerWriter<T>;
    type Committer = LedgerCommitter<T>;

    fn guarantee(&self) -> Guarantee {
        match self.mode() {
            Mode::Transactions | Mode::NotIdempotent => Guarantee::ExactlyOnce,
            Mode::WriteThrough => Guarantee::AtLeastOnce,
        }
    }

    fn writer(&self, context: SinkContext) -> OperatorResult<LedgerWriter<T>> {
        let sink = SinkName { job: context.job.clone(), uid: context.uid().clone() };
        Ok(LedgerWriter {
            ledger: self.clone(),
            mode: self.mode(),
            sink,
            context,
            records: Vec::new(),
            prepared: BTreeMap::new(),
        })
    }

    fn committer(&self, scope: SinkScope) -> OperatorResult<LedgerCommitter<T>> {
        let sink = SinkName::of(&scope);
        let SinkScope { run, store, fence, .. } = scope;
        Ok(LedgerCommitter { ledger: self.clone(), sink, run, store, fence })
    }
}

/// Writes into a transaction per checkpoint.
pub struct LedgerWriter<T> {
    ledger: Ledger<T>,
    mode: Mode,
    sink: SinkName,
    context: SinkContext,
    records: Vec<T>,
    /// What was prepared, and when the outside system answers that it is.
    prepared: BTreeMap<CheckpointId, (Moment, Vec<LedgerCommittable>)>,
}

impl<T> fmt::Debug for LedgerWriter<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "LedgerWriter({:?}, {} records)", self.ledger, self.records.len())
    }
}

impl<T: Record> SinkWriter<T> for LedgerWriter<T> {
    type Committable = LedgerCommittable;
    type State = ();

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<OperatorResult> {
        Poll::Ready(Ok(()))
    }

    fn write_batch(&mut self, slice: &mut Slice<T>) -> OperatorResult {
        if self.mode == Mode::WriteThrough {
            self.context.fence().check()?;
            self.ledger.write_through(self.context.subtask(), std::mem::take(&mut slice.records));
        } else {
            self.records.append(&mut slice.records);
        }
        slice.clear();
        Ok(())
    }

    fn prepare(&mut self, checkpoint: CheckpointId) -> OperatorResult {
        let records = std::mem::take(&mut self.records);
        if records.is_empty() {
            self.prepared.insert(checkpoint, (self.context.now(), Vec::new()));
            return Ok(());
        }
        self.context.fence().check()?;
        let (run, subtask) = (self.context.run(), self.context.subtask());
        let name = TransactionName { sink: self.sink.clone(), checkpoint, run, subtask };
        self.ledger.prepare(name, records).map_err(OperatorError::unrecoverable)?;
        let answer = self.context.now() + self.ledger.draw_latency();
        self.prepared.insert(checkpoint, (answer, vec![LedgerCommittable { run, checkpoint, subtask }]));
        Ok(())
    }

    fn poll_prepared(
        &mut self,
        checkpoint: CheckpointId,
        _: &mut Context<'_>,
    ) -> Poll<OperatorResult<Vec<LedgerCommittable>>> {
        match self.prepared.get(&checkpoint) {
            Some((answer, _)) if self.context.now() < *answer => {
                self.context.wake_at(*answer);
                Poll::Pending
            }
            _ => Poll::Ready(Ok(self.prepared.remove(&checkpoint).unwrap_or_default().1)),
        }
    }

    fn snapshot(&mut self, _: CheckpointId) {}
}

/// Commits transactions of a ledger.
pub struct LedgerCommitter<T> {
    ledger: Ledger<T>,
    sink: SinkName,
    run: RunNumber,
    store: String,
    fence: Fence,
}

impl<T> fmt::Debug for LedgerCommitter<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "LedgerCommitter({:?})", self.ledger)
    }
}

impl<T: Record> SinkCommit for LedgerCommitter<T> {
    type Committable = LedgerCommittable;
    type State = ();

    fn open(&mut self, restored: Option<Vec<()>>) -> OperatorResult {
        self.fence.check()?;
        let opened = self.ledger.open(&self.sink, &self.store, self.run, restored.is_some());
        opened.map_err(OperatorError::unrecoverable)
    }

    fn commit(&mut self, committable: LedgerCommittable) -> CommitOutcome {
        if let Err(fenced) = self.fence.check() {
            return CommitOutcome::Fatal(fenced.into());
        }
        let LedgerCommittable { run, checkpoint, subtask } = committable;
        match self.ledger.commit(&TransactionName { sink: self.sink.clone(), checkpoint, run, subtask }) {
            CommitAnswer::Done => CommitOutcome::Done,
            CommitAnswer::AlreadyDone => CommitOutcome::AlreadyDone,
            CommitAnswer::PutOff(delay) => CommitOutcome::RetryAfter(delay),
            CommitAnswer::Refused(reason) => CommitOutcome::Fatal(OperatorError::unrecoverable(reason)),
        }
    }

    fn clean_up(&mut self) -> OperatorResult {
        self.fence.check()?;
        self.ledger.abort_before(&self.sink, self.run);
        Ok(())
    }
}
