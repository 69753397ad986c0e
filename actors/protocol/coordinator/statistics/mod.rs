//! What can be seen of checkpoints: of each one, of all together, of the last ones.
//!
//! No decision depends on any of it. Everything handed out is a copy that never changes.

mod figures;
mod history;
mod measured;

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use crate::ids::{Attempt, CheckpointId, Moment, NodeId, SubtaskId};

use super::message::CheckpointKind;
use super::reason::FailureReason;

pub use self::figures::{Figures, Measure};
pub use self::measured::{HeldUp, LastMarker, Overtook, SubtaskFigures};

use self::history::History;

/// How many ended checkpoints wait to be taken, at most: as many as can end in one go, and more.
const UNTAKEN: usize = 16;

/// How far a checkpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CheckpointStatus {
    /// Acknowledgements are missing.
    InProgress,
    /// All acknowledgements came; the manifest is being written, or its write is being settled.
    Finalizing,
    /// Its manifest exists.
    Completed,
    /// It was aborted.
    Failed(FailureReason),
}

/// What is known of one subtask's part of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubtaskStatistics {
    /// The subtask.
    pub subtask: SubtaskId,
    /// When its acknowledgement came. None if it had ended before the trigger and was not asked.
    pub acknowledged: Option<Moment>,
    /// Whether it had reached the end of its data.
    pub finished: bool,
    /// What it measured.
    pub figures: SubtaskFigures,
}

/// The figures of one checkpoint, pending or ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CheckpointStatistics {
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// Why it was taken.
    pub kind: CheckpointKind,
    /// How far it is.
    pub status: CheckpointStatus,
    /// When it was triggered.
    pub triggered: Moment,
    /// When the latest acknowledgement came.
    pub latest_acknowledgement: Option<Moment>,
    /// How many subtasks take part; zero before they were told.
    pub subtasks: usize,
    /// How many of them acknowledged. A subtask that had ended before the trigger counts as having done so.
    pub acknowledged: usize,
    /// Those whose acknowledgement is missing, ascending.
    pub missing: Vec<SubtaskId>,
    /// The length of what was acknowledged in bytes, the state of the enumerators included.
    pub bytes: u64,
    /// How much of it this checkpoint had to write; the rest is in blobs of earlier ones.
    pub written_bytes: u64,
    /// Those that acknowledged, ascending.
    pub by_subtask: Vec<SubtaskStatistics>,
    /// How many acknowledgements came after it was aborted.
    pub late: usize,
    /// When it was completed or aborted.
    pub ended: Option<Moment>,
}

impl CheckpointStatistics {
    /// The time from the trigger to the end, or to `now` while it is pending.
    #[must_use]
    pub fn duration(&self, now: Moment) -> Duration {
        self.ended.unwrap_or(now).since(self.triggered)
    }

    /// Why it failed, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<FailureReason> {
        match self.status {
            CheckpointStatus::Failed(reason) => Some(reason),
            CheckpointStatus::InProgress | CheckpointStatus::Finalizing | CheckpointStatus::Completed => None,
        }
    }

    /// Whether any subtask cut ahead of records: then it is an unaligned one.
    #[must_use]
    pub fn unaligned(&self) -> bool {
        self.by_subtask.iter().any(|subtask| subtask.figures.unaligned)
    }

    /// The records that are in flight in it, and their bytes, over all subtasks.
    #[must_use]
    pub fn in_flight(&self) -> (u64, u64) {
        let figures = self.by_subtask.iter().map(|subtask| &subtask.figures);
        figures.fold((0, 0), |(records, bytes), figures| {
            (records + figures.in_flight_records, bytes + figures.in_flight_bytes)
        })
    }

    /// What the subtasks of one node sum up to.
    #[must_use]
    pub fn node(&self, node: NodeId) -> NodeStatistics {
        let mut sums = NodeStatistics::default();
        for subtask in self.by_subtask.iter().filter(|found| found.subtask.node == node) {
            sums.acknowledged += 1;
            sums.latest_acknowledgement = sums.latest_acknowledgement.max(subtask.acknowledged);
            if let Some(acknowledged) = subtask.acknowledged {
                sums.add(acknowledged.since(self.triggered), &subtask.figures);
            }
        }
        sums
    }
}

/// What the subtasks of one node sum up to in one checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeStatistics {
    /// How many acknowledged.
    pub acknowledged: usize,
    /// When the last of them did.
    pub latest_acknowledgement: Option<Moment>,
    /// From the trigger to the acknowledgement.
    pub duration: Figures<Duration>,
    /// The length of a subtask's pieces in bytes.
    pub bytes: Figures<u64>,
    /// How much of it this checkpoint had to write.
    pub written_bytes: Figures<u64>,
    /// The bytes of the records in flight.
    pub in_flight_bytes: Figures<u64>,
    /// From the trigger until the first marker was at the head of a channel.
    pub start_delay: Figures<Duration>,
    /// How long channels were blocked.
    pub alignment: Figures<Duration>,
    /// How long the subtask stood still for its snapshot.
    pub synchronous: Figures<Duration>,
    /// How long its snapshot was written while it went on.
    pub asynchronous: Figures<Duration>,
}

impl NodeStatistics {
    fn add(&mut self, duration: Duration, figures: &SubtaskFigures) {
        self.duration.add(duration);
        self.bytes.add(figures.bytes);
        self.written_bytes.add(figures.written_bytes);
        self.in_flight_bytes.add(figures.in_flight_bytes);
        self.start_delay.add(figures.start_delay);
        self.alignment.add(figures.alignment);
        self.synchronous.add(figures.synchronous);
        self.asynchronous.add(figures.asynchronous);
    }
}

/// How many checkpoints there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Begun, or to be begun and failed before they had an id.
    pub triggered: u64,
    /// Under way.
    pub in_progress: u64,
    /// Completed.
    pub completed: u64,
    /// Aborted, for whatever reason, or failed before they had an id.
    pub failed: u64,
    /// Restored, over all attempts.
    pub restored: u64,
}

/// A checkpoint that an attempt began with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RestoredCheckpoint {
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// The attempt.
    pub attempt: Attempt,
    /// When all its subtasks had their state.
    pub at: Moment,
}

/// The figures of all completed checkpoints together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// From the trigger to the written manifest.
    pub duration: Figures<Duration>,
    /// The length in bytes.
    pub bytes: Figures<u64>,
    /// How much of it had to be written.
    pub written_bytes: Figures<u64>,
    /// The bytes of the records in flight.
    pub in_flight_bytes: Figures<u64>,
    /// The longest alignment of a subtask in each checkpoint.
    pub alignment: Figures<Duration>,
}

/// All that is known of the checkpoints of a job at one moment. It never changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatisticsSnapshot {
    /// How many there were.
    pub counts: Counts,
    /// The completed ones together.
    pub summary: Summary,
    /// Those under way, ascending by id.
    pub pending: Vec<Arc<CheckpointStatistics>>,
    /// The last ones in the order of their triggers, pending and ended.
    pub history: Vec<Arc<CheckpointStatistics>>,
    /// The one that was completed last.
    pub latest_completed: Option<Arc<CheckpointStatistics>>,
    /// The one that failed last.
    pub latest_failed: Option<Arc<CheckpointStatistics>>,
    /// The one that was restored last.
    pub latest_restored: Option<RestoredCheckpoint>,
}

impl StatisticsSnapshot {
    /// The figures of one checkpoint, if it is under way or in the history.
    #[must_use]
    pub fn checkpoint(&self, checkpoint: CheckpointId) -> Option<&CheckpointStatistics> {
        let known = self.pending.iter().chain(self.history.iter().rev());
        known.map(AsRef::as_ref).find(|found| found.checkpoint == checkpoint)
    }
}

/// Collects the figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statistics {
    counts: Counts,
    summary: Summary,
    history: History,
    latest_completed: Option<Arc<CheckpointStatistics>>,
    latest_failed: Option<Arc<CheckpointStatistics>>,
    latest_restored: Option<RestoredCheckpoint>,
    /// Those that ended and were not taken, oldest first.
    untaken: VecDeque<Arc<CheckpointStatistics>>,
    /// The last snapshot, while it is what a new one would be.
    snapshot: Option<Arc<StatisticsSnapshot>>,
}

/// No decision depends on what was counted, so coordinators that decide alike hash alike: walks tell states apart by it.
impl Hash for Statistics {
    fn hash<H: Hasher>(&self, _state: &mut H) {}
}

impl Statistics {
    pub(super) fn new(size: usize) -> Statistics {
        Statistics {
            counts: Counts::default(),
            summary: Summary::default(),
            history: History::new(size),
            latest_completed: None,
            latest_failed: None,
            latest_restored: None,
            untaken: VecDeque::new(),
            snapshot: None,
        }
    }

    /// Goes on from what another coordinator had counted, which is gone: what was under way with it has failed.
    pub(super) fn resume(size: usize, earlier: &StatisticsSnapshot, now: Moment) -> Statistics {
        let mut statistics = Statistics::new(size);
        statistics.counts = earlier.counts;
        statistics.summary = earlier.summary.clone();
        statistics.latest_completed = earlier.latest_completed.clone();
        statistics.latest_failed = earlier.latest_failed.clone();
        statistics.latest_restored = earlier.latest_restored;
        for found in &earlier.history {
            statistics.history.begin(found.checkpoint);
            if found.ended.is_some() {
                statistics.history.end(found);
            } else {
                let reason = FailureReason::CheckpointCoordinatorSuspend;
                let failed = CheckpointStatus::Failed(reason);
                statistics.failed(CheckpointStatistics { status: failed, ended: Some(now), ..(**found).clone() });
            }
        }
        // Without a place in the history nothing was known of them.
        statistics.counts.failed += statistics.counts.in_progress;
        statistics.counts.in_progress = 0;
        statistics
    }

    /// The checkpoints that ended since the last call, oldest first; of more than sixteen the last ones.
    pub(super) fn take_ended(&mut self) -> VecDeque<Arc<CheckpointStatistics>> {
        std::mem::take(&mut self.untaken)
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// Something changed that a snapshot shows.
    pub(super) fn changed(&mut self) {
        self.snapshot = None;
    }

    pub(super) fn triggered(&mut self, checkpoint: CheckpointId) {
        self.changed();
        self.counts.triggered += 1;
        self.counts.in_progress += 1;
        self.history.begin(checkpoint);
    }

    pub(super) fn completed(&mut self, statistics: CheckpointStatistics) {
        self.counts.completed += 1;
        let ended = self.end(statistics);
        self.summary.duration.add(ended.duration(ended.triggered));
        self.summary.bytes.add(ended.bytes);
        self.summary.written_bytes.add(ended.written_bytes);
        self.summary.in_flight_bytes.add(ended.in_flight().1);
        let longest = ended.by_subtask.iter().map(|subtask| subtask.figures.alignment).max();
        self.summary.alignment.add(longest.unwrap_or_default());
        self.latest_completed = Some(ended);
    }

    pub(super) fn failed(&mut self, statistics: CheckpointStatistics) {
        self.counts.failed += 1;
        self.latest_failed = Some(self.end(statistics));
    }

    fn end(&mut self, statistics: CheckpointStatistics) -> Arc<CheckpointStatistics> {
        self.changed();
        self.counts.in_progress = self.counts.in_progress.saturating_sub(1);
        let ended = Arc::new(statistics);
        self.history.end(&ended);
        if self.untaken.len() == UNTAKEN {
            self.untaken.pop_front();
        }
        self.untaken.push_back(Arc::clone(&ended));
        ended
    }

    /// A checkpoint failed that never got an id.
    pub(super) fn failed_without_id(&mut self) {
        self.changed();
        self.counts.triggered += 1;
        self.counts.failed += 1;
    }

    pub(super) fn restored(&mut self, restored: RestoredCheckpoint) {
        self.changed();
        self.counts.restored += 1;
        self.latest_restored = Some(restored);
    }

    /// An acknowledgement came for a checkpoint that was aborted.
    pub(super) fn late(&mut self, checkpoint: CheckpointId, now: Moment) {
        self.changed();
        let latest = self.latest_failed.iter_mut();
        for ended in latest.chain(self.history.find(checkpoint)).filter(|ended| ended.checkpoint == checkpoint) {
            let ended = Arc::make_mut(ended);
            ended.late += 1;
            ended.latest_acknowledgement = Some(now);
        }
    }

    pub(super) fn ended(&self) -> impl Iterator<Item = &CheckpointStatistics> {
        self.history.ended()
    }

    /// The snapshot of this moment; `pending` tells of those under way, ascending by id.
    pub(super) fn snapshot(&mut self, pending: impl Iterator<Item = CheckpointStatistics>) -> Arc<StatisticsSnapshot> {
        if let Some(snapshot) = &self.snapshot {
            return Arc::clone(snapshot);
        }
        let pending: Vec<Arc<CheckpointStatistics>> = pending.map(Arc::new).collect();
        let find = |checkpoint| pending.iter().find(|found| found.checkpoint == checkpoint).cloned();
        let history = self.history.all(find).collect();
        let snapshot = Arc::new(StatisticsSnapshot {
            counts: self.counts,
            summary: self.summary.clone(),
            history,
            pending,
            latest_completed: self.latest_completed.clone(),
            latest_failed: self.latest_failed.clone(),
            latest_restored: self.latest_restored,
        });
        self.snapshot = Some(Arc::clone(&snapshot));
        snapshot
    }
}
