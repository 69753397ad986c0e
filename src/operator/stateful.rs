//! An operator of the user's own on a stream without keys, with state of its own: [`StatefulProcess`].

use std::fmt;
use std::task::{Context, Poll};

use alluvium_actors::drive::outputs::Outputs;
use alluvium_actors::ids::CheckpointId;
use alluvium_actors::ports::store::OperatorSnapshot;
use alluvium_actors::ports::task::{Cut, Failure};

use super::link::{Link, Member, push_in_slices};
use super::operator_backend::OperatorBackend;
use super::place::Place;
use super::process::Facts;
use super::side::{SideOutput, SideOutputs, Sides};
use crate::error::OperatorResult;
use crate::record::Record;
use crate::record::batch::Slice;
use crate::state::OperatorStateSet;

/// An operator without keys whose instances keep state: lists that are split or united when the number of instances changes.
///
/// It is cloned for every subtask. What it remembers in itself no checkpoint knows; what it keeps in its [`State`](StatefulProcess::State) comes back as it was at the checkpoint,
/// also at another parallelism, and then as the kind of each state says: [`SplitList`](crate::state::SplitList), [`UnionList`](crate::state::UnionList).
///
/// ```
/// use alluvium::connect::{Collect, Generator};
/// use alluvium::operator::{StatefulAccess, StatefulContext, StatefulProcess};
/// use alluvium::state::SplitList;
/// use alluvium::{Job, OperatorResult};
///
/// /// Sends records on in packets of three.
/// #[derive(Clone)]
/// struct Packets;
///
/// impl StatefulProcess for Packets {
///     type In = u64;
///     type Out = Vec<u64>;
///     type State = SplitList<u64>;
///
///     fn state(&self) -> SplitList<u64> {
///         SplitList::named("waiting")
///     }
///
///     fn process(
///         &self,
///         record: u64,
///         mut waiting: StatefulAccess<'_, Self>,
///         mut context: StatefulContext<'_, Self>,
///     ) -> OperatorResult {
///         waiting.push(record);
///         if waiting.len() == 3 {
///             context.emit(waiting.take_all());
///         }
///         Ok(())
///     }
///
///     fn finish(&self, mut waiting: StatefulAccess<'_, Self>, mut context: StatefulContext<'_, Self>) -> OperatorResult {
///         if !waiting.is_empty() {
///             context.emit(waiting.take_all());
///         }
///         Ok(())
///     }
/// }
///
/// let packets = Collect::new();
/// let job = Job::new("packets");
/// job.source("numbers", Generator::bounded(7, |index| index))
///     .stateful_process("packets", Packets)
///     .sink("sent", packets.clone());
/// job.build()?.start(&alluvium::Options::default())?.wait_blocking()?;
/// assert_eq!(packets.collected(), [vec![0, 1, 2], vec![3, 4, 5], vec![6]]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait StatefulProcess: Clone + Send + 'static {
    /// What it gets.
    type In: Record;
    /// What it emits.
    type Out: Record;
    /// The states that each instance keeps: [`SplitList`](crate::state::SplitList), [`UnionList`](crate::state::UnionList), or a tuple of them.
    type State: OperatorStateSet;

    /// Declares the states: their names. Called when the job is built, and once for every instance.
    fn state(&self) -> Self::State;

    /// Declares the side outputs that it emits to beside its main output; none if not given. Called when the job is built.
    fn side_outputs(&self) -> SideOutputs {
        SideOutputs::none()
    }

    /// Called once for every instance, before its first record and after its state was restored: the place to choose its part of a [`UnionList`](crate::state::UnionList).
    ///
    /// # Errors
    /// The subtask fails and goes through the restart strategy, unless the error says that a restart would not help.
    fn open(&self, state: StatefulAccess<'_, Self>, context: OpenContext) -> OperatorResult {
        let _ = (state, context);
        Ok(())
    }

    /// Processes one record.
    ///
    /// # Errors
    /// The subtask fails and goes through the restart strategy, unless the error says that a restart would not help.
    fn process(
        &self,
        record: Self::In,
        state: StatefulAccess<'_, Self>,
        context: StatefulContext<'_, Self>,
    ) -> OperatorResult;

    /// Called behind the last record, when all input was read to its end: the place to send on what waits for more. Not called when the job is stopped or cancelled.
    ///
    /// Called once, but where a restart at another parallelism finds that some instances had come to their end and others had not: then all of them run again and are told of the
    /// end once more. Leave the state such that a second call adds nothing: take out what was sent on.
    ///
    /// # Errors
    /// The subtask fails and goes through the restart strategy, unless the error says that a restart would not help.
    fn finish(&self, state: StatefulAccess<'_, Self>, context: StatefulContext<'_, Self>) -> OperatorResult {
        let _ = (state, context);
        Ok(())
    }
}

/// The states of the instance, for reading and changing.
pub type StatefulAccess<'a, P> = <<P as StatefulProcess>::State as OperatorStateSet>::Access<'a>;

/// What a [`StatefulProcess`] is told beside the record and the state.
pub type StatefulContext<'a, P> = OperatorContext<'a, <P as StatefulProcess>::Out>;

/// The outputs of an operator without keys, and where it runs.
pub struct OperatorContext<'a, U> {
    pub(super) out: &'a mut Vec<U>,
    pub(super) sides: &'a mut Sides,
    pub(super) facts: Facts,
}

impl<U> fmt::Debug for OperatorContext<'_, U> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "OperatorContext({:?})", self.facts)
    }
}

impl<U> OperatorContext<'_, U> {
    /// Emits a record to the main output.
    #[inline]
    pub fn emit(&mut self, record: U) {
        self.out.push(record);
    }

    /// Emits a record to a side output that the operator declares. Between outputs there is no order.
    ///
    /// # Errors
    /// When the operator does not declare it: no restart mends that.
    #[inline]
    pub fn emit_to<T: Record>(&mut self, side: &SideOutput<T>, record: T) -> OperatorResult {
        self.sides.emit(side, record)
    }

    /// The parallel index of this instance.
    #[must_use]
    pub fn subtask(&self) -> u32 {
        self.facts.subtask
    }

    /// How many instances there are.
    #[must_use]
    pub fn parallelism(&self) -> u32 {
        self.facts.parallelism
    }
}

/// What an instance is told before its first record.
#[derive(Clone, Copy, Debug)]
pub struct OpenContext {
    facts: Facts,
    restored: bool,
}

impl OpenContext {
    /// The parallel index of this instance.
    #[must_use]
    pub fn subtask(&self) -> u32 {
        self.facts.subtask
    }

    /// How many instances there are.
    #[must_use]
    pub fn parallelism(&self) -> u32 {
        self.facts.parallelism
    }

    /// Whether the job begins with a checkpoint that holds state of this operator. What this instance gets of it may still be nothing.
    #[must_use]
    pub fn is_restored(&self) -> bool {
        self.restored
    }
}

/// The link of a [`StatefulProcess`].
pub(crate) struct Stateful<P: StatefulProcess> {
    state: OperatorBackend<P::State>,
    process: P,
    opened: bool,
    out: Slice<P::Out>,
    next: Box<dyn Link<P::Out>>,
    sides: Sides,
    facts: Facts,
}

impl<P: StatefulProcess> Stateful<P> {
    pub(crate) fn new(
        state: OperatorBackend<P::State>,
        process: P,
        next: Box<dyn Link<P::Out>>,
        sides: Sides,
    ) -> Stateful<P> {
        let facts = Facts::of(&state.site.task);
        Stateful { state, process, opened: false, out: Slice::new(), next, sides, facts }
    }
}

impl<P: StatefulProcess> Link<P::In> for Stateful<P> {
    fn push(&mut self, slice: &mut Slice<P::In>, outputs: &mut Outputs) -> Result<(), Failure> {
        let Stateful { state, process, out, next, sides, facts, .. } = self;
        let OperatorBackend { table, site, .. } = state;
        site.place.enter();
        for record in slice.records.drain(..) {
            let context = OperatorContext { out: &mut out.records, sides, facts: *facts };
            process.process(record, table.access(), context).map_err(|error| site.place.fail(error))?;
            if out.is_full() {
                push_in_slices(out, &mut **next, outputs)?;
                site.place.enter();
            }
            if sides.is_full() {
                sides.push(outputs)?;
                site.place.enter();
            }
        }
        slice.clear();
        sides.push(outputs)?;
        if out.is_empty() { Ok(()) } else { next.push(out, outputs) }
    }
}

/// The state with the calls of user code around it.
impl<P: StatefulProcess> Member for Stateful<P> {
    fn walk(&mut self, visit: &mut dyn FnMut(&mut dyn Member)) {
        visit(&mut *self);
        self.next.walk(visit);
        self.sides.walk(visit);
    }

    fn place(&self) -> Option<&Place> {
        self.state.place()
    }

    fn poll_restore(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        match self.state.poll_restore(context) {
            Poll::Ready(Ok(())) if !self.opened => {
                self.opened = true;
                let context = OpenContext { facts: self.facts, restored: self.state.is_restored() };
                let opened = self.process.open(self.state.table.access(), context);
                Poll::Ready(opened.map_err(|error| self.state.site.place.fail(error)))
            }
            other => other,
        }
    }

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.state.poll_ready(context)
    }

    fn finish(&mut self, outputs: &mut Outputs) -> Result<(), Failure> {
        let Stateful { state, process, out, next, sides, facts, .. } = self;
        let context = OperatorContext { out: &mut out.records, sides, facts: *facts };
        process.finish(state.table.access(), context).map_err(|error| state.site.place.fail(error))?;
        sides.push(outputs)?;
        if out.is_empty() { Ok(()) } else { push_in_slices(out, &mut **next, outputs) }
    }

    fn close_epoch(&mut self, cut: Cut) -> Result<(), Failure> {
        self.state.close_epoch(cut)
    }

    fn poll_snapshot(
        &mut self,
        checkpoint: CheckpointId,
        budget: usize,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<OperatorSnapshot>, Failure>> {
        self.state.poll_snapshot(checkpoint, budget, context)
    }

    fn aborted(&mut self, checkpoint: CheckpointId) {
        self.state.aborted(checkpoint);
    }
}
