//! Jobs that are cancelled and are to leave no checkpoint: nothing that a completed one covers is lost, whatever fails on the way.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alluvium::connect::{Generator, Lines};
use alluvium::testing::simulation::{Boot, Next, Scenario, World};
use alluvium::{
    CheckpointId, ExternalizedCheckpointRetention, Job, JobEvent, JobState, Listener, Options, RestartStrategy,
};
use alluvium_actors::drive::control::Control;
use alluvium_actors::drive::supervisor::SupervisorSetup;
use alluvium_actors::ports::host::Address;

use crate::{files, schedules};

const OUTPUT: &str = "/output/numbers";
const NUMBERS: u64 = 400;

/// Copies numbers and is cancelled on the way.
#[derive(Default)]
pub(crate) struct Cancelled {
    /// The newest checkpoint that was seen complete.
    complete: Option<CheckpointId>,
    told: Arc<AtomicBool>,
}

/// Notes when the job says that checkpoints are left.
struct Told(Arc<dyn Listener>, Arc<AtomicBool>);

impl Listener for Told {
    fn event(&self, event: JobEvent) {
        if matches!(event, JobEvent::CheckpointsLeft { .. }) {
            self.1.store(true, Ordering::Relaxed);
        }
        self.0.event(event);
    }
}

/// How many files of a group are in the store.
fn stored(world: &World<'_>, group: &str) -> usize {
    world.disk.files().iter().filter(|path| path.parent() == Some(&Path::new("/store").join(group))).count()
}

/// The lines are 0, 1, 2, ... without a gap; how many there are.
fn prefix(world: &World<'_>) -> Result<u64, String> {
    let mut numbers: Vec<u64> = files::lines(world.disk, OUTPUT)?.iter().filter_map(|line| line.parse().ok()).collect();
    numbers.sort_unstable();
    if numbers.iter().copied().eq(0..numbers.len() as u64) {
        return Ok(numbers.len() as u64);
    }
    Err(format!("not every number once and without a gap: {numbers:?}"))
}

/// The newest checkpoint of which there is output.
fn newest_output(world: &World<'_>) -> Option<CheckpointId> {
    let named = world.disk.files().into_iter().filter(|path| path.starts_with(OUTPUT));
    let named = named.filter_map(|path| {
        let name = path.file_name()?.to_str()?.to_owned();
        let (_, rest) = name.strip_suffix(".csv")?.split_once("-c")?;
        Some(CheckpointId(rest.get(..20)?.parse().ok()?))
    });
    named.max()
}

impl Scenario for Cancelled {
    fn boot(&mut self, boot: &mut Boot<'_>) -> Result<SupervisorSetup, String> {
        let job = Job::new("cancelled");
        // So many that every checkpoint but the first has some.
        job.source("numbers", Generator::bounded(NUMBERS, |index| index).rate(5_000))
            .map(|number| number.to_string())
            .sink("lines", Lines::exactly_once(OUTPUT).suffix(".csv"));
        let graph = job.build().map_err(|errors| errors.to_string())?;
        let options = Options::default()
            .store("/store")
            .inline_limit(64)
            .checkpoint_every(Duration::from_millis(10))
            .maximum_concurrent_checkpoints(1 + boot.random() as usize % 3)
            .retained_checkpoints(1 + boot.random() as usize % 2)
            .externalized_checkpoints(ExternalizedCheckpointRetention::DeleteOnCancellation)
            .restart(RestartStrategy::FixedDelay { attempts: 100, delay: Duration::from_millis(3) });
        let after = Duration::from_micros(15_000 + boot.random() % 40_000);
        boot.send_after(after, Address::Supervisor, Control::CancelJob);
        let mut setup = boot.setup(&graph, &options, None).map_err(|error| error.to_string())?;
        self.told.store(false, Ordering::Relaxed);
        setup.listener = Arc::new(Told(Arc::clone(&setup.listener), Arc::clone(&self.told)));
        Ok(setup)
    }

    fn observe(&mut self, world: &World<'_>) -> Result<(), String> {
        self.complete = self.complete.max(world.complete);
        let judged = files::output_is_of_complete_checkpoints(world, OUTPUT);
        if judged.is_ok() {
            // Seen by its manifest, which nobody may ever announce: a process that is cancelled while it restores commits what it owes and deletes it.
            self.complete = self.complete.max(newest_output(world));
        }
        // Its manifest may be deleted already.
        if newest_output(world) <= self.complete { Ok(()) } else { judged }
    }

    fn ended(&mut self, world: &World<'_>) -> Result<Next, String> {
        let came_out = prefix(world)?;
        let left: BTreeMap<&str, usize> = ["manifests", "blobs"].map(|group| (group, stored(world, group))).into();
        match world.state {
            JobState::Finished if came_out == NUMBERS => Ok(Next::Nothing),
            JobState::Finished => Err(format!("finished with {came_out} numbers")),
            // What was to be deleted is: all that completed checkpoints cover came out.
            JobState::Cancelled if left.values().all(|count| *count == 0) => {
                let (output, complete) = (newest_output(world), self.complete);
                if came_out > 0 && output < complete {
                    return Err(format!("output of {output:?} is the newest, {complete:?} was complete"));
                }
                Ok(Next::Nothing)
            }
            // It was cancelled when its last checkpoint was complete: a final one stays in any case.
            JobState::Cancelled
                if came_out == NUMBERS && files::nothing_is_left_over(world.disk, "cancelled", &[OUTPUT]).is_ok() =>
            {
                Ok(Next::Nothing)
            }
            // What stands in the way is told, and the next process goes on.
            JobState::Cancelled if self.told.load(Ordering::Relaxed) => Ok(Next::StartAgain),
            JobState::Cancelled => Err(format!("left over after a cancellation without a word: {left:?}")),
            // A crash came after the record that the next start begins anew: that start refuses to write over the output.
            JobState::Failed if came_out > 0 && newest_output(world) >= self.complete => Ok(Next::Nothing),
            other => Err(format!("the job is {other}, {came_out} numbers came out, complete was {:?}", self.complete)),
        }
    }
}

#[test]
fn a_cancellation_that_deletes_loses_nothing_with_a_crash_at_every_effect() {
    schedules::run("cancelled, effects", schedules::crashes_at_every_effect(7, Cancelled::default), Cancelled::default);
}

#[test]
fn a_cancellation_that_deletes_loses_nothing_with_random_crashes_and_faults() {
    schedules::run("cancelled, random", schedules::random(3_000, 200), Cancelled::default);
}
