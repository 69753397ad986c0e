//! The head of a subtask that takes batches from edges.

use std::rc::Rc;
use std::task::{Context, Poll};

use crate::drive::control::Control;
use crate::drive::edge::Frame;
use crate::drive::gate::Gate;
use crate::drive::outputs::Outputs;
use crate::drive::subtask::{Restored, SubtaskCore, drop_quietly, guarded};
use crate::drive::subtask_driver::{Head, SubtaskDriver};
use crate::ids::{Attempt, SubtaskId};
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
    /// The channel of the batch that the task is working through.
    working: Option<Channel>,
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
        SubtaskDriver::around(core, OperatorHead { gate, task: Some(task), working: None })
    }
}

impl OperatorHead {
    fn chain(&mut self) -> &mut dyn OperatorTask {
        self.task.as_mut().expect("the task lives until the driver ends").as_mut()
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
        if let Some(channel) = self.working {
            if let Some(emptied) = guarded(&core.name, task, |task| task.step(&mut core.outputs))?? {
                self.gate.give_back(channel, emptied);
                self.working = None;
            }
            return Ok(Step::Again);
        }
        let Poll::Ready((channel, frame)) = self.gate.poll_frame(context) else {
            // Idle: nothing is held back. What the flush sends may need credit, and leaves its waker if it gets none.
            core.flush(task)?;
            core.outputs.poll_drained(context);
            return Ok(Step::Wait);
        };
        match frame {
            Frame::Batch(batch) => {
                let input = self.gate.input_of(channel);
                guarded(&core.name, task, |task| task.accept(input, batch))?;
                self.working = Some(channel);
            }
            Frame::Barrier(barrier) => {
                if is_active(Mutation::ForwardBeforeSnapshot) {
                    core.remember(barrier);
                    core.flush(task)?;
                    core.outputs.send_barrier(core.host.as_ref(), core.address(), barrier);
                }
                core.marker(channel, barrier, task)?;
                core.tell_cut(self.gate.records());
            }
            Frame::Cancel(checkpoint) => {
                core.align(align::Event::CancelMarker { channel, checkpoint }, task)?;
                core.tell_cut(self.gate.records());
            }
            Frame::EndOfData => {
                if self.gate.end_of_data(channel) && core.state == SubtaskState::Running {
                    core.end_of_data(task)?;
                }
            }
            Frame::EndOfChannel => {
                self.gate.ended(channel);
                core.align(align::Event::ChannelEnded { channel }, task)?;
                core.tell_cut(self.gate.records());
            }
        }
        Ok(Step::Again)
    }

    fn end(&mut self) {
        drop_quietly(self.task.take());
    }
}
