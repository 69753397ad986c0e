//! What one subtask measures of its part of a checkpoint: where the time went, which marker came last and behind what.

use std::time::Duration;

use alluvium_actors::drive::control::Control;
use alluvium_actors::drive::subtask::Restored;
use alluvium_actors::ids::{CheckpointId, Moment, SubtaskId};
use alluvium_actors::protocol::align::Channel;
use alluvium_actors::protocol::align::CheckpointMode::{AtLeastOnce, ExactlyOnce};
use alluvium_actors::protocol::coordinator::{LastMarker, Overtook, SubtaskFigures};
use alluvium_actors::protocol::story::{Doing, Observed, Owing, Stage};

use crate::chain::Part;
use crate::rig::{Rig, barrier, operator, overtaking, producer, restored_operator};

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

fn announce_overtaking(rig: &mut Rig, channel: usize, from: Duration) {
    let barrier = overtaking(1, from.as_nanos() as u64);
    rig.receive(Control::BarrierAnnounced { channel, barrier });
}

#[test]
fn a_cut_on_the_message_is_unaligned_and_its_collecting_ends_with_the_last_marker() {
    let mut rig = operator(ExactlyOnce, 2);
    rig.pass(milliseconds(3));
    rig.put(0, "1 2 U1 3");
    rig.put(1, "4");
    announce_overtaking(&mut rig, 0, Duration::ZERO);
    rig.run();
    rig.pass(milliseconds(500));
    rig.send(1, "5 6 U1");
    let figures = measured(&rig);
    assert!(figures.unaligned);
    assert_about(figures.notice_delay, 3);
    assert_about(figures.start_delay, 3);
    assert_about(figures.alignment, 0);
    assert_about(figures.asynchronous, 500);
    let overtook = figures.overtook.expect("it cut ahead of two markers");
    assert_eq!(overtook, Overtook { heard_from: Some(producer(0)), collecting: overtook.collecting });
    assert_about(overtook.collecting, 500);
    let last = LastMarker { channel: Channel(1), producer: producer(1), batches: 3 };
    assert_eq!(figures.last_marker, Some(last), "the batch in front of the cut, and the two behind it");
}

#[test]
fn a_deadline_makes_an_aligned_one_unaligned_and_nothing_less_does() {
    let figures = |deadline: u64| {
        let mut rig = operator(ExactlyOnce, 2);
        let barrier = overtaking(1, milliseconds(deadline).as_nanos() as u64);
        rig.put_barrier(0, barrier);
        rig.put(1, "4");
        announce_overtaking(&mut rig, 0, milliseconds(deadline));
        rig.run();
        rig.pass(milliseconds(100));
        rig.run();
        rig.pass(milliseconds(20));
        rig.put_barrier(1, barrier);
        rig.run();
        measured(&rig)
    };
    let aligned = figures(200);
    assert_eq!((aligned.unaligned, aligned.overtook), (false, None));
    assert_about(aligned.alignment, 120);
    let unaligned = figures(100);
    assert!(unaligned.unaligned);
    assert_about(unaligned.alignment, 100);
    assert_about(unaligned.overtook.unwrap().collecting, 20);
    assert_eq!(unaligned.last_marker.map(|last| last.channel), Some(Channel(1)));
}

#[test]
fn the_end_of_a_channel_and_an_aborted_collecting_leave_no_marker_behind() {
    let mut rig = operator(ExactlyOnce, 2);
    rig.send(0, "U1");
    rig.pass(milliseconds(7));
    rig.send(1, "1 end close");
    let figures = measured(&rig);
    assert!(figures.unaligned);
    assert_about(figures.overtook.unwrap().collecting, 7);
    assert_eq!(figures.last_marker, None, "that of channel 0 came before the cut and decided nothing");
    let mut rig = operator(ExactlyOnce, 2);
    rig.send(0, "U1");
    rig.abort(1);
    rig.send(1, "1 U1");
    rig.send(0, "B2");
    rig.send(1, "B2");
    let figures = measured(&rig);
    assert_eq!((figures.unaligned, figures.overtook), (false, None));
}

#[test]
fn a_cut_ahead_of_what_a_restore_brought_back_is_unaligned() {
    let restored = Restored { checkpoint: Some(CheckpointId(1)), finished: false };
    let mut rig = restored_operator(ExactlyOnce, 1, restored);
    rig.chain.hold();
    rig.chain.restore(10);
    rig.tell(Control::Start);
    rig.chain.take_log();
    rig.receive(Control::BarrierAnnounced { channel: 0, barrier: overtaking(2, 0) });
    rig.put(0, "U2");
    rig.run();
    let figures = measured(&rig);
    assert!(figures.unaligned && figures.overtook.is_some());
}

#[test]
fn a_subtask_that_collects_can_be_seen_to_wait_for_the_marker() {
    let mut rig = operator(ExactlyOnce, 2);
    rig.put(0, "U1");
    rig.put(1, "4 5");
    rig.chain.hold();
    announce_overtaking(&mut rig, 0, Duration::ZERO);
    rig.run();
    let seen = rig.watch.observe(CheckpointId(1), Moment(u64::MAX));
    assert!(matches!(seen.stage, Stage::Collecting { .. }), "{seen:?}");
    assert_eq!(seen.owing, [Owing { channel: Channel(1), producer: producer(1), batches: 2, sent: false }]);
    rig.put(1, "U1");
    rig.run();
    let seen = rig.watch.observe(CheckpointId(1), Moment(u64::MAX));
    assert!(matches!(seen.stage, Stage::Acknowledged { .. }), "{seen:?}");
    // Its markers come to the head of their channels long after it is over: nothing is noted of them.
    rig.complete(1, alluvium_actors::ports::store::CheckpointKind::Periodic);
    announce_overtaking(&mut rig, 1, Duration::ZERO);
    rig.run();
    assert_eq!(rig.watch.observe(CheckpointId(1), Moment(u64::MAX)).stage, Stage::Waiting);
}
