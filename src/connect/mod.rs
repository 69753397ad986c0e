//! Sources and sinks: the traits, and one file for each connector.

pub(crate) mod adapter;
pub mod sink;
pub(crate) mod sink_link;
pub mod source;
pub(crate) mod source_task;
