//! `filter`: drops the records that do not fit.

use alluvium_actors::drive::outputs::Outputs;
use alluvium_actors::ports::task::Failure;

use super::link::{Link, Member};
use super::place::Place;
use crate::record::Record;
use crate::record::batch::Slice;

/// The link of `filter`. Works in place: records that stay are not copied to another buffer.
pub(crate) struct Filter<T: Record, F> {
    predicate: F,
    next: Box<dyn Link<T>>,
    place: Place,
}

impl<T: Record, F> Filter<T, F> {
    pub(crate) fn new(predicate: F, next: Box<dyn Link<T>>, place: Place) -> Filter<T, F> {
        Filter { predicate, next, place }
    }
}

impl<T: Record, F: Fn(&T) -> bool> Link<T> for Filter<T, F> {
    fn push(&mut self, slice: &mut Slice<T>, outputs: &mut Outputs) -> Result<(), Failure> {
        self.place.enter();
        slice.records.retain(&self.predicate);
        if slice.is_empty() { Ok(()) } else { self.next.push(slice, outputs) }
    }
}

impl<T: Record, F> Member for Filter<T, F> {
    fn walk(&mut self, visit: &mut dyn FnMut(&mut dyn Member)) {
        visit(&mut *self);
        self.next.walk(visit);
    }

    fn place(&self) -> Option<&Place> {
        Some(&self.place)
    }
}
