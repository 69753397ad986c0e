//! The parts of an operator's snapshot: small ones travel in the manifest, larger ones become blobs, written and read away from the arbiter.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use alluvium_actors::ids::{CheckpointId, OperatorUid};
use alluvium_actors::ports::blocking::{Lane, Promise, WorkPanicked};
use alluvium_actors::ports::store::{BlobHandle, Piece, PieceContent, StoreError, blob_name};
use alluvium_actors::ports::task::{Failure, TaskContext};
use alluvium_actors::protocol::mutation::{Mutation, is_active};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::snapshot::{PieceReader, PieceWriter};

/// Encodes what a piece holds: structs as maps, so that fields may be added later.
///
/// # Errors
/// When the value's own serialization fails.
pub(crate) fn encode<T: Serialize>(value: &T, operator: &str) -> Result<Vec<u8>, Failure> {
    rmp_serde::to_vec_named(value).map_err(|error| {
        Failure::unrecoverable(operator, format!("{} cannot be serialized: {error}", std::any::type_name::<T>()))
    })
}

/// Reads what [`encode`] wrote.
///
/// # Errors
/// When the bytes are something else.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8], operator: &str) -> Result<T, Failure> {
    rmp_serde::from_slice(bytes).map_err(|error| {
        Failure::unrecoverable(
            operator,
            format!("the stored bytes are no {}: {error}; was its type changed?", std::any::type_name::<T>()),
        )
    })
}

/// The failure for an answer of the store.
pub(crate) fn store_failure(operator: &str, error: &StoreError) -> Failure {
    let failure = if error.is_retryable() {
        Failure::retryable(operator, error)
    } else {
        Failure::unrecoverable(operator, error)
    };
    Failure { storage: true, ..failure }
}

/// The failure for blocking work that panicked.
pub(crate) fn panic_failure(operator: &str, panicked: &WorkPanicked) -> Failure {
    Failure { panicked: true, ..Failure::retryable(operator, panicked) }
}

/// Deletes blobs that no checkpoint will name. What cannot be deleted now is removed at the next start.
pub(crate) fn delete_blobs(task: &TaskContext, blobs: Vec<BlobHandle>) {
    if blobs.is_empty() || is_active(Mutation::LeakAbortedBlobs) {
        return;
    }
    let (store, fence) = (Arc::clone(&task.store), task.fence.clone());
    let delete = move || {
        if let Err(error) = store.delete_blobs(&fence, &blobs) {
            tracing::debug!(%error, "blobs of an aborted checkpoint stay until the next start");
        }
    };
    drop(Promise::start(task.host.blocking().as_ref(), Lane::Blobs, delete));
}

/// A piece on its way into the checkpoint.
pub(crate) struct PieceWriting {
    name: String,
    state: Writing,
}

enum Writing {
    Inline(Vec<u8>),
    Blob { promise: Promise<Result<PieceContent, StoreError>>, written: Written },
    Taken,
}

impl PieceWriting {
    /// Begins to store `bytes` as the piece `name` of an operator.
    pub(crate) fn start(
        task: &TaskContext,
        uid: &OperatorUid,
        checkpoint: CheckpointId,
        name: &str,
        bytes: Vec<u8>,
    ) -> PieceWriting {
        let state = if bytes.len() < task.store.inline_limit() {
            Writing::Inline(bytes)
        } else {
            let (store, fence) = (Arc::clone(&task.store), task.fence.clone());
            let blob = blob_name(task.run, checkpoint, uid, task.subtask.index, name);
            let written = Written::default();
            let keep = written.clone();
            let write = move || {
                let mut writer = PieceWriter::new(store, fence, blob);
                writer.write(&bytes)?;
                let content = writer.finish()?;
                keep.keep(&content);
                Ok(content)
            };
            Writing::Blob { promise: Promise::start(task.host.blocking().as_ref(), Lane::Blobs, write), written }
        };
        PieceWriting { name: name.to_owned(), state }
    }

    /// A piece that lies in the manifest whatever its length: whoever reads it back has no store.
    pub(crate) fn inline(name: &str, bytes: Vec<u8>) -> PieceWriting {
        PieceWriting { name: name.to_owned(), state: Writing::Inline(bytes) }
    }

    /// The piece, once it is durable. Not to be called again after that.
    pub(crate) fn poll(&mut self, operator: &str, context: &mut Context<'_>) -> Poll<Result<Piece, Failure>> {
        let content = match &mut self.state {
            Writing::Inline(bytes) => PieceContent::Inline(std::mem::take(bytes)),
            Writing::Blob { promise, .. } => match promise.poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(Ok(content))) => content,
                Poll::Ready(Ok(Err(error))) => return Poll::Ready(Err(store_failure(operator, &error))),
                Poll::Ready(Err(panicked)) => return Poll::Ready(Err(panic_failure(operator, &panicked))),
            },
            Writing::Taken => return Poll::Pending,
        };
        self.state = Writing::Taken;
        Poll::Ready(Ok(Piece { name: self.name.clone(), content }))
    }

    /// Gives the piece up: a blob that is being written is deleted when it is there.
    pub(crate) fn abandon(self, task: &TaskContext) {
        if let Writing::Blob { written, .. } = self.state {
            written.delete_later(task);
        }
    }
}

/// The blob of a piece, once the lane of blobs has written it: for whoever gives the piece up before the answer came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Written(Arc<Mutex<Option<BlobHandle>>>);

impl Written {
    /// To be called where the piece was written.
    pub(crate) fn keep(&self, content: &PieceContent) {
        if let PieceContent::Blob(handle) = content {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle.clone());
        }
    }

    /// Deletes the blob behind everything that is under way: the lane keeps its order.
    pub(crate) fn delete_later(self, task: &TaskContext) {
        let (store, fence) = (Arc::clone(&task.store), task.fence.clone());
        let delete = move || {
            let handle = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
            let handle = handle.filter(|_| !is_active(Mutation::LeakAbortedBlobs));
            if let Some(handle) = handle
                && let Err(error) = store.delete_blobs(&fence, &[handle])
            {
                tracing::debug!(%error, "a blob of an aborted checkpoint stays until the next start");
            }
        };
        drop(Promise::start(task.host.blocking().as_ref(), Lane::Blobs, delete));
    }
}

/// A piece on its way back.
pub(crate) enum PieceReading {
    /// It was in the manifest.
    Here(Vec<u8>),
    /// It is being read.
    Blob(Promise<Result<Vec<u8>, StoreError>>),
}

impl PieceReading {
    /// Begins to read a piece, as a whole. For small pieces: keyed state reads its blob in parts.
    pub(crate) fn start(task: &TaskContext, piece: &Piece) -> PieceReading {
        let reader = PieceReader::new(Arc::clone(&task.store), &piece.content);
        match &piece.content {
            PieceContent::Inline(bytes) => PieceReading::Here(bytes.clone()),
            PieceContent::Blob(_) => {
                let read = move || reader.read_all();
                PieceReading::Blob(Promise::start(task.host.blocking().as_ref(), Lane::Blobs, read))
            }
        }
    }

    /// The bytes, once they are there.
    pub(crate) fn poll(&mut self, operator: &str, context: &mut Context<'_>) -> Poll<Result<Vec<u8>, Failure>> {
        match self {
            PieceReading::Here(bytes) => Poll::Ready(Ok(std::mem::take(bytes))),
            PieceReading::Blob(promise) => promise.poll(context).map(|answer| match answer {
                Ok(Ok(bytes)) => Ok(bytes),
                Ok(Err(error)) => Err(store_failure(operator, &error)),
                Err(panicked) => Err(panic_failure(operator, &panicked)),
            }),
        }
    }
}
