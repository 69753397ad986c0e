//! What belongs to one run of a test.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::process::{Ask, TestProcess};
use crate::graph::{BuildErrors, Graph};
use crate::job::Options;
use crate::record::Record;
use crate::testing::check::{Check, CheckpointRecords, Commits, StoreFiles};
use crate::testing::models::{FlakyService, Ledger, Records};
use crate::testing::simulation::Outside;

/// Builds the job of a process.
pub(super) type BuildJob = Box<dyn FnMut(&mut TestProcess<'_, '_>) -> Result<Graph, BuildErrors>>;

/// One run of a [`JobTest`](super::JobTest): its outside world, what is checked, how the job is run, and what is asked of it meanwhile.
pub struct TestRun {
    outside: Outside,
    pub(super) job: Option<BuildJob>,
    pub(super) options: Option<Options>,
    pub(super) checks: Vec<Box<dyn Check>>,
    pub(super) files: Vec<(PathBuf, Vec<u8>)>,
    pub(super) asks: Vec<RunAsk>,
}

/// Something that is asked for at a virtual time of the run.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunAsk {
    pub(super) at: Duration,
    pub(super) ask: Ask,
    /// Whether the run is over when the job has done it.
    pub(super) for_good: bool,
}

impl fmt::Debug for TestRun {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "TestRun({} checks)", self.checks.len())
    }
}

impl TestRun {
    pub(super) fn new(outside: &Outside) -> TestRun {
        TestRun {
            outside: outside.clone(),
            job: None,
            options: None,
            checks: vec![Box::new(StoreFiles::new()), Box::new(CheckpointRecords::new())],
            files: Vec::new(),
            asks: Vec::new(),
        }
    }

    /// The world outside of the job: virtual time, chance, the story. Models of one's own stand on it.
    #[must_use]
    pub fn outside(&self) -> &Outside {
        &self.outside
    }

    /// A replayable source of `count` records, made by a function of their index. See [`Records`].
    #[must_use]
    pub fn records<T: Record>(
        &self,
        name: &str,
        count: u64,
        produce: impl Fn(u64) -> T + Send + Sync + 'static,
    ) -> Records<T> {
        Records::bounded(&self.outside, name, count, produce)
    }

    /// A transactional sink. See [`Ledger`]. That two-phase commit is kept is checked ([`Commits`]).
    #[must_use]
    pub fn ledger<T: Record>(&mut self, name: &str) -> Ledger<T> {
        let ledger = Ledger::new(&self.outside, name);
        self.check(Commits::of(&ledger));
        ledger
    }

    /// An outside service. See [`FlakyService`].
    #[must_use]
    pub fn service<Q: Record, A: Send + 'static>(
        &self,
        name: &str,
        handler: impl FnMut(&Q) -> A + Send + 'static,
    ) -> FlakyService<Q, A> {
        FlakyService::new(&self.outside, name, handler)
    }

    /// Puts a file on the simulated disk, before the first process starts.
    pub fn file(&mut self, path: impl Into<PathBuf>, content: impl Into<Vec<u8>>) {
        self.files.push((path.into(), content.into()));
    }

    /// Adds a checker. That no blob of the store is lost or leaks ([`StoreFiles`]), that what checkpoints say of themselves is true ([`CheckpointRecords`]), that numbers grow
    /// ([`MonotoneIds`](crate::testing::check::MonotoneIds)) and that a checkpoint which a user was told of stays complete is checked in any case.
    pub fn check(&mut self, check: impl Check + 'static) {
        self.checks.push(Box::new(check));
    }

    /// How the job is run. Without a store in them it gets one on the simulated disk, and without this call a checkpoint every 10 ms.
    pub fn options(&mut self, options: Options) {
        self.options = Some(options);
    }

    /// The job. `build` is called for each process of the run, as the `main` of a program is, and what it captures is what outlives a crash: models, nothing else.
    pub fn job(&mut self, build: impl FnMut(&mut TestProcess<'_, '_>) -> Result<Graph, BuildErrors> + 'static) {
        self.job = Some(Box::new(build));
    }

    /// Asks for a checkpoint at this virtual time of the run.
    pub fn checkpoint_after(&mut self, at: Duration) {
        self.ask(at, Ask::Checkpoint, false);
    }

    /// Asks for a stop at this virtual time of the run; then the job is started again and goes on. A job that has no end by itself ends with the last stop.
    pub fn stop_after(&mut self, at: Duration) {
        self.ask(at, Ask::Stop, false);
    }

    /// Asks for a stop at this virtual time of the run, and the run ends with it.
    pub fn stop_for_good_after(&mut self, at: Duration) {
        self.ask(at, Ask::Stop, true);
    }

    /// Cancels the job at this virtual time of the run; then it is started again and goes on.
    pub fn cancel_after(&mut self, at: Duration) {
        self.ask(at, Ask::Cancel, false);
    }

    /// Cancels the job at this virtual time of the run, and the run ends with it.
    pub fn cancel_for_good_after(&mut self, at: Duration) {
        self.ask(at, Ask::Cancel, true);
    }

    fn ask(&mut self, at: Duration, ask: Ask, for_good: bool) {
        self.asks.push(RunAsk { at, ask, for_good });
    }
}
