//! An operator that is moved by hand.

use std::any::{TypeId, type_name};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use alluvium_actors::ids::CheckpointId;
use alluvium_actors::payload::{Batch as ErasedBatch, Payload, PayloadType};
use alluvium_actors::plan::Plan;
use alluvium_actors::ports::task::Failure;

use super::Either;
use super::error::OperatorTestError;
use super::instance::{Emitted, Instance};
use super::operator_state::OperatorStateView;
use super::snapshot::Snapshot;
use super::state::KeyedStateView;
use crate::graph::SideTap;
use crate::operator::SideOutput;
use crate::record::batch::{Batch, Slice};
use crate::record::{Key, Record};
use crate::state::{OperatorStateSet, StateSet};
use crate::testing::tree::Tree;

/// An instance of an [`OperatorTest`](super::OperatorTest), with all its subtasks. After each call everything has happened that follows from it.
///
/// When an operator fails or panics, the call in which it did answers [`OperatorTestError::Failed`], and so does every later one: as in a job, the instance
/// is gone. What it emitted before can still be taken.
pub struct RunningOperator<I, U> {
    instance: Instance,
    batches: fn(Vec<I>) -> Vec<(usize, Payload)>,
    output: Vec<U>,
    /// Which subtask emitted each record of the output.
    subtasks: Vec<u32>,
    sides: Vec<Side>,
}

/// What came out of a side output.
struct Side {
    name: String,
    payload: PayloadType,
    batches: Vec<Payload>,
}

impl<I, U> fmt::Debug for RunningOperator<I, U> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "RunningOperator({} records of output)", self.output.len())
    }
}

impl<I, U: Record> RunningOperator<I, U> {
    pub(super) fn new(
        instance: Instance,
        batches: fn(Vec<I>) -> Vec<(usize, Payload)>,
        plan: &Plan,
        sides: &[SideTap],
    ) -> RunningOperator<I, U> {
        let payload = |tap: &SideTap| {
            let edge = plan.edges.iter().find(|edge| plan.node(edge.to).name == tap.node);
            edge.expect("a tap has an input").payload
        };
        let sides = sides
            .iter()
            .map(|tap| Side { name: tap.side.clone(), payload: payload(tap), batches: Vec::new() })
            .collect();
        RunningOperator { instance, batches, output: Vec::new(), subtasks: Vec::new(), sides }
    }

    /// Pushes a record and lets everything happen that follows from it.
    ///
    /// # Errors
    /// When an operator fails, or had failed or finished before.
    pub fn push(&mut self, record: I) -> Result<(), OperatorTestError> {
        self.push_all([record])
    }

    /// Pushes records together: in batches, as a source would send them.
    ///
    /// # Errors
    /// As [`RunningOperator::push`].
    pub fn push_all(&mut self, records: impl IntoIterator<Item = I>) -> Result<(), OperatorTestError> {
        for (input, batch) in (self.batches)(records.into_iter().collect()) {
            let pushed = self.instance.push(input, batch);
            self.collect(pushed)?;
        }
        Ok(())
    }

    /// Lets time pass. Whatever is due meanwhile happens, in its order and at its time.
    ///
    /// # Errors
    /// When an operator fails, or had failed before.
    pub fn advance(&mut self, by: Duration) -> Result<(), OperatorTestError> {
        let advanced = self.instance.advance(by);
        self.collect(advanced)
    }

    /// How much time has passed since the instance was started.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.instance.now()
    }

    /// Ends the data of all inputs: no record can be pushed any more. Does nothing the second time.
    ///
    /// # Errors
    /// When an operator fails, or had failed before.
    pub fn finish(&mut self) -> Result<(), OperatorTestError> {
        let finished = self.instance.finish();
        self.collect(finished)
    }

    /// Takes a snapshot of all subtasks, by a barrier that follows everything pushed so far. It is neither completed nor aborted: say which, if the operator
    /// should hear of it.
    ///
    /// # Errors
    /// When state cannot be encoded, when an operator fails or had failed before.
    pub fn snapshot(&mut self) -> Result<Snapshot, OperatorTestError> {
        let cut = self.instance.cut();
        let manifest = self.collect(cut)?;
        self.instance.publish(&manifest)?;
        let archive = self.instance.store().archive(&manifest)?;
        Ok(Snapshot::new(archive, manifest))
    }

    /// Tells the operator that the checkpoint of a snapshot is complete.
    ///
    /// # Errors
    /// When an operator fails, or had failed before.
    pub fn complete(&mut self, snapshot: &Snapshot) -> Result<(), OperatorTestError> {
        let told = self.instance.tell_completed(CheckpointId(snapshot.checkpoint()));
        self.collect(told)
    }

    /// Tells the operator that the checkpoint of a snapshot was aborted.
    ///
    /// # Errors
    /// When an operator fails, or had failed before.
    pub fn abort(&mut self, snapshot: &Snapshot) -> Result<(), OperatorTestError> {
        let told = self.instance.tell_aborted(CheckpointId(snapshot.checkpoint()));
        self.collect(told)
    }

    /// Reads states of operator `uid` as they are now: one, or all of those that it declares (`MyOperator.state()`). For that a checkpoint is cut, read, and
    /// aborted.
    ///
    /// # Errors
    /// When there is no such operator or state, or it is of another kind or type; when an operator fails, or had failed before.
    pub fn state<K: Key, S: StateSet>(
        &mut self,
        uid: &str,
        states: S,
    ) -> Result<KeyedStateView<K, S>, OperatorTestError> {
        let cut = self.instance.cut();
        let manifest = self.collect(cut)?;
        let view = KeyedStateView::read(self.instance.store(), &manifest, uid, &states);
        self.instance.discard(&manifest)?;
        view
    }

    /// Reads operator states of operator `uid` as they are now: one, or all of those that it declares (`MyOperator.state()`). For that a checkpoint is cut, read, and
    /// aborted.
    ///
    /// # Errors
    /// When there is no such operator or state, or it is of another kind or type; when an operator fails, or had failed before.
    pub fn operator_state<S: OperatorStateSet>(
        &mut self,
        uid: &str,
        states: S,
    ) -> Result<OperatorStateView<S>, OperatorTestError> {
        let cut = self.instance.cut();
        let manifest = self.collect(cut)?;
        let view = OperatorStateView::read(self.instance.store(), &manifest, uid, &states);
        self.instance.discard(&manifest)?;
        view
    }

    /// What came out of the main output and was not taken, in order. Between subtasks there is no order, unless records are pushed one by one.
    #[must_use]
    pub fn output(&self) -> &[U] {
        &self.output
    }

    /// Takes what [`RunningOperator::output`] shows.
    pub fn take_output(&mut self) -> Vec<U> {
        self.subtasks.clear();
        std::mem::take(&mut self.output)
    }

    /// Takes what [`RunningOperator::output`] shows, each record with the index of the subtask that emitted it.
    pub fn take_output_with_subtasks(&mut self) -> Vec<(u32, U)> {
        std::mem::take(&mut self.subtasks).into_iter().zip(std::mem::take(&mut self.output)).collect()
    }

    /// A copy of what came out of a side output and was not taken, in order.
    ///
    /// # Panics
    /// When no operator declares such a side output.
    #[must_use]
    pub fn side<S: Record>(&self, side: &SideOutput<S>) -> Vec<S> {
        let found = self.sides.iter().filter(|found| found.carries(side));
        let batches: Vec<Payload> =
            found.flat_map(|found| found.batches.iter().map(|batch| batch.clone_payload())).collect();
        self.check_declared(side);
        batches.into_iter().flat_map(records).collect()
    }

    /// Takes what [`RunningOperator::side`] shows.
    ///
    /// # Panics
    /// When no operator declares such a side output.
    pub fn take_side<S: Record>(&mut self, side: &SideOutput<S>) -> Vec<S> {
        self.check_declared(side);
        let found = self.sides.iter_mut().filter(|found| found.carries(side));
        let batches: Vec<Payload> = found.flat_map(|found| std::mem::take(&mut found.batches)).collect();
        batches.into_iter().flat_map(records).collect()
    }

    fn check_declared<S: Record>(&self, side: &SideOutput<S>) {
        if self.sides.iter().any(|found| found.carries(side)) {
            return;
        }
        let declared: Vec<String> =
            self.sides.iter().map(|found| format!("`{}` of {}", found.name, found.payload.type_name)).collect();
        let declared = if declared.is_empty() { "none".to_owned() } else { declared.join(", ") };
        panic!("no operator declares the side output `{}` of {}; declared: {declared}", side.name(), type_name::<S>());
    }

    /// Sorts what came out, whether the call that let it come succeeded or not.
    fn collect<T>(&mut self, result: Result<T, OperatorTestError>) -> Result<T, OperatorTestError> {
        for Emitted { tap, subtask, batch } in self.instance.take_emitted() {
            match tap.checked_sub(1) {
                None => {
                    self.output.extend(records::<U>(batch));
                    self.subtasks.resize(self.output.len(), subtask);
                }
                Some(side) => self.sides[side].batches.push(batch),
            }
        }
        result
    }

    /// Takes everything that came out and counts how often each record did, by output; the main one has no name.
    pub(super) fn count_output(
        &mut self,
        counts: &mut BTreeMap<(String, Tree), usize>,
    ) -> Result<(), OperatorTestError> {
        for record in self.take_output() {
            *counts.entry((String::new(), tree(&record)?)).or_default() += 1;
        }
        for side in &mut self.sides {
            for batch in std::mem::take(&mut side.batches) {
                for record in encoded_records(&*batch)? {
                    *counts.entry((side.name.clone(), record)).or_default() += 1;
                }
            }
        }
        Ok(())
    }
}

impl<A: Record, B: Record, U: Record> RunningOperator<Either<A, B>, U> {
    /// Pushes a record into the left input.
    ///
    /// # Errors
    /// As [`RunningOperator::push`].
    pub fn push_left(&mut self, record: A) -> Result<(), OperatorTestError> {
        self.push(Either::Left(record))
    }

    /// Pushes a record into the right input.
    ///
    /// # Errors
    /// As [`RunningOperator::push`].
    pub fn push_right(&mut self, record: B) -> Result<(), OperatorTestError> {
        self.push(Either::Right(record))
    }
}

impl Side {
    fn carries<S: Record>(&self, side: &SideOutput<S>) -> bool {
        self.name == side.name() && self.payload.type_id == TypeId::of::<S>()
    }
}

fn records<T: Record>(batch: Payload) -> impl Iterator<Item = T> {
    let mut batch = Batch::<T>::from_payload(batch);
    let mut slices = Vec::new();
    while let Some(slice) = batch.pop() {
        slices.push(slice.records);
    }
    slices.into_iter().flatten()
}

fn tree<T: Record>(record: &T) -> Result<Tree, OperatorTestError> {
    Tree::of(record).map_err(|message| Failure::unrecoverable(type_name::<T>(), message).into())
}

/// The records of a batch whose type only its operator knows.
fn encoded_records(batch: &dyn ErasedBatch) -> Result<Vec<Tree>, OperatorTestError> {
    let mut bytes = Vec::new();
    batch.encode(&mut bytes).map_err(|error| Failure::unrecoverable("side output", error))?;
    let slices: Vec<Slice<Tree>> =
        rmp_serde::from_slice(&bytes).map_err(|error| Failure::unrecoverable("side output", error))?;
    Ok(slices.into_iter().flat_map(|slice| slice.records).collect())
}
