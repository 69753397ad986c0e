//! Who takes what was in flight when the subtasks that take it are more or fewer than they were (rule 27).
//!
//! Nobody deals it out: every subtask looks at what was captured in front of all former ones, in the same order, and takes what is due to it. So each record has one
//! taker without a word between them, as with the splits of a source.

use crate::plan::Routing;
use crate::protocol::mutation::{Mutation, is_active};

/// A channel of an edge as it was when the checkpoint was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormerChannel {
    /// The subtask that took from it.
    pub consumer: u32,
    /// How many such subtasks there were.
    pub consumers: u32,
    /// The subtask that sent.
    pub producer: u32,
    /// How many such subtasks there were; at least one.
    pub producers: u32,
}

/// What a subtask takes of a former channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Nothing.
    Nothing,
    /// All records.
    All,
    /// Those that the partitioner of the edge sends to it.
    Owned,
}

impl FormerChannel {
    /// What subtask `consumer` of `consumers` takes of it.
    #[must_use]
    pub fn taken_by(self, consumer: u32, consumers: u32, routing: Routing) -> Taken {
        let all_if = |mine: bool| if mine { Taken::All } else { Taken::Nothing };
        if consumers == self.consumers || is_active(Mutation::FormerInFlightForgotten) {
            return all_if(consumer == self.consumer);
        }
        match routing {
            Routing::KeyGroup if is_active(Mutation::InFlightDealtWithoutKeys) => {
                all_if(consumer == self.dealt_to(consumers))
            }
            Routing::KeyGroup | Routing::Custom => Taken::Owned,
            Routing::First => all_if(consumer == 0),
            // Any one may have them, but those of one channel stay together: they keep their order.
            Routing::Any => all_if(consumer == self.dealt_to(consumers)),
            // Each has its copy. Nothing is captured on such an edge.
            Routing::Copies => Taken::All,
        }
    }

    /// One of `consumers`: neighbouring channels stay together, and no consumer has two more than another one.
    fn dealt_to(self, consumers: u32) -> u32 {
        // Wide enough for any numbers.
        let producers = u128::from(self.producers.max(1));
        let channels = producers * u128::from(self.consumers.max(1));
        let number = (u128::from(self.consumer) * producers + u128::from(self.producer) % producers).min(channels - 1);
        (number * u128::from(consumers) / channels) as u32
    }
}
