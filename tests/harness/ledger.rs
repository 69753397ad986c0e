//! The ledger as an outside system: it passes the suite for sinks, and aborts by itself what is not committed in time.

use std::time::Duration;

use alluvium::connect::sink::{CommitOutcome, Guarantee, Sink, SinkCommit, SinkWriter};
use alluvium::ids::Moment;
use alluvium::record::batch::Slice;
use alluvium::testing::conformance::{SinkUnderTest, check_sink};
use alluvium::testing::disk::SimulatedDisk;
use alluvium::testing::host::{ManualHost, Site};
use alluvium::testing::models::{AbortedBy, Ledger, LedgerEvent};
use alluvium::testing::simulation::Outside;
use alluvium::{CheckpointId, OperatorError};

/// A ledger for the suite, made anew for each scene.
struct UnderTest {
    make: fn(&Outside, &str) -> Ledger<String>,
    ledger: Ledger<String>,
}

impl UnderTest {
    fn of(make: fn(&Outside, &str) -> Ledger<String>) -> UnderTest {
        UnderTest { make, ledger: make(&Outside::detached(1), "ledger") }
    }
}

impl SinkUnderTest<String> for UnderTest {
    type Sink = Ledger<String>;

    fn fresh(&mut self) {
        self.ledger = (self.make)(&Outside::detached(1), "ledger");
    }

    fn sink(&mut self) -> Ledger<String> {
        self.ledger.clone()
    }

    fn record(&self, number: u64) -> String {
        format!("record {number}")
    }

    fn committed(&mut self) -> Vec<String> {
        self.ledger.committed()
    }
}

#[test]
fn the_ledger_passes_the_suite_for_sinks() {
    check_sink(&mut UnderTest::of(Ledger::new)).unwrap();
}

#[test]
fn the_wrong_ledger_does_not_pass_it() {
    let found =
        check_sink(&mut UnderTest::of(Ledger::not_idempotent)).expect_err("a repeated commit takes effect again");
    assert!(found.tells("A commit that is repeated"), "{found}");
}

/// Prepares one transaction by hand.
fn prepare(
    ledger: &Ledger<u64>,
) -> (
    impl SinkCommit<Committable = <Ledger<u64> as Sink<u64>>::Committable> + use<>,
    <Ledger<u64> as Sink<u64>>::Committable,
) {
    let site = Site::new("bills", std::sync::Arc::new(SimulatedDisk::new()));
    let host = ManualHost::new(1);
    let committer = Sink::<u64>::committer(ledger, site.sink_scope()).unwrap();
    let mut writer = Sink::<u64>::writer(ledger, site.sink_context(&host, 0)).unwrap();
    let mut slice = Slice::new();
    slice.records.extend([17, 18]);
    writer.write_batch(&mut slice).unwrap();
    writer.prepare(CheckpointId(4)).unwrap();
    let committables = host.drive(|context| writer.poll_prepared(CheckpointId(4), context)).unwrap();
    (committer, committables[0].clone())
}

#[test]
fn a_transaction_that_is_not_committed_in_time_is_aborted_and_its_commit_is_fatal() {
    let outside = Outside::detached(1);
    let ledger = Ledger::new(&outside, "bills").transaction_timeout(Duration::from_secs(60));
    let (mut committer, committable) = prepare(&ledger);
    assert_eq!(ledger.open_transactions().len(), 1);
    outside.set_now(Moment(59_999_999_999));
    assert_eq!(ledger.open_transactions().len(), 1, "before its time");
    outside.set_now(Moment(70_000_000_000));
    let answer = committer.commit(committable);
    let CommitOutcome::Fatal(error) = answer else { panic!("{answer:?}") };
    let error: OperatorError = error;
    assert!(!error.is_retryable());
    assert_eq!(
        error.to_string(),
        "`bills` aborted the transaction of checkpoint 4 of bills[0] by itself, because it was not committed within 60s after it was prepared: its 2 records are \
         lost; give the outside system a longer transaction timeout, longer than the longest time without the job"
    );
    let entries = ledger.entries_from(0);
    let events: Vec<LedgerEvent> = entries.iter().map(|entry| entry.event).collect();
    assert_eq!(events, [LedgerEvent::Prepared, LedgerEvent::Aborted(AbortedBy::Timeout), LedgerEvent::Refused]);
    assert_eq!(entries[1].at, Moment(60_000_000_000), "at its own time, not when somebody looked");
    assert!(ledger.committed().is_empty());
}

#[test]
fn a_transaction_that_is_committed_in_time_stays_committed() {
    let outside = Outside::detached(1);
    let ledger = Ledger::new(&outside, "bills").transaction_timeout(Duration::from_secs(60));
    let (mut committer, committable) = prepare(&ledger);
    outside.set_now(Moment(59_000_000_000));
    assert_eq!(committer.commit(committable.clone()), CommitOutcome::Done);
    outside.set_now(Moment(3_600_000_000_000));
    assert_eq!(committer.commit(committable), CommitOutcome::AlreadyDone);
    assert_eq!(ledger.committed(), [17, 18]);
}

#[test]
fn a_ledger_says_what_it_promises() {
    let outside = Outside::detached(1);
    assert_eq!(Sink::<u64>::guarantee(&Ledger::<u64>::new(&outside, "a")), Guarantee::ExactlyOnce);
    assert_eq!(Sink::<u64>::guarantee(&Ledger::<u64>::at_least_once(&outside, "a")), Guarantee::AtLeastOnce);
}
