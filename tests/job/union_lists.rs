//! A job with a union list whose subtasks come to the end of their data one after the other.

use std::time::Duration;

use alluvium::connect::{Collect, Generator};
use alluvium::operator::{OpenContext, StatefulAccess, StatefulContext, StatefulProcess};
use alluvium::state::UnionList;
use alluvium::{CheckpointStatus, FailureReason, Job, JobOutcome, OperatorResult, Options};

/// Counts by subtask, and passes on.
#[derive(Clone)]
struct Counts;

impl StatefulProcess for Counts {
    type In = u64;
    type Out = u64;
    type State = UnionList<(u32, u64)>;

    fn state(&self) -> UnionList<(u32, u64)> {
        UnionList::named("counts")
    }

    fn open(&self, mut counts: StatefulAccess<'_, Self>, context: OpenContext) -> OperatorResult {
        counts.retain(|(subtask, _)| *subtask == context.subtask());
        if counts.is_empty() {
            counts.push((context.subtask(), 0));
        }
        Ok(())
    }

    fn process(
        &self,
        number: u64,
        mut counts: StatefulAccess<'_, Self>,
        mut context: StatefulContext<'_, Self>,
    ) -> OperatorResult {
        if let Some((_, count)) = counts.get_mut(0) {
            *count += 1;
        }
        context.emit(number);
        Ok(())
    }
}

#[test]
fn while_some_subtasks_with_a_union_list_have_finished_checkpoints_are_refused_and_the_job_goes_on_to_its_end() {
    let place = tempfile::tempdir().unwrap();
    let numbers = Collect::new();
    let job = Job::new("union").parallelism(2);
    // One split for two subtasks: the second one has nothing to read and ends at once, far ahead of the first.
    job.source("numbers", Generator::bounded(400, |index| index).splits(1).rate(1_000))
        .stateful_process("counts", Counts)
        .sink("out", numbers.clone());
    let options = Options::default().store(place.path().join("store")).checkpoint_every(Duration::from_millis(20));
    let handle = job.build().unwrap().start(&options).unwrap();
    let report = handle.wait_blocking().unwrap();
    // One attempt, although no failure is tolerated by default.
    assert_eq!((report.outcome, report.status.attempts), (JobOutcome::Finished, 1));
    let statistics = handle.checkpoint_statistics();
    let failed = statistics.latest_failed.as_ref().expect("a checkpoint was due meanwhile");
    assert_eq!(failed.failure(), Some(FailureReason::PartlyFinishedUnionState));
    let last = statistics.latest_completed.as_ref().expect("the final checkpoint");
    assert_eq!(last.status, CheckpointStatus::Completed);
    let mut numbers = numbers.collected();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..400).collect::<Vec<_>>());
}
