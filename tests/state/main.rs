//! The keyed state table from outside: frozen hashes, a model under random operations and snapshots, hostile bytes.

#![expect(clippy::unwrap_used, reason = "a test ends where an expectation fails, and says which")]

mod chunks;
mod combining;
mod golden;
mod increments;
mod large;
mod model;
mod operator;
mod rows;
mod support;
