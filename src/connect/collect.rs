//! A sink that keeps what was committed, for tests and small jobs.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use alluvium_actors::ids::{CheckpointId, RunNumber};
use alluvium_actors::ports::fence::Fence;
use alluvium_actors::ports::sink::SinkScope;
use serde::{Deserialize, Serialize};

use super::sink::{CommitOutcome, Effect, Guarantee, Sink, SinkCommit, SinkContext, SinkWriter};
use crate::error::OperatorResult;
use crate::record::Record;
use crate::record::batch::Slice;

/// Collects records in memory, exactly once: [`Collect::collected`] gives those whose checkpoint is complete. Clones share what was collected;
/// give one to the job and keep one.
///
/// What is prepared and not committed travels in the checkpoint, so this is for tests and small outputs. The collection lives as long as the process
/// and belongs to one run of one job at a time: a start without a checkpoint, or from another store, begins it anew.
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
    store: String,
    parts: BTreeMap<PartName, Vec<T>>,
}

/// Names what one writer prepared for one checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
        let collection = Collection { store: String::new(), parts: BTreeMap::new() };
        Collect { collection: Arc::new(Mutex::new(collection)) }
    }

    fn lock(&self) -> MutexGuard<'_, Collection<T>> {
        self.collection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone> Collect<T> {
    /// What was committed so far: checkpoint after checkpoint, within one in the order of the writers, within one writer in its order.
    #[must_use]
    pub fn collected(&self) -> Vec<T> {
        self.lock().parts.values().flatten().cloned().collect()
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
        Ok(CollectCommitter { collect: self.clone(), store: scope.store, fence: scope.fence })
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
    store: String,
    fence: Fence,
}

impl<T: Record> SinkCommit for CollectCommitter<T> {
    type Committable = CollectedPart<T>;
    type State = ();

    fn open(&mut self, restored: Option<Vec<()>>) -> OperatorResult {
        self.fence.check()?;
        let mut collection = self.collect.lock();
        if restored.is_none() || collection.store != self.store {
            collection.parts.clear();
            collection.store.clone_from(&self.store);
        }
        Ok(())
    }

    fn commit(&mut self, part: CollectedPart<T>) -> CommitOutcome {
        let mut collection = self.collect.lock();
        if let Err(fenced) = self.fence.check() {
            return CommitOutcome::Fatal(fenced.into());
        }
        match collection.parts.entry(part.name) {
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
