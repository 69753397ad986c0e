//! The door for faults: named points at every step of the protocol.
//!
//! Drivers say where they are; whoever stands behind the door (the simulated host, or a process in which faults were armed) may let something happen there. Nobody
//! stands there as a rule: then a point costs a look at an empty option, once per message, barrier, piece or transaction, never per record.
//!
//! The points are a closed set: [`Point::ALL`] lists them, with what each means and which [`Action`]s are possible at it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::ids::CheckpointId;
use crate::ports::host::Address;
use crate::protocol::align::Channel;

macro_rules! actions {
    ($($action:ident = $name:literal, $meaning:literal;)*) => {
        /// What may happen at a point.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Action {
            $(#[doc = $meaning] $action,)*
        }

        impl Action {
            /// All of them.
            pub const ALL: &[Action] = &[$(Action::$action,)*];

            /// Its name in texts.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Action::$action => $name,)* }
            }

            /// What happens.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Action::$action => $meaning,)* }
            }
        }
    };
}

actions! {
    Crash = "crash", "The image of the process is gone: nothing that was in memory is left, no destructor acts outside.";
    Kill = "kill", "The actor that reaches the point is gone, without a word; its host reports that.";
    Error = "error", "What is about to be done fails with an error.";
    Panic = "panic", "The code at the point panics.";
    Delay = "delay", "It takes longer.";
    Drop = "drop", "The message is lost.";
    Duplicate = "duplicate", "The message arrives twice.";
    Hold = "hold", "It stands still until it is released.";
}

impl fmt::Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A set of actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Actions(u16);

impl Actions {
    const fn of(actions: &[Action]) -> Actions {
        let mut bits = 0;
        let mut position = 0;
        while position < actions.len() {
            bits |= 1 << actions[position] as u16;
            position += 1;
        }
        Actions(bits)
    }

    /// Whether this action is in it.
    #[must_use]
    pub const fn contains(self, action: Action) -> bool {
        self.0 & (1 << action as u16) != 0
    }

    /// Its actions, in the order of [`Action::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Action> {
        Action::ALL.iter().copied().filter(move |action| self.contains(*action))
    }
}

use Action::{Crash, Delay, Drop, Duplicate, Error, Hold, Kill, Panic};

/// A message that the protocol can do without, and can hear twice.
const NOTICE: Actions = Actions::of(&[Crash, Kill, Panic, Delay, Drop, Duplicate, Hold]);
/// A message between two actors of one process that the protocol relies on: a mailbox loses nothing while its actor lives, and gives nothing twice.
const MESSAGE: Actions = Actions::of(&[Crash, Kill, Panic, Delay, Hold]);
/// A message to the supervisor. Whoever kills that ends the job.
const REPORT: Actions = Actions::of(&[Crash, Delay, Hold]);
/// A step of an actor that cannot fail by itself.
const STEP: Actions = Actions::of(&[Crash, Kill, Panic, Delay, Hold]);
/// A step of an actor that may fail.
const ATTEMPT: Actions = Actions::of(&[Crash, Kill, Error, Panic, Delay, Hold]);
/// Blocking work. It belongs to no actor that could be killed.
const WORK: Actions = Actions::of(&[Crash, Error, Panic, Delay, Hold]);

/// A question to the store without whose answer the job must not go on: it may fail and is asked again, and a panic would end the job for good.
const QUESTION: Actions = Actions::of(&[Crash, Error, Delay, Hold]);

macro_rules! points {
    ($($point:ident = $name:literal, $actions:ident, $meaning:literal;)*) => {
        /// A step of the protocol at which something may happen.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Point {
            $(#[doc = $meaning] $point,)*
        }

        impl Point {
            /// Every point, in the order of the protocol.
            pub const ALL: &[Point] = &[$(Point::$point,)*];

            /// Its name in texts: `acknowledge.sent`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Point::$point => $name,)* }
            }

            /// What it means to be there.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Point::$point => $meaning,)* }
            }

            /// What may happen there.
            #[must_use]
            pub fn actions(self) -> Actions {
                match self { $(Point::$point => $actions,)* }
            }
        }
    };
}

points! {
    RunBegins = "run.begins", WORK, "The run record is about to be written: nothing of the run exists.";
    RunBegan = "run.began", WORK, "The run record is durable, and the supervisor does not know it. An error is a failure after the effect.";
    IdsReserved = "ids.reserved", WORK, "Checkpoint ids are about to be reserved.";

    RestoreManifest = "restore.manifest", WORK, "The manifest to restore is about to be read.";
    RestoreSink = "restore.sink", WORK, "The committing side of a sink is about to open, with what the checkpoint holds of it.";
    RestoreEnumerator = "restore.enumerator", ATTEMPT, "The enumerator of a source is about to be built and restored.";
    RestoreSubtask = "restore.subtask", ATTEMPT, "A subtask is about to read its state.";
    RestoreBlob = "restore.blob", WORK, "A part of a blob is about to be read.";
    LocalRead = "local.read", WORK, "A part of the local copy of a blob is about to be read. An error leaves the copy aside, and the store is read.";
    RestoredSent = "restored.sent", MESSAGE, "A subtask has its state and tells the supervisor.";
    RestoredReceived = "restored.received", REPORT, "The supervisor hears that a subtask has its state.";

    SplitsSent = "splits.sent", MESSAGE, "The enumerator assigns splits to a reader.";
    SplitsReceived = "splits.received", MESSAGE, "A reader gets splits.";

    EnumeratorSnapshot = "enumerator.snapshot", ATTEMPT, "The enumerators are about to be asked for their state: the first thing of a checkpoint.";
    TriggerSent = "trigger.sent", NOTICE, "The coordinator triggers a source subtask.";
    TriggerReceived = "trigger.received", NOTICE, "A source subtask is told to cut.";
    BarrierSent = "barrier.sent", NOTICE, "The markers are in the edges, and the message to the mailbox of a consumer is about to leave.";
    BarrierMarked = "barrier.marked", STEP, "The marker of a barrier was put into an edge: reached once for each edge, with the number of records in front of it.";
    BarrierReceived = "barrier.received", NOTICE, "The message of a barrier is taken out of the consumer's mailbox.";
    BarrierOvertakes = "barrier.overtakes", STEP, "The message of a barrier was heard before any marker of it reached the head of an edge.";
    BarrierArrived = "barrier.arrived", STEP, "The marker of a barrier is at the head of an edge.";
    CaptureEnds = "capture.ends", STEP, "Everything that a barrier overtook at a subtask has been captured.";
    AlignmentBegins = "alignment.begins", STEP, "The first marker came: its channel is about to be blocked.";
    AlignmentEnds = "alignment.ends", STEP, "The last marker came: the subtask cuts now.";
    SnapshotSynchronous = "snapshot.synchronous", ATTEMPT, "The synchronous part of a snapshot is about to begin. An error fails the task.";
    CutChannel = "cut.channel", STEP, "A subtask has cut: reached once for each input channel, with the number of records taken from it.";
    SnapshotAsynchronous = "snapshot.asynchronous", ATTEMPT, "The asynchronous part of a snapshot is about to begin. An error declines the checkpoint.";
    PreCommitBegins = "precommit.begins", ATTEMPT, "A writer of a sink is about to prepare its transaction.";
    PreCommitted = "precommit.done", ATTEMPT, "The transaction of a writer is prepared, and nobody knows it. An error is a failure after the effect.";
    BlobWrite = "blob.write", WORK, "A part of a blob is about to be written.";
    BlobSync = "blob.sync", WORK, "A blob is written and about to be synced.";
    BlobWritten = "blob.written", WORK, "A blob is durable, and its subtask does not know it. An error is a failure after the effect.";
    LocalWrite = "local.write", WORK, "The local copy of a blob is about to be begun, or a part of it to be written. An error gives the copy up.";
    AcknowledgeSent = "acknowledge.sent", NOTICE, "The snapshot of a subtask is durable, and it tells the coordinator.";
    AcknowledgeReceived = "acknowledge.received", NOTICE, "The coordinator hears of a durable snapshot.";
    DeclineSent = "decline.sent", NOTICE, "A subtask declines a checkpoint.";
    DeclineReceived = "decline.received", NOTICE, "The coordinator hears that a checkpoint was declined.";

    ManifestWrite = "manifest.write", WORK, "Every acknowledgement is there, and the manifest is about to be written.";
    ManifestWritten = "manifest.written", WORK, "The manifest is durable, and the coordinator does not know it. An error leaves the outcome unknown.";
    ManifestReadBack = "manifest.read-back", QUESTION, "A manifest of unknown outcome is about to be looked for.";

    CompletionSent = "completion.sent", NOTICE, "The coordinator tells a subtask that a checkpoint is complete, and another one will follow.";
    CompletionReceived = "completion.received", NOTICE, "A subtask hears that a checkpoint is complete, and another one will follow.";
    ClosingSent = "closing.sent", MESSAGE, "The coordinator tells a subtask that the final or stopping checkpoint is complete: nothing follows that could say it again.";
    ClosingReceived = "closing.received", MESSAGE, "A subtask hears that the final or stopping checkpoint is complete.";
    AbortSent = "abort.sent", NOTICE, "The coordinator tells a subtask that a checkpoint was aborted.";
    AbortReceived = "abort.received", NOTICE, "A subtask hears that a checkpoint was aborted.";

    CommitSent = "commit.sent", MESSAGE, "A subtask hands the transactions of a completed checkpoint to the committing side of its sink.";
    CommitReceived = "commit.received", MESSAGE, "The committing side gets transactions to commit.";
    CommitBegins = "commit.begins", WORK, "A transaction is about to be committed. An error puts the commit off.";
    CommitDone = "commit.done", WORK, "A transaction is committed, and nobody knows it. An error puts off what is done already.";
    CommittedSent = "committed.sent", MESSAGE, "The committing side tells a subtask that its transactions are committed.";
    CommittedReceived = "committed.received", MESSAGE, "A subtask hears that its transactions are committed.";

    CheckpointDelete = "checkpoint.delete", WORK, "A checkpoint that is not needed any more is about to be deleted.";
    BlobsDelete = "blobs.delete", WORK, "Blobs of a late or aborted acknowledgement are about to be deleted.";
    SinkCleanUp = "sink.clean-up", WORK, "A sink is about to remove what earlier attempts left behind.";

    EndOfDataSent = "end-of-data.sent", MESSAGE, "A subtask has processed all its data and tells the coordinator.";
    EndOfDataReceived = "end-of-data.received", MESSAGE, "The coordinator hears that a subtask has processed all its data.";
}

impl fmt::Display for Point {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// No point has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no fault point `{0}`: the guide to testing lists them, and so does `Point::ALL`")]
pub struct UnknownPoint(pub String);

impl FromStr for Point {
    type Err = UnknownPoint;

    fn from_str(text: &str) -> Result<Point, UnknownPoint> {
        Point::ALL.iter().copied().find(|point| point.name() == text).ok_or_else(|| UnknownPoint(text.to_owned()))
    }
}

/// Who reaches a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who<'a> {
    /// An actor, by itself.
    Actor(Address),
    /// An actor that sends a message.
    Sender {
        /// Who sends.
        from: Address,
        /// Who will get it.
        to: Address,
    },
    /// Blocking work for one instance of an operator.
    Instance {
        /// The operator's uid, as it stands in names of files: [`name_part`](crate::ports::store::name_part).
        operator: &'a str,
        /// Which instance.
        subtask: u32,
    },
    /// Blocking work for the committing side of a sink.
    Sink(u32),
    /// Blocking work for the job as a whole.
    Job,
}

/// A point is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit<'a> {
    /// Which one.
    pub point: Point,
    /// By whom.
    pub who: Who<'a>,
    /// For which checkpoint, where it is for one.
    pub checkpoint: Option<CheckpointId>,
    /// The end of an edge that it is about.
    pub channel: Option<ChannelEnd>,
}

/// The state of one end of an edge when a point is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelEnd {
    /// Who takes records from the edge.
    pub consumer: Address,
    /// Which of the consumer's channels it is.
    pub channel: Channel,
    /// How many records were sent into the edge (at its producer), or taken out of it (at its consumer), in this attempt.
    pub records: u64,
}

impl<'a> Hit<'a> {
    /// An actor is at a point.
    #[must_use]
    pub fn of(point: Point, actor: Address) -> Hit<'a> {
        Hit { point, who: Who::Actor(actor), checkpoint: None, channel: None }
    }

    /// Blocking work is at a point.
    #[must_use]
    pub fn work(point: Point, who: Who<'a>) -> Hit<'a> {
        Hit { point, who, checkpoint: None, channel: None }
    }

    /// For this checkpoint.
    #[must_use]
    pub fn checkpoint(self, checkpoint: CheckpointId) -> Hit<'a> {
        Hit { checkpoint: Some(checkpoint), ..self }
    }

    /// About this end of an edge.
    #[must_use]
    pub fn channel(self, channel: ChannelEnd) -> Hit<'a> {
        Hit { channel: Some(channel), ..self }
    }
}

/// What whoever reached a point has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Reaction {
    /// Go on.
    Go,
    /// Fail, as if what was about to be done had failed.
    Fail,
}

/// Who stands behind the door.
pub trait Faults: Send + Sync {
    /// A step of an actor, or blocking work, is at a point. A delay and a hold have passed when it returns; a crash, a kill and a panic do not return: they unwind with an
    /// [`InjectedEnd`], or end the process.
    fn reach(&self, hit: &Hit<'_>) -> Reaction;
}

/// What a task is unwound with when a fault ends it. User code's guards let it pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InjectedEnd {
    /// The process ends here.
    Crash,
    /// The actor ends here.
    Kill,
}

/// What the code at a point panics with, when a fault lets it. User code's guards take it for a panic of that code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InjectedPanic(pub Point);

impl fmt::Display for InjectedPanic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "an injected panic at {}", self.0)
    }
}

impl fmt::Display for InjectedEnd {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            InjectedEnd::Crash => "an injected fault crashed the process",
            InjectedEnd::Kill => "an injected fault killed the actor",
        })
    }
}

/// The handle of the door: cheap to clone, and empty as a rule.
#[derive(Clone, Default)]
pub struct Points(Option<Arc<dyn Faults>>);

impl Points {
    /// Somebody stands behind the door.
    #[must_use]
    pub fn armed(faults: Arc<dyn Faults>) -> Points {
        Points(Some(faults))
    }

    /// Whether somebody does.
    #[must_use]
    pub fn are_armed(&self) -> bool {
        self.0.is_some()
    }

    /// A step or blocking work is at a point.
    #[inline]
    pub fn reach(&self, hit: impl FnOnce() -> Hit<'static>) -> Reaction {
        match &self.0 {
            None => Reaction::Go,
            Some(faults) => faults.reach(&hit()),
        }
    }

    /// The same for a point that borrows who reaches it.
    #[inline]
    pub fn reach_at(&self, hit: &Hit<'_>) -> Reaction {
        match &self.0 {
            None => Reaction::Go,
            Some(faults) => faults.reach(hit),
        }
    }

    /// The same where the answer is carried on as an error: `fail` makes one of the reason.
    ///
    /// # Errors
    /// The one that is injected.
    pub fn pass<E>(&self, hit: &Hit<'_>, fail: impl FnOnce(String) -> E) -> Result<(), E> {
        match self.reach_at(hit) {
            Reaction::Go => Ok(()),
            Reaction::Fail => Err(fail(format!("an injected error at {}", hit.point))),
        }
    }
}

impl fmt::Debug for Points {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.are_armed() { "Points(armed)" } else { "Points" })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_point_is_found_by_its_own_name() {
        let names: BTreeSet<&str> = Point::ALL.iter().map(|point| point.name()).collect();
        assert_eq!(names.len(), Point::ALL.len());
        for point in Point::ALL {
            assert_eq!(point.name().parse(), Ok(*point));
            assert!(point.meaning().ends_with('.'), "{point}");
            assert!(point.actions().contains(Action::Crash), "{point}");
        }
        assert_eq!("barrier".parse::<Point>(), Err(UnknownPoint("barrier".to_owned())));
    }

    #[test]
    fn only_messages_are_lost_or_doubled() {
        for point in Point::ALL.iter().filter(|point| point.actions().contains(Action::Drop)) {
            assert!(point.name().ends_with(".sent") || point.name().ends_with(".received"), "{point}");
        }
    }
}
