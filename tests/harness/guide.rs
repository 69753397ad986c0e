//! The two wrong jobs of the guide, and the messages that its page shows: what a person reads there is what the harness says.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use alluvium::connect::sink::{CommitOutcome, Guarantee, Sink, SinkCommit, SinkContext, SinkWriter};
use alluvium::operator::{Access, Context, KeyedProcess};
use alluvium::ports::sink::SinkScope;
use alluvium::record::batch::Slice;
use alluvium::state::Value;
use alluvium::testing::check::{ExactlyOnce, PerKeyOrder};
use alluvium::testing::models::FlakyService;
use alluvium::testing::simulation::Simulation;
use alluvium::testing::{JobTest, TestRun};
use alluvium::{CheckpointId, Job, OperatorResult};
use serde::{Deserialize, Serialize};

const PAGE: &str = include_str!("../../docs/guide/testing.md");

#[derive(Clone, Serialize, Deserialize)]
struct Order {
    number: u64,
    customer: u64,
}

#[derive(Clone, Serialize, Deserialize)]
struct Bill {
    order: u64,
    customer: u64,
    /// The how many-th bill of this customer.
    sequence: u64,
}

/// Charges bills when their checkpoint is complete. Wrong: a bill that is charged again is paid again.
#[derive(Clone)]
struct Charge(FlakyService<Bill, ()>);

impl Sink<Bill> for Charge {
    type Committable = Vec<Bill>;
    type State = ();
    type Writer = ChargeWriter;
    type Committer = Charge;

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn writer(&self, _: SinkContext) -> OperatorResult<ChargeWriter> {
        Ok(ChargeWriter::default())
    }

    fn committer(&self, _: SinkScope) -> OperatorResult<Charge> {
        Ok(self.clone())
    }
}

#[derive(Default)]
struct ChargeWriter {
    written: Vec<Bill>,
    prepared: BTreeMap<CheckpointId, Vec<Bill>>,
}

impl SinkWriter<Bill> for ChargeWriter {
    type Committable = Vec<Bill>;
    type State = ();

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<OperatorResult> {
        Poll::Ready(Ok(()))
    }

    fn write_batch(&mut self, bills: &mut Slice<Bill>) -> OperatorResult {
        self.written.append(&mut bills.records);
        Ok(())
    }

    fn prepare(&mut self, checkpoint: CheckpointId) -> OperatorResult {
        self.prepared.insert(checkpoint, std::mem::take(&mut self.written));
        Ok(())
    }

    fn poll_prepared(
        &mut self,
        checkpoint: CheckpointId,
        _: &mut TaskContext<'_>,
    ) -> Poll<OperatorResult<Vec<Vec<Bill>>>> {
        Poll::Ready(Ok(self.prepared.remove(&checkpoint).into_iter().collect()))
    }

    fn snapshot(&mut self, _: CheckpointId) {}
}

impl SinkCommit for Charge {
    type Committable = Vec<Bill>;
    type State = ();

    fn open(&mut self, _: Option<Vec<()>>) -> OperatorResult {
        Ok(())
    }

    fn commit(&mut self, bills: Vec<Bill>) -> CommitOutcome {
        for bill in bills {
            if self.0.call(bill).is_err() {
                return CommitOutcome::RetryAfter(Duration::from_millis(1));
            }
        }
        CommitOutcome::Done
    }

    fn clean_up(&mut self) -> OperatorResult {
        Ok(())
    }
}

fn charging(run: &mut TestRun) {
    let orders = run.records("orders", 200, |number| Order { number, customer: number % 7 }).rate(5_000);
    let charges = run.service("charges", |_: &Bill| ());
    run.check(ExactlyOnce::new(&orders, |order| order.number, &charges, |bill| bill.order));
    run.job(move |_| {
        let job = Job::new("billing");
        job.source("orders", orders.clone())
            .map(|order| Bill { order: order.number, customer: order.customer, sequence: 0 })
            .sink("charge", Charge(charges.clone()));
        job.build()
    });
}

/// Numbers the bills of each customer. Wrong: it counts in a field, of which no checkpoint knows.
#[derive(Clone, Default)]
struct Number {
    counts: RefCell<HashMap<u64, u64>>,
}

impl KeyedProcess for Number {
    type Key = u64;
    type In = Order;
    type Out = Bill;
    type State = Value<u64>;

    fn state(&self) -> Value<u64> {
        Value::named("unused")
    }

    fn process(&self, order: Order, _: Access<'_, Self>, mut context: Context<'_, Self>) -> OperatorResult {
        let mut counts = self.counts.borrow_mut();
        let count = counts.entry(order.customer).or_default();
        *count += 1;
        context.emit(Bill { order: order.number, customer: order.customer, sequence: *count });
        Ok(())
    }
}

fn numbering(run: &mut TestRun) {
    let orders = run.records("orders", 200, |number| Order { number, customer: number % 7 }).rate(5_000);
    let bills = run.ledger("bills");
    run.check(PerKeyOrder::new(&bills, |bill: &Bill| bill.customer, |bill| bill.sequence).without_gaps());
    run.job(move |_| {
        let job = Job::new("billing");
        job.source("orders", orders.clone())
            .key_by(|order| &order.customer)
            .process("number", Number::default())
            .sink("bills", bills.clone());
        job.build()
    });
}

/// A text in which every number is a `#`: seeds and moments may change, what is said may not.
fn without_numbers(text: &str) -> String {
    let mut without = String::new();
    let mut within = false;
    for character in text.trim().chars() {
        let digit = character.is_ascii_digit() || (within && character == '.');
        if !digit {
            without.push(character);
        } else if !within {
            without.push('#');
        }
        within = digit;
    }
    without.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The text block of the page that follows this line.
fn shown(heading: &str) -> Vec<&'static str> {
    let after = PAGE.split_once(heading).unwrap_or_else(|| panic!("the page has no `{heading}`")).1;
    let block = after.split_once("```text\n").unwrap().1;
    block.split_once("\n```").unwrap().0.lines().collect()
}

/// Each line that the page shows is in the message, in this order; `...` stands for lines that are left out.
fn assert_page_shows(heading: &str, test: &JobTest<'_>) {
    let trouble =
        (0..100).find_map(|seed| test.try_run(&Simulation::new(seed)).err()).expect("nothing was found wrong");
    let message = test.message(&trouble);
    // The line that repeats a run ends with the name of this test.
    let comparable = |line: &str| without_numbers(line.split_inclusive("cargo test ").next().unwrap_or_default());
    let all: Vec<String> = message.lines().map(comparable).collect();
    let mut rest = all.as_slice();
    for line in shown(heading).into_iter().filter(|line| !["", "..."].contains(&line.trim())) {
        let at = rest.iter().position(|told| *told == comparable(line));
        let Some(at) = at else { panic!("the page shows `{line}`, which does not follow in:\n{message}") };
        rest = &rest[at + 1..];
    }
}

#[test]
fn the_page_shows_what_is_said_of_a_sink_that_is_not_idempotent() {
    assert_page_shows("### A sink that is not idempotent", &JobTest::new(charging));
}

#[test]
fn the_page_shows_what_is_said_of_state_in_a_plain_field() {
    assert_page_shows("### An operator that keeps state in a plain field", &JobTest::new(numbering));
}

#[test]
fn numbers_are_left_out_of_the_comparison_and_nothing_else() {
    assert_eq!(without_numbers("  12.300 ms  bills[1]: checkpoint 4"), "# ms bills[#]: checkpoint #");
}
