//! A busy producer that emits little does not hold its output back for ever.

use std::sync::mpsc;
use std::time::Duration;

use alluvium::connect::Generator;
use alluvium::{Job, Options};

#[test]
fn the_one_record_that_a_filter_lets_through_a_busy_stream_arrives_without_a_barrier_behind_it() {
    let (sender, arrived) = mpsc::channel();
    let job = Job::new("selective");
    // Never idle, never at its end, and no checkpoint: nothing but the timeout pushes the record out.
    job.source("numbers", Generator::unbounded(|index| index)).filter(|number| *number == 5).rebalance().for_each(
        "seen",
        move |number: u64| {
            let _ = sender.send(number);
        },
    );
    let handle = job.build().unwrap().start(&Options::default()).unwrap();
    assert_eq!(arrived.recv_timeout(Duration::from_secs(60)), Ok(5));
    handle.cancel();
    handle.wait_blocking().unwrap();
}
