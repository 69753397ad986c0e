//! Records that travel together: slices, and the batch of slices that crosses an edge.
//!
//! A [`Slice`] is what goes through a chain at once, at most 256 records; a [`Batch`] is up to four of them. Because a batch *is* slices, a chain takes
//! one out without moving a record, looks at its mailbox between two, and the emptied slices return to the producer with the batch.

use std::any::{Any, TypeId};
use std::collections::VecDeque;

use alluvium_actors::payload::{Payload, PayloadError, PayloadType};
use alluvium_actors::ports::task::{BATCH_RECORDS, SLICE_RECORDS};
use serde::{Deserialize, Serialize};

use super::Record;

/// At most 256 records with their columns. Columns are either empty or as long as `records`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slice<T> {
    /// The records, in order.
    pub records: Vec<T>,
    /// Event time in milliseconds since 1970, where the source gives it.
    pub timestamps: Vec<i64>,
    /// The hash of each record's key, on a keyed edge.
    pub hashes: Vec<u64>,
}

impl<T> Slice<T> {
    /// An empty slice; allocates nothing before the first record.
    #[must_use]
    pub fn new() -> Slice<T> {
        Slice { records: Vec::new(), timestamps: Vec::new(), hashes: Vec::new() }
    }

    /// How many records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether the slice has the size at which it goes on its way.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.records.len() >= SLICE_RECORDS
    }

    /// Keeps the records for whose position `keeps` answers true, in their order, with all columns.
    pub(crate) fn retain(&mut self, keeps: impl Fn(usize) -> bool) {
        fn column<C>(column: &mut Vec<C>, keeps: &impl Fn(usize) -> bool) {
            let mut position = 0;
            column.retain(|_| {
                position += 1;
                keeps(position - 1)
            });
        }
        column(&mut self.records, &keeps);
        column(&mut self.timestamps, &keeps);
        column(&mut self.hashes, &keeps);
    }

    /// Empties all columns and keeps their buffers.
    pub fn clear(&mut self) {
        self.records.clear();
        self.timestamps.clear();
        self.hashes.clear();
    }
}

impl<T> Default for Slice<T> {
    fn default() -> Slice<T> {
        Slice::new()
    }
}

/// Slices that cross an edge together, and the emptied ones on their way back.
#[derive(Clone, Debug)]
pub struct Batch<T> {
    slices: VecDeque<Slice<T>>,
    emptied: Vec<Slice<T>>,
    records: usize,
}

impl<T> Default for Batch<T> {
    fn default() -> Batch<T> {
        Batch { slices: VecDeque::new(), emptied: Vec::new(), records: 0 }
    }
}

impl<T: Record> Batch<T> {
    /// How many records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Whether the batch has the size at which it leaves.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.records >= BATCH_RECORDS
    }

    /// Appends a slice.
    pub fn push(&mut self, slice: Slice<T>) {
        self.records += slice.len();
        self.slices.push_back(slice);
    }

    /// Takes the next slice.
    pub fn pop(&mut self) -> Option<Slice<T>> {
        let slice = self.slices.pop_front()?;
        self.records -= slice.len();
        Some(slice)
    }

    /// Takes the next records: the next slice, or the first `limit` records of it; at least one.
    pub fn pop_at_most(&mut self, limit: usize) -> Option<Slice<T>> {
        let limit = limit.max(1);
        if self.slices.front()?.len() <= limit {
            return self.pop();
        }
        let mut taken = self.take_emptied();
        let slice = self.slices.front_mut()?;
        // What stays moves to the front: cheap beside records of which fewer than a slice take a millisecond.
        taken.records.extend(slice.records.drain(..limit));
        taken.timestamps.extend(slice.timestamps.drain(..limit.min(slice.timestamps.len())));
        taken.hashes.extend(slice.hashes.drain(..limit.min(slice.hashes.len())));
        self.records -= limit;
        Some(taken)
    }

    /// Keeps an emptied slice for the producer.
    pub fn give_back(&mut self, mut slice: Slice<T>) {
        slice.clear();
        self.emptied.push(slice);
    }

    /// An emptied slice, or a new one.
    #[must_use]
    pub fn take_emptied(&mut self) -> Slice<T> {
        self.emptied.pop().unwrap_or_default()
    }

    /// The slices, in order.
    pub fn slices(&self) -> impl Iterator<Item = &Slice<T>> {
        self.slices.iter()
    }

    /// The kind of payload that batches of `T` are.
    #[must_use]
    pub fn payload_type() -> PayloadType {
        PayloadType {
            type_id: TypeId::of::<T>(),
            type_name: std::any::type_name::<T>(),
            decode: |bytes| {
                let slices: VecDeque<Slice<T>> =
                    rmp_serde::from_slice(bytes).map_err(|error| payload_error::<T>(error.to_string()))?;
                if let Some(slice) = slices.iter().find(|slice| !columns_agree(slice)) {
                    return Err(payload_error::<T>(format!(
                        "columns of different lengths: {} records, {} timestamps, {} hashes",
                        slice.records.len(),
                        slice.timestamps.len(),
                        slice.hashes.len()
                    )));
                }
                let records = slices.iter().map(Slice::len).sum();
                Ok(Box::new(Batch { slices, emptied: Vec::new(), records }) as Payload)
            },
        }
    }

    /// The batch behind an erased payload.
    ///
    /// # Panics
    /// When the payload is of another type: the planner compares the types of both ends of every edge, so that is a bug of the runtime.
    #[must_use]
    pub fn from_payload(payload: Payload) -> Box<Batch<T>> {
        payload.into_any().downcast().unwrap_or_else(|_| {
            panic!(
                "an edge carried something else than batches of {}: a bug in the planner",
                std::any::type_name::<T>()
            )
        })
    }
}

fn columns_agree<T>(slice: &Slice<T>) -> bool {
    let fits = |length: usize| length == 0 || length == slice.records.len();
    fits(slice.timestamps.len()) && fits(slice.hashes.len())
}

fn payload_error<T>(reason: String) -> PayloadError {
    PayloadError { type_name: std::any::type_name::<T>(), reason }
}

impl<T: Record> alluvium_actors::payload::Batch for Batch<T> {
    fn len(&self) -> usize {
        self.records
    }

    fn byte_size(&self) -> usize {
        self.slices
            .iter()
            .map(|slice| slice.records.len() * size_of::<T>() + slice.timestamps.len() * 8 + slice.hashes.len() * 8)
            .sum()
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), PayloadError> {
        let mut serializer = rmp_serde::Serializer::new(out).with_struct_map();
        self.slices.serialize(&mut serializer).map_err(|error| payload_error::<T>(error.to_string()))
    }

    fn clone_payload(&self) -> Payload {
        Box::new(Batch { slices: self.slices.clone(), emptied: Vec::new(), records: self.records })
    }

    fn split_by_hash(
        self: Box<Self>,
        channels: usize,
        channel_of_hash: &dyn Fn(u64) -> usize,
    ) -> Result<Vec<Option<Payload>>, PayloadError> {
        let mut parts: Vec<Batch<T>> = (0..channels).map(|_| Batch::default()).collect();
        for slice in self.slices {
            if slice.hashes.len() != slice.records.len() {
                return Err(payload_error::<T>("the batch has no hash column".to_owned()));
            }
            let mut split: Vec<Slice<T>> = (0..channels).map(|_| Slice::new()).collect();
            let mut timestamps = slice.timestamps.into_iter();
            for (record, hash) in slice.records.into_iter().zip(slice.hashes) {
                let part = &mut split[channel_of_hash(hash)];
                part.records.push(record);
                part.hashes.push(hash);
                part.timestamps.extend(timestamps.next());
            }
            for (part, slice) in parts.iter_mut().zip(split) {
                if !slice.is_empty() {
                    part.push(slice);
                }
            }
        }
        Ok(parts.into_iter().map(|part| (!part.is_empty()).then(|| Box::new(part) as Payload)).collect())
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any + Send> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alluvium_actors::payload::Batch as _;

    fn batch() -> Batch<u32> {
        let mut batch = Batch::default();
        batch.push(Slice { records: vec![1, 2, 3], timestamps: vec![10, 20, 30], hashes: vec![0, 1, 0] });
        batch.push(Slice { records: vec![4], timestamps: vec![40], hashes: vec![1] });
        batch
    }

    #[test]
    fn an_encoded_batch_is_read_back_with_all_columns() {
        let mut bytes = Vec::new();
        batch().encode(&mut bytes).unwrap();
        let decoded = Batch::<u32>::from_payload((Batch::<u32>::payload_type().decode)(&bytes).unwrap());
        assert_eq!(decoded.slices().collect::<Vec<_>>(), batch().slices().collect::<Vec<_>>());
        assert_eq!(decoded.len(), 4);
    }

    #[test]
    fn bytes_whose_columns_disagree_are_refused() {
        let mut wrong = Batch::default();
        wrong.push(Slice { records: vec![1_u32, 2], timestamps: vec![], hashes: vec![7] });
        let mut bytes = Vec::new();
        wrong.encode(&mut bytes).unwrap();
        let error = (Batch::<u32>::payload_type().decode)(&bytes).unwrap_err();
        assert!(error.reason.contains("different lengths"), "{error}");
        assert!((Batch::<u32>::payload_type().decode)(&[0xff, 1, 2]).is_err());
    }

    #[test]
    fn a_split_keeps_the_order_inside_each_channel() {
        let parts = Box::new(batch()).split_by_hash(3, &|hash| hash as usize).unwrap();
        let records: Vec<Vec<u32>> = parts
            .into_iter()
            .map(|part| match part {
                None => vec![],
                Some(payload) => {
                    Batch::<u32>::from_payload(payload).slices().flat_map(|slice| slice.records.clone()).collect()
                }
            })
            .collect();
        assert_eq!(records, [vec![1, 3], vec![2, 4], vec![]]);
    }

    #[test]
    fn a_batch_without_hashes_cannot_be_split() {
        let mut plain = Batch::default();
        plain.push(Slice { records: vec![1_u32], timestamps: vec![], hashes: vec![] });
        assert!(Box::new(plain).split_by_hash(2, &|_| 0).is_err());
    }

    #[test]
    fn a_slice_is_taken_in_parts_with_all_its_columns() {
        let mut batch = batch();
        let taken: Vec<_> = std::iter::from_fn(|| batch.pop_at_most(2)).collect();
        assert_eq!(taken.iter().map(|slice| slice.records.as_slice()).collect::<Vec<_>>(), [&[1, 2][..], &[3], &[4]]);
        assert_eq!(taken[0], Slice { records: vec![1, 2], timestamps: vec![10, 20], hashes: vec![0, 1] });
        assert_eq!(taken[1], Slice { records: vec![3], timestamps: vec![30], hashes: vec![0] });
        assert!(batch.is_empty());
        batch.push(Slice { records: vec![5, 6], timestamps: vec![], hashes: vec![] });
        assert_eq!((batch.pop_at_most(0).map(|slice| slice.records), batch.len()), (Some(vec![5]), 1));
    }

    #[test]
    fn emptied_slices_return_with_the_batch() {
        let mut batch = batch();
        let slice = batch.pop().unwrap();
        let capacity = slice.records.capacity();
        batch.give_back(slice);
        let back = batch.take_emptied();
        assert!(back.is_empty() && back.records.capacity() == capacity);
    }
}
