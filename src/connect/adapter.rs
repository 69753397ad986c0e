//! The typed faces of sources and sinks behind the erased ones of the kernel.
//!
//! Everything that leaves a connector for a checkpoint is MessagePack, structs as maps, so that fields may be added later. User code
//! that panics is caught by the drivers.

use std::sync::Arc;
use std::task::Context;

use alluvium_actors::ids::{CheckpointId, OperatorUid, RunNumber};
use alluvium_actors::ports::sink::{CommitAnswer, SinkCommitter, SinkCommitterFactory, SinkScope};
use alluvium_actors::ports::source::{Assignment, Enumerator, EnumeratorContext, EnumeratorFactory, ReaderEvent};
use alluvium_actors::ports::store::{OperatorSnapshot, Piece, PieceContent};
use alluvium_actors::ports::task::Failure;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::sink::{CommitOutcome, Sink, SinkCommit};
use super::sink_link::WRITER;
use super::source::{Assigned, Source, SourceContext, SourceEnumerator, SplitAssigner};
use crate::error::OperatorError;
use crate::record::Record;

/// Encodes a value that goes into a checkpoint or to the other side of a connector.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, OperatorError> {
    rmp_serde::to_vec_named(value).map_err(|error| {
        OperatorError::unrecoverable(format!("{} cannot be serialized: {error}", std::any::type_name::<T>()))
    })
}

/// Reads what [`encode`] wrote. Hostile bytes give an error.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, OperatorError> {
    rmp_serde::from_slice(bytes).map_err(|error| {
        OperatorError::unrecoverable(format!(
            "stored bytes are not a {}: {error}; was the type changed?",
            std::any::type_name::<T>()
        ))
    })
}

/// Builds the enumerator of `source`.
pub(crate) fn enumerator_factory<S: Source>(source: Arc<S>, uid: OperatorUid) -> EnumeratorFactory {
    Arc::new(move |context: EnumeratorContext| {
        let name = uid.as_str().to_owned();
        let context = SourceContext {
            job: context.job,
            uid: context.uid,
            reader: 0,
            parallelism: context.parallelism,
            run: RunNumber::default(),
            host: context.host,
            files: context.files,
            fence: context.fence,
        };
        let enumerator = source.enumerator(context).map_err(|error| error.at(&name))?;
        Ok(Box::new(ErasedEnumerator { enumerator, name }) as Box<dyn Enumerator>)
    })
}

struct ErasedEnumerator<E> {
    enumerator: E,
    name: String,
}

impl<E: SourceEnumerator> ErasedEnumerator<E> {
    fn at<T>(&self, result: Result<T, OperatorError>) -> Result<T, Failure> {
        result.map_err(|error| error.at(&self.name))
    }
}

/// Turns what an enumerator gave out into messages for its readers, in the same order.
fn assignments<S: Record>(assigner: SplitAssigner<S>, into: &mut Vec<Assignment>) -> Result<(), OperatorError> {
    for assigned in assigner.assigned {
        into.push(match assigned {
            Assigned::Splits(reader, splits) => {
                Assignment::Splits { reader, splits: splits.iter().map(encode).collect::<Result<_, _>>()? }
            }
            Assigned::NoMore(reader) => Assignment::NoMoreSplits { reader },
            Assigned::Event(reader, event) => Assignment::Event { reader, event },
        });
    }
    Ok(())
}

impl<E: SourceEnumerator> Enumerator for ErasedEnumerator<E> {
    fn restore(&mut self, state: &[u8]) -> Result<(), Failure> {
        let restored = decode(state).and_then(|state| self.enumerator.restore(state));
        self.at(restored)
    }

    fn poll(&mut self, context: &mut Context<'_>, into: &mut Vec<Assignment>) -> Result<(), Failure> {
        let mut assigner = SplitAssigner::new();
        let polled = self.enumerator.poll(context, &mut assigner).and_then(|()| assignments(assigner, into));
        self.at(polled)
    }

    fn reader_event(&mut self, reader: u32, event: ReaderEvent, into: &mut Vec<Assignment>) -> Result<(), Failure> {
        let mut assigner = SplitAssigner::new();
        let enumerator = &mut self.enumerator;
        let heard = match event {
            ReaderEvent::Registered { splits } => splits
                .iter()
                .map(|split| decode(split))
                .collect::<Result<Vec<_>, _>>()
                .and_then(|splits| enumerator.reader_registered(reader, splits, &mut assigner)),
            ReaderEvent::SplitRequested => enumerator.split_requested(reader, &mut assigner),
            ReaderEvent::SplitFinished { split } => enumerator.split_finished(reader, &split, &mut assigner),
            ReaderEvent::Custom(event) => enumerator.reader_event(reader, event, &mut assigner),
        };
        let heard = heard.and_then(|()| assignments(assigner, into));
        self.at(heard)
    }

    fn snapshot(&mut self, checkpoint: CheckpointId) -> Result<Vec<u8>, Failure> {
        let state = encode(&self.enumerator.snapshot(checkpoint));
        self.at(state)
    }

    fn completed(&mut self, checkpoint: CheckpointId) {
        self.enumerator.completed(checkpoint);
    }

    fn aborted(&mut self, checkpoint: CheckpointId) {
        self.enumerator.aborted(checkpoint);
    }
}

/// Builds the committing side of `sink`.
pub(crate) fn committer_factory<T: Record, S: Sink<T>>(sink: Arc<S>, uid: OperatorUid) -> SinkCommitterFactory {
    Arc::new(move |scope: SinkScope| {
        let name = uid.as_str().to_owned();
        let restores = scope.restored.is_some();
        let committer = sink.committer(scope).map_err(|error| error.at(&name))?;
        Ok(Box::new(ErasedCommitter { committer, name, restores }) as Box<dyn SinkCommitter>)
    })
}

struct ErasedCommitter<C> {
    committer: C,
    name: String,
    restores: bool,
}

impl<C: SinkCommit> SinkCommitter for ErasedCommitter<C> {
    fn open(&mut self, restored: &[OperatorSnapshot]) -> Result<(), Failure> {
        let mut states = Vec::new();
        for piece in restored.iter().filter_map(|snapshot| snapshot.piece(WRITER)) {
            let state = inline(piece).and_then(decode).map_err(|error| error.at(&self.name))?;
            states.push(state);
        }
        let restored = self.restores.then_some(states);
        self.committer.open(restored).map_err(|error| error.at(&self.name))
    }

    fn commit(&mut self, committable: &[u8]) -> CommitAnswer {
        let outcome = match decode(committable) {
            Ok(committable) => self.committer.commit(committable),
            Err(error) => CommitOutcome::Fatal(error),
        };
        match outcome {
            CommitOutcome::Done => CommitAnswer::Done,
            CommitOutcome::AlreadyDone => CommitAnswer::AlreadyDone,
            CommitOutcome::RetryAfter(delay) => CommitAnswer::RetryAfter(delay),
            CommitOutcome::Fatal(error) => CommitAnswer::Fatal(Failure {
                severity: alluvium_actors::ports::task::Severity::Unrecoverable,
                ..error.at(&self.name)
            }),
        }
    }

    fn clean_up(&mut self) -> Result<(), Failure> {
        self.committer.clean_up().map_err(|error| error.at(&self.name))
    }
}

fn inline(piece: &Piece) -> Result<&[u8], OperatorError> {
    match &piece.content {
        PieceContent::Inline(bytes) => Ok(bytes),
        PieceContent::Blob(handle) => Err(OperatorError::unrecoverable(format!(
            "the piece `{}` lies in the blob {}, which was not read before the sink was opened",
            piece.name, handle.name
        ))),
    }
}
