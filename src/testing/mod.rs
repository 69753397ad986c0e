//! What tests of jobs and of connectors stand on: a disk and a catalogue that forget, and whole jobs in virtual time.

pub mod catalogue;
pub mod disk;
mod random;
pub mod simulation;
