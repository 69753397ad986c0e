//! Sources and sinks, each against the trial that a stranger's would have to pass, and against what happens to files.

#![allow(clippy::unwrap_used, reason = "helpers of tests end the test, as tests do")]

mod collect;
mod csv_files;
mod custom_connectors;
mod file_inputs;
mod generator;
mod line_files;
mod lines;
mod lines_crash;
mod sink_conformance;
mod source_conformance;
mod wrong_sink;

use std::path::Path;
use std::sync::Arc;

use alluvium::testing::disk::SimulatedDisk;
use alluvium::testing::host::Site;

/// A place on a simulated disk.
fn site(disk: &SimulatedDisk, parallelism: u32) -> Site {
    Site { parallelism, ..Site::new("connector", Arc::new(disk.clone())) }
}

/// A disk that holds one file.
fn disk_with(path: &str, content: impl AsRef<[u8]>) -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    disk.set_content(Path::new(path), content.as_ref());
    disk
}
