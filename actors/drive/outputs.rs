//! The outputs of a subtask: which edge a batch leaves by, and what waits when edges do not take it.
//!
//! Output that an edge does not take waits here and stops the subtask's input (rule 3): that is back-pressure. At a barrier
//! everything that waits is pushed past the credits, so there is no separate output state to store.

use std::collections::VecDeque;
use std::task::Context;
use std::time::Duration;

use crate::drive::control::Control;
use crate::drive::edge::{Barrier, EdgeSender, Frame};
use crate::ids::CheckpointId;
use crate::payload::Payload;
use crate::ports::host::{Address, Host};
use crate::ports::points::{ChannelEnd, Hit, Point};
use crate::protocol::align::Channel;
use crate::protocol::buffer_timeout::BufferTimeout;
use crate::protocol::mutation::{Mutation, is_active};

/// One channel of an output: an edge to one consumer.
#[derive(Debug)]
pub struct OutputChannel {
    /// The edge.
    pub edge: EdgeSender,
    /// Who reads it.
    pub consumer: Address,
    /// Which of the consumer's channels it is.
    pub consumer_channel: usize,
}

/// All outputs of a subtask.
#[derive(Debug, Default)]
pub struct Outputs {
    outputs: Vec<Vec<Slot>>,
    waiting: usize,
    /// How many batches were taken by an edge.
    taken: u64,
    /// For what the chain holds back in partial batches.
    pub(super) buffer: BufferTimeout,
}

#[derive(Debug)]
struct Slot {
    channel: OutputChannel,
    waiting: VecDeque<Payload>,
    /// The records that were handed over, those that wait included.
    records: u64,
}

impl Outputs {
    /// Outputs by number, each with its channels by number.
    #[must_use]
    pub fn new(outputs: Vec<Vec<OutputChannel>>) -> Outputs {
        let outputs = outputs
            .into_iter()
            .map(|channels| {
                channels.into_iter().map(|channel| Slot { channel, waiting: VecDeque::new(), records: 0 }).collect()
            })
            .collect();
        Outputs { outputs, waiting: 0, taken: 0, buffer: BufferTimeout::default() }
    }

    /// The same outputs, with another time after which a partial batch leaves.
    #[must_use]
    pub fn buffer_timeout(self, timeout: Duration) -> Outputs {
        Outputs { buffer: BufferTimeout::new(timeout), ..self }
    }

    /// Whether there is an output at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.outputs.is_empty()
    }

    /// How many channels output `output` has.
    #[must_use]
    pub fn channels(&self, output: usize) -> usize {
        self.outputs[output].len()
    }

    /// Hands over a batch. It leaves at the next [`Outputs::poll_drained`] or at the next barrier.
    pub fn send(&mut self, output: usize, channel: usize, batch: Payload) {
        if !batch.is_empty() {
            let slot = &mut self.outputs[output][channel];
            slot.records += batch.len() as u64;
            slot.waiting.push_back(batch);
            self.waiting += 1;
        }
    }

    /// A buffer that came back from a consumer of this channel.
    #[must_use]
    pub fn take_returned(&self, output: usize, channel: usize) -> Option<Payload> {
        self.outputs[output][channel].channel.edge.take_returned()
    }

    /// Sends what the credits allow. True when nothing waits any more; else the waker is left with the edges that refused.
    pub fn poll_drained(&mut self, context: &mut Context<'_>) -> bool {
        if self.waiting == 0 {
            return true;
        }
        for slot in self.outputs.iter_mut().flatten() {
            while let Some(batch) = slot.waiting.pop_front() {
                match slot.channel.edge.try_send(batch, context) {
                    Ok(()) => {
                        self.waiting -= 1;
                        self.taken += 1;
                    }
                    Err(batch) => {
                        slot.waiting.push_front(batch);
                        break;
                    }
                }
            }
        }
        self.waiting == 0
    }

    /// Who takes nothing, if something waits, and how many batches have been taken so far.
    pub(super) fn held_up(&self) -> Option<(Address, u64)> {
        if self.waiting == 0 {
            return None;
        }
        let slot = self.outputs.iter().flatten().find(|slot| !slot.waiting.is_empty())?;
        Some((slot.channel.consumer, self.taken))
    }

    /// Pushes everything that waits past the credits, then the marker into every edge, then the message to every
    /// consumer's mailbox: in this order (rule 3).
    pub fn send_barrier(&mut self, host: &dyn Host, producer: Address, barrier: Barrier) {
        if is_active(Mutation::BarrierOvertakesOutput) {
            self.outputs.iter().flatten().for_each(|slot| slot.channel.edge.force_send(Frame::Barrier(barrier)));
        }
        self.force(|| Frame::Barrier(barrier));
        let points = host.points();
        if points.are_armed() {
            for slot in self.outputs.iter().flatten() {
                let channel = Channel(slot.channel.consumer_channel as u32);
                let end = ChannelEnd { consumer: slot.channel.consumer, channel, records: slot.records };
                // Nothing here can fail: the marker is in the edge.
                let _ = points
                    .reach(|| Hit::of(Point::BarrierMarked, producer).checkpoint(barrier.checkpoint).channel(end));
            }
        }
        for slot in self.outputs.iter().flatten() {
            host.send(
                slot.channel.consumer,
                Control::BarrierAnnounced { channel: slot.channel.consumer_channel, barrier },
            );
        }
    }

    /// Tells every consumer that this checkpoint will not be cut here.
    pub fn send_cancel(&mut self, checkpoint: CheckpointId) {
        for slot in self.outputs.iter().flatten() {
            slot.channel.edge.force_send(Frame::Cancel(checkpoint));
        }
    }

    /// Tells every consumer that no record follows.
    pub fn send_end_of_data(&mut self) {
        self.force(|| Frame::EndOfData);
    }

    /// Tells every consumer that nothing follows.
    pub fn send_end_of_channel(&mut self) {
        self.force(|| Frame::EndOfChannel);
    }

    fn force(&mut self, frame: impl Fn() -> Frame) {
        for slot in self.outputs.iter_mut().flatten() {
            for batch in slot.waiting.drain(..) {
                slot.channel.edge.force_send(Frame::Batch(batch));
            }
            slot.channel.edge.force_send(frame());
        }
        self.waiting = 0;
    }
}
