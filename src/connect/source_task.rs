//! A source reader as the head of a chain.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};

use alluvium_actors::drive::outputs::Outputs;
use alluvium_actors::ids::{CheckpointId, OperatorUid};
use alluvium_actors::ports::source::ReaderEvent;
use alluvium_actors::ports::store::OperatorSnapshot;
use alluvium_actors::ports::task::{Cut, Failure, SLICE_RECORDS, SourceStep, SourceTask};
use alluvium_actors::protocol::mutation::{Mutation, is_active};

use super::former_splits::{FormerSplits, READER};
use super::source::{ReaderOutput, ReaderRequest, ReaderStatus, Source, SourceContext, SourceReader};
use crate::operator::assembly::Site;
use crate::operator::chain::Chain;
use crate::operator::link::{Link, Member};
use crate::operator::piece::{PieceWriting, decode, encode};
use crate::operator::place::Place;
use crate::record::batch::Slice;

/// A reader with what follows it in the chain.
pub(crate) struct SourceHead<S: Source> {
    reader: S::Reader,
    slice: Slice<S::Record>,
    next: Box<dyn Link<S::Record>>,
    site: Site,
    uid: OperatorUid,
    /// Until it has what the restored checkpoint gives it.
    restoring: FormerSplits,
    registered: bool,
    events: Vec<ReaderEvent>,
    snapshots: BTreeMap<CheckpointId, PieceWriting>,
}

impl<S: Source> SourceHead<S> {
    /// A new reader of `source`.
    ///
    /// # Errors
    /// When the source refuses.
    pub(crate) fn new(
        source: &Arc<S>,
        uid: OperatorUid,
        next: Box<dyn Link<S::Record>>,
        site: Site,
    ) -> Result<SourceHead<S>, Failure> {
        site.place.enter();
        let task = &site.task;
        let reader = source.reader(SourceContext {
            job: Arc::clone(&task.job),
            uid: uid.clone(),
            reader: task.subtask.index,
            parallelism: task.parallelism,
            run: task.run,
            host: task.host.clone(),
            files: Arc::clone(&task.files),
            fence: task.fence.clone(),
        });
        let reader = reader.map_err(|error| site.place.fail(error))?;
        let restoring = FormerSplits::start(task, &uid);
        Ok(SourceHead {
            reader,
            slice: Slice::new(),
            next,
            site,
            uid,
            restoring,
            registered: false,
            events: Vec::new(),
            snapshots: BTreeMap::new(),
        })
    }

    /// Gives the reader the splits of the restored checkpoint and registers it, with them, at the enumerator.
    fn register(&mut self, mut splits: Vec<S::Split>) -> Result<(), Failure> {
        let label = self.site.place.label();
        let encoded = splits.iter().map(|split| encode(split, label)).collect::<Result<_, _>>()?;
        if is_active(Mutation::SplitLost) {
            splits.pop();
        }
        if !splits.is_empty() {
            self.reader.add_splits(splits).map_err(|error| self.site.place.fail(error))?;
        }
        self.events.push(ReaderEvent::Registered { splits: encoded });
        self.registered = true;
        Ok(())
    }

    /// Begins to store where the reader is.
    fn store_splits(&mut self, checkpoint: CheckpointId) -> Result<(), Failure> {
        let splits = self.reader.snapshot(checkpoint);
        let bytes = encode(&splits, self.site.place.label())?;
        let piece = PieceWriting::start(&self.site.task, &self.uid, checkpoint, READER, bytes);
        self.snapshots.insert(checkpoint, piece);
        Ok(())
    }
}

impl<S: Source> Member for SourceHead<S> {
    fn walk(&mut self, visit: &mut dyn FnMut(&mut dyn Member)) {
        visit(&mut *self);
        self.next.walk(visit);
    }

    fn place(&self) -> Option<&Place> {
        Some(&self.site.place)
    }

    fn poll_restore(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        match self.restoring.poll(self.site.place.label(), context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(failure)) => Poll::Ready(Err(failure)),
            Poll::Ready(Ok(splits)) => Poll::Ready(self.register(splits)),
        }
    }

    fn close_epoch(&mut self, cut: Cut) -> Result<(), Failure> {
        if is_active(Mutation::PositionAfterTheCut) { Ok(()) } else { self.store_splits(cut.checkpoint) }
    }

    fn poll_snapshot(
        &mut self,
        checkpoint: CheckpointId,
        _: usize,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<OperatorSnapshot>, Failure>> {
        if is_active(Mutation::PositionAfterTheCut) && !self.snapshots.contains_key(&checkpoint) {
            self.store_splits(checkpoint)?;
        }
        let Some(piece) = self.snapshots.get_mut(&checkpoint) else { return Poll::Ready(Ok(None)) };
        piece.poll(self.site.place.label(), context).map(|piece| {
            self.snapshots.remove(&checkpoint);
            let subtask = self.site.task.subtask.index;
            Ok(Some(OperatorSnapshot { uid: self.uid.clone(), subtask, pieces: vec![piece?] }))
        })
    }

    fn aborted(&mut self, checkpoint: CheckpointId) {
        if let Some(piece) = self.snapshots.remove(&checkpoint) {
            piece.abandon(&self.site.task);
        }
        self.reader.aborted(checkpoint);
    }

    fn completed(&mut self, checkpoint: CheckpointId) {
        self.reader.completed(checkpoint);
    }
}

impl<S: Source> SourceTask for Chain<SourceHead<S>> {
    fn poll_records(
        &mut self,
        limit: usize,
        outputs: &mut Outputs,
        context: &mut Context<'_>,
    ) -> Poll<Result<SourceStep, Failure>> {
        let head = self.head();
        head.site.place.enter();
        let mut output = ReaderOutput::new(&mut head.slice, limit.min(SLICE_RECORDS));
        let status = head.reader.poll_batch(context, &mut output);
        let emitted = !head.slice.is_empty();
        if let Poll::Ready(Err(error)) = status {
            return Poll::Ready(Err(head.site.place.fail(error)));
        }
        if emitted {
            head.next.push(&mut head.slice, outputs)?;
        }
        match status {
            Poll::Ready(Ok(ReaderStatus::Ended)) => Poll::Ready(Ok(SourceStep::Ended)),
            Poll::Pending if !emitted => Poll::Pending,
            Poll::Pending | Poll::Ready(_) => Poll::Ready(Ok(SourceStep::Emitted)),
        }
    }

    fn add_splits(&mut self, splits: Vec<Vec<u8>>) -> Result<(), Failure> {
        let head = self.head();
        head.site.place.enter();
        let label = head.site.place.label();
        let splits = splits.iter().map(|split| decode(split, label)).collect::<Result<_, _>>()?;
        head.reader.add_splits(splits).map_err(|error| head.site.place.fail(error))
    }

    fn no_more_splits(&mut self) {
        let head = self.head();
        head.site.place.enter();
        head.reader.no_more_splits();
    }

    fn enumerator_event(&mut self, event: Vec<u8>) -> Result<(), Failure> {
        let head = self.head();
        head.site.place.enter();
        head.reader.enumerator_event(event).map_err(|error| head.site.place.fail(error))
    }

    fn take_reader_events(&mut self) -> Vec<ReaderEvent> {
        let head = self.head();
        if !head.registered {
            return Vec::new();
        }
        let mut events = mem::take(&mut head.events);
        head.site.place.enter();
        events.extend(head.reader.take_requests().into_iter().map(|request| match request {
            ReaderRequest::Split => ReaderEvent::SplitRequested,
            ReaderRequest::Finished { split } => ReaderEvent::SplitFinished { split },
            ReaderRequest::Event(event) => ReaderEvent::Custom(event),
        }));
        events
    }
}
