//! What a job's checkpoints say of themselves in virtual time, where every millisecond is exact: a delay at a point gives the sentence that names it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use alluvium::ports::history::CheckpointRecord;
use alluvium::testing::JobTest;
use alluvium::testing::check::ExactlyOnce;
use alluvium::testing::simulation::{Faults, Simulation};
use alluvium::{CheckpointId, JobEvent, Listener, Options, StatisticsSnapshot};

use crate::billing::{Bill, assert_tells, billing, order};

/// What was heard.
#[derive(Default)]
struct Heard {
    records: Mutex<Vec<Arc<CheckpointRecord>>>,
    /// What takes long, and what was aborted.
    told: Mutex<Vec<(CheckpointId, String)>>,
    statistics: Mutex<Vec<Arc<StatisticsSnapshot>>>,
}

impl Listener for Heard {
    fn event(&self, event: JobEvent) {
        let told = match event {
            JobEvent::TakesLong { checkpoint, story } => (checkpoint, format!("takes long: {story}")),
            JobEvent::Aborted { checkpoint, reason, story } => (checkpoint, format!("aborted: {reason}: {story}")),
            _ => return,
        };
        self.told.lock().unwrap().push(told);
    }

    fn statistics(&self, statistics: &Arc<StatisticsSnapshot>) {
        self.statistics.lock().unwrap().push(Arc::clone(statistics));
    }

    fn recorded(&self, record: &Arc<CheckpointRecord>) {
        self.records.lock().unwrap().push(Arc::clone(record));
    }
}

impl Heard {
    #[track_caller]
    fn record(&self, checkpoint: u64) -> Arc<CheckpointRecord> {
        let records = self.records.lock().unwrap();
        let found = records.iter().find(|record| record.checkpoint == CheckpointId(checkpoint));
        Arc::clone(found.unwrap_or_else(|| panic!("checkpoint {checkpoint} is not in {records:?}")))
    }

    fn told(&self, checkpoint: u64) -> Vec<String> {
        let told = self.told.lock().unwrap();
        told.iter().filter(|(found, _)| *found == CheckpointId(checkpoint)).map(|(_, text)| text.clone()).collect()
    }
}

/// Forty orders, ten a second, and a checkpoint every second, with these faults.
fn run(faults: &str) -> Arc<Heard> {
    let heard = Arc::new(Heard::default());
    let listener = Arc::clone(&heard);
    let test = JobTest::new(move |run| {
        let (orders, bills) = (run.records("orders", 40, order).rate(10), run.ledger("bills"));
        run.check(ExactlyOnce::new(&orders, |order| order.number, &bills, |bill: &Bill| bill.order));
        let options = Options::default()
            .checkpoint_every(Duration::from_secs(1))
            .checkpoint_timeout(Duration::from_secs(5))
            .warn_of_slow_checkpoints(Duration::from_millis(500));
        run.options(options.continue_on_checkpoint_errors().listener(Arc::clone(&listener) as Arc<dyn Listener>));
        run.job(move |_| billing(orders.clone(), bills.clone()));
    })
    .once();
    let faults = if faults.is_empty() { Faults::None } else { Faults::Points(faults.parse().unwrap()) };
    if let Err(trouble) = test.try_run(&Simulation::new(1).with(faults)) {
        panic!("{trouble}");
    }
    heard
}

/// Whether a time is this one, and the little that a calm checkpoint takes in virtual time.
#[track_caller]
fn assert_about(time: Duration, milliseconds: u64) {
    let least = Duration::from_millis(milliseconds);
    assert!(time >= least && time < least + Duration::from_millis(10), "{time:?} instead of {milliseconds} ms");
}

#[test]
fn a_checkpoint_that_nothing_holds_up_is_quick_and_no_word_is_said_of_it() {
    let heard = run("");
    let record = heard.record(1);
    assert_about(record.duration, 0);
    assert!(record.story.starts_with("checkpoint 1 took "), "{record:?}");
    assert_eq!((record.subtasks, record.acknowledged, record.parts.len()), (4, 4, 4));
    assert_eq!((record.bytes, record.unaligned, record.failure.as_ref()), (record.written_bytes, false, None));
    assert_eq!(heard.told(1), Vec::<String>::new());
}

#[test]
fn a_writer_that_takes_long_to_prepare_is_named_with_its_call() {
    let heard = run("precommit.begins[operator=bills,subtask=1,checkpoint=2]=delay(812ms)");
    let record = heard.record(2);
    assert_about(record.duration, 812);
    assert_tells(
        &record.story,
        &["the snapshot of `", "[1]` held it up for 812 ms", "was inside a user call", "for 812 ms"],
    );
    let slowest = &record.parts[0];
    assert!(slowest.subtask.ends_with("[1]"), "{slowest:?}");
    assert_about(slowest.synchronous, 812);
    assert_about(slowest.acknowledged, 812);
    // While it hung, the same was told.
    let told = heard.told(2);
    assert_eq!(told.len(), 1, "{told:?}");
    let parts = [
        "takes long: checkpoint 2 has been under way for 500 ms",
        "1 of 4 subtasks has not acknowledged",
        "[1]` has been taking its snapshot",
        "has been inside a user call",
    ];
    assert_tells(&told[0], &parts);
}

#[test]
fn a_snapshot_that_is_written_slowly_is_told_apart_from_one_that_stands_still() {
    let heard = run("snapshot.asynchronous[subtask=0,checkpoint=2]=delay(812ms)");
    let record = heard.record(2);
    assert_about(record.duration, 812);
    assert_tells(&record.story, &["writing the snapshot of `", "took 812 ms"]);
    assert_about(record.parts[0].asynchronous, 812);
}

#[test]
fn a_barrier_that_is_stuck_behind_a_slow_subtask_is_told_as_a_channel() {
    let heard = run("barrier.arrived[operator=count,subtask=1,checkpoint=2,hit=1]=delay(812ms)");
    let record = heard.record(2);
    assert_about(record.duration, 812);
    assert_tells(&record.story, &["waited 811 ms for channel ", " of `", "[1]` (from `orders["]);
    assert_about(record.parts[0].start_delay, 812);
}

#[test]
fn a_source_that_hears_its_trigger_late_is_named() {
    let heard = run("trigger.received[operator=orders,subtask=1,checkpoint=2]=delay(812ms)");
    assert_tells(&heard.record(2).story, &["`orders[1]` took up the trigger after 812 ms"]);
    assert_tells(&heard.told(2)[0], &["`orders[1]` has not taken up the trigger for 500 ms"]);
}

#[test]
fn a_manifest_that_is_written_slowly_is_named() {
    let heard = run("manifest.write[checkpoint=2]=delay(812ms)");
    assert_tells(&heard.record(2).story, &["writing the manifest took 812 ms"]);
    assert_tells(&heard.told(2)[0], &["all have acknowledged, and its manifest has been in the making for"]);
}

#[test]
fn one_that_expires_says_whose_acknowledgement_never_came() {
    let heard = run("acknowledge.sent[operator=orders,subtask=0,checkpoint=2]=drop");
    let told = heard.told(2);
    assert_eq!(told.len(), 2, "{told:?}");
    assert_tells(&told[0], &["takes long: ", "`orders[0]` acknowledged ", "ms ago, and that has not arrived"]);
    let expired = ["aborted: the checkpoint expired before it was completed: 1 of 4 subtasks has not acknowledged"];
    assert_tells(&told[1], &expired);
    let record = heard.record(2);
    assert_about(record.duration, 5_000);
    assert_eq!(record.failure.as_deref(), Some("the checkpoint expired before it was completed"));
    assert_eq!(record.acknowledged, 3);
}

#[test]
fn one_that_is_declined_says_what_the_subtask_said() {
    let heard = run("snapshot.asynchronous[operator=count,subtask=1,checkpoint=2]=error");
    assert_tells(
        &heard.record(2).story,
        &["checkpoint 2 failed after", "[1]` said: ", "an injected error at snapshot.asynchronous"],
    );
}

#[test]
fn a_coordinator_that_panics_does_not_begin_to_count_anew() {
    let heard = run("acknowledge.received[checkpoint=3,hit=1]=panic");
    let last = heard.statistics.lock().unwrap().last().cloned().unwrap();
    assert!(last.counts.completed > 3, "{:?}", last.counts);
    assert_eq!((last.counts.failed, last.counts.in_progress), (1, 0));
    let history: Vec<u64> = last.history.iter().map(|found| found.checkpoint.0).collect();
    assert!(history.contains(&1) && history.contains(&3), "{history:?}");
    assert_tells(&heard.record(3).story, &["checkpoint 3 failed after"]);
    assert_eq!(last.counts.triggered, last.counts.completed + last.counts.failed);
}
