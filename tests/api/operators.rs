//! What each operator without state does, on batches that cross real edges.

use alluvium::connect::{Generator, Items};
use alluvium::{Job, OperatorError, Stream};

use crate::by_hand::{Seen, World, run};

/// More than several batches.
const MANY: u64 = 5_000;

fn many(job: &Job, uid: &str) -> Stream<u64> {
    job.source(uid, Generator::bounded(MANY, |index| index))
}

#[test]
fn map_filter_and_flat_map_keep_the_order_inside_a_subtask() {
    let (job, seen) = (Job::new("inside"), Seen::new());
    let note = seen.clone();
    many(&job, "numbers")
        .map(|number| number * 2)
        .filter(|number| !number.is_multiple_of(3))
        .flat_map(|number| [number, number + 1])
        .for_each("seen", move |number| note.note(number));
    run(&job.build().unwrap()).unwrap();
    let expected: Vec<u64> = (0..MANY).map(|n| n * 2).filter(|n| n % 3 != 0).flat_map(|n| [n, n + 1]).collect();
    assert_eq!(seen.in_order(), expected);
}

#[test]
fn flat_map_may_make_far_more_than_a_slice_of_one_record() {
    let (job, seen) = (Job::new("much"), Seen::new());
    let note = seen.clone();
    job.source("few", Items::new(vec![1000_u64, 0, 2000]))
        .flat_map(|count| 0..count)
        .rebalance()
        .for_each("seen", move |number| note.note(number));
    run(&job.build().unwrap()).unwrap();
    assert_eq!(seen.in_order(), (0..1000).chain(0..2000).collect::<Vec<u64>>());
}

#[test]
fn try_map_fails_the_task_with_the_name_of_the_operator_and_its_severity() {
    for unrecoverable in [false, true] {
        let job = Job::new("failing");
        many(&job, "numbers")
            .try_map(move |number| match number {
                300 if unrecoverable => Err(OperatorError::unrecoverable("number 300")),
                300 => Err("x".parse::<u64>().unwrap_err().into()),
                number => Ok(number),
            })
            .name("picky")
            .for_each("seen", |_| {});
        let failure = run(&job.build().unwrap()).unwrap_err();
        assert!(failure.origin.starts_with("picky at "), "{failure}");
        assert!(failure.origin.contains("operators.rs:"), "{failure}");
        assert_eq!(failure.severity == alluvium_actors::ports::task::Severity::Unrecoverable, unrecoverable);
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
        .map(|number| {
            // Subtasks run in turn on one thread here, so the index is known by the clone that runs.
            number
        })
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
    let (job, mapped, flat) = (Job::new("connect"), Seen::new(), Seen::new());
    let (note, note_flat) = (mapped.clone(), flat.clone());
    let numbers = many(&job, "numbers");
    let texts = job.source("texts", Items::new(vec!["a".to_owned(), "b".to_owned()]));
    let connected = numbers.connect(&texts);
    connected.map(|number| number.to_string(), |text| text).for_each("mapped", move |text| note.note(text));
    connected
        .flat_map(|number| (number < 2).then_some(number), |text| vec![text.len() as u64 + 100; 3])
        .for_each("flat", move |number| note_flat.note(number));
    run(&job.build().unwrap()).unwrap();
    assert_eq!(mapped.in_order().len() as u64, MANY + 2);
    assert!(mapped.in_order().contains(&"b".to_owned()));
    assert_eq!(flat.sorted(), [0, 1, 101, 101, 101, 101, 101, 101]);
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
fn the_task_knows_which_operator_was_at_work_when_it_panicked() {
    let job = Job::new("panic");
    many(&job, "numbers")
        .map(|number| number)
        .filter(|number| {
            assert!(*number < 1000, "too large");
            true
        })
        .name("guard")
        .map(|number| number)
        .for_each("seen", |_| {});
    let mut world = World::new(1024);
    let mut running = world.start(&job.build().unwrap(), None).unwrap();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| running.run_to_end()));
    assert!(panicked.is_err());
    assert!(running.current_operator(0).starts_with("guard at "), "{}", running.current_operator(0));
}
