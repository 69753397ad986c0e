//! The ledger of a two-phase sink: what one subtask has prepared, and what of it may be committed.
//!
//! A transaction is prepared at a barrier, committed when a checkpoint that holds it is complete, and stays in every
//! snapshot from the one to the other, until its commit has *returned*. That a checkpoint was aborted says nothing about
//! its transactions: the state of the next one already contains their records, so a transaction that was thrown away
//! with its checkpoint would be lost. Only a restore aborts: of what an older process prepared, that which the restored
//! cut does not hold.

use std::collections::VecDeque;
use std::time::Duration;

use crate::ids::{CheckpointId, Moment, Token};
use crate::protocol::machine::{Invariant, Machine, Violation};
use crate::protocol::mutation::{Mutation, is_active};

/// Every invariant of the ledger.
pub const INVARIANTS: [&Invariant; 3] = [&IN_ORDER, &DUE_FIRST, &PREPARED_IN_TURN];

static IN_ORDER: Invariant =
    Invariant { id: "commit.in-order", statement: "transactions are held in the order of their checkpoints" };
static DUE_FIRST: Invariant = Invariant {
    id: "commit.due-first",
    statement: "what is being committed is due, and what is due stands before what is not",
};
static PREPARED_IN_TURN: Invariant = Invariant {
    id: "commit.prepared-in-turn",
    statement: "transactions are prepared for ascending checkpoints, never for one that is known to be complete",
};

/// A transaction that was prepared and whose commit has not returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prepared<C> {
    /// The checkpoint at whose barrier it was prepared.
    pub checkpoint: CheckpointId,
    /// What the committer needs.
    pub committable: C,
}

/// What a committer says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CommitAnswer {
    /// It is committed.
    Done,
    /// It had been committed before, by an attempt whose answer was lost.
    AlreadyDone,
    /// It is not committed, and may be tried again after this time.
    RetryAfter(Duration),
    /// It can never be committed. This is unrecoverable.
    Fatal(String),
}

/// What may happen to the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event<C> {
    /// The subtask is restored: the uncommitted transactions of the restored cut, none for a first start. It comes once,
    /// before anything else.
    Restored {
        /// In the order of the snapshot.
        prepared: Vec<Prepared<C>>,
    },
    /// The writer prepared these at the barrier of `checkpoint`.
    Prepared {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// In the order in which they are to be committed; empty if nothing was written.
        committables: Vec<C>,
    },
    /// The checkpoint is complete. Notices may be lost, repeated and out of order.
    Completed {
        /// The checkpoint.
        checkpoint: CheckpointId,
    },
    /// The checkpoint was aborted. It changes nothing.
    Aborted {
        /// The checkpoint.
        checkpoint: CheckpointId,
    },
    /// The answer to [`Effect::Commit`].
    CommitFinished {
        /// The token of the effect.
        token: Token,
        /// What the committer said.
        answer: CommitAnswer,
    },
    /// The deadline that the machine named has passed.
    Deadline,
}

/// What the ledger asks its driver to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect<C> {
    /// Commit this; one is asked for at a time, in order.
    Commit {
        /// Comes back with the answer.
        token: Token,
        /// The transaction.
        transaction: Prepared<C>,
    },
    /// All transactions of the restored cut are committed: records may reach the sink.
    ClearForRecords,
    /// Fail the job, unrecoverably: a transaction of a complete checkpoint cannot be committed.
    Fail {
        /// The checkpoint of the transaction.
        checkpoint: CheckpointId,
        /// What the committer said.
        reason: String,
    },
}

/// The ledger of one sink subtask in one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ledger<C> {
    entries: VecDeque<Entry<C>>,
    step: Step,
    restored: bool,
    /// The newest checkpoint that something was prepared for or that is known to be complete.
    newest: Option<CheckpointId>,
    tokens: u64,
    misuse: Option<Violation>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Entry<C> {
    transaction: Prepared<C>,
    /// Whether a complete checkpoint holds it.
    due: bool,
    /// Whether it comes from the restored cut.
    restored: bool,
}

/// What is being done about the first entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    Idle,
    Committing(Token),
    RetryAt(Moment),
    Failed,
}

impl<C> Default for Ledger<C> {
    fn default() -> Ledger<C> {
        Ledger { entries: VecDeque::new(), step: Step::Idle, restored: false, newest: None, tokens: 0, misuse: None }
    }
}

impl<C: Clone> Ledger<C> {
    /// A ledger that waits to be restored.
    #[must_use]
    pub fn new() -> Ledger<C> {
        Ledger::default()
    }

    /// What belongs into a snapshot taken now: every transaction whose commit has not returned, in order.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Prepared<C>> {
        let forgotten = |entry: &Entry<C>| entry.due && is_active(Mutation::ForgetPrepared);
        self.entries.iter().filter(|entry| !forgotten(entry)).map(|entry| entry.transaction.clone()).collect()
    }

    /// Whether records may reach the sink: the subtask is restored, and all that the restored cut had prepared is
    /// committed.
    #[must_use]
    pub fn is_clear_for_records(&self) -> bool {
        self.restored && !self.entries.iter().any(|entry| entry.restored)
    }

    /// Whether nothing is prepared that is not committed: after the last checkpoint of a job, the subtask may end.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.restored && self.entries.is_empty()
    }

    fn restored(&mut self, prepared: Vec<Prepared<C>>, effects: &mut Vec<Effect<C>>) {
        if self.restored || !self.entries.is_empty() {
            self.misuse = PREPARED_IN_TURN.require(false, || "a ledger was restored twice".to_owned()).err();
            return;
        }
        self.restored = true;
        self.newest = prepared.iter().map(|transaction| transaction.checkpoint).max();
        self.entries.extend(prepared.into_iter().map(|transaction| Entry { transaction, due: true, restored: true }));
        if self.entries.is_empty() {
            effects.push(Effect::ClearForRecords);
        }
    }

    fn prepared(&mut self, checkpoint: CheckpointId, committables: Vec<C>) {
        if let Some(newest) = self.newest.filter(|newest| *newest >= checkpoint) {
            let detail = || format!("prepared for checkpoint {checkpoint} after checkpoint {newest} was known");
            self.misuse = PREPARED_IN_TURN.require(false, detail).err();
        }
        self.newest = self.newest.max(Some(checkpoint));
        self.entries.extend(committables.into_iter().map(|committable| Entry {
            transaction: Prepared { checkpoint, committable },
            due: is_active(Mutation::CommitBeforeCompletion),
            restored: false,
        }));
    }

    /// What is prepared by now up to `checkpoint` is held by a complete one. What is prepared later is not, whatever
    /// its id: so only entries are marked, and no id is compared afterwards.
    fn completed(&mut self, checkpoint: CheckpointId) {
        self.newest = self.newest.max(Some(checkpoint));
        for entry in self.entries.iter_mut().filter(|entry| entry.transaction.checkpoint <= checkpoint) {
            entry.due |= entry.transaction.checkpoint == checkpoint || !is_active(Mutation::CommitOnlyItsOwn);
        }
    }

    fn commit_finished(&mut self, now: Moment, token: Token, answer: CommitAnswer, effects: &mut Vec<Effect<C>>) {
        if self.step != Step::Committing(token) {
            return;
        }
        match answer {
            CommitAnswer::Done | CommitAnswer::AlreadyDone => {
                self.step = Step::Idle;
                let entry = self.entries.pop_front();
                if entry.is_some_and(|entry| entry.restored) && self.is_clear_for_records() {
                    effects.push(Effect::ClearForRecords);
                }
            }
            CommitAnswer::RetryAfter(delay) => self.step = Step::RetryAt(now + delay),
            CommitAnswer::Fatal(reason) => {
                self.step = Step::Failed;
                if let Some(entry) = self.entries.front() {
                    effects.push(Effect::Fail { checkpoint: entry.transaction.checkpoint, reason });
                }
            }
        }
    }

    fn commit_next(&mut self, effects: &mut Vec<Effect<C>>) {
        let Some(entry) = self.entries.front().filter(|entry| entry.due && self.step == Step::Idle) else { return };
        self.tokens += 1;
        let token = Token(self.tokens);
        self.step = Step::Committing(token);
        effects.push(Effect::Commit { token, transaction: entry.transaction.clone() });
    }
}

impl<C: Clone> Machine for Ledger<C> {
    type Event = Event<C>;
    type Effect = Effect<C>;

    fn handle(&mut self, now: Moment, event: Event<C>, effects: &mut Vec<Effect<C>>) {
        match event {
            Event::Restored { prepared } => self.restored(prepared, effects),
            Event::Prepared { checkpoint, committables } => self.prepared(checkpoint, committables),
            Event::Completed { checkpoint } => self.completed(checkpoint),
            Event::Aborted { checkpoint } if is_active(Mutation::AbortDropsPrepared) => {
                self.entries.retain(|entry| entry.due || entry.transaction.checkpoint != checkpoint);
            }
            Event::Aborted { checkpoint: _ } => {}
            Event::CommitFinished { token, answer } => self.commit_finished(now, token, answer, effects),
            Event::Deadline => {
                if let Step::RetryAt(moment) = self.step
                    && moment <= now
                {
                    self.step = Step::Idle;
                }
            }
        }
        self.commit_next(effects);
    }

    fn next_deadline(&self) -> Option<Moment> {
        match self.step {
            Step::RetryAt(moment) => Some(moment),
            Step::Idle | Step::Committing(_) | Step::Failed => None,
        }
    }

    fn check(&self) -> Result<(), Violation> {
        if let Some(misuse) = &self.misuse {
            return Err(misuse.clone());
        }
        let ids = || {
            let entries = self.entries.iter().map(|entry| (entry.transaction.checkpoint.0, entry.due));
            format!("checkpoints and whether they are due: {:?}", entries.collect::<Vec<_>>())
        };
        let in_order = self.entries.iter().is_sorted_by_key(|entry| entry.transaction.checkpoint);
        IN_ORDER.require(in_order, ids)?;
        let due_first = self.entries.iter().is_sorted_by_key(|entry| !entry.due);
        let head_is_due = self.step == Step::Idle || self.entries.front().is_some_and(|entry| entry.due);
        DUE_FIRST.require(due_first && head_is_due, ids)
    }
}
