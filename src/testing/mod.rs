//! What tests of jobs and of connectors stand on: a disk and a catalogue that forget, a host that is moved by hand, and trials for
//! sources and sinks.

pub mod catalogue;
pub mod disk;
pub mod host;
mod random;
pub mod sinks;
pub mod sources;
