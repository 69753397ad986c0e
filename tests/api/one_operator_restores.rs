//! State and output of one operator are the same however often it is cut and restored, at whatever parallelism: random records, cuts and widths against
//! an oracle, and operators that do it wrong.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};

use alluvium::operator::{Access, CoAccess, CoContext, Context, KeyedCoProcess, KeyedProcess, SideOutput, SideOutputs};
use alluvium::state::{List, Map, ReduceFunction, Reducing, Value};
use alluvium::testing::operator::{Either, OperatorTest, RestoreCheck, RestoreError};
use alluvium::{OperatorResult, Stream};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

struct Greatest;

impl ReduceFunction for Greatest {
    type Value = u64;

    fn reduce(stored: u64, added: u64) -> u64 {
        stored.max(added)
    }
}

const FORGOTTEN: SideOutput<String> = SideOutput::named("forgotten");

/// Keeps the numbers of a key in every way; a multiple of 13 makes it forget the key, one of 7 an entry of the map.
#[derive(Clone)]
struct Keep;

type States = (Value<u64>, List<u64>, Map<u64, u64>, Reducing<Greatest>);

impl KeyedProcess for Keep {
    type Key = String;
    type In = (String, u64);
    type Out = (String, u64, usize);
    type State = States;

    fn state(&self) -> States {
        (Value::named("count"), List::named("numbers"), Map::named("last digits"), Reducing::named("greatest"))
    }

    fn side_outputs(&self) -> SideOutputs {
        SideOutputs::none().with(&FORGOTTEN)
    }

    fn process(
        &self,
        (key, number): (String, u64),
        (mut count, mut numbers, mut digits, mut greatest): Access<'_, Self>,
        mut context: Context<'_, Self>,
    ) -> OperatorResult {
        if number.is_multiple_of(13) {
            count.clear();
            numbers.clear();
            digits.clear();
            greatest.clear();
            return context.emit_to(&FORGOTTEN, key);
        }
        count.update(|count| *count += 1);
        numbers.push(number);
        greatest.add(number);
        *digits.get_or_insert_with(&(number % 10), || 0) += 1;
        if number.is_multiple_of(7) {
            digits.remove(&(number % 10));
        }
        let told = (key, count.get().copied().unwrap_or_default(), digits.len());
        context.emit(told);
        Ok(())
    }
}

/// What [`Keep`] should have under a key.
#[derive(Clone, Debug, Default, PartialEq)]
struct Kept {
    numbers: Vec<u64>,
    digits: BTreeMap<u64, u64>,
}

/// What [`Keep`] should keep and emit, without any runtime.
fn oracle(records: &[(String, u64)]) -> (BTreeMap<String, Kept>, Vec<(String, u64, usize)>, Vec<String>) {
    let mut kept: BTreeMap<String, Kept> = BTreeMap::new();
    let (mut emitted, mut forgotten) = (Vec::new(), Vec::new());
    for (key, number) in records {
        if number.is_multiple_of(13) {
            kept.remove(key);
            forgotten.push(key.clone());
            continue;
        }
        let of_key = kept.entry(key.clone()).or_default();
        of_key.numbers.push(*number);
        *of_key.digits.entry(number % 10).or_default() += 1;
        if number.is_multiple_of(7) {
            of_key.digits.remove(&(number % 10));
        }
        emitted.push((key.clone(), of_key.numbers.len() as u64, of_key.digits.len()));
    }
    (kept, emitted, forgotten)
}

fn keep() -> OperatorTest<(String, u64), (String, u64, usize)> {
    OperatorTest::new(|pairs: Stream<(String, u64)>| pairs.key_by(|pair| &pair.0).process("keep", Keep))
}

fn random_pairs(random: &mut StdRng, count: usize) -> Vec<(String, u64)> {
    let keys = random.random_range(1..60);
    (0..count).map(|_| (format!("key {}", random.random_range(0..keys)), random.random_range(1..400))).collect()
}

#[test]
fn state_and_output_are_those_of_the_oracle_whatever_the_parallelism_and_wherever_the_cut() {
    for seed in 0..60 {
        let mut random = StdRng::seed_from_u64(seed);
        let count = random.random_range(0..600);
        let records = random_pairs(&mut random, count);
        let max_parallelism = [4, 128, 1_000][random.random_range(0..3)];
        let test = keep().max_parallelism(max_parallelism);
        let mut running = test.parallelism(random.random_range(1..=4)).start().unwrap();
        let (mut emitted, mut forgotten) = (Vec::new(), Vec::new());
        let mut rest = &records[..];
        while !rest.is_empty() {
            let (pushed, behind) = rest.split_at(random.random_range(0..=rest.len()));
            running.push_all(pushed.iter().cloned()).unwrap();
            rest = behind;
            let snapshot = running.snapshot().unwrap();
            if random.random_bool(0.3) {
                // What the crash takes with it.
                running.push_all(random_pairs(&mut random, 40)).unwrap();
                running.take_output().truncate(0);
            }
            let before = running;
            running = test.parallelism(random.random_range(1..=4)).restore(&snapshot).unwrap();
            drop(before);
        }
        // Output is compared with an instance of its own, which is cut and not restored.
        let mut watched = test.parallelism(random.random_range(1..=4)).start().unwrap();
        for part in records.chunks(37) {
            watched.push_all(part.iter().cloned()).unwrap();
            let snapshot = watched.snapshot().unwrap();
            emitted.extend(watched.take_output());
            forgotten.extend(watched.take_side(&FORGOTTEN));
            watched = test.parallelism(random.random_range(1..=4)).restore(&snapshot).unwrap();
        }
        let (kept, mut expected, mut expected_forgotten) = oracle(&records);
        for list in [&mut emitted, &mut expected] {
            list.sort();
        }
        for list in [&mut forgotten, &mut expected_forgotten] {
            list.sort();
        }
        assert_eq!((emitted, forgotten), (expected, expected_forgotten), "seed {seed}");
        for instance in [&mut running, &mut watched] {
            let stored = instance.state::<String, _>("keep", Keep.state()).unwrap();
            assert_eq!(stored.len(), kept.len(), "seed {seed}");
            for (key, kept) in &kept {
                stored.with(key, |(count, numbers, digits, greatest)| {
                    assert_eq!(count.get().copied(), Some(kept.numbers.len() as u64), "seed {seed}, {key}");
                    assert!(numbers.iter().eq(&kept.numbers), "seed {seed}, {key}");
                    let digits: BTreeMap<u64, u64> = digits.iter().map(|(digit, count)| (*digit, *count)).collect();
                    assert_eq!(digits, kept.digits, "seed {seed}, {key}");
                    assert_eq!(greatest.get(), kept.numbers.iter().max(), "seed {seed}, {key}");
                });
            }
        }
    }
}

#[test]
fn the_check_passes_operators_that_keep_everything_in_their_state() {
    let mut random = StdRng::seed_from_u64(7);
    let records = random_pairs(&mut random, 120);
    keep().check_restores(&records, RestoreCheck::new(1).cases(40)).unwrap();
    keep().check_restores(&[], RestoreCheck::new(1).cases(3)).unwrap();
}

/// Pairs what has the same last digit.
#[derive(Clone)]
struct Join;

impl KeyedCoProcess for Join {
    type Key = u64;
    type Left = u64;
    type Right = u64;
    type Out = (u64, u64);
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
        right.iter().for_each(|other| context.emit((record, *other)));
        Ok(())
    }

    fn process_right(
        &self,
        record: u64,
        (left, mut right): CoAccess<'_, Self>,
        mut context: CoContext<'_, Self>,
    ) -> OperatorResult {
        right.push(record);
        left.iter().for_each(|other| context.emit((*other, record)));
        Ok(())
    }
}

#[test]
fn the_check_takes_operators_with_two_inputs() {
    let test = OperatorTest::with_two_inputs(|left: Stream<u64>, right: Stream<u64>| {
        left.key_by_value(|number| number % 10).connect(&right.key_by_value(|number| number % 10)).process("join", Join)
    });
    let mut random = StdRng::seed_from_u64(3);
    let records: Vec<Either<u64, u64>> = (0..60)
        .map(|_| {
            let number = random.random_range(0..50);
            if random.random_bool(0.5) { Either::Left(number) } else { Either::Right(number) }
        })
        .collect();
    test.check_restores(&records, RestoreCheck::new(5).cases(30)).unwrap();
}

/// Counts in a field of its own what it should count in its state.
#[derive(Clone, Default)]
struct Forgetful {
    counts: RefCell<HashMap<u64, u64>>,
}

impl KeyedProcess for Forgetful {
    type Key = u64;
    type In = u64;
    type Out = (u64, u64);
    type State = Value<u64>;

    fn state(&self) -> Value<u64> {
        Value::named("last count")
    }

    fn process(&self, number: u64, mut last: Access<'_, Self>, mut context: Context<'_, Self>) -> OperatorResult {
        let mut counts = self.counts.borrow_mut();
        let count = counts.entry(number).or_default();
        *count += 1;
        last.set(*count);
        context.emit((number, *count));
        Ok(())
    }
}

#[test]
fn an_operator_that_keeps_state_in_a_plain_field_is_caught_with_the_shortest_course_that_shows_it() {
    let test = OperatorTest::new(|numbers: Stream<u64>| {
        numbers.key_by(|number| number).process("forgetful", Forgetful::default())
    });
    let records: Vec<u64> = (0..40).map(|number| number % 5).collect();
    let found = test.check_restores(&records, RestoreCheck::new(11)).unwrap_err();
    let told = found.to_string();
    let RestoreError::Differs { course, differences } = found else { panic!("{told}") };
    assert!(course.starts_with("6 records; restored before record "), "{told}");
    assert!(course.ends_with(": from 1 subtask into 1"), "{told}");
    assert_eq!(
        differences,
        [
            "state `last count` of `forgetful`, key 0: 1 instead of 2",
            "output: [0, 1] comes out twice instead of once",
            "output: [0, 2] comes out never instead of once",
        ]
    );
}

#[test]
fn an_operator_that_mixes_its_keys_is_caught() {
    let test = OperatorTest::new(|numbers: Stream<u64>| {
        let all = Cell::new(0_u64);
        numbers.key_by(|number| number).aggregate("sums", 0_u64, move |_, sum, number| {
            all.set(all.get() + number);
            *sum = all.get();
            *sum
        })
    });
    let found = test.check_restores(&[1, 2, 3, 4, 5, 6], RestoreCheck::new(2).most_subtasks(1)).unwrap_err();
    assert!(found.to_string().contains("state `value` of `sums`, key "), "{found}");
}

#[test]
fn an_operator_that_does_not_do_the_same_twice_is_told_so() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    // Shared by all instances, as a clock is.
    let calls = Arc::new(AtomicU64::new(0));
    let test = OperatorTest::new(move |numbers: Stream<u64>| {
        let calls = Arc::clone(&calls);
        numbers.map(move |number| number + 100 * calls.fetch_add(1, Ordering::Relaxed))
    });
    let found = test.check_restores(&[1, 2], RestoreCheck::new(2)).unwrap_err();
    let told = found.to_string();
    let RestoreError::NotDeterministic { differences, .. } = found else { panic!("{told}") };
    assert_eq!(
        differences,
        [
            "output: 201 comes out once instead of never",
            "output: 302 comes out once instead of never",
            "output: 1 comes out never instead of once",
            "output: 102 comes out never instead of once",
        ]
    );
    assert!(told.starts_with("2 records in 1 subtask, without a restore, done twice, does not end the same"), "{told}");
}

#[test]
fn an_operator_that_changes_once_in_a_while_is_told_so_and_not_that_a_restore_changes_it() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    let calls = Arc::new(AtomicU64::new(0));
    let test = OperatorTest::new(move |numbers: Stream<u64>| {
        let calls = Arc::clone(&calls);
        // Two runs of two records, and it is another one.
        numbers.map(move |number| number + u64::from(calls.fetch_add(1, Ordering::Relaxed) == 5))
    });
    let found = test.check_restores(&[1, 2], RestoreCheck::new(2)).unwrap_err();
    let RestoreError::NotDeterministic { differences, .. } = found else { panic!("{found}") };
    assert!(!differences.is_empty());
}

#[test]
fn a_failure_says_on_which_course_it_came() {
    let test = OperatorTest::new(|numbers: Stream<u64>| {
        numbers
            .try_map(|number| if number < 9 { Ok(number) } else { Err("too large".parse::<u64>().unwrap_err().into()) })
    });
    let found = test.check_restores(&[1, 9], RestoreCheck::new(2)).unwrap_err();
    assert!(matches!(found, RestoreError::Failed { .. }));
    let told = found.to_string();
    assert!(told.starts_with("2 records in 1 subtask, without a restore: try_map at "), "{told}");
    assert!(told.contains("invalid digit"), "{told}");
}
