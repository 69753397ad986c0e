//! The asynchronous part of a snapshot of keyed or operator state: chunks of the table on their way into a piece.
//!
//! The table fills chunks between the steps of the task; they are written on the lane of blobs, one parcel at a time, so that they leave in their order and
//! what waits stays bounded. What is small enough for the manifest is put together on the spot.

use std::sync::Arc;
use std::task::{Context, Poll};

use alluvium_actors::ids::{CheckpointId, OperatorUid};
use alluvium_actors::ports::blocking::{Lane, Promise};
use alluvium_actors::ports::store::{Piece, PieceContent, StoreError, blob_name, increment_name};
use alluvium_actors::ports::task::{Failure, TaskContext};
use alluvium_actors::protocol::mutation::{Mutation, is_active};

use super::piece::{Written, panic_failure, store_failure};
use crate::snapshot::{PieceWriter, StateWriter};
use crate::state::{ChunkHeader, ChunkSink};

/// The name of the piece that holds keyed state.
pub(crate) const KEYED: &str = "keyed";

/// Chunks are written when so many bytes wait.
const PARCEL_BYTES: usize = 256 * 1024;

/// While so many bytes wait, the table is not asked for more.
const WAITING_BYTES: usize = 1024 * 1024;

/// More than a chunk adds around its bytes in a piece: its header there, and its entry in the index.
const CHUNK_FRAME: usize = 64;

/// More than a piece adds around its chunks: header and trailer.
const PIECE_FRAME: usize = 256;

/// Chunks that wait to be written.
#[derive(Default)]
pub(crate) struct Waiting {
    chunks: Vec<(ChunkHeader, Vec<u8>)>,
    bytes: usize,
}

impl ChunkSink for Waiting {
    fn chunk(&mut self, _: CheckpointId, header: ChunkHeader, bytes: Vec<u8>) {
        self.bytes += bytes.len();
        self.chunks.push((header, bytes));
    }
}

/// One snapshot of one operator under way.
pub(crate) struct StateWriting {
    pub(crate) checkpoint: CheckpointId,
    /// The states of the operator, encoded.
    descriptors: Vec<Vec<u8>>,
    name: String,
    /// The pieces that it stands on, if it is an increment.
    base: Option<Vec<Piece>>,
    pub(crate) waiting: Waiting,
    /// Whether the table has given everything.
    pub(crate) complete: bool,
    writer: Writer,
    written: Written,
}

enum Writer {
    /// Nothing was written yet.
    New,
    /// It waits for the next parcel.
    Idle(StateWriter),
    /// A parcel is being written.
    Busy(Promise<Result<Parcel, StoreError>>),
    /// It failed or ended.
    Gone,
}

/// The answer to a parcel.
enum Parcel {
    /// The writer, for the next one.
    More(StateWriter),
    /// That was the last one.
    Finished(PieceContent),
}

impl StateWriting {
    /// Begins a snapshot, as the piece `piece`. `descriptors` are the operator's states in it, encoded; `base` are the pieces that it stands on, if it is an increment.
    pub(crate) fn new(
        task: &TaskContext,
        uid: &OperatorUid,
        checkpoint: CheckpointId,
        piece: &str,
        descriptors: Vec<Vec<u8>>,
        base: Option<Vec<Piece>>,
    ) -> StateWriting {
        StateWriting {
            checkpoint,
            descriptors,
            name: blob_name(task.run, checkpoint, uid, task.subtask.index, piece),
            base,
            waiting: Waiting::default(),
            complete: false,
            writer: Writer::New,
            written: Written::default(),
        }
    }

    /// All pieces of the snapshot, when `content` is what was written for it.
    pub(crate) fn pieces(self, content: PieceContent) -> Vec<Piece> {
        let name = match &self.base {
            None => KEYED.to_owned(),
            Some(_) => increment_name(KEYED, self.checkpoint),
        };
        let mut pieces = self.base.unwrap_or_default();
        pieces.push(Piece { name, content });
        pieces
    }

    /// The bytes that wait to be written.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting.bytes
    }

    /// Whether the table should go on filling chunks.
    pub(crate) fn wants_chunks(&self) -> bool {
        !self.complete && self.waiting.bytes < WAITING_BYTES
    }

    /// Writes on. Ready with the content of the piece once it is durable; not to be called again after that.
    pub(crate) fn poll(
        &mut self,
        task: &TaskContext,
        operator: &str,
        context: &mut Context<'_>,
    ) -> Poll<Result<PieceContent, Failure>> {
        loop {
            match std::mem::replace(&mut self.writer, Writer::Gone) {
                Writer::Busy(mut promise) => match promise.poll(context) {
                    Poll::Pending => {
                        self.writer = Writer::Busy(promise);
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok(Ok(Parcel::More(writer)))) => self.writer = Writer::Idle(writer),
                    Poll::Ready(Ok(Ok(Parcel::Finished(content)))) => return Poll::Ready(Ok(content)),
                    Poll::Ready(Ok(Err(error))) => return Poll::Ready(Err(store_failure(operator, &error))),
                    Poll::Ready(Err(panicked)) => return Poll::Ready(Err(panic_failure(operator, &panicked))),
                },
                Writer::New if self.complete && self.fits_inline(task) => {
                    let content = self.parcel(task, None)();
                    return Poll::Ready(match content {
                        Ok(Parcel::Finished(content)) => Ok(content),
                        Ok(Parcel::More(_)) => Err(Failure::retryable(operator, "a snapshot did not end")),
                        Err(error) => Err(store_failure(operator, &error)),
                    });
                }
                idle @ (Writer::New | Writer::Idle(_)) => {
                    if !self.complete && self.waiting.bytes < PARCEL_BYTES {
                        self.writer = idle;
                        return Poll::Pending;
                    }
                    let writer = if let Writer::Idle(writer) = idle { Some(writer) } else { None };
                    let work = self.parcel(task, writer);
                    let promise = Promise::start(task.host.blocking().as_ref(), Lane::Blobs, work);
                    self.writer = Writer::Busy(promise);
                }
                Writer::Gone => return Poll::Pending,
            }
        }
    }

    /// Gives the snapshot up, with what was written of it.
    pub(crate) fn abandon(self, task: &TaskContext) {
        match self.writer {
            // Dropping a writer removes its file: not on the arbiter.
            Writer::Idle(writer) => {
                drop(Promise::start(task.host.blocking().as_ref(), Lane::Blobs, move || drop(writer)));
            }
            // Its answer may be there, with the writer in it.
            Writer::Busy(promise) => {
                drop(Promise::start(task.host.blocking().as_ref(), Lane::Blobs, move || drop(promise)));
                self.written.delete_later(task);
            }
            Writer::New | Writer::Gone => {}
        }
    }

    /// Whether the whole piece surely stays below the limit of pieces in the manifest, so that writing it touches no file.
    fn fits_inline(&self, task: &TaskContext) -> bool {
        let chunks = self.waiting.bytes + self.waiting.chunks.len() * CHUNK_FRAME;
        let descriptors: usize = self.descriptors.iter().map(|descriptor| descriptor.len() + 4).sum();
        PIECE_FRAME + descriptors + chunks < task.store.inline_limit()
    }

    /// The work of writing everything that waits, and of ending the piece when there is nothing more to come.
    fn parcel(
        &mut self,
        task: &TaskContext,
        writer: Option<StateWriter>,
    ) -> impl FnOnce() -> Result<Parcel, StoreError> + Send + 'static + use<> {
        let Waiting { chunks, .. } = std::mem::take(&mut self.waiting);
        let (store, fence, name) = (Arc::clone(&task.store), task.fence.clone(), self.name.clone());
        let descriptors = if writer.is_none() { std::mem::take(&mut self.descriptors) } else { Vec::new() };
        let (complete, written, increment) = (self.complete, self.written.clone(), self.base.is_some());
        move || {
            let mut writer = match writer {
                Some(writer) => writer,
                None if increment => StateWriter::begin_increment(PieceWriter::new(store, fence, name), &descriptors)?,
                None => StateWriter::begin(PieceWriter::new(store, fence, name), &descriptors)?,
            };
            for (header, bytes) in chunks {
                if is_active(Mutation::SkipAKeyGroup) && header.key_group.is_multiple_of(8) {
                    continue;
                }
                if !header.removals {
                    writer.chunk(header.state.into(), header.key_group, header.count, &bytes)?;
                } else if !is_active(Mutation::IncrementWithoutRemovals) {
                    writer.removals(header.state.into(), header.key_group, header.count, &bytes)?;
                }
            }
            if !complete {
                return Ok(Parcel::More(writer));
            }
            let content = writer.finish()?;
            written.keep(&content);
            Ok(Parcel::Finished(content))
        }
    }
}
