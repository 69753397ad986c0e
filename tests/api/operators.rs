//! What each operator without state does, on batches that cross real edges.

use alluvium::connect::{Generator, Items};
use alluvium::testing::operator::{Either, OperatorTest};
use alluvium::{Job, OperatorError, Severity, Stream};

use crate::by_hand::{Seen, run};

/// More than several batches.
const MANY: u64 = 5_000;

fn many(job: &Job, uid: &str) -> Stream<u64> {
    job.source(uid, Generator::bounded(MANY, |index| index))
}

#[test]
fn map_filter_and_flat_map_keep_the_order_inside_a_subtask() {
    let test = OperatorTest::new(|numbers: Stream<u64>| {
        numbers
            .map(|number| number * 2)
            .filter(|number| !number.is_multiple_of(3))
            .flat_map(|number| [number, number + 1])
    });
    let mut running = test.start().unwrap();
    running.push_all(0..MANY).unwrap();
    let expected: Vec<u64> = (0..MANY).map(|n| n * 2).filter(|n| n % 3 != 0).flat_map(|n| [n, n + 1]).collect();
    assert_eq!(running.take_output(), expected);
}

#[test]
fn flat_map_may_make_far_more_than_a_slice_of_one_record() {
    let mut running = OperatorTest::new(|counts: Stream<u64>| counts.flat_map(|count| 0..count)).start().unwrap();
    running.push_all([1000, 0, 2000]).unwrap();
    assert_eq!(running.take_output(), (0..1000).chain(0..2000).collect::<Vec<u64>>());
}

#[test]
fn try_map_fails_the_task_with_the_name_of_the_operator_and_its_severity() {
    for unrecoverable in [false, true] {
        let test = OperatorTest::new(move |numbers: Stream<u64>| {
            let picky = move |number| match number {
                300 if unrecoverable => Err(OperatorError::unrecoverable("number 300")),
                300 => Err("x".parse::<u64>().unwrap_err().into()),
                number => Ok(number),
            };
            numbers.try_map(picky).name("picky")
        });
        let error = test.start().unwrap().push_all(0..MANY).unwrap_err();
        let failure = error.failure().unwrap();
        assert!(failure.origin.starts_with("picky at "), "{failure}");
        assert!(failure.origin.contains("operators.rs:"), "{failure}");
        assert_eq!(failure.severity == Severity::Unrecoverable, unrecoverable);
    }
}

#[test]
fn every_consumer_of_a_stream_gets_every_record() {
    let (job, fused, edged) = (Job::new("tee"), Seen::new(), Seen::new());
    let (note, note_mapped, note_edged) = (fused.clone(), fused.clone(), edged.clone());
    let source = many(&job, "numbers");
    source.for_each("fused", move |number| note.note(number));
    source.map(|number| number + MANY).for_each("mapped", move |number| note_mapped.note(number));
    source.rebalance().for_each("edged", move |number| note_edged.note(number));
    run(&job.build().unwrap()).unwrap();
    assert_eq!(fused.sorted(), (0..2 * MANY).collect::<Vec<_>>());
    assert_eq!(edged.in_order(), (0..MANY).collect::<Vec<_>>());
}

#[test]
fn rebalance_reaches_every_subtask_about_equally() {
    let (job, seen) = (Job::new("rebalance"), Seen::new());
    let note = seen.clone();
    many(&job, "numbers")
        .rebalance()
        .map(|number| number)
        .parallelism(4)
        .for_each("seen", move |number| note.note(number))
        .parallelism(4);
    run(&job.build().unwrap()).unwrap();
    assert_eq!(seen.sorted(), (0..MANY).collect::<Vec<_>>());
    // The order is changed where subtasks take turns: a sign that more than one worked.
    assert_ne!(seen.in_order(), seen.sorted());
}

#[test]
fn a_union_holds_the_records_of_all_streams_and_of_a_stream_twice_if_asked() {
    let (job, seen) = (Job::new("union"), Seen::new());
    let note = seen.clone();
    let a = job.source("a", Items::new(vec![1_u64, 2]));
    let b = job.source("b", Items::new(vec![10_u64]));
    a.union(&[&b, &a]).for_each("seen", move |number| note.note(number));
    run(&job.build().unwrap()).unwrap();
    assert_eq!(seen.sorted(), [1, 1, 2, 2, 10]);
}

#[test]
fn connected_streams_have_a_function_for_each_side() {
    let test = OperatorTest::with_two_inputs(|numbers: Stream<u64>, texts: Stream<String>| {
        numbers
            .connect(&texts)
            .flat_map(|number| (number < 2).then_some(number), |text| vec![text.len() as u64 + 100; 3])
    });
    let mut running = test.start().unwrap();
    running.push_all((0..MANY).map(Either::Left)).unwrap();
    running.push_right("a".to_owned()).unwrap();
    running.push_left(1).unwrap();
    running.push_right("bc".to_owned()).unwrap();
    assert_eq!(running.take_output(), [0, 1, 101, 101, 101, 1, 102, 102, 102]);
}

#[test]
fn a_stream_can_cross_chains_of_any_width() {
    let (job, seen) = (Job::new("widths"), Seen::new());
    let note = seen.clone();
    let mut stream = many(&job, "numbers");
    for parallelism in [2, 3, 3, 1] {
        stream = stream.map(|number| number + 1).parallelism(parallelism);
    }
    stream.for_each("seen", move |number| note.note(number));
    run(&job.build().unwrap()).unwrap();
    assert_eq!(seen.sorted(), (4..MANY + 4).collect::<Vec<_>>());
}

#[test]
fn a_panic_is_reported_at_the_operator_that_was_at_work() {
    let test = OperatorTest::new(|numbers: Stream<u64>| {
        let small = |number: &u64| {
            assert!(*number < 1000, "too large");
            true
        };
        numbers.map(|number| number).filter(small).name("guard").map(|number| number)
    });
    let error = test.start().unwrap().push_all(0..MANY).unwrap_err();
    let failure = error.failure().unwrap();
    assert!(failure.panicked && failure.origin.starts_with("guard at "), "{failure}");
}
