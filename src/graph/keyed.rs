//! Streams that are grouped by a key, and what can be done with them.

use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;

use alluvium_actors::ids::OperatorUid;

use super::builder::{Exchange, Input, Operator, Place};
use super::connected::ConnectedKeyedStreams;
use super::stream::Stream;
use crate::operator::aggregate::Aggregate;
use crate::operator::assembly::{AnyLink, AnyPartitioner, Next, PartitionRecipe, Prototype, Recipe, Site, StreamType};
use crate::operator::hash::Hash;
use crate::operator::keyed::KeyedState;
use crate::operator::process::{KeyedProcess, Process};
use crate::record::{Key, KeySelector, Record};
use crate::state::{Hold, Inline, Plain, StateDescriptor, StateKind, StateSet, is_large};

/// The name of the state that `aggregate` and `reduce` keep: they have only one.
const VALUE: &str = "value";

/// A stream of records of type `T`, grouped by keys of type `K`: all records of a key are processed by one subtask, in the order in which they come from each
/// upstream subtask. `S` is how the key is found.
#[derive(Debug)]
pub struct KeyedStream<K, T, S> {
    pub(super) stream: Stream<T>,
    pub(super) selector: S,
    location: Place,
    key: PhantomData<fn() -> K>,
}

impl<K, T, S: Clone> Clone for KeyedStream<K, T, S> {
    fn clone(&self) -> KeyedStream<K, T, S> {
        KeyedStream {
            stream: self.stream.clone(),
            selector: self.selector.clone(),
            location: self.location,
            key: PhantomData,
        }
    }
}

impl<K: Key, T: Record, S: KeySelector<T, K>> KeyedStream<K, T, S> {
    pub(super) fn new(stream: Stream<T>, selector: S, location: Place) -> KeyedStream<K, T, S> {
        KeyedStream { stream, selector, location, key: PhantomData }
    }

    /// Keeps one value per key, `zero` at first. `step` changes it with each record and gives what is emitted. The state is found again by `uid`.
    #[track_caller]
    pub fn aggregate<A: Record, U: Record>(
        &self,
        uid: &str,
        zero: A,
        step: impl Fn(&K, &mut A, T) -> U + Clone + Send + 'static,
    ) -> Stream<U> {
        self.aggregated("aggregate", uid, Location::caller(), zero, step)
    }

    /// Combines all records of a key into one, and emits it after each. The first record of a key is taken as it is. The state is found again by `uid`.
    #[track_caller]
    pub fn reduce(&self, uid: &str, combine: impl Fn(T, T) -> T + Clone + Send + 'static) -> Stream<T> {
        self.aggregated("reduce", uid, Location::caller(), None, move |_: &K, reduced: &mut Option<T>, record| {
            let combined = match reduced.take() {
                None => record,
                Some(before) => combine(before, record),
            };
            reduced.insert(combined).clone()
        })
    }

    /// Runs an operator of your own over the records, with state for each key. The state is found again by `uid`.
    #[track_caller]
    pub fn process<P: KeyedProcess<Key = K, In = T>>(&self, uid: &str, process: P) -> Stream<P::Out> {
        let key = OperatorUid::new(uid);
        let (states, sides) = (process.state().descriptors(), process.side_outputs().into_declared());
        let prototype = Prototype::new((self.selector.clone(), process));
        let recipe = Recipe::Link(Arc::new(move |site, next: Next| {
            let (selector, process) = prototype.copy();
            let (next, sides) = next.into_links::<P::Out>();
            let (uid, states) = (key.clone(), process.state().descriptors());
            Ok(if is_large::<<P::State as StateSet>::Row>() {
                let state = KeyedState::<_, _, Box<<P::State as StateSet>::Row>>::new(site, uid, states);
                AnyLink::new::<T>(Process::new(state, selector, process, next, sides))
            } else {
                let state = KeyedState::<_, _, Inline<<P::State as StateSet>::Row>>::new(site, uid, states);
                AnyLink::new::<T>(Process::new(state, selector, process, next, sides))
            })
        }));
        let mut operator = Operator::new("process", Location::caller(), Some(uid), recipe);
        operator.states = states;
        operator.sides = sides;
        self.then(operator)
    }

    /// Two streams with keys of the same type as the two inputs of one operator: records with equal keys meet in its state.
    #[track_caller]
    pub fn connect<U: Record, R: KeySelector<U, K>>(
        &self,
        other: &KeyedStream<K, U, R>,
    ) -> ConnectedKeyedStreams<K, T, U, S, R> {
        let mut right = other.clone();
        if !self.stream.shared.is_same_job(&other.stream.shared, Location::caller()) {
            right.stream.upstreams.clear();
        }
        ConnectedKeyedStreams::new(self.clone(), right)
    }

    /// This stream as an input: every edge hashes.
    pub(super) fn input(&self) -> Input {
        let selector = Prototype::new(self.selector.clone());
        let recipe: PartitionRecipe = Arc::new(move |site: Site, target, _| {
            let seed = site.task.hash_seed;
            AnyPartitioner::new::<T>(Hash::<T, K, S>::new(selector.copy(), seed, target, site.place))
        });
        let mut upstreams = self.stream.upstreams.clone();
        for upstream in &mut upstreams {
            upstream.exchange = Exchange::Hash { recipe: Arc::clone(&recipe), location: self.location };
        }
        Input { upstreams, stream: StreamType::of::<T>() }
    }

    fn aggregated<A: Record, U: Record>(
        &self,
        kind: &'static str,
        uid: &str,
        location: Place,
        zero: A,
        step: impl Fn(&K, &mut A, T) -> U + Clone + Send + 'static,
    ) -> Stream<U> {
        let key = OperatorUid::new(uid);
        let prototype = Prototype::new((self.selector.clone(), zero, step));
        let recipe = Recipe::Link(Arc::new(move |site, next: Next| {
            let (selector, zero, step) = prototype.copy();
            let (uid, next) = (key.clone(), next.into_link::<U>());
            Ok(if is_large::<Plain<A>>() {
                let state = plain_state::<K, A, Box<Plain<A>>>(site, uid);
                AnyLink::new::<T>(Aggregate::new(state, selector, zero, step, next))
            } else {
                let state = plain_state::<K, A, Inline<Plain<A>>>(site, uid);
                AnyLink::new::<T>(Aggregate::new(state, selector, zero, step, next))
            })
        }));
        let mut operator = Operator::new(kind, location, Some(uid), recipe);
        operator.states = vec![plain_descriptor::<A>()];
        self.then(operator)
    }

    fn then<U: Record>(&self, mut operator: Operator) -> Stream<U> {
        operator.inputs = vec![self.input()];
        operator.output = Some(StreamType::of::<U>());
        Stream::of_operator(&self.stream.shared, operator)
    }
}

fn plain_state<K: Key, A: Record, H: Hold<Plain<A>>>(site: Site, uid: OperatorUid) -> KeyedState<K, Plain<A>, H> {
    KeyedState::new(site, uid, vec![plain_descriptor::<A>()])
}

fn plain_descriptor<A>() -> StateDescriptor {
    StateDescriptor::new(StateKind::Value, VALUE, &[std::any::type_name::<A>()])
}
