//! What differs from process to process by chance: how the job is configured, what its users ask for, and when their code panics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alluvium::testing::catalogue::SimulatedCatalogue;
use alluvium::testing::simulation::{Boot, Next, World};
use alluvium::{CheckpointId, JobState, LocalRecovery, Options, RestartStrategy};
use alluvium_actors::drive::control::{Control, Reply};
use alluvium_actors::ports::host::Address;

/// How a process runs the job, with every kind of tolerance of failed checkpoints in turn.
pub(crate) fn options(boot: &mut Boot<'_>) -> Options {
    let options = tolerance_left_open(boot);
    match boot.number() % 3 {
        0 => options,
        1 => options.tolerable_checkpoint_failures(1),
        _ => options.continue_on_checkpoint_errors(),
    }
}

/// The same for a job that no failed checkpoint is to restart.
pub(crate) fn tolerant_options(boot: &mut Boot<'_>) -> Options {
    tolerance_left_open(boot).continue_on_checkpoint_errors()
}

fn tolerance_left_open(boot: &mut Boot<'_>) -> Options {
    let drawn = boot.random() as usize;
    let options = Options::default()
        .store("/store")
        // The state is small; so that some of it goes into blobs all the same, little of it fits into a manifest.
        .inline_limit([64, 500, 20_000][drawn % 3])
        .checkpoint_every(Duration::from_millis([10, 10, 25][boot.random() as usize % 3]))
        .checkpoint_timeout(Duration::from_millis([15, 100, 10_000][boot.random() as usize % 3]))
        .retained_checkpoints(1 + boot.random() as usize % 3)
        .restart(RestartStrategy::FixedDelay { attempts: 100, delay: Duration::from_millis(3) });
    let options = local_copies(options, drawn / 36);
    let options = match drawn / 3 % 4 {
        0 | 1 => options,
        2 => options.incremental(true).max_increments(1 + drawn / 12 % 3),
        _ => options.incremental(true).max_space_amplification(3.0),
    };
    match boot.random() % 4 {
        0 => options.minimum_pause(Duration::from_millis(5)),
        more => options.maximum_concurrent_checkpoints(more as usize),
    }
}

/// Keeps local copies or not, in memory, in files, or some of both, by a number that was drawn for something else.
pub(crate) fn local_copies(options: Options, drawn: usize) -> Options {
    let local = LocalRecovery::default();
    match drawn % 6 {
        0..=2 => options,
        3 => options.local_recovery(local),
        4 => options.local_recovery(local.memory_limit(0).directory(LOCAL)),
        _ => options.local_recovery(local.memory_limit(2_000).directory(LOCAL)),
    }
}

/// Where local copies are, if they are files.
pub(crate) const LOCAL: &str = "/local";

/// What users asked for and were promised: checkpoints that are complete.
#[derive(Clone, Debug, Default)]
pub(crate) struct Promises(Arc<Mutex<Vec<CheckpointId>>>);

impl Promises {
    fn reply(&self) -> Reply<CheckpointId> {
        let promises = Arc::clone(&self.0);
        Reply(Box::new(move |answer| promises.lock().unwrap().extend(answer)))
    }

    pub(crate) fn are_kept(&self, world: &World<'_>) -> Result<(), String> {
        let promised = self.0.lock().unwrap().iter().max().copied();
        if promised <= world.complete {
            return Ok(());
        }
        Err(format!("a user was told of checkpoint {promised:?}, complete is {:?}", world.complete))
    }
}

/// What users ask for: a checkpoint now and then, at times a stop or a cancellation.
pub(crate) fn users(boot: &mut Boot<'_>, promises: &Promises) {
    for _ in 0..boot.random() % 3 {
        let after = Duration::from_micros(boot.random() % 60_000);
        boot.send_after(after, Address::Coordinator, Control::TakeCheckpoint(promises.reply()));
    }
    if boot.number() > 6 {
        return;
    }
    let after = Duration::from_micros(boot.random() % 60_000);
    match boot.random() % 12 {
        0..2 => boot.send_after(after, Address::Supervisor, Control::Stop(promises.reply())),
        2 => boot.send_after(after, Address::Supervisor, Control::CancelJob),
        _ => {}
    }
}

/// Users ask for a stop after this time.
pub(crate) fn stop_after(boot: &mut Boot<'_>, after: Duration, promises: &Promises) {
    boot.send_after(after, Address::Supervisor, Control::Stop(promises.reply()));
}

/// The catalogue that a process finds: the one before, with gaps, empty, broken, or none.
pub(crate) fn catalogue(boot: &mut Boot<'_>, kept: &SimulatedCatalogue) -> Option<Arc<SimulatedCatalogue>> {
    kept.set_broken(false);
    match boot.random() % 8 {
        0 => return None,
        1 => kept.lose_everything(),
        2 => kept.lose_some(boot.random()),
        3 => kept.set_broken(true),
        _ => {}
    }
    Some(Arc::new(kept.clone()))
}

/// A user's function that panics once in a while: after so many calls, in this process.
#[derive(Clone, Debug)]
pub(crate) struct Fuse {
    /// Calls until the next panic.
    left: Arc<AtomicU64>,
    /// Calls from each panic to the one after it, the next one last.
    then: Arc<Mutex<Vec<u64>>>,
}

impl Fuse {
    pub(crate) fn new(boot: &mut Boot<'_>, calls: u64) -> Fuse {
        let burns = boot.number() <= 6 && boot.random().is_multiple_of(4);
        Fuse::after(if burns { 1 + boot.random() % calls } else { 0 }, Vec::new())
    }

    /// One that panics several times: the first time within so many calls.
    pub(crate) fn several(boot: &mut Boot<'_>, calls: u64) -> Fuse {
        let then = (0..boot.random() % 4).map(|_| 1 + boot.random() % calls).collect();
        Fuse::after(1 + boot.random() % calls, then)
    }

    /// One that never panics.
    pub(crate) fn never() -> Fuse {
        Fuse::after(0, Vec::new())
    }

    fn after(calls: u64, then: Vec<u64>) -> Fuse {
        Fuse { left: Arc::new(AtomicU64::new(calls)), then: Arc::new(Mutex::new(then)) }
    }

    pub(crate) fn burn(&self) {
        let left = self.left.load(Ordering::Relaxed);
        if left == 1 {
            let next = self.then.lock().unwrap().pop();
            self.left.store(next.unwrap_or(0), Ordering::Relaxed);
            panic!("the user's code panics");
        }
        self.left.store(left.saturating_sub(1), Ordering::Relaxed);
    }
}

/// Whether the job has come to its end; a stopped and a cancelled one go on in the next process.
pub(crate) fn finished(world: &World<'_>) -> Result<Option<Next>, String> {
    match world.state {
        JobState::Finished => Ok(None),
        JobState::Stopped | JobState::Cancelled => Ok(Some(Next::StartAgain)),
        other => Err(format!("the job is {other}")),
    }
}

/// What follows the end of a job that has left something over: a process without faults must have cleaned up, another start must do so.
pub(crate) fn cleaned_up(world: &World<'_>, left_over: Result<(), String>) -> Result<Next, String> {
    match left_over {
        Ok(()) => Ok(Next::Nothing),
        Err(_) if !world.calm => Ok(Next::StartAgain),
        Err(left_over) => Err(left_over),
    }
}
