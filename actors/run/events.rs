//! The events of a job as messages to an actor.

use actix::{Message, Recipient};

use crate::ports::listener::{JobEvent, Listener};

impl Message for JobEvent {
    type Result = ();
}

/// A listener that sends every event of a job to an actor, in order. It neither waits nor fails: the capacity of the mailbox is passed over, and an
/// actor that is gone hears nothing.
#[derive(Clone)]
pub struct EventsTo {
    recipient: Recipient<JobEvent>,
}

impl EventsTo {
    /// Sends events to `recipient`: an actor that handles [`JobEvent`].
    #[must_use]
    pub fn new(recipient: Recipient<JobEvent>) -> EventsTo {
        EventsTo { recipient }
    }
}

impl std::fmt::Debug for EventsTo {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("EventsTo")
    }
}

impl Listener for EventsTo {
    fn event(&self, event: JobEvent) {
        self.recipient.do_send(event);
    }
}
