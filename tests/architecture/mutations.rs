//! Rules that can be broken on purpose are no part of what users get, and each of them is asked for somewhere.

use std::fs;
use std::process::Command;

use super::{project, rust_files};

/// What `cargo tree` tells of the features of the kernel, over these edges.
fn features_of_the_kernel(edges: &str) -> String {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "--workspace", "--edges", edges, "--invert", "alluvium-actors"])
        .current_dir(project())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo writes text")
}

#[test]
fn only_builds_of_the_projects_own_tests_can_break_a_rule() {
    let of_users = features_of_the_kernel("no-dev,features");
    assert!(!of_users.contains("mutations"), "a user's build has the feature `mutations`:\n{of_users}");
    let of_tests = features_of_the_kernel("features");
    assert!(of_tests.contains("mutations"), "the tests do not have the feature `mutations`:\n{of_tests}");
}

#[test]
fn every_rule_that_can_be_broken_is_asked_for_and_stands_in_the_guide() {
    let list = project().join("actors/protocol/mutation.rs");
    let text = fs::read_to_string(&list).unwrap();
    // `    Variant "name" "R3"`
    let listed: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("    ")?.split_once(" \""))
        .filter(|(variant, _)| variant.starts_with(char::is_uppercase))
        .filter_map(|(variant, rest)| Some((variant, rest.split_once("\" \"R")?.0)))
        .collect();
    assert!(listed.len() >= 40, "{listed:?}");
    let mut files = Vec::new();
    for folder in ["actors", "src"] {
        rust_files(&project().join(folder), &mut files);
    }
    files.retain(|file| *file != list);
    let code: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let asked = |variant: &str| {
        let after = code.split(&format!("Mutation::{variant}")).nth(1);
        after.is_some_and(|after| !after.starts_with(char::is_alphanumeric))
    };
    let unasked: Vec<&str> = listed.iter().map(|(variant, _)| *variant).filter(|variant| !asked(variant)).collect();
    assert!(unasked.is_empty(), "nobody asks for {unasked:?}");
    let guide = fs::read_to_string(project().join("docs/guide/testing.md")).unwrap();
    let untold: Vec<&str> =
        listed.iter().map(|(_, name)| *name).filter(|name| !guide.contains(&format!("`{name}`"))).collect();
    assert!(untold.is_empty(), "docs/guide/testing.md does not tell of {untold:?}");
}
