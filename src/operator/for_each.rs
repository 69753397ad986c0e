//! `for_each`: calls a function for every record, at least once.

use alluvium_actors::drive::outputs::Outputs;
use alluvium_actors::ports::task::Failure;

use super::link::{Link, Member};
use super::place::Place;
use crate::record::Record;
use crate::record::batch::Slice;

/// The link of `for_each`: the end of a chain.
pub(crate) struct ForEach<F> {
    function: F,
    place: Place,
}

impl<F> ForEach<F> {
    pub(crate) fn new(function: F, place: Place) -> ForEach<F> {
        ForEach { function, place }
    }
}

impl<T: Record, F: Fn(T)> Link<T> for ForEach<F> {
    fn push(&mut self, slice: &mut Slice<T>, _: &mut Outputs) -> Result<(), Failure> {
        self.place.enter();
        slice.records.drain(..).for_each(&self.function);
        slice.clear();
        Ok(())
    }
}

impl<F> Member for ForEach<F> {
    fn walk(&mut self, visit: &mut dyn FnMut(&mut dyn Member)) {
        visit(self);
    }

    fn place(&self) -> Option<&Place> {
        Some(&self.place)
    }
}
