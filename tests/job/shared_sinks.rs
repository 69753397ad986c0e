//! Clones of one sink in several places, of one job and of several: none takes another's records for its own.

use std::collections::BTreeSet;
use std::sync::mpsc;

use alluvium::connect::{Collect, Deliver, Delivery, Generator};
use alluvium::{Graph, Job, Options};

const NUMBERS: u64 = 100;

/// Even numbers into one sink and odd ones into another, which are clones.
fn even_and_odd(name: &str, sink: &(impl alluvium::connect::sink::Sink<u64> + Clone)) -> Graph {
    let job = Job::new(name);
    let (even, odd) = job.source("numbers", Generator::bounded(NUMBERS, |index| index)).split(|number| number % 2 == 0);
    even.sink("even", sink.clone());
    odd.sink("odd", sink.clone());
    job.build().unwrap()
}

fn run(graph: &Graph) {
    graph.start(&Options::default()).unwrap().wait_blocking().unwrap();
}

#[test]
fn two_sinks_deliver_all_of_their_records_to_one_receiver_under_names_of_their_own() {
    let (results, arrived) = mpsc::sync_channel::<Delivery<u64>>(1_000);
    let deliver = Deliver::committed(results);
    let place = tempfile::tempdir().unwrap();
    for name in ["one", "other"] {
        let options = Options::default().store(place.path().join(name));
        even_and_odd(name, &deliver).start(&options).unwrap().wait_blocking().unwrap();
    }
    let deliveries: Vec<_> = arrived.try_iter().collect();
    let names: BTreeSet<_> = deliveries
        .iter()
        .map(|each| (&each.store, &each.job, &each.uid, each.run, each.checkpoint, each.subtask))
        .collect();
    assert_eq!(names.len(), deliveries.len(), "{deliveries:?}");
    for delivery in &deliveries {
        let even = delivery.uid.as_str() == "even";
        assert!(delivery.records.iter().all(|number| (number % 2 == 0) == even), "{delivery:?}");
    }
    for name in ["one", "other"] {
        let of_job = deliveries.iter().filter(|delivery| &*delivery.job == name);
        let mut numbers: Vec<_> = of_job.flat_map(|delivery| delivery.records.iter().copied()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..NUMBERS).collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn two_sinks_fill_one_collection() {
    let collect = Collect::new();
    let graph = even_and_odd("fills", &collect);
    // A second start without a checkpoint begins the parts of both anew.
    for _ in 0..2 {
        run(&graph);
        let mut numbers = collect.collected();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..NUMBERS).collect::<Vec<_>>());
    }
    // Another job adds to it.
    run(&even_and_odd("adds", &collect));
    assert_eq!(collect.collected().len() as u64, 2 * NUMBERS);
}
