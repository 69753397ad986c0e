//! The partitioner of a keyed edge: hashes each key once, sends each record to the subtask that owns its key group. The hash travels along.

use std::marker::PhantomData;

use alluvium_actors::drive::outputs::Outputs;
use alluvium_actors::ports::task::Failure;

use super::assembly::Target;
use super::channel::Channel;
use super::link::{Link, Member, Partitioner};
use super::place::Place;
use super::spread::Spread;
use crate::record::batch::Slice;
use crate::record::{Key, KeyError, KeySelector, Record};

/// The end of a chain in front of a keyed edge.
pub(crate) struct Hash<T: Record, K, S> {
    selector: S,
    seed: u64,
    spread: Spread,
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
            spread: Spread::new(channels, max_parallelism),
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
        match &mut self.channels[..] {
            // A record that owns nothing is copied as cheaply as it is moved, and can be copied in the order of the channels.
            [first, second] if !std::mem::needs_drop::<T>() => {
                let (firsts, seconds) = self.spread.in_two(&slice.hashes);
                first.push_copies(slice, firsts, outputs);
                second.push_copies(slice, seconds, outputs);
                slice.clear();
            }
            channels => {
                for (record, hash) in slice.records.drain(..).zip(slice.hashes.drain(..)) {
                    channels[self.spread.channel(hash)].push_hashed(record, hash, outputs);
                }
            }
        }
        Ok(())
    }
}

impl<T: Record, K: Key, S: KeySelector<T, K>> Partitioner<T> for Hash<T, K, S> {
    fn channels(&mut self, slice: &mut Slice<T>, channels: &mut Vec<usize>) -> Result<(), Failure> {
        self.place.enter();
        let former = std::mem::take(&mut slice.hashes);
        self.hash(slice)?;
        if !former.is_empty() && former != slice.hashes {
            return Err(self.place.unrecoverable(
                "records that were in flight when the checkpoint was taken have other keys now: the state that waits for them stands under their former keys;                  start the job as it was and stop it, which leaves nothing in flight, before the key is changed",
            ));
        }
        channels.extend(slice.hashes.iter().map(|hash| self.spread.channel(*hash)));
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::{Context, Poll, Waker};

    use alluvium_actors::drive::edge::{EdgeReceiver, Frame, edge};
    use alluvium_actors::drive::outputs::OutputChannel;
    use alluvium_actors::ids::{Attempt, SubtaskId};
    use alluvium_actors::ports::host::Address;
    use alluvium_actors::ports::task::{BATCH_RECORDS, SLICE_RECORDS};

    use super::*;
    use crate::operator::place::Places;
    use crate::record::batch::Batch;
    use crate::record::{Owned, hash_key, key_group, subtask_of};

    const SEED: u64 = 7;
    const KEYS: u64 = 50;
    const GROUPS: u32 = 128;

    fn outputs(channels: u32) -> (Outputs, Vec<EdgeReceiver>) {
        let mut receivers = Vec::new();
        let output = (0..channels)
            .map(|channel| {
                let (sender, receiver) = edge(1000);
                receivers.push(receiver);
                let consumer = Address::Subtask(SubtaskId::new(1, channel), Attempt(1));
                OutputChannel { edge: sender, consumer, consumer_channel: 0 }
            })
            .collect();
        (Outputs::new(vec![output]), receivers)
    }

    fn arrived<T: Record>(receiver: &EdgeReceiver) -> Vec<Slice<T>> {
        let mut slices = Vec::new();
        while let Poll::Ready(Frame::Batch(batch)) = receiver.poll_frame(&mut Context::from_waker(Waker::noop())) {
            let batch = Batch::<T>::from_payload(batch);
            assert!((1..=BATCH_RECORDS).contains(&batch.len()));
            slices.extend(batch.slices().cloned());
        }
        slices
    }

    /// Pushes slices of many sizes with records numbered from 0, and looks at what came out.
    fn check<T: Record>(channels: u32, record: fn(u64) -> T, number: fn(&T) -> u64) {
        let target = Target { output: 0, channels, max_parallelism: GROUPS };
        let place = Places::new(&Arc::default()).add(Arc::from("keyed"));
        let mut hash = Hash::new(Owned(move |record: &T| number(record) % KEYS), SEED, target, place);
        let (mut outputs, receivers) = outputs(channels);
        let mut next = 0;
        let mut slice = Slice::new();
        for size in [0, 1, 255, 256, 257, 256, 256, 3, 0, 1000, 256, 100].into_iter().cycle().take(60) {
            slice.records.extend((next..next + size).map(record));
            next += size;
            hash.push(&mut slice, &mut outputs).unwrap();
            assert!(slice.is_empty() && slice.hashes.is_empty());
        }
        hash.flush(&mut outputs);
        assert!(outputs.poll_drained(&mut Context::from_waker(Waker::noop())));

        let mut all = Vec::new();
        for (channel, receiver) in receivers.iter().enumerate() {
            let mut numbers = Vec::new();
            for slice in arrived::<T>(receiver) {
                assert_eq!(slice.records.len(), slice.hashes.len());
                assert!(channels == 1 || slice.len() <= SLICE_RECORDS);
                for (record, hash) in slice.records.iter().zip(&slice.hashes) {
                    assert_eq!(*hash, hash_key(SEED, &(number(record) % KEYS)).unwrap());
                    let owner = subtask_of(key_group(*hash, GROUPS), GROUPS, channels);
                    assert_eq!(owner as usize, channel);
                }
                numbers.extend(slice.records.iter().map(number));
            }
            assert!(numbers.is_sorted(), "the records of a channel, and so those of a key, keep their order");
            all.extend(numbers);
        }
        all.sort_unstable();
        assert!(all.into_iter().eq(0..next), "every record arrives once");
    }

    #[test]
    fn plain_records_reach_the_owner_of_their_key_once_and_in_order() {
        for channels in [1, 2, 3, 7] {
            check(channels, |number| (number, 1.5_f64), |record| record.0);
        }
    }

    #[test]
    fn records_that_own_memory_reach_the_owner_of_their_key_once_and_in_order() {
        for channels in [1, 2, 3, 7] {
            check(channels, |number| number.to_string(), |record| record.parse().unwrap());
        }
    }
}
