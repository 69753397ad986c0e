//! What every subtask does, whatever its head is: restore, cut, snapshot, acknowledge, commit, end.
//!
//! The drivers of operators and sources own one [`SubtaskCore`] each. User code is only called through `guarded`: a panic becomes a
//! failure that names the operator, and the restart strategy decides (law 7).

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::drive::control::{Control, Origin};
use crate::drive::edge::Barrier;
use crate::drive::outputs::Outputs;
use crate::ids::{Attempt, CheckpointId, SubtaskId};
use crate::ports::blocking::panic_text;
use crate::ports::host::{Address, Host};
use crate::ports::store::{CheckpointKind, SubtaskSnapshot};
use crate::ports::task::{Cut, Failure, Task};
use crate::protocol::align::{self, Aligner, CancelReason, Channel};
use crate::protocol::coordinator::DeclineReason;
use crate::protocol::lifecycle::SubtaskState;
use crate::protocol::machine::Machine;

/// How many entries of state a busy subtask encodes for open snapshots between two slices of records: about a fifth of its time.
const SNAPSHOT_ENTRIES_BUSY: usize = 1024;

/// The same while it has nothing else to do.
const SNAPSHOT_ENTRIES_IDLE: usize = 16_384;

/// The part of a subtask's driver that does not depend on its head.
pub struct SubtaskCore {
    pub(super) host: Rc<dyn Host>,
    pub(super) id: SubtaskId,
    pub(super) attempt: Attempt,
    pub(super) outputs: Outputs,
    pub(super) mailbox: VecDeque<Control>,
    pub(super) state: SubtaskState,
    pub(super) name: String,
    aligner: Aligner,
    effects: Vec<align::Effect>,
    barriers: BTreeMap<CheckpointId, Barrier>,
    snapshots: BTreeMap<CheckpointId, SnapshotUnderWay>,
    /// The checkpoint after whose commits the subtask ends: a final or a stopping one that completed.
    ending: Option<CheckpointId>,
    /// The restored cut lies behind the end of data: `finish` ran before it and must not run again.
    finished_before: bool,
}

#[derive(Debug)]
struct SnapshotUnderWay {
    finished: bool,
}

/// What the core found in the mailbox that only the head can deal with.
#[derive(Debug)]
pub(super) enum ForHead {
    Block(Channel, bool),
    Message(Control),
}

impl SubtaskCore {
    pub(super) fn new(
        host: Rc<dyn Host>,
        id: SubtaskId,
        attempt: Attempt,
        name: String,
        outputs: Outputs,
        aligner: Aligner,
        finished_before: bool,
    ) -> SubtaskCore {
        SubtaskCore {
            host,
            id,
            attempt,
            outputs,
            mailbox: VecDeque::new(),
            state: SubtaskState::Restoring,
            name,
            aligner,
            effects: Vec::new(),
            barriers: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            ending: None,
            finished_before,
        }
    }

    /// One slice of the restore. True when the subtask has its state and has said so.
    pub(super) fn poll_restore(&mut self, task: &mut dyn Task, context: &mut Context<'_>) -> Result<bool, Failure> {
        match guarded(&self.name, task, |task| task.poll_restore(context))? {
            Poll::Pending => Ok(false),
            Poll::Ready(restored) => {
                restored?;
                self.enter(SubtaskState::Restored)?;
                self.tell_supervisor(Control::Restored { attempt: self.attempt, subtask: self.id });
                Ok(true)
            }
        }
    }

    /// Takes the next state of the subtask's life; an illegal transition is a failure of the runtime.
    pub(super) fn enter(&mut self, next: SubtaskState) -> Result<(), Failure> {
        if !self.state.next().contains(&next) {
            let message = format!("a subtask that is {} cannot become {next}", self.state);
            return Err(Failure::unrecoverable(&self.name, message));
        }
        self.state = next;
        Ok(())
    }

    /// Handles one message that concerns checkpoints; others are given back for the head.
    pub(super) fn on_message(
        &mut self,
        message: Control,
        task: &mut dyn Task,
        for_head: &mut Vec<ForHead>,
    ) -> Result<(), Failure> {
        match message {
            Control::Start => self.enter(SubtaskState::Running),
            Control::BarrierAnnounced { channel: _, barrier } => {
                self.remember(barrier);
                self.align(align::Event::Announcement { checkpoint: barrier.checkpoint }, task, for_head)
            }
            Control::Trigger(barrier) => {
                self.remember(barrier);
                let event = align::Event::Trigger { checkpoint: barrier.checkpoint, triggered: barrier.triggered };
                self.align(event, task, for_head)
            }
            Control::Completed { checkpoint, kind } => {
                self.forget_up_to(checkpoint);
                guarded(&self.name, task, |task| task.completed(checkpoint))?;
                if matches!(kind, CheckpointKind::Final | CheckpointKind::Stopping) {
                    self.ending = Some(checkpoint);
                }
                self.send_commits(task)
            }
            Control::Aborted { checkpoint, last_completed: _ } => {
                // Also when its own part is long acknowledged: readers keep books by checkpoint.
                self.snapshots.remove(&checkpoint);
                guarded(&self.name, task, |task| task.aborted(checkpoint))?;
                self.barriers.remove(&checkpoint);
                self.align(align::Event::AbortNotice { checkpoint }, task, for_head)
            }
            Control::Committed { sink, checkpoint } => {
                guarded(&self.name, task, |task| task.committed(sink, checkpoint))?;
                // Sinks commit one transaction after the other: the next one may be due now.
                self.send_commits(task)
            }
            other => {
                for_head.push(ForHead::Message(other));
                Ok(())
            }
        }
    }

    /// Hands the commits that may be carried out now to their sinks.
    fn send_commits(&self, task: &mut dyn Task) -> Result<(), Failure> {
        for request in guarded(&self.name, task, |task| task.take_commits())? {
            let sink = Address::Sink(request.sink, self.attempt);
            self.host.send(sink, Control::Commit { subtask: self.id, request });
        }
        Ok(())
    }

    /// Gives an event to the aligner and carries out what it asks for.
    pub(super) fn align(
        &mut self,
        event: align::Event,
        task: &mut dyn Task,
        for_head: &mut Vec<ForHead>,
    ) -> Result<(), Failure> {
        let mut effects = std::mem::take(&mut self.effects);
        self.aligner.handle(self.host.now(), event, &mut effects);
        debug_assert_eq!(self.aligner.check(), Ok(()));
        let mut outcome = Ok(());
        for effect in effects.drain(..) {
            if outcome.is_ok() {
                outcome = self.on_align_effect(effect, task, for_head);
            }
        }
        self.effects = effects;
        outcome
    }

    fn on_align_effect(
        &mut self,
        effect: align::Effect,
        task: &mut dyn Task,
        for_head: &mut Vec<ForHead>,
    ) -> Result<(), Failure> {
        match effect {
            align::Effect::Block(channel) => for_head.push(ForHead::Block(channel, true)),
            align::Effect::Unblock(channel) => for_head.push(ForHead::Block(channel, false)),
            align::Effect::Cut { checkpoint, timing: _ } => return self.cut(checkpoint, task),
            align::Effect::ForwardCancel { checkpoint, reason } => {
                self.outputs.send_cancel(checkpoint);
                if reason.declines() {
                    self.decline(checkpoint, declined(reason), Failure::retryable(&self.name, reason));
                }
            }
        }
        Ok(())
    }

    /// The cut, between two slices: close the epoch, push what the chain holds back, send the barrier (rule 3). Nothing else is taken from any
    /// channel in between.
    fn cut(&mut self, checkpoint: CheckpointId, task: &mut dyn Task) -> Result<(), Failure> {
        let barrier = self
            .barriers
            .remove(&checkpoint)
            .ok_or_else(|| Failure::unrecoverable(&self.name, format!("cut {checkpoint} without a barrier")))?;
        guarded(&self.name, task, |task| task.flush(&mut self.outputs))?;
        let closed = guarded(&self.name, task, |task| task.close_epoch(Cut { checkpoint })).flatten();
        if let Err(failure) = closed {
            // The subtask fails with it, whatever is tolerated (rule 23); the checkpoint's own end says why.
            self.decline(checkpoint, DeclineReason::SynchronousPart, failure.clone());
            return Err(failure);
        }
        self.outputs.send_barrier(self.host.as_ref(), barrier);
        self.snapshots.insert(checkpoint, SnapshotUnderWay { finished: self.state == SubtaskState::EndOfData });
        Ok(())
    }

    fn decline(&self, checkpoint: CheckpointId, reason: DeclineReason, failure: Failure) {
        let (attempt, subtask) = (self.attempt, self.id);
        let decline = Control::Decline { attempt, checkpoint, subtask, reason, failure };
        self.host.send(Address::Coordinator, decline);
    }

    /// Notes a marker's barrier until its cut.
    pub(super) fn remember(&mut self, barrier: Barrier) {
        if barrier.checkpoint > self.aligner.resolved() {
            self.barriers.insert(barrier.checkpoint, barrier);
        }
    }

    fn forget_up_to(&mut self, checkpoint: CheckpointId) {
        self.barriers = self.barriers.split_off(&checkpoint.next());
    }

    /// One slice of the open snapshots, oldest first.
    pub(super) fn poll_snapshots(
        &mut self,
        task: &mut dyn Task,
        idle: bool,
        context: &mut Context<'_>,
    ) -> Result<(), Failure> {
        let Some((&checkpoint, under_way)) = self.snapshots.first_key_value() else { return Ok(()) };
        let finished = under_way.finished;
        let budget = if idle { SNAPSHOT_ENTRIES_IDLE } else { SNAPSHOT_ENTRIES_BUSY };
        match guarded(&self.name, task, |task| task.poll_snapshot(checkpoint, budget, context))? {
            Poll::Pending => {}
            Poll::Ready(Ok(operators)) => {
                self.snapshots.remove(&checkpoint);
                if !self.snapshots.is_empty() {
                    context.waker().wake_by_ref();
                }
                let snapshot = Box::new(SubtaskSnapshot { subtask: self.id, finished, operators });
                self.host
                    .send(Address::Coordinator, Control::Acknowledge { attempt: self.attempt, checkpoint, snapshot });
            }
            Poll::Ready(Err(failure)) => {
                self.snapshots.remove(&checkpoint);
                guarded(&self.name, task, |task| task.aborted(checkpoint))?;
                self.decline(checkpoint, DeclineReason::AsynchronousPart, failure);
            }
        }
        Ok(())
    }

    /// The end of all data has reached this subtask: finish the chain, send what it holds back and the end, tell the coordinator.
    pub(super) fn end_of_data(&mut self, task: &mut dyn Task) -> Result<(), Failure> {
        if !self.finished_before {
            guarded(&self.name, task, |task| task.finish(&mut self.outputs))??;
        }
        guarded(&self.name, task, |task| task.flush(&mut self.outputs))?;
        self.outputs.send_end_of_data();
        self.enter(SubtaskState::EndOfData)?;
        self.host.send(Address::Coordinator, Control::EndOfData { attempt: self.attempt, subtask: self.id });
        Ok(())
    }

    /// Whether the last checkpoint of this subtask is complete and all it prepared is committed: then it ends.
    pub(super) fn is_done(&self, task: &dyn Task) -> bool {
        self.ending.is_some() && !task.has_open_commits()
    }

    pub(super) fn failed(&self, failure: Failure) {
        self.tell_supervisor(Control::Failed { attempt: self.attempt, origin: Origin::Subtask(self.id), failure });
    }

    pub(super) fn tell_supervisor(&self, message: Control) {
        self.host.send(Address::Supervisor, message);
    }
}

/// The name that the coordinator knows for the aligner's reason to give a checkpoint up.
fn declined(reason: CancelReason) -> DeclineReason {
    match reason {
        CancelReason::Subsumed => DeclineReason::Subsumed,
        CancelReason::CancelledUpstream => DeclineReason::CancelledUpstream,
        CancelReason::AbortedByCoordinator | CancelReason::CutFailed => DeclineReason::Declined,
    }
}

/// Calls user code. A panic becomes a failure with the operator's name and the panic's text.
pub(super) fn guarded<T: ?Sized + Task, R>(
    name: &str,
    task: &mut T,
    call: impl FnOnce(&mut T) -> R,
) -> Result<R, Failure> {
    // The task is not used again after a panic, but for the name of the operator that ran and for its drop.
    match catch_unwind(AssertUnwindSafe(|| call(task))) {
        Ok(answer) => Ok(answer),
        Err(panic) => {
            let text = panic_text(panic.as_ref());
            let operator = task.current_operator();
            let origin = if operator.is_empty() { name.to_owned() } else { operator.to_owned() };
            drop_quietly(panic);
            Err(Failure::panic(origin, &text))
        }
    }
}

/// Drops a value whose destructor is user code: a panic inside is swallowed, since there is nothing left to fail.
pub(super) fn drop_quietly<T>(value: T) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(value)));
}
