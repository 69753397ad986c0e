//! `split`: one stream in two, by a predicate.

use alluvium_actors::drive::outputs::Outputs;
use alluvium_actors::ports::task::Failure;

use super::link::{Link, Member};
use super::place::Place;
use super::side::{SideOutput, Sides};
use crate::record::Record;
use crate::record::batch::Slice;

/// The name of the side output with the records for which the predicate is false.
pub(crate) const OTHERS: &str = "others";

/// The link of `split`. What fits stays in place and goes on; the rest is moved to the side output.
pub(crate) struct Split<T: Record, F> {
    predicate: F,
    next: Box<dyn Link<T>>,
    sides: Sides,
    others: SideOutput<T>,
    place: Place,
}

impl<T: Record, F> Split<T, F> {
    pub(crate) fn new(predicate: F, next: Box<dyn Link<T>>, sides: Sides, place: Place) -> Split<T, F> {
        Split { predicate, next, sides, others: SideOutput::named(OTHERS), place }
    }
}

impl<T: Record, F: Fn(&T) -> bool> Link<T> for Split<T, F> {
    fn push(&mut self, slice: &mut Slice<T>, outputs: &mut Outputs) -> Result<(), Failure> {
        self.place.enter();
        let others = slice.records.extract_if(.., |record| !(self.predicate)(record));
        self.sides.emit_all(&self.others, others).map_err(|error| self.place.fail(error))?;
        if !slice.is_empty() {
            self.next.push(slice, outputs)?;
        }
        self.sides.push(outputs)
    }
}

impl<T: Record, F> Member for Split<T, F> {
    fn walk(&mut self, visit: &mut dyn FnMut(&mut dyn Member)) {
        visit(&mut *self);
        self.next.walk(visit);
        self.sides.walk(visit);
    }

    fn place(&self) -> Option<&Place> {
        Some(&self.place)
    }
}
