//! Sources and sinks: the traits, and one module for each connector.

pub(crate) mod adapter;
pub mod at_least_once;
pub mod collect;
pub mod deliver;
pub mod files;
pub mod for_each;
pub(crate) mod former_splits;
pub mod generator;
pub mod lines;
pub(crate) mod pace;
pub mod push;
pub mod sink;
pub(crate) mod sink_link;
pub(crate) mod sink_name;
pub mod source;
pub(crate) mod source_task;

use std::io;

use alluvium_actors::ports::blocking::WorkPanicked;
use alluvium_actors::ports::files::{FileError, FileErrorKind};

pub use self::at_least_once::AtLeastOnce;
pub use self::collect::Collect;
pub use self::deliver::{Deliver, Delivery};
pub use self::files::{CsvFiles, LineFiles};
pub use self::for_each::ForEach;
pub use self::generator::{Generator, Items};
pub use self::lines::Lines;
pub use self::push::{Push, Pusher};

use crate::error::OperatorError;

/// A failed file operation, as a connector reports it. What a restart finds unchanged (a file that is not there, a right that is
/// missing) is unrecoverable.
pub(crate) fn file_failure(error: &FileError) -> OperatorError {
    match error.kind {
        FileErrorKind::NotFound
        | FileErrorKind::AlreadyExists
        | FileErrorKind::Other(
            io::ErrorKind::PermissionDenied
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::InvalidFilename,
        ) => OperatorError::unrecoverable(error),
        FileErrorKind::OutOfSpace | FileErrorKind::Locked | FileErrorKind::Other(_) | _ => {
            OperatorError::retryable(error)
        }
    }
}

/// Blocking work that panicked, as a connector reports it.
pub(crate) fn work_panicked(panicked: &WorkPanicked) -> OperatorError {
    OperatorError::retryable(panicked)
}
