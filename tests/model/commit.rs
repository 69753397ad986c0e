//! The ledger of a two-phase sink.

use alluvium_actors::ids::{Moment, Token};
use alluvium_actors::protocol::commit::{CommitAnswer, Effect, Event, Ledger, Prepared};
use alluvium_actors::protocol::machine::Machine;

use crate::coordinator::{SECOND, id};

type Transaction = &'static str;

struct Desk {
    ledger: Ledger<Transaction>,
    now: Moment,
}

fn prepared(checkpoint: u64, committable: Transaction) -> Prepared<Transaction> {
    Prepared { checkpoint: id(checkpoint), committable }
}

fn commit(token: u64, checkpoint: u64, committable: Transaction) -> Effect<Transaction> {
    Effect::Commit { token: Token(token), transaction: prepared(checkpoint, committable) }
}

impl Desk {
    fn new() -> Desk {
        let mut desk = Desk { ledger: Ledger::new(), now: Moment(0) };
        assert_eq!(desk.tell(Event::Restored { prepared: Vec::new() }), [Effect::ClearForRecords]);
        desk
    }

    fn restored(transactions: &[Prepared<Transaction>]) -> (Desk, Vec<Effect<Transaction>>) {
        let mut desk = Desk { ledger: Ledger::new(), now: Moment(0) };
        let effects = desk.tell(Event::Restored { prepared: transactions.to_vec() });
        (desk, effects)
    }

    fn tell(&mut self, event: Event<Transaction>) -> Vec<Effect<Transaction>> {
        let mut effects = Vec::new();
        self.ledger.handle(self.now, event, &mut effects);
        self.ledger.check().unwrap();
        effects
    }

    fn prepare(&mut self, checkpoint: u64, committables: &[Transaction]) {
        let event = Event::Prepared { checkpoint: id(checkpoint), committables: committables.to_vec() };
        assert_eq!(self.tell(event), [], "nothing is committed because it is prepared");
    }

    fn completed(&mut self, checkpoint: u64) -> Vec<Effect<Transaction>> {
        self.tell(Event::Completed { checkpoint: id(checkpoint) })
    }

    fn answer(&mut self, token: u64, answer: CommitAnswer) -> Vec<Effect<Transaction>> {
        self.tell(Event::CommitFinished { token: Token(token), answer })
    }
}

#[test]
fn a_completion_commits_in_order_what_was_prepared_up_to_it_and_nothing_later() {
    let mut desk = Desk::new();
    desk.prepare(1, &["a", "b"]);
    desk.prepare(2, &["c"]);
    assert_eq!(desk.completed(1), [commit(1, 1, "a")]);
    assert_eq!(desk.answer(1, CommitAnswer::Done), [commit(2, 1, "b")]);
    assert_eq!(desk.answer(2, CommitAnswer::Done), []);
    assert_eq!(desk.ledger.snapshot(), [prepared(2, "c")]);
    assert_eq!(desk.completed(2), [commit(3, 2, "c")]);
    assert_eq!(desk.answer(3, CommitAnswer::Done), []);
    assert!(desk.ledger.is_settled());
}

#[test]
fn a_notice_commits_also_what_the_lost_notices_before_it_would_have() {
    let mut desk = Desk::new();
    desk.prepare(1, &["a"]);
    desk.prepare(2, &[]);
    desk.prepare(3, &["c"]);
    assert_eq!(desk.completed(3), [commit(1, 1, "a")]);
    assert_eq!(desk.answer(1, CommitAnswer::Done), [commit(2, 3, "c")]);
}

#[test]
fn an_older_or_repeated_notice_commits_nothing_twice() {
    let mut desk = Desk::new();
    desk.prepare(1, &["a"]);
    desk.prepare(2, &["b"]);
    assert_eq!(desk.completed(2), [commit(1, 1, "a")]);
    assert_eq!(desk.completed(1), []);
    assert_eq!(desk.completed(2), []);
    assert_eq!(desk.answer(1, CommitAnswer::Done), [commit(2, 2, "b")]);
    assert_eq!(desk.answer(1, CommitAnswer::Done), [], "nor does a repeated answer");
    assert_eq!(desk.answer(2, CommitAnswer::Done), []);
    assert_eq!(desk.completed(2), []);
}

#[test]
fn an_abort_leaves_what_was_prepared_in_every_later_snapshot_until_its_commit_returned() {
    let mut desk = Desk::new();
    desk.prepare(1, &["a"]);
    assert_eq!(desk.tell(Event::Aborted { checkpoint: id(1) }), []);
    assert_eq!(desk.ledger.snapshot(), [prepared(1, "a")]);
    desk.prepare(2, &["b"]);
    assert_eq!(desk.ledger.snapshot(), [prepared(1, "a"), prepared(2, "b")]);
    assert_eq!(desk.completed(2), [commit(1, 1, "a")]);
    assert_eq!(desk.ledger.snapshot(), [prepared(1, "a"), prepared(2, "b")], "the commit has not returned");
    desk.answer(1, CommitAnswer::Done);
    assert_eq!(desk.ledger.snapshot(), [prepared(2, "b")]);
}

#[test]
fn n_prepared_n_aborted_the_next_one_complete_and_a_crash_before_the_notice() {
    let mut desk = Desk::new();
    desk.prepare(1, &["a"]);
    desk.tell(Event::Aborted { checkpoint: id(1) });
    desk.prepare(2, &["b"]);
    let cut = desk.ledger.snapshot();
    // Checkpoint 2 is complete; the process ends before the sink hears of it.
    let (mut desk, effects) = Desk::restored(&cut);
    assert_eq!(effects, [commit(1, 1, "a")]);
    assert!(!desk.ledger.is_clear_for_records());
    assert_eq!(desk.answer(1, CommitAnswer::Done), [commit(2, 2, "b")]);
    assert!(!desk.ledger.is_clear_for_records());
    assert_eq!(desk.answer(2, CommitAnswer::Done), [Effect::ClearForRecords]);
    assert!(desk.ledger.is_clear_for_records());
}

#[test]
fn a_restore_commits_again_what_was_committed_and_hears_that_it_was() {
    let (mut desk, effects) = Desk::restored(&[prepared(4, "a"), prepared(4, "b")]);
    assert_eq!(effects, [commit(1, 4, "a")]);
    assert_eq!(desk.answer(1, CommitAnswer::AlreadyDone), [commit(2, 4, "b")]);
    assert_eq!(desk.ledger.snapshot(), [prepared(4, "b")], "a snapshot meanwhile holds what has not returned");
    assert_eq!(desk.answer(2, CommitAnswer::AlreadyDone), [Effect::ClearForRecords]);
}

#[test]
fn no_record_reaches_a_sink_that_is_not_restored() {
    let ledger = Ledger::<Transaction>::new();
    assert!(!ledger.is_clear_for_records());
    assert!(!ledger.is_settled());
}

#[test]
fn a_commit_that_is_to_be_retried_holds_up_those_behind_it() {
    let mut desk = Desk::new();
    desk.prepare(1, &["a", "b"]);
    desk.completed(1);
    assert_eq!(desk.answer(1, CommitAnswer::RetryAfter(SECOND)), []);
    assert_eq!(desk.ledger.next_deadline(), Some(Moment(0) + SECOND));
    assert_eq!(desk.completed(1), [], "a notice does not shorten the wait");
    desk.now = Moment(0) + SECOND;
    assert_eq!(desk.tell(Event::Deadline), [commit(2, 1, "a")]);
    assert_eq!(desk.ledger.next_deadline(), None);
    assert_eq!(desk.answer(1, CommitAnswer::Done), [], "the first try has been answered");
    assert_eq!(desk.answer(2, CommitAnswer::Done), [commit(3, 1, "b")]);
}

#[test]
fn a_fatal_commit_fails_the_job_and_nothing_is_committed_after_it() {
    let mut desk = Desk::new();
    desk.prepare(1, &["a", "b"]);
    desk.completed(1);
    let reason = "out/a.csv was changed or wiped".to_owned();
    let failed = Effect::Fail { checkpoint: id(1), reason: reason.clone() };
    assert_eq!(desk.answer(1, CommitAnswer::Fatal(reason)), [failed]);
    assert_eq!(desk.completed(1), []);
    assert_eq!(desk.tell(Event::Deadline), []);
    assert_eq!(desk.ledger.snapshot(), [prepared(1, "a"), prepared(1, "b")]);
}

#[test]
fn what_is_prepared_for_a_checkpoint_known_to_be_complete_is_a_defect_and_is_not_committed() {
    let mut desk = Desk::new();
    desk.completed(5);
    let mut effects = Vec::new();
    let event = Event::Prepared { checkpoint: id(5), committables: vec!["a"] };
    desk.ledger.handle(desk.now, event, &mut effects);
    assert_eq!(effects, []);
    assert_eq!(desk.ledger.check().unwrap_err().invariant.id, "commit.prepared-in-turn");
}
