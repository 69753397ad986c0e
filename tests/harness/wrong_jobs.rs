//! Jobs, sinks and sources that are wrong: each is found by its checker, and the sentence names the user's records.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use alluvium::connect::sink::{Guarantee, Sink, SinkContext, SinkWriter};
use alluvium::operator::{Access, Context, KeyedProcess};
use alluvium::ports::sink::SinkScope;
use alluvium::record::batch::Slice;
use alluvium::state::Value;
use alluvium::testing::check::{
    AtLeastOnce, Check, CutConsistency, ExactlyOnce, MonotoneIds, Output, PerKeyOrder, Progress, SinkFiles,
};
use alluvium::testing::models::{FlakyService, Ledger, LedgerCommittable, LedgerCommitter, LedgerWriter, Records};
use alluvium::testing::simulation::Simulation;
use alluvium::testing::{JobTest, TestRun};
use alluvium::{BuildErrors, CheckpointId, CheckpointKind, Graph, Job, JobEvent, OperatorResult, Options, RunNumber};

use crate::billing::{Bill, ORDERS, Order, assert_tells, billing, expected, found, found_without_faults, order};
use crate::wrong_ledger::{How, Wrong};

fn orders(run: &TestRun) -> Records<Order> {
    run.records("orders", ORDERS, order).splits(3).rate(5_000)
}

// ---- exactly once ----

#[test]
fn a_sink_that_is_not_idempotent_is_found_by_exactly_once() {
    let reason = found(
        |run| {
            let orders = orders(run);
            let bills: Ledger<Bill> = Ledger::not_idempotent(run.outside(), "bills");
            run.check(ExactlyOnce::new(&orders, |order| order.number, &bills, |bill| bill.order));
            run.job(move |_| billing(orders.clone(), bills.clone()));
        },
        60,
    );
    assert_tells(
        &reason,
        &["exactly once is violated", "of `orders` took effect twice in `bills`: in checkpoint", "committed at"],
    );
}

#[test]
fn a_sink_without_transactions_is_found_by_exactly_once() {
    let reason = found(
        |run| {
            let orders = orders(run);
            let bills: Ledger<Bill> = Ledger::at_least_once(run.outside(), "bills");
            run.check(ExactlyOnce::new(&orders, |order| order.number, &bills, |bill| bill.order));
            run.job(move |_| billing(orders.clone(), bills.clone()));
        },
        20,
    );
    assert_tells(&reason, &["exactly once is violated", "took effect twice in `bills`: by writer", "(at "]);
}

#[test]
fn effects_from_nowhere_are_found_by_exactly_once() {
    let reason = found_without_faults(|run| {
        let orders = orders(run);
        let bills = run.ledger("bills");
        // The test expects only every second order.
        let even = |order: &Order| order.number.is_multiple_of(2).then_some(order.number);
        run.check(ExactlyOnce::new(&orders, even, &bills, |bill: &Bill| bill.order));
        run.job(move |_| billing(orders.clone(), bills.clone()));
    });
    assert_tells(&reason, &["1 took effect in `bills`", "no record of `orders` is called so"]);
}

// ---- at least once ----

/// The job with a wrong sink.
fn with(run: &mut TestRun, how: How) -> (Records<Order>, Ledger<Bill>) {
    let orders = orders(run);
    let bills = run.ledger("bills");
    let (source, ledger) = (orders.clone(), bills.clone());
    run.options(Options::default().inline_limit(0).checkpoint_every(Duration::from_millis(10)));
    run.job(move |_| billing(source.clone(), Wrong { ledger: ledger.clone(), how: how.clone() }));
    (orders, bills)
}

#[test]
fn a_sink_that_forgets_records_is_found_by_at_least_once() {
    let reason = found_without_faults(|run| {
        let (orders, bills) = with(run, How { forgets: true, ..How::default() });
        run.check(AtLeastOnce::new(&orders, |order| order.number, &bills, |bill| bill.order));
    });
    assert_tells(
        &reason,
        &["at least once is violated", "of `orders` never took effect in `bills`", "was the first that covered #"],
    );
}

#[test]
fn what_never_took_effect_is_found_by_exactly_once_too() {
    let reason = found_without_faults(|run| {
        let (orders, bills) = with(run, How { forgets: true, ..How::default() });
        run.check(ExactlyOnce::new(&orders, |order| order.number, &bills, |bill| bill.order));
    });
    assert_tells(&reason, &["exactly once is violated", "of `orders` never took effect in `bills`"]);
}

// ---- the cut ----

#[test]
fn a_sink_that_prepares_records_behind_its_cut_is_found_by_the_cut_consistency() {
    let reason = found_without_faults(|run| {
        let (orders, bills) = with(run, How { prepares_late: true, ..How::default() });
        run.check(CutConsistency::new(&orders, |order| order.number, &bills, |bill| bill.order));
    });
    assert_tells(
        &reason,
        &[
            "a consistent cut is violated",
            " of `orders`, lies behind the barrier of checkpoint",
            "at the source and before it at the sink: it took effect in `bills` in checkpoint",
        ],
    );
}

#[test]
fn a_record_that_lies_before_a_barrier_and_has_no_effect_is_found_by_the_cut_consistency() {
    let reason = found_without_faults(|run| {
        let (orders, bills) = with(run, How { forgets: true, ..How::default() });
        run.check(CutConsistency::new(&orders, |order| order.number, &bills, |bill| bill.order));
    });
    assert_tells(&reason, &["a consistent cut is violated", "at the source and took no effect in `bills`"]);
}

// ---- two-phase commit ----

#[test]
fn a_commit_before_the_checkpoint_is_complete_is_found() {
    let reason = found_without_faults(|run| {
        with(run, How { commits_early: true, ..How::default() });
    });
    assert_tells(
        &reason,
        &[
            "two-phase commit is violated",
            "`bills` committed the transaction of checkpoint",
            "neither that checkpoint nor a later one was complete",
            "order: ",
        ],
    );
}

#[test]
fn a_transaction_that_is_never_committed_is_found() {
    let reason = found_without_faults(|run| {
        with(run, How { never_commits: true, ..How::default() });
    });
    assert_tells(
        &reason,
        &["two-phase commit is violated", "the job is Finished", "was prepared and neither committed nor aborted"],
    );
}

#[test]
fn a_transaction_timeout_that_is_too_short_is_told_with_what_is_lost_and_the_mend() {
    let reason = found(
        |run| {
            let orders = orders(run);
            let bills = run.ledger("bills").transaction_timeout(Duration::from_millis(2));
            run.job(move |_| billing(orders.clone(), bills.clone()));
        },
        20,
    );
    assert!(
        reason.contains("within its transaction timeout")
            || reason.contains("give the outside system a longer transaction timeout"),
        "{reason}"
    );
}

// ---- order per key, output ----

/// Counts in a plain field instead of in state: no checkpoint knows of it.
#[derive(Clone, Default)]
struct CountInAField {
    counts: RefCell<BTreeMap<u64, u64>>,
}

impl KeyedProcess for CountInAField {
    type Key = u64;
    type In = Order;
    type Out = Bill;
    type State = Value<u64>;

    fn state(&self) -> Self::State {
        Value::named("unused")
    }

    fn process(&self, order: Order, _: Access<'_, Self>, mut context: Context<'_, Self>) -> OperatorResult {
        let mut counts = self.counts.borrow_mut();
        let count = counts.entry(order.customer).or_default();
        *count += 1;
        context.emit(Bill { customer: order.customer, sequence: *count, order: order.number });
        Ok(())
    }
}

fn counting_in_a_field(orders: Records<Order>, bills: Ledger<Bill>) -> Result<Graph, BuildErrors> {
    let job = Job::new("billing");
    job.source("orders", orders)
        .key_by(|order| &order.customer)
        .process("count", CountInAField::default())
        .sink("bills", bills);
    job.build()
}

#[test]
fn state_in_a_plain_field_is_found_by_the_order_per_key() {
    let reason = found(
        |run| {
            let (orders, bills) = (orders(run), run.ledger("bills"));
            run.check(PerKeyOrder::new(&bills, |bill: &Bill| bill.customer, |bill| bill.sequence).without_gaps());
            run.job(move |_| counting_in_a_field(orders.clone(), bills.clone()));
        },
        20,
    );
    assert_tells(
        &reason,
        &["order per key is violated: key ", " in `bills`: 1, in checkpoint", "came after", "an effect went back"],
    );
}

#[test]
fn a_wrong_output_is_told_record_by_record() {
    let reason = found(
        |run| {
            let (orders, bills) = (run.records("orders", ORDERS, order).splits(1).rate(5_000), run.ledger("bills"));
            run.check(Output::new(&bills, expected(ORDERS)));
            run.job(move |_| counting_in_a_field(orders.clone(), bills.clone()));
        },
        20,
    );
    assert_tells(
        &reason,
        &["the expected output is violated", "missing: {customer: ", "not expected, or not so often: {customer: "],
    );
}

#[test]
fn a_gap_in_the_positions_of_a_key_is_found() {
    let reason = found_without_faults(|run| {
        let (_, bills) = with(run, How { forgets: true, ..How::default() });
        run.check(PerKeyOrder::new(&bills, |bill| bill.customer, |bill| bill.sequence).without_gaps());
    });
    assert_tells(&reason, &["order per key is violated: key ", "effects are missing between them"]);
}

// ---- numbers ----

#[test]
fn numbers_that_go_back_and_checkpoints_that_are_lost_are_found() {
    let checkpoint = CheckpointId;
    let triggered = |id| JobEvent::Triggered { checkpoint: checkpoint(id), kind: CheckpointKind::Periodic };
    let completed = |id| JobEvent::Completed {
        checkpoint: checkpoint(id),
        kind: CheckpointKind::Periodic,
        duration: Duration::ZERO,
        bytes: 0,
    };
    let began =
        |run, restored: Option<u64>| JobEvent::RunBegan { run: RunNumber(run), restored: restored.map(checkpoint) };
    let verdict = |events: &[JobEvent]| {
        let mut ids = MonotoneIds::new();
        events.iter().for_each(|event| ids.event(event));
        ids.verdict().map_err(|violation| violation.to_string())
    };
    let right = [
        began(1, None),
        triggered(1),
        triggered(2),
        completed(1),
        completed(2),
        began(2, Some(2)),
        triggered(18),
        completed(18),
    ];
    assert_eq!(verdict(&right), Ok(()));
    let wrong = [
        (vec![began(1, None), triggered(2), triggered(2)], "checkpoint 2 was triggered after checkpoint 2"),
        (vec![began(1, None), completed(2)], "checkpoint 2 was completed and never triggered"),
        (
            vec![began(1, None), triggered(1), triggered(2), completed(2), completed(1)],
            "checkpoint 1 was completed after checkpoint 2",
        ),
        (vec![began(2, None), began(2, None)], "run 2 began after run 2"),
        (
            vec![began(1, None), triggered(1), completed(1), began(2, None)],
            "a completed checkpoint was lost: run 2 begins with no checkpoint, complete was checkpoint 1",
        ),
        (vec![began(1, None), began(2, Some(7))], "run 2 begins with checkpoint 7, which was never triggered"),
    ];
    for (events, sentence) in wrong {
        assert_eq!(verdict(&events), Err(sentence.to_owned()));
    }
    assert_eq!(MonotoneIds::new().rule(), "numbers that grow");
}

// ---- files ----

#[test]
fn a_blob_that_no_checkpoint_names_is_found() {
    let reason = found_without_faults(|run| {
        with(run, How { writes: Some("/store/blobs/mine"), ..How::default() });
    });
    assert_tells(
        &reason,
        &["no blob lost or leaked is violated: blobs that no checkpoint names are left over: /store/blobs/mine-1-"],
    );
}

#[test]
fn a_blob_that_is_lost_is_found() {
    let reason = found_without_faults(|run| {
        with(run, How { removes_blobs: true, ..How::default() });
    });
    assert_tells(
        &reason,
        &[
            "no blob lost or leaked is violated",
            "is complete and names the blob blobs/",
            "it is gone: the state in it is lost",
        ],
    );
}

#[test]
fn a_file_that_is_no_output_is_found_in_the_directory_of_a_sink() {
    let reason = found_without_faults(|run| {
        run.check(SinkFiles::new("/out", ".csv"));
        with(run, How { writes: Some("/out/bills.pending"), ..How::default() });
    });
    assert_tells(&reason, &["files of a sink is violated: files in /out that are not output: bills.pending-1-"]);
}

#[test]
fn output_of_a_checkpoint_that_is_not_complete_is_found() {
    let reason = found_without_faults(|run| {
        run.check(SinkFiles::new("/out", ""));
        with(run, How { writes: Some("/out/billing-bills-r0000000001-c00000000000000099999-s0"), ..How::default() });
    });
    assert_tells(
        &reason,
        &["files of a sink is violated: /out/billing-bills-r", "was committed before checkpoint 99999 was complete"],
    );
}

// ---- progress ----

#[test]
fn a_job_that_does_not_go_on_after_a_fault_is_found() {
    let test = JobTest::new(|run| {
        let (orders, bills) = (orders(run), run.ledger("bills"));
        run.check(Progress::within(Duration::from_secs(30)));
        run.job(move |_| billing(orders.clone(), Stuck(bills.clone())));
    });
    // Where nothing at all can happen any more, the simulation says so first.
    let reasons = (0..20).filter_map(|seed| Some(test.try_run(&Simulation::new(seed)).err()?.reason().to_owned()));
    let reasons: Vec<String> = reasons.filter(|reason| !reason.starts_with("the job hangs")).collect();
    let reason = reasons.first().expect("nothing was found wrong");
    assert_tells(reason, &["progress is violated", "no checkpoint was completed within 30s after"]);
}

/// A sink whose writer is never ready in a second run.
struct Stuck(Ledger<Bill>);

struct StuckWriter(LedgerWriter<Bill>, bool);

impl Sink<Bill> for Stuck {
    type Committable = LedgerCommittable;
    type State = ();
    type Writer = StuckWriter;
    type Committer = LedgerCommitter<Bill>;

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn writer(&self, context: SinkContext) -> OperatorResult<StuckWriter> {
        let stuck = context.run() > RunNumber(1);
        Ok(StuckWriter(Sink::<Bill>::writer(&self.0, context)?, stuck))
    }

    fn committer(&self, scope: SinkScope) -> OperatorResult<LedgerCommitter<Bill>> {
        Sink::<Bill>::committer(&self.0, scope)
    }
}

impl SinkWriter<Bill> for StuckWriter {
    type Committable = LedgerCommittable;
    type State = ();

    fn poll_ready(&mut self, context: &mut TaskContext<'_>) -> Poll<OperatorResult> {
        if self.1 {
            return Poll::Pending;
        }
        self.0.poll_ready(context)
    }

    fn write_batch(&mut self, slice: &mut Slice<Bill>) -> OperatorResult {
        self.0.write_batch(slice)
    }

    fn prepare(&mut self, checkpoint: CheckpointId) -> OperatorResult {
        self.0.prepare(checkpoint)
    }

    fn poll_prepared(
        &mut self,
        checkpoint: CheckpointId,
        context: &mut TaskContext<'_>,
    ) -> Poll<OperatorResult<Vec<LedgerCommittable>>> {
        self.0.poll_prepared(checkpoint, context)
    }

    fn snapshot(&mut self, _: CheckpointId) {}
}

// ---- a service that is asked twice ----

#[test]
fn a_request_that_is_repeated_because_its_answer_was_lost_takes_effect_twice() {
    let build = |repeats: bool| {
        move |run: &mut TestRun| {
            let orders = orders(run);
            let mut paid = std::collections::BTreeSet::new();
            // A service that knows a payment by its number, or one that does not.
            let payments: FlakyService<u64, bool> =
                run.service("payments", move |order| paid.insert(*order)).loses_answers(20);
            let bills = run.ledger("bills");
            let asked = payments.clone();
            run.check(ExactlyOnce::new(&orders, |order| order.number, &payments, |order| *order));
            run.options(Options::default().checkpoint_every(Duration::from_millis(10)));
            run.job(move |_| {
                let asked = asked.clone();
                let job = Job::new("paying");
                job.source("orders", orders.clone())
                    .map(move |order: Order| {
                        while repeats && asked.call(order.number).is_err() {}
                        Bill { customer: order.customer, sequence: 0, order: order.number }
                    })
                    .sink("bills", bills.clone());
                job.build()
            });
        }
    };
    let reason = found_without_faults(build(true));
    assert_tells(&reason, &["exactly once is violated", "of `orders` took effect twice in `payments`: once (at "]);
    let reason = found_without_faults(build(false));
    assert_tells(&reason, &["never took effect in `payments`"]);
}
