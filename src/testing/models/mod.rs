//! Models of the outside systems at the ends of a job: a source whose records are known, a sink that remembers every transaction, a service that fails.
//!
//! A model belongs to one simulated run: it is built anew for each, takes its time and its chance from the run's [`Outside`](super::simulation::Outside), and outlives
//! the processes that crash in the run, as an outside system does. Clones are the same system.

mod ledger;
mod ledger_sink;
mod records;
mod records_source;
mod service;

pub use ledger::{AbortedBy, Ledger, LedgerEntry, LedgerEvent, TransactionName};
pub use ledger_sink::{LedgerCommittable, LedgerCommitter, LedgerWriter};
pub use records::Records;
pub use records_source::{RecordsEnumerator, RecordsReader, RecordsSplit};
pub use service::{Call, FlakyService, ServiceEffect, ServiceError};
