//! The head of a subtask that takes batches from edges.

use std::rc::Rc;
use std::task::{Context, Poll};

use crate::drive::control::Control;
use crate::drive::edge::Frame;
use crate::drive::gate::Gate;
use crate::drive::outputs::Outputs;
use crate::drive::overtaken::Overtaken;
use crate::drive::subtask::{Restored, SubtaskCore, drop_quietly, guarded};
use crate::drive::subtask_driver::{Head, SubtaskDriver};
use crate::ids::{Attempt, CheckpointId, SubtaskId};
use crate::ports::fence::Fence;
use crate::ports::host::{Host, Step};
use crate::ports::task::{Failure, OperatorTask, Task};
use crate::protocol::align::{self, Alignment, Channel};
use crate::protocol::lifecycle::SubtaskState;
use crate::protocol::mutation::{Mutation, is_active};

/// Drives one operator subtask.
pub type OperatorDriver = SubtaskDriver<OperatorHead>;

/// A gate with the chain behind it.
pub struct OperatorHead {
    gate: Gate,
    task: Option<Box<dyn OperatorTask>>,
    /// The batch that the task is working through.
    working: Option<Working>,
    /// What a barrier overtook, and is not all looked at yet.
    capture: Option<Overtaken>,
}

/// Where the batch in work came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Working {
    /// From this channel.
    Edge(Channel),
    /// It was in flight when the restored checkpoint was taken.
    Restored,
}

impl OperatorDriver {
    /// A driver for `task`.
    #[must_use]
    pub fn new(
        host: Rc<dyn Host>,
        id: SubtaskId,
        attempt: Attempt,
        fence: Fence,
        name: String,
        task: Box<dyn OperatorTask>,
        gate: Gate,
        outputs: Outputs,
        alignment: Alignment,
        restored: Restored,
    ) -> OperatorDriver {
        let core = SubtaskCore::new(host, id, attempt, fence, name, outputs, alignment, restored);
        SubtaskDriver::around(core, OperatorHead { gate, task: Some(task), working: None, capture: None })
    }
}

impl OperatorHead {
    fn chain(&mut self) -> &mut dyn OperatorTask {
        self.task.as_mut().expect("the task lives until the driver ends").as_mut()
    }
}

impl OperatorHead {
    /// Takes the next batch that was in flight when the restored checkpoint was taken. False if there is none left.
    fn take_restored(&mut self, core: &mut SubtaskCore) -> Result<bool, Failure> {
        let task = self.chain();
        if !task.has_restored() {
            return Ok(false);
        }
        let Some((input, batch)) = guarded(&core.name, task, |task| task.take_restored())?? else { return Ok(false) };
        guarded(&core.name, task, |task| task.accept(input, batch))?;
        self.working = Some(Working::Restored);
        Ok(true)
    }
}

impl Head for OperatorHead {
    fn task(&mut self) -> &mut dyn Task {
        self.chain()
    }

    fn block(&mut self, channel: Channel, blocked: bool) {
        self.gate.set_blocked(channel, blocked);
    }

    fn message(&mut self, core: &mut SubtaskCore, message: Control) -> Result<(), Failure> {
        Err(Failure::unrecoverable(&core.name, format!("unexpected message {message:?}")))
    }

    fn slice(&mut self, core: &mut SubtaskCore, context: &mut Context<'_>) -> Result<Step, Failure> {
        if !core.outputs.poll_drained(context) {
            return Ok(Step::Wait);
        }
        let task = self.task.as_mut().expect("the task lives until the driver ends").as_mut();
        match guarded(&core.name, task, |task| task.poll_ready(context))? {
            Poll::Pending => return Ok(Step::Wait),
            Poll::Ready(ready) => ready?,
        }
        if let Some(working) = self.working {
            let (limit, began) = (core.slice_size.records(), core.host.now());
            let emptied = guarded(&core.name, task, |task| task.step(limit, &mut core.outputs))??;
            core.slice_size.took(core.host.now().since(began));
            if let Some(emptied) = emptied {
                if let Working::Edge(channel) = working {
                    self.gate.give_back(channel, emptied);
                }
                self.working = None;
            }
            return Ok(Step::Again);
        }
        // All that was in flight comes before anything new (rule 27).
        if !is_active(Mutation::RestoredBehindNew) && self.take_restored(core)? {
            return Ok(Step::Again);
        }
        let Poll::Ready((channel, frame)) = self.gate.poll_frame(context) else {
            if self.take_restored(core)? {
                return Ok(Step::Again);
            }
            let task = self.task.as_mut().expect("the task lives until the driver ends").as_mut();
            // Idle: nothing is held back. What the flush sends may need credit, and leaves its waker if it gets none.
            core.flush(task)?;
            core.outputs.poll_drained(context);
            return Ok(Step::Wait);
        };
        let task = self.task.as_mut().expect("the task lives until the driver ends").as_mut();
        if let Some(capture) = &mut self.capture {
            capture.takes(core, task, channel, &frame)?;
        }
        match frame {
            Frame::Batch(batch) => {
                let input = self.gate.input_of(channel);
                guarded(&core.name, task, |task| task.accept(input, batch))?;
                self.working = Some(Working::Edge(channel));
            }
            Frame::Barrier(barrier) => {
                if is_active(Mutation::ForwardBeforeSnapshot) {
                    core.remember(barrier);
                    core.flush(task)?;
                    core.outputs.send_barrier(core.host.as_ref(), core.address(), barrier);
                }
                core.marker(channel, barrier, task)?;
            }
            Frame::Cancel(checkpoint) => {
                core.align(align::Event::CancelMarker { channel, checkpoint }, task)?;
            }
            Frame::EndOfData => {
                if self.gate.end_of_data(channel) && core.state == SubtaskState::Running {
                    core.end_of_data(task)?;
                }
            }
            Frame::EndOfChannel => {
                self.gate.ended(channel);
                core.align(align::Event::ChannelEnded { channel }, task)?;
            }
        }
        Ok(Step::Again)
    }

    /// Begins with what the barrier overtook, before any frame is taken, and tells what the cut took from the other channels.
    fn cut(&mut self, core: &mut SubtaskCore, checkpoint: CheckpointId, channels: Vec<Channel>) -> Result<(), Failure> {
        let task = self.task.as_mut().expect("the task lives until the driver ends").as_mut();
        let overtaken = Overtaken::new(checkpoint, channels);
        core.tell_cut(checkpoint, self.gate.records().filter(|(channel, _)| !overtaken.owes(*channel)));
        if !overtaken.is_over() || task.has_restored() {
            let working = match self.working {
                Some(Working::Edge(channel)) if overtaken.owes(channel) => Some(channel),
                Some(Working::Edge(_) | Working::Restored) | None => None,
            };
            // The rest of the batch in work was taken from its channel and counts there: it is captured, the more so.
            core.collects(checkpoint, !overtaken.is_over());
            guarded(&core.name, task, |task| task.begin_capture(checkpoint, working))??;
            if overtaken.is_over() {
                guarded(&core.name, task, |task| task.end_capture(checkpoint))?;
            } else {
                self.capture = Some(overtaken.behind(&self.gate.records().collect()));
            }
        }
        Ok(())
    }

    fn after_slice(&mut self, core: &mut SubtaskCore, context: &mut Context<'_>) -> Result<(), Failure> {
        if let Some(capture) = &mut self.capture {
            let task = self.task.as_mut().expect("the task lives until the driver ends").as_mut();
            capture.look(core, task, &self.gate, context)?;
            if capture.is_over() {
                self.capture = None;
            }
        }
        Ok(())
    }

    fn end(&mut self) {
        drop_quietly(self.task.take());
    }
}
