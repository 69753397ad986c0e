//! Two inputs of different types without keys: one function for each side, one output.

use alluvium_actors::drive::outputs::Outputs;
use alluvium_actors::ports::task::Failure;

use super::link::{Link, Member, TwoInputLink};
use super::place::Place;
use crate::record::Record;
use crate::record::batch::Slice;

/// The link of connected streams.
pub(crate) struct Connect<U: Record, L, R> {
    left: L,
    right: R,
    out: Out<U>,
}

/// What both sides share.
struct Out<U: Record> {
    slice: Slice<U>,
    next: Box<dyn Link<U>>,
    place: Place,
}

impl<U: Record, L, R> Connect<U, L, R> {
    pub(crate) fn new(left: L, right: R, next: Box<dyn Link<U>>, place: Place) -> Connect<U, L, R> {
        Connect { left, right, out: Out { slice: Slice::new(), next, place } }
    }
}

impl<U: Record> Out<U> {
    fn flat_map<T, I: IntoIterator<Item = U>>(
        &mut self,
        slice: &mut Slice<T>,
        function: impl Fn(T) -> I,
        outputs: &mut Outputs,
    ) -> Result<(), Failure> {
        self.place.enter();
        for record in slice.records.drain(..) {
            for item in function(record) {
                self.slice.records.push(item);
                if self.slice.is_full() {
                    self.next.push(&mut self.slice, outputs)?;
                    self.place.enter();
                }
            }
        }
        slice.clear();
        if self.slice.is_empty() { Ok(()) } else { self.next.push(&mut self.slice, outputs) }
    }
}

impl<A, B, U, I, J, L, R> TwoInputLink<A, B> for Connect<U, L, R>
where
    A: Record,
    B: Record,
    U: Record,
    I: IntoIterator<Item = U>,
    J: IntoIterator<Item = U>,
    L: Fn(A) -> I,
    R: Fn(B) -> J,
{
    fn push_left(&mut self, slice: &mut Slice<A>, outputs: &mut Outputs) -> Result<(), Failure> {
        self.out.flat_map(slice, &self.left, outputs)
    }

    fn push_right(&mut self, slice: &mut Slice<B>, outputs: &mut Outputs) -> Result<(), Failure> {
        self.out.flat_map(slice, &self.right, outputs)
    }
}

impl<U: Record, L, R> Member for Connect<U, L, R> {
    fn walk(&mut self, visit: &mut dyn FnMut(&mut dyn Member)) {
        visit(&mut *self);
        self.out.next.walk(visit);
    }

    fn place(&self) -> Option<&Place> {
        Some(&self.out.place)
    }
}
