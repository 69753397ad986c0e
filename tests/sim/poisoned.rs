//! A store that cannot be believed any more ends the job (rule 23), also one that goes on however many checkpoints fail: it would never commit again.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use alluvium::connect::{Collect, Generator};
use alluvium::testing::disk::{DiskFault, SimulatedDisk};
use alluvium::testing::simulation::{Boot, Faults, Next, Scenario, Simulation, World};
use alluvium::{Job, JobEvent, JobState, Listener, Options};
use alluvium_actors::drive::supervisor::SupervisorSetup;

use crate::chance;

/// A job that runs until it is stopped, on a disk of which one sync fails.
struct Endless {
    /// The change of the disk that fails.
    effect: u64,
    failures: Arc<Mutex<Vec<String>>>,
    ended: Option<JobState>,
}

/// Keeps the failures that a job tells.
struct Failures(Arc<Mutex<Vec<String>>>);

impl Listener for Failures {
    fn event(&self, event: JobEvent) {
        if let JobEvent::Failed(failure) = event {
            self.0.lock().unwrap().push(failure.to_string());
        }
    }
}

impl Scenario for Endless {
    fn prepare(&mut self, disk: &SimulatedDisk) {
        disk.fail_at_effect(self.effect, DiskFault::FailedSync);
    }

    fn boot(&mut self, boot: &mut Boot<'_>) -> Result<SupervisorSetup, String> {
        let job = Job::new("endless");
        let numbers = Generator::unbounded(|index| index).rate(2_000);
        job.source("numbers", numbers)
            .key_by_value(|number| number % 50)
            .reduce("last", |_, last| last)
            .sink("kept", Collect::new());
        let options = Options::default()
            .store("/store")
            .inline_limit(64)
            .checkpoint_every(Duration::from_millis(10))
            .continue_on_checkpoint_errors()
            .listener(Arc::new(Failures(Arc::clone(&self.failures))));
        chance::stop_after(boot, Duration::from_millis(300), &chance::Promises::default());
        boot.setup(&job.build().map_err(|errors| errors.to_string())?, &options, None)
            .map_err(|error| error.to_string())
    }

    fn ended(&mut self, world: &World<'_>) -> Result<Next, String> {
        self.ended = Some(world.state);
        Ok(Next::Nothing)
    }
}

#[test]
fn a_job_that_tolerates_every_failed_checkpoint_ends_when_a_sync_of_its_store_failed() {
    let mut ended = 0;
    // From the first checkpoint on: what fails before it fails the start.
    for effect in 20..90 {
        let failures: Arc<Mutex<Vec<String>>> = Arc::default();
        let mut job = Endless { effect, failures: Arc::clone(&failures), ended: None };
        let ran = Simulation::new(effect).with(Faults::None).run(&mut job);
        // One that goes on and cannot take a checkpoint any more cannot be stopped either.
        let report = ran.unwrap_or_else(|trouble| panic!("{trouble}"));
        // A process that its disk made fail is followed by another one, which goes on.
        assert_eq!(job.ended, Some(JobState::Stopped));
        if report.failures > 0 {
            ended += 1;
            let failures = failures.lock().unwrap();
            let says_why = |failure: &String| failure.contains("sync") || failure.contains("cannot be found out");
            assert!(failures.first().is_some_and(says_why), "{failures:?}");
        }
    }
    assert!(ended > 10, "{ended} of the failed syncs ended the job");
}
