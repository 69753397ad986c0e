//! A sink that keeps what was committed, for tests and small jobs.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use alluvium_actors::ids::{CheckpointId, RunNumber};
use alluvium_actors::ports::fence::Fence;
use alluvium_actors::ports::sink::SinkScope;
use alluvium_actors::protocol::mutation::{Mutation, is_active};
use serde::{Deserialize, Serialize};

use super::sink::{CommitOutcome, Effect, Guarantee, Sink, SinkCommit, SinkContext, SinkWriter};
use super::sink_name::SinkName;
use crate::error::OperatorResult;
use crate::record::Record;
use crate::record::batch::Slice;

/// Collects records in memory, exactly once: [`Collect::collected`] gives those whose checkpoint is complete. Clones share what was collected;
/// give one to the job and keep one.
///
/// What is prepared and not committed travels in the checkpoint, so this is for tests and small outputs. The collection lives as long as the process.
/// Several sinks, of one job or of several, may fill one collection; a start of a job without a checkpoint, or from another store, begins what its sinks put into it anew.
///
/// ```
/// use alluvium::connect::Collect;
///
/// let words: Collect<String> = Collect::new();
/// assert!(words.collected().is_empty());
/// ```
pub struct Collect<T> {
    collection: Arc<Mutex<Collection<T>>>,
}

struct Collection<T> {
    /// From which store each sink filled it last.
    stores: BTreeMap<SinkName, String>,
    parts: BTreeMap<PartKey, Vec<T>>,
}

/// Where a part lies in the collection. The order of the fields is that of [`Collect::collected`].
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct PartKey {
    run: RunNumber,
    checkpoint: CheckpointId,
    sink: SinkName,
    subtask: u32,
}

/// Names what one writer prepared for one checkpoint, among the parts of one sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct PartName {
    run: RunNumber,
    checkpoint: CheckpointId,
    subtask: u32,
}

/// What one writer prepared for one checkpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CollectedPart<T> {
    name: PartName,
    records: Vec<T>,
}

impl<T> Collect<T> {
    /// An empty collection.
    #[must_use]
    pub fn new() -> Collect<T> {
        let collection = Collection { stores: BTreeMap::new(), parts: BTreeMap::new() };
        Collect { collection: Arc::new(Mutex::new(collection)) }
    }

    fn lock(&self) -> MutexGuard<'_, Collection<T>> {
        self.collection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone> Collect<T> {
    /// What was committed so far: checkpoint after checkpoint, within one in the order of the jobs' names, of the sinks' uids and of the writers,
    /// within one writer in its order.
    #[must_use]
    pub fn collected(&self) -> Vec<T> {
        self.lock().parts.values().flatten().cloned().collect()
    }

    /// The same, each record with its checkpoint and its writer.
    pub(crate) fn collected_parts(&self) -> Vec<(CheckpointId, u32, T)> {
        let collection = self.lock();
        let records = collection
            .parts
            .iter()
            .flat_map(|(part, records)| records.iter().map(|record| (part.checkpoint, part.subtask, record.clone())));
        records.collect()
    }
}

impl<T> Default for Collect<T> {
    fn default() -> Collect<T> {
        Collect::new()
    }
}

impl<T> Clone for Collect<T> {
    fn clone(&self) -> Collect<T> {
        Collect { collection: Arc::clone(&self.collection) }
    }
}

impl<T> fmt::Debug for Collect<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let records: usize = self.lock().parts.values().map(Vec::len).sum();
        write!(formatter, "Collect({records} records)")
    }
}

impl<T: Record> Sink<T> for Collect<T> {
    type Committable = CollectedPart<T>;
    type State = ();
    type Writer = CollectWriter<T>;
    type Committer = CollectCommitter<T>;

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn effect(&self) -> Effect {
        Effect::InProcess
    }

    fn writer(&self, context: SinkContext) -> OperatorResult<CollectWriter<T>> {
        Ok(CollectWriter {
            run: context.run(),
            subtask: context.subtask(),
            records: Vec::new(),
            prepared: BTreeMap::new(),
        })
    }

    fn committer(&self, scope: SinkScope) -> OperatorResult<CollectCommitter<T>> {
        let sink = SinkName::of(&scope);
        Ok(CollectCommitter { collect: self.clone(), sink, store: scope.store, fence: scope.fence })
    }
}

/// Keeps records until their checkpoint takes them.
#[derive(Debug)]
pub struct CollectWriter<T> {
    run: RunNumber,
    subtask: u32,
    records: Vec<T>,
    prepared: BTreeMap<CheckpointId, Vec<CollectedPart<T>>>,
}

impl<T: Record> SinkWriter<T> for CollectWriter<T> {
    type Committable = CollectedPart<T>;
    type State = ();

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<OperatorResult> {
        Poll::Ready(Ok(()))
    }

    fn write_batch(&mut self, slice: &mut Slice<T>) -> OperatorResult {
        self.records.append(&mut slice.records);
        slice.clear();
        Ok(())
    }

    fn prepare(&mut self, checkpoint: CheckpointId) -> OperatorResult {
        let records = std::mem::take(&mut self.records);
        let name = PartName { run: self.run, checkpoint, subtask: self.subtask };
        let parts = if records.is_empty() { Vec::new() } else { vec![CollectedPart { name, records }] };
        self.prepared.insert(checkpoint, parts);
        Ok(())
    }

    fn poll_prepared(
        &mut self,
        checkpoint: CheckpointId,
        _: &mut Context<'_>,
    ) -> Poll<OperatorResult<Vec<CollectedPart<T>>>> {
        Poll::Ready(Ok(self.prepared.remove(&checkpoint).unwrap_or_default()))
    }

    fn snapshot(&mut self, _: CheckpointId) {}
}

/// Puts prepared records into the collection, each part once.
#[derive(Debug)]
pub struct CollectCommitter<T> {
    collect: Collect<T>,
    sink: SinkName,
    store: String,
    fence: Fence,
}

impl<T: Record> SinkCommit for CollectCommitter<T> {
    type Committable = CollectedPart<T>;
    type State = ();

    fn open(&mut self, restored: Option<Vec<()>>) -> OperatorResult {
        self.fence.check()?;
        let mut collection = self.collect.lock();
        let former = collection.stores.insert(self.sink.clone(), self.store.clone());
        if restored.is_none() || former.as_ref() != Some(&self.store) {
            collection.parts.retain(|part, _| part.sink != self.sink);
        }
        Ok(())
    }

    fn commit(&mut self, part: CollectedPart<T>) -> CommitOutcome {
        let mut collection = self.collect.lock();
        if let Err(fenced) = self.fence.check() {
            return CommitOutcome::Fatal(fenced.into());
        }
        let PartName { run, checkpoint, subtask } = part.name;
        match collection.parts.entry(PartKey { run, checkpoint, sink: self.sink.clone(), subtask }) {
            Entry::Occupied(mut again) if is_active(Mutation::CommitWithoutLooking) => {
                again.get_mut().extend(part.records);
                CommitOutcome::Done
            }
            Entry::Occupied(_) => CommitOutcome::AlreadyDone,
            Entry::Vacant(vacant) => {
                vacant.insert(part.records);
                CommitOutcome::Done
            }
        }
    }

    fn clean_up(&mut self) -> OperatorResult {
        Ok(())
    }
}
