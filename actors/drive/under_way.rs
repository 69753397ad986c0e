//! Requests of the coordinator to the store that are under way, and the events that their answers are.

use std::task::{Context, Poll};

use crate::ids::{CheckpointId, Token};
use crate::ports::blocking::{Promise, WorkPanicked};
use crate::ports::store::{PublishOutcome, StoreError};
use crate::protocol::coordinator::{Event, Outcome, ReadBack};
use crate::protocol::mutation::{Mutation, is_active};

/// A request to the store whose answer has not come.
pub(super) enum UnderWay {
    Publish { token: Token, checkpoint: CheckpointId, promise: Promise<PublishOutcome> },
    ReadBack { token: Token, promise: Promise<Result<bool, StoreError>> },
    Reserve { token: Token, promise: Promise<Result<(), StoreError>> },
    Delete { checkpoint: CheckpointId, promise: Promise<Result<(), StoreError>> },
    DiscardBlobs { promise: Promise<Result<(), StoreError>> },
}

/// An answer of the store.
pub(super) struct Answered {
    /// The event that it is; none where nobody waits for it.
    pub(super) event: Option<Event>,
    /// The store refuses this write and every later one (rule 23): no checkpoint will ever complete again.
    pub(super) refused_for_good: Option<StoreError>,
}

impl UnderWay {
    /// The answer, once it is there.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Answered> {
        let mut refused_for_good = None;
        self.poll_event(context, &mut refused_for_good).map(|event| Answered { event, refused_for_good })
    }

    fn poll_event(&mut self, context: &mut Context<'_>, refused: &mut Option<StoreError>) -> Poll<Option<Event>> {
        match self {
            UnderWay::Publish { token, checkpoint, promise } => promise.poll(context).map(|answer| {
                let outcome = match answer {
                    Ok(PublishOutcome::Done) => Outcome::Done,
                    Ok(PublishOutcome::Unknown(_)) if is_active(Mutation::UnknownTakenAsFailed) => Outcome::Failed,
                    Ok(PublishOutcome::Failed(error)) => {
                        tracing::warn!(%checkpoint, %error, "the manifest was not written");
                        *refused = Some(error).filter(is_for_good);
                        Outcome::Failed
                    }
                    Ok(PublishOutcome::Unknown(error)) => {
                        tracing::warn!(%checkpoint, %error, "it is unknown whether the manifest was written");
                        Outcome::Unknown
                    }
                    Err(panic) => {
                        tracing::warn!(%checkpoint, %panic, "writing the manifest panicked");
                        Outcome::Unknown
                    }
                };
                Some(Event::WriteFinished { token: *token, outcome })
            }),
            UnderWay::ReadBack { token, promise } => promise.poll(context).map(|answer| {
                let answer = match answer {
                    Ok(Ok(true)) => ReadBack::Present,
                    Ok(Ok(false)) => ReadBack::Absent,
                    Ok(Err(_)) | Err(_) => ReadBack::Unknown,
                };
                Some(Event::ReadBackFinished { token: *token, answer })
            }),
            UnderWay::Reserve { token, promise } => promise.poll(context).map(|answer| {
                let outcome = outcome(&answer);
                *refused = answer.ok().and_then(Result::err).filter(is_for_good);
                Some(Event::IdsReserved { token: *token, outcome })
            }),
            UnderWay::Delete { checkpoint, promise } => promise
                .poll(context)
                .map(|answer| Some(Event::Deleted { checkpoint: *checkpoint, outcome: outcome(&answer) })),
            UnderWay::DiscardBlobs { promise } => promise.poll(context).map(|answer| {
                if let Ok(Err(error)) = answer {
                    // What stays behind is an orphan, which the next run removes.
                    tracing::debug!(%error, "discarded snapshots were not deleted");
                }
                None
            }),
        }
    }
}

/// After a failed sync nothing that the store answers can be believed. (What is *unknown* is read back first.)
fn is_for_good(error: &StoreError) -> bool {
    matches!(error, StoreError::Poisoned { .. })
}

fn outcome(answer: &Result<Result<(), StoreError>, WorkPanicked>) -> Outcome {
    match answer {
        Ok(Ok(())) => Outcome::Done,
        Ok(Err(error)) => {
            tracing::warn!(%error, "the checkpoint store failed");
            Outcome::Failed
        }
        Err(panic) => {
            tracing::warn!(%panic, "the checkpoint store panicked");
            Outcome::Unknown
        }
    }
}
