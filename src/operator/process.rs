//! A keyed operator of the user's own: [`KeyedProcess`].

use alluvium_actors::drive::outputs::Outputs;
use alluvium_actors::ports::task::{Failure, TaskContext};

use super::keyed::KeyedState;
use super::link::{Link, Member, push_in_slices};
use super::side::{SideOutput, SideOutputs, Sides};
use crate::error::OperatorResult;
use crate::record::batch::Slice;
use crate::record::{Key, KeySelector, Record};
use crate::state::{Hold, StateSet};

/// A keyed operator: gets each record with the state of its key.
///
/// It is cloned for every subtask. What it remembers in itself no checkpoint knows; what it keeps in its [`State`](KeyedProcess::State) comes back exactly as it
/// was at the checkpoint.
///
/// ```
/// use alluvium::operator::{Access, Context, KeyedProcess};
/// use alluvium::state::Value;
/// use alluvium::OperatorResult;
///
/// /// Lets the first record of each key through.
/// #[derive(Clone)]
/// struct First;
///
/// impl KeyedProcess for First {
///     type Key = String;
///     type In = (String, u64);
///     type Out = u64;
///     type State = Value<bool>;
///
///     fn state(&self) -> Value<bool> {
///         Value::named("seen")
///     }
///
///     fn process(&self, record: (String, u64), mut seen: Access<'_, Self>, mut context: Context<'_, Self>) -> OperatorResult {
///         if seen.get().is_none() {
///             seen.set(true);
///             context.emit(record.1);
///         }
///         Ok(())
///     }
/// }
/// ```
pub trait KeyedProcess: Clone + Send + 'static {
    /// What the stream is keyed by.
    type Key: Key;
    /// What it gets.
    type In: Record;
    /// What it emits.
    type Out: Record;
    /// The states that it keeps for each key: [`Value`](crate::state::Value), [`List`](crate::state::List), [`Map`](crate::state::Map),
    /// [`Reducing`](crate::state::Reducing), [`Aggregating`](crate::state::Aggregating), or a tuple of them.
    type State: StateSet;

    /// Declares the states: their names. Called when the job is built, and once for every instance.
    fn state(&self) -> Self::State;

    /// Declares the side outputs that it emits to beside its main output; none if not given. Called when the job is built.
    fn side_outputs(&self) -> SideOutputs {
        SideOutputs::none()
    }

    /// Processes one record.
    ///
    /// # Errors
    /// The subtask fails and goes through the restart strategy, unless the error says that a restart would not help.
    fn process(&self, record: Self::In, state: Access<'_, Self>, context: Context<'_, Self>) -> OperatorResult;
}

/// The states of the current key, for reading and changing.
pub type Access<'a, P> = <<P as KeyedProcess>::State as StateSet>::Access<'a>;

/// What a [`KeyedProcess`] is told beside the record and the state.
pub type Context<'a, P> = KeyedContext<'a, <P as KeyedProcess>::Key, <P as KeyedProcess>::Out>;

/// The key, the output, and where the operator runs.
#[derive(Debug)]
pub struct KeyedContext<'a, K, U> {
    pub(super) key: &'a K,
    pub(super) out: &'a mut Vec<U>,
    pub(super) sides: &'a mut Sides,
    pub(super) facts: Facts,
}

/// What an operator may know of where it runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub(super) subtask: u32,
    pub(super) parallelism: u32,
    max_parallelism: u32,
}

impl Facts {
    pub(super) fn of(task: &TaskContext) -> Facts {
        Facts { subtask: task.subtask.index, parallelism: task.parallelism, max_parallelism: task.max_parallelism }
    }
}

impl<K, U> KeyedContext<'_, K, U> {
    /// The key of the record.
    #[must_use]
    pub fn key(&self) -> &K {
        self.key
    }

    /// Emits a record.
    #[inline]
    pub fn emit(&mut self, record: U) {
        self.out.push(record);
    }

    /// Emits a record to a side output that the operator [declares](KeyedProcess::side_outputs). Between outputs there is no order.
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

    /// How many key groups there are.
    #[must_use]
    pub fn max_parallelism(&self) -> u32 {
        self.facts.max_parallelism
    }
}

/// The link of a [`KeyedProcess`].
pub(crate) struct Process<P: KeyedProcess, S, H> {
    state: KeyedState<P::Key, <P::State as StateSet>::Row, H>,
    selector: S,
    process: P,
    out: Slice<P::Out>,
    next: Box<dyn Link<P::Out>>,
    sides: Sides,
    facts: Facts,
}

impl<P: KeyedProcess, S, H: Hold<<P::State as StateSet>::Row>> Process<P, S, H> {
    pub(crate) fn new(
        state: KeyedState<P::Key, <P::State as StateSet>::Row, H>,
        selector: S,
        process: P,
        next: Box<dyn Link<P::Out>>,
        sides: Sides,
    ) -> Process<P, S, H> {
        let facts = Facts::of(&state.site.task);
        Process { state, selector, process, out: Slice::new(), next, sides, facts }
    }
}

impl<P, S, H> Link<P::In> for Process<P, S, H>
where
    P: KeyedProcess,
    S: KeySelector<P::In, P::Key>,
    H: Hold<<P::State as StateSet>::Row>,
{
    fn push(&mut self, slice: &mut Slice<P::In>, outputs: &mut Outputs) -> Result<(), Failure> {
        let Process { state, selector, process, out, next, sides, facts } = self;
        let place = &state.site.place;
        place.enter();
        state.table.with_states_batch::<P::State, _, _>(
            &slice.hashes,
            slice.records.drain(..),
            selector,
            |key, states, record| {
                let context = KeyedContext { key, out: &mut out.records, sides, facts: *facts };
                process.process(record, states, context).map_err(|error| place.fail(error))?;
                if out.is_full() {
                    push_in_slices(out, &mut **next, outputs)?;
                    place.enter();
                }
                if sides.is_full() {
                    sides.push(outputs)?;
                    place.enter();
                }
                Ok(())
            },
        )?;
        slice.clear();
        sides.push(outputs)?;
        if out.is_empty() { Ok(()) } else { next.push(out, outputs) }
    }
}

impl<P: KeyedProcess, S, H: Hold<<P::State as StateSet>::Row>> Member for Process<P, S, H> {
    fn walk(&mut self, visit: &mut dyn FnMut(&mut dyn Member)) {
        visit(&mut self.state);
        self.next.walk(visit);
        self.sides.walk(visit);
    }
}
