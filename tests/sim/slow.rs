//! A sink that takes its time: what is in front of it piles up in the edges.

use std::task::{Context, Poll};
use std::time::Duration;

use alluvium::connect::sink::{Guarantee, Sink, SinkContext, SinkScope, SinkWriter};
use alluvium::record::Record;
use alluvium::record::batch::Slice;
use alluvium::{CheckpointId, OperatorResult};
use alluvium_actors::ids::Moment;

/// Another sink, whose writers pause after each slice.
#[derive(Clone, Debug)]
pub(crate) struct Slow<S> {
    sink: S,
    pause: Duration,
}

impl<S> Slow<S> {
    pub(crate) fn new(sink: S, pause: Duration) -> Slow<S> {
        Slow { sink, pause }
    }
}

impl<T: Record, S: Sink<T>> Sink<T> for Slow<S> {
    type Committable = S::Committable;
    type State = S::State;
    type Writer = SlowWriter<S::Writer>;
    type Committer = S::Committer;

    fn guarantee(&self) -> Guarantee {
        self.sink.guarantee()
    }

    fn writer(&self, context: SinkContext) -> OperatorResult<SlowWriter<S::Writer>> {
        let writer = self.sink.writer(context.clone())?;
        Ok(SlowWriter { writer, context, pause: self.pause, ready: Moment::default() })
    }

    fn committer(&self, scope: SinkScope) -> OperatorResult<S::Committer> {
        self.sink.committer(scope)
    }
}

/// A writer that pauses.
#[derive(Debug)]
pub(crate) struct SlowWriter<W> {
    writer: W,
    context: SinkContext,
    pause: Duration,
    /// When it is ready again.
    ready: Moment,
}

impl<T: Record, W: SinkWriter<T>> SinkWriter<T> for SlowWriter<W> {
    type Committable = W::Committable;
    type State = W::State;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<OperatorResult> {
        if self.context.now() < self.ready {
            self.context.wake_at(self.ready);
            return Poll::Pending;
        }
        self.writer.poll_ready(context)
    }

    fn write_batch(&mut self, slice: &mut Slice<T>) -> OperatorResult {
        self.ready = self.context.now() + self.pause;
        self.writer.write_batch(slice)
    }

    fn prepare(&mut self, checkpoint: CheckpointId) -> OperatorResult {
        self.writer.prepare(checkpoint)
    }

    fn poll_prepared(
        &mut self,
        checkpoint: CheckpointId,
        context: &mut Context<'_>,
    ) -> Poll<OperatorResult<Vec<W::Committable>>> {
        self.writer.poll_prepared(checkpoint, context)
    }

    fn snapshot(&mut self, checkpoint: CheckpointId) -> W::State {
        self.writer.snapshot(checkpoint)
    }

    fn completed(&mut self, checkpoint: CheckpointId) {
        self.writer.completed(checkpoint);
    }
}
