//! User code panics, in every kind of operator: the job restarts, the output is exact, and the failure names the operator and the panic.

mod fuse;
mod sink;
mod source;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use alluvium::connect::sink::Sink;
use alluvium::connect::{Collect, Generator, Lines};
use alluvium::operator::{Access, CoAccess, CoContext, Context, KeyedCoProcess, KeyedProcess};
use alluvium::state::Value;
use alluvium::{Failure, Graph, Job, JobError, JobEvent, Listener, OperatorResult, Options, RestartStrategy};
use serde::{Deserialize, Serialize};

use crate::oracle::{Verdict, Witness};
use crate::scratch::Scratch;

use fuse::{DropFuse, Fuse};
use sink::FusedSink;
use source::FusedSource;

/// Each kind of user code: where the fuse stands, how the failure calls the operator (this or that), and how many passes go well. Some more always come, also on a machine on
/// which the slices are full and all records are in one checkpoint: checkpoints without records follow until the fuse has blown.
const PLACES: [(&str, &str, u64); 26] = [
    ("enumerator", "numbers", 0),
    ("registration", "numbers", 0),
    ("enumerator snapshot", "numbers", 2),
    ("enumerator notice", "numbers", 1),
    ("reader", "numbers", 0),
    ("poll", "numbers", 5),
    ("reader snapshot", "numbers", 3),
    ("reader notice", "numbers", 1),
    ("map", "doubling", 500),
    ("try_map", "checking", 500),
    ("filter", "sieve", 500),
    ("flat_map", "splitting", 500),
    // It is called twice per record: where the record is sent, and where its state is looked up.
    ("key selector", "key_by|totals", 500),
    ("aggregate", "totals", 500),
    ("process", "sequence", 500),
    ("left", "join", 500),
    ("right", "join", 50),
    ("connected map", "merging", 500),
    ("writer", "out", 0),
    ("write", "out", 10),
    ("prepare", "out", 3),
    ("writer snapshot", "out", 3),
    ("committer", "out", 0),
    ("open", "out", 0),
    ("commit", "out", 0),
    ("clean up", "out", 0),
];

/// So many numbers go in on the left, a tenth of it on the right, and a tenth as extras.
const NUMBERS: u64 = 2_000;

const KEYS: u64 = 13;

/// A job that has not ended after this time stands still.
const PATIENCE: Duration = Duration::from_secs(60);

/// A number with its key, and how many of its key have come.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Item {
    id: u64,
    key: u64,
    count: u64,
}

impl Item {
    fn new(id: u64) -> Item {
        Item { id, key: id % KEYS, count: 0 }
    }
}

/// Counts a second time, by a state of its own.
#[derive(Clone)]
struct Sequence(Fuse);

impl KeyedProcess for Sequence {
    type Key = u64;
    type In = Item;
    type Out = Item;
    type State = Value<u64>;

    fn state(&self) -> Value<u64> {
        Value::named("count")
    }

    fn process(&self, item: Item, mut count: Access<'_, Self>, mut context: Context<'_, Self>) -> OperatorResult {
        let next = count.get().copied().unwrap_or(0) + 1;
        count.set(next);
        self.0.pass("process");
        assert_eq!(item.count, next, "two operators that count the same disagree");
        context.emit(item);
        Ok(())
    }
}

/// Lets both sides through, and counts the right one.
#[derive(Clone)]
struct Join(Fuse);

impl KeyedCoProcess for Join {
    type Key = u64;
    type Left = Item;
    type Right = u64;
    type Out = String;
    type State = Value<u64>;

    fn state(&self) -> Value<u64> {
        Value::named("right")
    }

    fn process_left(&self, item: Item, _: CoAccess<'_, Self>, mut context: CoContext<'_, Self>) -> OperatorResult {
        self.0.pass("left");
        context.emit(format!("left,{},{},{}", item.key, item.count, item.id));
        Ok(())
    }

    fn process_right(
        &self,
        id: u64,
        mut right: CoAccess<'_, Self>,
        mut context: CoContext<'_, Self>,
    ) -> OperatorResult {
        let count = right.get().copied().unwrap_or(0) + 1;
        right.set(count);
        self.0.pass("right");
        let key = *context.key();
        context.emit(format!("right,{key},{count},{id}"));
        Ok(())
    }
}

/// Every kind of operator in one job, all with the same fuse.
fn build(parallelism: u32, fuse: &Fuse, dropped: Option<DropFuse>, out: impl Sink<String>) -> Graph {
    let job = Job::new("fused").parallelism(parallelism);
    let numbers = FusedSource { source: Generator::bounded(NUMBERS, |index| index).rate(10_000), fuse: fuse.clone() };
    let others = |name| job.source(name, Generator::bounded(NUMBERS / 10, |index| index).rate(1_000));
    let [f1, f2, f3, f4, f5, f6, f7] = std::array::from_fn(|_| fuse.clone());
    let left = job
        .source("numbers", numbers)
        .map(move |number| {
            let _dropped_with_the_function = &dropped;
            f1.pass("map");
            number * 2
        })
        .name("doubling")
        .try_map(move |number| {
            f2.pass("try_map");
            Ok(number)
        })
        .name("checking")
        .filter(move |number| {
            f3.pass("filter");
            !number.is_multiple_of(10)
        })
        .name("sieve")
        .flat_map(move |number| {
            f4.pass("flat_map");
            [Item::new(number), Item::new(number + 1)]
        })
        .name("splitting")
        .key_by_value(move |item| {
            f5.pass("key selector");
            item.key
        })
        .aggregate("totals", 0_u64, move |_, count, item| {
            *count += 1;
            f6.pass("aggregate");
            Item { count: *count, ..item }
        })
        .key_by(|item| &item.key)
        .process("sequence", Sequence(fuse.clone()));
    let left = left.key_by(|item| &item.key);
    let joined = left.connect(&others("right").key_by_value(|id| id % KEYS)).process("join", Join(fuse.clone()));
    let merged = joined.connect(&others("extras")).map(
        move |line| {
            f7.pass("connected map");
            line
        },
        |extra| format!("extra,0,0,{extra}"),
    );
    merged.name("merging").sink("out", FusedSink { sink: out, fuse: fuse.clone() });
    job.build().expect("the job is right")
}

/// Runs it, with two restarts. Gives the failure that it survived, or did not, and the number of attempts.
fn run(graph: &Graph, options: Options) -> (Result<Failure, JobError>, u32) {
    let options = options
        .checkpoint_every(Duration::from_millis(10))
        .restart(RestartStrategy::FixedDelay { attempts: 2, delay: Duration::from_millis(5) });
    let handle = graph.start(&options).expect("the options are right");
    let (end, ended) = channel();
    let waiting = handle.clone();
    std::thread::spawn(move || drop(end.send(waiting.wait_blocking())));
    let report = ended.recv_timeout(PATIENCE).expect("the job ends");
    let survived = report.map(|report| report.status.failure.expect("the fuse blew"));
    (survived, handle.status().attempts)
}

/// The ids that must come out, by their side.
fn expected() -> BTreeSet<(&'static str, u64)> {
    let left = (0..NUMBERS).map(|number| number * 2).filter(|number| !number.is_multiple_of(10));
    let left = left.flat_map(|number| [("left", number), ("left", number + 1)]);
    let others = (0..NUMBERS / 10).flat_map(|id| [("right", id), ("extra", id)]);
    left.chain(others).collect()
}

/// That every line comes once, and the counts of each side and key are 1, 2, 3 and so on. Gives what came out.
fn check(collected: &[String]) -> Verdict<BTreeSet<(&str, u64)>> {
    let mut ids = BTreeSet::new();
    let mut counts: BTreeMap<(&str, &str), HashSet<u64>> = BTreeMap::new();
    for line in collected {
        let fields: Vec<&str> = line.split(',').collect();
        let [side, key, count, id] = fields[..] else { return Err(format!("`{line}`")) };
        let number = |text: &str| text.parse::<u64>().map_err(|error| format!("`{line}`: {error}"));
        if !ids.insert((side, number(id)?)) {
            return Err(format!("`{line}` repeats an id"));
        }
        if side != "extra" && !counts.entry((side, key)).or_default().insert(number(count)?) {
            return Err(format!("`{line}` repeats a count"));
        }
    }
    for (key, counts) in counts {
        let highest = counts.iter().max().copied().unwrap_or(0);
        if highest != counts.len() as u64 {
            return Err(format!("{key:?} was counted up to {highest} in {} lines", counts.len()));
        }
    }
    Ok(ids)
}

/// That the failure says who panicked, and with which words.
fn check_failure(failure: &Failure, place: &str, operator: &str) {
    assert!(failure.panicked, "{place}: {failure}");
    assert!(
        operator.split('|').any(|name| failure.origin.contains(name)),
        "{place}: the failure does not name `{operator}`: {failure}"
    );
    assert!(failure.message.contains(&Fuse::text(place)), "{place}: {failure}");
}

/// One panic in each place; `output` gives what the sink holds in the end.
fn a_panic_costs_a_restart_and_nothing_else<S: Sink<String> + Clone>(
    parallelism: u32,
    set_up: impl Fn(&Scratch) -> (Options, S),
    output: impl Fn(&Scratch, &S) -> Vec<String>,
) {
    for (place, operator, after) in PLACES {
        let scratch = Scratch::new();
        let (options, sink) = set_up(&scratch);
        let graph = build(parallelism, &Fuse::new(place, after, 1), None, sink.clone());
        let (survived, attempts) = run(&graph, options);
        check_failure(&survived.unwrap_or_else(|error| panic!("{place}: {error}")), place, operator);
        assert_eq!(attempts, 2, "{place}: one restart");
        let out = output(&scratch, &sink);
        let ids = check(&out).unwrap_or_else(|fault| panic!("{place}: {fault}"));
        assert!(ids == expected(), "{place}: {} lines instead of {}", ids.len(), expected().len());
    }
}

#[test]
fn a_panic_of_user_code_costs_a_restart_and_nothing_else() {
    let set_up = |_: &Scratch| (Options::default(), Collect::new());
    a_panic_costs_a_restart_and_nothing_else(1, set_up, |_, collect: &Collect<String>| collect.collected());
}

#[test]
fn with_files_and_two_instances_a_panic_of_user_code_costs_a_restart_and_nothing_else() {
    let set_up = |scratch: &Scratch| {
        let options = Options::default().store(scratch.store());
        (options, Lines::exactly_once(scratch.output()).suffix(".csv"))
    };
    let output = |scratch: &Scratch, _: &Lines| Witness::new(scratch.output()).committed().expect("good files");
    a_panic_costs_a_restart_and_nothing_else(2, set_up, output);
}

#[test]
fn when_the_attempts_are_used_up_the_job_fails_with_the_panic() {
    for (place, operator, after) in PLACES {
        let (fuse, out) = (Fuse::new(place, after, u64::MAX), Collect::new());
        let (survived, attempts) = run(&build(1, &fuse, None, out.clone()), Options::default());
        match survived {
            Err(JobError::Failed(failure)) => check_failure(&failure, place, operator),
            other => panic!("{place}: {other:?}"),
        }
        assert_eq!(attempts, 3, "{place}: one attempt and two restarts");
        check(&out.collected()).unwrap_or_else(|fault| panic!("{place}: {fault}"));
    }
}

#[test]
fn a_panic_in_the_destructor_of_a_failed_task_is_survived() {
    let (first, then, out) = (Fuse::new("map", 500, 1), Fuse::new("drop", 0, 1), Collect::new());
    let dropped = DropFuse { first: first.clone(), then: then.clone() };
    let graph = build(2, &first, Some(dropped), out.clone());
    check_failure(&run(&graph, Options::default()).0.expect("two restarts are enough"), "map", "doubling");
    assert_eq!(then.blown(), 1, "the destructor panicked");
    assert!(check(&out.collected()).unwrap() == expected());
}

/// Panics at every event.
struct Fainting;

impl Listener for Fainting {
    fn event(&self, _: JobEvent) {
        Fuse::new("listener", 0, 1).pass("listener");
    }
}

#[test]
fn a_listener_that_panics_disturbs_nobody() {
    let (fuse, out) = (Fuse::new("map", 500, 1), Collect::new());
    let options = Options::default().listener(Arc::new(Fainting));
    let failure = run(&build(1, &fuse, None, out.clone()), options).0.expect("two restarts are enough");
    check_failure(&failure, "map", "doubling");
    assert!(check(&out.collected()).unwrap() == expected());
}
