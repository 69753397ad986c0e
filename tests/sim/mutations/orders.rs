//! A job as a user would test it, with models at both ends and every checker: orders of two shops, whose splits appear while the job runs, are counted per customer and
//! billed twice, in a transactional system and in files.
//!
//! ```text
//! web ---+-- union -- in turns -- priced -- by customer -- count --+-- bills
//! shop --+                                                        +-- lines -- files
//! ```

use std::time::Duration;

use alluvium::connect::Lines;
use alluvium::testing::check::{CutConsistency, ExactlyOnce, FileLines, MonotoneIds, PerKeyOrder, Progress, SinkFiles};
use alluvium::testing::{JobTest, TestProcess};
use alluvium::{Job, Options, RestartStrategy};
use serde::{Deserialize, Serialize};

use crate::chance::local_copies;
use crate::slow::Slow;

const WEB: u64 = 240;
const SHOP: u64 = 40;
const CUSTOMERS: u64 = 7;

const FILES: &str = "/out";

/// What a slow sink waits after each slice.
const PAUSE: Duration = Duration::from_micros(1_500);

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Order {
    number: u64,
    customer: u64,
}

fn order(number: u64) -> Order {
    Order { number, customer: (number ^ (number >> 3)) % CUSTOMERS }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Bill {
    customer: u64,
    /// The how many-th of the customer.
    sequence: u64,
    order: u64,
}

fn parse(line: &str) -> Result<Bill, String> {
    let numbers: Vec<u64> = line.split(',').filter_map(|field| field.parse().ok()).collect();
    let [customer, sequence, order] = numbers[..] else { return Err("it is no bill".to_owned()) };
    Ok(Bill { customer, sequence, order })
}

/// How the job is run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    /// With options by chance.
    Usual,
    /// The first processes are also stopped or cancelled by chance.
    Stopped,
    /// With barriers that overtake, from the beginning or after a while, and a second exchange by key behind the count, in front of a sink that takes its time.
    Overtaking,
    /// For seconds, with few checkpoints, many of which expire: what is forgotten piles up, and ids beyond those of a run record are used.
    Slow,
    /// As [`Kind::Stopped`], and each process runs the job at another parallelism.
    Rescaled,
    /// As [`Kind::Overtaking`], and each process runs the job at other parallelisms: what is in flight moves, edges become parts of chains, and the other way round.
    OvertakingRescaled,
}

impl Kind {
    fn overtakes(self) -> bool {
        matches!(self, Kind::Overtaking | Kind::OvertakingRescaled)
    }
}

fn slow_options(process: &mut TestProcess<'_, '_>) -> Options {
    Options::default()
        .inline_limit(1)
        .checkpoint_every(Duration::from_millis(100))
        .checkpoint_timeout(Duration::from_millis([10, 12, 20][process.random() as usize % 3]))
        .continue_on_checkpoint_errors()
        .restart(RestartStrategy::FixedDelay { attempts: 100, delay: Duration::from_millis(3) })
}

fn options(process: &mut TestProcess<'_, '_>) -> Options {
    let drawn = process.random() as usize;
    let mut any = |of: &[u64]| of[process.random() as usize % of.len()];
    let options = Options::default()
        .inline_limit([1, 64, 20_000][drawn % 3])
        .incremental(drawn / 3 % 2 == 1)
        .checkpoint_every(Duration::from_millis(any(&[10, 10, 25])))
        .checkpoint_timeout(Duration::from_millis(any(&[15, 60, 10_000])))
        .retained_checkpoints(any(&[1, 2, 3]) as usize)
        .maximum_concurrent_checkpoints(any(&[1, 2, 3]) as usize)
        .restart(RestartStrategy::FixedDelay { attempts: 100, delay: Duration::from_millis(3) });
    let options = local_copies(options, drawn / 6);
    if any(&[0, 1]) == 0 { options.continue_on_checkpoint_errors() } else { options.tolerable_checkpoint_failures(1) }
}

fn overtaking_options(process: &mut TestProcess<'_, '_>) -> Options {
    let after = Duration::from_micros([0, 0, 100, 2_000][process.random() as usize % 4]);
    // Everything of up to twenty subtasks is written one after the other, and what is in flight besides.
    let timeout = Duration::from_millis([60, 200, 10_000][process.random() as usize % 3]);
    let options = options(process).maximum_concurrent_checkpoints(1).checkpoint_timeout(timeout);
    options.unaligned().aligned_checkpoint_timeout(after)
}

/// The test.
pub(crate) fn billing(kind: Kind) -> JobTest<'static> {
    JobTest::new(move |run| {
        let slower = if kind == Kind::Slow { 80 } else { 1 };
        let web = run.records("web", WEB, order).splits(4).uneven_rate(8_000 / slower);
        let web = web.splits_appear_every(Duration::from_millis(6));
        let shop = run.records("shop", SHOP, |index| order(10_000 + index)).splits(2).rate(1_000 / slower);
        let bills = run.ledger("bills").latency(Duration::from_millis(2)).puts_off_commits(6, Duration::from_millis(4));
        let files = FileLines::new(FILES, ".csv", parse);
        let number = |order: &Order| order.number;
        run.check(ExactlyOnce::new(&web, number, &bills, |bill: &Bill| bill.order).and_from(&shop, number));
        run.check(ExactlyOnce::new(&web, number, &files, |bill| bill.order).and_from(&shop, number));
        let cut = CutConsistency::new(&web, number, &bills, |bill: &Bill| bill.order).and_from(&shop, number);
        // What is in flight takes its effect in a later checkpoint.
        run.check(if kind.overtakes() { cut.effects_may_lag() } else { cut });
        run.check(PerKeyOrder::new(&bills, |bill| bill.customer, |bill| bill.sequence).without_gaps());
        run.check(SinkFiles::new(FILES, ".csv"));
        run.check(MonotoneIds::new());
        run.check(Progress::within(Duration::from_secs(30)));
        run.job(move |process| {
            let chosen = match kind {
                Kind::Usual | Kind::Stopped | Kind::Rescaled => options(process),
                Kind::Overtaking | Kind::OvertakingRescaled => overtaking_options(process),
                Kind::Slow => slow_options(process),
            };
            process.options(chosen);
            if matches!(kind, Kind::Stopped | Kind::Rescaled | Kind::OvertakingRescaled) && process.number() <= 5 {
                let after = Duration::from_micros(process.random() % 40_000);
                match process.random() % 4 {
                    0 => process.cancel_after(after),
                    1 | 2 => process.stop_after(after),
                    _ => {}
                }
            }
            let moves = matches!(kind, Kind::Rescaled | Kind::OvertakingRescaled);
            let parallelism = if moves { process.parallelism(1..=4) } else { 2 };
            // Where these are the same an edge is part of a chain.
            let [again_width, lines_width, files_width] = if kind == Kind::OvertakingRescaled {
                [(); 3].map(|()| process.parallelism(1..=3))
            } else {
                [parallelism; 3]
            };
            let job = Job::new("orders").parallelism(parallelism).credits(2);
            let orders = job.source("web", web.clone()).union(&[&job.source("shop", shop.clone())]);
            let counted = orders.rebalance().map(|order| order).key_by(|order| &order.customer).aggregate(
                "count",
                0_u64,
                |customer, count, order| {
                    *count += 1;
                    Bill { customer: *customer, sequence: *count, order: order.number }
                },
            );
            if kind.overtakes() {
                let again = counted.key_by(|bill| &bill.customer).aggregate("again", 0_u64, |_, seen, bill| {
                    *seen += 1;
                    bill
                });
                // As wide as what is in front of it: the bills of a customer keep their order.
                let slow = Slow::new(bills.clone(), PAUSE);
                again.parallelism(again_width).sink("bills", slow).parallelism(again_width);
            } else {
                counted.sink("bills", bills.clone());
            }
            let lines = counted.map(|bill| format!("{},{},{}", bill.customer, bill.sequence, bill.order));
            let lines = lines.parallelism(lines_width);
            let directory = Lines::exactly_once(FILES).suffix(".csv");
            let end = if kind.overtakes() {
                lines.sink("files", Slow::new(directory, PAUSE))
            } else {
                lines.sink("files", directory)
            };
            end.parallelism(files_width);
            job.build()
        });
    })
    .once()
}

/// The smallest job, for long: of its many checkpoints one is under way, was aborted, or is being deleted at every crash, and they need more ids than a run record has.
pub(super) fn counting() -> JobTest<'static> {
    JobTest::new(|run| {
        let numbers = run.records("numbers", 100, |index| index).splits(1).rate(200);
        let counted = run.ledger("counted");
        run.check(ExactlyOnce::new(&numbers, |number| *number, &counted, |number: &u64| *number));
        run.check(MonotoneIds::new());
        run.job(move |process| {
            let timeout = Duration::from_millis([10, 15, 1_000][process.random() as usize % 3]);
            process.options(
                Options::default()
                    .inline_limit(1)
                    .checkpoint_every(Duration::from_millis(10))
                    .checkpoint_timeout(timeout)
                    .continue_on_checkpoint_errors()
                    .restart(RestartStrategy::FixedDelay { attempts: 100, delay: Duration::from_millis(3) }),
            );
            let job = Job::new("counting").parallelism(1);
            job.source("numbers", numbers.clone()).sink("counted", counted.clone());
            job.build()
        });
    })
    .once()
}
