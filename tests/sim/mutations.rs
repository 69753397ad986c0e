//! Rules of the runtime that are broken on purpose (`actors/protocol/mutation.rs`): the simulation finds every one, with the same schedules for all of them, and
//! the same schedules find nothing in the runtime as it is.

mod doubtful;
pub(crate) mod orders;
mod seldom;

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use alluvium::testing::faults::{Action, End, Fault, FaultPlan, Point, What};
use alluvium::testing::simulation::{Faults, Report, Simulation, Trouble};
use alluvium_actors::protocol::mutation::{self, Mutation};

use crate::cancelled::Cancelled;
use crate::flights::Flights;
use crate::graph::Ways;
use crate::random_graph;
use crate::regions::{Panics, Regions};
use crate::schedules::quiet;
use crate::second_job::SecondJob;
use crate::union::Union;

use doubtful::Doubtful;
use orders::{Kind, billing, counting};

/// So many schedules are enough to find any of them.
const ENOUGH: u64 = 1_000;

/// What chance finds too seldom for [`ENOUGH`] schedules, and a test of its own finds at once: in `seldom.rs` the ids beyond those of a run record, the stop that is called off,
/// and the channel that an abort leaves blocked; what `increments.rs` and `local_recovery.rs` find with a job that knows what must stand under each key; and what breaks only where the
/// parallelism changes, which operators by hand find (`tests/api/operator_state.rs`). Three that lose what was in flight, or its order, `overtaking.rs` finds with a job in which
/// much is, and an element that was not copied the table of operator state finds alone (`tests/state/operator.rs`).
const SELDOM: &[Mutation] = &[
    Mutation::ReservationNotStored,
    Mutation::StopNotCalledOff,
    Mutation::AbortLeavesBlocked,
    Mutation::IncrementWithoutRemovals,
    Mutation::BaseNotComplete,
    Mutation::DeleteASharedBlob,
    Mutation::FoldKeepsTheOldest,
    Mutation::StaleLocalCopy,
    Mutation::UnverifiedLocalCopy,
    Mutation::SplitLosesTheLast,
    Mutation::BroadcastLostOnScaleUp,
    Mutation::RestoredBehindNew,
    Mutation::RestoredNotCaptured,
    Mutation::FusedInFlightForgotten,
    Mutation::TouchedElementNotCopied,
];

/// How many jobs take turns in the schedules.
const JOBS: u64 = 18;

/// One schedule of the hunt, the same for all mutations: the jobs take turns, each with the seeds from 0 on.
fn hunt(number: u64) -> Result<Report, Trouble> {
    let simulation = Simulation::new(number / JOBS);
    match number % JOBS {
        0 => simulation.run(&mut billing(Kind::Usual).scenario()),
        5 => simulation.clone().with(Faults::Points(plan(number))).run(&mut billing(Kind::Usual).scenario()),
        1 => simulation.run(&mut SecondJob::new(2)),
        2 => simulation.run(&mut random_graph::of(&simulation)),
        3 => simulation.run(&mut billing(Kind::Stopped).scenario()),
        4 => simulation.run(&mut Flights::new(100, 2)),
        12 => simulation.run(&mut Ways::new()),
        14 => simulation.run(&mut counting().scenario()),
        13 => simulation.run(&mut Doubtful(billing(Kind::Usual).scenario())),
        15 => simulation.run(&mut billing(Kind::Rescaled).scenario()),
        16 => simulation.run(&mut random_graph::rescaled(&simulation)),
        17 => simulation.run(&mut billing(Kind::OvertakingRescaled).scenario()),
        6 => simulation.run(&mut Regions::new(Panics::Both)),
        7 => simulation.run(&mut Cancelled::default()),
        8 => simulation.run(&mut billing(Kind::Slow).scenario()),
        9 => simulation.run(&mut SecondJob::larger()),
        10 => simulation.run(&mut Union::in_one_go()),
        _ => simulation.run(&mut Union::stopped()),
    }
}

/// Faults at named points: two or three, drawn from all that are possible, each at one of the first times that its point is reached.
fn plan(number: u64) -> FaultPlan {
    let mut drawn: u64 = 0;
    let mut draw = |below: usize| {
        drawn += 1;
        let mut hasher = DefaultHasher::new();
        (number, drawn).hash(&mut hasher);
        hasher.finish() as usize % below
    };
    let faults = (0..2 + draw(2)).map(|_| {
        let point = Point::ALL[draw(Point::ALL.len())];
        let actions: Vec<Action> = point.actions().iter().collect();
        let what = match actions[draw(actions.len())] {
            Action::Crash => What::Crash([End::Process, End::Machine][draw(2)]),
            Action::Kill => What::Kill,
            Action::Error => What::Error,
            Action::Panic => What::Panic,
            Action::Delay => What::Delay(Duration::from_millis(1 + draw(40) as u64)),
            Action::Drop => What::Drop,
            Action::Duplicate => What::Duplicate,
            Action::Hold => What::Hold(Point::ALL[draw(Point::ALL.len())]),
        };
        Fault::at(point, what).expect("the point allows it").hit(1 + draw(8) as u64)
    });
    FaultPlan::of(faults.collect::<Vec<_>>())
}

/// The first schedule from `from` on that finds a mutation, and what it says.
fn find(mutation: Mutation, from: u64, most: u64) -> Option<(u64, Trouble)> {
    (from..from + most).find_map(|number| {
        let outcome = mutation::during(mutation, || quiet::during(|| hunt(number)));
        outcome.err().map(|trouble| (number, trouble))
    })
}

/// Does the work of each item on one of as many threads as there are cores; the answers in the order of the items.
fn on_all_cores<T: Sync, A: Send>(items: &[T], work: impl Fn(&T) -> A + Sync) -> Vec<A> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (next, answers) = (Mutex::new(0..items.len()), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let Some(number) = next.lock().unwrap().next() else { break };
                    let answer = work(&items[number]);
                    answers.lock().unwrap().insert(number, answer);
                }
            });
        }
    });
    answers.into_inner().unwrap().into_values().collect()
}

#[test]
fn every_broken_rule_is_found_within_a_thousand_schedules_but_those_that_have_plans_of_their_own() {
    quiet::install();
    let wanted: Vec<Mutation> = Mutation::ALL.iter().copied().filter(|mutation| !SELDOM.contains(mutation)).collect();
    let found = on_all_cores(&wanted, |mutation| find(*mutation, 0, ENOUGH));
    let mut missed = Vec::new();
    for (mutation, found) in wanted.iter().zip(&found) {
        match found {
            Some((number, trouble)) => {
                println!("{mutation}: schedule {number} of the hunt, {}", first_line(trouble.reason(), 120));
            }
            None => missed.push(mutation.name()),
        }
    }
    assert!(missed.is_empty(), "not found within {ENOUGH} schedules: {missed:?}");
}

#[test]
fn the_same_schedules_find_nothing_in_the_runtime_as_it_is() {
    quiet::install();
    let numbers: Vec<u64> = (0..ENOUGH).collect();
    let troubles = on_all_cores(&numbers, |number| quiet::during(|| hunt(*number)).err());
    if let Some((number, trouble)) = numbers.iter().zip(&troubles).find_map(|(number, t)| Some((number, t.as_ref()?))) {
        panic!("schedule {number} of the hunt: {trouble}");
    }
}

/// One line of the table.
struct Row {
    mutation: Mutation,
    ran: u64,
    /// The schedules that found it.
    found: Vec<u64>,
    said: String,
    took: Duration,
}

impl Row {
    fn of(mutation: Mutation, schedules: u64, patience: Duration) -> Row {
        let began = Instant::now();
        let (mut ran, mut found, mut said) = (0, Vec::new(), String::new());
        while ran < schedules && (found.is_empty() || began.elapsed() < patience) {
            if let Some((number, trouble)) = find(mutation, ran, 1) {
                if found.is_empty() {
                    said = first_line(trouble.reason(), 160);
                }
                found.push(number);
            }
            ran += 1;
        }
        Row { mutation, ran, found, said, took: began.elapsed() }
    }

    /// How many schedules it takes as a rule: the median of the ways from one that finds it to the next.
    fn median(&self) -> Option<u64> {
        let starts = std::iter::once(0).chain(self.found.iter().map(|number| number + 1));
        let mut ways: Vec<u64> = starts.zip(&self.found).map(|(from, number)| number + 1 - from).collect();
        ways.sort_unstable();
        ways.get(ways.len() / 2).copied()
    }
}

impl fmt::Display for Row {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
        let first = shown(self.found.first().map(|number| number + 1));
        let (mutation, rule, median, ran) = (self.mutation, self.mutation.rule(), shown(self.median()), self.ran);
        let (found, rate) = (self.found.len(), ran as f64 / self.took.as_secs_f64());
        write!(
            formatter,
            "| `{mutation}` | {rule} | {first} | {median} | {found} of {ran} | {rate:.0} | {} |",
            self.said
        )
    }
}

#[test]
#[ignore = "makes the table of docs/guide/testing.md: `.ci/mutations --help`"]
fn the_table_of_mutations() {
    quiet::install();
    let number = |name: &str, usual: u64| {
        std::env::var(name).map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
    };
    let schedules = number("ALLUVIUM_MUTATION_SCHEDULES", ENOUGH);
    let patience = Duration::from_secs(number("ALLUVIUM_MUTATION_SECONDS", 10));
    let asked = std::env::var("ALLUVIUM_MUTATIONS").unwrap_or_default();
    let asked: Vec<Mutation> = match asked.split_whitespace().map(str::parse).collect::<Result<Vec<_>, _>>() {
        Ok(none) if none.is_empty() => Mutation::ALL.to_vec(),
        Ok(some) => some,
        Err(unknown) => panic!("{unknown}"),
    };
    println!("| mutation | rule | first | median | found by | schedules/s | what is said first |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for row in on_all_cores(&asked, |mutation| Row::of(*mutation, schedules, patience)) {
        println!("{row}");
    }
}

/// The first line of a text, and no more of it than so many characters.
fn first_line(text: &str, most: usize) -> String {
    text.lines().next().unwrap_or_default().chars().take(most).collect()
}
