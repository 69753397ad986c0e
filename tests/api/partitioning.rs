//! Which subtask of the consumer gets a record: broadcast, a partitioner of the user's own, global, shuffle.

use std::collections::{BTreeMap, BTreeSet};

use alluvium::connect::Generator;
use alluvium::operator::{ProcessContext, ProcessFunction};
use alluvium::testing::operator::OperatorTest;
use alluvium::{Job, OperatorResult, Severity, Stream};
use alluvium_actors::plan::Pattern;

use crate::by_hand::{Seen, run};

/// More than several batches.
const MANY: u64 = 5_000;

fn many(job: &Job) -> Stream<u64> {
    job.source("numbers", Generator::bounded(MANY, |index| index))
}

/// Tells which subtask got a record.
#[derive(Clone)]
struct Where;

impl ProcessFunction for Where {
    type In = u64;
    type Out = (u32, u64);

    fn process(&self, record: u64, mut context: ProcessContext<'_, Self>) -> OperatorResult {
        let subtask = context.subtask();
        assert!(subtask < context.parallelism());
        context.emit((subtask, record));
        Ok(())
    }
}

/// What each subtask of a consumer of that parallelism got, in its order.
fn by_subtask(stream: &Stream<u64>, job: &Job, parallelism: u32) -> BTreeMap<u32, Vec<u64>> {
    let seen = Seen::new();
    let note = seen.clone();
    stream.process(Where).parallelism(parallelism).for_each("seen", move |record| note.note(record));
    run(&job.build().unwrap()).unwrap();
    let mut found: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for (subtask, record) in seen.in_order() {
        found.entry(subtask).or_default().push(record);
    }
    found
}

#[test]
fn broadcast_gives_every_record_to_every_subtask_in_order() {
    for parallelism in [1, 2, 5] {
        let job = Job::new("broadcast");
        let found = by_subtask(&many(&job).broadcast(), &job, parallelism);
        assert_eq!(found.len() as u32, parallelism);
        for records in found.values() {
            assert!(records.iter().copied().eq(0..MANY), "parallelism {parallelism}");
        }
    }
}

#[test]
fn a_broadcast_of_several_producers_reaches_every_subtask_from_each() {
    let job = Job::new("broadcast").parallelism(3);
    let found =
        by_subtask(&job.source("numbers", Generator::bounded(MANY, |index| index).splits(3)).broadcast(), &job, 2);
    for mut records in found.into_values() {
        records.sort_unstable();
        assert!(records.into_iter().eq(0..MANY));
    }
}

#[test]
fn a_partitioner_decides_for_each_record_and_the_order_inside_a_subtask_stays() {
    let job = Job::new("partition");
    let found = by_subtask(&many(&job).partition(|number, subtasks| (*number % u64::from(subtasks)) as u32), &job, 4);
    assert_eq!(found.len(), 4);
    for (subtask, records) in found {
        assert!(records.into_iter().eq((0..MANY).filter(|number| number % 4 == u64::from(subtask))));
    }
}

#[test]
fn an_answer_out_of_range_fails_for_good_and_names_partitioner_consumer_and_range() {
    for parallelism in [1, 3] {
        let job = Job::new("partition");
        many(&job)
            .partition(|number, subtasks| if *number == 4_000 { subtasks } else { 0 })
            .map(|number| number)
            .name("behind")
            .parallelism(parallelism)
            .for_each("seen", |_| {});
        let failure = run(&job.build().unwrap()).unwrap_err();
        assert!(
            failure.origin.starts_with("partition at ") && failure.origin.contains("partitioning.rs:"),
            "{failure}"
        );
        assert_eq!(failure.severity, Severity::Unrecoverable);
        let range = format!("answered {parallelism}, but `behind at tests/api/partitioning.rs:");
        assert!(failure.message.contains(&range), "{failure}");
        assert!(
            failure.message.contains(&format!("has {parallelism} subtasks, 0 to {};", parallelism - 1)),
            "{failure}"
        );
    }
}

#[test]
fn a_panic_of_a_partitioner_is_reported_at_the_partitioner() {
    let test = OperatorTest::new(|numbers: Stream<u64>| {
        numbers.partition(|number, _| if *number == 300 { panic!("300") } else { 0 }).process(Where)
    });
    let error = test.start().unwrap().push_all(0..MANY).unwrap_err();
    let failure = error.failure().unwrap();
    assert!(failure.panicked && failure.origin.starts_with("partition at "), "{failure}");
}

#[test]
fn global_sends_everything_to_the_first_subtask() {
    let job = Job::new("global");
    let found = by_subtask(&many(&job).global(), &job, 3);
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), [0]);
    assert!(found[&0].iter().copied().eq(0..MANY));
}

#[test]
fn shuffle_loses_nothing_and_draws_from_the_host() {
    let test = OperatorTest::new(|numbers: Stream<u64>| numbers.shuffle().process(Where)).parallelism(3);
    let shuffled = |seed| {
        let mut running = test.seed(seed).start().unwrap();
        running.push_all(0..MANY).unwrap();
        let mut output = running.take_output();
        output.sort_unstable_by_key(|(_, record)| *record);
        assert!(output.iter().map(|(_, record)| *record).eq(0..MANY), "seed {seed}");
        output
    };
    assert_eq!(shuffled(1), shuffled(1), "the host's random numbers decide everything");
    assert_ne!(shuffled(1), shuffled(2));
    let subtasks: BTreeSet<u32> = shuffled(1).into_iter().map(|(subtask, _)| subtask).collect();
    assert_eq!(subtasks.len(), 3);
}

#[test]
fn each_of_them_cuts_the_chain_and_joins_all_subtasks() {
    let job = Job::new("patterns").parallelism(2);
    let source = many(&job);
    source.broadcast().for_each("a", |_| {});
    source.partition(|_, _| 0).for_each("b", |_| {});
    source.global().for_each("c", |_| {});
    source.shuffle().for_each("d", |_| {});
    let plan = job.build().unwrap().plan();
    assert_eq!(plan.nodes.len(), 5);
    assert!(plan.edges.iter().all(|edge| edge.pattern == Pattern::AllToAll));
    assert_eq!(plan.edges.iter().map(|edge| edge.output).collect::<Vec<_>>(), [0, 1, 2, 3]);
}

#[test]
fn one_stream_can_be_broadcast_and_keyed_and_read_as_it_is_at_once() {
    let (job, all, sums, plain) = (Job::new("several"), Seen::new(), Seen::new(), Seen::new());
    let (note_all, note_sums, note_plain) = (all.clone(), sums.clone(), plain.clone());
    let source = many(&job);
    source.broadcast().map(|number| number).parallelism(2).for_each("all", move |number| note_all.note(number));
    source
        .key_by_value(|number| number % 3)
        .reduce("sums", |a, b| a + b)
        .for_each("sums seen", move |number| note_sums.note(number));
    source.for_each("plain", move |number| note_plain.note(number));
    run(&job.build().unwrap()).unwrap();
    assert_eq!(all.sorted(), (0..MANY).flat_map(|number| [number, number]).collect::<Vec<_>>());
    assert_eq!(sums.sorted().last(), (0..3).map(|rest| (0..MANY).filter(|n| n % 3 == rest).sum()).max().as_ref());
    assert!(plain.in_order().into_iter().eq(0..MANY));
}
