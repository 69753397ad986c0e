//! What tests of jobs and of connectors stand on: a disk and a catalogue that forget, a host that is moved by hand, conformance suites and trials for
//! sources and sinks, one operator by hand, models of outside systems, checkers, and whole jobs in virtual time.

#[cfg(test)]
mod abandoned;
pub mod catalogue;
pub mod check;
pub mod conformance;
pub mod disk;
pub mod explore;
pub mod host;
pub mod job_test;
pub mod models;
pub mod operator;
mod print;
mod repeat;
pub mod simulation;
mod tree;

pub use crate::fault as faults;
pub mod sinks;
pub mod sources;

pub use job_test::{JobTest, JobTestReport, TestProcess, TestRun};

/// The guide, so that its examples are compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../docs/guide/testing.md")]
mod guide {}
