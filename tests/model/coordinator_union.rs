//! An operator with a union list whose subtasks have not all finished: no checkpoint holds some of them as finished and others as not.

use alluvium_actors::ids::NodeId;
use alluvium_actors::protocol::coordinator::CheckpointKind::{Final, Manual, Stopping};
use alluvium_actors::protocol::coordinator::{Effect, Event, FailureReason, Outcome, RequestKind, Settings};

use crate::coordinator::{
    Desk, FIRST, LEFT, RIGHT, SINK, aborted, completed, discarded, done, id, refused, trigger, write_token,
};

const REASON: FailureReason = FailureReason::PartlyFinishedUnionState;

/// The operator stands in the node of the two sources.
fn with_union() -> Settings {
    Settings { union_nodes: [NodeId(0)].into(), tolerable_failures: Some(0), ..Settings::default() }
}

fn acknowledge(
    desk: &mut Desk,
    subtask: alluvium_actors::ids::SubtaskId,
    checkpoint: u64,
    finished: bool,
) -> Vec<Effect> {
    desk.acknowledge_in(FIRST, subtask, checkpoint, finished)
}

#[test]
fn a_checkpoint_in_which_one_of_two_has_finished_is_aborted_with_its_reason() {
    for first_finished in [true, false] {
        let mut desk = Desk::running(with_union());
        desk.trigger(1);
        assert_eq!(acknowledge(&mut desk, LEFT, 1, first_finished), []);
        assert_eq!(
            acknowledge(&mut desk, RIGHT, 1, !first_finished),
            [aborted(1, None, REASON), discarded(1), refused(1, REASON)],
            "at once: the sink is not waited for, and no failure of the job although none is tolerated"
        );
        assert_eq!(desk.pending(), []);
    }
    assert!(REASON.to_string().contains("union list state"), "{REASON}");
}

#[test]
fn when_all_of_them_have_finished_or_none_the_checkpoint_completes() {
    for finished in [true, false] {
        let mut desk = Desk::running(with_union());
        desk.trigger(1);
        acknowledge(&mut desk, LEFT, 1, finished);
        acknowledge(&mut desk, RIGHT, 1, finished);
        let effects = acknowledge(&mut desk, SINK, 1, false);
        let effects = desk.written(&effects, 1, Outcome::Done);
        assert_eq!(effects, [completed(1, Manual), done(1, 1)]);
    }
}

#[test]
fn a_subtask_that_had_ended_before_the_trigger_counts_as_finished() {
    let mut desk = Desk::running(with_union());
    desk.run(Event::EndOfData { attempt: FIRST, subtask: LEFT });
    desk.run(Event::SubtaskEnded { attempt: FIRST, subtask: LEFT });
    desk.trigger(1);
    assert_eq!(acknowledge(&mut desk, SINK, 1, false), [], "of another node");
    assert_eq!(acknowledge(&mut desk, RIGHT, 1, false), [aborted(1, None, REASON), discarded(1), refused(1, REASON)]);
}

#[test]
fn the_next_checkpoint_completes_once_the_others_have_finished_too() {
    let mut desk = Desk::running(with_union());
    desk.trigger(1);
    acknowledge(&mut desk, LEFT, 1, true);
    acknowledge(&mut desk, RIGHT, 1, false);
    desk.trigger(2);
    acknowledge(&mut desk, LEFT, 2, true);
    assert_eq!(acknowledge(&mut desk, RIGHT, 2, true), []);
    let effects = acknowledge(&mut desk, SINK, 2, false);
    write_token(&effects, 2);
    let effects = desk.written(&effects, 2, Outcome::Done);
    assert_eq!(effects, [completed(2, Manual), done(2, 2)]);
}

#[test]
fn the_final_checkpoint_is_not_concerned_and_a_stop_is_answered_with_the_reason() {
    let mut desk = Desk::running(with_union());
    assert_eq!(desk.request(RequestKind::Stop), [trigger(1, Stopping)]);
    acknowledge(&mut desk, LEFT, 1, true);
    let effects = acknowledge(&mut desk, RIGHT, 1, false);
    assert!(effects.contains(&refused(1, REASON)), "{effects:?}");
    assert!(effects.contains(&Effect::SourcesGoOn { attempt: FIRST, checkpoint: id(1) }), "{effects:?}");
    desk.run(Event::EndOfData { attempt: FIRST, subtask: RIGHT });
    assert_eq!(desk.run(Event::EndOfData { attempt: FIRST, subtask: SINK }), [trigger(2, Final)]);
    acknowledge(&mut desk, LEFT, 2, true);
    acknowledge(&mut desk, RIGHT, 2, true);
    let effects = acknowledge(&mut desk, SINK, 2, true);
    assert_eq!(desk.written(&effects, 2, Outcome::Done), [completed(2, Final)]);
}

#[test]
fn without_a_union_list_any_of_them_may_have_finished() {
    let mut desk = Desk::running(Settings { union_nodes: [NodeId(1)].into(), ..Settings::default() });
    desk.trigger(1);
    acknowledge(&mut desk, LEFT, 1, true);
    acknowledge(&mut desk, RIGHT, 1, false);
    let effects = acknowledge(&mut desk, SINK, 1, false);
    write_token(&effects, 1);
}
