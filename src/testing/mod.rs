//! What tests of jobs and of connectors stand on: a disk and a catalogue that forget, a host that is moved by hand, conformance suites and trials for
//! sources and sinks, and whole jobs in virtual time.

pub mod catalogue;
pub mod conformance;
pub mod disk;
pub mod host;
mod random;
pub mod simulation;

pub use crate::fault as faults;
pub mod sinks;
pub mod sources;
