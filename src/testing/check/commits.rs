//! Two-phase commit is kept: nothing is committed before its checkpoint is complete, and everything that is complete is committed.

use std::fmt;

use super::{Check, Scene, Verdict, Violation, few, shown};
use crate::record::Record;
use crate::testing::models::{AbortedBy, Ledger, LedgerEntry, LedgerEvent};
use crate::testing::print::text_of_record;

/// Follows the transactions of a [`Ledger`].
pub struct Commits<T> {
    ledger: Ledger<T>,
    read: usize,
}

impl<T: Record> Commits<T> {
    /// Of this ledger.
    #[must_use]
    pub fn of(ledger: &Ledger<T>) -> Commits<T> {
        Commits { ledger: ledger.clone(), read: 0 }
    }

    fn records(&self, entry: &LedgerEntry) -> String {
        let records = self.ledger.records_of(&entry.transaction);
        let noun = if records.len() == 1 { "record" } else { "records" };
        format!("{} {noun}: {}", records.len(), few(records.iter().map(text_of_record)))
    }

    fn follow(&mut self, scene: &Scene<'_>) -> Result<(), Violation> {
        let entries = self.ledger.entries_from(self.read);
        self.read += entries.len();
        let ledger = self.ledger.name();
        for entry in &entries {
            let (name, at) = (&entry.transaction, shown(entry.at));
            let was_complete =
                || scene.history.is_covered(name.checkpoint, &self.ledger.life_of_writer(name), entry.at);
            match entry.event {
                LedgerEvent::Committed { covered: false } => {
                    return Err(Violation::new(format!(
                        "`{ledger}` committed the transaction of {name} at {at}, when neither that checkpoint nor a later one was complete that has it in its cut ({})",
                        self.records(entry)
                    )));
                }
                LedgerEvent::Aborted(by) if was_complete() => {
                    let who = match by {
                        AbortedBy::Job => "the job had it aborted",
                        AbortedBy::Timeout => {
                            "the outside system aborted it, because its commit did not come within its transaction timeout"
                        }
                    };
                    return Err(Violation::new(format!(
                        "the transaction of {name} in `{ledger}` is lost: that checkpoint, or a later one with it in its cut, was complete, and at {at} {who} ({})",
                        self.records(entry)
                    )));
                }
                LedgerEvent::Prepared
                | LedgerEvent::Committed { .. }
                | LedgerEvent::CommittedAgain
                | LedgerEvent::Aborted(_)
                | LedgerEvent::Refused => {}
            }
        }
        Ok(())
    }
}

impl<T: Record> Check for Commits<T> {
    fn rule(&self) -> &str {
        "two-phase commit"
    }

    fn observe(&mut self, scene: &Scene<'_>) -> Result<(), Violation> {
        self.follow(scene)
    }

    fn ended(&mut self, scene: &Scene<'_>) -> Result<Verdict, Violation> {
        self.follow(scene)?;
        let open = self.ledger.open_transactions();
        let Some(name) = open.first() else { return Ok(Verdict::Kept) };
        let records = self.ledger.records_of(name);
        let complete = scene.history.newest_complete().map_or("none".to_owned(), |checkpoint| checkpoint.to_string());
        Err(Violation::new(format!(
            "the job is {}, and the transaction of {name} in `{}` was prepared and neither committed nor aborted; the newest complete checkpoint is {complete} ({} records: {})",
            scene.world.state,
            self.ledger.name(),
            records.len(),
            few(records.iter().map(text_of_record))
        )))
    }
}

impl<T> fmt::Debug for Commits<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Commits({:?})", self.ledger)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use alluvium_actors::ids::{CheckpointId, Moment, RunNumber};
    use alluvium_actors::ports::listener::JobEvent;
    use alluvium_actors::ports::store::CheckpointKind;
    use alluvium_actors::protocol::lifecycle::JobState;

    use super::*;
    use crate::connect::sink::{CommitOutcome, Sink, SinkCommit, SinkWriter};
    use crate::record::batch::Slice;
    use crate::testing::disk::SimulatedDisk;
    use crate::testing::host::{ManualHost, Site};
    use crate::testing::models::{LedgerCommittable, LedgerCommitter};
    use crate::testing::simulation::{Outside, World};

    /// A job with one writer, moved by hand.
    struct ByHand {
        outside: Outside,
        ledger: Ledger<u64>,
        check: Commits<u64>,
    }

    const KIND: CheckpointKind = CheckpointKind::Periodic;

    impl ByHand {
        fn new() -> ByHand {
            let outside = Outside::detached(1);
            let ledger = Ledger::new(&outside, "bills");
            let check = Commits::of(&ledger);
            ByHand { outside, ledger, check }
        }

        fn tell(&self, event: &JobEvent) {
            self.outside.change_history().event(self.outside.now(), event);
        }

        fn run_begins(&self, run: u64, restored: Option<u64>) {
            self.tell(&JobEvent::RunBegan { run: RunNumber(run), restored: restored.map(CheckpointId) });
        }

        fn triggers(&self, checkpoint: u64) {
            self.tell(&JobEvent::Triggered { checkpoint: CheckpointId(checkpoint), kind: KIND });
        }

        fn completes(&self, checkpoint: u64) {
            let checkpoint = CheckpointId(checkpoint);
            self.tell(&JobEvent::Completed { checkpoint, kind: KIND, duration: Duration::ZERO, bytes: 0 });
        }

        fn site(run: u64) -> Site {
            Site { run, ..Site::new("bills", Arc::new(SimulatedDisk::new())) }
        }

        /// The sink is opened in this run.
        fn opens(&self, run: u64) -> LedgerCommitter<u64> {
            let mut committer = Sink::<u64>::committer(&self.ledger, ByHand::site(run).sink_scope()).unwrap();
            committer.open(Some(vec![])).unwrap();
            committer
        }

        fn prepares(&self, run: u64, checkpoint: u64) -> LedgerCommittable {
            let host = ManualHost::new(1);
            let mut writer = Sink::<u64>::writer(&self.ledger, ByHand::site(run).sink_context(&host, 0)).unwrap();
            let mut slice = Slice::new();
            slice.records.push(17);
            writer.write_batch(&mut slice).unwrap();
            writer.prepare(CheckpointId(checkpoint)).unwrap();
            host.drive(|context| writer.poll_prepared(CheckpointId(checkpoint), context)).unwrap().remove(0)
        }

        fn looks(&mut self) -> Result<(), String> {
            let disk = SimulatedDisk::new();
            let (state, now) = (JobState::Running, Moment::default());
            let world = World { disk: &disk, complete: None, state, calm: true, last_fault: None, now };
            let ByHand { outside, check, .. } = self;
            let looked =
                outside.history(|history| check.observe(&Scene { world: &world, history, job: "job", store: None }));
            looked.map_err(|violation| violation.to_string())
        }
    }

    #[test]
    fn what_an_earlier_run_prepared_is_not_covered_by_a_checkpoint_of_a_later_one() {
        let mut job = ByHand::new();
        job.run_begins(1, None);
        let _ = job.opens(1);
        job.triggers(3);
        let left = job.prepares(1, 3);
        job.run_begins(2, None);
        let mut committer = job.opens(2);
        job.triggers(4);
        job.completes(4);
        assert_eq!(job.looks(), Ok(()));
        assert_eq!(committer.commit(left), CommitOutcome::Done);
        let wrong = job.looks().unwrap_err();
        assert!(wrong.contains("committed the transaction of checkpoint 3 of bills[0]"), "{wrong}");
        assert!(
            wrong.contains("neither that checkpoint nor a later one was complete that has it in its cut"),
            "{wrong}"
        );
    }

    #[test]
    fn what_a_failed_checkpoint_prepared_belongs_to_the_next_one_of_the_same_writer() {
        // Another part of the job restarts in between, which begins a run; this sink lives on.
        let mut job = ByHand::new();
        job.run_begins(1, None);
        let mut committer = job.opens(1);
        job.triggers(3);
        let prepared = job.prepares(1, 3);
        job.run_begins(2, None);
        job.triggers(4);
        job.completes(4);
        assert_eq!(committer.commit(prepared), CommitOutcome::Done);
        assert_eq!(job.looks(), Ok(()));
    }

    #[test]
    fn what_a_later_checkpoint_of_the_same_run_covers_is_lost_when_it_is_aborted() {
        let mut job = ByHand::new();
        job.run_begins(1, None);
        let _ = job.opens(1);
        job.triggers(3);
        let _ = job.prepares(1, 3);
        job.triggers(4);
        job.completes(4);
        job.run_begins(2, Some(4));
        job.opens(2).clean_up().unwrap();
        let wrong = job.looks().unwrap_err();
        assert!(wrong.contains("the transaction of checkpoint 3 of bills[0] in `bills` is lost"), "{wrong}");
    }

    #[test]
    fn what_no_complete_checkpoint_covers_is_rightly_aborted() {
        let mut job = ByHand::new();
        job.run_begins(1, None);
        let _ = job.opens(1);
        job.triggers(3);
        let _ = job.prepares(1, 3);
        job.run_begins(2, None);
        let mut committer = job.opens(2);
        job.triggers(4);
        job.completes(4);
        committer.clean_up().unwrap();
        assert_eq!(job.looks(), Ok(()));
    }
}
