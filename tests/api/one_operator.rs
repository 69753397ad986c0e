//! One operator by hand: what is pushed, emitted, kept, restored at another parallelism, and said when something goes wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use alluvium::operator::{
    Access, CoAccess, CoContext, Context, KeyedCoProcess, KeyedProcess, ProcessContext, ProcessFunction, SideOutput,
    SideOutputs,
};
use alluvium::record::{hash_key, key_group, subtask_of};
use alluvium::state::{AggregateFunction, Aggregating, List, Map, ReduceFunction, Reducing, Value};
use alluvium::testing::operator::{Either, OperatorTest, OperatorTestError, Snapshot};
use alluvium::{OperatorError, OperatorResult, Severity, Stream};

const ODD: SideOutput<String> = SideOutput::named("odd");

/// Even numbers go on, odd ones aside.
#[derive(Clone)]
struct Sort;

impl ProcessFunction for Sort {
    type In = u64;
    type Out = u64;

    fn side_outputs(&self) -> SideOutputs {
        SideOutputs::none().with(&ODD)
    }

    fn process(&self, number: u64, mut context: ProcessContext<'_, Self>) -> OperatorResult {
        if number.is_multiple_of(2) {
            context.emit(number);
        } else {
            context.emit_to(&ODD, number.to_string())?;
        }
        Ok(())
    }
}

struct Sum;

impl ReduceFunction for Sum {
    type Value = u64;

    fn reduce(stored: u64, added: u64) -> u64 {
        stored + added
    }
}

struct Mean;

impl AggregateFunction for Mean {
    type In = u64;
    type Accumulator = (u64, u64);
    type Out = u64;

    fn create() -> (u64, u64) {
        (0, 0)
    }

    fn add((count, sum): &mut (u64, u64), added: u64) {
        *count += 1;
        *sum += added;
    }

    fn result((count, sum): &(u64, u64)) -> u64 {
        sum / count
    }
}

/// Every kind of state in one row. Forgets a key at zero, fails at 666 and panics at 777.
#[derive(Clone)]
struct Everything;

type States = (Value<u64>, List<u64>, Map<u64, String>, Reducing<Sum>, Aggregating<Mean>);

impl KeyedProcess for Everything {
    type Key = String;
    type In = (String, u64);
    type Out = (String, u64);
    type State = States;

    fn state(&self) -> States {
        (
            Value::named("count"),
            List::named("numbers"),
            Map::named("by remainder"),
            Reducing::named("sum"),
            Aggregating::named("mean"),
        )
    }

    fn process(
        &self,
        (_, number): (String, u64),
        (mut count, mut numbers, mut remainders, mut sum, mut mean): Access<'_, Self>,
        mut context: Context<'_, Self>,
    ) -> OperatorResult {
        match number {
            0 => {
                count.clear();
                numbers.clear();
                remainders.clear();
                sum.clear();
                mean.clear();
                return Ok(());
            }
            666 => return Err(OperatorError::unrecoverable("the number of the beast")),
            777 => panic!("no luck with {number}"),
            _ => {}
        }
        count.update(|count| *count += 1);
        numbers.push(number);
        remainders.insert(number % 3, number.to_string());
        sum.add(number);
        mean.add(number);
        let told = (context.key().clone(), count.get().copied().unwrap_or_default());
        context.emit(told);
        Ok(())
    }
}

fn everything() -> OperatorTest<(String, u64), (String, u64)> {
    OperatorTest::new(|pairs: Stream<(String, u64)>| pairs.key_by(|pair| &pair.0).process("everything", Everything))
}

fn pair(key: &str, number: u64) -> (String, u64) {
    (key.to_owned(), number)
}

#[test]
fn operators_without_state_answer_each_record() {
    let mut running = OperatorTest::new(|numbers: Stream<u64>| numbers.map(|number| number + 1)).start().unwrap();
    running.push(1).unwrap();
    assert_eq!(running.output(), [2]);
    running.push_all([2, 3]).unwrap();
    assert_eq!(running.take_output(), [2, 3, 4]);
    assert!(running.output().is_empty());

    let mut running = OperatorTest::new(|numbers: Stream<u64>| numbers.filter(|number| *number > 1)).start().unwrap();
    running.push_all([1, 2, 0, 3]).unwrap();
    assert_eq!(running.take_output(), [2, 3]);

    let test = OperatorTest::new(|numbers: Stream<u64>| numbers.flat_map(|number| 0..number));
    let mut running = test.start().unwrap();
    running.push_all([0, 2, 3]).unwrap();
    assert_eq!(running.take_output(), [0, 1, 0, 1, 2]);
}

#[test]
fn many_records_come_out_in_their_order() {
    let mut running = OperatorTest::new(|numbers: Stream<u64>| numbers.map(|number| number)).start().unwrap();
    running.push_all(0..50_000).unwrap();
    assert!(running.take_output().into_iter().eq(0..50_000));
}

#[test]
fn a_side_output_is_read_by_its_tag() {
    let mut running = OperatorTest::new(|numbers: Stream<u64>| numbers.process(Sort)).start().unwrap();
    for number in 0..6 {
        running.push(number).unwrap();
    }
    assert_eq!(running.side(&ODD), ["1", "3", "5"]);
    assert_eq!(running.take_side(&ODD), ["1", "3", "5"]);
    assert!(running.side(&ODD).is_empty());
    assert_eq!(running.take_output(), [0, 2, 4]);
}

#[test]
#[should_panic(
    expected = "no operator declares the side output `even` of u64; declared: `odd` of alloc::string::String"
)]
fn asking_for_a_side_output_that_is_not_declared_says_which_are() {
    let running = OperatorTest::new(|numbers: Stream<u64>| numbers.process(Sort)).start().unwrap();
    let _ = running.side(&SideOutput::<u64>::named("even"));
}

#[test]
fn every_kind_of_state_is_read_by_its_name_and_key() {
    let mut running = everything().parallelism(2).start().unwrap();
    running.push_all([pair("a", 4), pair("b", 9), pair("a", 7), pair("c", 1)]).unwrap();
    running.push(pair("c", 0)).unwrap();
    let (a, c) = ("a".to_owned(), "c".to_owned());
    let count = running.state("everything", Value::<u64>::named("count")).unwrap();
    assert_eq!((count.value(&a), count.value(&c), count.len()), (Some(2), None, 2));
    let numbers = running.state("everything", List::<u64>::named("numbers")).unwrap();
    assert_eq!((numbers.list(&a), numbers.list(&c)), (vec![4, 7], vec![]));
    let remainders = running.state("everything", Map::<u64, String>::named("by remainder")).unwrap();
    assert_eq!(remainders.map(&a), BTreeMap::from([(1, "7".to_owned())]));
    let sum = running.state("everything", Reducing::<Sum>::named("sum")).unwrap();
    assert_eq!((sum.reduced(&a), sum.reduced(&c)), (Some(11), None));
    let mean = running.state("everything", Aggregating::<Mean>::named("mean")).unwrap();
    assert_eq!((mean.result(&a), mean.accumulator(&a)), (Some(5), Some((2, 11))));
    // All of them at once, as the operator declares them.
    let all = running.state::<String, _>("everything", Everything.state()).unwrap();
    let of_b = all.with(&"b".to_owned(), |(count, numbers, ..)| (count.get().copied(), numbers.len()));
    assert_eq!(of_b, (Some(1), 1));
    // Looking changed nothing.
    running.push(pair("a", 2)).unwrap();
    assert_eq!(running.take_output().last(), Some(&pair("a", 3)));
}

#[test]
fn a_state_that_is_not_there_is_an_error_that_says_what_is() {
    let mut running = everything().start().unwrap();
    let unknown = running.state::<String, _>("everything", Value::<u64>::named("cuont")).unwrap_err();
    let told = "`everything` has no state `cuont`; it has `count`, `numbers`, `by remainder`, `sum`, `mean`";
    assert_eq!(unknown.to_string(), told);
    let nobody = running.state::<String, _>("nothing", Value::<u64>::named("count")).unwrap_err();
    assert_eq!(nobody.to_string(), "there is no keyed state of `nothing`; there is some of `everything`");
    running.push(pair("a", 1)).unwrap();
    let list = running.state::<String, _>("everything", List::<u64>::named("count")).unwrap_err();
    assert!(matches!(list, OperatorTestError::StateOfOtherType { .. }), "{list}");
    let text = running.state::<String, _>("everything", Value::<String>::named("count")).unwrap_err();
    assert!(text.to_string().contains("another type"), "{text}");
    let key = running.state::<u64, _>("everything", Value::<u64>::named("count")).unwrap_err();
    assert!(key.to_string().contains("another type"), "{key}");
}

#[test]
fn a_snapshot_is_restored_into_more_and_into_fewer_subtasks() {
    let keys: Vec<String> = (0..200).map(|number| format!("key {number}")).collect();
    let mut running = everything().seed(7).parallelism(3).start().unwrap();
    for round in 1..=2 {
        running.push_all(keys.iter().map(|key| pair(key, round))).unwrap();
    }
    let snapshot = running.snapshot().unwrap();
    assert_eq!(snapshot.parallelism("everything"), Some(3));
    for parallelism in [1, 2, 3, 5, 128] {
        let mut restored = everything().parallelism(parallelism).restore(&snapshot).unwrap();
        restored.push_all(keys.iter().map(|key| pair(key, 3))).unwrap();
        let output = restored.take_output_with_subtasks();
        assert_eq!(output.len(), keys.len());
        for (subtask, (key, count)) in output {
            assert_eq!(count, 3, "{key} at parallelism {parallelism}");
            let group = key_group(hash_key(7, &key).unwrap(), 128);
            assert_eq!(subtask, subtask_of(group, 128, parallelism), "{key} at parallelism {parallelism}");
        }
        assert_eq!(restored.state::<String, _>("everything", Everything.state()).unwrap().len(), keys.len());
    }
}

#[test]
fn large_state_that_lies_in_blobs_is_restored_at_any_parallelism() {
    let mut running = everything().parallelism(3).start().unwrap();
    running.push_all((0..30_000).map(|number| pair(&format!("key {}", number % 9_000), number + 1_000))).unwrap();
    let snapshot = running.snapshot().unwrap();
    let unbroken = snapshot.to_string();
    assert_eq!(unbroken.lines().count(), 5 * 9_000);
    for parallelism in [2, 7] {
        let mut restored = everything().parallelism(parallelism).restore(&snapshot).unwrap();
        let again = restored.snapshot().unwrap();
        assert_eq!(again.parallelism("everything"), Some(parallelism));
        assert!(again.to_string() == unbroken, "at parallelism {parallelism}");
    }
}

#[test]
fn what_is_pushed_after_a_snapshot_is_not_in_it_and_snapshots_stay_as_they_are() {
    let mut running = everything().start().unwrap();
    running.push(pair("a", 1)).unwrap();
    let first = running.snapshot().unwrap();
    running.push(pair("a", 2)).unwrap();
    let second = running.snapshot().unwrap();
    running.push(pair("a", 3)).unwrap();
    assert!(first.checkpoint() < second.checkpoint());
    for (snapshot, count) in [(&first, 1), (&second, 2), (&first, 1)] {
        let stored = snapshot.state("everything", Value::<u64>::named("count")).unwrap();
        assert_eq!(stored.value(&"a".to_owned()), Some(count));
        let mut restored = everything().restore(snapshot).unwrap();
        restored.push(pair("a", 9)).unwrap();
        assert_eq!(restored.take_output(), [pair("a", count + 1)]);
        // The restored instance can be cut itself, under an id that is new.
        assert!(restored.snapshot().unwrap().checkpoint() > snapshot.checkpoint());
    }
}

#[test]
fn a_snapshot_travels_as_bytes_and_damage_is_found() {
    let mut running = everything().parallelism(2).start().unwrap();
    running.push_all((0..5_000).map(|number| pair(&format!("key {number}"), number + 1_000))).unwrap();
    let bytes = running.snapshot().unwrap().to_bytes();
    let snapshot = Snapshot::from_bytes(&bytes).unwrap();
    assert_eq!(snapshot.operators(), ["everything"]);
    let mut restored = everything().restore(&snapshot).unwrap();
    restored.push(pair("key 77", 1)).unwrap();
    assert_eq!(restored.take_output(), [pair("key 77", 2)]);
    for position in (0..bytes.len()).step_by(bytes.len() / 97) {
        let mut damaged = bytes.clone();
        damaged[position] ^= 4;
        let error = Snapshot::from_bytes(&damaged).unwrap_err();
        assert!(matches!(error, OperatorTestError::Snapshot(_)), "byte {position}: {error}");
    }
}

#[test]
fn a_snapshot_of_something_else_is_refused_with_the_mend() {
    let mut running = everything().start().unwrap();
    running.push(pair("a", 1)).unwrap();
    let snapshot = running.snapshot().unwrap();
    let wider = everything().max_parallelism(256).restore(&snapshot).unwrap_err();
    assert!(wider.to_string().contains("max parallelism 256 and had 128"), "{wider}");
    let renamed =
        OperatorTest::new(|pairs: Stream<(String, u64)>| pairs.key_by(|pair| &pair.0).process("all", Everything));
    let unknown = renamed.restore(&snapshot).unwrap_err();
    assert!(matches!(unknown, OperatorTestError::DoesNotFit { .. }), "{unknown}");
    assert!(unknown.to_string().contains("give the operator its former uid back"), "{unknown}");
    let retyped = OperatorTest::new(|pairs: Stream<(String, u64)>| {
        pairs.key_by(|pair| &pair.0).aggregate("everything", 0_u64, |_, sum, (_, number)| {
            *sum += number;
            *sum
        })
    });
    let failure = retyped.restore(&snapshot).unwrap_err();
    assert_eq!(failure.failure().map(|failure| failure.origin.as_str()), Some("everything"));
    assert!(failure.to_string().contains("count"), "{failure}");
}

#[test]
fn an_error_and_a_panic_name_the_operator_and_end_the_instance() {
    let mut running = everything().start().unwrap();
    running.push(pair("a", 1)).unwrap();
    let error = running.push(pair("a", 666)).unwrap_err();
    let failure = error.failure().unwrap();
    assert_eq!((failure.origin.as_str(), failure.message.as_str()), ("everything", "the number of the beast"));
    assert_eq!((failure.severity, failure.panicked), (Severity::Unrecoverable, false));
    assert_eq!(running.push(pair("a", 2)).unwrap_err(), error);
    assert_eq!(running.snapshot().unwrap_err(), error);
    assert_eq!(running.take_output(), [pair("a", 1)], "what had come out is still there");

    let mut running = everything().start().unwrap();
    let error = running.push(pair("a", 777)).unwrap_err();
    let failure = error.failure().unwrap();
    assert_eq!((failure.origin.as_str(), failure.panicked), ("everything", true));
    assert!(failure.message.contains("no luck with 777"), "{failure}");

    let test = OperatorTest::new(|pairs: Stream<(String, u64)>| {
        pairs
            .key_by_value(|pair| if pair.1 == 3 { panic!("no key") } else { pair.0.clone() })
            .process("everything", Everything)
    });
    let mut running = test.start().unwrap();
    let error = running.push(pair("a", 3)).unwrap_err();
    let failure = error.failure().unwrap();
    assert!(failure.origin.starts_with("key_by at ") && failure.panicked, "{failure}");
}

#[test]
fn a_graph_that_is_wrong_is_an_error_before_anything_runs() {
    let unnamed =
        OperatorTest::new(|pairs: Stream<(String, u64)>| pairs.key_by(|pair| &pair.0).process("", Everything));
    assert!(matches!(unnamed.start().unwrap_err(), OperatorTestError::Build(_)));
    let none = everything().parallelism(0).start().unwrap_err();
    assert!(matches!(none, OperatorTestError::Build(_)), "{none}");
    let sunk = OperatorTest::new(|numbers: Stream<u64>| {
        numbers.for_each("seen", |_| {});
        numbers
    });
    assert_eq!(sunk.start().unwrap_err(), OperatorTestError::HasSink { uid: "seen".to_owned() });
}

#[test]
fn a_finished_operator_takes_no_records_and_can_still_be_cut() {
    let mut running = everything().parallelism(2).start().unwrap();
    running.push(pair("a", 1)).unwrap();
    running.finish().unwrap();
    running.finish().unwrap();
    assert_eq!(running.push(pair("a", 2)).unwrap_err(), OperatorTestError::Finished);
    let snapshot = running.snapshot().unwrap();
    let mut restored = everything().restore(&snapshot).unwrap();
    restored.push(pair("a", 2)).unwrap();
    assert_eq!(restored.take_output(), [pair("a", 2)]);
}

#[test]
fn checkpoints_are_completed_and_aborted_and_the_operator_goes_on() {
    let mut running = everything().start().unwrap();
    running.push(pair("a", 1)).unwrap();
    let first = running.snapshot().unwrap();
    running.abort(&first).unwrap();
    running.push(pair("a", 2)).unwrap();
    let second = running.snapshot().unwrap();
    running.complete(&second).unwrap();
    running.complete(&first).unwrap();
    running.push(pair("a", 3)).unwrap();
    assert_eq!(running.take_output().last(), Some(&pair("a", 3)));
    let stored = running.snapshot().unwrap().state("everything", List::<u64>::named("numbers")).unwrap();
    assert_eq!(stored.list(&"a".to_owned()), [1, 2, 3]);
}

#[test]
fn time_passes_when_the_test_says_so() {
    let mut running = everything().start().unwrap();
    assert_eq!(running.now(), Duration::ZERO);
    running.push(pair("a", 1)).unwrap();
    assert_eq!(running.now(), Duration::ZERO);
    running.advance(Duration::from_secs(600)).unwrap();
    running.advance(Duration::from_millis(1)).unwrap();
    assert_eq!(running.now(), Duration::from_millis(600_001));
    running.push(pair("a", 666)).unwrap_err();
    running.advance(Duration::from_secs(1)).unwrap_err();
}

/// Joins what comes from both sides, and tells aside what met nobody yet.
#[derive(Clone)]
struct Join;

const ALONE: SideOutput<u64> = SideOutput::named("alone");

impl KeyedCoProcess for Join {
    type Key = u64;
    type Left = u64;
    type Right = String;
    type Out = String;
    type State = (List<u64>, List<String>);

    fn state(&self) -> Self::State {
        (List::named("left"), List::named("right"))
    }

    fn side_outputs(&self) -> SideOutputs {
        SideOutputs::none().with(&ALONE)
    }

    fn process_left(
        &self,
        record: u64,
        (mut left, right): CoAccess<'_, Self>,
        mut context: CoContext<'_, Self>,
    ) -> OperatorResult {
        left.push(record);
        if right.is_empty() {
            context.emit_to(&ALONE, record)?;
        }
        for other in right.iter() {
            context.emit(format!("{record} {other}"));
        }
        Ok(())
    }

    fn process_right(
        &self,
        record: String,
        (left, mut right): CoAccess<'_, Self>,
        mut context: CoContext<'_, Self>,
    ) -> OperatorResult {
        for other in left.iter() {
            context.emit(format!("{other} {record}"));
        }
        right.push(record);
        Ok(())
    }
}

#[test]
fn both_inputs_of_an_operator_share_its_state_in_the_order_of_the_pushes() {
    let test = OperatorTest::with_two_inputs(|numbers: Stream<u64>, texts: Stream<String>| {
        let numbers = numbers.key_by_value(|number| number % 10);
        numbers.connect(&texts.key_by_value(|text| text.len() as u64)).process("join", Join)
    });
    let mut running = test.parallelism(2).start().unwrap();
    running.push_left(13).unwrap();
    running.push_right("one".to_owned()).unwrap();
    let records = [Either::Left(23), Either::Right("two".to_owned()), Either::Right("five.".to_owned())];
    running.push_all(records).unwrap();
    assert_eq!(running.take_output(), ["13 one", "23 one", "13 two", "23 two"]);
    assert_eq!(running.take_side(&ALONE), [13]);
    let snapshot = running.snapshot().unwrap();
    let mut restored = test.parallelism(3).restore(&snapshot).unwrap();
    restored.push_left(5).unwrap();
    assert_eq!(restored.take_output(), ["5 five."]);
    let left = restored.state("join", List::<u64>::named("left")).unwrap();
    assert_eq!((left.list(&3_u64), left.list(&5)), (vec![13, 23], vec![5]));
}

#[test]
fn several_operators_in_a_row_are_cut_together_at_any_parallelism() {
    let test = OperatorTest::new(|words: Stream<String>| {
        words
            .flat_map(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>())
            .key_by(|word| word)
            .aggregate("words", 0_u64, |word, count, _| {
                *count += 1;
                (word.chars().next().unwrap_or_default(), *count)
            })
            .key_by_value(|(initial, _)| *initial)
            .aggregate("initials", 0_u64, |initial, greatest, (_, count)| {
                *greatest = (*greatest).max(count);
                format!("{initial}{greatest}")
            })
    });
    let mut running = test.parallelism(2).start().unwrap();
    running.push("to be or not to be".to_owned()).unwrap();
    let snapshot = running.snapshot().unwrap();
    assert_eq!(snapshot.operators(), ["initials", "words"]);
    let mut restored = test.parallelism(3).restore(&snapshot).unwrap();
    restored.push("to".to_owned()).unwrap();
    restored.push("by".to_owned()).unwrap();
    assert_eq!(restored.take_output(), ["t3", "b2"]);
    let initials = restored.state("initials", Value::<u64>::named("value")).unwrap();
    assert_eq!(initials.value(&'t'), Some(3));
}
