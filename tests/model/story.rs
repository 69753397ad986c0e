//! What a checkpoint says of itself, from figures and observations made up by hand: the slowest link in one sentence.

use std::collections::BTreeMap;
use std::time::Duration;

use alluvium_actors::ids::{CheckpointId, Moment, SubtaskId};
use alluvium_actors::ports::calls::{Busy, Call};
use alluvium_actors::protocol::align::Channel;
use alluvium_actors::protocol::coordinator::{
    CheckpointKind, CheckpointStatistics, CheckpointStatus, FailureReason, HeldUp, LastMarker, Overtook,
    SubtaskFigures, SubtaskStatistics,
};
use alluvium_actors::protocol::story::{
    self, Declined, Doing, Link, LinkKind, Names, Observe, Observed, Owing, Stage, Story,
};

/// A source, what is behind it, and a sink.
const ORDERS: SubtaskId = crate::coordinator::subtask(0, 0);
const ENRICH: SubtaskId = crate::coordinator::subtask(1, 0);
const JOIN: SubtaskId = crate::coordinator::subtask(2, 1);

fn milliseconds(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// So long after the trigger.
fn after(count: u64) -> Moment {
    Moment(5_000) + milliseconds(count)
}

/// What the subtasks are doing.
#[derive(Default)]
struct Scene(BTreeMap<SubtaskId, Observed>);

impl Names for Scene {
    fn subtask(&self, subtask: SubtaskId) -> String {
        format!("{}[{}]", self.operator(subtask, None), subtask.index)
    }

    fn operator(&self, subtask: SubtaskId, position: Option<u16>) -> String {
        let chain = ["orders", "enrich", "join"][subtask.node.0 as usize];
        position.map_or_else(|| chain.to_owned(), |position| format!("{chain}-{position}"))
    }
}

impl Observe for Scene {
    fn observe(&self, subtask: SubtaskId, checkpoint: CheckpointId, _: Moment) -> Option<Observed> {
        assert_eq!(checkpoint, CheckpointId(7));
        self.0.get(&subtask).cloned()
    }
}

/// Checkpoint 7, with what these subtasks measured, each acknowledging at once when its part was durable.
fn measured(status: CheckpointStatus, parts: &[(SubtaskId, SubtaskFigures)], ended: u64) -> CheckpointStatistics {
    let by_subtask: Vec<SubtaskStatistics> = parts
        .iter()
        .map(|(subtask, figures)| SubtaskStatistics {
            subtask: *subtask,
            acknowledged: Some(after(0) + figures.acknowledged_after()),
            finished: false,
            figures: *figures,
        })
        .collect();
    let missing: Vec<SubtaskId> =
        [ORDERS, ENRICH, JOIN].into_iter().filter(|subtask| parts.iter().all(|(found, _)| found != subtask)).collect();
    CheckpointStatistics {
        checkpoint: CheckpointId(7),
        kind: CheckpointKind::Periodic,
        status,
        triggered: after(0),
        latest_acknowledgement: by_subtask.iter().filter_map(|part| part.acknowledged).max(),
        subtasks: 3,
        acknowledged: parts.len(),
        missing,
        bytes: 0,
        written_bytes: 0,
        by_subtask,
        late: 0,
        ended: (ended > 0).then(|| after(ended)),
    }
}

/// What a subtask measured whose last marker came so long after the trigger.
fn cut(start_delay: u64, alignment: u64, producer: SubtaskId, channel: u32, batches: u32) -> SubtaskFigures {
    SubtaskFigures {
        start_delay: milliseconds(start_delay),
        alignment: milliseconds(alignment),
        last_marker: Some(LastMarker { channel: Channel(channel), producer, batches }),
        ..SubtaskFigures::default()
    }
}

fn busy(inside: u64, calls: u32) -> Option<Busy> {
    Some(Busy { operator: None, call: Call::Records, calls, inside: milliseconds(inside) })
}

/// What a source measured that cut at once.
fn prompt() -> SubtaskFigures {
    SubtaskFigures { start_delay: milliseconds(1), ..SubtaskFigures::default() }
}

fn completed(parts: &[(SubtaskId, SubtaskFigures)], ended: u64) -> Story {
    story::completed(&measured(CheckpointStatus::Completed, parts, ended), &Scene::default())
}

/// What a subtask waits for and does, and has not cut.
fn waiting(doing: Doing, owing: &[Owing]) -> Observed {
    Observed { stage: Stage::Waiting, doing, owing: owing.to_vec() }
}

fn owing(channel: u32, producer: SubtaskId, batches: u32, sent: bool) -> Owing {
    Owing { channel: Channel(channel), producer, batches, sent }
}

fn inside(since: u64) -> Doing {
    Doing::Inside { operator: Some(2), call: Call::Records, since: after(since) }
}

/// The story 812 ms after the trigger, when nobody has acknowledged but these.
fn under_way(acknowledged: &[SubtaskId], scene: impl IntoIterator<Item = (SubtaskId, Observed)>) -> Story {
    let parts: Vec<_> = acknowledged.iter().map(|subtask| (*subtask, prompt())).collect();
    let scene = Scene(scene.into_iter().collect());
    story::under_way(&measured(CheckpointStatus::InProgress, &parts, 0), after(812), &scene, &scene)
}

#[test]
fn a_queue_in_front_of_a_busy_operator_is_the_slowest_link() {
    let join = SubtaskFigures { busy: busy(790, 1), ..cut(3, 811, ENRICH, 3, 41) };
    let story = completed(&[(ORDERS, prompt()), (ENRICH, cut(2, 0, ORDERS, 0, 0)), (JOIN, join)], 830);
    assert_eq!(
        story.to_string(),
        "checkpoint 7 took 830 ms: waited 812 ms for channel 3 of `join[1]` (from `enrich[0]`), behind 41 batches; \
         `join` was inside a user call (records) for 790 ms"
    );
}

#[test]
fn the_links_lead_from_the_trigger_to_the_manifest_and_add_up() {
    let enrich = SubtaskFigures { synchronous: milliseconds(5), ..cut(11, 0, ORDERS, 0, 2) };
    let join = SubtaskFigures {
        synchronous: milliseconds(7),
        asynchronous: milliseconds(60),
        written_bytes: 1_500,
        ..cut(20, 10, ENRICH, 1, 1)
    };
    let story = completed(&[(ORDERS, prompt()), (ENRICH, enrich), (JOIN, join)], 100);
    let link = |kind, lasts| Link { kind, lasts: milliseconds(lasts) };
    let channel = |subtask, channel, producer, batches| LinkKind::Channel {
        subtask,
        channel: Channel(channel),
        producer,
        batches,
    };
    let expected = [
        link(LinkKind::Trigger { subtask: ORDERS }, 1),
        link(LinkKind::Synchronous { subtask: ORDERS }, 0),
        link(channel(ENRICH, 0, ORDERS, 2), 10),
        link(LinkKind::Synchronous { subtask: ENRICH }, 5),
        link(channel(JOIN, 1, ENRICH, 1), 14),
        link(LinkKind::Synchronous { subtask: JOIN }, 7),
        link(LinkKind::Asynchronous { subtask: JOIN, bytes: Some(1_500) }, 60),
        link(LinkKind::Acknowledgement { subtask: JOIN }, 0),
        link(LinkKind::Manifest, 3),
    ];
    assert_eq!(story.links, expected);
    assert_eq!(story.links.iter().map(|link| link.lasts).sum::<Duration>(), milliseconds(100));
    assert_eq!(story.reason, "writing the snapshot of `join[1]` (1.5 kB) took 60 ms");
}

#[test]
fn every_link_can_be_the_slowest_one() {
    let late = SubtaskFigures { start_delay: milliseconds(500), busy: busy(490, 3), ..SubtaskFigures::default() };
    assert_eq!(
        completed(&[(ORDERS, late), (ENRICH, cut(501, 0, ORDERS, 0, 0))], 502).reason,
        "`orders[0]` took up the trigger after 500 ms; `orders` was inside 3 user calls (records) for 490 ms"
    );
    let stands = SubtaskFigures { synchronous: milliseconds(300), ..cut(2, 0, ORDERS, 0, 0) };
    let reason = completed(&[(ORDERS, prompt()), (ENRICH, stands)], 310).reason;
    assert_eq!(reason, "the snapshot of `enrich[0]` held it up for 300 ms");
    let reason = completed(&[(ORDERS, prompt()), (ENRICH, cut(2, 0, ORDERS, 0, 0))], 900).reason;
    assert_eq!(reason, "writing the manifest took 898 ms");
    let mut lost = measured(CheckpointStatus::Completed, &[(ORDERS, prompt())], 400);
    lost.by_subtask[0].acknowledged = Some(after(390));
    lost.latest_acknowledgement = Some(after(390));
    let reason = story::completed(&lost, &Scene::default()).reason;
    assert_eq!(reason, "the acknowledgement of `orders[0]` was on its way for 389 ms");
}

#[test]
fn who_was_held_up_names_the_one_who_took_nothing_and_what_that_one_did() {
    let held_up = Some(HeldUp { consumer: JOIN, lasts: milliseconds(700) });
    let enrich = SubtaskFigures { held_up, ..cut(800, 0, ORDERS, 0, 64) };
    let join = SubtaskFigures { busy: busy(650, 30), ..cut(801, 0, ENRICH, 0, 9) };
    assert_eq!(
        completed(&[(ORDERS, prompt()), (ENRICH, enrich), (JOIN, join)], 802).reason,
        "waited 799 ms for channel 0 of `enrich[0]` (from `orders[0]`), behind 64 batches; `join[1]` took nothing from it for \
         700 ms; `join` was inside 30 user calls (records) for 650 ms"
    );
}

#[test]
fn user_code_that_took_little_of_the_time_is_no_reason() {
    let join = SubtaskFigures { busy: busy(399, 1), ..cut(800, 0, ENRICH, 3, 1) };
    let story = completed(&[(ORDERS, prompt()), (ENRICH, cut(0, 0, ORDERS, 0, 0)), (JOIN, join)], 801);
    assert_eq!(story.reason, "waited 800 ms for channel 3 of `join[1]` (from `enrich[0]`), behind 1 batch");
}

#[test]
fn figures_that_lead_in_a_circle_end_the_path() {
    let story = completed(&[(ENRICH, cut(10, 0, JOIN, 0, 0)), (JOIN, cut(20, 0, ENRICH, 0, 0))], 30);
    assert_eq!(story.reason, "waited 10 ms for channel 0 of `join[1]` (from `enrich[0]`), with nothing in front of it");
    assert_eq!(completed(&[], 5).to_string(), "checkpoint 7 took 5 ms", "a job without subtasks has no link");
}

#[test]
fn one_that_hangs_behind_a_queue_tells_the_call_that_does_not_return() {
    let story = under_way(&[ORDERS, ENRICH], [(JOIN, waiting(inside(22), &[owing(3, ENRICH, 41, true)]))]);
    assert_eq!(
        story.to_string(),
        "checkpoint 7 has been under way for 812 ms: 1 of 3 subtasks has not acknowledged; `join[1]` has waited 812 ms for \
         channel 3 (from `enrich[0]`), behind 41 batches; `join-2` has been inside a user call (records) for 790 ms"
    );
}

#[test]
fn one_that_waits_for_a_barrier_that_was_not_sent_leads_to_whoever_owes_it() {
    let scene = [
        (ORDERS, waiting(Doing::Inside { operator: Some(0), call: Call::Read, since: after(12) }, &[])),
        (ENRICH, waiting(Doing::Nothing, &[owing(0, ORDERS, 0, false)])),
        (JOIN, waiting(Doing::Nothing, &[owing(0, ENRICH, 5, false)])),
    ];
    let story = under_way(&[], scene);
    assert_eq!(
        story.reason,
        "3 of 3 subtasks have not acknowledged; `orders[0]` has not taken up the trigger for 812 ms; `orders-0` has been inside a \
         user call (read) for 800 ms"
    );
    assert_eq!(story.links, [Link { kind: LinkKind::Trigger { subtask: ORDERS }, lasts: milliseconds(812) }]);
}

#[test]
fn of_two_channels_the_one_whose_barrier_was_not_sent_is_waited_for() {
    let scene = [
        (ENRICH, waiting(inside(0), &[owing(0, ORDERS, 2, true)])),
        (JOIN, waiting(Doing::Nothing, &[owing(0, ORDERS, 60, true), owing(1, ENRICH, 0, false)])),
    ];
    let story = under_way(&[ORDERS], scene);
    assert_eq!(
        story.reason,
        "2 of 3 subtasks have not acknowledged; `enrich[0]` has waited 812 ms for channel 0 (from `orders[0]`), behind 2 batches; \
         `enrich-2` has been inside a user call (records) for 812 ms"
    );
}

#[test]
fn back_pressure_leads_to_whoever_takes_nothing() {
    let held_up = Doing::HeldUp { consumer: JOIN, since: after(100) };
    let scene = [
        (ENRICH, waiting(held_up, &[owing(0, ORDERS, 64, true)])),
        (JOIN, waiting(Doing::Refuses { operator: None, since: after(50) }, &[owing(0, ENRICH, 9, false)])),
    ];
    assert_eq!(
        under_way(&[ORDERS], scene).reason,
        "2 of 3 subtasks have not acknowledged; `enrich[0]` has waited 812 ms for channel 0 (from `orders[0]`), behind 64 batches; \
         `join[1]` has taken nothing from it for 712 ms; `join` has taken no record for 762 ms: it is not ready for one"
    );
}

#[test]
fn the_parts_of_a_snapshot_and_a_lost_acknowledgement_are_told_apart() {
    let at =
        |stage| under_way(&[ORDERS, ENRICH], [(JOIN, Observed { stage, doing: Doing::Nothing, owing: Vec::new() })]);
    let since = after(12);
    let reason = |stage| at(stage).reason.split_once("; ").unwrap().1.to_owned();
    assert_eq!(reason(Stage::Synchronous { since }), "`join[1]` has been taking its snapshot for 800 ms");
    assert_eq!(reason(Stage::Asynchronous { since }), "the snapshot of `join[1]` has been in writing for 800 ms");
    assert_eq!(
        reason(Stage::Acknowledged { at: since }),
        "`join[1]` acknowledged 800 ms ago, and that has not arrived"
    );
    assert_eq!(
        under_way(&[ORDERS, ENRICH], []).reason,
        "1 of 3 subtasks has not acknowledged; `join[1]` is not there: it starts, or has ended"
    );
}

#[test]
fn a_call_of_less_than_a_millisecond_and_a_circle_of_waits_are_no_reasons() {
    let brief = Doing::Inside { operator: None, call: Call::Records, since: after(812) };
    let story = under_way(&[ORDERS, ENRICH], [(JOIN, waiting(brief, &[owing(0, ENRICH, 0, true)]))]);
    assert!(story.reason.ends_with("with nothing in front of it"), "{story}");
    let scene = [
        (ENRICH, waiting(Doing::HeldUp { consumer: JOIN, since: after(0) }, &[owing(0, JOIN, 0, false)])),
        (JOIN, waiting(Doing::HeldUp { consumer: ENRICH, since: after(0) }, &[owing(0, ENRICH, 0, false)])),
    ];
    assert!(under_way(&[ORDERS], scene).reason.contains("has taken nothing from it for 812 ms"));
}

#[test]
fn one_whose_manifest_is_being_written_says_so() {
    let parts = [(ORDERS, prompt()), (ENRICH, prompt()), (JOIN, prompt())];
    let scene = Scene::default();
    let story = story::under_way(&measured(CheckpointStatus::Finalizing, &parts, 0), after(812), &scene, &scene);
    assert_eq!(story.reason, "all have acknowledged, and its manifest has been in the making for 811 ms");
}

#[test]
fn one_that_expired_tells_who_was_in_the_way_and_one_that_was_declined_what_was_said() {
    let scene = Scene(BTreeMap::from([(JOIN, waiting(inside(22), &[owing(3, ENRICH, 41, true)]))]));
    let fails = |reason, declined: Option<&Declined>| {
        let parts = [(ORDERS, prompt()), (ENRICH, prompt())];
        let statistics = measured(CheckpointStatus::Failed(reason), &parts, 812);
        story::failed(&statistics, reason, declined, &scene, &scene).to_string()
    };
    assert_eq!(
        fails(FailureReason::CheckpointExpired, None),
        "checkpoint 7 failed after 812 ms (the checkpoint expired before it was completed): 1 of 3 subtasks has not acknowledged; \
         `join[1]` has waited 812 ms for channel 3 (from `enrich[0]`), behind 41 batches; `join-2` has been inside a user call \
         (records) for 790 ms"
    );
    let declined = Declined { subtask: JOIN, message: "the disk is full".to_owned() };
    assert_eq!(
        fails(FailureReason::IoException, Some(&declined)),
        "checkpoint 7 failed after 812 ms (an input or output error of the checkpoint storage occurred): `join[1]` said: the disk \
         is full"
    );
}

/// What a subtask measured that cut ahead of its markers so long after the trigger, and collected for so long, up to a marker behind two batches.
fn overtook(heard: u64, cut_after: u64, from: SubtaskId, collecting: u64, last: SubtaskId) -> SubtaskFigures {
    SubtaskFigures {
        unaligned: true,
        notice_delay: milliseconds(heard),
        overtook: Some(Overtook { heard_from: Some(from), collecting: milliseconds(collecting) }),
        asynchronous: milliseconds(collecting + 5),
        in_flight_records: 2_048,
        in_flight_bytes: 40_000,
        ..cut(cut_after, 0, last, 3, 2)
    }
}

#[test]
fn a_cut_that_overtakes_is_led_to_by_its_message_and_not_by_the_marker() {
    let parts =
        [(ORDERS, prompt()), (ENRICH, overtook(1, 2, ORDERS, 0, ORDERS)), (JOIN, overtook(3, 4, ENRICH, 600, ENRICH))];
    let story = completed(&parts, 610);
    assert_eq!(
        story.reason,
        "collecting what the barrier overtook in front of `join[1]` took 600 ms (2048 records, 40.0 kB); the last marker came by channel \
         3 (from `enrich[0]`), behind 2 batches"
    );
    let link = |kind, lasts| Link { kind, lasts: milliseconds(lasts) };
    let overtaking = |subtask, producer| LinkKind::Overtaking { subtask, producer: Some(producer) };
    let expected = [
        link(LinkKind::Trigger { subtask: ORDERS }, 1),
        link(LinkKind::Synchronous { subtask: ORDERS }, 0),
        link(overtaking(ENRICH, ORDERS), 1),
        link(LinkKind::Synchronous { subtask: ENRICH }, 0),
        link(overtaking(JOIN, ENRICH), 2),
        link(LinkKind::Synchronous { subtask: JOIN }, 0),
        link(LinkKind::Collecting { subtask: JOIN, channel: Channel(3), producer: ENRICH, batches: 2 }, 600),
        link(LinkKind::Asynchronous { subtask: JOIN, bytes: Some(0) }, 5),
        link(LinkKind::Acknowledgement { subtask: JOIN }, 0),
        link(LinkKind::Manifest, 1),
    ];
    assert_eq!(story.links, expected);
    assert_eq!(story.links.iter().map(|link| link.lasts).sum::<Duration>(), milliseconds(610));
}

#[test]
fn a_marker_that_was_sent_behind_the_cut_leads_to_whoever_sent_it_late() {
    let late = SubtaskFigures { busy: busy(590, 2), ..cut(600, 0, ORDERS, 0, 7) };
    let parts = [(ORDERS, prompt()), (ENRICH, late), (JOIN, overtook(2, 2, ORDERS, 601, ENRICH))];
    let story = completed(&parts, 608);
    assert_eq!(
        story.reason,
        "waited 599 ms for channel 0 of `enrich[0]` (from `orders[0]`), behind 7 batches; `enrich` was inside 2 user calls (records) \
         for 590 ms"
    );
    assert_eq!(story.links.iter().map(|link| link.lasts).sum::<Duration>(), milliseconds(608));
}

#[test]
fn a_cut_that_had_to_wait_until_it_might_overtake_says_so_and_one_that_heard_late_says_that() {
    let waited = [(ORDERS, prompt()), (JOIN, overtook(2, 102, ORDERS, 1, ORDERS))];
    assert_eq!(completed(&waited, 108).reason, "`join[1]` waited 100 ms for its markers before its barrier overtook");
    let heard = SubtaskFigures { busy: busy(300, 1), ..overtook(302, 302, ORDERS, 1, ORDERS) };
    assert_eq!(
        completed(&[(ORDERS, prompt()), (JOIN, heard)], 308).reason,
        "`join[1]` took up the barrier of `orders[0]` after 301 ms; `join` was inside a user call (records) for 300 ms"
    );
}

#[test]
fn one_that_hangs_while_it_collects_leads_to_whoever_owes_the_marker() {
    let collects = |owing: &[Owing]| Observed {
        stage: Stage::Collecting { since: after(12) },
        doing: Doing::Nothing,
        owing: owing.to_vec(),
    };
    let scene =
        [(ENRICH, waiting(inside(12), &[owing(0, ORDERS, 2, true)])), (JOIN, collects(&[owing(3, ENRICH, 5, false)]))];
    let story = under_way(&[ORDERS], scene.clone());
    assert!(story.reason.ends_with("`enrich-2` has been inside a user call (records) for 800 ms"), "{story}");
    let alone = under_way(&[ORDERS, ENRICH], [(JOIN, collects(&[owing(3, ENRICH, 5, true)]))]);
    assert_eq!(
        alone.reason,
        "1 of 3 subtasks has not acknowledged; `join[1]` has collected what its barrier overtook for 800 ms, up to the marker of \
         channel 3 (from `enrich[0]`), behind 5 batches"
    );
    let led = under_way(&[ORDERS], [scene[1].clone()]);
    assert!(led.reason.ends_with("`enrich[0]` is not there: it starts, or has ended"), "{led}");
}
