//! Reading keyed snapshots back: the headers of the pieces first, then their chunks in parts, each read away from the arbiter.
//!
//! A subtask reads the chunks of its own key groups, from every piece that holds some of them. At the parallelism of the checkpoint that is the one piece
//! that it wrote itself; at another one the pieces of several former subtasks.

use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll};

use alluvium_actors::ids::OperatorUid;
use alluvium_actors::ports::blocking::{Lane, Promise};
use alluvium_actors::ports::store::{Piece, StoreError};
use alluvium_actors::ports::task::{Failure, TaskContext};
use alluvium_actors::protocol::mutation::{Mutation, is_active};

use super::chains::{Chain, is_increment};
use super::piece::{decode, panic_failure, store_failure};
use super::state_writing::KEYED;
use crate::record::key_group_range;
use crate::snapshot::{ChunkInfo, PieceReader, StateReader};
use crate::state::{StateDescriptor, StateError, StateKind, StateMapping};

/// So many bytes of chunks are read at once.
const PART_BYTES: u64 = 1024 * 1024;

/// A snapshot that is being read.
pub(crate) struct StateReading {
    /// The key groups that are wanted.
    groups: Range<u32>,
    /// The only chain that is read, if it is one of just these key groups.
    own: Option<Chain>,
    stage: Stage,
}

enum Stage {
    /// The snapshot cannot be read by this operator.
    Refused(Failure),
    /// The headers are being read.
    Opening(Promise<Result<Vec<Stored>, StoreError>>),
    /// Chunks up to `next` of piece number `piece` were asked for.
    Chunks { pieces: Arc<Vec<Stored>>, piece: usize, next: usize, part: Promise<Result<Vec<Vec<u8>>, StoreError>> },
    /// Everything was read.
    End,
}

/// One piece of what a former subtask stored: everything, or an increment over the piece before it.
struct Stored {
    reader: StateReader,
    /// The key groups that were its own.
    groups: Range<u32>,
}

/// What the reading gives, in this order.
pub(crate) enum Part {
    /// The headers: how the stored states of each piece match those of the operator, and how many keys to expect at least.
    Header { mappings: Vec<StateMapping>, keys: usize },
    /// Some chunks of one piece, which may be an increment over the piece before it.
    Chunks { piece: usize, increment: bool, chunks: Vec<Vec<u8>> },
    /// There is nothing more.
    End,
}

impl StateReading {
    /// Begins to read what the restored checkpoint holds of an operator's key `groups`. Nothing if it holds nothing of them.
    pub(crate) fn start(
        task: &TaskContext,
        uid: &OperatorUid,
        groups: Range<u32>,
        operator: &str,
    ) -> Option<StateReading> {
        let shape = task.restored_shape(uid);
        let owned = |subtask| key_group_range(subtask, shape.parallelism, shape.max_parallelism);
        let mut chains: Vec<(Range<u32>, Vec<&Piece>)> = task
            .restored_operators(uid)
            .map(|snapshot| (owned(snapshot.subtask), snapshot.chain(KEYED)))
            .filter(|(_, chain)| !chain.is_empty())
            .collect();
        // First: the key groups of another max parallelism are other ones, so that it says nothing which of them overlap.
        if !chains.is_empty() && shape.max_parallelism != task.max_parallelism {
            let (stored, current) = (shape.max_parallelism, task.max_parallelism);
            let message =
                format!("it has max parallelism {current} and had {stored} in the checkpoint: set it to {stored}");
            let stage = Stage::Refused(Failure::unrecoverable(operator, message));
            return Some(StateReading { groups, own: None, stage });
        }
        if shape.parallelism != task.parallelism && is_active(Mutation::FormerStateForgotten) {
            chains.retain(|(stored, _)| *stored == owned(task.subtask.index));
        }
        chains.retain(|(owned, _)| owned.start < groups.end && groups.start < owned.end);
        if chains.is_empty() {
            return None;
        }
        let own = match (&chains[..], &task.restored) {
            ([(owned, chain)], Some(manifest)) if *owned == groups => {
                let pieces = chain.iter().map(|piece| (*piece).clone()).collect();
                Some(Chain { checkpoint: manifest.checkpoint, pieces })
            }
            _ => None,
        };
        let pieces: Vec<_> = chains
            .iter()
            .flat_map(|(owned, chain)| chain.iter().map(move |piece| (owned.clone(), *piece)))
            .map(|(owned, piece)| {
                (PieceReader::new(Arc::clone(&task.store), &piece.content), owned, is_increment(piece))
            })
            .collect();
        let open = move || {
            let opened = pieces.into_iter().map(|(input, groups, increment)| {
                let file = input.place().to_owned();
                let reader = StateReader::open(input)?;
                if reader.is_increment() != increment {
                    let reason = "it is an increment where a full piece is expected, or the other way round".to_owned();
                    return Err(StoreError::Damaged { file, reason });
                }
                Ok(Stored { reader, groups })
            });
            opened.collect()
        };
        let stage = Stage::Opening(Promise::start(task.host.blocking().as_ref(), Lane::Blobs, open));
        Some(StateReading { groups, own, stage })
    }

    /// What was read, if it was one chain of a subtask that had the same key groups: the next snapshot may be an increment over it.
    pub(crate) fn own(self) -> Option<Chain> {
        self.own
    }

    /// The next part.
    pub(crate) fn poll(
        &mut self,
        task: &TaskContext,
        current: &[StateDescriptor],
        operator: &str,
        context: &mut Context<'_>,
    ) -> Poll<Result<Part, Failure>> {
        let answer = match &mut self.stage {
            Stage::Refused(failure) => Err(failure.clone()),
            Stage::Opening(promise) => match promise.poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(Ok(pieces))) => {
                    let header = header(&pieces, &self.groups, current, operator);
                    self.stage = ask(task, Arc::new(pieces), &self.groups, 0, 0);
                    return Poll::Ready(header);
                }
                Poll::Ready(Ok(Err(error))) => Err(store_failure(operator, &error)),
                Poll::Ready(Err(panicked)) => Err(panic_failure(operator, &panicked)),
            },
            Stage::Chunks { pieces, piece, next, part } => match part.poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(Ok(chunks))) => {
                    let (pieces, piece, next) = (Arc::clone(pieces), *piece, *next);
                    let increment = pieces[piece].reader.is_increment();
                    // The next part is read while this one is put into the table.
                    self.stage = ask(task, pieces, &self.groups, piece, next);
                    Ok(Part::Chunks { piece, increment, chunks })
                }
                Poll::Ready(Ok(Err(error))) => Err(store_failure(operator, &error)),
                Poll::Ready(Err(panicked)) => Err(panic_failure(operator, &panicked)),
            },
            Stage::End => Ok(Part::End),
        };
        Poll::Ready(answer)
    }
}

/// Asks for the wanted chunks from number `from` of piece number `piece` on, as many as make a part; at least one.
fn ask(task: &TaskContext, pieces: Arc<Vec<Stored>>, groups: &Range<u32>, mut piece: usize, mut from: usize) -> Stage {
    while let Some(stored) = pieces.get(piece) {
        let rest = stored.reader.chunks_of(groups.clone()).get(from..).unwrap_or_default();
        let mut bytes = 0;
        let taken = rest
            .iter()
            .take_while(|chunk| {
                let first = bytes == 0;
                bytes += u64::from(chunk.length);
                first || bytes <= PART_BYTES
            })
            .count();
        if taken > 0 {
            let skipped = |group: u32| is_active(Mutation::RestoreSkipsAKeyGroup) && group.is_multiple_of(8);
            let chunks: Vec<ChunkInfo> =
                rest[..taken].iter().filter(|chunk| !skipped(chunk.key_group)).copied().collect();
            let asked = Arc::clone(&pieces);
            let read = move || asked[piece].reader.read_each(&chunks);
            let part = Promise::start(task.host.blocking().as_ref(), Lane::Blobs, read);
            return Stage::Chunks { pieces, piece, next: from + taken, part };
        }
        (piece, from) = (piece + 1, 0);
    }
    Stage::End
}

fn header(
    pieces: &[Stored],
    groups: &Range<u32>,
    current: &[StateDescriptor],
    operator: &str,
) -> Result<Part, Failure> {
    let mut mappings = Vec::new();
    let mut keys = 0;
    for Stored { reader, groups: owned } in pieces {
        // Only the wanted chunks are read, so that one in the wrong piece would be missed and not found.
        if let Some(foreign) = reader.chunks().iter().find(|chunk| !owned.contains(&chunk.key_group)) {
            let (first, last) = (owned.start, owned.end.saturating_sub(1));
            let error = StateError::ForeignKeyGroup { group: foreign.key_group, first, last };
            return Err(Failure::unrecoverable(operator, error));
        }
        let stored = descriptors(reader, operator)?;
        let mapping = StateMapping::new(&stored, current).map_err(|error| Failure::unrecoverable(operator, error))?;
        if !reader.is_increment() {
            keys += least_keys(&stored, reader.chunks_of(groups.clone()));
        }
        mappings.push(mapping);
    }
    Ok(Part::Header { mappings, keys })
}

/// The states of a piece, as its header lists them.
///
/// # Errors
/// When a descriptor does not decode.
pub(crate) fn descriptors(reader: &StateReader, operator: &str) -> Result<Vec<StateDescriptor>, Failure> {
    reader.descriptors().iter().map(|bytes| decode(bytes, operator)).collect()
}

/// How many keys the chunks hold at least. A value is there once per key, so the fullest value state tells; the others tell nothing.
fn least_keys(stored: &[StateDescriptor], chunks: &[ChunkInfo]) -> usize {
    let mut keys = vec![0_usize; stored.len()];
    for chunk in chunks {
        if stored[chunk.state as usize].kind == StateKind::Value {
            keys[chunk.state as usize] += chunk.count as usize;
        }
    }
    keys.into_iter().max().unwrap_or(0)
}
