//! A sink with a fuse in each of its calls, around another sink.

use std::task::{Context, Poll};

use alluvium::connect::sink::{CommitOutcome, Effect, Guarantee, Sink, SinkCommit, SinkContext, SinkWriter};
use alluvium::ports::sink::SinkScope;
use alluvium::record::batch::Slice;
use alluvium::{CheckpointId, OperatorResult};

use super::fuse::Fuse;

/// Behaves as `sink` until the fuse blows.
#[derive(Clone, Debug)]
pub(crate) struct FusedSink<S> {
    pub(crate) sink: S,
    pub(crate) fuse: Fuse,
}

#[derive(Debug)]
pub(crate) struct Fused<T> {
    inner: T,
    fuse: Fuse,
}

impl<S: Sink<String>> Sink<String> for FusedSink<S> {
    type Committable = S::Committable;
    type State = S::State;
    type Writer = Fused<S::Writer>;
    type Committer = Fused<S::Committer>;

    fn guarantee(&self) -> Guarantee {
        self.sink.guarantee()
    }

    fn effect(&self) -> Effect {
        self.sink.effect()
    }

    fn writer(&self, context: SinkContext) -> OperatorResult<Self::Writer> {
        self.fuse.pass("writer");
        Ok(Fused { inner: self.sink.writer(context)?, fuse: self.fuse.clone() })
    }

    fn committer(&self, scope: SinkScope) -> OperatorResult<Self::Committer> {
        self.fuse.pass("committer");
        Ok(Fused { inner: self.sink.committer(scope)?, fuse: self.fuse.clone() })
    }
}

impl<W: SinkWriter<String>> SinkWriter<String> for Fused<W> {
    type Committable = W::Committable;
    type State = W::State;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<OperatorResult> {
        self.inner.poll_ready(context)
    }

    fn write_batch(&mut self, slice: &mut Slice<String>) -> OperatorResult {
        self.fuse.pass("write");
        self.inner.write_batch(slice)
    }

    fn prepare(&mut self, checkpoint: CheckpointId) -> OperatorResult {
        self.fuse.pass("prepare");
        self.inner.prepare(checkpoint)
    }

    fn poll_prepared(
        &mut self,
        checkpoint: CheckpointId,
        context: &mut Context<'_>,
    ) -> Poll<OperatorResult<Vec<W::Committable>>> {
        self.inner.poll_prepared(checkpoint, context)
    }

    fn snapshot(&mut self, checkpoint: CheckpointId) -> W::State {
        self.fuse.pass("writer snapshot");
        self.inner.snapshot(checkpoint)
    }
}

impl<C: SinkCommit> SinkCommit for Fused<C> {
    type Committable = C::Committable;
    type State = C::State;

    fn open(&mut self, restored: Option<Vec<C::State>>) -> OperatorResult {
        self.fuse.pass("open");
        self.inner.open(restored)
    }

    fn commit(&mut self, committable: C::Committable) -> CommitOutcome {
        self.fuse.pass("commit");
        self.inner.commit(committable)
    }

    fn clean_up(&mut self) -> OperatorResult {
        self.fuse.pass("clean up");
        self.inner.clean_up()
    }
}
