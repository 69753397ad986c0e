//! Two streams of different types as the inputs of one operator.

use std::panic::Location;
use std::sync::Arc;

use alluvium_actors::ids::OperatorUid;

use super::builder::{Operator, Place};
use super::keyed::KeyedStream;
use super::stream::Stream;
use crate::operator::assembly::{Next, Prototype, Recipe, StreamType};
use crate::operator::chain::Chain;
use crate::operator::co_process::{CoProcess, KeyedCoProcess};
use crate::operator::connect::Connect;
use crate::operator::head::TwoInputs;
use crate::operator::keyed::KeyedState;
use crate::record::{Key, KeySelector, Record};
use crate::state::{Inline, StateSet, is_large};

/// Two connected streams: one function for each. See [`Stream::connect`].
#[derive(Clone, Debug)]
pub struct ConnectedStreams<A, B> {
    left: Stream<A>,
    right: Stream<B>,
}

impl<A: Record, B: Record> ConnectedStreams<A, B> {
    pub(super) fn new(left: Stream<A>, right: Stream<B>) -> ConnectedStreams<A, B> {
        ConnectedStreams { left, right }
    }

    /// Calls `left` with each record of the left stream and `right` with each of the right one; the stream of what they return.
    #[track_caller]
    pub fn map<U: Record>(
        &self,
        left: impl Fn(A) -> U + Clone + Send + 'static,
        right: impl Fn(B) -> U + Clone + Send + 'static,
    ) -> Stream<U> {
        let left = move |record| std::iter::once(left(record));
        let right = move |record| std::iter::once(right(record));
        self.then("connected map", Location::caller(), left, right)
    }

    /// As [`ConnectedStreams::map`]; the stream of everything that the functions return: collections, options, iterators.
    #[track_caller]
    pub fn flat_map<U, I, J>(
        &self,
        left: impl Fn(A) -> I + Clone + Send + 'static,
        right: impl Fn(B) -> J + Clone + Send + 'static,
    ) -> Stream<U>
    where
        U: Record,
        I: IntoIterator<Item = U> + 'static,
        J: IntoIterator<Item = U> + 'static,
    {
        self.then("connected flat_map", Location::caller(), left, right)
    }

    fn then<U, I, J>(
        &self,
        kind: &'static str,
        location: Place,
        left: impl Fn(A) -> I + Clone + Send + 'static,
        right: impl Fn(B) -> J + Clone + Send + 'static,
    ) -> Stream<U>
    where
        U: Record,
        I: IntoIterator<Item = U> + 'static,
        J: IntoIterator<Item = U> + 'static,
    {
        let functions = Prototype::new((left, right));
        let recipe = Recipe::Join(Arc::new(move |site, next: Next, parts| {
            let (left, right) = functions.copy();
            let link = Connect::new(left, right, next.into_link::<U>(), site.place);
            Ok(Box::new(Chain::new(TwoInputs::<A, B, _>::new(link), parts, site.task)))
        }));
        let mut operator = Operator::new(kind, location, None, recipe);
        operator.inputs = vec![self.left.input(), self.right.input()];
        operator.output = Some(StreamType::of::<U>());
        Stream::of_operator(&self.left.shared, operator)
    }
}

/// Two connected streams that are grouped by keys of the same type. See [`KeyedStream::connect`].
#[derive(Clone, Debug)]
pub struct ConnectedKeyedStreams<K, A, B, L: Clone, R: Clone> {
    left: KeyedStream<K, A, L>,
    right: KeyedStream<K, B, R>,
}

impl<K, A, B, L, R> ConnectedKeyedStreams<K, A, B, L, R>
where
    K: Key,
    A: Record,
    B: Record,
    L: KeySelector<A, K>,
    R: KeySelector<B, K>,
{
    pub(super) fn new(left: KeyedStream<K, A, L>, right: KeyedStream<K, B, R>) -> Self {
        ConnectedKeyedStreams { left, right }
    }

    /// Runs an operator of your own over the records of both streams, with state for each key. The state is found again by `uid`.
    #[track_caller]
    pub fn process<P: KeyedCoProcess<Key = K, Left = A, Right = B>>(&self, uid: &str, process: P) -> Stream<P::Out> {
        let key = OperatorUid::new(uid);
        let (states, sides) = (process.state().descriptors(), process.side_outputs().into_declared());
        let prototype = Prototype::new((self.left.selector.clone(), self.right.selector.clone(), process));
        let recipe = Recipe::Join(Arc::new(move |site, next: Next, parts| {
            let (left, right, process) = prototype.copy();
            let task = site.task.clone();
            let (next, sides) = next.into_links::<P::Out>();
            let (uid, states) = (key.clone(), process.state().descriptors());
            Ok(if is_large::<<P::State as StateSet>::Row>() {
                let state = KeyedState::<_, _, Box<<P::State as StateSet>::Row>>::new(site, uid, states);
                let link = CoProcess::new(state, left, right, process, next, sides);
                Box::new(Chain::new(TwoInputs::<A, B, _>::new(link), parts, task))
            } else {
                let state = KeyedState::<_, _, Inline<<P::State as StateSet>::Row>>::new(site, uid, states);
                let link = CoProcess::new(state, left, right, process, next, sides);
                Box::new(Chain::new(TwoInputs::<A, B, _>::new(link), parts, task))
            })
        }));
        let mut operator = Operator::new("connected process", Location::caller(), Some(uid), recipe);
        operator.inputs = vec![self.left.input(), self.right.input()];
        operator.output = Some(StreamType::of::<P::Out>());
        operator.states = states;
        operator.sides = sides;
        Stream::of_operator(&self.left.stream.shared, operator)
    }
}
