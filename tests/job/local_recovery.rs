//! Local copies of state on real files: made while the job runs, read after a failure, gone with it; and what is refused.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alluvium::connect::{Generator, Lines};
use alluvium::{Graph, Job, JobEvent, LocalRecovery, OptionError, Options, RestartStrategy, StartError};

use crate::{NUMBERS, assert_exact, every_20_ms, lines, numbers, wait_for};

/// The job of [`numbers`], which panics once when it is told to.
fn failing(output: &Path, due: &Arc<AtomicBool>) -> Graph {
    let (job, due) = (Job::new("numbers").parallelism(2), Arc::clone(due));
    job.source("numbers", Generator::bounded(NUMBERS, |index| index).splits(2).rate(20_000))
        .key_by_value(|number| number % 10)
        .aggregate("counts", 0_u64, move |digit, count, number| {
            assert!(!due.swap(false, Ordering::Relaxed), "it was told to");
            *count += 1;
            format!("{digit},{count},{number}")
        })
        .sink("lines", Lines::exactly_once(output).suffix(".csv"));
    job.build().unwrap()
}

/// The files below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn a_job_that_failed_goes_on_from_its_copies_and_takes_their_files_along() {
    let place = tempfile::tempdir().unwrap();
    let (output, store, local) = (place.path().join("output"), place.path().join("store"), place.path().join("local"));
    let due = Arc::new(AtomicBool::new(false));
    let options = every_20_ms(&store)
        .inline_limit(1)
        .restart(RestartStrategy::FixedDelay { attempts: 3, delay: Duration::ZERO })
        .local_recovery(LocalRecovery::default().memory_limit(0).directory(&local));
    let handle = failing(&output, &due).start(&options).unwrap();
    wait_for(&handle, |event| matches!(event, JobEvent::Completed { .. }));
    assert!(!files(&local).is_empty(), "a checkpoint is complete, and there is no copy");
    due.store(true, Ordering::Relaxed);
    wait_for(&handle, |event| matches!(event, JobEvent::RunBegan { restored: Some(_), .. }));
    handle.wait_blocking().unwrap();
    assert_exact(&lines(&output));
    assert_eq!(files(&local), Vec::<PathBuf>::new());
}

#[test]
fn a_directory_for_copies_that_cannot_be_written_is_an_error_at_the_start_by_its_name() {
    let place = tempfile::tempdir().unwrap();
    let (store, local) = (place.path().join("store"), place.path().join("local"));
    std::fs::write(&local, "a file").unwrap();
    let options = every_20_ms(&store).local_recovery(LocalRecovery::default().directory(&local));
    let error = numbers(&place.path().join("output"), None).start(&options).unwrap_err();
    assert!(matches!(&error, StartError::LocalRecovery(error) if error.path.starts_with(&local)), "{error}");
    assert!(error.to_string().contains(&local.display().to_string()), "{error}");
    // The store is free again, and the job starts without.
    numbers(&place.path().join("output"), None).start(&every_20_ms(&store)).unwrap().wait_blocking().unwrap();
}

#[test]
fn senseless_places_for_copies_are_all_refused_at_once() {
    let local = LocalRecovery::default().directory("/store/local").directory("/copies").directory("/copies");
    let options = Options::default().store("/store");
    let errors = options.clone().local_recovery(local).check().unwrap_err();
    let expected = [
        OptionError::CopiesInTheStore { directory: "/store/local".into() },
        OptionError::CopiesTwiceInOnePlace { directory: "/copies".into() },
    ];
    assert_eq!(errors, expected);
    let nowhere = options.clone().local_recovery(LocalRecovery::default().memory_limit(0));
    assert_eq!(nowhere.check().unwrap_err(), [OptionError::NoPlaceForCopies]);
    assert!(options.local_recovery(LocalRecovery::default().memory_limit(0).directory("/copies")).check().is_ok());
}
