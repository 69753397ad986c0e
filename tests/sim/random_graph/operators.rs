//! The operators of the random graphs that are traits, and the functions of the others.

use std::marker::PhantomData;

use alluvium::operator::{
    Access, CoAccess, CoContext, Context, KeyedCoProcess, KeyedProcess, ProcessContext, ProcessFunction, SideOutput,
    SideOutputs,
};
use alluvium::record::Key;
use alluvium::state::{AggregateFunction, Aggregating, List, Map, ReduceFunction, Reducing, Value};
use alluvium::{OperatorError, OperatorResult};

use super::record::{Carries, Decision, Id, Note, SIDE};
use crate::chance::Fuse;

pub(crate) const BY_SIDE: SideOutput<Note> = SideOutput::named("by the side");

/// A key, in one of two types.
pub(crate) trait NodeKey: Key {
    fn of(key: u64) -> Self;
}

impl NodeKey for u64 {
    fn of(key: u64) -> u64 {
        key
    }
}

impl NodeKey for String {
    fn of(key: u64) -> String {
        format!("key {key}")
    }
}

/// What every operator knows: its number, and when it panics.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) node: u16,
    pub(crate) fuse: Fuse,
}

impl Place {
    pub(crate) fn keeps(&self, id: &Id, keep: u64) -> bool {
        self.fuse.burn();
        id.decide(self.node, Decision::Keep, 4) < keep
    }

    pub(crate) fn by_side(&self, id: &Id) -> bool {
        id.decide(self.node, Decision::Side, 3) == 0
    }

    pub(crate) fn key<K: NodeKey>(&self, id: &Id, keys: u64) -> K {
        K::of(id.decide(self.node, Decision::Key, keys))
    }

    pub(crate) fn map<T: Carries, U: Carries>(&self, record: T) -> U {
        self.fuse.burn();
        U::of(record.into_item().step(self.node, 0))
    }

    /// The copies of a record, whose details begin at `first`.
    pub(crate) fn copies<T: Carries, U: Carries>(&self, record: T, most: u64, first: u16) -> Vec<U> {
        self.fuse.burn();
        let item = record.into_item();
        let copies = item.id.decide(self.node, Decision::Copies, most + 1) as u16;
        (0..copies).map(|copy| U::of(item.clone().step(self.node, first + copy))).collect()
    }
}

/// Passes records on, some by the side.
#[derive(Clone, Debug)]
pub(crate) struct Pass<T, U> {
    pub(crate) place: Place,
    pub(crate) side: bool,
    pub(crate) tells_subtask: bool,
    pub(crate) types: PhantomData<fn(T) -> U>,
}

impl<T: Carries + Clone, U: Carries + Clone> ProcessFunction for Pass<T, U> {
    type In = T;
    type Out = U;

    fn side_outputs(&self) -> SideOutputs {
        if self.side { SideOutputs::none().with(&BY_SIDE) } else { SideOutputs::none() }
    }

    fn process(&self, record: T, mut context: ProcessContext<'_, Self>) -> OperatorResult {
        self.place.fuse.burn();
        let item = record.into_item();
        let detail = if self.tells_subtask { context.subtask() as u16 + 1 } else { 0 };
        if self.side && self.place.by_side(&item.id) {
            return context.emit_to(&BY_SIDE, Note::of(item.step(self.place.node, detail + SIDE)));
        }
        context.emit(U::of(item.step(self.place.node, detail)));
        Ok(())
    }
}

/// What the nodes with keys have in common.
#[derive(Clone, Debug)]
pub(crate) struct Keyed<K, T, U> {
    pub(crate) place: Place,
    pub(crate) side: bool,
    pub(crate) types: PhantomData<fn(K, T) -> U>,
}

impl<K, T, U> Keyed<K, T, U> {
    fn sides(&self) -> SideOutputs {
        if self.side { SideOutputs::none().with(&BY_SIDE) } else { SideOutputs::none() }
    }
}

/// Emits a record that the state has numbered.
macro_rules! emit {
    ($keyed:expr, $context:ident, $item:ident, $detail:expr, $times:expr, $sequence:expr) => {{
        let by_side = $keyed.side && $keyed.place.by_side(&$item.id);
        let marked = $item.mark($keyed.place.node, $detail, $times, $sequence);
        if by_side {
            return $context.emit_to(&BY_SIDE, Note::of(marked));
        }
        $context.emit(U::of(marked));
        Ok(())
    }};
}

/// Keeps a number, and how often each record came.
#[derive(Clone, Debug)]
pub(crate) struct Two<K, T, U>(pub(crate) Keyed<K, T, U>);

impl<K: NodeKey, T: Carries + Clone, U: Carries + Clone> KeyedProcess for Two<K, T, U> {
    type Key = K;
    type In = T;
    type Out = U;
    type State = (Value<u64>, Map<Id, u16>);

    fn state(&self) -> Self::State {
        (Value::named("sequence"), Map::named("times"))
    }

    fn side_outputs(&self) -> SideOutputs {
        self.0.sides()
    }

    fn process(
        &self,
        record: T,
        (mut last, mut seen): Access<'_, Self>,
        mut context: Context<'_, Self>,
    ) -> OperatorResult {
        self.0.place.fuse.burn();
        let item = record.into_item();
        let sequence = last.get().copied().unwrap_or_default() + 1;
        last.set(sequence);
        let times = seen.get_or_insert_with(&item.id, || 0);
        *times += 1;
        let times = *times;
        emit!(self.0, context, item, 0, times, sequence)
    }
}

/// The greatest of what was added.
#[derive(Clone, Debug)]
pub(crate) struct Greatest;

impl ReduceFunction for Greatest {
    type Value = u64;

    fn reduce(stored: u64, added: u64) -> u64 {
        stored.max(added)
    }
}

/// How many were added, and their sum.
#[derive(Clone, Debug)]
pub(crate) struct Sum;

impl AggregateFunction for Sum {
    type In = u64;
    type Accumulator = (u64, u64);
    type Out = (u64, u64);

    fn create() -> (u64, u64) {
        (0, 0)
    }

    fn add((count, sum): &mut (u64, u64), added: u64) {
        *count += 1;
        *sum = sum.wrapping_add(added);
    }

    fn result(accumulator: &(u64, u64)) -> (u64, u64) {
        *accumulator
    }
}

/// So many records a list holds before it is emptied.
const LIST: u64 = 5;

/// Keeps every kind of state, and fails for good when they do not agree. The list is emptied now and then, and the map forgets old keys.
#[derive(Clone, Debug)]
pub(crate) struct Five<K, T, U>(pub(crate) Keyed<K, T, U>);

impl<K: NodeKey, T: Carries + Clone, U: Carries + Clone> KeyedProcess for Five<K, T, U> {
    type Key = K;
    type In = T;
    type Out = U;
    type State = (Value<u64>, List<u64>, Map<u64, u64>, Reducing<Greatest>, Aggregating<Sum>, Map<Id, u16>);

    fn state(&self) -> Self::State {
        (
            Value::named("sequence"),
            List::named("last few"),
            Map::named("last of each remainder"),
            Reducing::named("greatest"),
            Aggregating::named("sum"),
            Map::named("times"),
        )
    }

    fn side_outputs(&self) -> SideOutputs {
        self.0.sides()
    }

    fn process(
        &self,
        record: T,
        (mut last, mut few, mut remainders, mut greatest, mut sum, mut seen): Access<'_, Self>,
        mut context: Context<'_, Self>,
    ) -> OperatorResult {
        self.0.place.fuse.burn();
        let item = record.into_item();
        let sequence = last.get().copied().unwrap_or_default() + 1;
        last.set(sequence);
        if few.len() as u64 == LIST {
            few.clear();
        }
        few.push(sequence);
        remainders.insert(sequence % LIST, sequence);
        if sequence.is_multiple_of(7) {
            remainders.remove(&((sequence + 1) % LIST));
        }
        greatest.add(sequence);
        sum.add(sequence);
        let listed = few.iter().copied().eq(sequence - (sequence - 1) % LIST..=sequence);
        let forgotten = u64::from(sequence.is_multiple_of(7));
        let mapped = remainders.len() as u64 + forgotten == LIST.min(sequence)
            && remainders.iter().all(|(remainder, at)| at % LIST == *remainder && *at + LIST > sequence);
        let added = (sequence, sequence * (sequence + 1) / 2);
        if !listed || !mapped || greatest.get() != Some(&sequence) || sum.get() != Some(added) {
            let (few, map) = (few.iter().collect::<Vec<_>>(), remainders.iter().collect::<Vec<_>>());
            return Err(OperatorError::unrecoverable(format!(
                "at record {sequence} of a key the states do not agree: list {few:?}, map {map:?}, greatest {:?}, sum {:?}",
                greatest.get(),
                sum.get()
            )));
        }
        let times = seen.get(&item.id).copied().unwrap_or_default() + 1;
        seen.insert(item.id.clone(), times);
        emit!(self.0, context, item, 0, times, sequence)
    }
}

/// Keeps every record in a list.
#[derive(Clone, Debug)]
pub(crate) struct Listed<K, T, U>(pub(crate) Keyed<K, T, U>);

impl<K: NodeKey, T: Carries + Clone, U: Carries + Clone> KeyedProcess for Listed<K, T, U> {
    type Key = K;
    type In = T;
    type Out = U;
    type State = List<Id>;

    fn state(&self) -> List<Id> {
        List::named("all")
    }

    fn side_outputs(&self) -> SideOutputs {
        self.0.sides()
    }

    fn process(&self, record: T, mut all: Access<'_, Self>, mut context: Context<'_, Self>) -> OperatorResult {
        self.0.place.fuse.burn();
        let item = record.into_item();
        all.push(item.id.clone());
        let times = all.iter().filter(|id| **id == item.id).count() as u16;
        let sequence = all.len() as u64;
        emit!(self.0, context, item, 0, times, sequence)
    }
}

/// Numbers the records of a key over both sides.
#[derive(Clone, Debug)]
pub(crate) struct Join<T, R, U> {
    pub(crate) keyed: Keyed<u64, (T, R), U>,
}

impl<T: Carries, R: Carries, U: Carries> Join<T, R, U> {
    fn number(&self, id: &Id, (mut last, mut seen): (Last<'_>, Seen<'_>)) -> (u64, u16) {
        self.keyed.place.fuse.burn();
        let sequence = last.get().copied().unwrap_or_default() + 1;
        last.set(sequence);
        let times = seen.get(id).copied().unwrap_or_default() + 1;
        seen.insert(id.clone(), times);
        (sequence, times)
    }
}

type Last<'a> = alluvium::state::ValueAccess<'a, u64>;
type Seen<'a> = alluvium::state::MapAccess<'a, Id, u16>;

impl<T: Carries + Clone, R: Carries + Clone, U: Carries + Clone> KeyedCoProcess for Join<T, R, U> {
    type Key = u64;
    type Left = T;
    type Right = R;
    type Out = U;
    type State = (Value<u64>, Map<Id, u16>);

    fn state(&self) -> Self::State {
        (Value::named("sequence"), Map::named("times"))
    }

    fn side_outputs(&self) -> SideOutputs {
        self.keyed.sides()
    }

    fn process_left(&self, left: T, state: CoAccess<'_, Self>, mut context: CoContext<'_, Self>) -> OperatorResult {
        let item = left.into_item();
        // The sides are kept apart: a record that comes by both is not the same twice.
        let (sequence, times) = self.number(&item.id, state);
        emit!(self.keyed, context, item, 0, times, sequence)
    }

    fn process_right(&self, right: R, state: CoAccess<'_, Self>, mut context: CoContext<'_, Self>) -> OperatorResult {
        let item = right.into_item();
        let (sequence, times) = self.number(&item.id.then(self.keyed.place.node, SIDE, 0), state);
        emit!(self.keyed, context, item, SIDE, times, sequence)
    }
}
