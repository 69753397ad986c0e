//! A sink that calls a function for every record: at least once, because a call cannot be taken back.

use std::marker::PhantomData;
use std::task::{Context, Poll};

use alluvium_actors::ids::CheckpointId;
use alluvium_actors::ports::sink::SinkScope;

use super::sink::{CommitOutcome, Guarantee, Sink, SinkCommit, SinkContext, SinkWriter};
use crate::error::OperatorResult;
use crate::operator::assembly::Prototype;
use crate::record::Record;
use crate::record::batch::Slice;

/// Calls a function for every record. After a failure it is called again for the records behind the last completed checkpoint: *at least
/// once*. The function runs on the subtask's thread, so it must not block.
///
/// ```
/// use alluvium::connect::ForEach;
///
/// let print = ForEach::new(|line: String| println!("{line}"));
/// # let _ = print;
/// ```
#[derive(Debug)]
pub struct ForEach<F> {
    function: Prototype<F>,
}

impl<F> ForEach<F> {
    /// Calls `function` for every record.
    pub fn new<T>(function: F) -> ForEach<F>
    where
        F: Fn(T) + Clone + Send + 'static,
    {
        ForEach { function: Prototype::new(function) }
    }
}

impl<T: Record, F: Fn(T) + Clone + Send + 'static> Sink<T> for ForEach<F> {
    type Committable = ();
    type State = ();
    type Writer = ForEachWriter<T, F>;
    type Committer = NothingToCommit;

    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    fn writer(&self, _: SinkContext) -> OperatorResult<ForEachWriter<T, F>> {
        Ok(ForEachWriter { function: self.function.copy(), records: PhantomData })
    }

    fn committer(&self, _: SinkScope) -> OperatorResult<NothingToCommit> {
        Ok(NothingToCommit)
    }
}

/// Calls the function.
#[derive(Debug)]
pub struct ForEachWriter<T, F> {
    function: F,
    records: PhantomData<fn(T)>,
}

impl<T: Record, F: Fn(T) + 'static> SinkWriter<T> for ForEachWriter<T, F> {
    type Committable = ();
    type State = ();

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<OperatorResult> {
        Poll::Ready(Ok(()))
    }

    fn write_batch(&mut self, slice: &mut Slice<T>) -> OperatorResult {
        slice.records.drain(..).for_each(&self.function);
        slice.clear();
        Ok(())
    }

    fn prepare(&mut self, _: CheckpointId) -> OperatorResult {
        Ok(())
    }

    fn poll_prepared(&mut self, _: CheckpointId, _: &mut Context<'_>) -> Poll<OperatorResult<Vec<()>>> {
        Poll::Ready(Ok(Vec::new()))
    }

    fn snapshot(&mut self, _: CheckpointId) {}
}

/// The committing side of a sink without transactions.
#[derive(Debug)]
pub struct NothingToCommit;

impl SinkCommit for NothingToCommit {
    type Committable = ();
    type State = ();

    fn open(&mut self, _: Option<Vec<()>>) -> OperatorResult {
        Ok(())
    }

    fn commit(&mut self, (): ()) -> CommitOutcome {
        CommitOutcome::AlreadyDone
    }

    fn clean_up(&mut self) -> OperatorResult {
        Ok(())
    }
}
