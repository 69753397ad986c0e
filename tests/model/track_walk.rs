//! Every state that small graphs of trackers can reach, with faults at every step; and rules broken on purpose.
//!
//! The judges: what was sent before a barrier is in the cut behind it; a subtask with one channel cuts exactly; within an attempt no record is taken
//! twice, so a repeat needs a crash; in the end every record has reached the sink.

use alluvium_actors::protocol::align::CheckpointMode;

use crate::align_setting::{Broken, Faults, Setting, Shape};
use crate::align_walk::{DIAMOND, JOIN, NO_FAULTS, finds, plain, walk};

fn tracked(shape: Shape, records: u8, checkpoints: u8) -> Setting {
    Setting { mode: CheckpointMode::AtLeastOnce, ..plain(shape, records, checkpoints) }
}

#[test]
fn tracked_join_misses_no_record_of_its_cuts() {
    walk("tracked join", &tracked(JOIN, 2, 2)).assert_holds_everywhere();
}

#[test]
fn tracked_diamond_misses_no_record_of_its_cuts() {
    walk("tracked diamond", &tracked(DIAMOND, 3, 2)).assert_holds_everywhere();
}

#[test]
fn tracked_join_with_a_crash_at_every_step_loses_nothing() {
    let faults = Faults { crashes: 2, ..NO_FAULTS };
    walk("tracked join, crashes", &Setting { faults, ..tracked(JOIN, 1, 2) }).assert_holds_everywhere();
}

#[test]
fn tracked_join_with_several_checkpoints_under_way_and_aborts_at_every_step() {
    let faults = Faults { aborts: 1, ..NO_FAULTS };
    let setting = Setting { faults, concurrent: 2, late_mail_at_once: true, ..tracked(JOIN, 1, 2) };
    walk("tracked join, aborts", &setting).assert_holds_everywhere();
}

#[test]
fn tracked_join_with_three_checkpoints_under_way_and_a_failed_cut() {
    let faults = Faults { failed_cuts: 1, ..NO_FAULTS };
    let setting = Setting { faults, concurrent: 3, late_mail_at_once: true, ..tracked(JOIN, 0, 3) };
    walk("tracked join, three", &setting).assert_holds_everywhere();
}

#[test]
fn tracked_join_with_repeated_and_unknown_messages_and_announcements() {
    let faults = Faults { repeats: 1, unknown: 1, ..NO_FAULTS };
    let setting = Setting { faults, announcements: true, ..tracked(JOIN, 1, 2) };
    walk("tracked join, repeats", &setting).assert_holds_everywhere();
}

#[test]
fn tracked_join_whose_sources_end_at_any_moment() {
    let faults = Faults { crashes: 1, ..NO_FAULTS };
    let setting = Setting { faults, ends: true, ..tracked(JOIN, 1, 2) };
    walk("tracked join, ends", &setting).assert_holds_everywhere();
}

#[test]
fn tracked_join_whose_sources_end_while_several_checkpoints_are_under_way() {
    let faults = Faults { aborts: 1, ..NO_FAULTS };
    let setting = Setting { faults, ends: true, concurrent: 2, late_mail_at_once: true, ..tracked(JOIN, 0, 2) };
    walk("tracked join, ends and aborts", &setting).assert_holds_everywhere();
}

#[test]
fn tracked_join_that_relies_on_cancel_markers_alone() {
    let faults = Faults { failed_cuts: 2, ..NO_FAULTS };
    let setting = Setting { faults, ends: true, notices: false, concurrent: 2, ..tracked(JOIN, 1, 2) };
    walk("tracked join, no notices", &setting).assert_holds_everywhere();
}

#[test]
fn tracked_diamond_with_a_crash_and_an_abort() {
    let faults = Faults { crashes: 1, aborts: 1, ..NO_FAULTS };
    walk("tracked diamond, crash and abort", &Setting { faults, ..tracked(DIAMOND, 2, 2) }).assert_holds_everywhere();
}

#[test]
fn a_cut_at_the_first_barrier_is_found() {
    finds("early", &Setting { broken: Broken::Early, ..tracked(JOIN, 1, 1) }, 12, "cut.misses-nothing");
}

#[test]
fn a_cut_at_the_first_barrier_is_found_on_the_outputs_alone() {
    let faults = Faults { crashes: 1, ..NO_FAULTS };
    let setting = Setting { broken: Broken::Early, faults, compare_cuts: false, ..tracked(JOIN, 1, 1) };
    finds("early, outputs", &setting, 20, "the sinks have");
}

#[test]
fn a_tracked_barrier_that_overtakes_pending_output_is_found() {
    finds("tracked, barrier first", &Setting { broken: Broken::Order, ..tracked(JOIN, 1, 1) }, 12, "cut.");
}

#[test]
fn a_tracked_barrier_of_an_aborted_checkpoint_that_counts_is_found() {
    let faults = Faults { aborts: 1, ..NO_FAULTS };
    let setting = Setting { broken: Broken::Memory, faults, ..tracked(JOIN, 0, 1) };
    finds("tracked, forgotten abort", &setting, 12, "track.nothing-at-rest");
}

#[test]
fn a_lost_cancel_marker_is_found_where_nothing_blocks() {
    let faults = Faults { failed_cuts: 1, ..NO_FAULTS };
    let setting = Setting { broken: Broken::CancelMarkers, faults, notices: false, ..tracked(JOIN, 0, 1) };
    finds("tracked, lost cancel markers", &setting, 12, "track.nothing-at-rest");
}

#[test]
fn an_end_of_a_tracked_channel_that_does_not_count_is_found() {
    let setting = Setting { broken: Broken::Ends, ends: true, ..tracked(JOIN, 0, 1) };
    finds("tracked, ends do not count", &setting, 8, "neither complete nor given up");
}
