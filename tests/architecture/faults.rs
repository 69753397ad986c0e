//! Faults that can be armed in a running service are no part of what users get unless they ask for it.

use std::process::Command;

use super::project;

/// What `cargo tree` tells of the features of the kernel in a user's build, with these arguments.
fn features_of_the_kernel(more: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "--package", "alluvium", "--edges", "no-dev,features"])
        .args(["--invert", "alluvium-actors"])
        .args(more)
        .current_dir(project())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo writes text")
}

#[test]
fn only_builds_that_ask_for_it_can_arm_faults() {
    let default = features_of_the_kernel(&[]);
    assert!(!default.contains("fault-injection"), "a default build has the feature `fault-injection`:\n{default}");
    let asked = features_of_the_kernel(&["--features", "fault-injection"]);
    assert!(asked.contains("alluvium-actors feature \"fault-injection\""), "{asked}");
}
