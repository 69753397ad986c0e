//! What one subtask measures of its part of a checkpoint: where the time went, which marker came last and behind what.

use std::time::Duration;

use alluvium_actors::drive::control::Control;
use alluvium_actors::ids::{CheckpointId, Moment, SubtaskId};
use alluvium_actors::protocol::align::Channel;
use alluvium_actors::protocol::align::CheckpointMode::{AtLeastOnce, ExactlyOnce};
use alluvium_actors::protocol::coordinator::{LastMarker, SubtaskFigures};

use crate::chain::Part;
use crate::rig::{Rig, barrier, operator, producer};

fn milliseconds(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// The clock of the host moves by a nanosecond whenever it is looked at, and by whole milliseconds when the test says so.
#[track_caller]
fn assert_about(measured: Duration, expected: u64) {
    let is_about = measured >= milliseconds(expected) && measured < milliseconds(expected) + Duration::from_micros(10);
    assert!(is_about, "{measured:?} instead of {expected} ms");
}

fn announce(rig: &mut Rig, channel: usize, checkpoint: u64) {
    rig.receive(Control::BarrierAnnounced { channel, barrier: barrier(checkpoint) });
}

/// What the only acknowledgement since the last call carries.
fn measured(rig: &Rig) -> SubtaskFigures {
    let figures = rig.figures();
    assert_eq!(figures.len(), 1, "{figures:?}");
    figures[0]
}

#[test]
fn the_last_marker_is_named_with_the_batches_that_were_in_front_of_it() {
    let mut rig = operator(ExactlyOnce, 2);
    rig.pass(milliseconds(10));
    rig.put(0, "B1");
    rig.put(1, "5 6 7 B1 8");
    announce(&mut rig, 0, 1);
    announce(&mut rig, 1, 1);
    rig.run();
    let last = measured(&rig).last_marker;
    assert_eq!(last, Some(LastMarker { channel: Channel(1), producer: producer(1), batches: 3 }));
}

#[test]
fn each_stretch_of_time_is_measured_for_itself() {
    for mode in [ExactlyOnce, AtLeastOnce] {
        let mut rig = operator(mode, 2);
        rig.chain.part(1, Part::Hangs);
        rig.pass(milliseconds(3));
        rig.put(0, "5");
        announce(&mut rig, 0, 1);
        rig.run();
        rig.pass(milliseconds(20));
        rig.send(0, "B1");
        rig.pass(milliseconds(800));
        rig.send(1, "B1");
        rig.pass(milliseconds(60));
        rig.chain.part_is_ready(1);
        rig.run();
        let figures = measured(&rig);
        assert_about(figures.notice_delay, 3);
        assert_about(figures.start_delay, 23);
        assert_about(figures.alignment, 800);
        assert_about(figures.synchronous, 0);
        assert_about(figures.asynchronous, 60);
        assert!(!figures.unaligned);
        assert_about(figures.acknowledged_after(), 883);
    }
}

#[test]
fn a_marker_that_came_before_its_message_was_behind_nothing() {
    let mut rig = operator(ExactlyOnce, 1);
    rig.send(0, "5 B1");
    announce(&mut rig, 0, 1);
    rig.run();
    assert_eq!(measured(&rig).last_marker.unwrap().batches, 0);
}

#[test]
fn an_ended_channel_and_an_aborted_checkpoint_leave_no_traces() {
    let mut rig = operator(ExactlyOnce, 2);
    rig.send(0, "B1");
    rig.abort(1);
    rig.send(1, "B1 end close");
    rig.send(0, "B2");
    let last = measured(&rig).last_marker;
    assert_eq!(last, Some(LastMarker { channel: Channel(0), producer: producer(0), batches: 0 }));
}

#[test]
fn what_a_subtask_does_can_be_seen_while_it_waits() {
    use alluvium_actors::protocol::story::{Doing, Observed, Owing, Stage};
    let mut rig = operator(ExactlyOnce, 3);
    rig.send(2, "end close");
    rig.send(0, "B1");
    rig.put(1, "5 6");
    let seen = |rig: &Rig, at: Moment| rig.watch.observe(CheckpointId(1), at);
    let owing = Owing { channel: Channel(1), producer: SubtaskId::new(0, 1), batches: 2, sent: false };
    let now = Moment(u64::MAX);
    let waits = Observed { stage: Stage::Waiting, doing: Doing::Nothing, owing: vec![owing] };
    assert_eq!(seen(&rig, now), waits);
    rig.put(1, "B1");
    assert_eq!(seen(&rig, now).owing, [Owing { sent: true, ..owing }]);
    rig.chain.part(1, Part::Hangs);
    rig.run();
    assert!(matches!(seen(&rig, now).stage, Stage::Asynchronous { .. }), "{:?}", seen(&rig, now));
    // Seen from a moment before, it was as it had been then.
    assert_eq!(seen(&rig, Moment(0)).stage, Stage::Waiting);
    rig.chain.part_is_ready(1);
    rig.run();
    assert!(matches!(seen(&rig, now).stage, Stage::Acknowledged { .. }));
}
