//! Every state that small graphs of aligners can reach, with faults at every step; and rules broken on purpose.

use alluvium_actors::protocol::align::CheckpointMode;

use crate::align_setting::{Broken, Faults, Setting, Shape, Step};
use crate::align_world::World;
use crate::explore::{AtRest, Bounds, Exploration, explore};

/// Two sources, a subtask with two channels, a sink behind it.
pub(crate) const JOIN: Shape = Shape { subtasks: 4, edges: &[(0, 2), (1, 2), (2, 3)] };

/// One source, two branches, a subtask that joins them.
pub(crate) const DIAMOND: Shape = Shape { subtasks: 4, edges: &[(0, 1), (0, 2), (1, 3), (2, 3)] };

const BOUNDS: Bounds = Bounds { states: 600_000, depth: 200 };

pub(crate) const NO_FAULTS: Faults = Faults { aborts: 0, crashes: 0, repeats: 0, unknown: 0, failed_cuts: 0 };

/// The plain setting of a walk: nothing ends, nothing fails, one checkpoint at a time.
pub(crate) fn plain(shape: Shape, records: u8, checkpoints: u8) -> Setting {
    Setting {
        mode: CheckpointMode::ExactlyOnce,
        shape,
        records,
        checkpoints,
        concurrent: 1,
        ends: false,
        announcements: false,
        notices: true,
        late_mail_at_once: false,
        faults: NO_FAULTS,
        broken: Broken::Nothing,
        compare_cuts: true,
    }
}

pub(crate) fn walk(name: &str, setting: &Setting) -> Exploration<Step> {
    explore(
        name,
        World::new(setting),
        BOUNDS,
        |world, next| world.steps(setting, next),
        |world, AtRest(at_rest)| world.rule(setting, at_rest),
    )
}

#[test]
fn join_cuts_are_consistent_and_complete() {
    walk("join", &plain(JOIN, 2, 2)).assert_holds_everywhere();
}

#[test]
fn diamond_cuts_are_consistent_and_complete() {
    walk("diamond", &plain(DIAMOND, 3, 2)).assert_holds_everywhere();
}

#[test]
fn join_with_a_crash_at_every_step() {
    let faults = Faults { crashes: 2, ..NO_FAULTS };
    walk("join, crashes", &Setting { faults, ..plain(JOIN, 2, 2) }).assert_holds_everywhere();
}

#[test]
fn join_with_concurrent_checkpoints_and_aborts_at_every_step() {
    let faults = Faults { aborts: 1, ..NO_FAULTS };
    let setting = Setting { faults, concurrent: 2, late_mail_at_once: true, ..plain(JOIN, 1, 2) };
    walk("join, aborts", &setting).assert_holds_everywhere();
}

#[test]
fn join_with_repeated_and_unknown_messages_and_announcements() {
    let faults = Faults { repeats: 1, unknown: 1, ..NO_FAULTS };
    let setting = Setting { faults, announcements: true, ..plain(JOIN, 1, 2) };
    walk("join, repeats", &setting).assert_holds_everywhere();
}

#[test]
fn join_with_failed_cuts() {
    let faults = Faults { failed_cuts: 1, ..NO_FAULTS };
    let setting = Setting { faults, concurrent: 2, late_mail_at_once: true, ..plain(JOIN, 1, 2) };
    walk("join, failed cuts", &setting).assert_holds_everywhere();
}

#[test]
fn join_whose_sources_end_at_any_moment() {
    let faults = Faults { crashes: 1, ..NO_FAULTS };
    let setting = Setting { faults, ends: true, ..plain(JOIN, 1, 2) };
    walk("join, ends", &setting).assert_holds_everywhere();
}

#[test]
fn join_whose_sources_end_while_checkpoints_are_aborted() {
    let faults = Faults { aborts: 1, ..NO_FAULTS };
    let setting = Setting { faults, ends: true, late_mail_at_once: true, ..plain(JOIN, 1, 1) };
    walk("join, ends and aborts", &setting).assert_holds_everywhere();
}

#[test]
fn join_that_relies_on_cancel_markers_alone() {
    let faults = Faults { failed_cuts: 2, ..NO_FAULTS };
    let setting = Setting { faults, ends: true, notices: false, concurrent: 2, ..plain(JOIN, 1, 2) };
    walk("join, no notices", &setting).assert_holds_everywhere();
}

#[test]
fn diamond_with_a_crash_and_an_abort() {
    let faults = Faults { crashes: 1, aborts: 1, ..NO_FAULTS };
    walk("diamond, crash and abort", &Setting { faults, ..plain(DIAMOND, 2, 2) }).assert_holds_everywhere();
}

#[test]
fn diamond_whose_source_ends() {
    let faults = Faults { failed_cuts: 1, ..NO_FAULTS };
    let setting = Setting { faults, ends: true, late_mail_at_once: true, ..plain(DIAMOND, 2, 2) };
    walk("diamond, ends", &setting).assert_holds_everywhere();
}

/// Walks a setting with a broken rule, and expects a counterexample of at most `steps` steps that names `violation`.
pub(crate) fn finds(name: &str, setting: &Setting, steps: usize, violation: &str) {
    let found = walk(name, setting);
    let counterexample = found.expect_counterexample();
    assert!(counterexample.trace.len() <= steps, "{} steps", counterexample.trace.len());
    assert!(counterexample.violation.contains(violation), "{}", counterexample.violation);
}

#[test]
fn a_missing_alignment_is_found() {
    finds("without blocking", &Setting { broken: Broken::Alignment, ..plain(JOIN, 1, 1) }, 8, "cut.consistent");
}

#[test]
fn a_missing_alignment_is_found_on_the_outputs_alone() {
    let faults = Faults { crashes: 1, ..NO_FAULTS };
    finds(
        "without blocking, outputs",
        &Setting { broken: Broken::Alignment, faults, compare_cuts: false, ..plain(JOIN, 1, 1) },
        12,
        "cut.taken-once",
    );
}

#[test]
fn a_barrier_that_overtakes_pending_output_is_found() {
    finds("barrier first", &Setting { broken: Broken::Order, ..plain(JOIN, 1, 1) }, 8, "cut.consistent");
}

#[test]
fn a_late_barrier_of_an_aborted_checkpoint_that_counts_is_found() {
    let faults = Faults { aborts: 1, ..NO_FAULTS };
    finds(
        "forgotten abort",
        &Setting { broken: Broken::Memory, faults, ..plain(JOIN, 0, 1) },
        12,
        "align.nothing-held-at-rest",
    );
}

#[test]
fn a_lost_cancel_marker_is_found() {
    let faults = Faults { failed_cuts: 1, ..NO_FAULTS };
    finds(
        "lost cancel markers",
        &Setting { broken: Broken::CancelMarkers, faults, notices: false, ..plain(JOIN, 0, 1) },
        12,
        "align.nothing-held-at-rest",
    );
}

#[test]
fn an_end_of_channel_that_does_not_count_is_found() {
    finds(
        "ends do not count",
        &Setting { broken: Broken::Ends, ends: true, ..plain(JOIN, 0, 1) },
        8,
        "neither complete nor given up",
    );
}
