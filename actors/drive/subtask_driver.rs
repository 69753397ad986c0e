//! The driver of a subtask, whatever its head is: the mailbox first, then slices until there is nothing to do or the budget is spent.

use std::sync::Arc;
use std::task::Context;

use crate::drive::control::{Control, Origin};
use crate::drive::overview::SubtaskWatch;
use crate::drive::subtask::SubtaskCore;
use crate::drive::turns::Turn;
use crate::ids::CheckpointId;
use crate::ports::host::{Driver, Step};
use crate::ports::task::{Failure, Task};
use crate::protocol::align::Channel;
use crate::protocol::lifecycle::SubtaskState;

/// What differs between subtasks: where their records come from.
pub trait Head {
    /// The chain behind the head.
    fn task(&mut self) -> &mut dyn Task;

    /// Takes nothing from a channel until it is unblocked.
    fn block(&mut self, channel: Channel, blocked: bool);

    /// Handles a message that does not concern checkpoints.
    ///
    /// # Errors
    /// When user code fails, or the message is for another kind of subtask.
    fn message(&mut self, core: &mut SubtaskCore, message: Control) -> Result<(), Failure>;

    /// One slice of records, or one frame.
    ///
    /// # Errors
    /// When user code fails.
    fn slice(&mut self, core: &mut SubtaskCore, context: &mut Context<'_>) -> Result<Step, Failure>;

    /// The subtask has just cut `checkpoint`, ahead of the markers of these channels.
    ///
    /// # Errors
    /// When user code fails.
    fn cut(&mut self, core: &mut SubtaskCore, checkpoint: CheckpointId, channels: Vec<Channel>) -> Result<(), Failure>;

    /// What has to be done and said after each slice.
    ///
    /// # Errors
    /// When user code fails.
    fn after_slice(&mut self, core: &mut SubtaskCore, context: &mut Context<'_>) -> Result<(), Failure> {
        let _ = (core, context);
        Ok(())
    }

    /// Drops the chain. Nothing is called afterwards.
    fn end(&mut self);
}

/// Drives one subtask.
pub struct SubtaskDriver<H> {
    core: SubtaskCore,
    head: H,
    ended: bool,
}

impl<H: Head> SubtaskDriver<H> {
    pub(super) fn around(core: SubtaskCore, head: H) -> SubtaskDriver<H> {
        SubtaskDriver { core, head, ended: false }
    }

    /// The same driver, which writes down how far it is where others can see it.
    #[must_use]
    pub fn watched(mut self, watch: Arc<SubtaskWatch>) -> SubtaskDriver<H> {
        self.core.watch = watch;
        self
    }

    fn try_step(&mut self, context: &mut Context<'_>) -> Result<Step, Failure> {
        let SubtaskDriver { core, head, .. } = self;
        // In order: a split that was assigned after the enumerator's snapshot comes behind the trigger, and a source cuts right here, as does whoever hears of
        // a barrier that overtakes.
        while let Some(message) = core.mailbox.pop_front() {
            if matches!(message, Control::Cancel) {
                core.close(head.task());
                return Ok(Step::Finished);
            }
            core.on_message(message, head.task())?;
            settle(core, head)?;
            take_turns(core, head)?;
        }
        core.pass_deadline(head.task())?;
        settle(core, head)?;
        take_turns(core, head)?;
        match core.state {
            SubtaskState::Restoring => {
                core.poll_restore(head.task(), context)?;
                return Ok(Step::Wait);
            }
            SubtaskState::Restored => return Ok(Step::Wait),
            _ => {}
        }
        if core.is_done(head.task()) {
            return Ok(core.leave(head.task()));
        }
        let began = core.host.now();
        if core.outputs.buffer.is_due(began) {
            core.flush(head.task())?;
        }
        loop {
            let progress = head.slice(core, context)?;
            if progress == Step::Again && !core.outputs.is_empty() {
                core.outputs.buffer.held(began);
            }
            settle(core, head)?;
            take_turns(core, head)?;
            head.after_slice(core, context)?;
            core.poll_snapshots(head.task(), progress == Step::Wait, context)?;
            if core.is_done(head.task()) {
                return Ok(core.leave(head.task()));
            }
            if progress == Step::Wait {
                // Held up by an edge or by the chain itself, not idle: what is held back has to leave all the same.
                if let Some(deadline) = core.outputs.buffer.deadline() {
                    core.host.wake_at(deadline);
                }
                return Ok(progress);
            }
            if core.host.budget_spent(began) {
                return Ok(progress);
            }
        }
    }
}

/// Carries out at the head what the alignment asked for: before anything else is taken from any channel.
fn settle(core: &mut SubtaskCore, head: &mut impl Head) -> Result<(), Failure> {
    core.drain_blocks(head);
    match core.take_cut() {
        Some((checkpoint, channels)) => head.cut(core, checkpoint, channels),
        None => Ok(()),
    }
}

/// Takes up, in the order in which they came, the triggers and the messages for the head whose turn has come. Each cut is made before the next is looked at.
fn take_turns(core: &mut SubtaskCore, head: &mut impl Head) -> Result<(), Failure> {
    while let Some(turn) = core.next_turn(head.task()) {
        match turn {
            Turn::Trigger(barrier) => core.trigger(barrier, head.task())?,
            Turn::Head(message) => head.message(core, message)?,
        }
        settle(core, head)?;
    }
    Ok(())
}

impl<H: Head> Driver for SubtaskDriver<H> {
    fn receive(&mut self, message: Control) {
        self.core.mailbox.push_back(message);
    }

    fn step(&mut self, context: &mut Context<'_>) -> Step {
        if self.ended {
            return Step::Finished;
        }
        self.core.watch.step_begins(self.core.host.now());
        let step = match self.try_step(context) {
            Ok(step) => step,
            Err(failure) => {
                // A task that panicked is not called again.
                if !failure.panicked {
                    self.core.close(self.head.task());
                }
                let (origin, failure) = (Origin::Subtask(self.core.id), failure.behind(&self.core.fence));
                self.core.tell_supervisor(Control::Failed { attempt: self.core.attempt, origin, failure });
                Step::Finished
            }
        };
        self.core.watch.step_ends(self.core.outputs.held_up());
        if step == Step::Finished {
            self.ended = true;
            self.head.end();
            self.core.tell_supervisor(Control::Ended { attempt: self.core.attempt, subtask: self.core.id });
        }
        step
    }
}
