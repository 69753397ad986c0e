//! A stream whose records are treated by what a broadcast stream says.

use std::panic::Location;
use std::sync::Arc;

use alluvium_actors::ids::OperatorUid;

use super::builder::{Exchange, Operator};
use super::keyed::KeyedStream;
use super::stream::Stream;
use crate::operator::assembly::{Next, Prototype, Recipe, StreamType};
use crate::operator::broadcast_process::{BroadcastLink, BroadcastProcess, KeyedBroadcastLink, KeyedBroadcastProcess};
use crate::operator::chain::Chain;
use crate::operator::head::TwoInputs;
use crate::operator::keyed::KeyedState;
use crate::operator::operator_backend::OperatorBackend;
use crate::record::{Key, KeySelector, Record};
use crate::state::{Inline, OperatorStateSet, StateSet, is_large};

/// A stream and a broadcast one. See [`Stream::connect_broadcast`].
#[derive(Clone, Debug)]
pub struct BroadcastConnectedStreams<A, B> {
    main: Stream<A>,
    broadcast: Stream<B>,
}

/// A stream with keys and a broadcast one. See [`KeyedStream::connect_broadcast`].
#[derive(Clone, Debug)]
pub struct BroadcastConnectedKeyedStreams<K, A, B, S: Clone> {
    main: KeyedStream<K, A, S>,
    broadcast: Stream<B>,
}

impl<T: Record> Stream<T> {
    /// This stream beside another one of which every subtask gets every record: rules, prices, whatever the records of this one are treated by.
    /// [`BroadcastProcess`] has an example.
    #[track_caller]
    pub fn connect_broadcast<U: Record>(&self, broadcast: &Stream<U>) -> BroadcastConnectedStreams<T, U> {
        let mut other = broadcast.broadcast_once();
        if !self.shared.is_same_job(&broadcast.shared, Location::caller()) {
            other.upstreams.clear();
        }
        BroadcastConnectedStreams { main: self.clone(), broadcast: other }
    }

    /// The stream as a broadcast one; it may have been made so already.
    fn broadcast_once(&self) -> Stream<T> {
        let is_broadcast = |exchange: &Exchange| matches!(exchange, Exchange::Broadcast);
        let done = !self.upstreams.is_empty() && self.upstreams.iter().all(|upstream| is_broadcast(&upstream.exchange));
        if done { self.clone() } else { self.broadcast() }
    }
}

impl<K: Key, T: Record, S: KeySelector<T, K>> KeyedStream<K, T, S> {
    /// This stream beside another one of which every subtask gets every record. [`KeyedBroadcastProcess`] has an example.
    #[track_caller]
    pub fn connect_broadcast<U: Record>(&self, broadcast: &Stream<U>) -> BroadcastConnectedKeyedStreams<K, T, U, S> {
        let mut other = broadcast.broadcast_once();
        if !self.stream.shared.is_same_job(&broadcast.shared, Location::caller()) {
            other.upstreams.clear();
        }
        BroadcastConnectedKeyedStreams { main: self.clone(), broadcast: other }
    }
}

impl<A: Record, B: Record> BroadcastConnectedStreams<A, B> {
    /// Runs an operator of your own over both, with broadcast state. The state is found again by `uid`.
    #[track_caller]
    pub fn process<P: BroadcastProcess<In = A, Broadcast = B>>(&self, uid: &str, process: P) -> Stream<P::Out> {
        let key = OperatorUid::new(uid);
        let (states, sides) = (process.state().descriptors(), process.side_outputs().into_declared());
        let prototype = Prototype::new(process);
        let recipe = Recipe::Join(Arc::new(move |site, next: Next, places| {
            let (process, task) = (prototype.copy(), site.task.clone());
            let (next, sides) = next.into_links::<P::Out>();
            let state = OperatorBackend::new(site, key.clone(), &process.state());
            let link = BroadcastLink::new(state, process, next, sides);
            Ok(Box::new(Chain::new(TwoInputs::<A, B, _>::new(link), places, task)))
        }));
        let mut operator = Operator::new("broadcast process", Location::caller(), Some(uid), recipe);
        operator.inputs = vec![self.main.input(), self.broadcast.input()];
        operator.output = Some(StreamType::of::<P::Out>());
        operator.states = states;
        operator.sides = sides;
        Stream::of_operator(&self.main.shared, operator)
    }
}

impl<K: Key, A: Record, B: Record, S: KeySelector<A, K>> BroadcastConnectedKeyedStreams<K, A, B, S> {
    /// Runs an operator of your own over both, with state for each key and broadcast state. The state is found again by `uid`.
    #[track_caller]
    pub fn process<P>(&self, uid: &str, process: P) -> Stream<P::Out>
    where
        P: KeyedBroadcastProcess<Key = K, In = A, Broadcast = B>,
    {
        let key = OperatorUid::new(uid);
        let mut states = process.state().descriptors();
        states.extend(process.broadcast_state().descriptors());
        let sides = process.side_outputs().into_declared();
        let prototype = Prototype::new((self.main.selector.clone(), process));
        let recipe = Recipe::Join(Arc::new(move |site, next: Next, places| {
            let ((selector, process), task) = (prototype.copy(), site.task.clone());
            let (next, sides) = next.into_links::<P::Out>();
            let (uid, states) = (key.clone(), process.state().descriptors());
            let broadcast = OperatorBackend::new(site.clone(), uid.clone(), &process.broadcast_state());
            Ok(if is_large::<<P::State as StateSet>::Row>() {
                let keyed = KeyedState::<_, _, Box<<P::State as StateSet>::Row>>::new(site, uid, states);
                let link = KeyedBroadcastLink::new((keyed, broadcast), selector, process, next, sides);
                Box::new(Chain::new(TwoInputs::<A, B, _>::new(link), places, task))
            } else {
                let keyed = KeyedState::<_, _, Inline<<P::State as StateSet>::Row>>::new(site, uid, states);
                let link = KeyedBroadcastLink::new((keyed, broadcast), selector, process, next, sides);
                Box::new(Chain::new(TwoInputs::<A, B, _>::new(link), places, task))
            })
        }));
        let mut operator = Operator::new("keyed broadcast process", Location::caller(), Some(uid), recipe);
        operator.inputs = vec![self.main.input(), self.broadcast.input()];
        operator.output = Some(StreamType::of::<P::Out>());
        operator.states = states;
        operator.sides = sides;
        Stream::of_operator(&self.main.stream.shared, operator)
    }
}
