//! What a subtask passes on to its operators of what the coordinator says.

use alluvium_actors::ids::CheckpointId;
use alluvium_actors::protocol::notices::{Notices, REMEMBERED_ABORTS};

const fn id(id: u64) -> CheckpointId {
    CheckpointId(id)
}

#[test]
fn repeated_and_older_completions_are_dropped() {
    let mut notices = Notices::new(None);
    assert_eq!(
        [1, 1, 3, 2, 3, 4].map(|checkpoint| notices.completed(id(checkpoint))),
        [true, false, true, false, false, true]
    );
}

#[test]
fn the_completion_of_what_was_restored_is_no_news() {
    let mut notices = Notices::new(Some(id(7)));
    assert_eq!([6, 7, 8].map(|checkpoint| notices.completed(id(checkpoint))), [false, false, true]);
}

#[test]
fn an_abort_is_news_once_also_for_one_that_is_older_than_a_completion() {
    let mut notices = Notices::new(None);
    assert!(notices.completed(id(3)));
    assert_eq!([2, 2, 5, 2, 5].map(|checkpoint| notices.aborted(id(checkpoint))), [true, false, true, false, false]);
}

#[test]
fn remembered_aborts_stay_bounded() {
    let mut notices = Notices::new(None);
    for checkpoint in 1..=10 * REMEMBERED_ABORTS as u64 {
        assert!(notices.aborted(id(checkpoint)));
        assert!(!notices.aborted(id(checkpoint)));
        assert!(notices.remembered() <= REMEMBERED_ABORTS);
    }
}
