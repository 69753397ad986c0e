//! An operator of the user's own on a stream without keys: [`ProcessFunction`].

use std::fmt;

use alluvium_actors::drive::outputs::Outputs;
use alluvium_actors::ports::task::Failure;

use super::assembly::Site;
use super::link::{Link, Member, push_in_slices};
use super::place::Place;
use super::process::Facts;
use super::side::{SideOutput, SideOutputs, Sides};
use crate::error::OperatorResult;
use crate::record::Record;
use crate::record::batch::Slice;

/// An operator without state that emits any number of records for each one, to its main output and to side outputs. [`SideOutput`] has an example.
///
/// It is cloned for every subtask. What it remembers in itself no checkpoint knows: for state, see
/// [`KeyedProcess`](super::process::KeyedProcess).
pub trait ProcessFunction: Clone + Send + 'static {
    /// What it gets.
    type In: Record;
    /// What it emits to its main output.
    type Out: Record;

    /// Declares the side outputs that it emits to beside its main output; none if not given. Called when the job is built.
    fn side_outputs(&self) -> SideOutputs {
        SideOutputs::none()
    }

    /// Processes one record.
    ///
    /// # Errors
    /// The subtask fails and goes through the restart strategy, unless the error says that a restart would not help.
    fn process(&self, record: Self::In, context: ProcessContext<'_, Self>) -> OperatorResult;
}

/// The outputs of a [`ProcessFunction`], and where it runs.
pub struct ProcessContext<'a, P: ProcessFunction> {
    out: &'a mut Vec<P::Out>,
    sides: &'a mut Sides,
    facts: Facts,
}

impl<P: ProcessFunction> fmt::Debug for ProcessContext<'_, P> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ProcessContext({:?})", self.facts)
    }
}

impl<P: ProcessFunction> ProcessContext<'_, P> {
    /// Emits a record to the main output.
    #[inline]
    pub fn emit(&mut self, record: P::Out) {
        self.out.push(record);
    }

    /// Emits a record to a side output that the operator [declares](ProcessFunction::side_outputs). Between outputs there is no order.
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

/// The link of a [`ProcessFunction`].
pub(crate) struct ProcessLink<P: ProcessFunction> {
    process: P,
    out: Slice<P::Out>,
    next: Box<dyn Link<P::Out>>,
    sides: Sides,
    facts: Facts,
    place: Place,
}

impl<P: ProcessFunction> ProcessLink<P> {
    pub(crate) fn new(process: P, next: Box<dyn Link<P::Out>>, sides: Sides, site: Site) -> ProcessLink<P> {
        let facts = Facts::of(&site.task);
        ProcessLink { process, out: Slice::new(), next, sides, facts, place: site.place }
    }
}

impl<P: ProcessFunction> Link<P::In> for ProcessLink<P> {
    fn push(&mut self, slice: &mut Slice<P::In>, outputs: &mut Outputs) -> Result<(), Failure> {
        let ProcessLink { process, out, next, sides, facts, place } = self;
        place.enter();
        for record in slice.records.drain(..) {
            let context = ProcessContext { out: &mut out.records, sides, facts: *facts };
            process.process(record, context).map_err(|error| place.fail(error))?;
            if out.is_full() {
                push_in_slices(out, &mut **next, outputs)?;
                place.enter();
            }
            if sides.is_full() {
                sides.push(outputs)?;
                place.enter();
            }
        }
        slice.clear();
        sides.push(outputs)?;
        if out.is_empty() { Ok(()) } else { next.push(out, outputs) }
    }
}

impl<P: ProcessFunction> Member for ProcessLink<P> {
    fn walk(&mut self, visit: &mut dyn FnMut(&mut dyn Member)) {
        visit(&mut *self);
        self.next.walk(visit);
        self.sides.walk(visit);
    }

    fn place(&self) -> Option<&Place> {
        Some(&self.place)
    }
}
