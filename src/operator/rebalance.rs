//! The partitioner that gives slices to the consumers in turn.

use alluvium_actors::drive::outputs::Outputs;
use alluvium_actors::ports::task::Failure;

use super::assembly::Target;
use super::channel::Channel;
use super::link::{Link, Member};
use crate::record::Record;
use crate::record::batch::Slice;

/// The end of a chain in front of a rebalancing edge.
pub(crate) struct Rebalance<T: Record> {
    channels: Vec<Channel<T>>,
    next: usize,
}

impl<T: Record> Rebalance<T> {
    /// Begins with channel `first`, modulo their number, so that several producers do not all begin with the same consumer.
    pub(crate) fn new(target: Target, first: u32) -> Rebalance<T> {
        let channels = (0..target.channels).map(|channel| Channel::new(target.output, channel as usize)).collect();
        Rebalance { channels, next: (first % target.channels) as usize }
    }
}

impl<T: Record> Link<T> for Rebalance<T> {
    fn push(&mut self, slice: &mut Slice<T>, outputs: &mut Outputs) -> Result<(), Failure> {
        self.channels[self.next].push_slice(slice, outputs);
        self.next += 1;
        if self.next == self.channels.len() {
            self.next = 0;
        }
        Ok(())
    }
}

impl<T: Record> Member for Rebalance<T> {
    fn walk(&mut self, visit: &mut dyn FnMut(&mut dyn Member)) {
        visit(self);
    }

    fn flush(&mut self, outputs: &mut Outputs) {
        for channel in &mut self.channels {
            channel.flush(outputs);
        }
    }
}
