//! `aggregate` and `reduce`: one value per key that every record changes, by the batch path of the table.

use alluvium_actors::drive::outputs::Outputs;
use alluvium_actors::ports::task::Failure;

use super::keyed::KeyedState;
use super::link::{Link, Member};
use crate::record::batch::Slice;
use crate::record::{Key, KeySelector, Record};
use crate::state::{Hold, Plain};

/// The link of `aggregate`. (`reduce` is one, with an optional record as its value.)
pub(crate) struct Aggregate<K, A, U: Record, S, F, H> {
    state: KeyedState<K, Plain<A>, H>,
    selector: S,
    zero: A,
    step: F,
    out: Slice<U>,
    next: Box<dyn Link<U>>,
}

impl<K, A, U: Record, S, F, H> Aggregate<K, A, U, S, F, H> {
    pub(crate) fn new(
        state: KeyedState<K, Plain<A>, H>,
        selector: S,
        zero: A,
        step: F,
        next: Box<dyn Link<U>>,
    ) -> Aggregate<K, A, U, S, F, H> {
        Aggregate { state, selector, zero, step, out: Slice::new(), next }
    }
}

impl<K, A, T, U, S, F, H> Link<T> for Aggregate<K, A, U, S, F, H>
where
    K: Key,
    A: Record,
    T: Record,
    U: Record,
    S: KeySelector<T, K>,
    F: Fn(&K, &mut A, T) -> U,
    H: Hold<Plain<A>>,
{
    fn push(&mut self, slice: &mut Slice<T>, outputs: &mut Outputs) -> Result<(), Failure> {
        let Aggregate { state, selector, zero, step, out, next } = self;
        state.site.place.enter();
        out.records.reserve(slice.len());
        state.table.update_batch(
            &slice.hashes,
            slice.records.drain(..),
            selector,
            || zero.clone(),
            |key, value, record| out.records.push(step(key, value, record)),
        );
        slice.clear();
        next.push(out, outputs)
    }
}

impl<K: Key, A: Record, U: Record, S, F, H: Hold<Plain<A>>> Member for Aggregate<K, A, U, S, F, H> {
    fn walk(&mut self, visit: &mut dyn FnMut(&mut dyn Member)) {
        visit(&mut self.state);
        self.next.walk(visit);
    }
}
