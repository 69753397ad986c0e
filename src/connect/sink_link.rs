//! A sink's writer as the end of a chain, with the ledger of what it prepared.
//!
//! A transaction stays in every snapshot until its commit returned, whatever became of the checkpoint that prepared it; the ledger decides that. What the
//! restored checkpoint had prepared is committed before a writer is built, so a ledger begins empty.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context, Poll};

use alluvium_actors::drive::outputs::Outputs;
use alluvium_actors::ids::{CheckpointId, OperatorUid, Token};
use alluvium_actors::ports::points::{Hit, Point, Who};
use alluvium_actors::ports::sink::PreparedCheckpoint;
use alluvium_actors::ports::store::{COMMITTABLES, OperatorSnapshot, Piece, name_part};
use alluvium_actors::ports::task::{CommitRequest, Cut, Failure};
use alluvium_actors::protocol::commit::{CommitAnswer, Effect, Event, Ledger};
use alluvium_actors::protocol::machine::Machine;

use super::sink::{Sink, SinkContext, SinkWriter};
use crate::error::OperatorError;
use crate::operator::assembly::Site;
use crate::operator::link::{Link, Member};
use crate::operator::piece::{PieceWriting, delete_blobs, encode};
use crate::operator::place::Place;
use crate::record::Record;
use crate::record::batch::Slice;

/// The name of the piece that holds the writer's own state.
pub(crate) const WRITER: &str = "writer";

/// The encoded transactions that one checkpoint prepared.
type Transactions = Vec<Vec<u8>>;

/// The end of a chain that writes into a sink.
pub(crate) struct SinkLink<T: Record, S: Sink<T>> {
    writer: S::Writer,
    ledger: Ledger<Transactions>,
    /// Cuts, oldest first, whose transactions are not all durable yet. They are waited for in this order, also those of aborted checkpoints.
    preparing: Vec<CheckpointId>,
    snapshots: BTreeMap<CheckpointId, Snapshot>,
    /// A commit that was asked for: its checkpoint and the ledger's token.
    committing: Option<(CheckpointId, Token)>,
    requests: Vec<CommitRequest>,
    /// Why preparing failed. The records are lost with it, so the task fails at the next call that may fail it.
    failed: Option<Failure>,
    uid: OperatorUid,
    site: Site,
    records: PhantomData<fn(T)>,
}

/// A snapshot under way.
struct Snapshot {
    state: Option<Vec<u8>>,
    writing: Vec<PieceWriting>,
    pieces: Vec<Piece>,
}

impl<T: Record, S: Sink<T>> SinkLink<T, S> {
    /// A new writer of `sink`.
    ///
    /// # Errors
    /// When the sink refuses.
    pub(crate) fn new(sink: &Arc<S>, uid: OperatorUid, site: Site) -> Result<SinkLink<T, S>, Failure> {
        site.place.enter();
        let task = &site.task;
        let writer = sink.writer(SinkContext {
            job: Arc::clone(&task.job),
            store: format!("{:016x}", task.hash_seed),
            uid: uid.clone(),
            subtask: task.subtask.index,
            parallelism: task.parallelism,
            run: task.run,
            host: task.host.clone(),
            files: Arc::clone(&task.files),
            fence: task.fence.clone(),
        });
        let mut link = SinkLink {
            writer: writer.map_err(|error| site.place.fail(error))?,
            ledger: Ledger::new(),
            preparing: Vec::new(),
            snapshots: BTreeMap::new(),
            committing: None,
            requests: Vec::new(),
            failed: None,
            uid,
            site,
            records: PhantomData,
        };
        link.tell(Event::Restored { prepared: Vec::new() });
        Ok(link)
    }

    /// Tells the ledger, and keeps what it wants committed.
    fn tell(&mut self, event: Event<Transactions>) {
        let mut effects = Vec::new();
        self.ledger.handle(self.site.task.host.now(), event, &mut effects);
        debug_assert_eq!(self.ledger.check(), Ok(()));
        for effect in effects {
            match effect {
                Effect::Commit { token, transaction } => {
                    self.committing = Some((transaction.checkpoint, token));
                    self.requests.push(CommitRequest {
                        sink: self.site.sink,
                        checkpoint: transaction.checkpoint,
                        committables: transaction.committable,
                    });
                }
                // Nothing is restored here, and a fatal answer fails the job where the commit was carried out.
                Effect::ClearForRecords | Effect::Fail { .. } => {}
            }
        }
    }

    /// Waits until everything up to `checkpoint` is prepared.
    fn poll_prepared(&mut self, checkpoint: CheckpointId, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        while let Some(&next) = self.preparing.first().filter(|next| **next <= checkpoint) {
            let prepared = match self.writer.poll_prepared(next, context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(prepared) => prepared.map_err(|error| self.site.place.fail(error)),
            };
            let prepared = prepared.and_then(|prepared| self.pass(Point::PreCommitted, next).map(|()| prepared));
            let label = self.site.place.label();
            let encoded = prepared.and_then(|committables| {
                committables.iter().map(|committable| encode(committable, label)).collect::<Result<Transactions, _>>()
            });
            match encoded {
                Ok(transactions) => {
                    self.preparing.remove(0);
                    // One entry per checkpoint: its transactions are committed together, in order.
                    let committables = if transactions.is_empty() { Vec::new() } else { vec![transactions] };
                    self.tell(Event::Prepared { checkpoint: next, committables });
                }
                Err(failure) => {
                    self.failed = Some(failure.clone());
                    return Poll::Ready(Err(failure));
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// What a snapshot for `checkpoint` holds: everything prepared up to it whose commit has not returned.
    fn committables(&self, checkpoint: CheckpointId) -> Vec<PreparedCheckpoint> {
        self.ledger
            .snapshot()
            .into_iter()
            .filter(|prepared| prepared.checkpoint <= checkpoint)
            .map(|prepared| PreparedCheckpoint { checkpoint: prepared.checkpoint, committables: prepared.committable })
            .collect()
    }

    /// Passes a fault point of the writer.
    fn pass(&self, point: Point, checkpoint: CheckpointId) -> Result<(), Failure> {
        let points = self.site.task.host.points();
        if !points.are_armed() {
            return Ok(());
        }
        let operator = name_part(self.uid.as_str());
        let who = Who::Instance { operator: &operator, subtask: self.site.task.subtask.index };
        let hit = Hit::work(point, who).checkpoint(checkpoint);
        points.pass(&hit, |reason| self.site.place.fail(OperatorError::retryable(reason)))
    }

    fn check_failed(&self) -> Result<(), Failure> {
        self.failed.clone().map_or(Ok(()), Err)
    }
}

impl<T: Record, S: Sink<T>> Link<T> for SinkLink<T, S> {
    fn push(&mut self, slice: &mut Slice<T>, _: &mut Outputs) -> Result<(), Failure> {
        self.site.place.enter();
        let written = self.writer.write_batch(slice);
        slice.clear();
        written.map_err(|error| self.site.place.fail(error))
    }
}

impl<T: Record, S: Sink<T>> Member for SinkLink<T, S> {
    fn walk(&mut self, visit: &mut dyn FnMut(&mut dyn Member)) {
        visit(self);
    }

    fn place(&self) -> Option<&Place> {
        Some(&self.site.place)
    }

    /// A writer may have something to find out before its first cut can be taken.
    fn poll_restore(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.poll_ready(context)
    }

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.check_failed()?;
        self.writer.poll_ready(context).map_err(|error| self.site.place.fail(error))
    }

    fn close_epoch(&mut self, cut: Cut) -> Result<(), Failure> {
        self.check_failed()?;
        self.pass(Point::PreCommitBegins, cut.checkpoint)?;
        self.writer.prepare(cut.checkpoint).map_err(|error| self.site.place.fail(error))?;
        self.preparing.push(cut.checkpoint);
        let state = self.writer.snapshot(cut.checkpoint);
        let state = Some(encode(&state, self.site.place.label())?);
        self.snapshots.insert(cut.checkpoint, Snapshot { state, writing: Vec::new(), pieces: Vec::new() });
        Ok(())
    }

    fn poll_snapshot(
        &mut self,
        checkpoint: CheckpointId,
        _: usize,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<OperatorSnapshot>, Failure>> {
        match self.poll_prepared(checkpoint, context) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(failure)) => return Poll::Ready(Err(failure)),
            Poll::Pending => return Poll::Pending,
        }
        let committables = self.committables(checkpoint);
        let Some(snapshot) = self.snapshots.get_mut(&checkpoint) else { return Poll::Ready(Ok(None)) };
        let label = self.site.place.label();
        if let Some(state) = snapshot.state.take() {
            // The committer reads it back, which has no store.
            snapshot.writing.push(PieceWriting::inline(WRITER, state));
            // Without committables the piece is left out: its presence tells that the outside may hold output.
            if !committables.is_empty() {
                let bytes = encode(&committables, label)?;
                snapshot.writing.push(PieceWriting::start(&self.site.task, &self.uid, checkpoint, COMMITTABLES, bytes));
            }
        }
        while let Some(writing) = snapshot.writing.first_mut() {
            match writing.poll(label, context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(piece) => snapshot.pieces.push(piece?),
            }
            snapshot.writing.remove(0);
        }
        let pieces = std::mem::take(&mut snapshot.pieces);
        self.snapshots.remove(&checkpoint);
        let subtask = self.site.task.subtask.index;
        Poll::Ready(Ok(Some(OperatorSnapshot { uid: self.uid.clone(), subtask, pieces })))
    }

    fn aborted(&mut self, checkpoint: CheckpointId) {
        if let Some(snapshot) = self.snapshots.remove(&checkpoint) {
            for writing in snapshot.writing {
                writing.abandon(&self.site.task);
            }
            let written = OperatorSnapshot { uid: self.uid.clone(), subtask: 0, pieces: snapshot.pieces };
            delete_blobs(&self.site.task, written.blobs().cloned().collect());
        }
        self.tell(Event::Aborted { checkpoint });
    }

    fn completed(&mut self, checkpoint: CheckpointId) {
        self.writer.completed(checkpoint);
        self.tell(Event::Completed { checkpoint });
    }

    fn take_commits(&mut self, commits: &mut Vec<CommitRequest>) {
        commits.append(&mut self.requests);
    }

    fn committed(&mut self, sink: u32, checkpoint: CheckpointId) {
        if let Some((_, token)) =
            self.committing.take_if(|(committing, _)| sink == self.site.sink && *committing == checkpoint)
        {
            self.tell(Event::CommitFinished { token, answer: CommitAnswer::Done });
        }
    }

    fn has_open_commits(&self) -> bool {
        self.committing.is_some()
    }
}
