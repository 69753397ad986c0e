//! Which messages are points of the protocol: for the hosts, which let faults happen to messages on their way.

use crate::drive::control::Control;
use crate::ids::CheckpointId;
use crate::ports::host::Address;
use crate::ports::points::{Hit, Point, Who};

/// The two points of a message.
struct OnTheWay {
    sent: Point,
    received: Point,
    checkpoint: Option<CheckpointId>,
}

fn on_the_way(message: &Control) -> Option<OnTheWay> {
    let (sent, received, checkpoint) = match message {
        Control::Restored { .. } => (Point::RestoredSent, Point::RestoredReceived, None),
        Control::AddSplits(_) => (Point::SplitsSent, Point::SplitsReceived, None),
        Control::Trigger(barrier) => (Point::TriggerSent, Point::TriggerReceived, Some(barrier.checkpoint)),
        Control::BarrierAnnounced { barrier, .. } => {
            (Point::BarrierSent, Point::BarrierReceived, Some(barrier.checkpoint))
        }
        Control::Acknowledge { checkpoint, .. } => {
            (Point::AcknowledgeSent, Point::AcknowledgeReceived, Some(*checkpoint))
        }
        Control::Decline { checkpoint, .. } => (Point::DeclineSent, Point::DeclineReceived, Some(*checkpoint)),
        Control::Completed { checkpoint, kind } if kind.closes() => {
            (Point::ClosingSent, Point::ClosingReceived, Some(*checkpoint))
        }
        Control::Completed { checkpoint, .. } => (Point::CompletionSent, Point::CompletionReceived, Some(*checkpoint)),
        Control::Aborted { checkpoint, .. } => (Point::AbortSent, Point::AbortReceived, Some(*checkpoint)),
        Control::Commit { request, .. } => (Point::CommitSent, Point::CommitReceived, Some(request.checkpoint)),
        Control::Committed { checkpoint, .. } => (Point::CommittedSent, Point::CommittedReceived, Some(*checkpoint)),
        Control::EndOfData { .. } => (Point::EndOfDataSent, Point::EndOfDataReceived, None),
        Control::Start
        | Control::GoOn
        | Control::NoMoreSplits
        | Control::EnumeratorEvent(_)
        | Control::Cancel
        | Control::Resume(_)
        | Control::Running { .. }
        | Control::Suspend { .. }
        | Control::Shutdown
        | Control::Reader { .. }
        | Control::TakeCheckpoint(_)
        | Control::Stop(_)
        | Control::CancelJob
        | Control::TakeStoppingCheckpoint(_)
        | Control::StopCalledOff
        | Control::Closed { .. }
        | Control::Suspended { .. }
        | Control::Ended { .. }
        | Control::SinkReady { .. }
        | Control::SinkEnded { .. }
        | Control::Failed { .. }
        | Control::DriverPanicked { .. }
        | Control::DriverLost { .. } => return None,
    };
    Some(OnTheWay { sent, received, checkpoint })
}

impl Control {
    /// The point that this message is at when `from` sends it to `to`.
    #[must_use]
    pub fn sent(&self, from: Address, to: Address) -> Option<Hit<'static>> {
        let way = on_the_way(self)?;
        Some(Hit { point: way.sent, who: Who::Sender { from, to }, checkpoint: way.checkpoint, channel: None })
    }

    /// The point that this message is at when `by` takes it out of its mailbox.
    #[must_use]
    pub fn received(&self, by: Address) -> Option<Hit<'static>> {
        let way = on_the_way(self)?;
        // The coordinator gets messages of many: the one that it is about is who counts.
        let about = match (by, self) {
            (Address::Coordinator, Control::Acknowledge { attempt, snapshot, .. }) => {
                Address::Subtask(snapshot.subtask, *attempt)
            }
            (
                Address::Coordinator,
                Control::Decline { attempt, subtask, .. } | Control::EndOfData { attempt, subtask },
            )
            | (Address::Supervisor, Control::Restored { attempt, subtask }) => Address::Subtask(*subtask, *attempt),
            _ => by,
        };
        let who = if about == by { Who::Actor(by) } else { Who::Sender { from: about, to: by } };
        Some(Hit { point: way.received, who, checkpoint: way.checkpoint, channel: None })
    }

    /// The same message once more, where the protocol can hear it twice.
    #[must_use]
    pub fn again(&self) -> Option<Control> {
        Some(match self {
            Control::Trigger(barrier) => Control::Trigger(*barrier),
            Control::BarrierAnnounced { channel, barrier } => {
                Control::BarrierAnnounced { channel: *channel, barrier: *barrier }
            }
            Control::Acknowledge { attempt, checkpoint, snapshot, figures } => Control::Acknowledge {
                attempt: *attempt,
                checkpoint: *checkpoint,
                snapshot: snapshot.clone(),
                figures: *figures,
            },
            Control::Decline { attempt, checkpoint, subtask, reason, failure } => Control::Decline {
                attempt: *attempt,
                checkpoint: *checkpoint,
                subtask: *subtask,
                reason: *reason,
                failure: failure.clone(),
            },
            Control::Completed { checkpoint, kind } => Control::Completed { checkpoint: *checkpoint, kind: *kind },
            Control::Aborted { checkpoint, last_completed } => {
                Control::Aborted { checkpoint: *checkpoint, last_completed: *last_completed }
            }
            _ => return None,
        })
    }
}
