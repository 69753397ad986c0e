//! What tests of jobs and of connectors stand on: a disk and a catalogue that forget.

pub mod catalogue;
pub mod disk;
mod random;
