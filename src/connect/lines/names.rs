//! The names of the sink's files: they contain job, operator, run, checkpoint and subtask, and none is used twice.

use std::path::{Path, PathBuf};

use alluvium_actors::ids::{CheckpointId, RunNumber};
use alluvium_actors::ports::store::name_part;

/// What the name of a file that is being written ends in.
pub(super) const IN_PROGRESS: &str = ".inprogress";

/// What the name of a prepared file ends in.
pub(super) const PENDING: &str = ".pending";

/// The name of the file that tells whose directory it is.
pub(super) const OWNER: &str = ".alluvium-owner";

/// Whether a name is one of a file that is not output.
pub(super) fn is_kept(name: &str) -> bool {
    name.ends_with(IN_PROGRESS) || name.ends_with(PENDING)
}

/// The names of one sink's files in its directory.
#[derive(Debug)]
pub(super) struct Names {
    directory: PathBuf,
    /// Every file of the sink begins so, and none of another job or sink does: a `-` never comes out of `name_part`.
    prefix: String,
    suffix: String,
}

impl Names {
    pub(super) fn new(directory: &Path, job: &str, uid: &str, suffix: &str) -> Names {
        let prefix = format!("{}-{}-r", name_part(job), name_part(uid));
        Names { directory: directory.to_owned(), prefix, suffix: suffix.to_owned() }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The directory as messages show it.
    pub(super) fn shown(&self) -> String {
        self.directory.display().to_string()
    }

    /// Whether a file of this name is one of this sink.
    pub(super) fn is_ours(&self, name: &str) -> bool {
        name.strip_prefix(&self.prefix).is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    }

    pub(super) fn owner(&self) -> PathBuf {
        self.directory.join(OWNER)
    }

    /// The owner file while it is written.
    pub(super) fn new_owner(&self, run: RunNumber) -> PathBuf {
        self.directory.join(format!("{}{:010}-owner{IN_PROGRESS}", self.prefix, run.0))
    }

    /// File number `number` of a writer, while it is written: its checkpoint is not known yet.
    pub(super) fn in_progress(&self, run: RunNumber, subtask: u32, number: u64) -> PathBuf {
        self.directory.join(format!("{}{:010}-s{subtask}-{number}{IN_PROGRESS}", self.prefix, run.0))
    }

    /// The name of the same file as output.
    pub(super) fn output(&self, run: RunNumber, checkpoint: CheckpointId, subtask: u32, number: u64) -> String {
        format!("{}{:010}-c{:020}-s{subtask}-{number}{}", self.prefix, run.0, checkpoint.0, self.suffix)
    }

    pub(super) fn committed(&self, output: &str) -> PathBuf {
        self.directory.join(output)
    }

    pub(super) fn pending(&self, output: &str) -> PathBuf {
        self.directory.join(format!("{output}{PENDING}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_another_job_or_sink_are_never_taken_for_ours() {
        let ours = Names::new(Path::new("out"), "flights", "lines", ".csv");
        let (run, checkpoint) = (RunNumber(3), CheckpointId(7));
        assert!(ours.is_ours(&ours.output(run, checkpoint, 0, 0)));
        for (job, uid) in [("flights", "lines2"), ("flights-lines", "r"), ("flight", "lines"), ("flights", "lines-r1")]
        {
            let theirs = Names::new(Path::new("out"), job, uid, ".csv");
            assert!(!ours.is_ours(&theirs.output(run, checkpoint, 0, 0)), "{job} {uid}");
            assert!(!theirs.is_ours(&ours.output(run, checkpoint, 0, 0)), "{job} {uid}");
        }
        assert!(!ours.is_ours("flights-lines-report.csv"));
    }

    #[test]
    fn an_output_file_is_found_pending_under_its_own_name() {
        let names = Names::new(Path::new("out"), "my job", "a/b", ".csv");
        let output = names.output(RunNumber(1), CheckpointId(2), 3, 4);
        assert_eq!(output, "my%20job-a%2Fb-r0000000001-c00000000000000000002-s3-4.csv");
        assert_eq!(names.pending(&output), Path::new("out").join(format!("{output}.pending")));
    }
}
