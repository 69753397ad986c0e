//! Operators with state for each key.

use std::collections::BTreeMap;

use alluvium::connect::Generator;
use alluvium::operator::{Access, CoAccess, CoContext, Context, KeyedCoProcess, KeyedProcess};
use alluvium::state::{List, Map, Value};
use alluvium::testing::operator::{Either, OperatorTest};
use alluvium::{Job, OperatorResult, Severity, Stream};

use crate::by_hand::{Seen, run};

const MANY: u64 = 6_000;

fn pair(index: u64) -> (String, u64) {
    (format!("key {}", index % 97), index)
}

pub(crate) fn pairs(job: &Job, uid: &str) -> Stream<(String, u64)> {
    job.source(uid, Generator::bounded(MANY, pair))
}

#[test]
fn aggregate_changes_one_value_per_key_at_any_parallelism() {
    let test = OperatorTest::new(|pairs: Stream<(String, u64)>| {
        pairs.key_by(|pair| &pair.0).aggregate("totals", (0_u64, 0_u64), |key, (count, sum), (_, number)| {
            *count += 1;
            *sum += number;
            (key.clone(), *count, *sum)
        })
    });
    let mut totals: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut expected = Vec::new();
    for (key, number) in (0..MANY).map(pair) {
        let (count, sum) = totals.entry(key.clone()).or_default();
        *count += 1;
        *sum += number;
        expected.push((key, *count, *sum));
    }
    expected.sort();
    for parallelism in [1, 2, 5] {
        let mut running = test.parallelism(parallelism).start().unwrap();
        running.push_all((0..MANY).map(pair)).unwrap();
        let mut output = running.take_output();
        output.sort();
        assert_eq!(output, expected, "parallelism {parallelism}");
        let stored = running.state("totals", Value::<(u64, u64)>::named("value")).unwrap();
        assert_eq!(stored.value(&"key 7".to_owned()), Some(totals["key 7"]));
    }
}

#[test]
fn reduce_takes_the_first_record_as_it_is_and_combines_the_others() {
    let test = OperatorTest::new(|numbers: Stream<u64>| {
        numbers.key_by_value(|number| number % 10).reduce("greatest", |a, b| a.max(b))
    });
    let mut running = test.start().unwrap();
    running.push_all([31, 11, 2, 41, 1]).unwrap();
    assert_eq!(running.take_output(), [31, 31, 2, 41, 41]);
}

/// Value, list and map state in one row, larger than what stands in a slot.
#[derive(Clone)]
pub(crate) struct Everything;

impl KeyedProcess for Everything {
    type Key = String;
    type In = (String, u64);
    type Out = String;
    type State = (Value<u64>, List<u64>, Map<u64, u64>);

    fn state(&self) -> Self::State {
        (Value::named("count"), List::named("numbers"), Map::named("by remainder"))
    }

    fn process(
        &self,
        (_, number): (String, u64),
        (mut count, mut numbers, mut remainders): Access<'_, Self>,
        mut context: Context<'_, Self>,
    ) -> OperatorResult {
        count.update(|count| *count += 1);
        numbers.push(number);
        *remainders.get_or_insert_with(&(number % 3), || 0) += 1;
        let remainder = remainders.get(&(number % 3)).copied().unwrap_or_default();
        let line =
            format!("{} {} {} {remainder}", context.key(), count.get().copied().unwrap_or_default(), numbers.len());
        context.emit(line);
        Ok(())
    }
}

/// What [`Everything`] should emit for the records of [`pairs`] up to `end`.
pub(crate) fn everything(end: u64) -> Vec<String> {
    let mut states: BTreeMap<u64, (u64, BTreeMap<u64, u64>)> = BTreeMap::new();
    let mut lines = Vec::new();
    for index in 0..end {
        let (count, remainders) = states.entry(index % 97).or_default();
        *count += 1;
        let remainder = remainders.entry(index % 3).or_default();
        *remainder += 1;
        lines.push(format!("key {} {count} {count} {remainder}", index % 97));
    }
    lines.sort();
    lines
}

/// Emits as many records as it is told.
#[derive(Clone)]
struct Burst;

impl KeyedProcess for Burst {
    type Key = u64;
    type In = u64;
    type Out = (u64, u32, u32);
    type State = Value<u64>;

    fn state(&self) -> Self::State {
        Value::named("unused")
    }

    fn process(&self, record: u64, _: Access<'_, Self>, mut context: Context<'_, Self>) -> OperatorResult {
        for number in 0..record {
            context.emit((number, context.subtask(), context.parallelism()));
        }
        Ok(())
    }
}

#[test]
fn one_call_may_emit_more_than_a_slice() {
    let test = OperatorTest::new(|numbers: Stream<u64>| numbers.key_by(|number| number).process("burst", Burst));
    let mut running = test.start().unwrap();
    running.push_all([1000, 3, 700]).unwrap();
    let expected: Vec<_> = [1000, 3, 700].into_iter().flat_map(|count| (0..count).map(|n| (n, 0, 1))).collect();
    assert_eq!(running.take_output(), expected);
}

/// Joins what comes from both sides.
#[derive(Clone)]
pub(crate) struct Pairs;

impl KeyedCoProcess for Pairs {
    type Key = u64;
    type Left = u64;
    type Right = u64;
    type Out = String;
    type State = (List<u64>, List<u64>);

    fn state(&self) -> Self::State {
        (List::named("left"), List::named("right"))
    }

    fn process_left(
        &self,
        record: u64,
        (mut left, right): CoAccess<'_, Self>,
        mut context: CoContext<'_, Self>,
    ) -> OperatorResult {
        left.push(record);
        for other in right.iter() {
            context.emit(format!("{record} {other}"));
        }
        Ok(())
    }

    fn process_right(
        &self,
        record: u64,
        (left, mut right): CoAccess<'_, Self>,
        mut context: CoContext<'_, Self>,
    ) -> OperatorResult {
        right.push(record);
        for other in left.iter() {
            context.emit(format!("{other} {record}"));
        }
        Ok(())
    }
}

#[test]
fn both_sides_of_a_connection_share_the_state_of_a_key() {
    let test = OperatorTest::with_two_inputs(|left: Stream<u64>, right: Stream<u64>| {
        let right = right.key_by_value(|number| number % 200);
        left.key_by_value(|number| number % 200).connect(&right).process("join", Pairs)
    });
    let mut expected: Vec<String> = (0..600_u64)
        .flat_map(|l| (0..400_u64).filter(move |r| l % 200 == r % 200).map(move |r| format!("{l} {r}")))
        .collect();
    expected.sort();
    for parallelism in [1, 3] {
        let mut running = test.parallelism(parallelism).start().unwrap();
        for part in 0..4 {
            running.push_all((part * 100..(part + 1) * 100).map(Either::Right)).unwrap();
            running.push_all((part * 150..(part + 1) * 150).map(Either::Left)).unwrap();
        }
        let mut output = running.take_output();
        output.sort();
        assert_eq!(output, expected, "parallelism {parallelism}");
    }
}

#[test]
fn a_key_that_cannot_be_hashed_fails_the_job_for_good() {
    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    struct Odd(u64, f64);
    impl PartialEq for Odd {
        fn eq(&self, other: &Odd) -> bool {
            self.0 == other.0
        }
    }
    impl Eq for Odd {}
    let test = OperatorTest::new(|odd: Stream<Odd>| {
        odd.key_by(|odd| odd).aggregate("count", 0_u64, |_, count, _| {
            *count += 1;
            *count
        })
    });
    let error = test.start().unwrap().push(Odd(1, 0.5)).unwrap_err();
    let failure = error.failure().unwrap();
    assert!(failure.origin.starts_with("key_by at "), "{failure}");
    assert!(failure.message.contains("floating-point"), "{failure}");
    assert_eq!(failure.severity, Severity::Unrecoverable);
}

#[test]
fn the_sketch_of_the_design_compiles_by_inference() {
    #[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
    struct Total {
        sequence: u64,
        delay: i64,
    }
    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    struct Flight {
        tailnum: String,
        dep_delay: Option<i64>,
    }
    let (job, seen) = (Job::new("flights"), Seen::new());
    let note = seen.clone();
    let flight = |index: u64| Flight {
        tailnum: format!("N{}", index % 2),
        dep_delay: (!index.is_multiple_of(3)).then_some(index as i64),
    };
    job.source("flights", Generator::bounded(6, flight))
        .filter(|flight| flight.dep_delay.is_some())
        .key_by(|flight| &flight.tailnum)
        .aggregate("total-delay", Total::default(), |tailnum, total, flight| {
            total.sequence += 1;
            total.delay += flight.dep_delay.unwrap_or(0);
            format!("{tailnum},{},{}", total.sequence, total.delay)
        })
        .for_each("lines", move |line| note.note(line));
    run(&job.build().unwrap()).unwrap();
    assert_eq!(seen.sorted(), ["N0,1,2", "N0,2,6", "N1,1,1", "N1,2,6"]);
}
