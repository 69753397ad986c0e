//! Streams, and what can be done with one record at a time.

use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;

use alluvium_actors::ids::OperatorUid;

use super::builder::{End, Exchange, Input, Operator, Place, Shared, SinkPromise, Upstream};
use super::connected::ConnectedStreams;
use super::keyed::KeyedStream;
use crate::connect::adapter::committer_factory;
use crate::connect::for_each::ForEach;
use crate::connect::sink::Sink;
use crate::connect::sink_link::SinkLink;
use crate::error::OperatorResult;
use crate::operator::assembly::{AnyLink, Next, Prototype, Recipe, Site, StreamType};
use crate::operator::filter::Filter;
use crate::operator::flat_map::FlatMap;
use crate::operator::map::{Map, TryMap};
use crate::operator::operator_backend::OperatorBackend;
use crate::operator::process_function::{ProcessFunction, ProcessLink};
use crate::operator::side::{SideOutput, SideOutputs};
use crate::operator::split::{OTHERS, Split};
use crate::operator::stateful::{Stateful, StatefulProcess};
use crate::record::{Borrowed, Key, Owned, Record};
use crate::state::OperatorStateSet;

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
        let upstream = Upstream { operator: shared.add(operator), port: 0, exchange: Exchange::Automatic };
        Stream::of_upstreams(shared, vec![upstream])
    }

    /// The outputs of operators that are there, together.
    pub(super) fn of_upstreams(shared: &Shared, upstreams: Vec<Upstream>) -> Stream<T> {
        Stream { shared: shared.clone(), upstreams, record: PhantomData }
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

    /// Runs an operator of your own over the records: it may emit any number of records for each one, and to side outputs.
    #[track_caller]
    pub fn process<P: ProcessFunction<In = T>>(&self, process: P) -> Stream<P::Out> {
        let sides = process.side_outputs().into_declared();
        let prototype = Prototype::new(process);
        let recipe = Recipe::Link(Arc::new(move |site, next: Next| {
            let (next, sides) = next.into_links::<P::Out>();
            Ok(AnyLink::new::<T>(ProcessLink::new(prototype.copy(), next, sides, site)))
        }));
        let mut operator = Operator::new("process", Location::caller(), None, recipe);
        operator.inputs = vec![self.input()];
        operator.output = Some(StreamType::of::<P::Out>());
        operator.sides = sides;
        Stream::of_operator(&self.shared, operator)
    }

    /// Runs an operator of your own over the records, each instance of which keeps state: see [`StatefulProcess`]. The state is found again by `uid`.
    #[track_caller]
    pub fn stateful_process<P: StatefulProcess<In = T>>(&self, uid: &str, process: P) -> Stream<P::Out> {
        let key = OperatorUid::new(uid);
        let (states, sides) = (process.state().descriptors(), process.side_outputs().into_declared());
        let prototype = Prototype::new(process);
        let recipe = Recipe::Link(Arc::new(move |site, next: Next| {
            let process = prototype.copy();
            let (next, sides) = next.into_links::<P::Out>();
            let state = OperatorBackend::new(site, key.clone(), &process.state());
            Ok(AnyLink::new::<T>(Stateful::new(state, process, next, sides)))
        }));
        let mut operator = Operator::new("stateful process", Location::caller(), Some(uid), recipe);
        operator.inputs = vec![self.input()];
        operator.output = Some(StreamType::of::<P::Out>());
        operator.states = states;
        operator.sides = sides;
        Stream::of_operator(&self.shared, operator)
    }

    /// Two streams: of the records for which `predicate` is true, and of the others. Settings (parallelism, name, ...) are made on the first one. A stream
    /// that is not used costs nothing; its records are dropped.
    ///
    /// ```
    /// use alluvium::Job;
    /// use alluvium::connect::{Collect, Generator};
    ///
    /// let job = Job::new("parity");
    /// let (even, odd) = job.source("numbers", Generator::bounded(10, |index| index)).split(|number| number % 2 == 0);
    /// even.sink("even", Collect::new());
    /// odd.sink("odd", Collect::new());
    /// job.build()?;
    /// # Ok::<(), alluvium::BuildErrors>(())
    /// ```
    #[track_caller]
    pub fn split(&self, predicate: impl Fn(&T) -> bool + Clone + Send + 'static) -> (Stream<T>, Stream<T>) {
        let predicate = Prototype::new(predicate);
        let recipe = Recipe::Link(Arc::new(move |site, next: Next| {
            let (next, sides) = next.into_links::<T>();
            Ok(AnyLink::new::<T>(Split::new(predicate.copy(), next, sides, site.place)))
        }));
        let mut operator = Operator::new("split", Location::caller(), None, recipe);
        operator.inputs = vec![self.input()];
        operator.output = Some(StreamType::of::<T>());
        operator.sides = SideOutputs::none().with(&SideOutput::<T>::named(OTHERS)).into_declared();
        let fitting = Stream::<T>::of_operator(&self.shared, operator);
        let mut others = fitting.clone();
        others.upstreams[0].port = 1;
        (fitting, others)
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

    /// Writes the records into a sink. Its state is found again by `uid`.
    #[track_caller]
    pub fn sink(&self, uid: &str, sink: impl Sink<T>) -> StreamEnd {
        self.sink_of(uid, sink, "sink", Location::caller())
    }

    fn sink_of<S: Sink<T>>(&self, uid: &str, sink: S, kind: &'static str, location: Place) -> StreamEnd {
        let sink = Arc::new(sink);
        let key = OperatorUid::new(uid);
        let promise = SinkPromise { guarantee: sink.guarantee(), effect: sink.effect(), reason: sink.reason() };
        let committer = committer_factory::<T, S>(Arc::clone(&sink), key.clone());
        let recipe =
            Recipe::Tail(Arc::new(move |site| Ok(AnyLink::new::<T>(SinkLink::<T, S>::new(&sink, key.clone(), site)?))));
        let mut operator = Operator::new(kind, location, Some(uid), recipe);
        operator.inputs = vec![self.input()];
        operator.end = End::Sink { committer, promise };
        StreamEnd { operator: self.shared.add(operator), shared: self.shared.clone() }
    }

    /// Calls `function` with each record, at least once: after a failure records since the last checkpoint come again. For outside effects that
    /// can bear it.
    #[track_caller]
    pub fn for_each(&self, uid: &str, function: impl Fn(T) + Clone + Send + 'static) -> StreamEnd {
        self.sink_of(uid, ForEach::new(function), "for_each", Location::caller())
    }

    /// This stream as an input.
    pub(super) fn input(&self) -> Input {
        Input { upstreams: self.upstreams.clone(), stream: StreamType::of::<T>() }
    }

    fn then<U: Record>(
        &self,
        kind: &'static str,
        location: Place,
        recipe: impl Fn(Site, Next) -> AnyLink + Send + Sync + 'static,
    ) -> Stream<U> {
        let recipe = Recipe::Link(Arc::new(move |site, next| Ok(recipe(site, next))));
        let mut operator = Operator::new(kind, location, None, recipe);
        operator.inputs = vec![self.input()];
        operator.output = Some(StreamType::of::<U>());
        Stream::of_operator(&self.shared, operator)
    }
}

/// Where a stream ends: the settings of a sink.
#[derive(Debug)]
pub struct StreamEnd {
    pub(super) shared: Shared,
    pub(super) operator: usize,
}
