//! A source with a fuse in each of its calls, around another source.

use std::task::{Context, Poll};

use alluvium::connect::source::{
    Boundedness, ReaderOutput, ReaderRequest, ReaderStatus, Replay, Source, SourceContext, SourceEnumerator,
    SourceReader, SplitAssigner,
};
use alluvium::{CheckpointId, OperatorResult};

use super::fuse::Fuse;

/// Behaves as `source` until the fuse blows, but does not end before.
#[derive(Clone, Debug)]
pub(crate) struct FusedSource<S> {
    pub(crate) source: S,
    pub(crate) fuse: Fuse,
}

#[derive(Debug)]
pub(crate) struct Fused<T> {
    inner: T,
    fuse: Fuse,
}

impl<S: Source> Source for FusedSource<S> {
    type Record = S::Record;
    type Split = S::Split;
    type Enumerator = Fused<S::Enumerator>;
    type Reader = Fused<S::Reader>;

    fn boundedness(&self) -> Boundedness {
        self.source.boundedness()
    }

    fn replay(&self) -> Replay {
        self.source.replay()
    }

    fn enumerator(&self, context: SourceContext) -> OperatorResult<Self::Enumerator> {
        self.fuse.pass("enumerator");
        Ok(Fused { inner: self.source.enumerator(context)?, fuse: self.fuse.clone() })
    }

    fn reader(&self, context: SourceContext) -> OperatorResult<Self::Reader> {
        self.fuse.pass("reader");
        Ok(Fused { inner: self.source.reader(context)?, fuse: self.fuse.clone() })
    }
}

impl<E: SourceEnumerator> SourceEnumerator for Fused<E> {
    type Split = E::Split;
    type State = E::State;

    fn restore(&mut self, state: E::State) -> OperatorResult {
        self.inner.restore(state)
    }

    fn snapshot(&mut self, checkpoint: CheckpointId) -> E::State {
        self.fuse.pass("enumerator snapshot");
        self.inner.snapshot(checkpoint)
    }

    fn poll(&mut self, context: &mut Context<'_>, assigner: &mut SplitAssigner<E::Split>) -> OperatorResult {
        self.inner.poll(context, assigner)
    }

    fn reader_registered(
        &mut self,
        reader: u32,
        splits: Vec<E::Split>,
        assigner: &mut SplitAssigner<E::Split>,
    ) -> OperatorResult {
        self.fuse.pass("registration");
        self.inner.reader_registered(reader, splits, assigner)
    }

    fn split_requested(&mut self, reader: u32, assigner: &mut SplitAssigner<E::Split>) -> OperatorResult {
        self.inner.split_requested(reader, assigner)
    }

    fn completed(&mut self, checkpoint: CheckpointId) {
        self.fuse.pass("enumerator notice");
        self.inner.completed(checkpoint);
    }
}

impl<R: SourceReader> SourceReader for Fused<R> {
    type Record = R::Record;
    type Split = R::Split;

    fn add_splits(&mut self, splits: Vec<R::Split>) -> OperatorResult {
        self.inner.add_splits(splits)
    }

    fn no_more_splits(&mut self) {
        self.inner.no_more_splits();
    }

    fn poll_batch(
        &mut self,
        context: &mut Context<'_>,
        output: &mut ReaderOutput<'_, R::Record>,
    ) -> Poll<OperatorResult<ReaderStatus>> {
        self.fuse.pass("poll");
        let budget = output.budget();
        match self.inner.poll_batch(context, output) {
            // The end is held back until the fuse has blown: so there are as many checkpoints as that takes. Nobody has to be woken: the panic ends this attempt.
            Poll::Ready(Ok(ReaderStatus::Ended)) if !self.fuse.is_out() => {
                let emitted = output.budget() < budget;
                if emitted { Poll::Ready(Ok(ReaderStatus::More)) } else { Poll::Pending }
            }
            polled => polled,
        }
    }

    fn snapshot(&mut self, checkpoint: CheckpointId) -> Vec<R::Split> {
        self.fuse.pass("reader snapshot");
        self.inner.snapshot(checkpoint)
    }

    fn take_requests(&mut self) -> Vec<ReaderRequest> {
        self.inner.take_requests()
    }

    fn completed(&mut self, checkpoint: CheckpointId) {
        self.fuse.pass("reader notice");
        self.inner.completed(checkpoint);
    }
}
