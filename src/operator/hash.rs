//! The partitioner of a keyed edge: hashes each key once, sends each record to the subtask that owns its key group. The hash travels along.

use std::marker::PhantomData;

use alluvium_actors::drive::outputs::Outputs;
use alluvium_actors::ports::task::Failure;

use super::assembly::Target;
use super::channel::Channel;
use super::link::{Link, Member};
use super::place::Place;
use crate::record::batch::Slice;
use crate::record::{Key, KeyError, KeySelector, Record, key_group, subtask_of};

/// The end of a chain in front of a keyed edge.
pub(crate) struct Hash<T: Record, K, S> {
    selector: S,
    seed: u64,
    max_parallelism: u32,
    /// The consumer of each key group: saves a division per record.
    channel_of_group: Vec<u16>,
    channels: Vec<Channel<T>>,
    place: Place,
    key: PhantomData<fn() -> K>,
}

impl<T: Record, K: Key, S: KeySelector<T, K>> Hash<T, K, S> {
    pub(crate) fn new(selector: S, seed: u64, target: Target, place: Place) -> Hash<T, K, S> {
        let Target { output, channels, max_parallelism } = target;
        Hash {
            selector,
            seed,
            max_parallelism,
            channel_of_group: (0..max_parallelism)
                .map(|group| subtask_of(group, max_parallelism, channels) as u16)
                .collect(),
            channels: (0..channels).map(|channel| Channel::new(output, channel as usize)).collect(),
            place,
            key: PhantomData,
        }
    }

    /// Fills the hash column.
    fn hash(&self, slice: &mut Slice<T>) -> Result<(), Failure> {
        let mut refused: Option<KeyError> = None;
        slice.hashes.clear();
        // An iterator of known length: no check for room per record.
        slice.hashes.extend(slice.records.iter().map(|record| match self.selector.hash(self.seed, record) {
            Ok(hash) => hash,
            Err(error) => {
                refused = Some(error);
                0
            }
        }));
        match refused {
            None => Ok(()),
            Some(error) => Err(self.place.unrecoverable(error)),
        }
    }
}

impl<T: Record, K: Key, S: KeySelector<T, K>> Link<T> for Hash<T, K, S> {
    fn push(&mut self, slice: &mut Slice<T>, outputs: &mut Outputs) -> Result<(), Failure> {
        self.place.enter();
        self.hash(slice)?;
        if let [only] = &mut self.channels[..] {
            only.push_slice(slice, outputs);
            return Ok(());
        }
        for (record, hash) in slice.records.drain(..).zip(slice.hashes.drain(..)) {
            let channel = self.channel_of_group[key_group(hash, self.max_parallelism) as usize];
            self.channels[usize::from(channel)].push_hashed(record, hash, outputs);
        }
        Ok(())
    }
}

impl<T: Record, K: Key, S: KeySelector<T, K>> Member for Hash<T, K, S> {
    fn walk(&mut self, visit: &mut dyn FnMut(&mut dyn Member)) {
        visit(self);
    }

    fn place(&self) -> Option<&Place> {
        Some(&self.place)
    }

    fn flush(&mut self, outputs: &mut Outputs) {
        for channel in &mut self.channels {
            channel.flush(outputs);
        }
    }
}
