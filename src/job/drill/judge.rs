//! The drill of a job behind the door of the actix host.

use std::io::Write as _;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Instant, SystemTime};

use alluvium_actors::plan::Plan;
use alluvium_actors::ports::points::Hit;
use alluvium_actors::run::{Blow, Judge};

use super::state::Reached;
use super::{DrillError, FAULTS_VARIABLE, FaultDrill, environment};
use crate::fault::{Names, What};

/// What decides for one job.
struct JobJudge {
    drill: FaultDrill,
    names: Arc<Names>,
    job: Arc<str>,
}

/// The judge of a job that starts: with the drill it was given, with what the environment asks for, or none.
///
/// # Errors
/// When the environment's text is wrong, or asks for what cannot be.
pub(in crate::job) fn attach(given: Option<&FaultDrill>, plan: &Plan) -> Result<Option<Arc<dyn Judge>>, DrillError> {
    let asked = environment::plan()?;
    let drill = match given {
        Some(drill) => drill.clone(),
        None if asked.is_empty() => return Ok(None),
        None => environment::drill()?,
    };
    let names = Arc::new(Names::of(plan));
    let mut state = drill.state();
    state.attach(&names);
    state.take_from_environment(&asked)?;
    let armed = state.plan(Instant::now());
    for operator in armed.faults().iter().filter_map(|fault| fault.at_operator()) {
        if !names.knows(operator) {
            let known = names.known();
            tracing::warn!(job = %plan.job, operator, known, "a fault is armed at an operator that this job does not have");
        }
    }
    drop(state);
    if armed.is_empty() {
        tracing::warn!(job = %plan.job, "faults can be armed in this job: it has a fault drill");
    } else {
        let (seed, variable) = (drill.seed(), FAULTS_VARIABLE);
        tracing::warn!(job = %plan.job, faults = %armed, seed, variable, "FAULTS ARE ARMED in this job");
    }
    Ok(Some(Arc::new(JobJudge { drill, names, job: Arc::clone(&plan.job) })))
}

/// A simulated run has no drill.
///
/// # Errors
/// When it was given one.
pub(in crate::job) fn refuse(given: Option<&FaultDrill>) -> Result<(), DrillError> {
    given.map_or(Ok(()), |_| Err(DrillError::Simulated))
}

impl Judge for JobJudge {
    fn judge(&self, hit: &Hit<'_>, from: Instant) -> Option<Blow> {
        let when = (Instant::now(), from);
        let Reached { wakers, struck } = self.drill.state().reach(hit, &self.names, &self.job, when, SystemTime::now);
        wakers.into_iter().for_each(Waker::wake);
        let (struck, wait) = struck?;
        self.drill.shared.struck.notify_all();
        tracing::warn!(job = %self.job, fault = %struck.fault, place = struck.place, strike = struck.number, "a fault strikes");
        Some(match struck.fault.what() {
            What::Crash(_) => {
                // Nothing that is buffered will be written any more, so it is said past every logger.
                let _ = writeln!(std::io::stderr(), "alluvium ends this process by an injected fault: {struck}");
                Blow::Crash
            }
            What::Kill => Blow::Kill,
            What::Error => Blow::Error,
            What::Panic => Blow::Panic,
            What::Drop => Blow::Drop,
            What::Duplicate => Blow::Duplicate,
            What::Delay(_) | What::Hold(_) => {
                let (number, at) = wait?;
                Blow::Wait { number, at }
            }
        })
    }

    fn is_released(&self, number: u64, waker: &Waker) -> bool {
        self.drill.state().is_released(number, waker)
    }
}
