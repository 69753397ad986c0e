//! How jobs end, and what the next start finds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use alluvium::connect::sink::{CommitOutcome, Guarantee, Sink, SinkCommit, SinkContext, SinkScope, SinkWriter};
use alluvium::connect::{Collect, Generator};
use alluvium::record::batch::Slice;
use alluvium::{CheckpointId, Job, JobEvent, JobOutcome, JobState, OperatorResult, Options, RestartStrategy};

use crate::{assert_exact, every_20_ms, lines, numbers, wait_for};

#[test]
fn a_job_that_reads_its_input_to_the_end_finishes_with_every_line_committed() {
    let place = tempfile::tempdir().unwrap();
    let output = place.path().join("output");
    let options = every_20_ms(&place.path().join("store"));
    let report = numbers(&output, None).start(&options).unwrap().wait_blocking().unwrap();
    assert_eq!(report.outcome, JobOutcome::Finished);
    assert!(!report.was_finished_before());
    assert_exact(&lines(&output));
}

#[test]
fn without_periodic_checkpoints_one_final_checkpoint_commits_everything() {
    let place = tempfile::tempdir().unwrap();
    let output = place.path().join("output");
    let options = Options::default().store(place.path().join("store"));
    let report = numbers(&output, None).start(&options).unwrap().wait_blocking().unwrap();
    assert_eq!(report.status.checkpoints_completed, 1);
    assert_exact(&lines(&output));
}

#[test]
fn a_finished_job_says_so_and_changes_nothing() {
    let place = tempfile::tempdir().unwrap();
    let output = place.path().join("output");
    let options = every_20_ms(&place.path().join("store"));
    numbers(&output, None).start(&options).unwrap().wait_blocking().unwrap();
    let before = lines(&output);
    let again = numbers(&output, None).start(&options).unwrap().wait_blocking().unwrap();
    assert!(again.was_finished_before());
    assert_eq!(again.status.checkpoints_completed, 0);
    assert_eq!(lines(&output), before);
}

#[test]
fn a_stopped_job_goes_on_where_it_stopped() {
    let place = tempfile::tempdir().unwrap();
    let output = place.path().join("output");
    let options = every_20_ms(&place.path().join("store"));
    let handle = numbers(&output, Some(40_000)).start(&options).unwrap();
    wait_for(&handle, |event| matches!(event, JobEvent::Completed { .. }));
    let stopped = handle.stop_blocking().unwrap();
    assert_eq!(stopped.outcome, JobOutcome::Stopped);
    let so_far = lines(&output).len();
    assert!(so_far < crate::NUMBERS as usize, "stopped on the way, not at the end");

    let report = numbers(&output, None).start(&options).unwrap().wait_blocking().unwrap();
    assert_eq!(report.status.restored_from, stopped.status.last_completed);
    assert_exact(&lines(&output));
}

#[test]
fn a_cancelled_job_keeps_its_checkpoints_and_goes_on_from_the_last() {
    let place = tempfile::tempdir().unwrap();
    let output = place.path().join("output");
    let options = every_20_ms(&place.path().join("store"));
    let handle = numbers(&output, Some(40_000)).start(&options).unwrap();
    wait_for(&handle, |event| matches!(event, JobEvent::Completed { .. }));
    handle.cancel();
    assert_eq!(handle.wait_blocking().unwrap().outcome, JobOutcome::Cancelled);

    let report = numbers(&output, None).start(&options).unwrap().wait_blocking().unwrap();
    assert!(report.status.restored_from.is_some());
    assert_exact(&lines(&output));
}

#[test]
fn a_job_in_memory_survives_a_panic_of_user_code() {
    let collected = Collect::<u64>::new();
    let panics = Arc::new(AtomicU32::new(0));
    let once = Arc::clone(&panics);
    let job = Job::new("panics");
    job.source("numbers", Generator::bounded(20_000, |index| index).rate(100_000))
        .map(move |number| {
            if number == 15_000 && once.fetch_add(1, Ordering::SeqCst) == 0 {
                panic!("number {number} is not liked");
            }
            number
        })
        .sink("collect", collected.clone());
    let options = Options::default()
        .checkpoint_every(Duration::from_millis(20))
        .restart(RestartStrategy::FixedDelay { attempts: 1, delay: Duration::from_millis(1) });
    let report = job.build().unwrap().start(&options).unwrap().wait_blocking().unwrap();
    assert_eq!(report.status.attempts, 2);
    let failure = report.status.failure.unwrap();
    assert!(failure.panicked && failure.message.contains("is not liked"), "{failure}");
    let mut numbers = collected.collected();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..20_000).collect::<Vec<_>>());
}

/// Holds its numbers in the transaction itself; its commits fail as often as told.
struct Stubborn {
    refusals: Arc<AtomicU32>,
}

struct StubbornWriter(Vec<u64>, Option<Vec<u64>>);

struct StubbornCommitter {
    refusals: Arc<AtomicU32>,
}

static WRITTEN: AtomicU64 = AtomicU64::new(0);
static COMMITTED: std::sync::Mutex<Vec<u64>> = std::sync::Mutex::new(Vec::new());

impl Sink<u64> for Stubborn {
    type Committable = Vec<u64>;
    type State = ();
    type Writer = StubbornWriter;
    type Committer = StubbornCommitter;

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn writer(&self, _context: SinkContext) -> OperatorResult<StubbornWriter> {
        Ok(StubbornWriter(Vec::new(), None))
    }

    fn committer(&self, _scope: SinkScope) -> OperatorResult<StubbornCommitter> {
        Ok(StubbornCommitter { refusals: Arc::clone(&self.refusals) })
    }
}

impl SinkWriter<u64> for StubbornWriter {
    type Committable = Vec<u64>;
    type State = ();

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<OperatorResult> {
        Poll::Ready(Ok(()))
    }

    fn write_batch(&mut self, slice: &mut Slice<u64>) -> OperatorResult {
        WRITTEN.fetch_add(slice.len() as u64, Ordering::SeqCst);
        self.0.append(&mut slice.records);
        slice.clear();
        Ok(())
    }

    fn prepare(&mut self, _checkpoint: CheckpointId) -> OperatorResult {
        self.1 = Some(std::mem::take(&mut self.0));
        Ok(())
    }

    fn poll_prepared(
        &mut self,
        _checkpoint: CheckpointId,
        _context: &mut Context<'_>,
    ) -> Poll<OperatorResult<Vec<Vec<u64>>>> {
        Poll::Ready(Ok(self.1.take().filter(|numbers| !numbers.is_empty()).into_iter().collect()))
    }

    fn snapshot(&mut self, _checkpoint: CheckpointId) {}
}

impl SinkCommit for StubbornCommitter {
    type Committable = Vec<u64>;
    type State = ();

    fn open(&mut self, _restored: Option<Vec<()>>) -> OperatorResult {
        Ok(())
    }

    fn commit(&mut self, numbers: Vec<u64>) -> CommitOutcome {
        if self.refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            panic!("not this time");
        }
        COMMITTED.lock().unwrap().extend(numbers);
        CommitOutcome::Done
    }

    fn clean_up(&mut self) -> OperatorResult {
        Ok(())
    }
}

#[test]
fn a_stop_whose_commit_fails_commits_in_the_next_attempt_and_ends_as_a_stop() {
    let refusals = Arc::new(AtomicU32::new(0));
    let job = Job::new("stubborn");
    job.source("numbers", Generator::unbounded(|index| index).rate(50_000))
        .sink("stubborn", Stubborn { refusals: Arc::clone(&refusals) });
    // No periodic checkpoint comes in between: the stop's is the only one.
    let options = Options::default()
        .checkpoint_every(Duration::from_secs(3_600))
        .restart(RestartStrategy::FixedDelay { attempts: 2, delay: Duration::from_millis(1) });
    let handle = job.build().unwrap().start(&options).unwrap();
    wait_for_running(&handle);
    while WRITTEN.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    refusals.store(1, Ordering::SeqCst);
    let report = handle.stop_blocking().unwrap();
    assert_eq!(report.outcome, JobOutcome::Stopped);
    assert_eq!(report.status.attempts, 2);
    let committed = COMMITTED.lock().unwrap().clone();
    assert!(!committed.is_empty());
    assert_eq!(committed, (0..committed.len() as u64).collect::<Vec<_>>(), "each number once, in order");
}

fn wait_for_running(handle: &alluvium::JobHandle) {
    let mut events = handle.events();
    if handle.status().state != JobState::Running {
        events.find(|event| *event == JobEvent::State(JobState::Running)).unwrap();
    }
}

#[test]
fn with_nothing_inline_a_stopped_job_goes_on_all_the_same() {
    let place = tempfile::tempdir().unwrap();
    let output = place.path().join("output");
    let options = every_20_ms(&place.path().join("store")).inline_limit(0);
    let handle = numbers(&output, Some(40_000)).start(&options).unwrap();
    wait_for(&handle, |event| matches!(event, JobEvent::Completed { .. }));
    handle.stop_blocking().unwrap();
    let report = numbers(&output, None).start(&options).unwrap().wait_blocking().unwrap();
    assert!(report.status.restored_from.is_some());
    assert_exact(&lines(&output));
}

#[test]
fn a_damaged_checkpoint_stops_the_start_unless_falling_back_is_allowed() {
    let place = tempfile::tempdir().unwrap();
    let graph = || {
        let job = Job::new("endless");
        job.source("numbers", Generator::unbounded(|index| index).rate(10_000)).for_each("nothing", |_| ());
        job.build().unwrap()
    };
    let options = Options::default()
        .store(place.path())
        .retained_checkpoints(2)
        .checkpoint_every(Duration::from_millis(20))
        .restart(RestartStrategy::None);
    let handle = graph().start(&options).unwrap();
    let completed = handle.events().filter(|event| matches!(event, JobEvent::Completed { .. }));
    assert_eq!(completed.take(3).count(), 3);
    let newest = handle.stop_blocking().unwrap().status.last_completed.unwrap();

    let mut manifests: Vec<_> =
        std::fs::read_dir(place.path().join("manifests")).unwrap().map(|entry| entry.unwrap().path()).collect();
    manifests.sort();
    let damaged = manifests.last().unwrap();
    let bytes = std::fs::read(damaged).unwrap();
    std::fs::write(damaged, &bytes[..bytes.len() / 2]).unwrap();
    std::fs::remove_dir_all(place.path().join("catalogue.sled")).unwrap();

    let error = graph().start(&options).unwrap().wait_blocking().unwrap_err().to_string();
    let name = damaged.file_name().unwrap().to_str().unwrap();
    assert!(error.contains(name), "{error}");

    // With the manifest and the catalogue gone, nobody can say that no sink has committed beyond.
    let falling_back = options.fall_back_to_older();
    let error = graph().start(&falling_back).unwrap().wait_blocking().unwrap_err().to_string();
    assert!(error.contains("accept repeats"), "{error}");

    let handle = graph().start(&falling_back.accept_repeats()).unwrap();
    let report = handle.stop_blocking().unwrap();
    let restored = report.status.restored_from.unwrap();
    assert!(restored < newest, "{restored} is older than {newest}");
}
