//! Which checkpoints a job leaves behind, and that nothing is lost with those that go.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use alluvium::ExternalizedCheckpointRetention::{
    self, DeleteOnCancellation, NoExternalizedCheckpoints, RetainOnCancellation,
};
use alluvium::connect::Generator;
use alluvium::connect::sink::{CommitOutcome, Guarantee, Sink, SinkCommit, SinkContext, SinkScope, SinkWriter};
use alluvium::record::batch::Slice;
use alluvium::{
    CheckpointId, Graph, Job, JobError, JobEvent, JobHandle, JobOutcome, JobState, OperatorError, OperatorResult,
    Options, RestartStrategy,
};

use crate::{assert_exact, every_20_ms, lines, numbers, numbers_named, wait_for};

const ALL: [ExternalizedCheckpointRetention; 3] = ExternalizedCheckpointRetention::ALL;

fn options(store: &Path, retention: ExternalizedCheckpointRetention) -> Options {
    // Everything that can lie in a blob does.
    every_20_ms(store).inline_limit(0).externalized_checkpoints(retention)
}

/// How many manifests and blobs are in a store.
fn stored(store: &Path) -> (usize, usize) {
    let count = |group: &str| std::fs::read_dir(store.join(group)).map_or(0, Iterator::count);
    (count("manifests"), count("blobs"))
}

/// How many numbers came out, each once.
fn assert_once(output: &Path) -> usize {
    let lines = lines(output);
    let mut numbers: Vec<u64> = lines.iter().map(|line| line.split(',').nth(2).unwrap().parse().unwrap()).collect();
    numbers.sort_unstable();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "a number came out twice");
    numbers.len()
}

/// Nothing but output is left of the sink.
fn assert_clean(output: &Path) {
    let left = std::fs::read_dir(output).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let left: Vec<String> = left.filter(|name| name.contains("pending") || name.contains("progress")).collect();
    assert!(left.is_empty(), "{left:?}");
}

fn run_until_completed(graph: &Graph, options: &Options) -> JobHandle {
    let handle = graph.start(options).unwrap();
    wait_for(&handle, |event| matches!(event, JobEvent::Completed { .. }));
    wait_for(&handle, |event| matches!(event, JobEvent::Completed { .. }));
    handle
}

#[test]
fn a_cancelled_job_that_is_to_leave_nothing_leaves_its_output_and_neither_manifest_nor_blob() {
    for retention in [DeleteOnCancellation, NoExternalizedCheckpoints] {
        let place = tempfile::tempdir().unwrap();
        let (output, store) = (place.path().join("output"), place.path().join("store"));
        let options = options(&store, retention);
        let handle = run_until_completed(&numbers(&output, Some(40_000)), &options);
        assert_ne!(stored(&store).0, 0);
        handle.cancel();
        let report = handle.wait_blocking().unwrap();
        assert_eq!((report.outcome, report.status.checkpoints_left), (JobOutcome::Cancelled, None));
        assert_eq!(stored(&store), (0, 0));
        assert!(assert_once(&output) > 0, "what completed checkpoints cover is output");
        assert_clean(&output);

        // The output that stands there is not written a second time.
        let error = numbers(&output, None).start(&options).unwrap().wait_blocking().unwrap_err().to_string();
        assert!(error.contains("begins without a checkpoint") && error.contains("choose another directory"), "{error}");
        let other = place.path().join("other");
        let report = numbers(&other, None).start(&options).unwrap().wait_blocking().unwrap();
        assert_eq!(report.status.restored_from, None, "it begins anew");
        assert_exact(&lines(&other));
    }
}

#[test]
fn a_cancelled_job_that_is_to_retain_its_checkpoints_goes_on_from_them() {
    let place = tempfile::tempdir().unwrap();
    let (output, store) = (place.path().join("output"), place.path().join("store"));
    let options = options(&store, RetainOnCancellation);
    let handle = run_until_completed(&numbers(&output, Some(40_000)), &options);
    handle.cancel();
    handle.wait_blocking().unwrap();
    let report = numbers(&output, None).start(&options).unwrap().wait_blocking().unwrap();
    assert!(report.status.restored_from.is_some());
    assert_exact(&lines(&output));
}

#[test]
fn a_stopped_and_a_finished_job_leave_what_they_leave_under_every_setting() {
    for retention in ALL {
        let place = tempfile::tempdir().unwrap();
        let (output, store) = (place.path().join("output"), place.path().join("store"));
        let options = options(&store, retention);
        let handle = run_until_completed(&numbers(&output, Some(40_000)), &options);
        let stopped = handle.stop_blocking().unwrap().status.last_completed;
        let report = numbers(&output, None).start(&options).unwrap().wait_blocking().unwrap();
        assert_eq!(report.status.restored_from, stopped);
        assert_exact(&lines(&output));
        assert_eq!(stored(&store).0, 1, "the mark of the end");
        let again = numbers(&output, None).start(&options).unwrap().wait_blocking().unwrap();
        assert!(again.was_finished_before());
    }
}

/// Counts to an end that fails for good.
fn failing(output: &Path, at: u64) -> Graph {
    let job = Job::new("failing");
    job.source("numbers", Generator::bounded(100_000, |index| index).rate(40_000))
        .try_map(move |number| {
            if number < at { Ok(number) } else { Err(OperatorError::unrecoverable(format!("{number} is too much"))) }
        })
        .map(|number| format!("0,0,{number}"))
        .sink("lines", alluvium::connect::Lines::exactly_once(output).suffix(".csv"));
    job.build().unwrap()
}

#[test]
fn a_job_that_fails_for_good_leaves_its_checkpoints_unless_they_are_not_externalized() {
    for retention in ALL {
        let place = tempfile::tempdir().unwrap();
        let (output, store) = (place.path().join("output"), place.path().join("store"));
        let options = options(&store, retention);
        let handle = failing(&output, 4_000).start(&options).unwrap();
        let error = handle.wait_blocking().unwrap_err();
        assert!(error.to_string().contains("4000 is too much"), "{error}");
        let came_out = assert_once(&output);
        assert!(came_out > 0 && came_out <= 4_000, "{came_out}");
        if retention == NoExternalizedCheckpoints {
            assert_eq!(stored(&store), (0, 0));
            assert_clean(&output);
        } else {
            assert_ne!(stored(&store).0, 0);
            let mended = failing(&output, 200_000).start(&options).unwrap().wait_blocking().unwrap();
            assert!(mended.status.restored_from.is_some());
            assert_eq!(assert_once(&output), 100_000);
        }
    }
}

#[test]
fn a_start_that_fails_deletes_nothing_whatever_the_setting() {
    let place = tempfile::tempdir().unwrap();
    let (output, store) = (place.path().join("output"), place.path().join("store"));
    let options = options(&store, NoExternalizedCheckpoints);
    run_until_completed(&numbers(&output, Some(40_000)), &options).stop_blocking().unwrap();
    // Wider than the state in the checkpoint can be shared out.
    let handle = numbers_named("numbers", &output, None, 200).start(&options).unwrap();
    let error = handle.wait_blocking().unwrap_err();
    assert!(matches!(error, JobError::Failed(_)), "{error}");
    let left = handle.status().checkpoints_left.unwrap();
    assert!(left.contains("before it ran"), "{left}");
    numbers(&output, None).start(&options).unwrap().wait_blocking().unwrap();
    assert_exact(&lines(&output));
}

#[test]
fn a_job_that_is_cancelled_while_it_waits_for_a_restart_leaves_nothing_too() {
    let place = tempfile::tempdir().unwrap();
    let store = place.path().join("store");
    let job = Job::new("waits");
    job.source("numbers", Generator::unbounded(|index| index).rate(40_000))
        .try_map(|number| if number < 4_000 { Ok(number) } else { Err(OperatorError::retryable("not today")) })
        .for_each("nothing", |_| ());
    let delay = Duration::from_secs(3_600);
    let options = options(&store, DeleteOnCancellation).restart(RestartStrategy::FixedDelay { attempts: 1, delay });
    let handle = job.build().unwrap().start(&options).unwrap();
    wait_for(&handle, |event| matches!(event, JobEvent::Restarting { .. }));
    handle.cancel();
    assert_eq!(handle.wait_blocking().unwrap().outcome, JobOutcome::Cancelled);
    assert_eq!(stored(&store), (0, 0));
}

/// What the outside world of [`Vault`] answers to a commit.
const OPEN: u8 = 0;
const LATER: u8 = 1;
const NEVER: u8 = 2;

/// Remembers what was prepared under which checkpoint and what was committed; its door answers commits.
#[derive(Clone, Default)]
struct Vault {
    door: Arc<AtomicU8>,
    prepared: Arc<Mutex<BTreeMap<CheckpointId, Vec<u64>>>>,
    committed: Arc<Mutex<Vec<u64>>>,
}

struct VaultWriter(Vault, Vec<u64>);

impl Sink<u64> for Vault {
    type Committable = Vec<u64>;
    type State = ();
    type Writer = VaultWriter;
    type Committer = Vault;

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn writer(&self, _context: SinkContext) -> OperatorResult<VaultWriter> {
        Ok(VaultWriter(self.clone(), Vec::new()))
    }

    fn committer(&self, _scope: SinkScope) -> OperatorResult<Vault> {
        Ok(self.clone())
    }
}

impl SinkWriter<u64> for VaultWriter {
    type Committable = Vec<u64>;
    type State = ();

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<OperatorResult> {
        Poll::Ready(Ok(()))
    }

    fn write_batch(&mut self, slice: &mut Slice<u64>) -> OperatorResult {
        self.1.append(&mut slice.records);
        slice.clear();
        Ok(())
    }

    fn prepare(&mut self, checkpoint: CheckpointId) -> OperatorResult {
        self.0.prepared.lock().unwrap().insert(checkpoint, std::mem::take(&mut self.1));
        Ok(())
    }

    fn poll_prepared(
        &mut self,
        checkpoint: CheckpointId,
        _context: &mut Context<'_>,
    ) -> Poll<OperatorResult<Vec<Vec<u64>>>> {
        Poll::Ready(Ok(vec![self.0.prepared.lock().unwrap()[&checkpoint].clone()]))
    }

    fn snapshot(&mut self, _checkpoint: CheckpointId) {}
}

impl SinkCommit for Vault {
    type Committable = Vec<u64>;
    type State = ();

    fn open(&mut self, _restored: Option<Vec<()>>) -> OperatorResult {
        Ok(())
    }

    fn commit(&mut self, numbers: Vec<u64>) -> CommitOutcome {
        match self.door.load(Ordering::SeqCst) {
            OPEN => {
                let mut committed = self.committed.lock().unwrap();
                if numbers.iter().any(|number| committed.contains(number)) {
                    return CommitOutcome::AlreadyDone;
                }
                committed.extend(numbers);
                CommitOutcome::Done
            }
            LATER => CommitOutcome::RetryAfter(Duration::from_millis(1)),
            _ => CommitOutcome::Fatal(OperatorError::unrecoverable("the vault is gone")),
        }
    }

    fn clean_up(&mut self) -> OperatorResult {
        Ok(())
    }
}

fn vault_job(vault: &Vault) -> Graph {
    let job = Job::new("vault");
    job.source("numbers", Generator::unbounded(|index| index).rate(20_000)).sink("vault", vault.clone());
    job.build().unwrap()
}

/// Starts a job whose vault takes no commit, and waits until a checkpoint is complete that owes one.
fn owing(vault: &Vault, options: &Options) -> JobHandle {
    vault.door.store(LATER, Ordering::SeqCst);
    let handle = vault_job(vault).start(options).unwrap();
    let mut events = handle.events();
    loop {
        let completed = events.find_map(|event| match event {
            JobEvent::Completed { checkpoint, .. } => Some(checkpoint),
            _ => None,
        });
        if !vault.prepared.lock().unwrap()[&completed.unwrap()].is_empty() {
            return handle;
        }
    }
}

/// What the completed checkpoints up to this one cover.
fn covered(vault: &Vault, last: CheckpointId) -> Vec<u64> {
    vault.prepared.lock().unwrap().range(..=last).flat_map(|(_, numbers)| numbers.clone()).collect()
}

#[test]
fn what_completed_checkpoints_owe_is_committed_before_they_are_deleted() {
    let place = tempfile::tempdir().unwrap();
    let vault = Vault::default();
    let handle = owing(&vault, &options(place.path(), DeleteOnCancellation));
    let mut events = handle.events();
    handle.cancel();
    events.find(|event| *event == JobEvent::State(JobState::Cancelling)).unwrap();
    assert!(vault.committed.lock().unwrap().is_empty());
    vault.door.store(OPEN, Ordering::SeqCst);
    let report = handle.wait_blocking().unwrap();
    assert_eq!((report.outcome, report.status.checkpoints_left.clone()), (JobOutcome::Cancelled, None));
    assert_eq!(stored(place.path()), (0, 0));
    let committed = vault.committed.lock().unwrap().clone();
    assert!(!committed.is_empty());
    assert_eq!(committed, covered(&vault, report.status.last_completed.unwrap()));
}

#[test]
fn what_cannot_be_committed_keeps_the_checkpoints_and_the_next_start_is_right() {
    let place = tempfile::tempdir().unwrap();
    let vault = Vault::default();
    let options = options(place.path(), DeleteOnCancellation);
    let handle = owing(&vault, &options);
    let mut events = handle.events();
    handle.cancel();
    events.find(|event| *event == JobEvent::State(JobState::Cancelling)).unwrap();
    vault.door.store(NEVER, Ordering::SeqCst);
    let report = handle.wait_blocking().unwrap();
    assert_eq!(report.outcome, JobOutcome::Cancelled);
    let left = report.status.checkpoints_left.unwrap();
    assert!(left.contains("the vault is gone"), "{left}");
    assert_eq!(stored(place.path()).0, 1);

    let owed = covered(&vault, report.status.last_completed.unwrap());
    vault.door.store(OPEN, Ordering::SeqCst);
    let handle = vault_job(&vault).start(&options).unwrap();
    wait_for(&handle, |event| matches!(event, JobEvent::Completed { .. }));
    handle.stop_blocking().unwrap();
    let committed = vault.committed.lock().unwrap().clone();
    assert_eq!(committed[..owed.len()], owed);
    assert_eq!(committed, (0..committed.len() as u64).collect::<Vec<_>>(), "each number once, in order");
}
