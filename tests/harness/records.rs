//! The log of known records as a source: it passes the suite, its records arrive when they are due, and it knows where each barrier cut it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use alluvium::testing::JobTest;
use alluvium::testing::check::{Check, Scene, Verdict, Violation};
use alluvium::testing::conformance::check_source;
use alluvium::testing::models::Records;
use alluvium::testing::simulation::Outside;

use crate::billing::{ORDERS, Order, billing, order};

#[test]
fn the_log_passes_the_suite_for_sources() {
    let outside = Outside::detached(3);
    check_source(&mut || Records::bounded(&outside, "orders", 300, |index| index).splits(3)).unwrap();
    check_source(&mut || Records::list(&outside, "words", vec!["tea".to_owned(), "cups".to_owned()])).unwrap();
}

#[test]
fn a_log_whose_splits_appear_late_passes_the_suite_for_sources() {
    let outside = Outside::detached(3);
    check_source(&mut || {
        let records = Records::bounded(&outside, "orders", 300, |index| index).splits(3);
        records.uneven_rate(10_000).splits_appear_every(Duration::from_millis(20))
    })
    .unwrap();
}

/// Notes how many of the log lie before the newest checkpoint, each time that it looks.
struct Before {
    orders: Records<Order>,
    seen: Arc<Mutex<Vec<u64>>>,
}

impl Check for Before {
    fn rule(&self) -> &str {
        "what lies before a barrier"
    }

    fn observe(&mut self, scene: &Scene<'_>) -> Result<(), Violation> {
        let Some(newest) = scene.history.newest_complete() else { return Ok(()) };
        let count = (0..ORDERS).filter(|index| self.orders.is_before(*index, newest, scene.history)).count() as u64;
        self.seen.lock().unwrap().push(count);
        Ok(())
    }

    fn ended(&mut self, scene: &Scene<'_>) -> Result<Verdict, Violation> {
        self.observe(scene).map(|()| Verdict::Kept)
    }
}

#[test]
fn what_lies_before_the_barriers_grows_up_to_all_records_also_across_crashes() {
    let mut on_the_way = 0;
    for seed in 0..20 {
        let seen: Arc<Mutex<Vec<u64>>> = Arc::default();
        JobTest::new(|run| {
            let orders = run.records("orders", ORDERS, order).splits(3).rate(5_000);
            let bills = run.ledger("bills");
            run.check(Before { orders: orders.clone(), seen: Arc::clone(&seen) });
            run.job(move |_| billing(orders.clone(), bills.clone()));
        })
        .once()
        .run(seed);
        let seen = seen.lock().unwrap();
        assert!(seen.is_sorted(), "seed {seed}: {seen:?}");
        assert_eq!(seen.last(), Some(&ORDERS), "seed {seed}");
        on_the_way += u32::from(seen.iter().any(|count| (1..ORDERS).contains(count)));
    }
    assert!(on_the_way > 10, "{on_the_way} of 20 runs had a checkpoint on the way");
}

#[test]
fn records_arrive_at_their_time() {
    let run = |records: fn(Records<Order>) -> Records<Order>| {
        JobTest::new(move |run| {
            let (orders, bills) = (records(run.records("orders", 100, order)), run.ledger("bills"));
            run.options(alluvium::Options::default().checkpoint_every(Duration::from_secs(30)));
            run.job(move |_| billing(orders.clone(), bills.clone()));
        })
        .without_faults()
        .run(1)
        .time
    };
    assert!(run(|records| records) < Duration::from_secs(5), "all are there at once");
    assert!(run(|records| records.rate(10)) >= Duration::from_millis(9_900), "the last one comes after 9.9 s");
    assert!(
        run(|records| records.uneven_rate(10)) >= Duration::from_millis(9_500),
        "its last stretch begins after 9.6 s"
    );
    assert!(run(|records| records.arrivals(|index| Duration::from_secs(index / 50 * 600))) >= Duration::from_secs(600));
    let late = run(|records| records.splits(3).splits_appear_every(Duration::from_secs(30)));
    assert!(late >= Duration::from_secs(60), "the third split appears after 60 s: {late:?}");
}
