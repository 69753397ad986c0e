//! One channel of an output edge: fills slices, then batches, and hands them over when they are full.
//!
//! Buffers circulate: an emptied batch comes back through the edge with its emptied slices, so nothing is allocated per batch once the edge has warmed up.

use alluvium_actors::drive::outputs::Outputs;
use alluvium_actors::ports::task::{BATCH_RECORDS, SLICE_RECORDS};

use crate::record::Record;
use crate::record::batch::{Batch, Slice};

/// A slice of at least so many records travels as it is; a smaller one is copied together with its neighbours, so that the consumer
/// gets slices worth a virtual call.
const WHOLE_SLICE_RECORDS: usize = SLICE_RECORDS / 2;

/// The producer's side of one channel.
pub(crate) struct Channel<T: Record> {
    output: usize,
    channel: usize,
    open: Slice<T>,
    batch: Box<Batch<T>>,
}

impl<T: Record> Channel<T> {
    /// Channel `channel` of output `output`.
    pub(crate) fn new(output: usize, channel: usize) -> Channel<T> {
        Channel { output, channel, open: Slice::new(), batch: Box::default() }
    }

    /// Takes all records of a slice, with their hashes. Leaves the slice empty.
    pub(crate) fn push_slice(&mut self, slice: &mut Slice<T>, outputs: &mut Outputs) {
        if slice.len() >= WHOLE_SLICE_RECORDS {
            self.seal(outputs);
            let mut whole = self.batch.take_emptied();
            std::mem::swap(&mut whole, slice);
            self.append(whole, outputs);
        } else {
            if self.open.len() + slice.len() > SLICE_RECORDS {
                self.seal(outputs);
            }
            self.open.records.append(&mut slice.records);
            self.open.hashes.append(&mut slice.hashes);
        }
    }

    /// Takes one record without a hash.
    #[inline]
    pub(crate) fn push(&mut self, record: T, outputs: &mut Outputs) {
        self.open.records.push(record);
        if self.open.is_full() {
            self.seal(outputs);
        }
    }

    /// Takes one record with the hash of its key.
    #[inline]
    pub(crate) fn push_hashed(&mut self, record: T, hash: u64, outputs: &mut Outputs) {
        self.open.records.push(record);
        self.open.hashes.push(hash);
        if self.open.is_full() {
            self.seal(outputs);
        }
    }

    /// Takes copies of the records of `slice` that stand at `positions`, in that order, with their hashes.
    ///
    /// Appends whole runs: room is looked for once per run, not per record.
    pub(crate) fn push_copies(&mut self, slice: &Slice<T>, mut positions: &[u32], outputs: &mut Outputs) {
        if self.open.is_full() {
            self.seal(outputs);
        }
        while !positions.is_empty() {
            let room = SLICE_RECORDS - self.open.len();
            let (run, later) = positions.split_at(room.min(positions.len()));
            self.open.records.extend(run.iter().map(|position| slice.records[*position as usize].clone()));
            self.open.hashes.extend(run.iter().map(|position| slice.hashes[*position as usize]));
            positions = later;
            if self.open.is_full() {
                self.seal(outputs);
            }
        }
    }

    /// Hands over everything that is held back.
    pub(crate) fn flush(&mut self, outputs: &mut Outputs) {
        self.seal(outputs);
        if !self.batch.is_empty() {
            self.send(outputs);
        }
    }

    /// Puts the open slice into the batch.
    fn seal(&mut self, outputs: &mut Outputs) {
        if !self.open.is_empty() {
            let emptied = self.batch.take_emptied();
            let full = std::mem::replace(&mut self.open, emptied);
            self.append(full, outputs);
        }
    }

    fn append(&mut self, slice: Slice<T>, outputs: &mut Outputs) {
        if self.batch.len() + slice.len() > BATCH_RECORDS {
            self.send(outputs);
        }
        self.batch.push(slice);
        if self.batch.is_full() {
            self.send(outputs);
        }
    }

    #[inline(never)]
    fn send(&mut self, outputs: &mut Outputs) {
        let next = outputs.take_returned(self.output, self.channel).map_or_else(Box::default, Batch::<T>::from_payload);
        let full = std::mem::replace(&mut self.batch, next);
        outputs.send(self.output, self.channel, full);
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use alluvium_actors::drive::edge::{EdgeReceiver, Frame, edge};
    use alluvium_actors::drive::outputs::OutputChannel;
    use alluvium_actors::ids::{Attempt, SubtaskId};
    use alluvium_actors::ports::host::Address;

    use super::*;

    fn output() -> (Outputs, EdgeReceiver) {
        let (sender, receiver) = edge(1000);
        let consumer = Address::Subtask(SubtaskId::new(1, 0), Attempt(1));
        let channel = OutputChannel { edge: sender, consumer, consumer_channel: 0 };
        (Outputs::new(vec![vec![channel]]), receiver)
    }

    fn arrived(outputs: &mut Outputs, receiver: &EdgeReceiver) -> Vec<Batch<u64>> {
        let mut context = Context::from_waker(Waker::noop());
        assert!(outputs.poll_drained(&mut context));
        let mut batches = Vec::new();
        while let Poll::Ready(Frame::Batch(batch)) = receiver.poll_frame(&mut context) {
            batches.push(*Batch::from_payload(batch));
        }
        batches
    }

    fn slice(records: std::ops::Range<u64>) -> Slice<u64> {
        Slice { hashes: records.clone().collect(), records: records.collect(), timestamps: Vec::new() }
    }

    #[test]
    fn slices_of_any_size_leave_in_order_within_the_bounds_of_slices_and_batches() {
        let (mut outputs, receiver) = output();
        let mut channel = Channel::new(0, 0);
        let mut next = 0;
        for size in [256, 1, 200, 127, 128, 100, 100, 100, 256, 3].into_iter().cycle().take(200) {
            channel.push_slice(&mut slice(next..next + size), &mut outputs);
            next += size;
            channel.push_hashed(next, next, &mut outputs);
            next += 1;
        }
        channel.flush(&mut outputs);
        let batches = arrived(&mut outputs, &receiver);
        assert!(batches.iter().all(|batch| (1..=BATCH_RECORDS).contains(&batch.len())));
        let slices: Vec<&Slice<u64>> = batches.iter().flat_map(|batch| batch.slices()).collect();
        assert!(slices.iter().all(|slice| (1..=SLICE_RECORDS).contains(&slice.len())));
        let records: Vec<u64> = slices.iter().flat_map(|slice| slice.records.clone()).collect();
        let hashes: Vec<u64> = slices.iter().flat_map(|slice| slice.hashes.clone()).collect();
        assert_eq!(records, (0..next).collect::<Vec<_>>());
        assert_eq!(hashes, records);
    }

    #[test]
    fn a_batch_leaves_when_it_is_full_and_not_before() {
        let (mut outputs, receiver) = output();
        let mut channel = Channel::new(0, 0);
        for number in 0..4 {
            assert!(arrived(&mut outputs, &receiver).is_empty());
            channel.push_slice(&mut slice(number * 256..(number + 1) * 256), &mut outputs);
        }
        assert_eq!(arrived(&mut outputs, &receiver).len(), 1);
        channel.push_slice(&mut slice(0..3), &mut outputs);
        assert!(arrived(&mut outputs, &receiver).is_empty());
        channel.flush(&mut outputs);
        assert_eq!(arrived(&mut outputs, &receiver).len(), 1);
    }

    #[test]
    fn emptied_buffers_of_the_consumer_are_filled_again() {
        let (mut outputs, receiver) = output();
        let mut channel = Channel::new(0, 0);
        channel.push_slice(&mut slice(0..256), &mut outputs);
        channel.flush(&mut outputs);
        let mut batch = arrived(&mut outputs, &receiver).remove(0);
        let mut emptied = batch.pop().unwrap();
        emptied.clear();
        emptied.records.reserve(5_000);
        let buffer = emptied.records.as_ptr();
        batch.give_back(emptied);
        receiver.give_back(Box::new(batch));
        // The open batch was begun before the buffer came back; the one after it is the returned one.
        channel.push_slice(&mut slice(0..256), &mut outputs);
        channel.flush(&mut outputs);
        let mut whole = slice(0..256);
        channel.push_slice(&mut whole, &mut outputs);
        assert_eq!(whole.records.as_ptr(), buffer, "the producer got the consumer's buffer for its own");
    }
}
