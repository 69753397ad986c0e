//! What always holds in a coordinator.

use crate::ids::{Attempt, CheckpointId};
use crate::protocol::machine::{Invariant, Violation};

use super::pending::{Pending, Step};
use super::{Coordinator, Phase};

/// Every invariant of the coordinator.
pub const INVARIANTS: [&Invariant; 9] = [
    &WITHIN_LIMIT,
    &IDS_ASCEND,
    &ONE_WRITE,
    &NO_ID_WHILE_UNSETTLED,
    &CLOSING_IS_ALONE,
    &NEWEST_IS_KEPT,
    &QUIET_WHEN_SUSPENDED,
    &STARTED_IN_TURN,
    &COUNTS_ADD_UP,
];

static WITHIN_LIMIT: Invariant = Invariant {
    id: "coordinator.pending-within-limit",
    statement: "at most as many checkpoints are pending as may be concurrent",
};
static IDS_ASCEND: Invariant = Invariant {
    id: "coordinator.ids-ascend",
    statement: "a pending checkpoint is newer than the last completed one and older than the next id",
};
static ONE_WRITE: Invariant = Invariant {
    id: "coordinator.one-write",
    statement: "at most one manifest is being written or in doubt, and all its subtasks acknowledged",
};
static NO_ID_WHILE_UNSETTLED: Invariant = Invariant {
    id: "coordinator.no-id-while-unsettled",
    statement: "no id is handed out while it is unknown whether a manifest exists",
};
static CLOSING_IS_ALONE: Invariant = Invariant {
    id: "coordinator.closing-is-alone",
    statement: "a checkpoint that closes the job is pending alone, and nothing is pending after one that closed it",
};
static NEWEST_IS_KEPT: Invariant = Invariant {
    id: "coordinator.newest-is-kept",
    statement: "no checkpoint that is kept, the newest above all, is queued for deletion",
};
static QUIET_WHEN_SUSPENDED: Invariant = Invariant {
    id: "coordinator.quiet-when-suspended",
    statement: "while no attempt runs nothing is pending and no request waits",
};
static STARTED_IN_TURN: Invariant = Invariant {
    id: "coordinator.started-in-turn",
    statement: "an attempt starts only when the one before it is suspended, and attempts ascend",
};

static COUNTS_ADD_UP: Invariant = Invariant {
    id: "coordinator.counts-add-up",
    statement: "every checkpoint that was triggered is pending, completed or failed, and is counted so",
};

pub(super) fn start_out_of_turn(current: Option<Attempt>, new: Attempt) -> Result<(), Violation> {
    STARTED_IN_TURN.require(false, || match current {
        Some(current) => format!("attempt {new} was started while attempt {current} was current"),
        None => format!("attempt {new} was started although the coordinator is shut down"),
    })
}

pub(super) fn check(coordinator: &Coordinator) -> Result<(), Violation> {
    if let Some(misuse) = &coordinator.misuse {
        return Err(misuse.clone());
    }
    let pending = &coordinator.pending;
    let ids = || format!("pending: {:?}", pending.keys().collect::<Vec<_>>());
    WITHIN_LIMIT.require(pending.len() <= coordinator.settings.maximum_concurrent.get(), ids)?;
    let above_completed = |id: &CheckpointId| coordinator.retained.newest().is_none_or(|newest| newest < *id);
    let next = coordinator.identifiers.next();
    IDS_ASCEND.require(pending.keys().all(|id| above_completed(id) && *id < next), || {
        format!("{}, last completed: {:?}, next: {next}", ids(), coordinator.retained.newest())
    })?;
    let in_storage: Vec<&Pending> = pending.values().filter(|pending| pending.may_be_stored()).collect();
    ONE_WRITE.require(in_storage.len() <= 1 && in_storage.iter().all(|pending| pending.awaited.is_empty()), ids)?;
    let unsettled = pending.values().any(|pending| matches!(pending.step, Step::Unsettled(_)));
    NO_ID_WHILE_UNSETTLED
        .require(!unsettled || coordinator.frozen == Some(next), || format!("next: {next}, {}", ids()))?;
    let counts = coordinator.statistics.counts();
    let ended = counts.completed + counts.failed;
    let in_progress = pending.len() as u64;
    COUNTS_ADD_UP.require(counts.in_progress == in_progress && counts.triggered == ended + in_progress, || {
        format!("{counts:?}, {}", ids())
    })?;
    let closing = pending.values().any(|pending| pending.kind.closes());
    CLOSING_IS_ALONE
        .require((!closing || pending.len() == 1) && (coordinator.closed.is_none() || pending.is_empty()), ids)?;
    NEWEST_IS_KEPT.require(coordinator.retained.is_consistent(), || format!("retained: {:?}", coordinator.retained))?;
    let at_rest = match coordinator.phase {
        Phase::Idle | Phase::Over => coordinator.is_quiet() && coordinator.requests.is_empty(),
        Phase::Failed { .. } => pending.is_empty() && coordinator.requests.is_empty(),
        Phase::Suspending | Phase::ShuttingDown => {
            coordinator.requests.is_empty() && pending.values().all(Pending::may_be_stored)
        }
        Phase::Running => true,
    };
    QUIET_WHEN_SUSPENDED.require(at_rest, || format!("phase: {:?}, {}", coordinator.phase, ids()))
}
