//! The gate: all input channels of a subtask, polled in turn, without those that an alignment has blocked.

use std::ops::ControlFlow;
use std::task::{Context, Poll};

use crate::drive::edge::{EdgeReceiver, Frame};
use crate::payload::Payload;
use crate::protocol::align::Channel;

/// The input side of a subtask.
#[derive(Debug, Default)]
pub struct Gate {
    channels: Vec<Input>,
    /// Where the next poll begins: after the channel that delivered last, so that no channel starves another.
    next: usize,
}

#[derive(Debug)]
struct Input {
    edge: EdgeReceiver,
    input: usize,
    blocked: bool,
    end_of_data: bool,
    ended: bool,
    /// The records that were taken.
    records: u64,
}

impl Gate {
    /// A gate over edges, each with the number of the task's input that it feeds. Channels are numbered in this order.
    #[must_use]
    pub fn new(edges: Vec<(usize, EdgeReceiver)>) -> Gate {
        let channels = edges
            .into_iter()
            .map(|(input, edge)| Input { edge, input, blocked: false, end_of_data: false, ended: false, records: 0 })
            .collect();
        Gate { channels, next: 0 }
    }

    /// The next frame of any channel that is not blocked, with its channel. Pending with the waker left behind in every edge that was looked at.
    pub fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<(Channel, Frame)> {
        let count = self.channels.len();
        for offset in 0..count {
            let position = (self.next + offset) % count;
            let channel = &mut self.channels[position];
            if channel.blocked || channel.ended {
                continue;
            }
            if let Poll::Ready(frame) = channel.edge.poll_frame(context) {
                if let Frame::Batch(batch) = &frame {
                    channel.records += batch.len() as u64;
                }
                self.next = (position + 1) % count;
                return Poll::Ready((Channel(position as u32), frame));
            }
        }
        Poll::Pending
    }

    /// Shows the frames that wait in a channel, from position `from` on.
    pub fn look(
        &self,
        channel: Channel,
        context: &Context<'_>,
        from: usize,
        visit: &mut dyn FnMut(&Frame) -> ControlFlow<()>,
    ) {
        self.channels[channel.position()].edge.look(context, from, visit);
    }

    /// How many records were taken from each channel, in their order.
    pub fn records(&self) -> impl Iterator<Item = (Channel, u64)> + '_ {
        self.channels.iter().enumerate().map(|(position, channel)| (Channel(position as u32), channel.records))
    }

    /// Which input of the task a channel feeds.
    #[must_use]
    pub fn input_of(&self, channel: Channel) -> usize {
        self.channels[channel.position()].input
    }

    /// Blocks or unblocks a channel.
    pub fn set_blocked(&mut self, channel: Channel, blocked: bool) {
        self.channels[channel.position()].blocked = blocked;
    }

    /// Notes the end of a channel's data. True when it was the last one: no input brings a record any more.
    pub fn end_of_data(&mut self, channel: Channel) -> bool {
        self.channels[channel.position()].end_of_data = true;
        self.channels.iter().all(|channel| channel.end_of_data || channel.ended)
    }

    /// Notes the end of a channel. True when no input brings a record any more.
    pub fn ended(&mut self, channel: Channel) -> bool {
        self.channels[channel.position()].ended = true;
        self.channels.iter().all(|channel| channel.end_of_data || channel.ended)
    }

    /// Returns the buffer of a used-up batch to the producer of a channel.
    pub fn give_back(&self, channel: Channel, emptied: Payload) {
        self.channels[channel.position()].edge.give_back(emptied);
    }
}
