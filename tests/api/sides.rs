//! Side outputs: several typed outputs of one operator.

use alluvium::connect::Generator;
use alluvium::operator::{
    Access, CoAccess, CoContext, Context, KeyedCoProcess, KeyedProcess, ProcessContext, ProcessFunction, SideOutput,
    SideOutputs,
};
use alluvium::state::Value;
use alluvium::testing::operator::{Either, OperatorTest};
use alluvium::{BuildError, Job, OperatorResult, Severity, Stream};

use crate::by_hand::{Seen, run};

const MANY: u64 = 5_000;

const ODD: SideOutput<String> = SideOutput::named("odd");
const LARGE: SideOutput<(u64, u64)> = SideOutput::named("large");
const NOWHERE: SideOutput<u64> = SideOutput::named("nowhere");

fn many(job: &Job, uid: &str) -> Stream<u64> {
    job.source(uid, Generator::bounded(MANY, |index| index))
}

/// Even numbers go on, odd ones and large ones to side outputs.
#[derive(Clone)]
struct Sort;

impl ProcessFunction for Sort {
    type In = u64;
    type Out = u64;

    fn side_outputs(&self) -> SideOutputs {
        SideOutputs::none().with(&ODD).with(&LARGE)
    }

    fn process(&self, number: u64, mut context: ProcessContext<'_, Self>) -> OperatorResult {
        if number.is_multiple_of(2) {
            context.emit(number);
        } else {
            context.emit_to(&ODD, number.to_string())?;
        }
        if number >= 4_000 {
            // More than a slice for one record.
            for copy in 0..2 {
                context.emit_to(&LARGE, (number, copy))?;
            }
        }
        if number == 77_777 {
            context.emit_to(&NOWHERE, number)?;
        }
        Ok(())
    }
}

#[test]
fn an_operator_has_a_main_output_and_side_outputs_of_other_types() {
    for parallelism in [1, 2] {
        let (job, even, odd, large) = (Job::new("sorted"), Seen::new(), Seen::new(), Seen::new());
        let (note_even, note_odd, note_large) = (even.clone(), odd.clone(), large.clone());
        let sorted = many(&job, "numbers").process(Sort).parallelism(parallelism);
        sorted.for_each("even", move |number| note_even.note(number));
        // One side output fused, one behind an edge.
        sorted.side(&ODD).for_each("odd", move |text| note_odd.note(text)).parallelism(parallelism);
        sorted.side(&LARGE).rebalance().for_each("large", move |pair| note_large.note(pair));
        run(&job.build().unwrap()).unwrap();
        assert_eq!(even.sorted(), (0..MANY).filter(|number| number % 2 == 0).collect::<Vec<_>>());
        let mut expected: Vec<String> = (0..MANY).filter(|number| number % 2 == 1).map(|n| n.to_string()).collect();
        expected.sort();
        assert_eq!(odd.sorted(), expected);
        assert_eq!(large.sorted(), (4_000..MANY).flat_map(|n| [(n, 0), (n, 1)]).collect::<Vec<_>>());
        if parallelism == 1 {
            assert!(even.in_order().is_sorted() && large.in_order().is_sorted(), "the order inside an output changed");
        }
    }
}

#[test]
fn consumers_of_a_side_output_run_in_the_chain_of_the_operator() {
    let job = Job::new("sorted");
    let sorted = many(&job, "numbers").process(Sort);
    sorted.for_each("even", |_| {});
    sorted.side(&ODD).map(|text| text.len() as u64).for_each("odd", |_| {});
    let plan = job.build().unwrap().plan();
    let names: Vec<_> = plan.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["numbers -> process -> even -> map -> odd"]);
}

#[test]
fn a_side_output_that_nobody_reads_is_dropped_and_so_is_a_main_output() {
    let (job, odd) = (Job::new("sorted"), Seen::new());
    let note = odd.clone();
    many(&job, "numbers").process(Sort).side(&ODD).for_each("odd", move |text| note.note(text));
    run(&job.build().unwrap()).unwrap();
    assert_eq!(odd.in_order().len() as u64, MANY / 2);
    let job = Job::new("sorted");
    many(&job, "numbers").process(Sort);
    let errors = job.build().unwrap_err();
    assert!(matches!(errors.errors(), [BuildError::EndsNowhere { .. }]), "{errors}");
}

#[test]
fn every_stream_of_a_side_output_gets_every_record() {
    let (job, seen) = (Job::new("sorted"), Seen::new());
    let sorted = many(&job, "numbers").process(Sort);
    for uid in ["first", "second"] {
        let note = seen.clone();
        sorted.side(&LARGE).for_each(uid, move |pair| note.note(pair));
    }
    run(&job.build().unwrap()).unwrap();
    assert_eq!(seen.in_order().len(), 4_000);
}

#[test]
fn split_makes_two_streams_of_one() {
    let (job, small, large) = (Job::new("split"), Seen::new(), Seen::new());
    let (note_small, note_large) = (small.clone(), large.clone());
    let (fitting, others) = many(&job, "numbers").split(|number| *number < 300);
    fitting.for_each("small", move |number| note_small.note(number));
    others.map(|number| number + 1).for_each("large", move |number| note_large.note(number));
    run(&job.build().unwrap()).unwrap();
    assert!(small.in_order().into_iter().eq(0..300));
    assert!(large.in_order().into_iter().eq(301..=MANY));
}

/// Numbers the records of a key, and tells aside when a key is new.
#[derive(Clone)]
struct News;

const NEW: SideOutput<u64> = SideOutput::named("new keys");

impl KeyedProcess for News {
    type Key = u64;
    type In = u64;
    type Out = (u64, u64);
    type State = Value<u64>;

    fn state(&self) -> Value<u64> {
        Value::named("count")
    }

    fn side_outputs(&self) -> SideOutputs {
        SideOutputs::none().with(&NEW)
    }

    fn process(&self, _: u64, mut count: Access<'_, Self>, mut context: Context<'_, Self>) -> OperatorResult {
        let key = *context.key();
        let number = count.update(|count| {
            *count += 1;
            *count
        });
        if number == 1 {
            context.emit_to(&NEW, key)?;
        }
        context.emit((key, number));
        Ok(())
    }
}

#[test]
fn a_keyed_operator_has_side_outputs_and_its_state_comes_back() {
    let test =
        OperatorTest::new(|numbers: Stream<u64>| numbers.key_by_value(|number| number % 1_000).process("news", News));
    let mut running = test.parallelism(2).start().unwrap();
    running.push_all(0..1_500).unwrap();
    let (mut new, mut counted) = (running.take_side(&NEW), running.take_output());
    let mut restored = test.parallelism(2).restore(&running.snapshot().unwrap()).unwrap();
    restored.push_all(1_500..MANY).unwrap();
    new.extend(restored.take_side(&NEW));
    counted.extend(restored.take_output());
    new.sort_unstable();
    assert!(new.into_iter().eq(0..1_000), "a key was new twice, or never");
    counted.sort_unstable();
    assert!(counted.into_iter().eq((0..1_000).flat_map(|key| (1..=MANY / 1_000).map(move |number| (key, number)))));
}

/// Sends the right side on by a side output.
#[derive(Clone)]
struct Apart;

const RIGHT: SideOutput<u64> = SideOutput::named("right");

impl KeyedCoProcess for Apart {
    type Key = u64;
    type Left = u64;
    type Right = u64;
    type Out = u64;
    type State = Value<u64>;

    fn state(&self) -> Value<u64> {
        Value::named("unused")
    }

    fn side_outputs(&self) -> SideOutputs {
        SideOutputs::none().with(&RIGHT)
    }

    fn process_left(&self, record: u64, _: CoAccess<'_, Self>, mut context: CoContext<'_, Self>) -> OperatorResult {
        context.emit(record);
        Ok(())
    }

    fn process_right(&self, record: u64, _: CoAccess<'_, Self>, mut context: CoContext<'_, Self>) -> OperatorResult {
        context.emit_to(&RIGHT, record)
    }
}

#[test]
fn an_operator_with_two_inputs_has_side_outputs() {
    let test = OperatorTest::with_two_inputs(|left: Stream<u64>, right: Stream<u64>| {
        left.key_by(|number| number).connect(&right.key_by(|number| number)).process("apart", Apart)
    });
    let mut running = test.start().unwrap();
    running.push_all((0..MANY).map(Either::Left)).unwrap();
    running.push_all((MANY..2 * MANY).map(Either::Right)).unwrap();
    assert!(running.take_output().into_iter().eq(0..MANY));
    assert!(running.take_side(&RIGHT).into_iter().eq(MANY..2 * MANY));
}

#[test]
fn emitting_to_an_undeclared_side_output_fails_for_good_and_names_it() {
    let test = OperatorTest::new(|numbers: Stream<u64>| numbers.process(Sort).uid("sort"));
    let error = test.start().unwrap().push(77_777).unwrap_err();
    let failure = error.failure().unwrap();
    assert_eq!((failure.origin.as_str(), failure.severity), ("sort", Severity::Unrecoverable));
    assert!(failure.message.contains("`nowhere` of u64"), "{failure}");
    assert!(failure.message.contains("side_outputs"), "{failure}");
}

/// Declares what cannot be declared.
#[derive(Clone)]
struct Wrong;

impl ProcessFunction for Wrong {
    type In = u64;
    type Out = u64;

    fn side_outputs(&self) -> SideOutputs {
        let nameless = SideOutput::<u64>::with_name(String::new());
        SideOutputs::none().with(&NOWHERE).with(&SideOutput::<String>::named("nowhere")).with(&nameless)
    }

    fn process(&self, _: u64, _: ProcessContext<'_, Self>) -> OperatorResult {
        Ok(())
    }
}

#[test]
fn everything_wrong_with_side_outputs_is_reported_when_the_job_is_built() {
    let job = Job::new("wrong");
    let source = many(&job, "numbers");
    let sorted = source.process(Sort).uid("sort");
    sorted.side(&NOWHERE).for_each("a", |_| {});
    sorted.side(&SideOutput::<u64>::named("odd")).for_each("b", |_| {});
    source.side(&ODD).for_each("c", |_| {});
    source.union(&[&sorted]).side(&ODD).for_each("d", |_| {});
    sorted.rebalance().side(&ODD).for_each("e", |_| {});
    sorted.side(&LARGE).parallelism(3).for_each("f", |_| {});
    source.process(Wrong).uid("wrong").for_each("g", |_| {});
    let errors = job.build().unwrap_err();
    let text = errors.to_string();
    for expected in [
        "sort: the side output `nowhere` that is asked for at tests/api/sides.rs:",
        "is not declared, so nothing is ever emitted to it",
        "sort: the side output `odd` carries alloc::string::String, and u64 is asked for",
        "numbers: the side output `odd` that is asked for",
        "the side output `odd` is asked for at tests/api/sides.rs:",
        "of a union, a partitioning or another side output",
        "`parallelism` at tests/api/sides.rs:",
        "is applied to the side output `large` of sort",
        "wrong: two side outputs are called `nowhere`",
        "wrong: a side output has an empty name",
    ] {
        assert!(text.contains(expected), "`{expected}` is not in\n{text}");
    }
    assert_eq!(errors.errors().len(), 8, "{text}");
}
