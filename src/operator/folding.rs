//! Folding: pieces of a chain that follow each other become one, which holds the same.
//!
//! It runs on the lane of blobs, a few key groups at a time, so that snapshots that are being written have their turn in between; the table and the stream are not
//! touched. The types of the operator decide what takes the place of what: each key group is restored into a table of its own, oldest piece first, and
//! written again. Removals stay in what is folded without the full piece below, for that one still holds what they remove.

use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll};

use alluvium_actors::ids::{CheckpointId, OperatorUid};
use alluvium_actors::ports::blocking::{Lane, Promise};
use alluvium_actors::ports::fence::Fence;
use alluvium_actors::ports::store::{CheckpointStore, Piece, PieceContent, StoreError, blob_name};
use alluvium_actors::ports::task::TaskContext;
use alluvium_actors::protocol::mutation::{Mutation, is_active};

use super::chains::is_increment;
use super::piece::Written;
use super::state_writing::KEYED;
use crate::record::Key;
use crate::snapshot::{ChunkKind, PieceReader, PieceWriter, StateReader, StateWriter};
use crate::state::{ChunkHeader, ChunkSink, Hold, Progress, Row, StateDescriptor, StateError, StateMapping, Table};

/// So many bytes of chunks are folded at once, or one key group: a few milliseconds of work, for which a snapshot on the same lane waits.
const PART_BYTES: u64 = 256 * 1024;

/// Pieces that were folded into one.
pub(crate) struct Folded {
    /// What it takes the place of.
    replaced: Vec<Piece>,
    piece: Piece,
    _kept: Kept,
}

impl Folded {
    /// A chain with the one piece in the place of those that were folded. Nothing if they are not in it, or something else stands there by now.
    pub(super) fn applied_to(&self, pieces: &[Piece]) -> Option<Vec<Piece>> {
        let from = pieces.windows(self.replaced.len()).position(|part| part == self.replaced)?;
        let mut folded = pieces.to_vec();
        folded.splice(from..from + self.replaced.len(), [self.piece.clone()]);
        Some(folded)
    }
}

/// The blob of a fold, which no manifest names yet. When it is dropped, somebody names it or nobody will.
struct Kept {
    task: TaskContext,
    name: String,
    written: Written,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.task.store.let_go(&self.name);
        // What a manifest names by now is not deleted.
        self.written.clone().delete_later(&self.task);
    }
}

/// A fold under way.
pub(crate) struct Folding {
    replaced: Vec<Piece>,
    // Before the blob: what is dropped first is queued first.
    part: Part,
    kept: Kept,
}

/// The part of the work that is under way.
struct Part {
    promise: Option<Promise<Result<FoldPart, FoldError>>>,
    task: TaskContext,
}

impl Drop for Part {
    fn drop(&mut self) {
        // Dropping a writer removes its file: not on the arbiter.
        if let Some(promise) = self.promise.take() {
            drop(Promise::start(self.task.host.blocking().as_ref(), Lane::Blobs, move || drop(promise)));
        }
    }
}

/// What a part of the work gives.
enum FoldPart {
    More(Box<Fold>),
    Finished(PieceContent),
}

/// Why a fold fails. The chain stays as it is.
#[derive(Debug, thiserror::Error)]
enum FoldError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error("a descriptor of a state cannot be read: {0}")]
    Descriptor(String),
}

/// What the lane of blobs works on.
struct Fold {
    store: Arc<dyn CheckpointStore>,
    fence: Fence,
    name: String,
    written: Written,
    pieces: Vec<Piece>,
    states: Vec<StateDescriptor>,
    groups: Range<u32>,
    max_parallelism: u32,
    seed: u64,
    /// Nothing before the first part.
    opened: Option<Opened>,
}

struct Opened {
    readers: Vec<(StateReader, StateMapping)>,
    writer: StateWriter,
}

impl Folding {
    /// Begins to fold `pieces`, which follow each other in the chain of `checkpoint`. It is the fold number `number` of its operator in its subtask.
    pub(crate) fn start<K: Key, R: Row, H: Hold<R>>(
        task: &TaskContext,
        uid: &OperatorUid,
        table: &Table<K, R, H>,
        checkpoint: CheckpointId,
        pieces: Vec<Piece>,
        number: u64,
    ) -> Folding {
        let name = blob_name(task.run, checkpoint, uid, task.subtask.index, &format!("{KEYED}-fold-{number}"));
        // Before it is there: a run that begins meanwhile removes what nobody refers to.
        task.store.keep(&task.fence, &name);
        let written = Written::default();
        let fold = Fold {
            store: Arc::clone(&task.store),
            fence: task.fence.clone(),
            name: name.clone(),
            written: written.clone(),
            pieces: pieces.clone(),
            states: table.descriptors().to_vec(),
            groups: table.key_groups(),
            max_parallelism: table.max_parallelism(),
            seed: table.seed(),
            opened: None,
        };
        let kept = Kept { task: task.clone(), name, written };
        let promise = Some(queue::<K, R, H>(task, Box::new(fold)));
        Folding { replaced: pieces, part: Part { promise, task: task.clone() }, kept }
    }

    /// Goes on. Ready when it is over, with nothing if it failed.
    #[expect(clippy::result_large_err, reason = "it is given back to be kept, not an error")]
    pub(crate) fn poll<K: Key, R: Row, H: Hold<R>>(
        mut self,
        operator: &str,
        context: &mut Context<'_>,
    ) -> Result<Option<Folded>, Folding> {
        loop {
            let Some(promise) = &mut self.part.promise else { return Ok(None) };
            let answer = match promise.poll(context) {
                Poll::Pending => return Err(self),
                Poll::Ready(answer) => answer,
            };
            self.part.promise = None;
            match answer {
                Ok(Ok(FoldPart::More(fold))) => self.part.promise = Some(queue::<K, R, H>(&self.kept.task, fold)),
                Ok(Ok(FoldPart::Finished(content))) => {
                    let Some(last) = self.replaced.last() else { return Ok(None) };
                    let first_is_full = self.replaced.first().is_some_and(|first| !is_increment(first));
                    let name = if first_is_full { KEYED.to_owned() } else { last.name.clone() };
                    let Folding { replaced, kept, .. } = self;
                    return Ok(Some(Folded { replaced, piece: Piece { name, content }, _kept: kept }));
                }
                Ok(Err(error)) => {
                    tracing::warn!(operator, %error, "a chain of increments was not folded; it is tried again after the next checkpoint");
                    return Ok(None);
                }
                Err(panicked) => {
                    tracing::warn!(operator, %panicked, "folding a chain of increments panicked");
                    return Ok(None);
                }
            }
        }
    }
}

fn queue<K: Key, R: Row, H: Hold<R>>(task: &TaskContext, fold: Box<Fold>) -> Promise<Result<FoldPart, FoldError>> {
    Promise::start(task.host.blocking().as_ref(), Lane::Blobs, move || fold.part::<K, R, H>())
}

impl Fold {
    /// Folds some key groups. Blocks.
    fn part<K: Key, R: Row, H: Hold<R>>(mut self: Box<Self>) -> Result<FoldPart, FoldError> {
        let mut opened = match self.opened.take() {
            Some(opened) => opened,
            None => self.open()?,
        };
        let from = self.groups.start;
        let mut bytes = 0;
        while bytes < PART_BYTES
            && let Some(group) = self.groups.next()
        {
            let chunks = opened.readers.iter().flat_map(|(reader, _)| reader.chunks_of(group..group + 1));
            bytes += chunks.map(|chunk| u64::from(chunk.length)).sum::<u64>();
        }
        self.part_of::<K, R, H>(&mut opened, from..self.groups.start)?;
        if self.groups.is_empty() {
            let content = opened.writer.finish()?;
            self.written.keep(&content);
            return Ok(FoldPart::Finished(content));
        }
        self.opened = Some(opened);
        Ok(FoldPart::More(self))
    }

    fn open(&self) -> Result<Opened, FoldError> {
        let descriptor = |error: &dyn std::fmt::Display| FoldError::Descriptor(error.to_string());
        let mut readers = Vec::with_capacity(self.pieces.len());
        for piece in &self.pieces {
            let reader = StateReader::open(PieceReader::new(Arc::clone(&self.store), &piece.content))?;
            let stored: Result<Vec<StateDescriptor>, FoldError> = reader
                .descriptors()
                .iter()
                .map(|bytes| rmp_serde::from_slice(bytes).map_err(|error| descriptor(&error)))
                .collect();
            let mapping = StateMapping::new(&stored?, &self.states)?;
            readers.push((reader, mapping));
        }
        if is_active(Mutation::FoldKeepsTheOldest) {
            let increments = readers.iter().position(|(reader, _)| reader.is_increment()).unwrap_or(readers.len());
            readers[increments..].reverse();
        }
        let descriptors: Result<Vec<Vec<u8>>, FoldError> = self
            .states
            .iter()
            .map(|state| rmp_serde::to_vec_named(state).map_err(|error| descriptor(&error)))
            .collect();
        let output = PieceWriter::new(Arc::clone(&self.store), self.fence.clone(), self.name.clone());
        let writer = if self.keeps_removals() {
            StateWriter::begin_increment(output, &descriptors?)?
        } else {
            StateWriter::begin(output, &descriptors?)?
        };
        Ok(Opened { readers, writer })
    }

    /// Whether what it folds stands on a full piece that is not folded with it.
    fn keeps_removals(&self) -> bool {
        self.pieces.first().is_some_and(is_increment)
    }

    /// Folds some key groups, which are read at once from each piece.
    fn part_of<K: Key, R: Row, H: Hold<R>>(&self, opened: &mut Opened, groups: Range<u32>) -> Result<(), FoldError> {
        let mut pieces = Vec::with_capacity(opened.readers.len());
        for (reader, _) in &opened.readers {
            let chunks = reader.chunks_of(groups.clone());
            pieces.push(chunks.iter().copied().zip(reader.read_each(chunks)?).peekable());
        }
        for group in groups {
            let mut table: Option<Table<K, R, H>> = None;
            let entries = opened.readers.iter().flat_map(|(reader, _)| reader.chunks_of(group..group + 1));
            let entries: usize = entries.map(|chunk| chunk.count as usize).sum();
            for (chunks, (reader, mapping)) in pieces.iter_mut().zip(&opened.readers) {
                // By key group, and within each the removals first.
                while let Some((chunk, mut content)) = chunks.next_if(|(chunk, _)| chunk.key_group == group) {
                    let table = table.get_or_insert_with(|| {
                        let states = self.states.clone();
                        let mut table = Table::new(group..group + 1, self.max_parallelism, self.seed, states);
                        table.reserve(entries);
                        table
                    });
                    if reader.is_increment() {
                        table.apply_chunk(mapping, &content)?;
                    } else {
                        table.restore_chunk(mapping, &content)?;
                    }
                    if chunk.kind == ChunkKind::Removals
                        && self.keeps_removals()
                        && let Some(state) = mapping.current(chunk.state as u16)
                    {
                        ChunkHeader::renumber(&mut content, state)?;
                        opened.writer.removals(state.into(), group, chunk.count, &content)?;
                    }
                }
            }
            let Some(mut table) = table else { continue };
            let mut chunks = Chunks::default();
            let only = CheckpointId(0);
            table.close_epoch(only)?;
            while table.advance(only, usize::MAX, &mut chunks)? == Progress::More {}
            for (header, content) in chunks.0 {
                opened.writer.chunk(header.state.into(), group, header.count, &content)?;
            }
        }
        Ok(())
    }
}

#[derive(Default)]
struct Chunks(Vec<(ChunkHeader, Vec<u8>)>);

impl ChunkSink for Chunks {
    fn chunk(&mut self, _: CheckpointId, header: ChunkHeader, bytes: Vec<u8>) {
        self.0.push((header, bytes));
    }
}
