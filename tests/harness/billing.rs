//! The job of these tests: orders are counted per customer and become bills. It is a function of its ends, as a user's job is.

use alluvium::connect::sink::Sink;
use alluvium::connect::source::Source;
use alluvium::testing::simulation::{Faults, Simulation};
use alluvium::testing::{JobTest, TestRun};
use alluvium::{BuildErrors, Graph, Job};
use serde::{Deserialize, Serialize};

pub(crate) const ORDERS: u64 = 200;
pub(crate) const CUSTOMERS: u64 = 7;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) number: u64,
    pub(crate) customer: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bill {
    pub(crate) customer: u64,
    /// The how many-th of this customer.
    pub(crate) sequence: u64,
    pub(crate) order: u64,
}

pub(crate) fn order(number: u64) -> Order {
    Order { number, customer: (number ^ (number >> 3)) % CUSTOMERS }
}

pub(crate) fn billing(orders: impl Source<Record = Order>, bills: impl Sink<Bill>) -> Result<Graph, BuildErrors> {
    let job = Job::new("billing").parallelism(2);
    job.source("orders", orders)
        .key_by(|order| &order.customer)
        .aggregate("count", 0_u64, |customer, count, order| {
            *count += 1;
            Bill { customer: *customer, sequence: *count, order: order.number }
        })
        .sink("bills", bills);
    job.build()
}

/// The bills of the first `orders` orders, computed without a job.
pub(crate) fn expected(orders: u64) -> Vec<Bill> {
    let mut counts = [0; CUSTOMERS as usize];
    (0..orders)
        .map(|number| {
            let Order { customer, .. } = order(number);
            counts[customer as usize] += 1;
            Bill { customer, sequence: counts[customer as usize], order: number }
        })
        .collect()
}

/// What a test finds wrong within so many seeds.
pub(crate) fn found(build: impl Fn(&mut TestRun) + Send + Sync, seeds: u64) -> String {
    let test = JobTest::new(build);
    let trouble = (0..seeds).find_map(|seed| test.try_run(&Simulation::new(seed)).err());
    trouble.expect("nothing was found wrong").reason().to_owned()
}

/// The same where nothing goes wrong around the job.
pub(crate) fn found_without_faults(build: impl Fn(&mut TestRun) + Send + Sync) -> String {
    let test = JobTest::new(build);
    let trouble = (0..3).find_map(|seed| test.try_run(&Simulation::new(seed).with(Faults::None)).err());
    trouble.expect("nothing was found wrong").reason().to_owned()
}

/// Whether a reason contains each of these.
#[track_caller]
pub(crate) fn assert_tells(reason: &str, parts: &[&str]) {
    for part in parts {
        assert!(reason.contains(part), "`{part}` is not in: {reason}");
    }
}
