//! The keyed state table from outside: frozen hashes, a model under random operations and snapshots, hostile bytes.

mod chunks;
mod golden;
mod large;
mod model;
mod rows;
mod support;
