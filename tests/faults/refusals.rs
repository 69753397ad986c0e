//! What cannot be armed in a real process.

use alluvium::drill::{DrillError, FaultDrill};
use alluvium::testing::faults::FaultPlan;

#[test]
fn what_can_only_be_simulated_is_refused_and_nothing_is_armed() {
    let drill = FaultDrill::new();
    for (text, names) in [
        ("commit.done=crash(machine)", "commit.done"),
        ("trigger.sent=drop; commit.done[process=2]=error", "commit.done"),
        ("trigger.sent=drop; disk[operation=sync]=error", "disk[operation=sync]"),
    ] {
        let error = drill.arm(text.parse::<FaultPlan>().unwrap()).unwrap_err();
        assert!(matches!(error, DrillError::OnlySimulated { .. }), "{error}");
        assert!(error.to_string().contains(names), "{error}");
        assert!(drill.armed().is_empty());
    }
}
