//! A test of a job as the simulation sees it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alluvium_actors::drive::control::{Control, Reply};
use alluvium_actors::drive::supervisor::SupervisorSetup;
use alluvium_actors::ids::{CheckpointId, Moment};
use alluvium_actors::ports::host::Address;
use alluvium_actors::ports::listener::JobEvent;
use alluvium_actors::protocol::lifecycle::JobState;

use super::process::{Ask, TestProcess};
use super::test_run::{RunAsk, TestRun};
use crate::job::Options;
use crate::testing::catalogue::{CatalogueFate, SimulatedCatalogue};
use crate::testing::check::{Check, Scene, Verdict, Violation};
use crate::testing::disk::SimulatedDisk;
use crate::testing::simulation::{Boot, Next, Outside, Scenario, World};

/// Where a job keeps its checkpoints whose options do not say.
const STORE: &str = "/store";

/// How often a job without options takes a checkpoint.
const INTERVAL: Duration = Duration::from_millis(10);

/// How often, and at which distance, an end is asked for again that did not come.
const ASKED_AGAIN: u32 = 100;
const AGAIN: Duration = Duration::from_millis(100);

/// One run of a test.
pub(super) struct JobScenario<'a> {
    build: &'a (dyn Fn(&mut TestRun) + Send + Sync),
    run: Option<TestRun>,
    job: String,
    store: Option<PathBuf>,
    /// It does not end by itself.
    unbounded: bool,
    catalogue: SimulatedCatalogue,
    /// Checkpoints of which users were told that they are complete.
    promised: Arc<Mutex<Option<CheckpointId>>>,
}

impl<'a> JobScenario<'a> {
    pub(super) fn new(build: &'a (dyn Fn(&mut TestRun) + Send + Sync)) -> JobScenario<'a> {
        JobScenario {
            build,
            run: None,
            job: String::new(),
            store: None,
            unbounded: false,
            catalogue: SimulatedCatalogue::new(),
            promised: Arc::default(),
        }
    }

    fn run(&mut self) -> Result<&mut TestRun, String> {
        self.run.as_mut().ok_or_else(|| "the simulation did not begin with `Scenario::begin`".to_owned())
    }

    fn reply(&self) -> Reply<CheckpointId> {
        let promised = Arc::clone(&self.promised);
        Reply(Box::new(move |answer| {
            let mut promised = promised.lock().unwrap_or_else(PoisonError::into_inner);
            *promised = (*promised).max(answer.ok());
        }))
    }

    fn send(&self, boot: &mut Boot<'_>, delay: Duration, ask: Ask) {
        match ask {
            Ask::Checkpoint => boot.send_after(delay, Address::Coordinator, Control::TakeCheckpoint(self.reply())),
            Ask::Stop => boot.send_after(delay, Address::Supervisor, Control::Stop(self.reply())),
            Ask::Cancel => boot.send_after(delay, Address::Supervisor, Control::CancelJob),
        }
    }

    /// The catalogue that a process finds: as it was left or, in a run with faults, with gaps, older, empty, or broken. It is an index; losing it loses nothing.
    fn find_catalogue(&self, boot: &mut Boot<'_>) -> Arc<SimulatedCatalogue> {
        let drawn = boot.random();
        // Drawn in any case: a run without faults goes the way of the others.
        let (fate, seed) = match drawn % 8 {
            0 => (CatalogueFate::Empty, drawn),
            1 => (CatalogueFate::PartlyLost, boot.random()),
            2 => (CatalogueFate::Broken, drawn),
            3 => (CatalogueFate::Earlier, drawn),
            _ => (CatalogueFate::Kept, drawn),
        };
        let fate = if boot.may_go_wrong() { fate } else { CatalogueFate::Kept };
        self.catalogue.open_again(fate, seed);
        if fate != CatalogueFate::Kept {
            boot.outside().tell("catalogue", format_args!("is found {fate}"));
        }
        Arc::new(self.catalogue.clone())
    }

    /// Calls each checker, with what it may look at.
    fn look(
        &mut self,
        world: &World<'_>,
        mut call: impl FnMut(&mut dyn Check, &Scene<'_>) -> Result<(), Violation>,
    ) -> Result<(), String> {
        let JobScenario { run, job, store, promised, .. } = self;
        let run = run.as_mut().ok_or("nothing was built")?;
        let outside = run.outside().clone();
        let promised = *promised.lock().unwrap_or_else(PoisonError::into_inner);
        outside.history(|history| {
            if promised > history.newest_complete() {
                return Err(format!(
                    "a user was told that checkpoint {promised:?} is complete, and the newest is {:?}",
                    history.newest_complete()
                ));
            }
            let scene = Scene { world, history, job, store: store.as_deref() };
            for check in &mut run.checks {
                let rule = check.rule().to_owned();
                call(check.as_mut(), &scene).map_err(|violation| format!("{rule} is violated: {violation}"))?;
            }
            Ok(())
        })
    }

    /// Whether the run is to end with this.
    fn ends_the_run(&self, ask: &RunAsk) -> bool {
        ask.ask != Ask::Checkpoint && (ask.for_good || self.unbounded)
    }

    /// Whether the run ends with a job that was stopped or cancelled.
    fn ends_here(&self, now: Moment) -> bool {
        let now = now.since(Moment::default());
        let asks = self.run.as_ref().map(|run| run.asks.as_slice()).unwrap_or_default();
        let for_good = asks.iter().any(|ask| ask.for_good && ask.at <= now);
        for_good || (self.unbounded && asks.iter().all(|ask| ask.ask == Ask::Checkpoint || ask.at <= now))
    }

    fn check_the_end(&mut self, world: &World<'_>) -> Result<Next, String> {
        let mut left_over = None;
        self.look(world, |check, scene| {
            if let Verdict::LeftOver(what) = check.ended(scene)? {
                left_over.get_or_insert((check.rule().to_owned(), what));
            }
            Ok(())
        })?;
        match left_over {
            Some((rule, what)) if world.calm => Err(format!("{rule} is violated: {what}")),
            Some(_) if world.state == JobState::Finished => Ok(Next::StartAgain),
            _ => Ok(Next::Nothing),
        }
    }

    fn failure(&mut self) -> String {
        let Some(run) = &self.run else { return String::new() };
        run.outside().history(|history| {
            let failures = history.events().iter().rev().filter_map(|(_, event)| match event {
                JobEvent::Failed(failure) => Some(failure.to_string()),
                _ => None,
            });
            failures.take(1).collect()
        })
    }
}

impl Scenario for JobScenario<'_> {
    fn begin(&mut self, outside: &Outside) {
        let mut run = TestRun::new(outside);
        (self.build)(&mut run);
        self.run = Some(run);
    }

    fn prepare(&mut self, disk: &SimulatedDisk) {
        for (path, content) in self.run.iter().flat_map(|run| &run.files) {
            disk.set_content(path, content);
        }
    }

    fn boot(&mut self, boot: &mut Boot<'_>) -> Result<SupervisorSetup, String> {
        let now = boot.outside().now().since(Moment::default());
        let catalogue = self.find_catalogue(boot);
        let run = self.run()?;
        let build =
            run.job.as_mut().ok_or("the test has no job: call `run.job(..)` in the closure of `JobTest::new`")?;
        let mut process = TestProcess::new(boot);
        let graph = build(&mut process).map_err(|errors| errors.to_string())?;
        let TestProcess { options, asks, .. } = process;
        let options = options.or_else(|| run.options.clone());
        let mut options = options.unwrap_or_else(|| Options::default().checkpoint_every(INTERVAL));
        if options.store_directory().is_none() {
            options = options.store(STORE);
        }
        let run_asks = run.asks.clone();
        let ends = asks
            .iter()
            .map(|(_, ask)| *ask)
            .chain(run_asks.iter().map(|ask| ask.ask))
            .any(|ask| ask != Ask::Checkpoint);
        self.unbounded = !graph.unbounded_sources().is_empty();
        if self.unbounded && !ends {
            let source = &graph.unbounded_sources()[0];
            return Err(format!(
                "the source `{source}` has no end, and nobody stops the job: call `run.stop_after(..)`"
            ));
        }
        self.job = graph.name().to_owned();
        self.store = options.store_directory().map(ToOwned::to_owned);
        for (delay, ask) in asks {
            self.send(boot, delay, ask);
        }
        for (number, ask) in run_asks.iter().enumerate() {
            if ask.at >= now {
                self.send(boot, ask.at - now, ask.ask);
            }
            // Who wants the job to end asks again: after a crash, and when the checkpoint of the stop failed.
            if self.ends_the_run(ask) && !run_asks[number + 1..].iter().any(|later| self.ends_the_run(later)) {
                let first = ask.at.saturating_sub(now);
                (1..=ASKED_AGAIN).for_each(|time| self.send(boot, first + AGAIN * time, ask.ask));
            }
        }
        boot.setup(&graph, &options, Some(catalogue)).map_err(|error| error.to_string())
    }

    fn observe(&mut self, world: &World<'_>) -> Result<(), String> {
        self.look(world, |check, scene| check.observe(scene))
    }

    fn ended(&mut self, world: &World<'_>) -> Result<Next, String> {
        self.observe(world)?;
        match world.state {
            JobState::Finished => self.check_the_end(world),
            JobState::Stopped | JobState::Cancelled if self.ends_here(world.now) => self.check_the_end(world),
            JobState::Stopped | JobState::Cancelled => Ok(Next::StartAgain),
            other => Err(format!("the job is {other}: {}", self.failure())),
        }
    }
}
