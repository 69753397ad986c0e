//! What a barrier overtook at one subtask: looked at in its edges, and encoded before anybody works on it.
//!
//! The cut is made at once; the frames in front of the markers that it overtook follow, a few after each slice, where they wait in the edges. One that the
//! gate takes before it was looked at is looked at then. So the stream goes on, and no frame has to be processed for the checkpoint to be complete.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::task::Context;

use crate::drive::edge::Frame;
use crate::drive::gate::Gate;
use crate::drive::subtask::{SubtaskCore, guarded};
use crate::ids::CheckpointId;
use crate::ports::points::Point;
use crate::ports::task::{Failure, OperatorTask};
use crate::protocol::align::{Capture, Captured, Channel, Seen};
use crate::protocol::machine::Machine;
use crate::protocol::mutation::{Mutation, is_active};

/// So many batches are encoded between two slices of records.
const BATCHES_PER_SLICE: usize = 4;

/// The capture of one checkpoint under way.
pub(super) struct Overtaken {
    machine: Capture,
    channels: BTreeMap<Channel, Looked>,
    effects: Vec<Captured>,
}

/// How far one channel was looked at.
#[derive(Clone, Copy, Debug, Default)]
struct Looked {
    /// So many frames at its head have been.
    frames: usize,
    /// The records that the cut of the subtask holds of it: those that were processed before, and those that were captured.
    records: u64,
    /// How many batches were captured.
    batches: u32,
}

impl Overtaken {
    pub(super) fn new(checkpoint: CheckpointId, channels: Vec<Channel>) -> Overtaken {
        let looked = channels.iter().map(|channel| (*channel, Looked::default())).collect();
        Overtaken { machine: Capture::new(checkpoint, channels), channels: looked, effects: Vec::new() }
    }

    /// The same, with the records that were taken from each channel so far: processed, or the rest of the batch in work, which is captured first of all.
    pub(super) fn behind(mut self, taken: &BTreeMap<Channel, u64>) -> Overtaken {
        for (channel, looked) in &mut self.channels {
            looked.records = taken.get(channel).copied().unwrap_or(0);
        }
        self
    }

    pub(super) fn owes(&self, channel: Channel) -> bool {
        self.machine.owes(channel)
    }

    pub(super) fn is_over(&self) -> bool {
        self.machine.is_over()
    }

    /// The gate has taken a frame.
    ///
    /// # Errors
    /// When a record's own serialization fails.
    pub(super) fn takes(
        &mut self,
        core: &mut SubtaskCore,
        task: &mut dyn OperatorTask,
        channel: Channel,
        frame: &Frame,
    ) -> Result<(), Failure> {
        let Some(looked) = self.channels.get_mut(&channel) else { return Ok(()) };
        if looked.frames > 0 {
            looked.frames -= 1;
            return Ok(());
        }
        if is_active(Mutation::CaptureTooLate) && matches!(frame, Frame::Batch(_)) {
            return Ok(());
        }
        self.see(core, task, channel, frame)
    }

    /// Looks at some frames that wait in the edges. The waker is left behind in each.
    ///
    /// # Errors
    /// When a record's own serialization fails.
    pub(super) fn look(
        &mut self,
        core: &mut SubtaskCore,
        task: &mut dyn OperatorTask,
        gate: &Gate,
        context: &mut Context<'_>,
    ) -> Result<(), Failure> {
        if !core.has_snapshot(self.machine.checkpoint()) {
            // It was aborted, or declined.
            self.machine = Capture::new(self.machine.checkpoint(), []);
            return Ok(());
        }
        let mut batches = BATCHES_PER_SLICE;
        for channel in self.machine.owing().collect::<Vec<_>>() {
            let mut outcome = Ok(());
            let from = self.channels.get(&channel).map_or(0, |looked| looked.frames);
            gate.look(channel, context, from, &mut |frame| {
                if batches == 0 || !self.machine.owes(channel) {
                    return ControlFlow::Break(());
                }
                batches -= usize::from(matches!(frame, Frame::Batch(_)));
                if let Some(looked) = self.channels.get_mut(&channel) {
                    looked.frames += 1;
                }
                outcome = self.see(core, task, channel, frame);
                if outcome.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            outcome?;
        }
        if batches == 0 && !self.is_over() {
            context.waker().wake_by_ref();
        }
        Ok(())
    }

    fn see(
        &mut self,
        core: &mut SubtaskCore,
        task: &mut dyn OperatorTask,
        channel: Channel,
        frame: &Frame,
    ) -> Result<(), Failure> {
        let seen = match frame {
            Frame::Batch(_) => Seen::Records(channel),
            Frame::Barrier(barrier) => Seen::Marker(channel, barrier.checkpoint),
            Frame::Cancel(checkpoint) => Seen::CancelMarker(channel, *checkpoint),
            Frame::EndOfChannel => Seen::EndOfChannel(channel),
            // Its producer says it again after a restore.
            Frame::EndOfData => return Ok(()),
        };
        let checkpoint = self.machine.checkpoint();
        let mut effects = std::mem::take(&mut self.effects);
        self.machine.handle(core.host.now(), seen, &mut effects);
        debug_assert_eq!(self.machine.check(), Ok(()));
        for effect in effects.drain(..) {
            match effect {
                Captured::Keep(channel) => {
                    if let Frame::Batch(batch) = frame {
                        if let Some(looked) = self.channels.get_mut(&channel) {
                            looked.records += batch.len() as u64;
                            looked.batches = looked.batches.saturating_add(1);
                        }
                        guarded(&core.name, task, |task| task.capture(checkpoint, channel, batch.as_ref()))??;
                    }
                }
                Captured::Ended(channel) => {
                    let Looked { records, batches, .. } = self.channels.remove(&channel).unwrap_or_default();
                    if matches!(frame, Frame::Barrier(_)) {
                        core.collected_up_to(checkpoint, channel, batches);
                    }
                    core.tell_cut(checkpoint, std::iter::once((channel, records)));
                }
                Captured::Complete => {
                    core.collected(checkpoint);
                    core.pass(Point::CaptureEnds, Some(checkpoint), task)?;
                    guarded(&core.name, task, |task| task.end_capture(checkpoint))?;
                }
                Captured::GivenUp(reason) => core.give_up(checkpoint, reason, task)?,
            }
        }
        self.effects = effects;
        Ok(())
    }
}
