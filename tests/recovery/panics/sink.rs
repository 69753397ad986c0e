//! A sink with a fuse in each of its calls, around the collecting one.

use std::task::{Context, Poll};

use alluvium::connect::Collect;
use alluvium::connect::sink::{CommitOutcome, Guarantee, Sink, SinkCommit, SinkContext, SinkWriter};
use alluvium::ports::sink::SinkScope;
use alluvium::record::batch::Slice;
use alluvium::{CheckpointId, OperatorResult};

use super::fuse::Fuse;

type Inner = Collect<String>;
type Committable = <Inner as Sink<String>>::Committable;

/// Collects until the fuse blows.
#[derive(Clone, Debug)]
pub(crate) struct FusedSink {
    pub(crate) collect: Inner,
    pub(crate) fuse: Fuse,
}

#[derive(Debug)]
pub(crate) struct Fused<T> {
    inner: T,
    fuse: Fuse,
}

impl Sink<String> for FusedSink {
    type Committable = Committable;
    type State = ();
    type Writer = Fused<<Inner as Sink<String>>::Writer>;
    type Committer = Fused<<Inner as Sink<String>>::Committer>;

    fn guarantee(&self) -> Guarantee {
        self.collect.guarantee()
    }

    fn writer(&self, context: SinkContext) -> OperatorResult<Self::Writer> {
        self.fuse.pass("writer");
        Ok(Fused { inner: self.collect.writer(context)?, fuse: self.fuse.clone() })
    }

    fn committer(&self, scope: SinkScope) -> OperatorResult<Self::Committer> {
        self.fuse.pass("committer");
        Ok(Fused { inner: self.collect.committer(scope)?, fuse: self.fuse.clone() })
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
