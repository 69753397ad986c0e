//! A ledger whose writer or committer does something wrong, for the checkers to find.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use alluvium::connect::sink::{CommitOutcome, Guarantee, Sink, SinkCommit, SinkContext, SinkWriter};
use alluvium::ports::files::Files;
use alluvium::ports::sink::SinkScope;
use alluvium::record::batch::Slice;
use alluvium::testing::models::{Ledger, LedgerCommittable, LedgerCommitter, LedgerWriter};
use alluvium::{CheckpointId, OperatorResult};

use crate::billing::Bill;

/// A ledger whose writer or committer does something wrong.
pub(crate) struct Wrong {
    pub(crate) ledger: Ledger<Bill>,
    pub(crate) how: How,
}

/// What is wrong with a sink.
#[derive(Clone, Default)]
pub(crate) struct How {
    /// The writer forgets what comes behind its first, fourth, ... barrier, up to the next one.
    pub(crate) forgets: bool,
    /// The writer commits when it prepares.
    pub(crate) commits_early: bool,
    /// The writer prepares some time after its cut, with what has been written meanwhile.
    pub(crate) prepares_late: bool,
    /// The committer answers that it has committed, and has not.
    pub(crate) never_commits: bool,
    /// Writes this file when it opens.
    pub(crate) writes: Option<&'static str>,
    /// Removes the blobs of the store when it commits.
    pub(crate) removes_blobs: bool,
}

pub(crate) struct WrongWriter {
    inner: LedgerWriter<Bill>,
    how: How,
    early: Option<LedgerCommitter<Bill>>,
    prepared: u64,
    /// How often a checkpoint that is prepared late was asked for, and whether records came since its cut.
    late: BTreeMap<CheckpointId, (u32, bool)>,
}

pub(crate) struct WrongCommitter {
    inner: LedgerCommitter<Bill>,
    how: How,
    files: Arc<dyn Files>,
}

impl Sink<Bill> for Wrong {
    type Committable = LedgerCommittable;
    type State = ();
    type Writer = WrongWriter;
    type Committer = WrongCommitter;

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn writer(&self, context: SinkContext) -> OperatorResult<WrongWriter> {
        if let Some(path) = self.how.writes {
            let path = format!("{path}-{}-{}", context.run(), context.subtask());
            let directory = Path::new(&path).parent().unwrap();
            context.files().create_directories(directory)?;
            let mut file = context.files().create(Path::new(&path))?;
            file.append(b"junk")?;
        }
        let early = SinkScope {
            job: Arc::from(context.job()),
            store: context.store().to_owned(),
            uid: context.uid().clone(),
            run: context.run(),
            restored: None,
            files: context.files(),
            fence: context.fence(),
        };
        let early = self.how.commits_early.then(|| Sink::<Bill>::committer(&self.ledger, early)).transpose()?;
        let inner = Sink::<Bill>::writer(&self.ledger, context)?;
        Ok(WrongWriter { inner, how: self.how.clone(), early, prepared: 0, late: BTreeMap::new() })
    }

    fn committer(&self, scope: SinkScope) -> OperatorResult<WrongCommitter> {
        let files = Arc::clone(&scope.files);
        Ok(WrongCommitter { inner: Sink::<Bill>::committer(&self.ledger, scope)?, how: self.how.clone(), files })
    }
}

impl SinkWriter<Bill> for WrongWriter {
    type Committable = LedgerCommittable;
    type State = ();

    fn poll_ready(&mut self, context: &mut TaskContext<'_>) -> Poll<OperatorResult> {
        self.inner.poll_ready(context)
    }

    fn write_batch(&mut self, slice: &mut Slice<Bill>) -> OperatorResult {
        if self.how.forgets && self.prepared % 3 == 1 {
            slice.clear();
        }
        self.late.values_mut().for_each(|(_, written)| *written |= !slice.is_empty());
        self.inner.write_batch(slice)
    }

    fn prepare(&mut self, checkpoint: CheckpointId) -> OperatorResult {
        self.prepared += 1;
        if self.how.prepares_late {
            self.late.insert(checkpoint, (0, false));
            return Ok(());
        }
        self.inner.prepare(checkpoint)
    }

    fn poll_prepared(
        &mut self,
        checkpoint: CheckpointId,
        context: &mut TaskContext<'_>,
    ) -> Poll<OperatorResult<Vec<LedgerCommittable>>> {
        if let Some((asked, written)) = self.late.get_mut(&checkpoint) {
            *asked += 1;
            if !*written && *asked < 1_000 {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.late.remove(&checkpoint);
            self.inner.prepare(checkpoint)?;
        }
        let prepared = self.inner.poll_prepared(checkpoint, context);
        if let (Poll::Ready(Ok(committables)), Some(committer)) = (&prepared, &mut self.early) {
            for committable in committables {
                committer.commit(committable.clone());
            }
        }
        prepared
    }

    fn snapshot(&mut self, _: CheckpointId) {}
}

impl SinkCommit for WrongCommitter {
    type Committable = LedgerCommittable;
    type State = ();

    fn open(&mut self, restored: Option<Vec<()>>) -> OperatorResult {
        self.inner.open(restored)
    }

    fn commit(&mut self, committable: LedgerCommittable) -> CommitOutcome {
        if self.how.removes_blobs {
            let blobs = Path::new("/store/blobs");
            for entry in self.files.list(blobs).unwrap_or_default() {
                // What it cannot remove it leaves: the disk may fail.
                let _ = self.files.remove(&blobs.join(entry.name));
            }
        }
        if self.how.never_commits {
            return CommitOutcome::Done;
        }
        self.inner.commit(committable)
    }

    fn clean_up(&mut self) -> OperatorResult {
        if self.how.never_commits { Ok(()) } else { self.inner.clean_up() }
    }
}
