//! The two parts of a snapshot: what fails, what hangs, what is aborted before, during and after.

use alluvium_actors::drive::control::Control;
use alluvium_actors::ports::task::{Failure, Severity};
use alluvium_actors::protocol::align::CheckpointMode;

use crate::chain::Part;
use crate::rig::{Rig, operator};

fn one_channel() -> Rig {
    operator(CheckpointMode::ExactlyOnce, 1)
}

#[test]
fn a_failed_synchronous_part_fails_the_subtask_and_discards_what_the_chain_had_begun() {
    let mut rig = one_channel();
    rig.chain.fail_the_cut_of(1);
    assert!(rig.send(0, "7 B1 8"), "the subtask has ended");
    assert_eq!(
        rig.sent(),
        ["decline 1 SynchronousPart: it cannot prepare", "failed the user's sink: it cannot prepare", "ended"]
    );
    assert_eq!(rig.chain.take_log(), ["record 7", "cut 1", "aborted 1"]);
    assert_eq!(rig.out(), "", "no barrier left");
    assert!(rig.run(), "and no further step does anything");
    assert_eq!((rig.sent(), rig.chain.take_log()), (Vec::<String>::new(), vec![]));
}

#[test]
fn a_panic_in_the_synchronous_part_fails_the_subtask_which_is_not_asked_again() {
    let mut rig = one_channel();
    rig.chain.panic_in("cut");
    assert!(rig.send(0, "B1"));
    let sent = rig.sent();
    assert!(sent[0].starts_with("decline 1 SynchronousPart: panicked: the user's cut"), "{sent:?}");
    assert_eq!(sent[1..], ["failed the user's operator: panicked: the user's cut", "ended"]);
    assert_eq!(rig.chain.take_log(), ["cut 1"]);
}

#[test]
fn a_failed_synchronous_part_discards_the_snapshots_of_the_checkpoints_before() {
    let mut rig = one_channel();
    rig.chain.part(1, Part::Hangs);
    rig.chain.fail_the_cut_of(2);
    assert!(rig.send(0, "B1 B2"));
    assert_eq!(rig.chain.take_log(), ["cut 1", "cut 2", "aborted 2", "aborted 1"]);
    let sent = rig.sent();
    assert!(sent[1].starts_with("decline 1 Closing"), "{sent:?}");
}

#[test]
fn a_failed_asynchronous_part_is_declined_with_its_own_words_and_the_subtask_goes_on() {
    let mut rig = one_channel();
    rig.chain.part(1, Part::Fails(Failure::retryable("the user's operator", "it cannot be serialized")));
    assert!(!rig.send(0, "B1 7"));
    assert_eq!(rig.sent(), ["decline 1 AsynchronousPart: it cannot be serialized"]);
    // Everything of it is discarded at once; the notice of the coordinator is no news then.
    assert_eq!(rig.chain.take_log(), ["cut 1", "aborted 1", "record 7"]);
    rig.abort(1);
    assert_eq!(rig.chain.take_log(), Vec::<String>::new());
    rig.send(0, "B2");
    assert_eq!((rig.sent(), rig.out()), (vec!["acknowledge 2".to_owned()], "B1 B2".to_owned()));
}

#[test]
fn a_storage_that_refuses_a_part_is_declined_as_that() {
    let mut rig = one_channel();
    let refused = Failure { storage: true, ..Failure::retryable("checkpoint store", "no space left") };
    rig.chain.part(1, Part::Fails(refused));
    rig.send(0, "B1");
    assert_eq!(rig.sent(), ["decline 1 Storage: no space left"]);
}

#[test]
fn an_abort_before_the_barriers_skips_the_snapshot_and_is_forgotten_after_it() {
    let mut rig = operator(CheckpointMode::ExactlyOnce, 2);
    rig.abort(1);
    rig.send(0, "B1 5");
    rig.send(1, "B1 6");
    assert_eq!((rig.out(), rig.sent()), ("X1".to_owned(), vec![]));
    assert_eq!(rig.chain.take_log(), ["aborted 1", "record 5", "record 6"], "no channel waits for it");
    rig.send(0, "B2");
    rig.send(1, "B2");
    assert_eq!((rig.out(), rig.sent()), ("B2".to_owned(), vec!["acknowledge 2".to_owned()]));
}

#[test]
fn an_abort_during_an_alignment_sends_the_cancel_marker_and_lets_the_channels_go_on() {
    let mut rig = operator(CheckpointMode::ExactlyOnce, 2);
    rig.send(0, "B1 5");
    assert_eq!(rig.chain.take_log(), Vec::<String>::new(), "channel 0 waits");
    rig.abort(1);
    assert_eq!((rig.out(), rig.sent()), ("X1".to_owned(), vec![]));
    assert_eq!(rig.chain.take_log(), ["aborted 1", "record 5"]);
}

#[test]
fn an_abort_during_the_asynchronous_part_ends_it() {
    let mut rig = one_channel();
    rig.chain.part(1, Part::Hangs);
    rig.send(0, "B1 7");
    rig.abort(1);
    rig.chain.part_is_ready(1);
    rig.run();
    assert_eq!(
        (rig.sent(), rig.chain.take_log()),
        (vec![], vec!["cut 1".to_owned(), "record 7".to_owned(), "aborted 1".to_owned()])
    );
}

#[test]
fn an_abort_after_the_acknowledgement_is_only_told_to_the_chain() {
    let mut rig = one_channel();
    rig.send(0, "B1");
    assert_eq!(rig.sent(), ["acknowledge 1"]);
    rig.abort(1);
    rig.abort(1);
    assert_eq!((rig.sent(), rig.out()), (vec![], "B1".to_owned()));
    assert_eq!(rig.chain.take_log(), ["cut 1", "aborted 1"], "and once");
}

#[test]
fn an_aborted_checkpoint_and_the_next_one_do_not_meet() {
    let mut rig = one_channel();
    rig.chain.part(42, Part::Hangs);
    rig.send(0, "B42");
    rig.abort(42);
    rig.send(0, "B43");
    assert_eq!(rig.sent(), ["acknowledge 43"]);
    assert_eq!(rig.chain.take_log(), ["cut 42", "aborted 42", "cut 43"]);
}

#[test]
fn a_subtask_that_is_cancelled_while_a_snapshot_hangs_still_ends() {
    let mut rig = one_channel();
    rig.chain.part(1, Part::Hangs);
    rig.send(0, "B1");
    assert!(rig.tell(Control::Cancel), "it ends");
    assert_eq!(rig.sent(), ["decline 1 Closing: the subtask ends before its snapshot was durable", "ended"]);
    assert_eq!(rig.chain.take_log(), ["cut 1", "aborted 1"]);
}

#[test]
fn a_checkpoint_that_is_passed_or_cancelled_upstream_is_declined_as_that() {
    let mut rig = operator(CheckpointMode::ExactlyOnce, 2);
    rig.send(0, "B1");
    rig.send(1, "B2");
    rig.send(0, "X2");
    let words =
        ["decline 1 Subsumed: subsumed by a newer checkpoint", "decline 2 CancelledUpstream: cancelled by a producer"];
    assert_eq!((rig.sent(), rig.out()), (words.map(str::to_owned).to_vec(), "X1 X2".to_owned()));
}

#[test]
fn a_subtask_that_does_not_process_yet_declines() {
    let mut rig = crate::rig::source(alluvium_actors::drive::subtask::Restored::default());
    rig.trigger(1);
    assert_eq!(rig.sent(), ["decline 1 Declined: the subtask does not process yet"]);
    assert_eq!((rig.out(), rig.chain.take_log()), (String::new(), vec![]));
}

#[test]
fn what_is_refused_because_the_region_ends_is_declined_as_closing_and_does_not_count() {
    let mut rig = one_channel();
    let refused = Failure { storage: true, ..Failure::retryable("checkpoint store", "attempt 1 is over") };
    rig.chain.part(1, Part::Fails(refused));
    rig.end_of_the_fence();
    rig.send(0, "B1");
    assert_eq!(rig.sent(), ["decline 1 Closing: attempt 1 is over"]);
}

#[test]
fn an_error_behind_the_end_of_the_region_never_fails_the_job_for_good() {
    for (over, severity) in [(false, Severity::Unrecoverable), (true, Severity::Retryable)] {
        let mut rig = one_channel();
        if over {
            rig.end_of_the_fence();
        }
        assert!(rig.tell(Control::GoOn), "an operator understands no such message");
        assert_eq!(rig.severities(), [severity]);
    }
}
