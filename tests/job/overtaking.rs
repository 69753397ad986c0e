//! Jobs whose barriers overtake, and what they need of their records.

use std::time::Duration;

use alluvium::connect::Generator;
use alluvium::{Job, JobError, Options};
use serde::{Deserialize, Serialize};

/// Writes a number, and reads a text.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct OneWay {
    #[serde(deserialize_with = "text")]
    number: u64,
}

fn text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

#[test]
fn records_that_do_not_read_what_they_write_fail_the_job_before_a_checkpoint_holds_them() {
    let place = tempfile::tempdir().unwrap();
    let job = Job::new("one way").parallelism(2);
    // Without an end and faster than it is used up: there is always something to overtake.
    let numbers = job.source("numbers", Generator::unbounded(|number| OneWay { number }).splits(2));
    numbers.rebalance().map(|record| record.number).for_each("slow", |_| std::thread::sleep(Duration::from_micros(50)));
    let options = Options::default().store(place.path()).checkpoint_every(Duration::from_millis(10)).unaligned();
    let handle = job.build().unwrap().start(&options).unwrap();
    let JobError::Failed(failure) = handle.wait_blocking().unwrap_err() else { panic!("it did not fail") };
    for part in ["read what they write", "OneWay", "`Serialize`"] {
        assert!(failure.message.contains(part), "{part}: {}", failure.message);
    }
}
