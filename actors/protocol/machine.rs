//! The contract of a machine: an event and the time go in, effects come out.
//!
//! A machine decides and a driver carries out. The driver translates what happened to an event, calls
//! [`Machine::handle`], runs the effects in their order, and re-arms one timer for [`Machine::next_deadline`]. It
//! holds no policy of its own, so that the simulator, the walks of the tests and production execute the same rules.

use crate::ids::Moment;

/// A pure state machine of the protocol.
///
/// What every implementation keeps:
///
/// * **Pure.** `handle` depends on the machine, `now` and the event alone: no clock, I/O, randomness, logging or global.
///   Maps are ordered, so that two equal machines emit equal effects in equal order. An equal history gives an equal
///   machine.
/// * **Total.** Every event is legal in every state. What comes late, twice, out of order or for an unknown id has a
///   defined answer, most often no effect at all; it is never a panic and never a catch-all arm.
/// * **Effects are requests.** An effect that has an outcome carries a token (or an id that is unique), and the outcome
///   comes back as an event that carries the same one. Effects are run in the order in which they were pushed, all of them
///   before the next event: an outcome that is known at once waits until then. `handle` only appends to `effects` and
///   never reads it.
/// * **One deadline.** When `now` reaches `next_deadline` the driver sends the machine's own event for a passed
///   deadline. Having handled it at that moment, the machine names a later deadline or none: a driver never spins.
/// * **Time does not go back.** `now` is never before the `now` of an earlier call. Equal moments are usual.
/// * **Bounded.** What a machine remembers is bounded by its configuration and by what is open, not by its history.
pub trait Machine {
    /// What may happen to the machine.
    type Event;
    /// What the machine asks its driver to do.
    type Effect;

    /// Takes `event`, which happened at `now`, and appends what is to be done to `effects`.
    fn handle(&mut self, now: Moment, event: Self::Event, effects: &mut Vec<Self::Effect>);

    /// The moment at which the machine wants to be called although nothing happened, if there is one.
    fn next_deadline(&self) -> Option<Moment>;

    /// Checks every invariant of the machine's state. Tests call it after each event, drivers in debug builds.
    ///
    /// # Errors
    ///
    /// The first invariant that does not hold. It means a defect of the machine, never a mistake of a user.
    fn check(&self) -> Result<(), Violation>;
}

/// A rule that always holds, by the name under which documentation, tests and counters know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Invariant {
    /// The unique name: `<machine>.<words-with-dashes>`, for example `align.blocked-has-a-cause`.
    pub id: &'static str,
    /// What holds, as one sentence.
    pub statement: &'static str,
}

impl Invariant {
    /// Nothing if `holds`, otherwise the violation with what `detail` says about the state.
    ///
    /// # Errors
    ///
    /// A [`Violation`] of this invariant, if `holds` is false.
    pub fn require(&'static self, holds: bool, detail: impl FnOnce() -> String) -> Result<(), Violation> {
        if holds { Ok(()) } else { Err(Violation { invariant: self, detail: detail() }) }
    }
}

/// An invariant that does not hold, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[error("invariant {} is broken ({}): {detail}", .invariant.id, .invariant.statement)]
pub struct Violation {
    /// The invariant.
    pub invariant: &'static Invariant,
    /// The part of the state that contradicts it.
    pub detail: String,
}
