//! Records that a barrier overtook come back at other parallelisms: each to the subtask that owns it now, once, in its order, before anything new, and again and again.

use alluvium::connect::{Collect, Generator};
use alluvium::operator::{CoAccess, CoContext, KeyedCoProcess, StatefulAccess, StatefulContext, StatefulProcess};
use alluvium::state::{SplitList, Value};
use alluvium::{Graph, Job, OperatorResult, Stream};
use alluvium_actors::plan::EdgeName;
use alluvium_actors::ports::store::Manifest;
use alluvium_actors::ports::task::Failure;

use crate::by_hand::{Running, World};

const RECORDS: u64 = 30_000;
const KEYS: u64 = 23;

/// How wide the operators are: the source, a map behind it, the operator in question, the sink.
type Widths = [u32; 4];

/// A count per key, and what was counted.
type Counted = (u64, u64, u64);

fn numbers(job: &Job, widths: Widths) -> Stream<u64> {
    let numbers = job.source("numbers", Generator::bounded(RECORDS, |index| index)).parallelism(widths[0]);
    numbers.map(|number| number).parallelism(widths[1])
}

/// Counts per key, by key.
fn keyed(widths: Widths, sink: &Collect<Counted>) -> Graph {
    let job = Job::new("in flight").credits(4);
    let counted =
        numbers(&job, widths).key_by_value(|number| number % KEYS).aggregate("count", 0_u64, |key, count, number| {
            *count += 1;
            (*key, *count, number)
        });
    counted.parallelism(widths[2]).sink("counted", sink.clone()).parallelism(widths[3]);
    job.build().unwrap()
}

/// Runs to the end, and commits everything.
fn finish(running: &mut Running, checkpoint: u64) {
    running.run_to_end().unwrap();
    let manifest = running.checkpoint(checkpoint).unwrap();
    assert_eq!(manifest.in_flight().count(), 0, "all of it was processed");
    running.complete(&manifest);
}

fn in_flight(manifest: &Manifest) -> u64 {
    manifest.in_flight().map(|(_, in_flight)| in_flight.records).sum()
}

fn steps(running: &mut Running, count: usize) {
    for _ in 0..count {
        running.step().unwrap();
    }
}

/// The first id of a run: each has 16.
fn first_checkpoint(run: u64) -> u64 {
    16 * (run - 1) + 1
}

/// Runs a job at all these widths one after the other, each time to a checkpoint that overtakes, the last time to its end. Answers how many records were in flight
/// in each checkpoint.
fn play(widths: &[Widths], count: usize, graph: impl Fn(Widths) -> Graph) -> Vec<u64> {
    let mut world = World::new(2_000);
    let (mut restored, mut captured) = (None, Vec::new());
    for (number, widths) in (1..).zip(widths) {
        let mut running = world.start(&graph(*widths), restored.take()).unwrap();
        steps(&mut running, count);
        let manifest = running.overtake(first_checkpoint(number)).unwrap();
        running.complete(&manifest);
        captured.push(in_flight(&manifest));
        restored = Some(manifest);
    }
    let last = graph(widths[0]);
    let mut running = world.start(&last, restored).unwrap();
    finish(&mut running, first_checkpoint(widths.len() as u64 + 1));
    captured
}

/// Every record was counted once, and the counts of each key are 1, 2, 3, ...
fn assert_counted_once(sink: &Collect<Counted>, told: &str) {
    let mut counted = sink.collected();
    assert_eq!(counted.len() as u64, RECORDS, "{told}");
    counted.sort_by_key(|(key, count, _)| (*key, *count));
    for (key, of_key) in (0..KEYS).map(|key| (key, counted.iter().filter(move |counted| counted.0 == key))) {
        assert!(of_key.clone().map(|counted| counted.1).eq(1..=of_key.count() as u64), "{told}: key {key}");
    }
    let mut numbers: Vec<u64> = counted.iter().map(|counted| counted.2).collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..RECORDS), "{told}");
}

#[test]
fn records_of_a_keyed_edge_come_to_the_owner_of_their_key_at_every_parallelism() {
    for (one, other) in [([1, 1, 1, 1], [1, 1, 4, 4]), ([2, 2, 5, 2], [2, 2, 2, 1]), ([3, 3, 3, 3], [1, 2, 7, 3])] {
        let sink = Collect::new();
        let captured = play(&[one, other], 12, |widths| keyed(widths, &sink));
        assert!(captured.iter().all(|records| *records > 0), "{captured:?} in flight");
        assert_counted_once(&sink, &format!("{one:?} and {other:?}"));
    }
}

#[test]
fn what_is_not_processed_when_the_next_barrier_overtakes_it_moves_on_to_a_third_parallelism() {
    let sink = Collect::new();
    // So few steps that hardly anything is processed in between.
    let widths = [[2, 2, 3, 1], [1, 1, 2, 2], [3, 1, 5, 5], [2, 2, 1, 1], [4, 4, 4, 4]];
    let captured = play(&widths, 2, |widths| keyed(widths, &sink));
    assert!(captured[1..].iter().all(|records| *records > 1_000), "{captured:?} in flight");
    assert_counted_once(&sink, "again and again");
}

#[test]
fn the_records_of_a_key_and_of_a_sender_keep_their_order() {
    // One sender: the numbers of a key must be counted in their order, whatever moves.
    let sink = Collect::new();
    let widths = [[1, 1, 3, 3], [1, 1, 2, 2], [1, 1, 4, 1]];
    let captured = play(&widths, 6, |widths| keyed(widths, &sink));
    assert!(captured.iter().all(|records| *records > 0), "{captured:?} in flight");
    let mut counted = sink.collected();
    counted.sort_by_key(|(key, count, _)| (*key, *count));
    assert!(counted.is_sorted_by_key(|(key, _, number)| (*key, *number)));
}

#[test]
fn an_edge_that_becomes_part_of_a_chain_gives_what_it_had_to_the_operator_inside() {
    for widths in [[[2, 3, 3, 3], [3, 3, 3, 3]], [[2, 3, 1, 2], [2, 2, 2, 2]], [[1, 2, 4, 3], [1, 1, 1, 1]]] {
        let sink = Collect::new();
        let captured = play(&widths, 9, |widths| keyed(widths, &sink));
        assert!(captured[0] > 0, "{captured:?} in flight");
        assert_counted_once(&sink, &format!("{widths:?}"));
    }
}

#[test]
fn what_waits_inside_of_a_chain_is_captured_again_and_moves_when_the_chain_is_parted() {
    let sink = Collect::new();
    let widths = [[2, 4, 2, 3], [2, 2, 2, 2], [3, 1, 2, 1], [1, 1, 2, 2], [4, 4, 2, 2]];
    let captured = play(&widths, 1, |widths| keyed(widths, &sink));
    assert!(captured.iter().all(|records| *records > 0), "{captured:?} in flight");
    assert_counted_once(&sink, "parted and joined");
}

#[test]
fn records_that_a_function_places_are_placed_again() {
    let sink: Collect<(u64, u32)> = Collect::new();
    let graph = |widths: Widths| {
        let job = Job::new("in flight").credits(4);
        let placed = numbers(&job, widths).partition(|number, subtasks| (*number % u64::from(subtasks)) as u32);
        placed.map(|number| (number, 0)).parallelism(widths[2]).sink("placed", sink.clone()).parallelism(widths[3]);
        job.build().unwrap()
    };
    let captured = play(&[[2, 2, 3, 3], [1, 1, 5, 5], [2, 2, 2, 2], [2, 3, 1, 1]], 4, graph);
    assert!(captured.iter().all(|records| *records > 0), "{captured:?} in flight");
    let mut numbers: Vec<u64> = sink.collected().into_iter().map(|(number, _)| number).collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..RECORDS));
}

#[test]
fn shuffled_and_global_records_are_taken_by_one_subtask_each() {
    let sink = Collect::new();
    let graph = |widths: Widths| {
        let job = Job::new("in flight").credits(4);
        let shuffled = numbers(&job, widths).shuffle().map(|number| number).parallelism(widths[2]);
        let global = shuffled.global().map(|number| number).parallelism(widths[3]);
        global.rebalance().sink("sink", sink.clone()).parallelism(widths[2]);
        job.build().unwrap()
    };
    let captured = play(&[[2, 2, 3, 2], [1, 1, 5, 3], [2, 2, 1, 1], [2, 3, 2, 4]], 4, graph);
    assert!(captured.iter().all(|records| *records > 0), "{captured:?} in flight");
    let mut numbers = sink.collected();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..RECORDS));
}

#[test]
fn unions_side_outputs_and_both_sides_of_a_join_keep_apart() {
    let sink = Collect::new();
    let graph = |widths: Widths| {
        let job = Job::new("in flight").credits(4);
        let numbers = numbers(&job, widths);
        let (even, odd) = numbers.split(|number| number % 2 == 0);
        let even = even.parallelism(widths[1]);
        let both = even.union(&[&odd, &even]).key_by_value(|number| *number % KEYS);
        let marked = odd.map(|number| (number, -1_i64)).key_by_value(|(number, _)| *number % KEYS);
        let joined = both.connect(&marked).process("joined", Both);
        joined.parallelism(widths[2]).sink("sink", sink.clone()).parallelism(widths[3]);
        job.build().unwrap()
    };
    let captured = play(&[[2, 1, 3, 2], [1, 3, 5, 5], [2, 2, 1, 1], [2, 3, 2, 4]], 3, graph);
    assert!(captured.iter().all(|records| *records > 0), "{captured:?} in flight");
    let mut came: Vec<(u64, bool)> = sink.collected();
    came.sort_unstable();
    let wanted = (0..RECORDS).flat_map(|number| {
        // The even ones twice by the union, the odd ones once by each side.
        if number % 2 == 0 { [(number, false), (number, false)] } else { [(number, false), (number, true)] }
    });
    assert!(came.into_iter().eq(wanted));
}

/// Tells by which side a record came.
#[derive(Clone)]
struct Both;

impl KeyedCoProcess for Both {
    type Key = u64;
    type Left = u64;
    type Right = (u64, i64);
    type Out = (u64, bool);
    type State = Value<u64>;

    fn state(&self) -> Self::State {
        Value::named("seen")
    }

    fn process_left(&self, record: u64, _: CoAccess<'_, Self>, mut context: CoContext<'_, Self>) -> OperatorResult {
        context.emit((record, false));
        Ok(())
    }

    fn process_right(
        &self,
        (record, _): (u64, i64),
        _: CoAccess<'_, Self>,
        mut context: CoContext<'_, Self>,
    ) -> OperatorResult {
        context.emit((record, true));
        Ok(())
    }
}

/// A checkpoint with something in flight on the keyed edge.
fn captured(world: &mut World, sink: &Collect<Counted>) -> Manifest {
    let mut running = world.start(&keyed([1, 1, 2, 2], sink), None).unwrap();
    steps(&mut running, 12);
    running.overtake(1).unwrap()
}

/// What the tasks say that cannot go on.
fn refusal(world: &mut World, graph: &Graph, restored: Manifest) -> Failure {
    let mut running = match world.start(graph, Some(restored)) {
        Ok(running) => running,
        Err(failure) => return failure,
    };
    running.run_to_end().expect_err("the checkpoint does not fit")
}

#[test]
fn another_key_of_records_that_are_in_flight_is_refused_at_every_parallelism() {
    for parallelism in [2, 3] {
        let (mut world, sink) = (World::new(2_000), Collect::new());
        let manifest = captured(&mut world, &sink);
        let job = Job::new("in flight").credits(4);
        let numbers = numbers(&job, [1, 1, parallelism, parallelism]);
        // The same type of key, so that the state would take it.
        let counted =
            numbers.key_by_value(|number| (number + 1) % KEYS).aggregate("count", 0_u64, |key, count, number| {
                *count += 1;
                (*key, *count, number)
            });
        counted.parallelism(parallelism).sink("counted", sink.clone()).parallelism(parallelism);
        let failure = refusal(&mut world, &job.build().unwrap(), manifest);
        assert!(failure.message.contains("have other keys now"), "{failure}");
        assert!(failure.origin.starts_with("key_by at"), "{failure}");
    }
}

#[test]
fn another_type_of_records_that_are_in_flight_is_refused() {
    for parallelism in [2, 3] {
        let (mut world, sink) = (World::new(2_000), Collect::<(u64, u64, String)>::new());
        let manifest = captured(&mut world, &Collect::new());
        let job = Job::new("in flight").credits(4);
        let numbers = job.source("numbers", Generator::bounded(RECORDS, |index| index));
        let texts = numbers.map(|number| number.to_string());
        let counted = texts.key_by_value(|text| text.parse::<u64>().unwrap_or(0) % KEYS).aggregate(
            "count",
            0_u64,
            |key, count, text| {
                *count += 1;
                (*key, *count, text)
            },
        );
        counted.parallelism(parallelism).sink("counted", sink).parallelism(parallelism);
        let failure = refusal(&mut world, &job.build().unwrap(), manifest);
        assert!(failure.message.contains("was the record type changed?"), "{failure}");
        assert!(failure.message.contains("`map #1` to `count`"), "{failure}");
        assert_eq!(failure.origin, "count");
    }
}

#[test]
fn the_manifest_names_the_edges_by_what_they_connect() {
    let mut world = World::new(2_000);
    let manifest = captured(&mut world, &Collect::new());
    let names: Vec<&EdgeName> = manifest
        .in_flight()
        .flat_map(|(_, in_flight)| &in_flight.edges)
        .filter(|edge| edge.records > 0)
        .map(|edge| &edge.name)
        .collect();
    assert!(!names.is_empty());
    for name in names {
        assert_eq!((name.from.as_str(), name.to.as_str(), name.input), ("map #1", "count", 0));
    }
}

/// Says at the end of its data that it was there.
#[derive(Clone)]
struct Last;

impl StatefulProcess for Last {
    type In = u64;
    type Out = u64;
    type State = SplitList<u64>;

    fn state(&self) -> Self::State {
        SplitList::named("nothing")
    }

    fn process(
        &self,
        record: u64,
        _: StatefulAccess<'_, Self>,
        mut context: StatefulContext<'_, Self>,
    ) -> OperatorResult {
        context.emit(record);
        Ok(())
    }

    fn finish(&self, _: StatefulAccess<'_, Self>, mut context: StatefulContext<'_, Self>) -> OperatorResult {
        context.emit(u64::MAX);
        Ok(())
    }
}

#[test]
fn an_operator_that_had_come_to_its_end_is_not_told_of_it_again_in_a_chain_that_runs_on() {
    let graph = |parallelism: u32, sink: &Collect<u64>| {
        let job = Job::new("in flight");
        let numbers = job.source("numbers", Generator::bounded(6_000, |index| index)).parallelism(2);
        let last = numbers.stateful_process("last", Last).parallelism(2);
        last.map(|number| number)
            .credits(64)
            .parallelism(parallelism)
            .sink("sink", sink.clone())
            .parallelism(parallelism);
        job.build().unwrap()
    };
    // The moment when the readers have come to their end, and what they sent has not arrived.
    let (mut world, sink, manifest) = (1..40)
        .find_map(|count| {
            let (mut world, sink) = (World::new(2_000), Collect::new());
            let mut running = world.start(&graph(3, &sink), None).unwrap();
            steps(&mut running, count);
            let manifest = running.overtake(1).unwrap();
            running.complete(&manifest);
            let ended = manifest.subtasks.iter().filter(|subtask| subtask.finished).count();
            (ended == 2 && in_flight(&manifest) > 0).then_some((world, sink, manifest))
        })
        .expect("there is such a moment");
    let mut running = world.start(&graph(2, &sink), Some(manifest)).unwrap();
    finish(&mut running, first_checkpoint(2));
    let mut came = sink.collected();
    came.sort_unstable();
    assert!(came.into_iter().eq((0..6_000).chain([u64::MAX, u64::MAX])), "each of the two said it once");
}
