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
                || scene.history.complete().any(|(checkpoint, told)| checkpoint == name.checkpoint && told <= entry.at);
            match entry.event {
                LedgerEvent::Committed { covered: false } => {
                    return Err(Violation::new(format!(
                        "`{ledger}` committed the transaction of {name} at {at}, when neither that checkpoint nor a later one was complete ({})",
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
                        "the transaction of {name} in `{ledger}` is lost: that checkpoint was complete, and at {at} {who} ({})",
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
