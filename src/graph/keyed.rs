//! Streams that are grouped by a key.

use std::marker::PhantomData;

use super::builder::{Exchange, Input, Place};
use super::stream::Stream;
use crate::operator::assembly::{AnyLink, Prototype, StreamType};
use crate::operator::hash::Hash;
use crate::record::{Key, KeySelector, Record};

/// A stream of records of type `T`, grouped by keys of type `K`: all records of a key are processed by one subtask, in the order in which they come from each
/// upstream subtask. `S` is how the key is found.
#[derive(Debug)]
pub struct KeyedStream<K, T, S> {
    stream: Stream<T>,
    selector: S,
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

    /// This stream as an input: every edge hashes.
    pub(super) fn input(&self) -> Input {
        let selector = std::sync::Arc::new(Prototype::new(self.selector.clone()));
        let mut upstreams = self.stream.upstreams.clone();
        for upstream in &mut upstreams {
            let selector = std::sync::Arc::clone(&selector);
            let recipe = std::sync::Arc::new(move |site: crate::operator::assembly::Site, target| {
                let seed = site.task.hash_seed;
                AnyLink::new::<T>(Hash::<T, K, S>::new(selector.copy(), seed, target, site.place))
            });
            upstream.exchange = Exchange::Hash { recipe, location: self.location };
        }
        Input { upstreams, stream: StreamType::of::<T>() }
    }
}
