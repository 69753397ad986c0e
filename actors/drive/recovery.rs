//! The first step of an attempt: asking the store where to begin, and writing the run record before anything else of the run (rule 7).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::drive::deploy::RestoredSink;
use crate::drive::supervisor::SupervisorSetup;
use crate::ids::{CheckpointId, WallTime};
use crate::ports::fence::Fence;
use crate::ports::store::{CheckpointKind, Manifest, RunRecord, StoreError};
use crate::ports::task::{Failure, Severity};

/// What the store says of the beginning of an attempt.
pub(super) struct Recovered {
    pub(super) manifest: Option<Arc<Manifest>>,
    pub(super) run: Option<RunRecord>,
    pub(super) retained: Vec<CheckpointId>,
    pub(super) sinks: BTreeMap<u32, RestoredSink>,
}

/// Why an attempt cannot begin.
pub(super) enum Trouble {
    /// The checkpoint is damaged or does not fit the plan, or the store failed.
    Store(Failure),
    /// The store gives another checkpoint than the one that the regions which run on have gone on from: they have to go back too.
    OtherCheckpoint(Failure),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Trouble {
        Trouble::Store(failure)
    }
}

/// Recovers and begins a run; no run begins where nothing is left but commits. Blocks. `stopped` says that this process was asked to stop and has the checkpoint for it.
/// Where regions run on, `expected` is the checkpoint that they have gone on from. `wanted` are the sinks to restore.
///
/// # Errors
/// [`Trouble`], without a run that began.
pub(super) fn recover(
    setup: &SupervisorSetup,
    fence: &Fence,
    started: WallTime,
    stopped: bool,
    expected: Option<Option<CheckpointId>>,
    wanted: &BTreeSet<u32>,
) -> Result<Recovered, Trouble> {
    let manifest = setup.store.recover().map_err(store_failure)?;
    let restored = manifest.as_ref().map(|manifest| manifest.checkpoint);
    if let Some(expected) = expected.filter(|expected| *expected != restored) {
        let name = |checkpoint: Option<CheckpointId>| checkpoint.map_or("none".to_owned(), |id| id.to_string());
        let message = format!(
            "the store recovers checkpoint {}, and the regions that run on have gone on from {}: the whole job goes back",
            name(restored),
            name(expected)
        );
        return Err(Trouble::OtherCheckpoint(Failure::retryable("checkpoint store", message)));
    }
    let sinks = RestoredSink::read_all(&setup.plan, manifest.as_ref(), wanted, setup.read_prepared.as_ref())?;
    if let Some(manifest) = &manifest {
        (setup.check_fit)(&setup.plan, manifest)?;
        // Nothing follows a final checkpoint; nor, in the process that asked for it, the one of a stop. Only their commits are owed.
        if manifest.kind == CheckpointKind::Final || (stopped && manifest.kind == CheckpointKind::Stopping) {
            let manifest = Some(Arc::new(manifest.clone()));
            return Ok(Recovered { manifest, run: None, retained: Vec::new(), sinks });
        }
    }
    let run = setup.store.begin_run(fence, restored, started).map_err(store_failure)?;
    let listed = setup.store.list().map_err(store_failure)?;
    let (abandoned, known): (Vec<_>, Vec<_>) = listed.into_iter().partition(|known| known.abandoned);
    for summary in abandoned {
        // The run record says that they never come back, so nothing needs them; what cannot be removed now is tried again at the next start.
        if let Err(error) = setup.store.delete_checkpoint(fence, summary.checkpoint) {
            tracing::warn!(%error, checkpoint = %summary.checkpoint, "an abandoned checkpoint was not removed");
        }
    }
    let retained = known.into_iter().map(|summary| summary.checkpoint).collect();
    Ok(Recovered { manifest: manifest.map(Arc::new), run: Some(run), retained, sinks })
}

/// A failure of the store, as the job reports it.
fn store_failure(error: StoreError) -> Failure {
    let severity = if error.is_retryable() { Severity::Retryable } else { Severity::Unrecoverable };
    Failure { severity, ..Failure::retryable("checkpoint store", error) }
}
