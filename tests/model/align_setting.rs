//! What a walk over a small world is given: the graph, the supplies of records, checkpoints and faults, a broken rule;
//! and the steps that it may take.

use alluvium_actors::protocol::align::{Channel, CheckpointMode};

/// Who feeds whom. Edges are (producer, consumer); a subtask without producers is a source, one without consumers a sink.
#[derive(Debug)]
pub(crate) struct Shape {
    pub subtasks: usize,
    pub edges: &'static [(usize, usize)],
}

impl Shape {
    pub(crate) fn inputs(&self, subtask: usize) -> impl Iterator<Item = usize> {
        (0..self.edges.len()).filter(move |&edge| self.edges[edge].1 == subtask)
    }

    pub(crate) fn outputs(&self, subtask: usize) -> impl Iterator<Item = usize> {
        (0..self.edges.len()).filter(move |&edge| self.edges[edge].0 == subtask)
    }

    pub(crate) fn is_source(&self, subtask: usize) -> bool {
        self.inputs(subtask).next().is_none()
    }

    pub(crate) fn sources(&self) -> impl Iterator<Item = usize> {
        (0..self.subtasks).filter(|&subtask| self.is_source(subtask))
    }

    /// The channel number of `edge` at its consumer.
    pub(crate) fn channel_of(&self, edge: usize) -> Channel {
        let (_, consumer) = self.edges[edge];
        let position = self.inputs(consumer).position(|other| other == edge).expect("it is an input");
        Channel(u32::try_from(position).expect("few channels"))
    }
}

/// A rule that is broken on purpose, to see that the walk finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    Nothing,
    /// No channel is ever blocked.
    Alignment,
    /// A cancelled checkpoint is forgotten, so that its late barriers count again.
    Memory,
    /// Cancel markers are dropped.
    CancelMarkers,
    /// The end of a channel does not count as a delivery.
    Ends,
    /// A barrier is put in front of the output that is still pending in the producer.
    Order,
    /// The first marker counts for all channels. Only for walks in which nothing ends.
    Early,
}

/// What may happen in a walk, and how often.
#[derive(Debug)]
pub(crate) struct Setting {
    pub mode: CheckpointMode,
    pub shape: Shape,
    /// Records of each source, sent to its outputs in turn.
    pub records: u8,
    /// Checkpoints that the coordinator may trigger in all.
    pub checkpoints: u8,
    /// How many of them may be open at once.
    pub concurrent: usize,
    /// Whether sources end when they have sent everything.
    pub ends: bool,
    /// Whether the messages of barriers are delivered too, at any moment.
    pub announcements: bool,
    /// Whether the coordinator sends abort notices. Without them the cancel markers alone have to do.
    pub notices: bool,
    /// Whether a message that comes too late to matter is delivered at once instead of at every later moment. What it
    /// saves are orders of messages without effect; the small walks try them all.
    pub late_mail_at_once: bool,
    /// How many faults may happen, of each kind.
    pub faults: Faults,
    pub broken: Broken,
    /// Whether the cuts at both ends of each edge are compared. Without that only what reaches the sinks can tell.
    pub compare_cuts: bool,
}

/// How often each fault may still happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Faults {
    /// The coordinator gives up an open checkpoint.
    pub aborts: u8,
    /// Everything stops at once and is restored.
    pub crashes: u8,
    /// A message or a control frame is delivered a second time.
    pub repeats: u8,
    /// Messages of a checkpoint that nobody triggered.
    pub unknown: u8,
    /// A subtask fails to take its cut.
    pub failed_cuts: u8,
}

/// What lies in an edge. Records and checkpoints are numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Frame {
    Record(u8),
    Marker(u8),
    Cancel(u8),
    End,
}

/// What lies in a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Mail {
    Trigger(u8),
    Announcement(u8),
    AbortNotice(u8),
}

/// One step of the world. Numbers are subtasks, edges and checkpoints of the setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Send { source: usize },
    EndSource { source: usize },
    EndSubtask { subtask: usize },
    TriggerCheckpoint { checkpoint: u8 },
    Deliver { subtask: usize, mail: Mail },
    Take { edge: usize, frame: Frame },
    DeliverAndFailTheCut { subtask: usize, mail: Mail },
    TakeAndFailTheCut { edge: usize, frame: Frame },
    Abort { checkpoint: u8 },
    Crash,
    DeliverTwice { subtask: usize, mail: Mail },
    TakeTwice { edge: usize, frame: Frame },
    Unknown { subtask: usize },
}
