//! `flat_map`: one record in, any number out, in slices.

use alluvium_actors::drive::outputs::Outputs;
use alluvium_actors::ports::task::Failure;

use super::link::{Link, Member};
use super::place::Place;
use crate::record::Record;
use crate::record::batch::Slice;

/// The link of `flat_map`.
pub(crate) struct FlatMap<U: Record, F> {
    function: F,
    out: Slice<U>,
    next: Box<dyn Link<U>>,
    place: Place,
}

impl<U: Record, F> FlatMap<U, F> {
    pub(crate) fn new(function: F, next: Box<dyn Link<U>>, place: Place) -> FlatMap<U, F> {
        FlatMap { function, out: Slice::new(), next, place }
    }
}

impl<T: Record, U: Record, I: IntoIterator<Item = U>, F: Fn(T) -> I> Link<T> for FlatMap<U, F> {
    fn push(&mut self, slice: &mut Slice<T>, outputs: &mut Outputs) -> Result<(), Failure> {
        self.place.enter();
        for record in slice.records.drain(..) {
            for item in (self.function)(record) {
                self.out.records.push(item);
                if self.out.is_full() {
                    self.next.push(&mut self.out, outputs)?;
                    self.place.enter();
                }
            }
        }
        slice.clear();
        if self.out.is_empty() { Ok(()) } else { self.next.push(&mut self.out, outputs) }
    }
}

impl<U: Record, F> Member for FlatMap<U, F> {
    fn walk(&mut self, visit: &mut dyn FnMut(&mut dyn Member)) {
        visit(&mut *self);
        self.next.walk(visit);
    }

    fn place(&self) -> Option<&Place> {
        Some(&self.place)
    }
}
