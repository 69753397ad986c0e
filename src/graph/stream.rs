//! Streams, and what can be done with one record at a time.

use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;

use alluvium_actors::ids::OperatorUid;

use super::builder::{End, Exchange, Input, Operator, Place, Shared, Upstream, at};
use super::connected::ConnectedStreams;
use super::error::BuildError;
use super::keyed::KeyedStream;
use crate::connect::adapter::committer_factory;
use crate::connect::for_each::ForEach;
use crate::connect::sink::{Guarantee, Sink};
use crate::connect::sink_link::SinkLink;
use crate::error::OperatorResult;
use crate::operator::assembly::{AnyLink, Prototype, Recipe, StreamType};
use crate::operator::filter::Filter;
use crate::operator::flat_map::FlatMap;
use crate::operator::map::{Map, TryMap};
use crate::record::{Borrowed, Key, Owned, Record};

/// A stream of records of type `T`: the output of an operator, or the union of several. A handle: cheap to clone, and each use of it adds
/// a consumer that gets every record.
///
/// User functions are cloned for every subtask, so they are `Clone + Send`. They are `Fn`: what a function remembers from record to record no checkpoint
/// knows.
#[derive(Debug)]
pub struct Stream<T> {
    pub(super) shared: Shared,
    pub(super) upstreams: Vec<Upstream>,
    record: PhantomData<fn() -> T>,
}

impl<T> Clone for Stream<T> {
    fn clone(&self) -> Stream<T> {
        Stream { shared: self.shared.clone(), upstreams: self.upstreams.clone(), record: PhantomData }
    }
}

impl<T: Record> Stream<T> {
    /// The output of an operator that is added now.
    pub(super) fn of_operator(shared: &Shared, operator: Operator) -> Stream<T> {
        let upstream = Upstream { operator: shared.add(operator), exchange: Exchange::Automatic };
        Stream { shared: shared.clone(), upstreams: vec![upstream], record: PhantomData }
    }

    /// Calls `function` with each record; the stream of what it returns.
    #[track_caller]
    pub fn map<U: Record>(&self, function: impl Fn(T) -> U + Clone + Send + 'static) -> Stream<U> {
        let function = Prototype::new(function);
        self.then("map", Location::caller(), move |site, next| {
            AnyLink::new::<T>(Map::new(function.copy(), next.into_link::<U>(), site.place))
        })
    }

    /// As [`Stream::map`], for a function that can fail; an error fails the subtask and goes through the restart strategy.
    #[track_caller]
    pub fn try_map<U: Record>(&self, function: impl Fn(T) -> OperatorResult<U> + Clone + Send + 'static) -> Stream<U> {
        let function = Prototype::new(function);
        self.then("try_map", Location::caller(), move |site, next| {
            AnyLink::new::<T>(TryMap::new(function.copy(), next.into_link::<U>(), site.place))
        })
    }

    /// The records for which `predicate` is true.
    #[track_caller]
    pub fn filter(&self, predicate: impl Fn(&T) -> bool + Clone + Send + 'static) -> Stream<T> {
        let predicate = Prototype::new(predicate);
        self.then("filter", Location::caller(), move |site, next| {
            AnyLink::new::<T>(Filter::new(predicate.copy(), next.into_link::<T>(), site.place))
        })
    }

    /// Calls `function` with each record; the stream of everything that it returns: a collection, an option, an iterator.
    #[track_caller]
    pub fn flat_map<U: Record, I: IntoIterator<Item = U> + 'static>(
        &self,
        function: impl Fn(T) -> I + Clone + Send + 'static,
    ) -> Stream<U> {
        let function = Prototype::new(function);
        self.then("flat_map", Location::caller(), move |site, next| {
            AnyLink::new::<T>(FlatMap::new(function.copy(), next.into_link::<U>(), site.place))
        })
    }

    /// Groups the records by a key that stands in them. Nothing is copied.
    #[track_caller]
    pub fn key_by<K: Key, F>(&self, key: F) -> KeyedStream<K, T, Borrowed<F>>
    where
        F: Fn(&T) -> &K + Clone + Send + 'static,
    {
        KeyedStream::new(self.partitioned_by_key(), Borrowed(key), Location::caller())
    }

    /// Groups the records by a key that is computed from them.
    #[track_caller]
    pub fn key_by_value<K: Key, F>(&self, key: F) -> KeyedStream<K, T, Owned<F>>
    where
        F: Fn(&T) -> K + Clone + Send + 'static,
    {
        KeyedStream::new(self.partitioned_by_key(), Owned(key), Location::caller())
    }

    /// Two streams of different types as the two inputs of one operator.
    #[track_caller]
    pub fn connect<U: Record>(&self, other: &Stream<U>) -> ConnectedStreams<T, U> {
        let mut right = other.clone();
        if !self.shared.is_same_job(&other.shared, Location::caller()) {
            right.upstreams.clear();
        }
        ConnectedStreams::new(self.clone(), right)
    }

    /// This stream and the others together; between them there is no order.
    #[track_caller]
    #[must_use]
    pub fn union(&self, others: &[&Stream<T>]) -> Stream<T> {
        let mut union = self.clone();
        for other in others {
            if self.shared.is_same_job(&other.shared, Location::caller()) {
                union.upstreams.extend(other.upstreams.iter().cloned());
            }
        }
        union
    }

    /// Spreads the records evenly over the subtasks of the consumer.
    #[must_use]
    pub fn rebalance(&self) -> Stream<T> {
        self.partitioned(Exchange::Rebalance)
    }

    /// Each subtask sends to the consumer's subtask of the same index; both need the same parallelism. The consumer then runs fused with the producer where
    /// it can. That is what happens anyway when nothing is said, but asking for it makes a difference of parallelism an error.
    #[must_use]
    pub fn forward(&self) -> Stream<T> {
        self.partitioned(Exchange::Forward)
    }

    /// Writes the records into a sink. Its state is found again by `uid`.
    #[track_caller]
    pub fn sink(&self, uid: &str, sink: impl Sink<T>) -> StreamEnd {
        self.sink_of(uid, sink, "sink", Location::caller())
    }

    fn sink_of<S: Sink<T>>(&self, uid: &str, sink: S, kind: &'static str, location: Place) -> StreamEnd {
        let sink = Arc::new(sink);
        let key = OperatorUid::new(uid);
        let exactly_once = sink.guarantee() == Guarantee::ExactlyOnce;
        let committer = committer_factory::<T, S>(Arc::clone(&sink), key.clone());
        let recipe =
            Recipe::Tail(Arc::new(move |site| Ok(AnyLink::new::<T>(SinkLink::<T, S>::new(&sink, key.clone(), site)?))));
        let mut operator = Operator::new(kind, location, Some(uid), recipe);
        operator.inputs = vec![self.input()];
        operator.end = End::Sink { committer, exactly_once };
        StreamEnd { operator: self.shared.add(operator), shared: self.shared.clone() }
    }

    /// Calls `function` with each record, at least once: after a failure records since the last checkpoint come again. For outside effects that
    /// can bear it.
    #[track_caller]
    pub fn for_each(&self, uid: &str, function: impl Fn(T) + Clone + Send + 'static) -> StreamEnd {
        self.sink_of(uid, ForEach::new(function), "for_each", Location::caller())
    }

    /// Sets how many subtasks the operator has that makes this stream.
    #[track_caller]
    #[must_use = "settings are made on the operator, but the stream is needed to go on"]
    pub fn parallelism(&self, parallelism: u32) -> Stream<T> {
        self.set("parallelism", Location::caller(), |operator| operator.parallelism = Some(parallelism))
    }

    /// Sets how many key groups the operator has that makes this stream, 1 to 32,768. It cannot change while the job's state is kept.
    #[track_caller]
    #[must_use = "settings are made on the operator, but the stream is needed to go on"]
    pub fn max_parallelism(&self, max_parallelism: u32) -> Stream<T> {
        self.set("max_parallelism", Location::caller(), |operator| operator.max_parallelism = Some(max_parallelism))
    }

    /// Names the operator that makes this stream: for people, nothing is found by it.
    #[track_caller]
    #[must_use = "settings are made on the operator, but the stream is needed to go on"]
    pub fn name(&self, name: &str) -> Stream<T> {
        self.set("name", Location::caller(), |operator| operator.name = Some(name.to_owned()))
    }

    /// This stream as an input.
    pub(super) fn input(&self) -> Input {
        Input { upstreams: self.upstreams.clone(), stream: StreamType::of::<T>() }
    }

    fn then<U: Record>(
        &self,
        kind: &'static str,
        location: Place,
        recipe: impl Fn(crate::operator::assembly::Site, AnyLink) -> AnyLink + Send + Sync + 'static,
    ) -> Stream<U> {
        let recipe = Recipe::Link(Arc::new(move |site, next| Ok(recipe(site, next))));
        let mut operator = Operator::new(kind, location, None, recipe);
        operator.inputs = vec![self.input()];
        operator.output = Some(StreamType::of::<U>());
        Stream::of_operator(&self.shared, operator)
    }

    fn set(&self, setting: &'static str, location: Place, change: impl FnOnce(&mut Operator)) -> Stream<T> {
        let mut builder = self.shared.lock();
        if let [only] = &self.upstreams[..] {
            change(&mut builder.operators[only.operator]);
        } else {
            builder.errors.push(BuildError::SettingOfUnion { setting, location: at(location) });
        }
        drop(builder);
        self.clone()
    }

    fn partitioned(&self, exchange: Exchange) -> Stream<T> {
        self.refuse_two_partitionings(exchange.name());
        let mut stream = self.clone();
        for upstream in &mut stream.upstreams {
            upstream.exchange = exchange.clone();
        }
        stream
    }

    fn partitioned_by_key(&self) -> Stream<T> {
        self.refuse_two_partitionings("key_by");
        self.clone()
    }

    fn refuse_two_partitionings(&self, second: &'static str) {
        let mut builder = self.shared.lock();
        for upstream in &self.upstreams {
            if !matches!(upstream.exchange, Exchange::Automatic) {
                let operator = builder.operators[upstream.operator].label();
                let first = upstream.exchange.name();
                builder.errors.push(BuildError::TwoPartitionings { operator, first, second });
            }
        }
    }
}

/// Where a stream ends: the settings of a sink.
#[derive(Debug)]
pub struct StreamEnd {
    shared: Shared,
    operator: usize,
}

impl StreamEnd {
    /// Sets how many subtasks the sink has.
    pub fn parallelism(self, parallelism: u32) -> StreamEnd {
        self.shared.lock().operators[self.operator].parallelism = Some(parallelism);
        self
    }

    /// Names the sink: for people, nothing is found by it.
    pub fn name(self, name: &str) -> StreamEnd {
        self.shared.lock().operators[self.operator].name = Some(name.to_owned());
        self
    }
}
