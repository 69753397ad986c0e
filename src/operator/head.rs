//! The heads of chains that take batches from edges: with one input, and with two of different types.

use alluvium_actors::drive::outputs::Outputs;
use alluvium_actors::payload::{Payload, PayloadError};
use alluvium_actors::ports::task::Failure;

use super::in_flight::HEAD;
use super::link::{Link, Member, TwoInputLink};
use crate::record::Record;
use crate::record::batch::{Batch, Slice};

/// What stands at the head of a chain and takes batches.
pub(crate) trait Head: Member {
    /// Takes a batch of one input.
    fn accept(&mut self, input: usize, batch: Payload);

    /// Takes its next records through the chain, at most `limit`. Gives the batch back when it is used up.
    fn step(&mut self, limit: usize, outputs: &mut Outputs) -> Result<Option<Payload>, Failure>;

    /// The unread rest of the batch in work.
    fn rest(&self) -> Option<&dyn alluvium_actors::payload::Batch>;

    /// Reads an encoded batch of one input.
    ///
    /// # Errors
    /// When the bytes are something else.
    fn decode(&self, input: usize, bytes: &[u8]) -> Result<Payload, PayloadError>;
}

/// A head with one input. Several edges may feed it.
pub(crate) struct OneInput<T: Record> {
    batch: Option<Box<Batch<T>>>,
    link: Box<dyn Link<T>>,
}

impl<T: Record> OneInput<T> {
    pub(crate) fn new(link: Box<dyn Link<T>>) -> OneInput<T> {
        OneInput { batch: None, link }
    }
}

impl<T: Record> OneInput<T> {
    /// Takes a slice that does not come from a batch through the chain.
    pub(crate) fn pass(&mut self, slice: &mut Slice<T>, outputs: &mut Outputs) -> Result<(), Failure> {
        self.link.push(slice, outputs)
    }
}

impl<T: Record> Head for OneInput<T> {
    fn accept(&mut self, _: usize, batch: Payload) {
        self.batch = Some(Batch::from_payload(batch));
    }

    fn step(&mut self, limit: usize, outputs: &mut Outputs) -> Result<Option<Payload>, Failure> {
        let Some(batch) = &mut self.batch else { return Ok(None) };
        if let Some(mut slice) = batch.pop_at_most(limit) {
            self.link.push(&mut slice, outputs)?;
            batch.give_back(slice);
        }
        Ok(if batch.is_empty() { self.batch.take().map(|batch| batch as Payload) } else { None })
    }

    fn rest(&self) -> Option<&dyn alluvium_actors::payload::Batch> {
        self.batch.as_deref().map(|batch| batch as _)
    }

    fn decode(&self, _: usize, bytes: &[u8]) -> Result<Payload, PayloadError> {
        (Batch::<T>::payload_type().decode)(bytes)
    }
}

impl<T: Record> Member for OneInput<T> {
    fn walk(&mut self, visit: &mut dyn FnMut(&mut dyn Member)) {
        self.link.walk(visit);
    }

    fn inlet(&mut self, number: usize) -> Option<&mut dyn Head> {
        (number == HEAD).then_some(self as &mut dyn Head)
    }
}

/// A head with two inputs of different types: 0 is the left one, 1 the right one.
pub(crate) struct TwoInputs<A: Record, B: Record, L> {
    batch: Accepted<A, B>,
    link: L,
}

enum Accepted<A: Record, B: Record> {
    None,
    Left(Box<Batch<A>>),
    Right(Box<Batch<B>>),
}

impl<A: Record, B: Record, L: TwoInputLink<A, B>> TwoInputs<A, B, L> {
    pub(crate) fn new(link: L) -> TwoInputs<A, B, L> {
        TwoInputs { batch: Accepted::None, link }
    }
}

impl<A: Record, B: Record, L: TwoInputLink<A, B>> Head for TwoInputs<A, B, L> {
    fn accept(&mut self, input: usize, batch: Payload) {
        self.batch = if input == 0 {
            Accepted::Left(Batch::from_payload(batch))
        } else {
            Accepted::Right(Batch::from_payload(batch))
        };
    }

    fn step(&mut self, limit: usize, outputs: &mut Outputs) -> Result<Option<Payload>, Failure> {
        let emptied = match &mut self.batch {
            Accepted::None => false,
            Accepted::Left(batch) => {
                if let Some(mut slice) = batch.pop_at_most(limit) {
                    self.link.push_left(&mut slice, outputs)?;
                    batch.give_back(slice);
                }
                batch.is_empty()
            }
            Accepted::Right(batch) => {
                if let Some(mut slice) = batch.pop_at_most(limit) {
                    self.link.push_right(&mut slice, outputs)?;
                    batch.give_back(slice);
                }
                batch.is_empty()
            }
        };
        if !emptied {
            return Ok(None);
        }
        Ok(match std::mem::replace(&mut self.batch, Accepted::None) {
            Accepted::None => None,
            Accepted::Left(batch) => Some(batch),
            Accepted::Right(batch) => Some(batch),
        })
    }

    fn rest(&self) -> Option<&dyn alluvium_actors::payload::Batch> {
        match &self.batch {
            Accepted::None => None,
            Accepted::Left(batch) => Some(batch.as_ref()),
            Accepted::Right(batch) => Some(batch.as_ref()),
        }
    }

    fn decode(&self, input: usize, bytes: &[u8]) -> Result<Payload, PayloadError> {
        let kind = if input == 0 { Batch::<A>::payload_type() } else { Batch::<B>::payload_type() };
        (kind.decode)(bytes)
    }
}

impl<A: Record, B: Record, L: TwoInputLink<A, B>> Member for TwoInputs<A, B, L> {
    fn walk(&mut self, visit: &mut dyn FnMut(&mut dyn Member)) {
        self.link.walk(visit);
    }

    fn inlet(&mut self, number: usize) -> Option<&mut dyn Head> {
        (number == HEAD).then_some(self as &mut dyn Head)
    }
}
