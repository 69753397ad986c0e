//! The job that `tests/recovery` kills in processes of its own, without its slow work.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use alluvium::testing::simulation::{Boot, Next, Scenario, World};
use alluvium_actors::drive::supervisor::SupervisorSetup;

use super::program::second_job::input::{Input, SOURCES};
use super::{Habits, program};
use crate::{chance, files, schedules};

const OUTPUT: &str = "/output";
const ALL: &str = "/output/all";
const MARKED: &str = "/output/marked";

pub(crate) struct SecondJob {
    input: Input,
    parallelism: u32,
    habits: Habits,
}

impl SecondJob {
    pub(crate) fn new(parallelism: u32) -> SecondJob {
        SecondJob { input: Input { seed: 7, percent: 3 }, parallelism, habits: Habits::default() }
    }

    fn ids(&self) -> impl Iterator<Item = u64> + '_ {
        (0..SOURCES.len()).flat_map(|source| (0..self.input.count(source)).map(move |index| Input::id(source, index)))
    }

    /// The ids of some lines, each once; the state of its key had seen each once.
    fn ids_of(&self, directory: &str, lines: &[String]) -> Result<BTreeSet<u64>, String> {
        let mut ids = BTreeSet::new();
        let mut sequences: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
        for line in lines {
            let fields: Vec<u64> = line.split(',').filter_map(|field| field.parse().ok()).collect();
            let [key, sequence, different, id] = fields[..] else {
                return Err(format!("`{line}` in {directory} is no line of the job"));
            };
            if key != self.input.key(id) || sequence != different {
                return Err(format!("`{line}` in {directory}: the state has seen {different} ids, and met {sequence}"));
            }
            if !ids.insert(id) || !sequences.entry(key).or_default().insert(sequence) {
                return Err(format!("`{line}` is in {directory} twice"));
            }
        }
        Ok(ids)
    }

    fn check(&self, world: &World<'_>) -> Result<(), String> {
        let all = files::lines(world.disk, ALL)?;
        let marked = files::lines(world.disk, MARKED)?;
        let wanted: BTreeSet<u64> = self.ids().collect();
        let got = self.ids_of(ALL, &all)?;
        if got != wanted {
            let missing: Vec<_> = wanted.difference(&got).take(9).collect();
            return Err(format!("{} ids instead of {}; missing: {missing:?}", got.len(), wanted.len()));
        }
        let wanted: BTreeSet<u64> = wanted.into_iter().filter(|id| self.input.is_marked(*id)).collect();
        let got = self.ids_of(MARKED, &marked)?;
        if got != wanted {
            let missing: Vec<_> = wanted.difference(&got).take(9).collect();
            return Err(format!("{} marked ids instead of {}; missing: {missing:?}", got.len(), wanted.len()));
        }
        let all: BTreeSet<&String> = all.iter().collect();
        match marked.iter().find(|line| !all.contains(line)) {
            Some(line) => Err(format!("`{line}` is marked, and otherwise not there")),
            None => Ok(()),
        }
    }
}

impl Scenario for SecondJob {
    fn boot(&mut self, boot: &mut Boot<'_>) -> Result<SupervisorSetup, String> {
        let speed = [30, 60, 150][boot.random() as usize % 3];
        let shape = program::second_job::Shape {
            input: self.input,
            speed,
            work: Duration::ZERO,
            parallelism: self.parallelism,
            at_least_once: false,
            apart: None,
        };
        let built = program::second_job::build(shape, Path::new(OUTPUT));
        self.habits.setup(boot, &built.map_err(|errors| errors.to_string())?)
    }

    fn observe(&mut self, world: &World<'_>) -> Result<(), String> {
        self.habits.observe(world)?;
        files::output_is_of_complete_checkpoints(world, ALL)?;
        files::output_is_of_complete_checkpoints(world, MARKED)
    }

    fn ended(&mut self, world: &World<'_>) -> Result<Next, String> {
        if let Some(next) = chance::finished(world)? {
            return Ok(next);
        }
        self.check(world)?;
        chance::cleaned_up(world, files::nothing_is_left_over(world.disk, "second job", &[ALL, MARKED]))
    }
}

#[test]
fn the_job_of_the_recovery_tests_survives_random_crashes_and_faults() {
    schedules::run("job of the recovery tests", schedules::random(43_000, 100), || SecondJob::new(2));
}
