//! Producers and consumers of the stress: what they send is a script, when they rest is chance.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use alluvium_actors::drive::edge::{EdgeSender, Frame};
use alluvium_actors::drive::gate::Gate;
use alluvium_actors::protocol::align::Channel;
use futures::task::AtomicWaker;

use crate::payload::Numbered;
use crate::script::{Chance, Planned, Script, frame, is_planned};
use crate::tie::{CONSUMER, PRODUCER, Tie};

/// How many frames a task handles at most before it gives its thread back.
const FRAMES_PER_POLL: u64 = 64;

/// How often the sides slept because of the edge.
#[derive(Default)]
pub(crate) struct Sleeps {
    pub(crate) refused: AtomicU64,
    pub(crate) empty: AtomicU64,
}

pub(crate) struct Output {
    pub(crate) sender: EdgeSender,
    pub(crate) tie: Arc<Tie>,
    pub(crate) script: Script,
    pub(crate) credits: u64,
    pub(crate) batches: u64,
}

pub(crate) struct Producer {
    pub(crate) outputs: Vec<Output>,
    pub(crate) chance: Chance,
    /// About how many frames go by before it holds still.
    pub(crate) frames_per_hold: u64,
    pub(crate) holding: Option<usize>,
    /// The output that refused a batch, and the batch.
    pub(crate) waiting: Option<(usize, Frame)>,
    pub(crate) alive: Arc<AtomicUsize>,
    pub(crate) sleeps: Arc<Sleeps>,
    pub(crate) messages: Vec<Arc<AtomicWaker>>,
}

impl Producer {
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        for _ in 0..=self.chance.below(FRAMES_PER_POLL) {
            if let Some(index) = self.holding {
                let tie = &self.outputs[index].tie;
                if tie.still_holds(|| tie.is_empty_or_left(), context) {
                    return Poll::Pending;
                }
                self.holding = None;
            }
            if let Some((index, frame)) = self.waiting.take() {
                if !self.try_send(index, frame, context) {
                    return Poll::Pending;
                }
                continue;
            }
            let open: Vec<usize> = (0..self.outputs.len()).filter(|&i| !self.outputs[i].script.is_over()).collect();
            if open.is_empty() {
                return Poll::Ready(());
            }
            let index = open[self.chance.below(open.len() as u64) as usize];
            if self.chance.one_in(self.frames_per_hold) && self.outputs[index].tie.hold(PRODUCER) {
                self.holding = Some(index);
                continue;
            }
            if !self.send_next(index, context) {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn send_next(&mut self, index: usize, context: &mut Context<'_>) -> bool {
        let output = &mut self.outputs[index];
        let (number, planned) = output.script.next().expect("only open outputs are chosen");
        let frame = frame(number, planned, &output.sender, &self.alive);
        output.tie.empty.store(false, Ordering::SeqCst);
        output.tie.sent.fetch_add(1, Ordering::SeqCst);
        match planned {
            Planned::Batch => return self.try_send(index, frame, context),
            Planned::ForcedBatch => {
                output.batches += 1;
                output.sender.force_send(frame);
            }
            Planned::Barrier => {
                output.sender.force_send(frame);
                output.tie.announced.store(number + 1, Ordering::SeqCst);
                self.messages[index].wake();
            }
            Planned::Cancel | Planned::EndOfData => output.sender.force_send(frame),
            Planned::EndOfChannel => {
                output.sender.force_send(frame);
                output.tie.tell(&output.tie.refused);
            }
        }
        true
    }

    fn try_send(&mut self, index: usize, frame: Frame, context: &mut Context<'_>) -> bool {
        let output = &mut self.outputs[index];
        let Frame::Batch(batch) = frame else { panic!("only batches are refused") };
        if output.batches.saturating_sub(output.tie.taken.load(Ordering::SeqCst)) >= output.credits {
            output.tie.tell_before_look(&output.tie.refused, &mut self.chance);
        }
        match output.sender.try_send(batch, context) {
            Ok(()) => {
                output.tie.refused.store(false, Ordering::SeqCst);
                output.batches += 1;
                // One more than the credits: the consumer may have taken a batch that it did not count yet.
                let inside = output.batches.saturating_sub(output.tie.taken.load(Ordering::SeqCst));
                let bounded = inside <= output.credits + 1 || output.tie.leaves.load(Ordering::SeqCst);
                assert!(bounded, "{inside} batches in an edge of {} credits", output.credits);
                true
            }
            Err(batch) => {
                self.waiting = Some((index, Frame::Batch(batch)));
                self.sleeps.refused.fetch_add(1, Ordering::SeqCst);
                output.tie.tell(&output.tie.refused);
                false
            }
        }
    }
}

pub(crate) struct Input {
    pub(crate) tie: Arc<Tie>,
    pub(crate) script: Script,
    pub(crate) held: bool,
}

pub(crate) struct Consumer {
    pub(crate) gate: Gate,
    pub(crate) inputs: Vec<Input>,
    pub(crate) chance: Chance,
    /// About how many frames go by before it holds still.
    pub(crate) frames_per_hold: u64,
    /// After so many frames it leaves without having read to the end.
    pub(crate) leaves_after: Option<u64>,
    pub(crate) read: u64,
    pub(crate) sleeps: Arc<Sleeps>,
    pub(crate) messages: Arc<AtomicWaker>,
}

impl Consumer {
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        for _ in 0..=self.chance.below(FRAMES_PER_POLL) {
            if self.inputs.iter().all(|input| input.script.is_over()) || self.leaves_after == Some(self.read) {
                return Poll::Ready(());
            }
            self.hold_still(context);
            for input in self.inputs.iter().filter(|input| !input.held && !input.script.is_over()) {
                if input.tie.sent.load(Ordering::SeqCst) == input.script.position() {
                    input.tie.tell_before_look(&input.tie.empty, &mut self.chance);
                }
            }
            self.messages.register(context.waker());
            // The mailbox is read before the gate, as drivers do it.
            let announced: Vec<u64> =
                self.inputs.iter().map(|input| input.tie.announced.load(Ordering::SeqCst)).collect();
            let Poll::Ready((channel, frame)) = self.gate.poll_frame(context) else {
                self.sleeps.empty.fetch_add(1, Ordering::SeqCst);
                for (input, announced) in self.inputs.iter().zip(announced) {
                    if !input.held && !input.script.is_over() {
                        assert!(input.script.position() >= announced, "a message is there without its marker");
                        input.tie.tell(&input.tie.empty);
                    }
                }
                return Poll::Pending;
            };
            self.compare(channel, frame);
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Goes on with the channels whose producer is about to sleep, and now and then stops reading one.
    fn hold_still(&mut self, context: &mut Context<'_>) {
        for (position, input) in self.inputs.iter_mut().enumerate() {
            let tie = &input.tie;
            if input.held && !tie.still_holds(|| tie.refused.load(Ordering::SeqCst), context) {
                input.held = false;
                self.gate.set_blocked(Channel(position as u32), false);
            }
        }
        if self.chance.one_in(self.frames_per_hold) {
            let position = self.chance.below(self.inputs.len() as u64) as usize;
            let input = &mut self.inputs[position];
            let awake = !input.held && !input.script.is_over() && !input.tie.refused.load(Ordering::SeqCst);
            if awake && input.tie.hold(CONSUMER) {
                input.held = true;
                self.gate.set_blocked(Channel(position as u32), true);
                // It may have been refused since the look above.
                context.waker().wake_by_ref();
            }
        }
    }

    fn compare(&mut self, channel: Channel, frame: Frame) {
        self.read += 1;
        let input = &mut self.inputs[channel.position()];
        let (number, planned) = input.script.next().expect("nothing follows the end of a channel");
        assert!(is_planned(&frame, number, planned), "{frame:?} came instead of number {number}, {planned:?}");
        match frame {
            Frame::Batch(batch) => {
                input.tie.taken.fetch_add(1, Ordering::SeqCst);
                let batch = Numbered::from_payload(batch);
                assert_eq!(batch.number, number, "a batch came out of order");
                if !self.chance.one_in(8) {
                    self.gate.give_back(channel, batch);
                }
            }
            Frame::EndOfChannel => {
                self.gate.ended(channel);
            }
            Frame::Barrier(_) | Frame::Cancel(_) | Frame::EndOfData => {}
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        for input in &self.inputs {
            input.tie.leaves.store(true, Ordering::SeqCst);
        }
        // First the edges, so that a producer that is told finds them closed.
        self.gate = Gate::default();
        for input in &self.inputs {
            input.tie.tell(&input.tie.left);
        }
    }
}
