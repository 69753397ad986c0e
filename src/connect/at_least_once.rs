//! Takes the promise of exactly once from a sink.

use alluvium_actors::ports::sink::SinkScope;

use super::sink::{Effect, Guarantee, Sink, SinkContext};
use crate::error::OperatorResult;
use crate::record::Record;

/// A sink that does all that another one does and promises less: *at least once*, for jobs that run with
/// [`CheckpointMode::AtLeastOnce`](crate::CheckpointMode::AtLeastOnce).
///
/// Its transactions are still committed once each, when their checkpoint completes; but the state in front of it may have counted a record twice.
///
/// ```
/// use alluvium::connect::{AtLeastOnce, Lines};
///
/// let lines = AtLeastOnce::new(Lines::exactly_once("out"));
/// # let _ = lines;
/// ```
#[derive(Clone, Debug)]
pub struct AtLeastOnce<S> {
    sink: S,
}

impl<S> AtLeastOnce<S> {
    /// `sink`, with the smaller promise.
    #[must_use]
    pub fn new(sink: S) -> AtLeastOnce<S> {
        AtLeastOnce { sink }
    }
}

impl<T: Record, S: Sink<T>> Sink<T> for AtLeastOnce<S> {
    type Committable = S::Committable;
    type State = S::State;
    type Writer = S::Writer;
    type Committer = S::Committer;

    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    fn effect(&self) -> Effect {
        self.sink.effect()
    }

    fn writer(&self, context: SinkContext) -> OperatorResult<S::Writer> {
        self.sink.writer(context)
    }

    fn committer(&self, scope: SinkScope) -> OperatorResult<S::Committer> {
        self.sink.committer(scope)
    }
}
