//! A collection that the simulation keeps while processes come and go: to the job it is an outside system.

use alluvium::OperatorResult;
use alluvium::connect::Collect;
use alluvium::connect::sink::{Effect, Guarantee, Sink, SinkContext, SinkScope};
use alluvium::record::Record;

/// A [`Collect`] whose effects do not end with the process.
#[derive(Clone, Debug)]
pub(crate) struct Outliving<T>(pub(crate) Collect<T>);

impl<T> Default for Outliving<T> {
    fn default() -> Outliving<T> {
        Outliving(Collect::new())
    }
}

impl<T: Record> Sink<T> for Outliving<T> {
    type Committable = <Collect<T> as Sink<T>>::Committable;
    type State = <Collect<T> as Sink<T>>::State;
    type Writer = <Collect<T> as Sink<T>>::Writer;
    type Committer = <Collect<T> as Sink<T>>::Committer;

    fn guarantee(&self) -> Guarantee {
        self.0.guarantee()
    }

    fn effect(&self) -> Effect {
        Effect::Outside
    }

    fn writer(&self, context: SinkContext) -> OperatorResult<Self::Writer> {
        self.0.writer(context)
    }

    fn committer(&self, scope: SinkScope) -> OperatorResult<Self::Committer> {
        self.0.committer(scope)
    }
}
