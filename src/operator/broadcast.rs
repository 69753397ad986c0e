//! The partitioner that gives every record to every subtask of the consumer.

use alluvium_actors::drive::outputs::Outputs;
use alluvium_actors::ports::task::Failure;

use super::assembly::Target;
use super::channel::Channel;
use super::link::{Link, Member};
use super::place::Place;
use crate::record::Record;
use crate::record::batch::Slice;

/// The end of a chain in front of a broadcasting edge. Whole slices are copied, one for each channel but the last, which takes the original.
pub(crate) struct Broadcast<T: Record> {
    copied: Vec<Channel<T>>,
    last: Channel<T>,
    copy: Slice<T>,
    /// That of the operator whose output is copied: `Clone` is user code.
    place: Place,
}

impl<T: Record> Broadcast<T> {
    pub(crate) fn new(target: Target, place: Place) -> Broadcast<T> {
        let channel = |channel: u32| Channel::new(target.output, channel as usize);
        let last = target.channels.saturating_sub(1);
        Broadcast { copied: (0..last).map(channel).collect(), last: channel(last), copy: Slice::new(), place }
    }
}

impl<T: Record> Link<T> for Broadcast<T> {
    fn push(&mut self, slice: &mut Slice<T>, outputs: &mut Outputs) -> Result<(), Failure> {
        self.place.enter();
        for channel in &mut self.copied {
            self.copy.records.extend_from_slice(&slice.records);
            channel.push_slice(&mut self.copy, outputs);
        }
        self.last.push_slice(slice, outputs);
        Ok(())
    }
}

impl<T: Record> Member for Broadcast<T> {
    fn walk(&mut self, visit: &mut dyn FnMut(&mut dyn Member)) {
        visit(self);
    }

    fn place(&self) -> Option<&Place> {
        Some(&self.place)
    }

    fn flush(&mut self, outputs: &mut Outputs) {
        for channel in &mut self.copied {
            channel.flush(outputs);
        }
        self.last.flush(outputs);
    }
}
