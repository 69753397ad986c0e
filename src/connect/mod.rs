//! Sources and sinks: the traits, and one file for each connector.

pub mod sink;
pub mod source;
pub(crate) mod sink_link;
pub(crate) mod source_task;
