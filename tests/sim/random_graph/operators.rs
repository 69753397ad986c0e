//! The operators of the random graphs that are traits, and the functions of the others.

use std::marker::PhantomData;

use alluvium::operator::{
    Access, BroadcastAccess, BroadcastContext, BroadcastProcess, BroadcastStateView, CoAccess, CoContext, Context,
    KeyedBroadcastAccess, KeyedBroadcastContext, KeyedBroadcastKeyedContext, KeyedBroadcastProcess,
    KeyedBroadcastStateAccess, KeyedBroadcastStateView, KeyedCoProcess, KeyedProcess, OpenContext, ProcessContext,
    ProcessFunction, SideOutput, SideOutputs, StatefulAccess, StatefulContext, StatefulProcess,
};
use alluvium::record::Key;
use alluvium::state::{
    AggregateFunction, Aggregating, BroadcastMap, BroadcastView, List, Map, MapAccess, ReduceFunction, Reducing,
    SplitList, UnionList, Value,
};
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

/// Numbers the records of its instance: every record stands in a split list, and how many there are in a union list and, changed each time, in the first element of another list.
#[derive(Clone, Debug)]
pub(crate) struct Numbered<T, U> {
    pub(crate) place: Place,
    pub(crate) types: PhantomData<fn(T) -> U>,
}

impl<T: Carries + Clone, U: Carries + Clone> StatefulProcess for Numbered<T, U> {
    type In = T;
    type Out = U;
    type State = (SplitList<Id>, UnionList<(u32, u64)>, SplitList<u64>);

    fn state(&self) -> Self::State {
        (SplitList::named("all"), UnionList::named("counts"), SplitList::named("count"))
    }

    /// Every instance says from the first checkpoint on how many it has, so a restored one hears of all.
    fn open(&self, (all, mut counts, mut count): StatefulAccess<'_, Self>, context: OpenContext) -> OperatorResult {
        if context.is_restored() {
            let told: Vec<u32> = counts.iter().map(|(instance, _)| *instance).collect();
            counts.retain(|(instance, _)| *instance == context.subtask());
            let own = all.len() as u64;
            let agree = counts.iter().eq([&(context.subtask(), own)]) && count.iter().eq([&own]);
            if !told.iter().copied().eq(0..context.parallelism()) || !agree {
                let (counts, count) = (counts.iter().collect::<Vec<_>>(), count.iter().collect::<Vec<_>>());
                return Err(OperatorError::unrecoverable(format!(
                    "the lists of instance {} do not agree: {own} records, {counts:?} of {told:?}, {count:?}",
                    context.subtask()
                )));
            }
        } else {
            counts.push((context.subtask(), 0));
            count.push(0);
        }
        Ok(())
    }

    fn process(
        &self,
        record: T,
        (mut all, mut counts, mut count): StatefulAccess<'_, Self>,
        mut context: StatefulContext<'_, Self>,
    ) -> OperatorResult {
        self.place.fuse.burn();
        let item = record.into_item();
        all.push(item.id.clone());
        let times = all.iter().filter(|id| **id == item.id).count() as u16;
        let sequence = all.len() as u64;
        if let Some((_, last)) = counts.get_mut(0) {
            *last = sequence;
        }
        if sequence.is_multiple_of(2) {
            count.replace([sequence]);
        } else if let Some(last) = count.get_mut(0) {
            *last = sequence;
        }
        context.emit(U::of(item.mark(self.place.node, 0, times, sequence)));
        Ok(())
    }
}

/// How often each rule came, and how many came.
pub(crate) type Rules = (BroadcastMap<Id, u16>, BroadcastMap<u8, u64>);

fn rules() -> Rules {
    (BroadcastMap::named("times of rules"), BroadcastMap::named("rules"))
}

/// Adds a rule; how often it came, and the how many-th it is.
fn add_rule(id: &Id, (mut times, mut count): (MapAccess<'_, Id, u16>, MapAccess<'_, u8, u64>)) -> (u16, u64) {
    let times = times.get_or_insert_with(id, || 0);
    *times += 1;
    let count = count.get_or_insert_with(&0, || 0);
    *count += 1;
    (*times, *count)
}

/// Fails for good when the two maps do not agree.
fn agree((times, count): (BroadcastView<'_, Id, u16>, BroadcastView<'_, u8, u64>)) -> OperatorResult {
    let sum: u64 = times.iter().map(|(_, times)| u64::from(*times)).sum();
    let count = count.get(&0).copied().unwrap_or_default();
    if sum == count {
        return Ok(());
    }
    Err(OperatorError::unrecoverable(format!(
        "the broadcast states do not agree: {count} rules, and {sum} by their names"
    )))
}

/// Passes records on and numbers the rules.
#[derive(Clone, Debug)]
pub(crate) struct Ruled<T, R, U> {
    pub(crate) place: Place,
    pub(crate) types: PhantomData<fn(T, R) -> U>,
}

impl<T: Carries + Clone, R: Carries + Clone, U: Carries + Clone> BroadcastProcess for Ruled<T, R, U> {
    type In = T;
    type Broadcast = R;
    type Out = U;
    type State = Rules;

    fn state(&self) -> Rules {
        rules()
    }

    fn process(
        &self,
        record: T,
        state: BroadcastStateView<'_, Self>,
        mut context: BroadcastContext<'_, Self>,
    ) -> OperatorResult {
        agree(state)?;
        context.emit(self.place.map(record));
        Ok(())
    }

    fn process_broadcast(
        &self,
        rule: R,
        state: BroadcastAccess<'_, Self>,
        mut context: BroadcastContext<'_, Self>,
    ) -> OperatorResult {
        let item = rule.into_item();
        let (times, count) = add_rule(&item.id, state);
        let detail = SIDE + context.subtask() as u16;
        context.emit(U::of(item.mark(self.place.node, detail, times, count)));
        Ok(())
    }
}

/// Numbers the records of each key, and the rules.
#[derive(Clone, Debug)]
pub(crate) struct KeyedRuled<T, R, U>(pub(crate) Ruled<T, R, U>);

impl<T: Carries + Clone, R: Carries + Clone, U: Carries + Clone> KeyedBroadcastProcess for KeyedRuled<T, R, U> {
    type Key = u64;
    type In = T;
    type Broadcast = R;
    type Out = U;
    type State = (Value<u64>, Map<Id, u16>);
    type BroadcastState = Rules;

    fn state(&self) -> Self::State {
        (Value::named("sequence"), Map::named("times"))
    }

    fn broadcast_state(&self) -> Rules {
        rules()
    }

    fn process(
        &self,
        record: T,
        (mut last, mut seen): KeyedBroadcastAccess<'_, Self>,
        broadcast: KeyedBroadcastStateView<'_, Self>,
        mut context: KeyedBroadcastKeyedContext<'_, Self>,
    ) -> OperatorResult {
        self.0.place.fuse.burn();
        agree(broadcast)?;
        let item = record.into_item();
        let sequence = last.get().copied().unwrap_or_default() + 1;
        last.set(sequence);
        let times = seen.get(&item.id).copied().unwrap_or_default() + 1;
        seen.insert(item.id.clone(), times);
        context.emit(U::of(item.mark(self.0.place.node, 0, times, sequence)));
        Ok(())
    }

    fn process_broadcast(
        &self,
        rule: R,
        broadcast: KeyedBroadcastStateAccess<'_, Self>,
        mut context: KeyedBroadcastContext<'_, Self>,
    ) -> OperatorResult {
        let item = rule.into_item();
        let (times, count) = add_rule(&item.id, broadcast);
        let detail = SIDE + context.subtask() as u16;
        context.emit(U::of(item.mark(self.0.place.node, detail, times, count)));
        Ok(())
    }
}
