//! What always holds in a supervisor.

use super::message::Part;
use super::{Goal, Phase, Supervisor};
use crate::ids::{Attempt, RegionId};
use crate::protocol::machine::{Invariant, Violation};

/// Every invariant of the supervisor.
pub const INVARIANTS: [&Invariant; 4] = [&ONE_ATTEMPT, &FAILURE_HAS_A_CAUSE, &JOB_ENDS_WHOLE, &ATTEMPTS_ASCEND];

static ONE_ATTEMPT: Invariant = Invariant {
    id: "supervise.one-attempt",
    statement: "a part is started only in the attempt that asked for its region, when nothing is left of the one before it",
};
static FAILURE_HAS_A_CAUSE: Invariant = Invariant {
    id: "supervise.failure-has-a-cause",
    statement: "what ends in order to restart or to fail the job has at least one failure, or something overdue",
};
static JOB_ENDS_WHOLE: Invariant = Invariant {
    id: "supervise.job-ends-whole",
    statement: "when no restart follows, or a checkpoint has closed the job, every region ends",
};
static ATTEMPTS_ASCEND: Invariant = Invariant {
    id: "supervise.attempts-ascend",
    statement: "what is being deployed has the newest attempt, and nothing has a newer one",
};

pub(super) fn started_out_of_turn(attempt: Attempt, region: RegionId, part: Part) -> Result<(), Violation> {
    ONE_ATTEMPT.require(false, || format!("{part:?} of region {region} was started in attempt {attempt}"))
}

pub(super) fn check(supervisor: &Supervisor) -> Result<(), Violation> {
    if let Some(misuse) = &supervisor.misuse {
        return Err(misuse.clone());
    }
    let newest = supervisor.attempt;
    let above = supervisor.deployed.iter().find(|(_, region)| region.attempt > newest);
    ATTEMPTS_ASCEND.require(above.is_none(), || format!("{above:?}, the newest is {newest}"))?;
    match &supervisor.phase {
        Phase::Ending(ending) => {
            let caused = ending.goal == Goal::Cancel || !ending.failures.is_empty() || !ending.overdue.is_empty();
            FAILURE_HAS_A_CAUSE.require(caused, || format!("attempt {newest}"))?;
            let partly = matches!(ending.goal, Goal::Restart { .. }) && !supervisor.closed;
            JOB_ENDS_WHOLE.require(partly || ending.regions.len() == supervisor.deployed.len(), || {
                format!("{:?} ends, only {:?} do", ending.goal, ending.regions.keys())
            })
        }
        Phase::Deploying(regions) => {
            let old = regions.iter().find(|region| supervisor.deployed[region].attempt != newest);
            ATTEMPTS_ASCEND.require(old.is_none(), || format!("region {old:?} is deployed, the newest is {newest}"))
        }
        Phase::Running | Phase::Over => Ok(()),
    }
}
