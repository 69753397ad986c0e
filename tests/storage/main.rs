//! Checkpoint storage and the store upon it: conformance, damage, failing disks, and a power cut at every effect.

#![allow(clippy::unwrap_used, reason = "helpers of tests end the test, as tests do")]

mod blobs;
mod catalogue;
mod common;
mod completed;
mod conformance;
mod crash;
mod damage;
mod disk;
mod disk_model;
mod disk_rules;
mod failures;
mod history;
mod lengths;
mod local;
mod local_first;
mod lock;
mod runs;
mod shared;
mod wrong_files;
