//! The partitioner of a pointwise edge: everything goes to the subtask of the same index.

use alluvium_actors::drive::outputs::Outputs;
use alluvium_actors::ports::task::Failure;

use super::channel::Channel;
use super::link::{Link, Member};
use crate::record::Record;
use crate::record::batch::Slice;

/// The end of a chain in front of a pointwise edge.
pub(crate) struct Forward<T: Record> {
    channel: Channel<T>,
}

impl<T: Record> Forward<T> {
    pub(crate) fn new(output: usize) -> Forward<T> {
        Forward { channel: Channel::new(output, 0) }
    }
}

impl<T: Record> Link<T> for Forward<T> {
    fn push(&mut self, slice: &mut Slice<T>, outputs: &mut Outputs) -> Result<(), Failure> {
        self.channel.push_slice(slice, outputs);
        Ok(())
    }
}

impl<T: Record> Member for Forward<T> {
    fn walk(&mut self, visit: &mut dyn FnMut(&mut dyn Member)) {
        visit(self);
    }

    fn flush(&mut self, outputs: &mut Outputs) {
        self.channel.flush(outputs);
    }
}
