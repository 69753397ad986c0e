//! A transactional sink with one mistake of many: what the conformance suite for sinks has to find.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use alluvium::connect::sink::{CommitOutcome, Guarantee, Sink, SinkCommit, SinkContext, SinkScope, SinkWriter};
use alluvium::ports::fence::Fence;
use alluvium::record::batch::Slice;
use alluvium::testing::conformance::SinkUnderTest;
use alluvium::{CheckpointId, OperatorError, OperatorResult};
use serde::{Deserialize, Serialize};

/// What is wrong with [`Table`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    Nothing,
    CommitsAgain,
    AbortsWhatWasDeclined,
    CleansUpEverything,
    WritesAtOnce,
    IgnoresTheFence,
    NamesWithoutSubtask,
    PreparesInMemory,
    TakesWhatIsGoneForDone,
    DoneWhileUnavailable,
    MixesWithOldOutput,
    LeavesRecords,
    LeavesNoWaker,
    ForgetsTheRestored,
    TakesWhenAsked,
    HasOneSlot,
    KeepsTheFirstOfASlice,
}

/// A transactional table outside: what is staged survives a crash, what is only held does not.
#[derive(Debug, Default)]
struct Outside {
    staged: BTreeMap<String, Vec<u64>>,
    held: BTreeMap<String, Vec<u64>>,
    committed: BTreeMap<String, Vec<u64>>,
    repeated: u64,
    owner: Option<String>,
    unavailable: bool,
}

#[derive(Clone)]
pub(crate) struct Table {
    wrong: Wrong,
    outside: Arc<Mutex<Outside>>,
}

impl Table {
    fn lock(&self) -> MutexGuard<'_, Outside> {
        self.outside.lock().unwrap()
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Staged(String);

pub(crate) struct TableWriter {
    table: Table,
    prefix: String,
    records: Vec<u64>,
    prepared: BTreeMap<CheckpointId, Vec<Staged>>,
    completed: CheckpointId,
    asked: bool,
}

pub(crate) struct TableCommitter {
    table: Table,
    prefix: String,
    owner: String,
    fence: Fence,
}

impl Sink<u64> for Table {
    type Committable = Staged;
    type State = ();
    type Writer = TableWriter;
    type Committer = TableCommitter;

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn writer(&self, context: SinkContext) -> OperatorResult<TableWriter> {
        let subtask = if self.wrong == Wrong::NamesWithoutSubtask { 0 } else { context.subtask() };
        Ok(TableWriter {
            table: self.clone(),
            prefix: format!("{}/{}/{}/{subtask}", context.job(), context.uid(), context.run()),
            records: Vec::new(),
            prepared: BTreeMap::new(),
            completed: CheckpointId(0),
            asked: false,
        })
    }

    fn committer(&self, scope: SinkScope) -> OperatorResult<TableCommitter> {
        Ok(TableCommitter {
            table: self.clone(),
            prefix: format!("{}/{}/", scope.job, scope.uid),
            owner: format!("{}/{}/{}", scope.job, scope.uid, scope.store),
            fence: scope.fence,
        })
    }
}

impl SinkWriter<u64> for TableWriter {
    type Committable = Staged;
    type State = ();

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<OperatorResult> {
        if std::mem::replace(&mut self.asked, true) {
            return Poll::Ready(Ok(()));
        }
        if self.table.wrong != Wrong::LeavesNoWaker {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn write_batch(&mut self, slice: &mut Slice<u64>) -> OperatorResult {
        if self.table.wrong == Wrong::LeavesRecords {
            self.records.extend(slice.records.iter().copied());
            return Ok(());
        }
        if self.table.wrong == Wrong::WritesAtOnce {
            let name = format!("{}/at-once", self.prefix);
            self.table.lock().committed.entry(name).or_default().extend(slice.records.iter().copied());
        }
        if self.table.wrong == Wrong::KeepsTheFirstOfASlice {
            slice.records.truncate(1);
        }
        self.records.append(&mut slice.records);
        slice.clear();
        Ok(())
    }

    fn prepare(&mut self, checkpoint: CheckpointId) -> OperatorResult {
        match self.table.wrong {
            // As if nothing could be written before it is asked whether it is prepared.
            Wrong::TakesWhenAsked => Ok(()),
            _ => self.stage(checkpoint),
        }
    }

    fn poll_prepared(&mut self, checkpoint: CheckpointId, _: &mut Context<'_>) -> Poll<OperatorResult<Vec<Staged>>> {
        if self.table.wrong == Wrong::TakesWhenAsked {
            self.stage(checkpoint)?;
        }
        Poll::Ready(Ok(self.prepared.remove(&checkpoint).unwrap_or_default()))
    }

    fn snapshot(&mut self, _: CheckpointId) {}

    fn completed(&mut self, checkpoint: CheckpointId) {
        self.completed = checkpoint;
    }
}

impl TableWriter {
    fn stage(&mut self, checkpoint: CheckpointId) -> OperatorResult {
        let records = std::mem::take(&mut self.records);
        let mut outside = self.table.lock();
        if self.table.wrong == Wrong::AbortsWhatWasDeclined {
            // As if a checkpoint that had not completed until the next one had to be rolled back.
            let mine = format!("{}/", self.prefix);
            let completed = self.completed.0;
            outside.staged.retain(|name, _| {
                name.strip_prefix(&mine).is_none_or(|number| number.parse::<u64>().unwrap() <= completed)
            });
        }
        if records.is_empty() {
            return Ok(());
        }
        let name = format!("{}/{}", self.prefix, checkpoint.0);
        if self.table.wrong == Wrong::PreparesInMemory {
            outside.held.insert(name.clone(), records);
        } else {
            outside.staged.insert(name.clone(), records);
        }
        if self.table.wrong == Wrong::HasOneSlot {
            self.prepared.clear();
        }
        self.prepared.insert(checkpoint, vec![Staged(name)]);
        Ok(())
    }
}

impl SinkCommit for TableCommitter {
    type Committable = Staged;
    type State = ();

    fn open(&mut self, restored: Option<Vec<()>>) -> OperatorResult {
        let mut outside = self.table.lock();
        if restored.is_none() && !outside.committed.is_empty() && self.table.wrong != Wrong::MixesWithOldOutput {
            return Err(OperatorError::unrecoverable("the table has rows of a former job: give another table"));
        }
        outside.owner = Some(self.owner.clone());
        Ok(())
    }

    fn commit(&mut self, Staged(name): Staged) -> CommitOutcome {
        let wrong = self.table.wrong;
        let mut outside = self.table.lock();
        if outside.unavailable {
            return if wrong == Wrong::DoneWhileUnavailable {
                CommitOutcome::Done
            } else {
                CommitOutcome::RetryAfter(Duration::from_millis(1))
            };
        }
        if wrong != Wrong::IgnoresTheFence
            && let Err(fenced) = self.fence.check()
        {
            return CommitOutcome::Fatal(fenced.into());
        }
        if wrong == Wrong::CommitsAgain {
            let records = outside.staged.get(&name).cloned().unwrap_or_default();
            let name = format!("{name} #{}", outside.repeated);
            outside.repeated += 1;
            outside.committed.insert(name, records);
            return CommitOutcome::Done;
        }
        if outside.committed.contains_key(&name) {
            return CommitOutcome::AlreadyDone;
        }
        let staged =
            if wrong == Wrong::PreparesInMemory { outside.held.remove(&name) } else { outside.staged.remove(&name) };
        match staged {
            Some(records) => {
                outside.committed.insert(name, records);
                CommitOutcome::Done
            }
            None if wrong == Wrong::TakesWhatIsGoneForDone => CommitOutcome::AlreadyDone,
            None => CommitOutcome::Fatal(OperatorError::unrecoverable(format!("{name} is gone"))),
        }
    }

    fn clean_up(&mut self) -> OperatorResult {
        if self.table.wrong != Wrong::IgnoresTheFence {
            self.fence.check()?;
        }
        let everything = self.table.wrong == Wrong::CleansUpEverything;
        let prefix = self.prefix.clone();
        self.table.lock().staged.retain(|name, _| !everything && !name.starts_with(&prefix));
        Ok(())
    }
}

pub(crate) struct TableUnderTest(pub(crate) Table);

impl SinkUnderTest<u64> for TableUnderTest {
    type Sink = Table;

    fn fresh(&mut self) {
        *self.0.lock() = Outside::default();
    }

    fn sink(&mut self) -> Table {
        self.0.clone()
    }

    fn record(&self, number: u64) -> u64 {
        number
    }

    fn committed(&mut self) -> Vec<u64> {
        self.0.lock().committed.values().flatten().copied().collect()
    }

    fn crash(&mut self) {
        let mut outside = self.0.lock();
        outside.held.clear();
        if self.0.wrong == Wrong::ForgetsTheRestored {
            outside.staged.clear();
        }
    }

    fn set_available(&mut self, available: bool) -> bool {
        self.0.lock().unavailable = !available;
        true
    }

    fn lose_prepared(&mut self) -> bool {
        self.0.lock().staged.clear();
        true
    }
}

/// A table with this mistake.
pub(crate) fn table(wrong: Wrong) -> TableUnderTest {
    TableUnderTest(Table { wrong, outside: Arc::default() })
}
