//! The edge between two threads: its ends, and a stress of many edges over real arbiters. `loom.rs` beside it is a test
//! of its own, in which loom walks through the interleavings.

mod ends;
mod payload;
mod quiet;
mod script;
mod stress;
mod tasks;
mod tie;
