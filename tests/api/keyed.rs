//! Operators with state for each key.

use std::collections::BTreeMap;

use alluvium::connect::Generator;
use alluvium::operator::{Access, CoAccess, CoContext, Context, KeyedCoProcess, KeyedProcess};
use alluvium::state::{List, Map, Value};
use alluvium::{Job, OperatorError, OperatorResult, Stream};

use crate::by_hand::{Seen, run};

const MANY: u64 = 6_000;

pub(crate) fn pairs(job: &Job, uid: &str) -> Stream<(String, u64)> {
    job.source(uid, Generator::bounded(MANY, |index| (format!("key {}", index % 97), index)))
}

/// What `aggregate` should make of [`pairs`].
fn running_counts() -> Vec<(String, u64, u64)> {
    let mut totals: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut expected = Vec::new();
    for index in 0..MANY {
        let key = format!("key {}", index % 97);
        let (count, sum) = totals.entry(key.clone()).or_default();
        *count += 1;
        *sum += index;
        expected.push((key, *count, *sum));
    }
    expected.sort();
    expected
}

#[test]
fn aggregate_changes_one_value_per_key_at_any_parallelism() {
    for parallelism in [1, 2, 5] {
        let (job, seen) = (Job::new("aggregate").parallelism(parallelism), Seen::new());
        let note = seen.clone();
        pairs(&job, "pairs")
            .key_by(|pair| &pair.0)
            .aggregate("totals", (0_u64, 0_u64), |key, (count, sum), (_, number)| {
                *count += 1;
                *sum += number;
                (key.clone(), *count, *sum)
            })
            .for_each("seen", move |total| note.note(total));
        run(&job.build().unwrap()).unwrap();
        // With one split order matters: the sums are those of the input's order, key by key.
        if parallelism == 1 {
            assert_eq!(seen.sorted(), running_counts());
        }
        let last: BTreeMap<String, u64> = seen.sorted().into_iter().map(|(key, count, _)| (key, count)).collect();
        assert_eq!(last.values().sum::<u64>(), MANY);
        assert_eq!(seen.in_order().len() as u64, MANY);
    }
}

#[test]
fn reduce_takes_the_first_record_as_it_is_and_combines_the_others() {
    let (job, seen) = (Job::new("reduce"), Seen::new());
    let note = seen.clone();
    pairs(&job, "pairs")
        .key_by_value(|pair| pair.1 % 10)
        .reduce("greatest", |a, b| if a.1 > b.1 { a } else { b })
        .for_each("seen", move |pair| note.note(pair.1));
    run(&job.build().unwrap()).unwrap();
    assert_eq!(seen.in_order(), (0..MANY).collect::<Vec<_>>());
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

#[test]
fn process_has_value_list_and_map_state_under_one_key() {
    let (job, seen) = (Job::new("process"), Seen::new());
    let note = seen.clone();
    pairs(&job, "pairs")
        .key_by(|pair| &pair.0)
        .process("everything", Everything)
        .for_each("seen", move |line| note.note(line));
    run(&job.build().unwrap()).unwrap();
    assert_eq!(seen.sorted(), everything(MANY));
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
        if record == 77 {
            return Err(OperatorError::unrecoverable(format!("key {}", context.key())));
        }
        Ok(())
    }
}

#[test]
fn one_call_may_emit_more_than_a_slice() {
    let (job, seen) = (Job::new("burst"), Seen::new());
    let note = seen.clone();
    job.source("few", alluvium::connect::Items::new(vec![1000_u64, 3, 700]))
        .key_by(|number| number)
        .process("burst", Burst)
        .rebalance()
        .for_each("seen", move |record| note.note(record));
    run(&job.build().unwrap()).unwrap();
    let expected: Vec<_> = [1000, 3, 700].into_iter().flat_map(|count| (0..count).map(|n| (n, 0, 1))).collect();
    assert_eq!(seen.in_order(), expected);
}

#[test]
fn an_error_of_a_process_carries_its_uid() {
    let job = Job::new("burst");
    job.source("few", alluvium::connect::Items::new(vec![77_u64]))
        .key_by(|number| number)
        .process("burst", Burst)
        .for_each("seen", |_| {});
    let failure = run(&job.build().unwrap()).unwrap_err();
    assert_eq!((failure.origin.as_str(), failure.message.as_str()), ("burst", "key 77"));
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
    for parallelism in [1, 3] {
        let (job, seen) = (Job::new("join").parallelism(parallelism), Seen::new());
        let note = seen.clone();
        let left = job.source("left", Generator::bounded(600, |index| index)).key_by_value(|number| number % 200);
        let right = job.source("right", Generator::bounded(400, |index| index)).key_by_value(|number| number % 200);
        left.connect(&right).process("join", Pairs).for_each("seen", move |pair| note.note(pair));
        run(&job.build().unwrap()).unwrap();
        let mut expected: Vec<String> = (0..600_u64)
            .flat_map(|l| (0..400_u64).filter(move |r| l % 200 == r % 200).map(move |r| format!("{l} {r}")))
            .collect();
        expected.sort();
        assert_eq!(seen.sorted(), expected, "parallelism {parallelism}");
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
    let job = Job::new("floats");
    job.source("numbers", Generator::bounded(3, |index| Odd(index, 0.5)))
        .key_by(|odd| odd)
        .aggregate("count", 0_u64, |_, count, _| {
            *count += 1;
            *count
        })
        .for_each("seen", |_| {});
    let failure = run(&job.build().unwrap()).unwrap_err();
    assert!(failure.origin.starts_with("key_by at "), "{failure}");
    assert!(failure.message.contains("floating-point"), "{failure}");
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
