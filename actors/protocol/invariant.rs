//! What always holds, each rule once: a name, a sentence and a predicate over plain values.
//!
//! `check()` of the machines, the walks over small graphs, the simulation and the recovery tests call the same
//! functions, so the rule that is proved on a model is the rule that is watched in a running job.

use std::fmt::Debug;

use super::machine::{Invariant, Violation};
use crate::ids::CheckpointId;

macro_rules! invariants {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $statement:literal;)*) => {
        $(
            $(#[$doc])*
            pub static $name: Invariant = Invariant { id: $id, statement: $statement };
        )*

        /// Every invariant of this page, in its order.
        pub static ALL: &[&Invariant] = &[$(&$name),*];
    };
}

invariants! {
    /// See [`channel_counts_agree`].
    CHANNEL_COUNTS = "align.channel-counts", "the counts of delivered and ended channels agree with the channels";
    /// See [`delivered_has_a_cause`].
    DELIVERED_HAS_A_CAUSE = "align.delivered-has-a-cause", "a channel is held only for the pending checkpoint";
    /// See [`pending_is_owed`].
    PENDING_IS_OWED = "align.pending-is-owed", "a pending checkpoint waits for an open channel";
    /// See [`pending_is_newest`].
    PENDING_IS_NEWEST = "align.pending-is-newest", "the pending checkpoint is newer than every resolved one";
    /// See [`capture_is_owed`].
    CAPTURE_IS_OWED = "align.capture-is-owed", "a capture that goes on waits for a channel, and one that is over for none";
    /// See [`memory_is_bounded`].
    MEMORY_IS_BOUNDED = "align.memory-is-bounded", "only a bounded number of ids ahead of the barriers is remembered";
    /// See [`tracked_is_owed`].
    TRACKED_IS_OWED = "track.is-owed", "a checkpoint under way waits for an open channel, and knows for how many";
    /// See [`oldest_tracked_is_alive`].
    OLDEST_TRACKED_IS_ALIVE = "track.oldest-is-alive", "the oldest checkpoint under way is unresolved and not given up";
    /// See [`tracked_are_few`].
    TRACKED_ARE_FEW = "track.are-few", "only a bounded number of checkpoints is under way at a subtask";
    /// See [`nothing_tracked_at_rest`].
    NOTHING_TRACKED_AT_REST = "track.nothing-at-rest", "no checkpoint stays under way when nothing is on its way";
    /// See [`resolutions_ascend`].
    RESOLUTIONS_ASCEND = "align.resolutions-ascend", "a subtask resolves each checkpoint once, in ascending order";
    /// See [`nothing_held_at_rest`].
    NOTHING_HELD_AT_REST = "align.nothing-held-at-rest", "no channel stays blocked when nothing is on its way";
    /// See [`cut_is_consistent`].
    CUT_IS_CONSISTENT = "cut.consistent", "on each edge both ends of a cut know the same records";
    /// See [`cut_misses_nothing`].
    CUT_MISSES_NOTHING = "cut.misses-nothing", "what was sent before a barrier is in the cut of its consumer";
    /// See [`taken_once`].
    TAKEN_ONCE = "cut.taken-once", "no record is taken twice into the state that survives";
    /// See [`parked_is_woken`].
    PARKED_IS_WOKEN = "credit.parked-is-woken", "a parked producer is owed a credit that wakes it";
}

/// The kept counts of (delivered, ended) channels are those that a recount of the channels gives.
///
/// # Errors
///
/// A violation of [`CHANNEL_COUNTS`].
pub fn channel_counts_agree(kept: (u32, u32), counted: (u32, u32)) -> Result<(), Violation> {
    CHANNEL_COUNTS.require(kept == counted, || format!("kept (delivered, ended) {kept:?}, counted {counted:?}"))
}

/// Channels have delivered a marker, and are held for it, exactly while a checkpoint is pending.
///
/// # Errors
///
/// A violation of [`DELIVERED_HAS_A_CAUSE`].
pub fn delivered_has_a_cause(pending: Option<CheckpointId>, delivered: u32) -> Result<(), Violation> {
    DELIVERED_HAS_A_CAUSE
        .require(pending.is_some() || delivered == 0, || format!("{delivered} delivered, pending {pending:?}"))
}

/// While a checkpoint is pending at least one open channel owes its marker: otherwise the cut was missed.
///
/// # Errors
///
/// A violation of [`PENDING_IS_OWED`].
pub fn pending_is_owed(pending: Option<CheckpointId>, owing: u32) -> Result<(), Violation> {
    PENDING_IS_OWED.require(pending.is_none() || owing > 0, || format!("pending {pending:?}, and no channel owes"))
}

/// The pending checkpoint is above the highest that was cut, subsumed or cancelled.
///
/// # Errors
///
/// A violation of [`PENDING_IS_NEWEST`].
pub fn pending_is_newest(pending: Option<CheckpointId>, resolved: CheckpointId) -> Result<(), Violation> {
    PENDING_IS_NEWEST.require(pending.is_none_or(|pending| pending > resolved), || {
        format!("pending {pending:?}, resolved up to {resolved}")
    })
}

/// At most [`REMEMBERED_IDS`](super::align::REMEMBERED_IDS) ids are remembered, all of them above `settled`.
///
/// # Errors
///
/// A violation of [`MEMORY_IS_BOUNDED`].
pub fn memory_is_bounded(
    remembered: usize,
    oldest: Option<CheckpointId>,
    settled: CheckpointId,
) -> Result<(), Violation> {
    let bounded = remembered <= super::align::REMEMBERED_IDS && oldest.is_none_or(|oldest| oldest > settled);
    MEMORY_IS_BOUNDED.require(bounded, || format!("{remembered} ids, the oldest {oldest:?}, settled up to {settled}"))
}

/// A capture waits for channels exactly until it is over.
///
/// # Errors
///
/// A violation of [`CAPTURE_IS_OWED`].
pub fn capture_is_owed(over: bool, owing: usize) -> Result<(), Violation> {
    CAPTURE_IS_OWED.require(over == (owing == 0), || format!("over: {over}, owed by {owing} channels"))
}

/// A checkpoint under way counts the open channels that owe its marker, and one that is not given up is owed one: otherwise the cut
/// was missed.
///
/// # Errors
///
/// A violation of [`TRACKED_IS_OWED`].
pub fn tracked_is_owed(checkpoint: CheckpointId, kept: u32, counted: u32, given_up: bool) -> Result<(), Violation> {
    TRACKED_IS_OWED.require(kept == counted && (given_up || kept > 0), || {
        format!("{checkpoint} is owed by {kept}, counted {counted}, given up: {given_up}")
    })
}

/// The oldest checkpoint under way is above everything resolved, and alive: what is given up waits only for older ones.
///
/// # Errors
///
/// A violation of [`OLDEST_TRACKED_IS_ALIVE`].
pub fn oldest_tracked_is_alive(oldest: Option<(CheckpointId, bool)>, resolved: CheckpointId) -> Result<(), Violation> {
    let alive = oldest.is_none_or(|(checkpoint, given_up)| checkpoint > resolved && !given_up);
    OLDEST_TRACKED_IS_ALIVE
        .require(alive, || format!("the oldest (id, given up) {oldest:?}, resolved up to {resolved}"))
}

/// At most [`TRACKED_CHECKPOINTS`](super::align::TRACKED_CHECKPOINTS) are under way.
///
/// # Errors
///
/// A violation of [`TRACKED_ARE_FEW`].
pub fn tracked_are_few(under_way: usize) -> Result<(), Violation> {
    TRACKED_ARE_FEW.require(under_way <= super::align::TRACKED_CHECKPOINTS, || format!("{under_way} are under way"))
}

/// When no message or frame is on its way, no subtask waits for a marker.
///
/// # Errors
///
/// A violation of [`NOTHING_TRACKED_AT_REST`].
pub fn nothing_tracked_at_rest(under_way: &[CheckpointId]) -> Result<(), Violation> {
    NOTHING_TRACKED_AT_REST.require(under_way.is_empty(), || format!("{under_way:?} are still under way"))
}

/// The id that a subtask resolves now (by a cut or by a cancel) is above the one it resolved before.
///
/// # Errors
///
/// A violation of [`RESOLUTIONS_ASCEND`].
pub fn resolutions_ascend(before: CheckpointId, now: CheckpointId) -> Result<(), Violation> {
    RESOLUTIONS_ASCEND.require(before < now, || format!("{now} after {before}"))
}

/// When no frame and no message is on its way, no channel is blocked. `held` names those that are.
///
/// # Errors
///
/// A violation of [`NOTHING_HELD_AT_REST`].
pub fn nothing_held_at_rest(held: &[impl Debug]) -> Result<(), Violation> {
    NOTHING_HELD_AT_REST.require(held.is_empty(), || format!("held for ever: {held:?}"))
}

/// What the producer of an edge had sent at its cut is what the consumer had taken at its own: no record is on both
/// sides of the cut, and none on neither.
///
/// # Errors
///
/// A violation of [`CUT_IS_CONSISTENT`].
pub fn cut_is_consistent<R: PartialEq + Debug>(checkpoint: CheckpointId, sent: &R, taken: &R) -> Result<(), Violation> {
    CUT_IS_CONSISTENT.require(sent == taken, || format!("checkpoint {checkpoint}: sent {sent:?}, taken {taken:?}"))
}

/// What the producer of an edge had sent at its cut is among what the consumer had taken at its own: a record may be on both sides of the
/// cut, and then counts twice after a restore; none is on neither.
///
/// # Errors
///
/// A violation of [`CUT_MISSES_NOTHING`].
pub fn cut_misses_nothing(checkpoint: CheckpointId, missing: impl Debug, is_empty: bool) -> Result<(), Violation> {
    CUT_MISSES_NOTHING.require(is_empty, || format!("checkpoint {checkpoint}: {missing:?} was sent and not taken"))
}

/// A record that is taken now is not yet in the state, which survived every crash since.
///
/// # Errors
///
/// A violation of [`TAKEN_ONCE`].
pub fn taken_once(already: bool, record: impl Debug) -> Result<(), Violation> {
    TAKEN_ONCE.require(!already, || format!("record {record:?} comes a second time"))
}

/// A producer that waits for credit is woken by a credit that is still out.
///
/// # Errors
///
/// A violation of [`PARKED_IS_WOKEN`].
pub fn parked_is_woken(parked: bool, taken: u32, wakes_at: u32) -> Result<(), Violation> {
    PARKED_IS_WOKEN
        .require(!parked || taken > wakes_at, || format!("parked with {taken} credits out, woken at {wakes_at}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::ALL;

    #[test]
    fn every_invariant_has_a_name_of_its_own() {
        let names: BTreeSet<&str> = ALL.iter().map(|invariant| invariant.id).collect();
        assert_eq!(names.len(), ALL.len());
    }
}
