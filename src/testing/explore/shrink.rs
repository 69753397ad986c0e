//! From a run that fails to the smallest one that fails for the same reason.
//!
//! Delta debugging over the faults, then over each of them: first whole processes and halves of the faults are left out, then single ones; then the plain order is tried, in which no
//! chance decides what runs next; then each fault is made simpler (a crash instead of something subtler, without probability, once, earlier, in an earlier process); at last smaller
//! seeds. Every step that still fails for the same reason is kept, until none is left or the runs are spent. Which runs are made depends on nothing but the run
//! that one begins with.

use std::collections::BTreeSet;
use std::fmt;

use super::simpler;
use crate::testing::simulation::{Faults, Order, Report, Schedule, ScheduledFault, Simulation, Trouble};

/// How many runs a shrinking makes at most, if nothing else is said.
pub const SHRINKING_RUNS: u64 = 600;

/// Smaller seeds that are tried.
const SEEDS: u64 = 8;

/// What a shrinking came to.
#[derive(Clone, Debug)]
pub struct Shrunk {
    trouble: Trouble,
    from: Simulation,
    runs: u64,
    is_complete: bool,
    repeats: bool,
}

impl Shrunk {
    /// The smallest run that was found, and what is wrong in it.
    #[must_use]
    pub fn trouble(&self) -> &Trouble {
        &self.trouble
    }

    /// The smallest run that was found.
    #[must_use]
    pub fn simulation(&self) -> Simulation {
        self.trouble.simulation()
    }

    /// What goes wrong in the smallest run that was found, one by one: it was made, and failed for the same reason. Nothing when the failure did not come again.
    #[must_use]
    pub fn schedule(&self) -> Option<Schedule> {
        match self.simulation().faults() {
            Faults::Exactly(schedule) if self.repeats => Some(schedule.clone()),
            _ => None,
        }
    }

    /// The run that it began with.
    #[must_use]
    pub fn from(&self) -> &Simulation {
        &self.from
    }

    /// How many runs were made for it.
    #[must_use]
    pub fn runs(&self) -> u64 {
        self.runs
    }

    /// Whether nothing was left to try; otherwise the runs were spent.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }
}

impl fmt::Display for Shrunk {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = if self.is_complete { "" } else { " (more runs might make it smaller)" };
        write!(formatter, "{}, found as {}, made smaller in {} runs{left}", self.simulation(), self.from, self.runs)
    }
}

/// What kind of reason it is: two runs fail for the same reason when these are equal. Of the reason of a checker it is the rule that is violated and in which way, as far as the checkers
/// here have several: a record that is lost is not one that came twice. Of any other reason it is the first line without numbers and without what stands in quotes or brackets.
#[must_use]
pub fn kind_of_reason(reason: &str) -> String {
    let line = reason.lines().next().unwrap_or_default();
    if let Some((rule, what)) = line.split_once(" is violated") {
        return way_of_violation(what).map_or_else(|| rule.to_owned(), |way| format!("{rule}: {way}"));
    }
    if line.starts_with("the job hangs") {
        return "the job hangs".to_owned();
    }
    let mut kind = String::new();
    let (mut quoted, mut depth) = (false, 0_u32);
    for character in line.chars() {
        match character {
            '`' | '"' => quoted = !quoted,
            '[' | '(' | '{' => depth += 1,
            ']' | ')' | '}' => depth = depth.saturating_sub(1),
            _ if quoted || depth > 0 => {}
            digit if digit.is_ascii_digit() => {
                if !kind.ends_with('#') {
                    kind.push('#');
                }
            }
            other => kind.push(other),
        }
    }
    kind
}

/// Makes a failing run smaller. `play` makes a run; it is called `most` times at most, but once in any case: to see whether the run fails again when everything that went wrong in it is
/// named one by one. One that does not is left as it was found, and [`Shrunk::schedule`] has nothing.
#[must_use]
pub fn shrink(trouble: Trouble, most: u64, play: &dyn Fn(&Simulation) -> Result<Report, Trouble>) -> Shrunk {
    let from = trouble.simulation();
    let kind = kind_of_reason(trouble.reason());
    let mut shrinking = Shrinking { play, kind, most: most.max(1), runs: 0, tried: BTreeSet::new(), best: trouble };
    let exactly = shrinking.best.exactly();
    let repeats = shrinking.fails(exactly);
    if repeats {
        shrinking.everything();
    }
    let Shrinking { runs, best, .. } = shrinking;
    Shrunk { trouble: best, from, runs, is_complete: runs < most, repeats }
}

/// In which way a rule is violated, in the words of the checkers that can be in several. What stands in quotes is the user's.
fn way_of_violation(what: &str) -> Option<String> {
    let own: String = what.split('"').step_by(2).collect();
    WAYS.iter().copied().find(|way| way.iter().all(|words| own.contains(words))).map(|way| way.concat())
}

/// The first one that fits counts; a way is told by all of its words.
const WAYS: [&[&str]; 15] = [
    // `ExactlyOnce` and `AtLeastOnce`.
    &["never took effect"],
    &["no record of"],
    // `CutConsistency`.
    &["took no effect"],
    &["behind the barrier of"],
    &["before the barrier of"],
    // `ExactlyOnce`; `Output`.
    &["took effect"],
    &["missing: ", "not expected, or not so often: "],
    &["missing: "],
    &["not expected, or not so often: "],
    // `Commits`.
    &["when neither that checkpoint nor a later one was complete"],
    &["is lost: that checkpoint"],
    &["was prepared and neither committed nor aborted"],
    // `StoreFiles`.
    &["the state in it is lost"],
    &["left over"],
    &["the store fills up"],
];

struct Shrinking<'a> {
    play: &'a dyn Fn(&Simulation) -> Result<Report, Trouble>,
    kind: String,
    most: u64,
    runs: u64,
    tried: BTreeSet<String>,
    best: Trouble,
}

impl Shrinking<'_> {
    /// Whether a run fails for the same reason: then it is the best one from now on.
    fn fails(&mut self, simulation: Simulation) -> bool {
        if self.runs >= self.most || !self.tried.insert(simulation.to_string()) {
            return false;
        }
        self.runs += 1;
        match (self.play)(&simulation) {
            Err(trouble) if kind_of_reason(trouble.reason()) == self.kind => {
                self.best = trouble;
                true
            }
            _ => false,
        }
    }

    fn faults(&self) -> Vec<ScheduledFault> {
        match self.best.simulation().faults() {
            Faults::Exactly(schedule) => schedule.faults().to_vec(),
            _ => Vec::new(),
        }
    }

    fn fails_with(&mut self, faults: Vec<ScheduledFault>) -> bool {
        let simulation = self.best.simulation().with(Faults::Exactly(Schedule::of(faults)));
        self.fails(simulation)
    }

    fn everything(&mut self) {
        self.fails_with(Vec::new());
        loop {
            let before = self.best.simulation();
            self.leave_out_processes();
            self.leave_out_faults();
            self.plain_order();
            self.simplify();
            if self.best.simulation() == before {
                break;
            }
        }
        self.smaller_seeds();
    }

    /// Without all faults of a process, with and without those of the later processes moved up.
    fn leave_out_processes(&mut self) {
        let last = self.faults().iter().filter_map(ScheduledFault::process).max().unwrap_or(0);
        for process in (1..=last).rev() {
            let faults = self.faults();
            let rest = || faults.iter().filter(|fault| fault.process() != Some(process));
            if rest().count() == faults.len() && !faults.iter().any(|fault| fault.process() > Some(process)) {
                continue;
            }
            let moved = rest().map(|fault| match fault.process() {
                Some(later) if later > process => fault.in_process(later - 1),
                _ => fault.clone(),
            });
            let (moved, left) = (moved.collect(), rest().cloned().collect());
            if !self.fails_with(moved) {
                self.fails_with(left);
            }
        }
    }

    /// Halves, quarters, ..., single faults.
    fn leave_out_faults(&mut self) {
        let mut size = self.faults().len().div_ceil(2);
        while size > 0 {
            let mut from = 0;
            while from < self.faults().len() {
                let mut rest = self.faults();
                rest.drain(from..(from + size).min(rest.len()));
                if !self.fails_with(rest) {
                    from += size;
                }
            }
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
    }

    fn plain_order(&mut self) {
        if self.best.simulation().order() == Order::Seed {
            let plain = self.best.simulation().in_order(Order::Plain);
            self.fails(plain);
        }
    }

    /// Each fault by a simpler one, as long as that goes.
    fn simplify(&mut self) {
        let mut position = 0;
        while position < self.faults().len() {
            let faults = self.faults();
            let simpler = simpler::than(&faults[position]).into_iter().any(|fault| {
                let mut changed = faults.clone();
                changed[position] = fault;
                self.fails_with(changed)
            });
            if !simpler {
                position += 1;
            }
        }
    }

    /// A smaller seed whose story is not longer.
    fn smaller_seeds(&mut self) {
        let seed = self.best.simulation().seed();
        for smaller in 0..seed.min(SEEDS) {
            let (longest, kept) = (self.best.events(), self.best.clone());
            let candidate = kept.simulation().with_seed(smaller);
            if self.fails(candidate) {
                if self.best.events() <= longest {
                    return;
                }
                self.best = kept;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEVERAL: &str = "event[process=1,hit=700]=crash; acknowledge.sent[subtask=1,process=2,hit=9,times=3,probability=0.5]=drop; \
                           effect[process=2,hit=80]=power-cut; disk[operation=read,process=3,hit=20]=error; \
                           event[process=3,hit=500]=panic; event[process=3,hit=90]=crash; end[process=3]=machine";

    /// Makes a run smaller that fails when `fails` says so.
    fn shrunk(most: u64, fails: impl Fn(&Simulation, &[ScheduledFault]) -> Option<&'static str>) -> Shrunk {
        let play = |simulation: &Simulation| {
            let Faults::Exactly(schedule) = simulation.faults() else { panic!("{simulation}") };
            match fails(simulation, schedule.faults()) {
                Some(reason) => Err(Trouble::said(simulation, reason)),
                None => Err(Trouble::said(simulation, "something else")),
            }
        };
        let simulation = Simulation::new(77).with(Faults::Exactly(SEVERAL.parse().unwrap()));
        shrink(Trouble::said(&simulation, "id 3 is missing"), most, &play)
    }

    #[test]
    fn every_way_of_a_violation_is_said_so_by_a_checker() {
        let checkers = [
            include_str!("../check/effects.rs"),
            include_str!("../check/lineage.rs"),
            include_str!("../check/exactly_once.rs"),
            include_str!("../check/at_least_once.rs"),
            include_str!("../check/cut.rs"),
            include_str!("../check/output.rs"),
            include_str!("../check/commits.rs"),
            include_str!("../check/store_files.rs"),
            include_str!("../models/ledger.rs"),
        ]
        .concat();
        for words in WAYS.concat() {
            assert!(checkers.contains(words), "no checker says `{words}`");
        }
    }

    #[test]
    fn of_several_faults_those_are_left_that_it_takes() {
        let drop_and_crash = shrunk(SHRINKING_RUNS, |_, faults| {
            let has = |text: &str| faults.iter().any(|fault| fault.to_string().contains(text));
            (has("=drop") && has("=crash")).then_some("id 4 is missing")
        });
        assert!(drop_and_crash.is_complete());
        assert_eq!(
            drop_and_crash.simulation().to_string(),
            "0/plain/exactly/event[process=1,hit=1]=crash(process); acknowledge.sent=drop"
        );
        assert!(drop_and_crash.runs() < 200, "{drop_and_crash}");
        let nothing = shrunk(SHRINKING_RUNS, |_, _| Some("id 5 is missing"));
        assert_eq!(nothing.simulation().to_string(), "0/plain/exactly/");
    }

    #[test]
    fn what_is_needed_is_kept() {
        // A late crash of the second process, in the order of the seed, and nothing else does it.
        let late = shrunk(SHRINKING_RUNS, |simulation, faults| {
            let is_late =
                |fault: &ScheduledFault| matches!(fault, ScheduledFault::Event { process: 3, event: 60.., .. });
            let by_seed = simulation.order() == Order::Seed && simulation.seed() == 77;
            (by_seed && faults.iter().any(is_late)).then_some("id 3 is missing")
        });
        assert_eq!(late.simulation().to_string(), "77/exactly/event[process=3,hit=60]=crash(process)");
    }

    #[test]
    fn shrinking_is_the_same_each_time_and_ends_when_its_runs_are_spent() {
        let fails = |_: &Simulation, faults: &[ScheduledFault]| (faults.len() > 2).then_some("id 3 is missing");
        let (one, other) = (shrunk(SHRINKING_RUNS, fails), shrunk(SHRINKING_RUNS, fails));
        assert_eq!((one.simulation(), one.runs()), (other.simulation(), other.runs()));
        let cut_short = shrunk(5, fails);
        assert_eq!((cut_short.runs(), cut_short.is_complete()), (5, false));
        let not_at_all = shrunk(0, fails);
        assert_eq!(not_at_all.simulation().to_string(), format!("77/exactly/{SEVERAL}"));
        assert_eq!((not_at_all.runs(), not_at_all.is_complete()), (1, false), "one, to see whether it repeats");
        assert_eq!(not_at_all.schedule().unwrap().to_string(), SEVERAL);
    }

    #[test]
    fn a_failure_that_does_not_come_again_is_left_as_it_was_found_and_has_no_schedule() {
        for most in [0, 5, SHRINKING_RUNS] {
            let gone = shrunk(most, |_, _| Some("the job hangs"));
            assert_eq!(gone.schedule(), None, "it fails, for another reason");
            assert_eq!((gone.simulation().to_string(), gone.runs()), (format!("77/exactly/{SEVERAL}"), 1));
        }
    }

    #[test]
    fn a_lost_record_does_not_become_one_that_came_twice() {
        let play = |simulation: &Simulation| {
            let lost = simulation.to_string().contains("=drop");
            let what = if lost { "3 never took effect" } else { "3 took effect twice" };
            Err(Trouble::said(simulation, &format!("exactly once is violated: {what}")))
        };
        let simulation = Simulation::new(77).with(Faults::Exactly(SEVERAL.parse().unwrap()));
        let trouble = Trouble::said(&simulation, "exactly once is violated: 3 never took effect");
        let shrunk = shrink(trouble, SHRINKING_RUNS, &play);
        assert_eq!(shrunk.schedule().unwrap().to_string(), "acknowledge.sent=drop");
    }

    #[test]
    fn reasons_are_of_one_kind_when_only_numbers_and_quoted_things_differ() {
        let kind = kind_of_reason;
        assert_eq!(kind("id 17 came out twice"), kind("id 1034 came out twice"));
        assert_ne!(kind("id 17 came out twice"), kind("id 17 is missing, 3 came out"));
        assert_eq!(kind("`a,1`: the key of 3 is 4"), kind("`b,22`: the key of 1 is 0"));
        assert_eq!(kind("key 3 was counted [1, 2, 2]"), kind("key 1 was counted [1, 3]"));
        assert_eq!(kind("no two alike is violated: order 3 is missing"), "no two alike");
        assert_eq!(kind("no two alike is violated: order 3\nline"), kind("no two alike is violated: 5 and 6"));
        let once = |what: &str| kind(&format!("exactly once is violated: {what}"));
        let (lost, twice) =
            ("3 of `orders` never took effect in `bills`", "3 of `orders` took effect twice in `bills`");
        assert_eq!(once(lost), once("2 of `orders` never took effect in `bills`: \"a\", \"took effect twice\""));
        assert_eq!(once(twice), once("4 of `orders` took effect 3 times instead of 2 times in `bills`"));
        assert_ne!(once(lost), once(twice));
    }
}
