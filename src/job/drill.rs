//! Faults in a running job: crash tests in child processes, and drills in a service. Only in builds with the feature `fault-injection`.
//!
//! The faults are those of [`testing::faults`](crate::testing::faults), at the same points, carried out by the actix host on real threads:
//!
//! ```
//! use std::time::Duration;
//!
//! use alluvium::connect::{Collect, Generator};
//! use alluvium::drill::{Arming, FaultDrill};
//! use alluvium::testing::faults::{Fault, Point};
//! use alluvium::{Job, Options};
//!
//! let collect = Collect::new();
//! let job = Job::new("numbers");
//! job.source("numbers", Generator::bounded(20_000, |index| index).rate(100_000)).sink("collect", collect.clone());
//! let drill = FaultDrill::new();
//! let options = Options::default().checkpoint_every(Duration::from_millis(20)).faults(drill.clone());
//! let handle = job.build()?.start(&options)?;
//!
//! // The job runs. The next commit fails once; whatever comes of it, the drill is over after ten seconds.
//! drill.arm(Arming::of(Fault::error(Point::CommitBegins)?).at_most(Duration::from_secs(10)))?;
//! assert!(drill.wait_for_strikes(1, Duration::from_secs(10)));
//! println!("{}", drill.strikes()[0]);
//!
//! handle.wait_blocking()?;
//! assert_eq!(collect.collected().len(), 20_000);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! Without a line of code the same is had from the environment, read by [`Graph::start`](crate::Graph::start): `ALLUVIUM_FAULTS="commit.begins=error"`, and
//! `ALLUVIUM_FAULTS_SEED` for faults with a probability.

mod environment;
mod error;
mod judge;
mod state;

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

pub use environment::{FAULTS_VARIABLE, SEED_VARIABLE};
pub use error::DrillError;
pub(super) use judge::{attach, refuse};

use crate::fault::{Fault, FaultPlan, Point};
use state::State;

/// How many strikes are remembered, the newest of them.
pub const LONGEST_RECORD: usize = 10_000;

/// Faults of a running job: armed, disarmed and asked while it runs. Clones are the same drill.
///
/// It is given to the job by [`Options::faults`](crate::Options::faults), armed before or after the start. Several jobs may have the same drill; a fault's filters and
/// counts then mean all of them together.
#[derive(Clone)]
pub struct FaultDrill {
    shared: Arc<Shared>,
}

struct Shared {
    seed: u64,
    state: Mutex<State>,
    struck: Condvar,
}

/// What is to be armed, and for how long.
#[derive(Clone, Debug, PartialEq)]
pub struct Arming {
    plan: FaultPlan,
    time: Option<Duration>,
    strikes: Option<u64>,
}

impl Arming {
    /// This plan, or this fault, until it is disarmed.
    #[must_use]
    pub fn of(plan: impl Into<FaultPlan>) -> Arming {
        Arming { plan: plan.into(), time: None, strikes: None }
    }

    /// Is disarmed after this time; what stands still by then goes on.
    #[must_use]
    pub fn at_most(self, time: Duration) -> Arming {
        Arming { time: Some(time), ..self }
    }

    /// Is disarmed after so many strikes of all its faults together; what stands still by then stands on.
    #[must_use]
    pub fn strikes(self, strikes: u64) -> Arming {
        Arming { strikes: Some(strikes), ..self }
    }
}

impl<P: Into<FaultPlan>> From<P> for Arming {
    fn from(plan: P) -> Arming {
        Arming::of(plan)
    }
}

/// A fault has struck.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Struck {
    /// 1 is the first of the drill.
    pub number: u64,
    /// When.
    pub at: SystemTime,
    /// In which job.
    pub job: String,
    /// Which fault.
    pub fault: Fault,
    /// Who was at the point, for which checkpoint: `counts[1] to coordinator, checkpoint 7`.
    pub place: String,
}

impl fmt::Display for Struck {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "strike {} in job {}: {} ({})", self.number, self.job, self.fault, self.place)
    }
}

impl FaultDrill {
    /// Nothing is armed. The seed of faults with a probability is drawn; see [`FaultDrill::seed`].
    #[must_use]
    pub fn new() -> FaultDrill {
        FaultDrill::seeded(super::random_seed())
    }

    /// Nothing is armed. Faults with a probability are decided by this seed, in the order in which their points are reached.
    #[must_use]
    pub fn seeded(seed: u64) -> FaultDrill {
        FaultDrill { shared: Arc::new(Shared { seed, state: Mutex::new(State::new(seed)), struck: Condvar::new() }) }
    }

    /// The seed, as it was given or drawn.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.shared.seed
    }

    /// Arms a plan, in place of what is armed now; hits are counted from here. What stands still by an earlier plan goes on.
    ///
    /// # Errors
    /// When a fault can only be simulated, or names an operator that no job of the drill has. Then everything stays as it is.
    pub fn arm(&self, arming: impl Into<Arming>) -> Result<(), DrillError> {
        let Arming { plan, time, strikes } = arming.into();
        let mut state = self.state();
        state.check(&plan)?;
        tracing::warn!(faults = %plan, ?time, strikes, seed = self.seed(), "faults are armed in this process");
        let wakers = state.arm(&plan, time.map(|time| Instant::now() + time), strikes);
        drop(state);
        wakers.into_iter().for_each(std::task::Waker::wake);
        Ok(())
    }

    /// Lets nothing strike any more. What stands still goes on.
    pub fn disarm(&self) {
        let mut state = self.state();
        if !state.plan(Instant::now()).is_empty() {
            tracing::warn!("the faults of this process are disarmed");
        }
        let wakers = state.arm(&FaultPlan::default(), None, None);
        drop(state);
        wakers.into_iter().for_each(std::task::Waker::wake);
    }

    /// Lets everything go on that stands still. Gives how much it was.
    pub fn release(&self) -> usize {
        let mut state = self.state();
        let standing = state.standing(Instant::now());
        let wakers = state.release(|_| true);
        drop(state);
        wakers.into_iter().for_each(std::task::Waker::wake);
        standing
    }

    /// How many messages, actors and threads stand still now, by a delay or a hold.
    #[must_use]
    pub fn standing(&self) -> usize {
        self.state().standing(Instant::now())
    }

    /// What is armed now; empty when nothing is.
    #[must_use]
    pub fn armed(&self) -> FaultPlan {
        self.state().plan(Instant::now())
    }

    /// The faults of the plan that was armed last which have not struck.
    #[must_use]
    pub fn unstruck(&self) -> Vec<Fault> {
        self.state().unstruck()
    }

    /// What has struck since the drill was made, in order: the last [`LONGEST_RECORD`] strikes.
    #[must_use]
    pub fn strikes(&self) -> Vec<Struck> {
        self.state().strikes()
    }

    /// Waits until so many have struck since the drill was made. False when the time is over before. Not on a thread that runs actors: it blocks.
    #[must_use]
    pub fn wait_for_strikes(&self, strikes: u64, at_most: Duration) -> bool {
        let too_few = |state: &mut State| state.struck() < strikes;
        let waited = self.shared.struck.wait_timeout_while(self.state(), at_most, too_few);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// How often somebody has reached this point since the drill was made, whether something struck there or not.
    #[must_use]
    pub fn reached(&self, point: Point) -> u64 {
        self.state().reached(point)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for FaultDrill {
    fn default() -> FaultDrill {
        FaultDrill::new()
    }
}

impl fmt::Debug for FaultDrill {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let armed = self.armed().to_string();
        formatter.debug_struct("FaultDrill").field("seed", &self.seed()).field("armed", &armed).finish_non_exhaustive()
    }
}
