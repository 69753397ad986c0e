//! The driver of a subtask whose head is a source reader.

use std::rc::Rc;
use std::task::{Context, Poll};

use crate::drive::control::Control;
use crate::drive::outputs::Outputs;
use crate::drive::subtask::{ForHead, SubtaskCore, drop_quietly, guarded};
use crate::ids::{Attempt, SubtaskId};
use crate::ports::host::{Address, Driver, Host, Step};
use crate::ports::store::CheckpointKind;
use crate::ports::task::{Failure, SourceStep, SourceTask};
use crate::protocol::align::Aligner;
use crate::protocol::lifecycle::SubtaskState;

/// Drives one source subtask.
pub struct SourceDriver {
    core: SubtaskCore,
    task: Option<Box<dyn SourceTask>>,
    /// A stopping checkpoint was cut: nothing is read until it is called off.
    stopped: bool,
}

impl SourceDriver {
    /// A driver for `task`. `finished_before` says that the restored cut lies behind the end of its data.
    #[must_use]
    pub fn new(
        host: Rc<dyn Host>,
        id: SubtaskId,
        attempt: Attempt,
        name: String,
        task: Box<dyn SourceTask>,
        outputs: Outputs,
        finished_before: bool,
    ) -> SourceDriver {
        let core = SubtaskCore::new(host, id, attempt, name, outputs, Aligner::new(0), finished_before);
        SourceDriver { core, task: Some(task), stopped: false }
    }

    fn try_step(&mut self, context: &mut Context<'_>) -> Result<Step, Failure> {
        let Some(task) = self.task.as_mut() else { return Ok(Step::Finished) };
        let core = &mut self.core;
        let mut for_head = Vec::new();
        // In order: a split that was assigned after the enumerator's snapshot comes behind the trigger, and the cut is taken right here.
        while let Some(message) = core.mailbox.pop_front() {
            let stops = matches!(&message, Control::Trigger(barrier) if barrier.kind == CheckpointKind::Stopping);
            core.on_message(message, task.as_mut(), &mut for_head)?;
            self.stopped |= stops;
            for item in for_head.drain(..) {
                match item {
                    ForHead::Block(..) => {}
                    ForHead::Message(Control::Cancel) => return Ok(Step::Finished),
                    ForHead::Message(Control::GoOn) => self.stopped = false,
                    ForHead::Message(Control::AddSplits(splits)) => {
                        guarded(&core.name, task.as_mut(), |task| task.add_splits(splits))??;
                    }
                    ForHead::Message(Control::NoMoreSplits) => {
                        guarded(&core.name, task.as_mut(), |task| task.no_more_splits())?;
                    }
                    ForHead::Message(Control::EnumeratorEvent(event)) => {
                        guarded(&core.name, task.as_mut(), |task| task.enumerator_event(event))??;
                    }
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
        let began = core.host.now();
        loop {
            let progress = self.slice(context)?;
            let core = &mut self.core;
            let task = self.task.as_mut().expect("the task lives until the driver ends");
            for event in guarded(&core.name, task.as_mut(), |task| task.take_reader_events())? {
                core.host
                    .send(Address::Coordinator, Control::Reader { attempt: core.attempt, subtask: core.id, event });
            }
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

    /// One slice of records.
    fn slice(&mut self, context: &mut Context<'_>) -> Result<Step, Failure> {
        let core = &mut self.core;
        let task = self.task.as_mut().expect("the task lives until the driver ends").as_mut();
        if !core.outputs.poll_drained(context) {
            return Ok(Step::Wait);
        }
        if self.stopped || core.state == SubtaskState::EndOfData {
            return Ok(Step::Wait);
        }
        match guarded(&core.name, task, |task| task.poll_ready(context))? {
            Poll::Pending => return Ok(Step::Wait),
            Poll::Ready(ready) => ready?,
        }
        match guarded(&core.name, task, |task| task.poll_records(&mut core.outputs, context))? {
            Poll::Ready(step) => match step? {
                SourceStep::Emitted => Ok(Step::Again),
                SourceStep::Ended => {
                    core.end_of_data(task)?;
                    Ok(Step::Again)
                }
            },
            Poll::Pending => {
                guarded(&core.name, task, |task| task.flush(&mut core.outputs))?;
                core.outputs.poll_drained(context);
                Ok(Step::Wait)
            }
        }
    }

    fn end(&mut self) {
        drop_quietly(self.task.take());
        self.core.tell_supervisor(Control::Ended { attempt: self.core.attempt, subtask: self.core.id });
    }
}

impl Driver for SourceDriver {
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
