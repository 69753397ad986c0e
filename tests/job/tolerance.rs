//! Checkpoints that fail: how many a job tolerates, what follows, and what can be seen of it. And several under way at once.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use alluvium::ports::files::{
    DirectoryEntry, FileError, FileErrorKind, FileLock, FileMetadata, FileOperation, FileReader, FileWriter, Files,
};
use alluvium::storage::SystemFiles;
use alluvium::{
    CheckpointId, CheckpointStatus, FailureReason, JobError, JobEvent, JobOutcome, Listener, Options, RestartStrategy,
    StatisticsSnapshot,
};

use crate::{assert_exact, lines, numbers};

/// A door through which the blobs of some checkpoints do not go.
struct Door {
    files: SystemFiles,
    /// The blobs of checkpoints up to this one fail.
    failing: u64,
    /// The blobs of the first checkpoint wait until this one was triggered.
    held_until: u64,
    triggered: Mutex<u64>,
    told: Condvar,
}

impl Door {
    fn new(failing: u64, held_until: u64) -> Arc<Door> {
        let (triggered, told) = (Mutex::new(0), Condvar::new());
        Arc::new(Door { files: SystemFiles::new(), failing, held_until, triggered, told })
    }
}

/// The checkpoint in the name of a blob.
fn checkpoint(path: &Path) -> Option<u64> {
    let text = path.to_str()?;
    let name = text.split_once("blobs/")?.1;
    name.split_once("-c")?.1.get(..20)?.parse().ok()
}

impl Files for Door {
    fn create(&self, path: &Path) -> Result<Box<dyn FileWriter>, FileError> {
        if let Some(checkpoint) = checkpoint(path) {
            if checkpoint <= self.failing {
                return Err(FileError::new(FileOperation::Create, path, FileErrorKind::OutOfSpace, "the door is shut"));
            }
            let mut triggered = self.triggered.lock().unwrap();
            while checkpoint == 1 && *triggered < self.held_until {
                triggered = self.told.wait(triggered).unwrap();
            }
        }
        self.files.create(path)
    }

    fn open(&self, path: &Path) -> Result<Box<dyn FileReader>, FileError> {
        self.files.open(path)
    }

    fn rename_without_replace(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        self.files.rename_without_replace(from, to)
    }

    fn sync_directory(&self, directory: &Path) -> Result<(), FileError> {
        self.files.sync_directory(directory)
    }

    fn list(&self, directory: &Path) -> Result<Vec<DirectoryEntry>, FileError> {
        self.files.list(directory)
    }

    fn remove(&self, path: &Path) -> Result<(), FileError> {
        self.files.remove(path)
    }

    fn create_directories(&self, directory: &Path) -> Result<(), FileError> {
        self.files.create_directories(directory)
    }

    fn metadata(&self, path: &Path) -> Result<Option<FileMetadata>, FileError> {
        self.files.metadata(path)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn FileLock>, FileError> {
        self.files.lock(path)
    }
}

impl Listener for Door {
    fn event(&self, event: JobEvent) {
        if let JobEvent::Triggered { checkpoint, .. } = event {
            *self.triggered.lock().unwrap() = checkpoint.0;
            self.told.notify_all();
        }
    }
}

fn options(store: &Path, door: &Arc<Door>) -> Options {
    Options::default()
        .store(store)
        .checkpoint_every(Duration::from_millis(10))
        .inline_limit(0)
        .files(Arc::clone(door) as Arc<dyn Files>)
        .restart(RestartStrategy::FixedDelay { attempts: 5, delay: Duration::from_millis(1) })
}

/// Enough records for some tenths of a second.
const RATE: Option<u64> = Some(100_000);

#[test]
fn failures_that_are_tolerated_cost_no_restart_and_no_record() {
    let limited: fn(Options) -> Options = |options| options.tolerable_checkpoint_failures(3);
    for tolerant in [limited, Options::continue_on_checkpoint_errors] {
        let place = tempfile::tempdir().unwrap();
        let output = place.path().join("output");
        let options = tolerant(options(&place.path().join("store"), &Door::new(3, 0)));
        let handle = numbers(&output, RATE).start(&options).unwrap();
        let report = handle.wait_blocking().unwrap();
        assert_eq!((report.outcome, report.status.attempts), (JobOutcome::Finished, 1));
        let counts = handle.checkpoint_statistics().counts;
        assert_eq!((counts.failed, counts.in_progress), (3, 0));
        assert_exact(&lines(&output));
    }
}

#[test]
fn by_default_the_first_failure_costs_a_restart_and_no_record() {
    let place = tempfile::tempdir().unwrap();
    let output = place.path().join("output");
    let options = options(&place.path().join("store"), &Door::new(1, 0));
    let handle = numbers(&output, RATE).start(&options).unwrap();
    let report = handle.wait_blocking().unwrap();
    assert_eq!(report.status.attempts, 2);
    let failure = report.status.failure.unwrap().to_string();
    assert!(failure.contains("1 checkpoints failed in a row and 0 are tolerated"), "{failure}");
    assert_exact(&lines(&output));
    let statistics = handle.checkpoint_statistics();
    let failed = statistics.latest_failed.as_ref().unwrap();
    assert_eq!((failed.checkpoint, failed.failure()), (CheckpointId(1), Some(FailureReason::IoException)));
}

#[test]
fn one_more_than_is_tolerated_fails_the_job_with_the_reason_of_the_last() {
    let place = tempfile::tempdir().unwrap();
    let output = place.path().join("output");
    let options = options(&place.path().join("store"), &Door::new(u64::MAX, 0)).restart(RestartStrategy::None);
    let handle = numbers(&output, Some(1_000)).start(&options.tolerable_checkpoint_failures(2)).unwrap();
    match handle.wait_blocking().unwrap_err() {
        JobError::Failed(failure) => {
            let words =
                "3 checkpoints failed in a row and 2 are tolerated, the last one because an input or output error";
            assert!(failure.message.contains(words), "{failure}");
        }
        other => panic!("{other}"),
    }
    let statistics = handle.checkpoint_statistics();
    assert_eq!((statistics.counts.triggered, statistics.counts.failed, statistics.counts.completed), (3, 3, 0));
}

/// Keeps what it was told.
#[derive(Default)]
struct Told(Mutex<(Vec<JobEvent>, Arc<StatisticsSnapshot>)>);

impl Listener for Told {
    fn event(&self, event: JobEvent) {
        self.0.lock().unwrap().0.push(event);
    }

    fn statistics(&self, statistics: &Arc<StatisticsSnapshot>) {
        self.0.lock().unwrap().1 = Arc::clone(statistics);
    }
}

#[test]
fn what_failed_and_what_completed_is_told_to_the_listener() {
    let place = tempfile::tempdir().unwrap();
    let told = Arc::new(Told::default());
    let options = options(&place.path().join("store"), &Door::new(1, 0)).tolerable_checkpoint_failures(1);
    let options = options.listener(Arc::clone(&told) as Arc<dyn Listener>);
    let handle = numbers(&place.path().join("output"), RATE).start(&options).unwrap();
    handle.wait_blocking().unwrap();
    let (events, statistics) = &*told.0.lock().unwrap();
    let aborted = |event: &JobEvent| match event {
        JobEvent::Aborted { checkpoint: CheckpointId(1), reason, story } => Some((*reason, story.clone())),
        _ => None,
    };
    let (reason, story) = events.iter().find_map(aborted).expect("the first one fails");
    assert_eq!(reason, FailureReason::IoException);
    assert!(
        story.contains("[0]` said: ") && story.contains("no space is left to write "),
        "it names who declined: {story}"
    );
    let completed = events.iter().filter(|event| matches!(event, JobEvent::Completed { .. })).count() as u64;
    assert_eq!(statistics.counts.completed, completed);
    assert_eq!(*statistics, handle.checkpoint_statistics(), "the handle shows what the listener was told last");
    let last = statistics.latest_completed.as_ref().unwrap();
    assert_eq!(last.status, CheckpointStatus::Completed);
    assert!(last.bytes > 0 && last.by_subtask.iter().any(|part| part.figures.bytes > 0), "{last:?}");
    assert_eq!(statistics.summary.duration.count(), completed);
}

#[test]
fn several_checkpoints_are_under_way_at_once_and_every_record_counts_once() {
    let place = tempfile::tempdir().unwrap();
    let output = place.path().join("output");
    // The first one cannot be acknowledged before the third is triggered: without three at a time it would hang.
    let door = Door::new(0, 3);
    let options = options(&place.path().join("store"), &door).maximum_concurrent_checkpoints(3);
    let handle = numbers(&output, RATE).start(&options.listener(Arc::clone(&door) as Arc<dyn Listener>)).unwrap();
    let report = handle.wait_blocking().unwrap();
    assert_eq!((report.outcome, report.status.attempts), (JobOutcome::Finished, 1));
    assert!(handle.checkpoint_statistics().counts.triggered >= 3);
    assert_exact(&lines(&output));
}
