//! The second job, killed at random moments: every setting is a line of the matrix.

use crate::child::{PATIENCE, Process, armed_program};
use crate::input::Input;
use crate::killing::{Catalogue, Victim, kill_again_and_again};
use crate::matrix::{Chosen, Setting};
use crate::oracle::{SecondJobOracle, Verdict};
use crate::scratch::Scratch;
use crate::seed::Seed;

/// The second job in a directory of its own.
#[derive(Debug)]
pub(crate) struct SecondJob {
    pub(crate) scratch: Scratch,
    pub(crate) input: Input,
    pub(crate) parallelism: u32,
    pub(crate) setting: Setting,
    /// What the next start is told of it.
    pub(crate) chosen: Chosen,
    pub(crate) interval: u64,
    pub(crate) work: u64,
    pub(crate) speed: u64,
    pub(crate) oracle: SecondJobOracle,
    pub(crate) more: Vec<String>,
}

impl SecondJob {
    /// With the full input of `percent` hundredths.
    pub(crate) fn new(seed: &mut Seed, percent: u64, parallelism: u32) -> SecondJob {
        let scratch = Scratch::new();
        let input = Input { seed: seed.within(0..1_000_000), percent };
        let oracle = SecondJobOracle::new(input, &scratch.output());
        SecondJob {
            scratch,
            input,
            parallelism,
            setting: Setting::Usual,
            chosen: Chosen::USUAL,
            interval: 20,
            work: 500,
            speed: 100,
            oracle,
            more: Vec::new(),
        }
    }

    /// One that does not come to its end while somebody waits for something else in one of its first two starts: its sources take longer than that.
    /// It takes a checkpoint as soon as it can, and every piece of its state is a blob, also when no record has come.
    pub(crate) fn long(seed: &mut Seed, parallelism: u32) -> SecondJob {
        let speed = 10;
        let mut job = SecondJob::new(seed, 2 * PATIENCE.as_secs() * speed, parallelism);
        (job.speed, job.interval) = (speed, 10);
        job.more = ["--memory-threshold", "0"].map(str::to_owned).to_vec();
        job
    }

    /// With this setting, from the first start on.
    pub(crate) fn with(mut self, setting: Setting, seed: &mut Seed) -> SecondJob {
        self.setting = setting;
        self.change(seed);
        self
    }

    /// From now on it comes to its end as fast as it can.
    pub(crate) fn hurry(&mut self) {
        (self.speed, self.work) = (1_000_000, 0);
    }

    /// Starts it, with more arguments.
    pub(crate) fn start_with(&self, more: &[&str]) -> Process {
        self.start_with_faults(more, "")
    }

    /// Starts it, with more arguments and with faults in its environment.
    pub(crate) fn start_with_faults(&self, more: &[&str], faults: &str) -> Process {
        let mut arguments = Vec::new();
        let mut add =
            |name: &str, value: &dyn std::fmt::Display| arguments.extend([format!("--{name}"), value.to_string()]);
        add("output", &self.scratch.output().display());
        add("store", &self.scratch.store().display());
        add("seed", &self.input.seed);
        add("percent", &self.input.percent);
        add("parallelism", &self.chosen.parallelism(self.parallelism));
        add("interval", &self.interval);
        add("work", &self.work);
        add("speed", &self.speed);
        arguments.extend(more.iter().map(|more| (*more).to_owned()));
        arguments.extend(self.more.iter().cloned());
        arguments.extend(self.chosen.arguments.iter().map(|argument| (*argument).to_owned()));
        Process::start_with_faults(&armed_program("second-job"), arguments, faults)
    }
}

impl Victim for SecondJob {
    fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    fn change(&mut self, seed: &mut Seed) {
        self.chosen = self.setting.choose(seed);
    }

    fn start(&self) -> Process {
        self.start_with(&[])
    }

    fn watch(&self, process: &mut Process, seed: &mut Seed) {
        match seed.within(0..3) {
            // From the very start, recovery included.
            0 => {}
            _ => {
                process.wait_for("completed", seed.within(1..4));
            }
        }
    }

    fn check(&mut self) -> Verdict<usize> {
        self.oracle.check()
    }

    fn check_complete(&mut self) -> Verdict {
        self.oracle.check_complete()
    }
}

fn kill_the_second_job(test: &str, parallelism: u32, catalogue: Catalogue, setting: Setting) {
    let mut seed = Seed::draw(test);
    let mut job = SecondJob::new(&mut seed, 100, parallelism).with(setting, &mut seed);
    job.interval = seed.within(10..50);
    job.speed = 50;
    kill_again_and_again(&mut job, catalogue, 10, &mut seed);
}

#[test]
fn the_second_job_survives_kills_at_random_moments() {
    kill_the_second_job("second job, one instance", 1, Catalogue::Kept, Setting::Usual);
}

#[test]
fn the_second_job_in_two_instances_survives_kills_at_random_moments() {
    kill_the_second_job("second job, two instances", 2, Catalogue::Kept, Setting::Usual);
}

#[test]
fn the_second_job_survives_the_loss_of_its_catalogue_between_kills() {
    kill_the_second_job("second job, damaged catalogue", 2, Catalogue::Damaged, Setting::Usual);
}

#[test]
fn the_second_job_survives_kills_at_random_moments_while_barriers_overtake() {
    kill_the_second_job("second job, overtaking", 2, Catalogue::Kept, Setting::Overtaking);
}

#[test]
fn the_second_job_survives_kills_at_random_moments_while_barriers_begin_to_overtake_after_a_time() {
    kill_the_second_job("second job, switching", 2, Catalogue::Kept, Setting::Switching);
}

#[test]
fn the_second_job_survives_kills_at_random_moments_with_increments_and_the_loss_of_its_catalogue() {
    kill_the_second_job("second job, incremental", 2, Catalogue::Damaged, Setting::Incremental);
}

#[test]
fn the_second_job_survives_kills_at_random_moments_with_local_copies() {
    kill_the_second_job("second job, local copies", 2, Catalogue::Kept, Setting::LocalCopies);
}

#[test]
fn the_second_job_survives_kills_at_random_moments_and_goes_on_at_other_parallelisms() {
    kill_the_second_job("second job, rescaled", 1, Catalogue::Kept, Setting::Rescaled);
}
