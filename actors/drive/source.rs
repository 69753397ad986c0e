//! The head of a subtask that reads from a source.

use std::rc::Rc;
use std::task::{Context, Poll};

use crate::drive::control::Control;
use crate::drive::outputs::Outputs;
use crate::drive::subtask::{Restored, SubtaskCore, drop_quietly, guarded};
use crate::drive::subtask_driver::{Head, SubtaskDriver};
use crate::ids::{Attempt, CheckpointId, SubtaskId};
use crate::ports::fence::Fence;
use crate::ports::host::{Address, Host, Step};
use crate::ports::source::ReaderEvent;
use crate::ports::task::{Failure, SourceStep, SourceTask, Task};
use crate::protocol::align::{Alignment, Channel};
use crate::protocol::lifecycle::SubtaskState;
use crate::protocol::mutation::{Mutation, is_active};

/// Drives one source subtask.
pub type SourceDriver = SubtaskDriver<SourceHead>;

/// A reader with the chain behind it.
pub struct SourceHead {
    task: Option<Box<dyn SourceTask>>,
}

impl SourceDriver {
    /// A driver for `task`. `alignment` has no channels: it cuts when it is triggered.
    #[must_use]
    pub fn new(
        host: Rc<dyn Host>,
        id: SubtaskId,
        attempt: Attempt,
        fence: Fence,
        name: String,
        task: Box<dyn SourceTask>,
        outputs: Outputs,
        alignment: Alignment,
        restored: Restored,
    ) -> SourceDriver {
        let core = SubtaskCore::new(host, id, attempt, fence, name, outputs, alignment, restored);
        SubtaskDriver::around(core, SourceHead { task: Some(task) })
    }
}

impl SourceHead {
    fn chain(&mut self) -> &mut dyn SourceTask {
        self.task.as_mut().expect("the task lives until the driver ends").as_mut()
    }
}

impl Head for SourceHead {
    fn task(&mut self) -> &mut dyn Task {
        self.chain()
    }

    fn block(&mut self, _: Channel, _: bool) {}

    fn message(&mut self, core: &mut SubtaskCore, message: Control) -> Result<(), Failure> {
        match message {
            Control::GoOn => core.stands_still = false,
            Control::AddSplits(_) if core.finished_before => {
                // Its end of data has left, and records cannot follow that.
                let text = "its enumerator assigns splits to a reader that had been told, before the restored checkpoint, that no more would come";
                return Err(Failure::unrecoverable(&core.name, text));
            }
            Control::AddSplits(splits) => guarded(&core.name, self.chain(), |task| task.add_splits(splits))??,
            Control::NoMoreSplits => guarded(&core.name, self.chain(), |task| task.no_more_splits())?,
            Control::EnumeratorEvent(event) => {
                guarded(&core.name, self.chain(), |task| task.enumerator_event(event))??;
            }
            message => return Err(Failure::unrecoverable(&core.name, format!("unexpected message {message:?}"))),
        }
        Ok(())
    }

    fn slice(&mut self, core: &mut SubtaskCore, context: &mut Context<'_>) -> Result<Step, Failure> {
        if !core.outputs.poll_drained(context) {
            return Ok(Step::Wait);
        }
        if core.stands_still || core.state == SubtaskState::EndOfData {
            return Ok(Step::Wait);
        }
        if core.finished_before {
            // The reader had come to its end: it is not asked again.
            core.end_of_data(self.task())?;
            return Ok(Step::Again);
        }
        match guarded(&core.name, self.chain(), |task| task.poll_ready(context))? {
            Poll::Pending => return Ok(Step::Wait),
            Poll::Ready(ready) => ready?,
        }
        // All that was in flight inside of the chain comes before anything new (rule 27).
        if !is_active(Mutation::RestoredBehindNew) && self.chain().has_restored() {
            core.step_restored(self.task())?;
            return Ok(Step::Again);
        }
        let (limit, began) = (core.slice_size.records(), core.host.now());
        match guarded(&core.name, self.chain(), |task| task.poll_records(limit, &mut core.outputs, context))? {
            Poll::Ready(step) => match step? {
                SourceStep::Emitted => {
                    core.slice_size.took(core.host.now().since(began));
                    Ok(Step::Again)
                }
                SourceStep::Ended if self.chain().has_restored() => {
                    core.step_restored(self.task())?;
                    Ok(Step::Again)
                }
                SourceStep::Ended => {
                    core.end_of_data(self.task())?;
                    Ok(Step::Again)
                }
            },
            Poll::Pending if self.chain().has_restored() => {
                core.step_restored(self.task())?;
                Ok(Step::Again)
            }
            Poll::Pending => {
                core.flush(self.task())?;
                core.outputs.poll_drained(context);
                Ok(Step::Wait)
            }
        }
    }

    /// A chain that was parted when the restored checkpoint was taken may hold what was in flight between its parts.
    fn cut(&mut self, core: &mut SubtaskCore, checkpoint: CheckpointId, _: Vec<Channel>) -> Result<(), Failure> {
        core.tell_cut(checkpoint, std::iter::empty());
        if self.chain().has_restored() {
            guarded(&core.name, self.task(), |task| task.begin_capture(checkpoint, None))??;
            guarded(&core.name, self.task(), |task| task.end_capture(checkpoint))?;
        }
        Ok(())
    }

    /// Hands on what the reader has to say. One that had come to its end before only registers, so that its enumerator knows all readers.
    fn after_slice(&mut self, core: &mut SubtaskCore, _: &mut Context<'_>) -> Result<(), Failure> {
        for event in guarded(&core.name, self.chain(), |task| task.take_reader_events())? {
            if core.finished_before && !matches!(event, ReaderEvent::Registered { .. }) {
                continue;
            }
            core.host.send(Address::Coordinator, Control::Reader { attempt: core.attempt, subtask: core.id, event });
        }
        Ok(())
    }

    fn end(&mut self) {
        drop_quietly(self.task.take());
    }
}
