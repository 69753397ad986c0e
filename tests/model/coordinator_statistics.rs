//! What can be seen of checkpoints: counts, history, the latest of each kind, the summary, the parts of the subtasks.

use std::sync::Arc;
use std::time::Duration;

use alluvium_actors::ids::{Attempt, CheckpointId, Moment, NodeId};
use alluvium_actors::protocol::coordinator::CheckpointKind::Manual;
use alluvium_actors::protocol::coordinator::{
    CheckpointStatus, Coordinator, Counts, DeclineReason, Effect, Event, FailureReason, Figures, Outcome, RequestId,
    RequestKind, Settings, StatisticsSnapshot, SubtaskFigures,
};

use crate::coordinator::{Desk, FIRST, LEFT, RIGHT, SECOND, SINK, at_most, id};

fn keeping(history: usize) -> Settings {
    Settings { history, ..at_most(9) }
}

fn seen(desk: &mut Desk) -> Arc<StatisticsSnapshot> {
    desk.coordinator.snapshot_statistics()
}

/// Every checkpoint of the history with what became of it.
fn history(snapshot: &StatisticsSnapshot) -> Vec<(u64, CheckpointStatus)> {
    snapshot.history.iter().map(|found| (found.checkpoint.0, found.status)).collect()
}

const DECLINED: CheckpointStatus = CheckpointStatus::Failed(FailureReason::CheckpointDeclined);

// Counts.

#[test]
fn every_checkpoint_is_counted_as_triggered_and_then_as_what_became_of_it() {
    let mut desk = Desk::running(keeping(10));
    assert_eq!(seen(&mut desk).counts, Counts::default());
    desk.trigger(1);
    desk.trigger(2);
    assert_eq!(seen(&mut desk).counts, Counts { triggered: 2, in_progress: 2, ..Counts::default() });
    desk.complete(1);
    desk.decline(LEFT, 2, DeclineReason::Declined);
    let expected = Counts { triggered: 2, completed: 1, failed: 1, ..Counts::default() };
    assert_eq!(seen(&mut desk).counts, expected);
    desk.tell(Event::Suspend);
    desk.start(2, Some(1), &[1]);
    assert_eq!(seen(&mut desk).counts, Counts { restored: 1, ..expected });
}

#[test]
fn what_nobody_began_changes_no_count() {
    let mut desk = Desk::running(keeping(10));
    desk.acknowledge(LEFT, 7);
    desk.decline(LEFT, 7, DeclineReason::Declined);
    desk.run(Event::WriteFinished { token: alluvium_actors::ids::Token(7), outcome: Outcome::Done });
    assert_eq!(seen(&mut desk).counts, Counts::default());
}

#[test]
fn a_snapshot_is_a_copy_that_never_changes() {
    let mut desk = Desk::running(keeping(10));
    desk.trigger(1);
    let before = seen(&mut desk);
    let copied = StatisticsSnapshot::clone(&before);
    desk.complete(1);
    desk.trigger(2);
    assert_eq!(*before, copied);
    assert_eq!(history(&before), [(1, CheckpointStatus::InProgress)]);
}

#[test]
fn a_snapshot_is_made_anew_only_when_something_has_changed() {
    let mut desk = Desk::running(keeping(10));
    let before = seen(&mut desk);
    assert!(Arc::ptr_eq(&before, &seen(&mut desk)));
    let same = |desk: &mut Desk, before: &Arc<StatisticsSnapshot>| Arc::ptr_eq(before, &seen(desk));
    desk.trigger(1);
    assert!(!same(&mut desk, &before), "it was triggered");
    let before = seen(&mut desk);
    desk.acknowledge(LEFT, 1);
    assert!(!same(&mut desk, &before), "it was acknowledged");
    let before = seen(&mut desk);
    desk.acknowledge(LEFT, 1);
    desk.pass(SECOND);
    desk.request(RequestKind::Stop);
    assert!(same(&mut desk, &before), "a repeated word, time, a request that waits");
    desk.decline(RIGHT, 1, DeclineReason::Declined);
    assert!(!same(&mut desk, &before), "it failed");
}

// History.

#[test]
fn without_a_history_counts_and_the_latest_are_kept_all_the_same() {
    let mut desk = Desk::running(keeping(0));
    desk.trigger(1);
    assert_eq!(history(&seen(&mut desk)), []);
    desk.complete(1);
    desk.trigger(2);
    desk.decline(LEFT, 2, DeclineReason::Declined);
    let snapshot = seen(&mut desk);
    assert_eq!(history(&snapshot), []);
    assert_eq!((snapshot.counts.completed, snapshot.counts.failed), (1, 1));
    assert_eq!(snapshot.latest_completed.as_ref().unwrap().checkpoint, id(1));
    assert_eq!(snapshot.latest_failed.as_ref().unwrap().checkpoint, id(2));
    assert_eq!(snapshot.summary.duration.count(), 1);
}

#[test]
fn a_history_of_one_holds_the_newest_trigger() {
    let mut desk = Desk::running(keeping(1));
    desk.trigger(1);
    desk.trigger(2);
    assert_eq!(history(&seen(&mut desk)), [(2, CheckpointStatus::InProgress)]);
    desk.decline(LEFT, 1, DeclineReason::Declined);
    assert_eq!(history(&seen(&mut desk)), [(2, CheckpointStatus::InProgress)], "1 has no place any more");
    desk.complete(2);
    assert_eq!(history(&seen(&mut desk)), [(2, CheckpointStatus::Completed)]);
}

#[test]
fn one_that_ends_takes_the_place_that_it_had_while_it_was_under_way() {
    let mut desk = Desk::running(keeping(3));
    for checkpoint in [1, 2, 3] {
        desk.trigger(checkpoint);
    }
    desk.decline(LEFT, 2, DeclineReason::Declined);
    let in_progress = CheckpointStatus::InProgress;
    assert_eq!(history(&seen(&mut desk)), [(1, in_progress), (2, DECLINED), (3, in_progress)]);
    desk.complete(3);
    let subsumed = CheckpointStatus::Failed(FailureReason::CheckpointSubsumed);
    let completed = CheckpointStatus::Completed;
    assert_eq!(history(&seen(&mut desk)), [(1, subsumed), (2, DECLINED), (3, completed)]);
    desk.trigger(4);
    assert_eq!(history(&seen(&mut desk)), [(2, DECLINED), (3, completed), (4, in_progress)]);
}

// The latest of each kind.

#[test]
fn the_latest_completed_failed_and_restored_are_known() {
    let mut desk = Desk::running(keeping(10));
    let empty = seen(&mut desk);
    assert!(empty.latest_completed.is_none() && empty.latest_failed.is_none() && empty.latest_restored.is_none());
    for checkpoint in [1, 2] {
        desk.trigger(checkpoint);
        desk.complete(checkpoint);
    }
    for checkpoint in [3, 4] {
        desk.trigger(checkpoint);
        desk.decline(LEFT, checkpoint, DeclineReason::Declined);
    }
    desk.tell(Event::Suspend);
    desk.now = Moment(77);
    desk.start(2, Some(2), &[2]);
    let snapshot = seen(&mut desk);
    assert_eq!(snapshot.latest_completed.as_ref().unwrap().checkpoint, id(2));
    assert_eq!(snapshot.latest_failed.as_ref().unwrap().checkpoint, id(4));
    let restored = snapshot.latest_restored.unwrap();
    assert_eq!((restored.checkpoint, restored.attempt, restored.at), (id(2), Attempt(2), Moment(77)));
}

// One checkpoint.

#[test]
fn the_parts_of_the_subtasks_are_known_and_add_up() {
    let mut desk = Desk::running(keeping(10));
    desk.now = Moment(1_000);
    desk.tell(Event::Request { request: RequestId(1), kind: RequestKind::Checkpoint });
    let answer = Event::EnumeratorsSnapshotted { attempt: FIRST, checkpoint: id(1), outcome: Outcome::Done, bytes: 7 };
    desk.tell(answer);
    for (subtask, at, bytes) in [(RIGHT, 1_010, 20), (SINK, 1_050, 0), (LEFT, 1_030, 60)] {
        desk.now = Moment(at);
        let figures = SubtaskFigures { bytes, ..SubtaskFigures::default() };
        let checkpoint = id(1);
        desk.tell(Event::Acknowledged { attempt: FIRST, subtask, checkpoint, finished: subtask == SINK, figures });
    }
    let snapshot = seen(&mut desk);
    let checkpoint = snapshot.checkpoint(id(1)).unwrap();
    assert_eq!((checkpoint.kind, checkpoint.status), (Manual, CheckpointStatus::Finalizing));
    assert_eq!(checkpoint.bytes, 87, "with the enumerators");
    assert_eq!(checkpoint.latest_acknowledgement, Some(Moment(1_050)));
    let parts: Vec<_> = checkpoint.by_subtask.iter().map(|part| (part.subtask, part.figures.bytes)).collect();
    assert_eq!(parts, [(LEFT, 60), (RIGHT, 20), (SINK, 0)]);
    assert_eq!(checkpoint.by_subtask.iter().filter(|part| part.finished).count(), 1);
    let sources = checkpoint.node(NodeId(0));
    assert_eq!((sources.acknowledged, sources.latest_acknowledgement), (2, Some(Moment(1_030))));
    assert_eq!((sources.bytes.sum(), sources.bytes.maximum()), (80, Some(60)));
    let nanoseconds = Duration::from_nanos;
    assert_eq!(sources.duration.minimum(), Some(nanoseconds(10)));
    assert_eq!(sources.duration.average(), Some(nanoseconds(20)));
    assert_eq!(checkpoint.node(NodeId(9)).bytes.count(), 0);
}

#[test]
fn a_subtask_that_was_gone_before_the_trigger_adds_no_figures() {
    let mut desk = Desk::running(keeping(10));
    desk.run(Event::SubtaskEnded { attempt: FIRST, subtask: LEFT });
    desk.trigger(1);
    let snapshot = seen(&mut desk);
    let sources = snapshot.checkpoint(id(1)).unwrap().node(NodeId(0));
    assert_eq!((sources.acknowledged, sources.bytes.count()), (1, 0));
}

#[test]
fn the_duration_of_a_failed_checkpoint_ends_with_its_failure() {
    let mut desk = Desk::running(keeping(10));
    desk.trigger(1);
    desk.pass(3 * SECOND);
    desk.decline(LEFT, 1, DeclineReason::Declined);
    desk.pass(100 * SECOND);
    let snapshot = seen(&mut desk);
    let failed = snapshot.latest_failed.as_ref().unwrap();
    assert_eq!(failed.duration(desk.now), 3 * SECOND);
    assert_eq!(failed.failure(), Some(FailureReason::CheckpointDeclined));
    assert_eq!(snapshot.summary.duration.count(), 0, "the summary is of completed ones");
}

#[test]
fn a_late_acknowledgement_is_seen_at_the_failed_checkpoint() {
    let mut desk = Desk::running(keeping(10));
    desk.trigger(1);
    desk.decline(LEFT, 1, DeclineReason::Declined);
    desk.pass(SECOND);
    let before = seen(&mut desk);
    desk.acknowledge(RIGHT, 1);
    let snapshot = seen(&mut desk);
    assert_eq!((snapshot.checkpoint(id(1)).unwrap().late, snapshot.latest_failed.as_ref().unwrap().late), (1, 1));
    assert_eq!(before.checkpoint(id(1)).unwrap().late, 0, "and the older copy is as it was");
}

// The summary.

#[test]
fn durations_and_sizes_of_completed_checkpoints_are_summed_up() {
    let mut desk = Desk::running(keeping(2));
    for (checkpoint, seconds) in (1..).zip([5, 1, 3]) {
        desk.trigger(checkpoint);
        desk.pass(seconds * SECOND);
        desk.complete(checkpoint);
    }
    let summary = &seen(&mut desk).summary;
    let duration = &summary.duration;
    assert_eq!(duration.count(), 3, "of all, not only of those in the history");
    assert_eq!((duration.minimum(), duration.maximum()), (Some(SECOND), Some(5 * SECOND)));
    assert_eq!((duration.average(), duration.sum()), (Some(3 * SECOND), 9 * SECOND));
    assert_eq!(duration.quantile(0.5), Some(3 * SECOND));
    assert_eq!(summary.bytes.average(), Some(300), "three subtasks with 100 bytes each");
}

#[test]
fn figures_of_nothing_are_none_and_those_of_one_value_are_that_value() {
    let mut figures = Figures::<u64>::default();
    assert_eq!((figures.count(), figures.sum()), (0, 0));
    assert_eq!((figures.minimum(), figures.maximum(), figures.average()), (None, None, None));
    assert_eq!(figures.quantile(0.5), None);
    figures.add(0);
    assert_eq!((figures.count(), figures.minimum(), figures.maximum()), (1, Some(0), Some(0)), "zero is a value");
    assert_eq!((figures.quantile(0.0), figures.quantile(1.0)), (Some(0), Some(0)));
}

#[test]
fn figures_of_many_values_are_those_of_the_sorted_series() {
    let mut figures = Figures::<u64>::default();
    let mut values: Vec<u64> = (0..1_000).map(|index| (index * 7_919) % 10_007).collect();
    for value in &values {
        figures.add(*value);
    }
    values.sort_unstable();
    assert_eq!((figures.minimum(), figures.maximum()), (Some(values[0]), Some(values[999])));
    assert_eq!(figures.average(), Some(values.iter().sum::<u64>() / 1_000));
    for (share, rank) in [(0.0, 0), (0.001, 0), (0.25, 249), (0.5, 499), (0.99, 989), (0.999, 998), (1.0, 999)] {
        assert_eq!(figures.quantile(share), Some(values[rank]), "{share}");
    }
    assert_eq!((figures.quantile(-1.0), figures.quantile(2.0)), (Some(values[0]), Some(values[999])));
}

#[test]
fn quantiles_are_of_the_last_values_and_extremes_of_all() {
    let mut figures = Figures::<u64>::default();
    figures.add(1_000_000);
    for _ in 0..1_000 {
        figures.add(5);
    }
    assert_eq!((figures.quantile(1.0), figures.maximum(), figures.count()), (Some(5), Some(1_000_000), 1_001));
    figures.add(u64::MAX);
    figures.add(u64::MAX);
    assert_eq!(figures.sum(), u64::MAX, "a sum that does not fit");
}

#[test]
fn a_checkpoint_in_doubt_that_cannot_be_settled_is_counted_as_failed() {
    let mut desk = Desk::running(keeping(10));
    desk.trigger(1);
    let effects = desk.acknowledge_all(1);
    let doubt = desk.written(&effects, 1, Outcome::Unknown);
    assert!(matches!(doubt[..], [Effect::ReadBack { checkpoint: CheckpointId(1), .. }]));
    desk.read_back(&doubt, alluvium_actors::protocol::coordinator::ReadBack::Unknown);
    let snapshot = seen(&mut desk);
    let unsettled = CheckpointStatus::Failed(FailureReason::CheckpointUnsettled);
    assert_eq!(history(&snapshot), [(1, unsettled)]);
    assert_eq!((snapshot.counts.in_progress, snapshot.counts.failed), (0, 1));
}

/// What a subtask measured: everything once, in milliseconds and bytes.
fn everything(unaligned: bool, scale: u64) -> SubtaskFigures {
    let milliseconds = |count| Duration::from_millis(count * scale);
    SubtaskFigures {
        bytes: 100 * scale,
        written_bytes: 10 * scale,
        in_flight_bytes: 8 * scale,
        in_flight_records: scale,
        unaligned,
        start_delay: milliseconds(1),
        alignment: milliseconds(2),
        synchronous: milliseconds(3),
        asynchronous: milliseconds(4),
        ..SubtaskFigures::default()
    }
}

/// Completes the first checkpoint, whose subtasks measured this.
fn complete_with(desk: &mut Desk, parts: [SubtaskFigures; 3]) -> Arc<StatisticsSnapshot> {
    desk.trigger(1);
    let mut last = Vec::new();
    for (subtask, figures) in [LEFT, RIGHT, SINK].into_iter().zip(parts) {
        last = desk.run(Event::Acknowledged { attempt: FIRST, subtask, checkpoint: id(1), finished: false, figures });
    }
    desk.written(&last, 1, Outcome::Done);
    seen(desk)
}

#[test]
fn every_figure_of_the_subtasks_adds_up_and_the_longest_alignment_counts() {
    let mut desk = Desk::running(keeping(10));
    let parts = [everything(false, 1), everything(true, 3), everything(false, 2)];
    let snapshot = complete_with(&mut desk, parts);
    let checkpoint = snapshot.checkpoint(id(1)).unwrap();
    assert_eq!((checkpoint.bytes, checkpoint.written_bytes, checkpoint.in_flight()), (600, 60, (6, 48)));
    let milliseconds = |count| Some(Duration::from_millis(count));
    let sources = checkpoint.node(NodeId(0));
    assert_eq!((sources.start_delay.minimum(), sources.start_delay.maximum()), (milliseconds(1), milliseconds(3)));
    assert_eq!((sources.alignment.average(), sources.synchronous.maximum()), (milliseconds(4), milliseconds(9)));
    assert_eq!((sources.asynchronous.quantile(0.5), sources.written_bytes.sum()), (milliseconds(4), 40));
    assert_eq!(sources.in_flight_bytes.sum(), 32);
    let summary = &snapshot.summary;
    assert_eq!(summary.alignment.maximum(), milliseconds(6), "of the slowest subtask");
    assert_eq!((summary.written_bytes.sum(), summary.in_flight_bytes.sum()), (60, 48));
}

#[test]
fn a_checkpoint_is_unaligned_if_any_subtask_was() {
    for (unaligned, expected) in [([false; 3], false), ([false, true, false], true)] {
        let mut desk = Desk::running(keeping(10));
        let snapshot = complete_with(&mut desk, unaligned.map(|unaligned| everything(unaligned, 1)));
        assert_eq!(snapshot.checkpoint(id(1)).unwrap().unaligned(), expected);
    }
}

// One that takes long.

#[test]
fn it_is_told_once_that_a_checkpoint_takes_long_and_an_expired_one_is_told_as_that() {
    let slow = |seconds| Settings { slow_after: Some(seconds * SECOND), timeout: 10 * SECOND, ..at_most(9) };
    let takes_long = |checkpoint| Effect::TakesLong { checkpoint: id(checkpoint) };
    let mut desk = Desk::running(slow(3));
    desk.trigger(1);
    desk.pass(SECOND);
    desk.trigger(2);
    assert_eq!(desk.pass(SECOND), []);
    assert_eq!(desk.pass(SECOND), [takes_long(1)]);
    let written = desk.acknowledge_all(2);
    // Also while the manifest is written, which nothing ends.
    assert_eq!(desk.pass(5 * SECOND), [takes_long(2)]);
    desk.written(&written, 2, Outcome::Done);
    assert_eq!(desk.pass(60 * SECOND), []);
    let mut desk = Desk::running(slow(10));
    desk.trigger(1);
    assert!(!desk.pass(60 * SECOND).contains(&takes_long(1)), "it expires at the same moment");
}

// A coordinator that takes the place of another.

#[test]
fn one_that_takes_the_place_of_another_goes_on_counting_and_what_was_under_way_has_failed() {
    for size in [10, 1, 0] {
        let mut desk = Desk::running(keeping(size));
        desk.trigger(1);
        desk.complete(1);
        desk.trigger(2);
        desk.trigger(3);
        let earlier = seen(&mut desk);
        let coordinator = Coordinator::new(keeping(size)).with_statistics(&earlier, Moment(9));
        desk.coordinator = coordinator;
        desk.start(2, Some(1), &[1]);
        let snapshot = seen(&mut desk);
        let expected = Counts { triggered: 3, completed: 1, failed: 2, restored: 1, ..Counts::default() };
        assert_eq!(snapshot.counts, expected, "with a history of {size}");
        assert_eq!(snapshot.summary.duration.count(), 1);
        assert_eq!(snapshot.latest_completed.as_ref().unwrap().checkpoint, id(1));
        let failed = CheckpointStatus::Failed(FailureReason::CheckpointCoordinatorSuspend);
        let all = [(1, CheckpointStatus::Completed), (2, failed), (3, failed)];
        assert_eq!(history(&snapshot), all[3 - size.min(3)..]);
    }
}

#[test]
fn those_that_ended_are_given_once_and_no_more_than_sixteen_of_them() {
    let mut desk = Desk::running(keeping(0));
    desk.trigger(1);
    desk.trigger(2);
    desk.complete(2);
    let ended: Vec<_> = desk.coordinator.take_ended().iter().map(|found| (found.checkpoint.0, found.status)).collect();
    let subsumed = CheckpointStatus::Failed(FailureReason::CheckpointSubsumed);
    assert_eq!(ended, [(2, CheckpointStatus::Completed), (1, subsumed)]);
    assert!(desk.coordinator.take_ended().is_empty());
    for checkpoint in 3..30 {
        desk.trigger(checkpoint);
        desk.decline(LEFT, checkpoint, DeclineReason::Declined);
    }
    let ended: Vec<_> = desk.coordinator.take_ended().iter().map(|found| found.checkpoint.0).collect();
    assert_eq!(ended, (14..30).collect::<Vec<u64>>());
}
