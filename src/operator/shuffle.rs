//! The partitioner that draws a consumer for each slice.

use std::rc::Rc;

use alluvium_actors::drive::outputs::Outputs;
use alluvium_actors::ports::host::Host;
use alluvium_actors::ports::task::Failure;

use super::assembly::Target;
use super::channel::Channel;
use super::link::{Link, Member};
use crate::record::Record;
use crate::record::batch::Slice;

/// The end of a chain in front of a shuffling edge. Chance comes from the host, so that a simulated run is decided by its seed.
pub(crate) struct Shuffle<T: Record> {
    channels: Vec<Channel<T>>,
    host: Rc<dyn Host>,
}

impl<T: Record> Shuffle<T> {
    pub(crate) fn new(target: Target, host: Rc<dyn Host>) -> Shuffle<T> {
        let channels = (0..target.channels).map(|channel| Channel::new(target.output, channel as usize)).collect();
        Shuffle { channels, host }
    }
}

impl<T: Record> Link<T> for Shuffle<T> {
    fn push(&mut self, slice: &mut Slice<T>, outputs: &mut Outputs) -> Result<(), Failure> {
        let drawn = self.host.random() % self.channels.len() as u64;
        self.channels[drawn as usize].push_slice(slice, outputs);
        Ok(())
    }
}

impl<T: Record> Member for Shuffle<T> {
    fn walk(&mut self, visit: &mut dyn FnMut(&mut dyn Member)) {
        visit(self);
    }

    fn flush(&mut self, outputs: &mut Outputs) {
        for channel in &mut self.channels {
            channel.flush(outputs);
        }
    }
}
