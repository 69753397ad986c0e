//! A keyed operator of the user's own with two inputs that share its state: [`KeyedCoProcess`].

use alluvium_actors::drive::outputs::Outputs;
use alluvium_actors::ports::task::Failure;

use super::keyed::KeyedState;
use super::link::{Link, Member, TwoInputLink, push_in_slices};
use super::process::{Facts, KeyedContext};
use super::side::{SideOutputs, Sides};
use crate::error::OperatorResult;
use crate::record::batch::Slice;
use crate::record::{Key, KeySelector, Record};
use crate::state::{Hold, StateSet};

/// A keyed operator with two inputs of different types: records of both sides with equal keys see the same state. Between the sides there is no order.
///
/// As for [`KeyedProcess`](super::process::KeyedProcess), it is cloned for every subtask, and only its state is in checkpoints.
pub trait KeyedCoProcess: Clone + Send + 'static {
    /// What both streams are keyed by.
    type Key: Key;
    /// What it gets from the left.
    type Left: Record;
    /// What it gets from the right.
    type Right: Record;
    /// What it emits.
    type Out: Record;
    /// The states that it keeps for each key.
    type State: StateSet;

    /// Declares the states: their names. Called when the job is built, and once for every instance.
    fn state(&self) -> Self::State;

    /// Declares the side outputs that it emits to beside its main output; none if not given. Called when the job is built.
    fn side_outputs(&self) -> SideOutputs {
        SideOutputs::none()
    }

    /// Processes one record of the left stream.
    ///
    /// # Errors
    /// The subtask fails and goes through the restart strategy, unless the error says that a restart would not help.
    fn process_left(
        &self,
        record: Self::Left,
        state: CoAccess<'_, Self>,
        context: CoContext<'_, Self>,
    ) -> OperatorResult;

    /// Processes one record of the right stream.
    ///
    /// # Errors
    /// The subtask fails and goes through the restart strategy, unless the error says that a restart would not help.
    fn process_right(
        &self,
        record: Self::Right,
        state: CoAccess<'_, Self>,
        context: CoContext<'_, Self>,
    ) -> OperatorResult;
}

/// The states of the current key, for reading and changing.
pub type CoAccess<'a, P> = <<P as KeyedCoProcess>::State as StateSet>::Access<'a>;

/// What a [`KeyedCoProcess`] is told beside the record and the state.
pub type CoContext<'a, P> = KeyedContext<'a, <P as KeyedCoProcess>::Key, <P as KeyedCoProcess>::Out>;

/// The link of a [`KeyedCoProcess`].
pub(crate) struct CoProcess<P: KeyedCoProcess, L, R, H> {
    state: KeyedState<P::Key, <P::State as StateSet>::Row, H>,
    left: L,
    right: R,
    process: P,
    out: Slice<P::Out>,
    next: Box<dyn Link<P::Out>>,
    sides: Sides,
    facts: Facts,
}

impl<P: KeyedCoProcess, L, R, H: Hold<<P::State as StateSet>::Row>> CoProcess<P, L, R, H> {
    pub(crate) fn new(
        state: KeyedState<P::Key, <P::State as StateSet>::Row, H>,
        left: L,
        right: R,
        process: P,
        next: Box<dyn Link<P::Out>>,
        sides: Sides,
    ) -> CoProcess<P, L, R, H> {
        let facts = Facts::of(&state.site.task);
        CoProcess { state, left, right, process, out: Slice::new(), next, sides, facts }
    }
}

/// Takes a slice of one side through the operator.
macro_rules! push_side {
    ($link:ident, $side:ident, $process_side:ident, $slice:ident, $outputs:ident) => {{
        let CoProcess { state, $side, process, out, next, sides, facts, .. } = $link;
        let place = &state.site.place;
        place.enter();
        state.table.with_states_batch::<P::State, _, _>(
            &$slice.hashes,
            $slice.records.drain(..),
            $side,
            |key, states, record| {
                let context = KeyedContext { key, out: &mut out.records, sides, facts: *facts };
                process.$process_side(record, states, context).map_err(|error| place.fail(error))?;
                if out.is_full() {
                    push_in_slices(out, &mut **next, $outputs)?;
                    place.enter();
                }
                if sides.is_full() {
                    sides.push($outputs)?;
                    place.enter();
                }
                Ok(())
            },
        )?;
        $slice.clear();
        sides.push($outputs)?;
        if out.is_empty() { Ok(()) } else { next.push(out, $outputs) }
    }};
}

impl<P, L, R, H> TwoInputLink<P::Left, P::Right> for CoProcess<P, L, R, H>
where
    P: KeyedCoProcess,
    L: KeySelector<P::Left, P::Key>,
    R: KeySelector<P::Right, P::Key>,
    H: Hold<<P::State as StateSet>::Row>,
{
    fn push_left(&mut self, slice: &mut Slice<P::Left>, outputs: &mut Outputs) -> Result<(), Failure> {
        push_side!(self, left, process_left, slice, outputs)
    }

    fn push_right(&mut self, slice: &mut Slice<P::Right>, outputs: &mut Outputs) -> Result<(), Failure> {
        push_side!(self, right, process_right, slice, outputs)
    }
}

impl<P: KeyedCoProcess, L, R, H: Hold<<P::State as StateSet>::Row>> Member for CoProcess<P, L, R, H> {
    fn walk(&mut self, visit: &mut dyn FnMut(&mut dyn Member)) {
        visit(&mut self.state);
        self.next.walk(visit);
        self.sides.walk(visit);
    }
}
