//! What tests of jobs and of connectors stand on: a disk and a catalogue that forget, a host that is moved by hand, conformance suites and trials for
//! sources and sinks, one operator by hand, and whole jobs in virtual time.

pub mod catalogue;
pub mod conformance;
pub mod disk;
pub mod host;
pub mod operator;
mod random;
pub mod simulation;
pub mod sinks;
pub mod sources;

/// The guide, so that its examples are compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../docs/guide/testing.md")]
mod guide {}
