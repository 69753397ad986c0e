//! What is kept of a checkpoint that ended, also beyond the process: the record that a history is made of.
//!
//! It stands for itself: names and durations instead of numbers of a plan and moments of a clock, since both are another process's when it is read. Losing one
//! loses history, and nothing else.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{CheckpointId, Moment, RunNumber, SubtaskId, WallTime};
use crate::ports::store::CheckpointKind;
use crate::protocol::coordinator::{CheckpointStatistics, SubtaskFigures, SubtaskStatistics};

/// Of how many subtasks a record keeps the parts, at most: those that acknowledged last.
pub const RECORDED_PARTS: usize = 32;

/// A checkpoint that was completed or aborted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CheckpointRecord {
    /// The run that took it.
    pub run: RunNumber,
    /// Its number.
    pub checkpoint: CheckpointId,
    /// Why it was taken.
    pub kind: CheckpointKind,
    /// When it was triggered.
    pub triggered: WallTime,
    /// From the trigger until it was completed or aborted.
    pub duration: Duration,
    /// Why it failed; none if it was completed.
    pub failure: Option<String>,
    /// What it says of itself, in one sentence.
    pub story: String,
    /// The length of what was acknowledged in bytes.
    pub bytes: u64,
    /// How much of it had to be written: not what an incremental one takes over from earlier ones.
    pub written_bytes: u64,
    /// How many records of it were in flight, because subtasks cut ahead of them.
    pub in_flight_records: u64,
    /// Their bytes.
    pub in_flight_bytes: u64,
    /// Whether any subtask cut ahead of records.
    pub unaligned: bool,
    /// How many subtasks took part.
    pub subtasks: usize,
    /// How many of them acknowledged.
    pub acknowledged: usize,
    /// The parts of the subtasks that acknowledged last, at most [`RECORDED_PARTS`], the last one first.
    pub parts: Vec<PartRecord>,
}

/// A subtask's part of a recorded checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PartRecord {
    /// The subtask: the name of its chain and its index, `join[1]`.
    pub subtask: String,
    /// From the trigger until its acknowledgement came.
    pub acknowledged: Duration,
    /// Whether it had reached the end of its data.
    pub finished: bool,
    /// The length of all its pieces in bytes.
    pub bytes: u64,
    /// How much of it had to be written.
    pub written_bytes: u64,
    /// How many records of it were in flight in front of the subtask.
    pub in_flight_records: u64,
    /// Their bytes.
    pub in_flight_bytes: u64,
    /// Whether it cut ahead of records.
    pub unaligned: bool,
    /// From the trigger until it first heard of the checkpoint.
    pub notice_delay: Duration,
    /// From the trigger until the first marker was at the head of a channel.
    pub start_delay: Duration,
    /// How long channels were blocked.
    pub alignment: Duration,
    /// How long it stood still for its snapshot.
    pub synchronous: Duration,
    /// How long its snapshot was written while it went on.
    pub asynchronous: Duration,
    /// How much of that passed until all that its barrier overtook was collected.
    #[serde(default)]
    pub collecting: Duration,
}

impl CheckpointRecord {
    /// The record of a checkpoint.
    pub(crate) fn of(
        run: RunNumber,
        triggered: WallTime,
        story: String,
        statistics: &CheckpointStatistics,
        name: impl Fn(SubtaskId) -> String,
    ) -> CheckpointRecord {
        let mut parts: Vec<(Moment, &SubtaskStatistics)> =
            statistics.by_subtask.iter().filter_map(|part| Some((part.acknowledged?, part))).collect();
        parts.sort_by_key(|(at, part)| (std::cmp::Reverse(*at), part.subtask));
        parts.truncate(RECORDED_PARTS);
        let parts = parts.into_iter().map(|(at, part)| {
            let acknowledged = at.since(statistics.triggered);
            PartRecord::of(name(part.subtask), acknowledged, part.finished, &part.figures)
        });
        let (in_flight_records, in_flight_bytes) = statistics.in_flight();
        CheckpointRecord {
            run,
            checkpoint: statistics.checkpoint,
            kind: statistics.kind,
            triggered,
            duration: statistics.duration(statistics.triggered),
            failure: statistics.failure().map(|reason| reason.to_string()),
            story,
            bytes: statistics.bytes,
            written_bytes: statistics.written_bytes,
            in_flight_records,
            in_flight_bytes,
            unaligned: statistics.unaligned(),
            subtasks: statistics.subtasks,
            acknowledged: statistics.acknowledged,
            parts: parts.collect(),
        }
    }
}

impl PartRecord {
    fn of(subtask: String, acknowledged: Duration, finished: bool, figures: &SubtaskFigures) -> PartRecord {
        PartRecord {
            subtask,
            acknowledged,
            finished,
            bytes: figures.bytes,
            written_bytes: figures.written_bytes,
            in_flight_records: figures.in_flight_records,
            in_flight_bytes: figures.in_flight_bytes,
            unaligned: figures.unaligned,
            notice_delay: figures.notice_delay,
            start_delay: figures.start_delay,
            alignment: figures.alignment,
            synchronous: figures.synchronous,
            asynchronous: figures.asynchronous,
            collecting: figures.overtook.map(|overtook| overtook.collecting).unwrap_or_default(),
        }
    }
}
