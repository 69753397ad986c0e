//! What every subtask does, whatever its head is: restore, cut, snapshot, acknowledge, commit, end.
//!
//! Every [`SubtaskDriver`](super::subtask_driver::SubtaskDriver) owns one [`SubtaskCore`]. User code is only called through `guarded`: a panic becomes a
//! failure that names the operator, and the restart strategy decides (law 7).

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::drive::control::Control;
use crate::drive::edge::Barrier;
use crate::drive::outputs::Outputs;
use crate::drive::overview::SubtaskWatch;
use crate::drive::subtask_driver::Head;
use crate::drive::turns::{Turn, Turns};
use crate::ids::{Attempt, CheckpointId, Moment, SubtaskId};
use crate::ports::blocking::panic_text;
use crate::ports::fence::Fence;
use crate::ports::host::{Address, Host, Step};
use crate::ports::points::{ChannelEnd, Hit, InjectedEnd, Point, Points};
use crate::ports::store::{CheckpointKind, SubtaskSnapshot};
use crate::ports::task::{Cut, Failure, Task, TaskSnapshot};
use crate::protocol::align::{self, Alignment, Channel};
use crate::protocol::coordinator::{DeclineReason, SubtaskFigures};
use crate::protocol::lifecycle::SubtaskState;
use crate::protocol::machine::Machine;
use crate::protocol::mutation::{Mutation, is_active};
use crate::protocol::notices::Notices;
use crate::protocol::slice_size::SliceSize;

/// How many entries of state a busy subtask encodes for open snapshots between two slices of records: about a fifth of its time.
const SNAPSHOT_ENTRIES_BUSY: usize = 1024;

/// The same while it has nothing else to do.
const SNAPSHOT_ENTRIES_IDLE: usize = 16_384;

/// The part of a subtask's driver that does not depend on its head.
pub struct SubtaskCore {
    pub(super) host: Rc<dyn Host>,
    pub(super) points: Points,
    pub(super) id: SubtaskId,
    pub(super) attempt: Attempt,
    /// That of its region: once it has ended nothing of the subtask is stored.
    pub(super) fence: Fence,
    pub(super) outputs: Outputs,
    pub(super) mailbox: VecDeque<Control>,
    pub(super) state: SubtaskState,
    pub(super) name: String,
    /// Where it writes down how far it is.
    pub(super) watch: Arc<SubtaskWatch>,
    pub(super) slice_size: SliceSize,
    alignment: Alignment,
    effects: Vec<align::Effect>,
    /// What the alignment asked for and the head has not been told.
    blocks: Vec<(Channel, bool)>,
    /// The channels of which the next cut holds what comes in front of the marker.
    captures: Vec<Channel>,
    /// Announcements of overtaking barriers that came before the subtask ran.
    early: Vec<Barrier>,
    /// What waits for its turn, behind a trigger that waits for what was in flight when the restored checkpoint was taken.
    turns: Turns,
    /// The barriers that may still be cut: of markers that came, and of triggers.
    barriers: BTreeMap<CheckpointId, Barrier>,
    snapshots: BTreeMap<CheckpointId, SnapshotUnderWay>,
    notices: Notices,
    /// The checkpoint after whose commits the subtask ends: a final or a stopping one that completed.
    ending: Option<CheckpointId>,
    /// The last cut, until the head has heard of it.
    cut: Option<CheckpointId>,
    restore_began: bool,
    /// The restored cut lies behind the end of data: `finish` ran before it and must not run again.
    pub(super) finished_before: bool,
    /// A stopping checkpoint was cut: a source reads nothing until it is called off.
    pub(super) stands_still: bool,
}

#[derive(Debug)]
struct SnapshotUnderWay {
    finished: bool,
    /// Whether the asynchronous part has begun.
    began: bool,
    /// When the coordinator triggered the checkpoint.
    triggered: Moment,
    /// When the cut was made.
    cut: Moment,
    /// What was measured up to there.
    figures: SubtaskFigures,
}

impl Drop for SubtaskCore {
    fn drop(&mut self) {
        self.watch.is_gone();
    }
}

impl SubtaskCore {
    pub(super) fn new(
        host: Rc<dyn Host>,
        id: SubtaskId,
        attempt: Attempt,
        fence: Fence,
        name: String,
        outputs: Outputs,
        alignment: Alignment,
        restored: Restored,
    ) -> SubtaskCore {
        SubtaskCore {
            points: host.points(),
            host,
            id,
            attempt,
            fence,
            outputs,
            mailbox: VecDeque::new(),
            state: SubtaskState::Restoring,
            name,
            watch: Arc::default(),
            slice_size: SliceSize::default(),
            alignment,
            effects: Vec::new(),
            blocks: Vec::new(),
            captures: Vec::new(),
            early: Vec::new(),
            turns: Turns::default(),
            barriers: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            notices: Notices::new(restored.checkpoint),
            ending: None,
            cut: None,
            restore_began: false,
            finished_before: restored.finished,
            stands_still: false,
        }
    }

    /// One slice of the restore. True when the subtask has its state and has said so.
    pub(super) fn poll_restore(&mut self, task: &mut dyn Task, context: &mut Context<'_>) -> Result<bool, Failure> {
        if !std::mem::replace(&mut self.restore_began, true) {
            self.pass(Point::RestoreSubtask, None, task)?;
        }
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

    /// Hands over what the chain holds back in partial batches.
    pub(super) fn flush(&mut self, task: &mut dyn Task) -> Result<(), Failure> {
        self.outputs.buffer.flushed();
        guarded(&self.name, task, |task| task.flush(&mut self.outputs))
    }

    /// Takes some records that were in flight when the restored checkpoint was taken. True when they were the last ones of their batch.
    pub(super) fn step_restored(&mut self, task: &mut dyn Task) -> Result<bool, Failure> {
        let (limit, began) = (self.slice_size.records(), self.host.now());
        let used_up = guarded(&self.name, task, |task| task.step_restored(limit, &mut self.outputs))??;
        self.slice_size.took(self.host.now().since(began));
        Ok(used_up)
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

    /// Handles one message, or puts it behind all that waits for its turn.
    pub(super) fn on_message(&mut self, message: Control, task: &mut dyn Task) -> Result<(), Failure> {
        match message {
            Control::Start => {
                self.enter(SubtaskState::Running)?;
                for barrier in std::mem::take(&mut self.early) {
                    self.overtakes(barrier, task)?;
                }
            }
            Control::BarrierAnnounced { channel, barrier } => {
                let checkpoint = barrier.checkpoint;
                self.watch.announced(self.host.now(), checkpoint, Channel(channel as u32));
                if checkpoint > self.alignment.resolved() && !self.barriers.contains_key(&checkpoint) {
                    self.pass(Point::BarrierOvertakes, Some(checkpoint), task)?;
                }
                self.align(align::Event::Announcement { checkpoint }, task)?;
                self.overtakes(barrier, task)?;
            }
            Control::Trigger(barrier) => self.turns.push(Turn::Trigger(barrier)),
            Control::Completed { checkpoint, kind } => self.completed(checkpoint, kind, task)?,
            Control::Aborted { checkpoint, last_completed: _ } => self.aborted(checkpoint, task)?,
            Control::Committed { sink, checkpoint } => {
                guarded(&self.name, task, |task| task.committed(sink, checkpoint))?;
                // Sinks commit one transaction after the other: the next one may be due now.
                self.send_commits(task)?;
            }
            other => self.turns.push(Turn::Head(other)),
        }
        Ok(())
    }

    /// Whether records flow, or have flowed to their end.
    fn is_running(&self) -> bool {
        matches!(self.state, SubtaskState::Running | SubtaskState::EndOfData)
    }

    /// What has its turn now. A trigger waits until what was in flight is processed, or until it overtakes that.
    pub(super) fn next_turn(&mut self, task: &dyn Task) -> Option<Turn> {
        // A subtask that does not run yet declines at once.
        let processes_restored = self.is_running() && task.has_restored();
        let host = &self.host;
        self.turns.next(|barrier| {
            let waits = processes_restored && !is_due(barrier, host.now());
            if waits && let Some(from) = barrier.overtakes {
                host.wake_at(from);
            }
            waits
        })
    }

    /// Takes up a trigger whose turn has come.
    pub(super) fn trigger(&mut self, barrier: Barrier, task: &mut dyn Task) -> Result<(), Failure> {
        let Barrier { checkpoint, triggered, kind, .. } = barrier;
        if !self.is_running() {
            let failure = Failure::retryable(&self.name, "the subtask does not process yet");
            self.decline(checkpoint, DeclineReason::Declined, failure);
            return Ok(());
        }
        self.remember(barrier);
        self.align(align::Event::Trigger { checkpoint, triggered }, task)?;
        self.overtakes(barrier, task)?;
        self.stands_still |= kind == CheckpointKind::Stopping;
        Ok(())
    }

    fn completed(
        &mut self,
        checkpoint: CheckpointId,
        kind: CheckpointKind,
        task: &mut dyn Task,
    ) -> Result<(), Failure> {
        if !self.is_running() || !self.notices.completed(checkpoint) {
            return Ok(());
        }
        self.barriers = self.barriers.split_off(&checkpoint.next());
        self.watch.is_over(checkpoint);
        guarded(&self.name, task, |task| task.completed(checkpoint))?;
        if matches!(kind, CheckpointKind::Final | CheckpointKind::Stopping) {
            self.ending = Some(checkpoint);
        }
        self.send_commits(task)
    }

    fn aborted(&mut self, checkpoint: CheckpointId, task: &mut dyn Task) -> Result<(), Failure> {
        self.barriers.remove(&checkpoint);
        self.turns.call_off(checkpoint);
        self.abandon(checkpoint, task)?;
        self.align(align::Event::AbortNotice { checkpoint }, task)
    }

    /// Tells the chain that nothing will come of the checkpoint, if it has not heard that before. Also when its own part is long acknowledged:
    /// readers keep books by checkpoint.
    fn abandon(&mut self, checkpoint: CheckpointId, task: &mut dyn Task) -> Result<(), Failure> {
        self.snapshots.remove(&checkpoint);
        if self.notices.aborted(checkpoint) {
            guarded(&self.name, task, |task| task.aborted(checkpoint))?;
        }
        Ok(())
    }

    /// The subtask ends with snapshots under way: what they had made is discarded, and the coordinator hears that they will not come.
    pub(super) fn close(&mut self, task: &mut dyn Task) {
        for checkpoint in self.snapshots.keys().copied().collect::<Vec<_>>() {
            let failure = Failure::retryable(&self.name, "the subtask ends before its snapshot was durable");
            self.decline(checkpoint, DeclineReason::Closing, failure);
            if self.abandon(checkpoint, task).is_err() {
                return;
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

    /// Gives an event to the alignment and carries out what it asks for.
    pub(super) fn align(&mut self, event: align::Event, task: &mut dyn Task) -> Result<(), Failure> {
        let mut effects = std::mem::take(&mut self.effects);
        let now = self.host.now();
        self.watch.hears(now, &event);
        self.alignment.handle(now, event, &mut effects);
        debug_assert_eq!(self.alignment.check(), Ok(()));
        if let Some(deadline) = self.alignment.next_deadline() {
            self.host.wake_at(deadline);
        }
        let mut outcome = Ok(());
        for effect in effects.drain(..) {
            if outcome.is_ok() {
                outcome = self.on_align_effect(effect, task);
            }
        }
        self.effects = effects;
        outcome
    }

    fn on_align_effect(&mut self, effect: align::Effect, task: &mut dyn Task) -> Result<(), Failure> {
        match effect {
            align::Effect::Block(channel) => self.blocks.push((channel, true)),
            align::Effect::Unblock(channel) => self.blocks.push((channel, false)),
            align::Effect::Capture(channel) => self.captures.push(channel),
            align::Effect::Cut { checkpoint, timing } => return self.cut(checkpoint, timing, task),
            align::Effect::ForwardCancel { checkpoint, reason } => {
                self.barriers.remove(&checkpoint);
                self.outputs.send_cancel(checkpoint);
                if let Some(declined) = reason.decline() {
                    self.decline(checkpoint, declined, Failure::retryable(&self.name, reason));
                }
            }
        }
        Ok(())
    }

    /// The marker of a barrier is at the head of a channel.
    pub(super) fn marker(&mut self, channel: Channel, barrier: Barrier, task: &mut dyn Task) -> Result<(), Failure> {
        let Barrier { checkpoint, triggered, .. } = barrier;
        self.pass(Point::BarrierArrived, Some(checkpoint), task)?;
        if checkpoint > self.alignment.resolved() && !self.barriers.contains_key(&checkpoint) {
            self.pass(Point::AlignmentBegins, Some(checkpoint), task)?;
        }
        self.remember(barrier);
        self.align(align::Event::Marker { channel, checkpoint, triggered }, task)?;
        self.overtakes(barrier, task)
    }

    /// Lets the barrier overtake, if it is one that does. Of a subtask that does not run yet nothing can be cut.
    fn overtakes(&mut self, barrier: Barrier, task: &mut dyn Task) -> Result<(), Failure> {
        let Barrier { checkpoint, triggered, overtakes, .. } = barrier;
        let Some(from) = overtakes else { return Ok(()) };
        if !self.is_running() {
            self.early.push(barrier);
            return Ok(());
        }
        self.remember(barrier);
        self.align(align::Event::Overtakes { checkpoint, triggered, from }, task)
    }

    /// Whether a barrier overtakes by now: then the alignment cuts.
    pub(super) fn pass_deadline(&mut self, task: &mut dyn Task) -> Result<(), Failure> {
        if self.alignment.next_deadline().is_some_and(|deadline| deadline <= self.host.now()) {
            self.align(align::Event::Deadline, task)?;
        }
        Ok(())
    }

    /// The cut that was just made, and the channels that it was ahead of, until the head has heard of it.
    pub(super) fn take_cut(&mut self) -> Option<(CheckpointId, Vec<Channel>)> {
        Some((self.cut.take()?, std::mem::take(&mut self.captures)))
    }

    /// A channel that was overtaken will not bring its marker: the checkpoint is of no use here.
    pub(super) fn give_up(
        &mut self,
        checkpoint: CheckpointId,
        reason: align::CancelReason,
        task: &mut dyn Task,
    ) -> Result<(), Failure> {
        if let Some(declined) = reason.decline() {
            self.decline(checkpoint, declined, Failure::retryable(&self.name, reason));
        }
        self.abandon(checkpoint, task)
    }

    /// The cut is ahead of records, which are being collected: of some in front of markers, or only of some that a restore brought back.
    pub(super) fn collects(&mut self, checkpoint: CheckpointId, overtook: bool) {
        if let Some(under_way) = self.snapshots.get_mut(&checkpoint) {
            under_way.figures.unaligned = true;
            if overtook {
                self.watch.collects(self.host.now(), checkpoint);
            }
        }
    }

    /// The marker of a channel that the cut was ahead of was seen, behind so many batches.
    pub(super) fn collected_up_to(&self, checkpoint: CheckpointId, channel: Channel, batches: u32) {
        self.watch.collected_up_to(self.host.now(), checkpoint, channel, batches);
    }

    /// All that the cut was ahead of markers of was collected.
    pub(super) fn collected(&mut self, checkpoint: CheckpointId) {
        if let Some(SnapshotUnderWay { triggered, figures, .. }) = self.snapshots.get_mut(&checkpoint) {
            *figures = self.watch.collected(self.host.now(), checkpoint, *triggered, *figures);
        }
    }

    /// Whether the snapshot of this checkpoint is still under way.
    pub(super) fn has_snapshot(&self, checkpoint: CheckpointId) -> bool {
        self.snapshots.contains_key(&checkpoint)
    }

    /// Tells the head which channels to block and to unblock.
    pub(super) fn drain_blocks(&mut self, head: &mut impl Head) {
        for (channel, blocked) in self.blocks.drain(..) {
            head.block(channel, blocked);
        }
    }

    /// The cut, between two slices: close the epoch, push what the chain holds back, send the barrier (rule 3). Nothing else is taken from any
    /// channel in between. If it fails, the subtask fails, whatever the tolerance (rule 23).
    fn cut(&mut self, checkpoint: CheckpointId, timing: align::Timing, task: &mut dyn Task) -> Result<(), Failure> {
        let barrier = self
            .barriers
            .remove(&checkpoint)
            .ok_or_else(|| Failure::unrecoverable(&self.name, format!("cut {checkpoint} without a barrier")))?;
        if self.alignment.open_channels() > 0 {
            self.pass(Point::AlignmentEnds, Some(checkpoint), task)?;
        }
        self.watch.cuts(self.host.now(), checkpoint);
        let passed = self.pass(Point::SnapshotSynchronous, Some(checkpoint), task);
        let flush_behind = is_active(Mutation::BatchBehindMarker);
        let flushed = passed.and_then(|()| if flush_behind { Ok(()) } else { self.flush(task) });
        let closed = flushed.and_then(|()| guarded(&self.name, task, |task| task.close_epoch(Cut { checkpoint }))?);
        if let Err(failure) = closed {
            self.decline(checkpoint, DeclineReason::SynchronousPart, failure.clone());
            if !failure.panicked {
                // What the members before the one that failed had begun.
                self.abandon(checkpoint, task)?;
            }
            return Err(failure);
        }
        self.outputs.send_barrier(self.host.as_ref(), self.address(), barrier);
        let cut = self.host.now();
        let triggered = barrier.triggered;
        let figures = self.watch.cut(cut, checkpoint, triggered, timing, !self.captures.is_empty());
        let finished = self.state == SubtaskState::EndOfData;
        self.snapshots.insert(checkpoint, SnapshotUnderWay { finished, began: false, triggered, cut, figures });
        self.cut = Some(checkpoint);
        Ok(())
    }

    fn decline(&self, checkpoint: CheckpointId, reason: DeclineReason, failure: Failure) {
        let (attempt, subtask) = (self.attempt, self.id);
        self.host.send(Address::Coordinator, Control::Decline { attempt, checkpoint, subtask, reason, failure });
    }

    /// Notes a barrier until its cut.
    pub(super) fn remember(&mut self, barrier: Barrier) {
        if barrier.checkpoint > self.alignment.resolved() {
            self.barriers.insert(barrier.checkpoint, barrier);
        }
    }

    /// One slice of the open snapshots, oldest first.
    pub(super) fn poll_snapshots(
        &mut self,
        task: &mut dyn Task,
        idle: bool,
        context: &mut Context<'_>,
    ) -> Result<(), Failure> {
        let Some((&checkpoint, under_way)) = self.snapshots.iter_mut().next() else { return Ok(()) };
        let (finished, cut, figures) = (under_way.finished, under_way.cut, under_way.figures);
        if !std::mem::replace(&mut under_way.began, true)
            && let Err(failure) = self.pass(Point::SnapshotAsynchronous, Some(checkpoint), task)
        {
            if failure.panicked {
                return Err(failure);
            }
            self.decline(checkpoint, DeclineReason::AsynchronousPart, failure);
            return self.abandon(checkpoint, task);
        }
        let budget = if idle { SNAPSHOT_ENTRIES_IDLE } else { SNAPSHOT_ENTRIES_BUSY };
        match guarded(&self.name, task, |task| task.poll_snapshot(checkpoint, budget, context))? {
            Poll::Pending => {}
            Poll::Ready(Ok(TaskSnapshot { operators, in_flight })) => {
                self.snapshots.remove(&checkpoint);
                if !self.snapshots.is_empty() {
                    context.waker().wake_by_ref();
                }
                let snapshot = Box::new(SubtaskSnapshot { subtask: self.id, finished, operators, in_flight });
                let now = self.host.now();
                let figures = SubtaskFigures { asynchronous: now.since(cut), ..figures };
                self.watch.acknowledged(now, checkpoint);
                let attempt = self.attempt;
                self.host.send(Address::Coordinator, Control::Acknowledge { attempt, checkpoint, snapshot, figures });
                if is_active(Mutation::CommitBeforeCompletion) {
                    self.send_commits(task)?;
                }
            }
            Poll::Ready(Err(failure)) => {
                let reason = if self.fence.check().is_err() {
                    // What the fence refuses is a consequence of the end of the region. It says nothing about the storage, so it does not count.
                    DeclineReason::Closing
                } else if failure.storage {
                    DeclineReason::Storage
                } else {
                    DeclineReason::AsynchronousPart
                };
                self.decline(checkpoint, reason, failure);
                self.abandon(checkpoint, task)?;
            }
        }
        Ok(())
    }

    /// The end of all data has reached this subtask: finish the chain, send what it holds back and the end, tell the coordinator.
    pub(super) fn end_of_data(&mut self, task: &mut dyn Task) -> Result<(), Failure> {
        if !self.finished_before {
            guarded(&self.name, task, |task| task.finish(&mut self.outputs))??;
        }
        self.flush(task)?;
        self.outputs.send_end_of_data();
        self.enter(SubtaskState::EndOfData)?;
        self.host.send(Address::Coordinator, Control::EndOfData { attempt: self.attempt, subtask: self.id });
        Ok(())
    }

    /// Whether the last checkpoint of this subtask is complete and all it prepared is committed: then it ends.
    pub(super) fn is_done(&self, task: &dyn Task) -> bool {
        let skips = self.state == SubtaskState::EndOfData && is_active(Mutation::SkipTheFinalCheckpoint);
        (self.ending.is_some() || skips) && !task.has_open_commits()
    }

    /// Ends the channels of the outputs, and the subtask.
    pub(super) fn leave(&mut self, task: &mut dyn Task) -> Step {
        self.close(task);
        self.outputs.send_end_of_channel();
        Step::Finished
    }

    pub(super) fn address(&self) -> Address {
        Address::Subtask(self.id, self.attempt)
    }

    /// Passes a fault point, where an injected panic is one of user code.
    ///
    /// # Errors
    /// The injected failure.
    pub(super) fn pass(
        &self,
        point: Point,
        checkpoint: Option<CheckpointId>,
        task: &mut dyn Task,
    ) -> Result<(), Failure> {
        if !self.points.are_armed() {
            return Ok(());
        }
        let hit = Hit { checkpoint, ..Hit::of(point, self.address()) };
        guarded(&self.name, task, |_| self.points.pass(&hit, |reason| Failure::retryable(&self.name, reason)))?
    }

    /// Tells who watches how many records of each channel are in the cut.
    pub(super) fn tell_cut(&self, checkpoint: CheckpointId, records: impl Iterator<Item = (Channel, u64)>) {
        if !self.points.are_armed() {
            return;
        }
        let consumer = self.address();
        for (channel, records) in records {
            let end = ChannelEnd { consumer, channel, records };
            // Nothing here can fail: the cut is made.
            let _ = self.points.reach(|| Hit::of(Point::CutChannel, consumer).checkpoint(checkpoint).channel(end));
        }
    }

    pub(super) fn tell_supervisor(&self, message: Control) {
        self.host.send(Address::Supervisor, message);
    }
}

/// What a subtask begins with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Restored {
    /// The checkpoint, if there is one.
    pub checkpoint: Option<CheckpointId>,
    /// The cut lies behind the end of the subtask's data.
    pub finished: bool,
}

/// Whether a barrier overtakes by now.
fn is_due(barrier: Barrier, now: Moment) -> bool {
    barrier.overtakes.is_some_and(|from| from <= now)
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
        // Not user code: a fault ends the whole actor, or the process.
        Err(panic) if panic.is::<InjectedEnd>() => resume_unwind(panic),
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
