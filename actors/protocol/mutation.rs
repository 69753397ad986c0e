//! Rules broken on purpose, to prove that the tests find it.
//!
//! Each [`Mutation`] breaks one rule of `docs/protocol.md` in the very place that keeps it, and each of them would cost a user something: records that are
//! lost or counted twice, a job that hangs, a store that fills up. They exist in one build only, the one with the feature `mutations`, which the project's own
//! tests switch on; there a process chooses one at its start (`activate`), or a thread for the time of a call (`during`). In every other build
//! [`is_active`] is a constant `false`, and nothing of them is left. So the places ask without a `cfg`.

use std::fmt;
use std::str::FromStr;

/// Makes the enum, and everything that is told of each one, out of one list.
macro_rules! mutations {
    ($($variant:ident $name:literal $rule:literal breaks $breaks:literal costs $costs:literal;)+) => {
        /// A rule that can be broken.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Mutation {
            $(
                #[doc = concat!("`", $name, "`, rule ", $rule, ": ", $breaks, ". ", $costs, ".")]
                $variant,
            )+
        }

        impl Mutation {
            /// All of them, in the order of the list.
            pub const ALL: &'static [Mutation] = &[$(Mutation::$variant),+];

            /// Its name, which does not change: `forward-before-snapshot`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Mutation::$variant => $name,)+
                }
            }

            /// The rule of `docs/protocol.md` that it breaks: `R3`.
            #[must_use]
            pub const fn rule(self) -> &'static str {
                match self {
                    $(Mutation::$variant => $rule,)+
                }
            }

            /// What goes wrong inside.
            #[must_use]
            pub const fn breaks(self) -> &'static str {
                match self {
                    $(Mutation::$variant => $breaks,)+
                }
            }

            /// What a user would lose by it.
            #[must_use]
            pub const fn costs(self) -> &'static str {
                match self {
                    $(Mutation::$variant => $costs,)+
                }
            }
        }
    };
}

mutations! {
    WithoutAlignment "without-alignment" "R4"
        breaks "channels are never blocked, so records behind a barrier are processed before the cut"
        costs "After a restore those records count twice";
    ForwardBeforeSnapshot "forward-before-snapshot" "R3"
        breaks "the barrier leaves with the first marker, and other channels are still read before the cut"
        costs "What they bring is in the state, but comes out behind the barrier: after a restore it is missing downstream";
    UnblockEarly "unblock-early" "R4"
        breaks "a marker on another channel unblocks those that had delivered before it"
        costs "Records behind their barriers slip into the cut and count twice after a restore";
    AbortLeavesBlocked "abort-leaves-blocked" "R4"
        breaks "a checkpoint that is given up during the alignment leaves the channels blocked"
        costs "The job hangs";
    CaptureNothing "capture-nothing" "R3"
        breaks "what a barrier overtakes is not captured"
        costs "The records that waited in front of its marker are lost by a restore";
    CaptureTooLate "capture-too-late" "R5"
        breaks "a batch that leaves its edge before it was captured is not captured any more"
        costs "Its records are behind the cut of their producer and not in that of their consumer: lost by a restore";
    RestoredBehindNew "restored-behind-new" "R27"
        breaks "what was in flight is processed after what the restored producers send"
        costs "The order of a key's records is lost";
    RestoredNotCaptured "restored-not-captured" "R27"
        breaks "a checkpoint that is taken before all that was in flight is processed does not hold what is left of it"
        costs "It is lost by the next restore";
    FormerInFlightForgotten "former-in-flight-forgotten" "R27"
        breaks "at another parallelism a subtask takes what was in flight in front of the former subtask of its number, and nothing else"
        costs "What was in flight in front of subtasks that are gone is lost, and records of keys that moved are counted in the wrong place";
    InFlightDealtWithoutKeys "in-flight-dealt-without-keys" "R27"
        breaks "at another parallelism what was in flight on a keyed edge is dealt out channel by channel, whatever its keys are"
        costs "A record is counted by a subtask that does not own its key";
    ReroutedBackwards "rerouted-backwards" "R27"
        breaks "at another parallelism batches that were in flight come in the reverse order"
        costs "The order of a key's records is lost";
    FusedInFlightForgotten "fused-in-flight-forgotten" "R27"
        breaks "what was in flight on an edge whose ends run in one chain now is not taken up"
        costs "Its records are lost";
    BatchBehindMarker "batch-behind-marker" "R3"
        breaks "a partial batch that the chain holds back at a barrier leaves behind the marker"
        costs "Its records are in no state downstream and are not read again after a restore: lost";
    BarrierOvertakesOutput "barrier-overtakes-output" "R3"
        breaks "the marker overtakes output that waits for credit"
        costs "The output that was overtaken is lost after a restore";
    PositionAfterTheCut "position-after-the-cut" "R1"
        breaks "a reader's position is taken when the snapshot is written, not when the epoch closes"
        costs "What was read in between is skipped by a restore: lost";
    PreImageNotCaptured "pre-image-not-captured" "R20"
        breaks "an entry that changes after the epoch closed is not kept for the open snapshot"
        costs "The state of busy keys is lost by a restore";
    SkipAKeyGroup "skip-a-key-group" "R17"
        breaks "a snapshot leaves out some key groups"
        costs "Their state is lost by a restore";
    RestoreSkipsAKeyGroup "restore-skips-a-key-group" "R17"
        breaks "a restore leaves out some key groups"
        costs "Their state is lost";
    TouchedElementNotCopied "touched-element-not-copied" "R20"
        breaks "an element of operator state that changes after the epoch closed is not kept for the open snapshot"
        costs "What operators keep for themselves is lost by a restore";
    SplitLosesTheLast "split-loses-the-last" "R36"
        breaks "the last element of a list is dealt to nobody when the parallelism changes"
        costs "It is lost";
    UnionOfItsOwn "union-of-its-own" "R36"
        breaks "an instance gets of a union list what it stored itself, not what all stored"
        costs "What the operator would have dealt to it is lost";
    BroadcastLostOnScaleUp "broadcast-lost-on-scale-up" "R36"
        breaks "an instance that was not there before begins without the broadcast state"
        costs "It treats its records by no rules";
    SplitLost "split-lost" "R16"
        breaks "a reader drops one of the splits that the checkpoint gives it"
        costs "The rest of that split is never read";
    FormerStateForgotten "former-state-forgotten" "R17"
        breaks "at another parallelism a subtask restores the key groups of the former subtask of its number, and no others"
        costs "The state of the key groups that have moved is lost";
    FormerSplitsForgotten "former-splits-forgotten" "R16"
        breaks "at another parallelism a reader takes the splits of the former reader of its number, and those of readers that are gone are nobody's"
        costs "The rest of those splits is never read";
    FormerSplitsTwice "former-splits-twice" "R16"
        breaks "at another parallelism every reader takes the splits of all former readers"
        costs "Splits are read twice";
    PartlyFinishedIsFinished "partly-finished-is-finished" "R9"
        breaks "at another parallelism a chain of which one subtask had come to its end is not run again"
        costs "What its other subtasks had not read is lost, or the job does not end";
    SplitGivenTwice "split-given-twice" "R16"
        breaks "an enumerator forgets, by a restore, what it had assigned"
        costs "Splits are read twice";
    EnumeratorSnapshotTooLate "enumerator-snapshot-too-late" "R16"
        breaks "the state of the enumerators is taken when the manifest is written, not before the trigger"
        costs "A split that was assigned in between is in nobody's state: lost";
    CompleteWithoutAll "complete-without-all" "R6"
        breaks "a checkpoint counts as acknowledged while one acknowledgement is missing"
        costs "That subtask is restored without its state";
    UnknownTakenAsFailed "unknown-taken-as-failed" "R6"
        breaks "a manifest of unknown outcome is taken for one that was not written"
        costs "A checkpoint that exists is aborted: its blobs go, it is recovered without them or never removed";
    AcknowledgeBeforeSync "acknowledge-before-sync" "R6"
        breaks "a blob is acknowledged before it is synced"
        costs "A power cut takes the state of a completed checkpoint";
    PublishBeforeSync "publish-before-sync" "R6"
        breaks "a manifest or run record is renamed before it is synced"
        costs "A power cut leaves a torn manifest, and the job does not start again";
    DirectoryNotSynced "directory-not-synced" "R6"
        breaks "the directory is not synced after a manifest or a blob got its name"
        costs "A power cut takes a completed checkpoint whose output is committed: it comes out twice";
    ReuseAnId "reuse-an-id" "R7"
        breaks "a run begins with the id that follows the restored checkpoint"
        costs "Two checkpoints have one id, and names of files and transactions are used twice";
    ReservationNotStored "reservation-not-stored" "R7"
        breaks "ids beyond those of the run record are used without a durable reservation"
        costs "The next start gives them to other checkpoints";
    RestoreAnOlder "restore-an-older" "R7"
        breaks "recovery takes the oldest checkpoint that is retained"
        costs "What was committed since is output again";
    DeleteANamedBlob "delete-a-named-blob" "R8"
        breaks "a start removes the blobs of earlier runs, also those that a manifest names"
        costs "The next restore fails";
    DeleteBlobsFirst "delete-blobs-first" "R8"
        breaks "a checkpoint is deleted blobs first, then its manifest"
        costs "A crash in between leaves a checkpoint in the store that cannot be restored";
    LeakAbortedBlobs "leak-aborted-blobs" "R8"
        breaks "the blobs of aborted checkpoints and late acknowledgements are not deleted"
        costs "The store fills up as long as the job runs";
    DeleteASharedBlob "delete-a-shared-blob" "R21"
        breaks "a checkpoint is deleted with all its blobs, also those that a later one shares"
        costs "The checkpoint that is left cannot be restored";
    IncrementWithoutRemovals "increment-without-removals" "R21"
        breaks "an increment says what changed, and not what was removed"
        costs "After a restore removed keys are there again";
    BaseNotComplete "base-not-complete" "R21"
        breaks "an increment stands on the last checkpoint that was written, complete or not"
        costs "What only an aborted checkpoint held is lost by a restore";
    FoldKeepsTheOldest "fold-keeps-the-oldest" "R21"
        breaks "folding keeps the oldest value of a key instead of the newest"
        costs "A restore goes back in time for that key";
    StaleLocalCopy "stale-local-copy" "R37"
        breaks "a local copy is found by the operator instance and the piece, whatever checkpoint it is of, and those of aborted checkpoints are kept"
        costs "A restore begins with state of another checkpoint than its sources";
    UnverifiedLocalCopy "unverified-local-copy" "R37"
        breaks "the bytes of a local copy are not compared with its checksum"
        costs "A restore fails over a damaged copy although the checkpoint is sound";
    SkipTheFinalCheckpoint "skip-the-final-checkpoint" "R9"
        breaks "a job ends with its data, without a final checkpoint"
        costs "The last records are never committed";
    FinishedNotCounted "finished-not-counted" "R9"
        breaks "a subtask that has reached the end of its data does not count as finished"
        costs "The final checkpoint is never taken: the job does not end";
    CommitBeforeCompletion "commit-before-completion" "R12"
        breaks "a transaction is committed when it is prepared"
        costs "Output of a checkpoint that does not complete comes out twice";
    AbortDropsPrepared "abort-drops-prepared" "R12"
        breaks "what was prepared is dropped with its aborted checkpoint"
        costs "Its records are in the state of the next checkpoint and in no output: lost";
    ForgetPrepared "forget-prepared" "R12"
        breaks "a snapshot leaves out the transactions whose commit has not returned"
        costs "A crash before it returns loses their records";
    CommitOnlyItsOwn "commit-only-its-own" "R12"
        breaks "a completed checkpoint commits only what was prepared for it, not what was prepared for aborted ones before"
        costs "Those transactions are never committed, and hold up all that follow";
    ForgetToCommitAgain "forget-to-commit-again" "R12"
        breaks "a restore does not commit what its checkpoint had prepared"
        costs "A crash between completion and commit loses the records of a checkpoint";
    FormerCommittablesForgotten "former-committables-forgotten" "R12"
        breaks "at a lower parallelism a restore does not commit what the subtasks that are gone had prepared"
        costs "A crash between completion and commit loses their records";
    RecordsBeforeCommits "records-before-commits" "R12"
        breaks "writers are built while the sink still commits and cleans up"
        costs "The clean-up removes what the new attempt has begun";
    CleanUpBeforeCommits "clean-up-before-commits" "R12"
        breaks "a restore cleans up before it has committed what its checkpoint had prepared"
        costs "Prepared output is removed";
    CommitWithoutLooking "commit-without-looking" "R12"
        breaks "a commit is carried out without looking whether it was before"
        costs "Output comes out twice after a crash";
    LoseANotice "lose-a-notice" "R12"
        breaks "a subtask never hears of the completion that ends the job"
        costs "What it prepared is not committed, and the job does not end";
    PrepareBeforeSync "prepare-before-sync" "R13"
        breaks "a file is prepared before it is synced"
        costs "A power cut takes lines of a completed checkpoint";
    CommitNotSynced "commit-not-synced" "R13"
        breaks "a committed file's name is not made durable"
        costs "A power cut brings back the name of a prepared file that nobody knows any more, and it is removed";
    AttemptsOverlap "attempts-overlap" "R22"
        breaks "a restart waits for no blocking work, and fences are not checked"
        costs "Effects of two attempts mix";
    StopNotCalledOff "stop-not-called-off" "R22"
        breaks "the sources of a stop whose checkpoint was aborted are not told"
        costs "They stand still for ever: the job hangs";
    LostWakeUp "lost-wake-up" "R34"
        breaks "a consumer that finds an edge empty leaves no waker behind"
        costs "It sleeps although there are records: the job hangs";
}

/// The text is not the name of a [`Mutation`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a mutation: give one of {names}", names = names())]
pub struct UnknownMutation(String);

fn names() -> String {
    Mutation::ALL.iter().map(|mutation| mutation.name()).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Mutation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Mutation {
    type Err = UnknownMutation;

    fn from_str(text: &str) -> Result<Mutation, UnknownMutation> {
        let found = Mutation::ALL.iter().find(|mutation| mutation.name() == text);
        found.copied().ok_or_else(|| UnknownMutation(text.to_owned()))
    }
}

pub use self::choice::{current, during, is_active};

#[cfg(feature = "mutations")]
pub use self::choice::activate;

#[cfg(feature = "mutations")]
mod choice {
    use std::cell::Cell;
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::Mutation;

    /// One more than the number of the mutation of the process; 0 for none.
    static ACTIVE: AtomicU8 = AtomicU8::new(0);

    thread_local! {
        static HERE: Cell<Option<Mutation>> = const { Cell::new(None) };
    }

    /// Breaks a rule for the rest of the process.
    pub fn activate(mutation: Mutation) {
        ACTIVE.store(mutation as u8 + 1, Ordering::SeqCst);
    }

    /// Breaks a rule on this thread while `body` runs, or none: for hosts that run everything on one thread.
    pub fn during<T>(mutation: impl Into<Option<Mutation>>, body: impl FnOnce() -> T) -> T {
        struct Restore(Option<Mutation>);
        impl Drop for Restore {
            fn drop(&mut self) {
                HERE.set(self.0);
            }
        }
        let _restore = Restore(HERE.replace(mutation.into()));
        body()
    }

    /// What this thread breaks, for a helper thread that is to break the same: `during(current, ..)` there.
    #[must_use]
    pub fn current() -> Option<Mutation> {
        HERE.get()
    }

    /// Whether this rule is broken here.
    #[must_use]
    pub fn is_active(mutation: Mutation) -> bool {
        HERE.get() == Some(mutation) || ACTIVE.load(Ordering::Relaxed) == mutation as u8 + 1
    }
}

#[cfg(not(feature = "mutations"))]
mod choice {
    use super::Mutation;

    /// Runs `body`. No rule can be broken in this build.
    ///
    /// # Panics
    /// When it is given a mutation: that needs the feature `mutations`.
    pub fn during<T>(mutation: impl Into<Option<Mutation>>, body: impl FnOnce() -> T) -> T {
        if let Some(mutation) = mutation.into() {
            panic!("`{mutation}` cannot be broken in a build without the feature `mutations`");
        }
        body()
    }

    /// None: no rule can be broken in this build.
    #[must_use]
    pub const fn current() -> Option<Mutation> {
        None
    }

    /// Never: no rule can be broken in this build.
    #[must_use]
    #[inline(always)]
    pub const fn is_active(_: Mutation) -> bool {
        false
    }

    // Whoever builds without the feature gets a constant, or no build at all.
    const _: () = {
        let mut number = 0;
        while number < Mutation::ALL.len() {
            assert!(!is_active(Mutation::ALL[number]));
            number += 1;
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back_and_no_two_are_alike() {
        for mutation in Mutation::ALL {
            assert_eq!(mutation.to_string().parse(), Ok(*mutation));
        }
        let error = "forward".parse::<Mutation>().expect_err("there is no such mutation");
        assert!(error.to_string().contains("forward-before-snapshot"), "{error}");
    }
}
