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

    /// Takes one record with the hash of its key.
    #[inline]
    pub(crate) fn push_hashed(&mut self, record: T, hash: u64, outputs: &mut Outputs) {
        self.open.records.push(record);
        self.open.hashes.push(hash);
        if self.open.is_full() {
            self.seal(outputs);
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
