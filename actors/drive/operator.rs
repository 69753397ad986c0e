//! The driver of a subtask whose head takes batches from edges.

use std::rc::Rc;
use std::task::{Context, Poll};

use crate::drive::control::Control;
use crate::drive::edge::Frame;
use crate::drive::gate::Gate;
use crate::drive::outputs::Outputs;
use crate::drive::subtask::{ForHead, SubtaskCore, drop_quietly, guarded};
use crate::ids::{Attempt, SubtaskId};
use crate::ports::host::{Driver, Host, Step};
use crate::ports::task::{Failure, OperatorTask};
use crate::protocol::align::{self, Aligner, Channel};
use crate::protocol::lifecycle::SubtaskState;

/// Drives one operator subtask.
pub struct OperatorDriver {
    core: SubtaskCore,
    gate: Gate,
    task: Option<Box<dyn OperatorTask>>,
    /// The channel of the batch that the task is working through.
    working: Option<Channel>,
}

impl OperatorDriver {
    /// A driver for `task`. `finished_before` says that the restored cut lies behind the end of its data.
    #[must_use]
    pub fn new(
        host: Rc<dyn Host>,
        id: SubtaskId,
        attempt: Attempt,
        name: String,
        task: Box<dyn OperatorTask>,
        gate: Gate,
        outputs: Outputs,
        aligner: Aligner,
        finished_before: bool,
    ) -> OperatorDriver {
        let core = SubtaskCore::new(host, id, attempt, name, outputs, aligner, finished_before);
        OperatorDriver { core, gate, task: Some(task), working: None }
    }

    fn try_step(&mut self, context: &mut Context<'_>) -> Result<Step, Failure> {
        let Some(task) = self.task.as_mut() else { return Ok(Step::Finished) };
        let core = &mut self.core;
        let mut for_head = Vec::new();
        // A message may ask for a cut, and a cut lies between two batches of a channel only if the batch in work is used up first.
        // In aligned mode a cut is asked for by a marker (or, without channels, by a trigger), never while a batch is in work.
        while let Some(message) = core.mailbox.pop_front() {
            core.on_message(message, task.as_mut(), &mut for_head)?;
            for item in for_head.drain(..) {
                match item {
                    ForHead::Block(channel, blocked) => self.gate.set_blocked(channel, blocked),
                    ForHead::Message(Control::Cancel) => return Ok(Step::Finished),
                    ForHead::Message(message) => {
                        return Err(Failure::unrecoverable(&core.name, format!("unexpected message {message:?}")));
                    }
                }
            }
        }
        if core.state == SubtaskState::Restoring {
            core.poll_restore(task.as_mut(), context)?;
            return Ok(Step::Wait);
        }
        if core.state == SubtaskState::Restored {
            return Ok(Step::Wait);
        }
        if core.is_done(task.as_ref()) {
            core.outputs.send_end_of_channel();
            return Ok(Step::Finished);
        }
        let began = core.host.now();
        loop {
            let progress = self.slice(context)?;
            let core = &mut self.core;
            let task = self.task.as_mut().expect("the task lives until the driver ends");
            core.poll_snapshots(task.as_mut(), progress == Step::Wait, context)?;
            if core.is_done(task.as_ref()) {
                core.outputs.send_end_of_channel();
                return Ok(Step::Finished);
            }
            if progress == Step::Wait || core.host.budget_spent(began) {
                return Ok(progress);
            }
        }
    }

    /// One slice of records, or one frame.
    fn slice(&mut self, context: &mut Context<'_>) -> Result<Step, Failure> {
        let core = &mut self.core;
        let task = self.task.as_mut().expect("the task lives until the driver ends").as_mut();
        if !core.outputs.poll_drained(context) {
            return Ok(Step::Wait);
        }
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
            guarded(&core.name, task, |task| task.flush(&mut core.outputs))?;
            core.outputs.poll_drained(context);
            return Ok(Step::Wait);
        };
        let mut for_head = Vec::new();
        match frame {
            Frame::Batch(batch) => {
                let input = self.gate.input_of(channel);
                guarded(&core.name, task, |task| task.accept(input, batch))?;
                self.working = Some(channel);
            }
            Frame::Barrier(barrier) => {
                core.remember(barrier);
                let (checkpoint, triggered) = (barrier.checkpoint, barrier.triggered);
                core.align(align::Event::Marker { channel, checkpoint, triggered }, task, &mut for_head)?;
            }
            Frame::Cancel(checkpoint) => {
                core.align(align::Event::CancelMarker { channel, checkpoint }, task, &mut for_head)?;
            }
            Frame::EndOfData => {
                if self.gate.end_of_data(channel) && core.state == SubtaskState::Running {
                    core.end_of_data(task)?;
                }
            }
            Frame::EndOfChannel => {
                self.gate.ended(channel);
                core.align(align::Event::ChannelEnded { channel }, task, &mut for_head)?;
            }
        }
        for item in for_head {
            if let ForHead::Block(channel, blocked) = item {
                self.gate.set_blocked(channel, blocked);
            }
        }
        Ok(Step::Again)
    }
}

impl Driver for OperatorDriver {
    fn receive(&mut self, message: Control) {
        self.core.mailbox.push_back(message);
    }

    fn step(&mut self, context: &mut Context<'_>) -> Step {
        match self.try_step(context) {
            Ok(Step::Finished) => {
                self.end();
                Step::Finished
            }
            Ok(step) => step,
            Err(failure) => {
                self.core.failed(failure);
                self.end();
                Step::Finished
            }
        }
    }
}

impl OperatorDriver {
    fn end(&mut self) {
        drop_quietly(self.task.take());
        self.core.tell_supervisor(Control::Ended { attempt: self.core.attempt, subtask: self.core.id });
    }
}
