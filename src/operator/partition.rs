//! The partitioner whose answers are the user's.

use std::sync::Arc;

use alluvium_actors::drive::outputs::Outputs;
use alluvium_actors::ports::task::Failure;

use super::assembly::Target;
use super::channel::Channel;
use super::link::{Link, Member, Partitioner};
use super::place::Place;
use crate::record::Record;
use crate::record::batch::Slice;

/// A partitioner of the user's answered with a channel that does not exist. No restart mends that.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the partitioner in front of `{consumer}` answered {answer}, but `{consumer}` has {channels} subtasks, 0 to {}; answer with a number below the \
     second argument", channels - 1
)]
#[non_exhaustive]
pub struct PartitionError {
    /// The operator that the records go to.
    pub consumer: String,
    /// What the function answered.
    pub answer: u32,
    /// How many subtasks the consumer has.
    pub channels: u32,
}

/// The end of a chain in front of an edge whose partitioner is a function.
pub(crate) struct Partition<T: Record, F> {
    function: F,
    channels: Vec<Channel<T>>,
    consumer: Arc<str>,
    place: Place,
}

impl<T: Record, F> Partition<T, F> {
    pub(crate) fn new(function: F, target: Target, consumer: Arc<str>, place: Place) -> Partition<T, F> {
        let channels = (0..target.channels).map(|channel| Channel::new(target.output, channel as usize)).collect();
        Partition { function, channels, consumer, place }
    }

    #[cold]
    fn refused(&self, answer: u32) -> Failure {
        let (consumer, channels) = (self.consumer.to_string(), self.channels.len() as u32);
        self.place.unrecoverable(PartitionError { consumer, answer, channels })
    }
}

impl<T: Record, F: Fn(&T, u32) -> u32> Link<T> for Partition<T, F> {
    fn push(&mut self, slice: &mut Slice<T>, outputs: &mut Outputs) -> Result<(), Failure> {
        self.place.enter();
        for record in slice.records.drain(..) {
            let answer = (self.function)(&record, self.channels.len() as u32);
            match self.channels.get_mut(answer as usize) {
                Some(channel) => channel.push(record, outputs),
                None => return Err(self.refused(answer)),
            }
        }
        slice.clear();
        Ok(())
    }
}

impl<T: Record, F: Fn(&T, u32) -> u32> Partitioner<T> for Partition<T, F> {
    fn channels(&mut self, slice: &mut Slice<T>, channels: &mut Vec<usize>) -> Result<(), Failure> {
        self.place.enter();
        for record in &slice.records {
            let answer = (self.function)(record, self.channels.len() as u32);
            if answer as usize >= self.channels.len() {
                return Err(self.refused(answer));
            }
            channels.push(answer as usize);
        }
        Ok(())
    }
}

impl<T: Record, F> Member for Partition<T, F> {
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
