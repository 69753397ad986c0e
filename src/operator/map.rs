//! `map` and `try_map`: one record in, one record out.

use alluvium_actors::drive::outputs::Outputs;
use alluvium_actors::ports::task::Failure;

use super::link::{Link, Member};
use super::place::Place;
use crate::error::OperatorResult;
use crate::record::Record;
use crate::record::batch::Slice;

/// The link of `map`.
pub(crate) struct Map<U: Record, F> {
    function: F,
    out: Slice<U>,
    next: Box<dyn Link<U>>,
    place: Place,
}

impl<U: Record, F> Map<U, F> {
    pub(crate) fn new(function: F, next: Box<dyn Link<U>>, place: Place) -> Map<U, F> {
        Map { function, out: Slice::new(), next, place }
    }
}

impl<T: Record, U: Record, F: Fn(T) -> U> Link<T> for Map<U, F> {
    fn push(&mut self, slice: &mut Slice<T>, outputs: &mut Outputs) -> Result<(), Failure> {
        self.place.enter();
        let function = &self.function;
        self.out.records.extend(slice.records.drain(..).map(function));
        slice.clear();
        self.next.push(&mut self.out, outputs)
    }
}

impl<U: Record, F> Member for Map<U, F> {
    fn walk(&mut self, visit: &mut dyn FnMut(&mut dyn Member)) {
        visit(&mut *self);
        self.next.walk(visit);
    }

    fn place(&self) -> Option<&Place> {
        Some(&self.place)
    }
}

/// The link of `try_map`.
pub(crate) struct TryMap<U: Record, F> {
    function: F,
    out: Slice<U>,
    next: Box<dyn Link<U>>,
    place: Place,
}

impl<U: Record, F> TryMap<U, F> {
    pub(crate) fn new(function: F, next: Box<dyn Link<U>>, place: Place) -> TryMap<U, F> {
        TryMap { function, out: Slice::new(), next, place }
    }
}

impl<T: Record, U: Record, F: Fn(T) -> OperatorResult<U>> Link<T> for TryMap<U, F> {
    fn push(&mut self, slice: &mut Slice<T>, outputs: &mut Outputs) -> Result<(), Failure> {
        self.place.enter();
        self.out.records.reserve(slice.len());
        for record in slice.records.drain(..) {
            match (self.function)(record) {
                Ok(mapped) => self.out.records.push(mapped),
                Err(error) => return Err(self.place.fail(error)),
            }
        }
        slice.clear();
        self.next.push(&mut self.out, outputs)
    }
}

impl<U: Record, F> Member for TryMap<U, F> {
    fn walk(&mut self, visit: &mut dyn FnMut(&mut dyn Member)) {
        visit(&mut *self);
        self.next.walk(visit);
    }

    fn place(&self) -> Option<&Place> {
        Some(&self.place)
    }
}
