//! Where local copies of state are kept.

use std::path::{Path, PathBuf};

/// Where [`Options::local_recovery`](super::Options::local_recovery) keeps its copies: in memory up to 256 MiB, and nowhere else, if nothing is said.
///
/// ```
/// use alluvium::LocalRecovery;
///
/// // Files only, on two disks.
/// let local = LocalRecovery::default().memory_limit(0).directory("/disk1/local").directory("/disk2/local");
/// # let _ = local;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalRecovery {
    pub(in crate::job) memory: u64,
    pub(in crate::job) directories: Vec<PathBuf>,
}

/// The bytes in memory if nothing is said.
const DEFAULT_MEMORY: u64 = 256 << 20;

impl Default for LocalRecovery {
    fn default() -> LocalRecovery {
        LocalRecovery { memory: DEFAULT_MEMORY, directories: Vec::new() }
    }
}

impl LocalRecovery {
    /// Keeps so many bytes in memory at most, over all subtasks of the job; 256 MiB if not given. With 0 all copies are files. What does not fit goes into files, if a directory is given; else it
    /// is not copied.
    #[must_use]
    pub fn memory_limit(mut self, bytes: u64) -> LocalRecovery {
        self.memory = bytes;
        self
    }

    /// Keeps what does not fit into memory in files below this directory, which is created if missing. Given several times, the files go to all of them in turn. Several jobs can have the
    /// same one: each makes a directory of its own in it, and removes at its start what is left there. A directory that cannot be written is an error at the start; later failures cost the
    /// copy and are warnings.
    ///
    /// Flink: `taskmanager.state.local.root-dirs`.
    #[must_use]
    pub fn directory(mut self, directory: impl AsRef<Path>) -> LocalRecovery {
        self.directories.push(directory.as_ref().to_owned());
        self
    }
}
