//! Reading operator state back: the headers of what all former instances stored, then the chunks that this one takes, in parts, each read away from the arbiter.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll};

use alluvium_actors::ids::OperatorUid;
use alluvium_actors::ports::blocking::{Lane, Promise};
use alluvium_actors::ports::store::StoreError;
use alluvium_actors::ports::task::{Failure, TaskContext};

use super::operator_backend::OPERATOR;
use super::piece::{panic_failure, store_failure};
use super::state_reading::descriptors;
use crate::snapshot::{ChunkInfo, PieceReader, StateReader};
use crate::state::{Held, Redistribution, StateDescriptor, StateError, StateMapping, shares};

/// So many bytes of chunks are read at once.
const PART_BYTES: u64 = 1024 * 1024;

/// Operator state that is being read.
pub(crate) struct OperatorReading {
    /// How many instances stored it.
    former: u32,
    stage: Stage,
}

enum Stage {
    /// The headers are being read.
    Opening(Promise<Result<Vec<Stored>, StoreError>>),
    /// The chunks of the first load are being read.
    Loading { pieces: Arc<Vec<Stored>>, loads: VecDeque<Load>, chunks: Promise<Result<Vec<Vec<u8>>, StoreError>> },
    /// Everything was read.
    End,
}

/// What one former instance stored.
struct Stored {
    reader: StateReader,
    subtask: u32,
}

/// What is read at once.
struct Load {
    piece: usize,
    chunks: Vec<ChunkInfo>,
    /// The states of which that was all of the piece, and which of its elements are wanted.
    settle: Vec<(u16, Range<u64>)>,
}

/// What the reading gives, in this order.
pub(crate) enum OperatorPart {
    /// How the stored states of each piece match those of the operator.
    Header { mappings: Vec<StateMapping> },
    /// Some chunks of one piece, and the states that are to be settled behind them.
    Chunks { piece: usize, chunks: Vec<Vec<u8>>, settle: Vec<(u16, Range<u64>)> },
    /// There is nothing more.
    End,
}

impl OperatorReading {
    /// Begins to read what the restored checkpoint holds of an operator's own state. Nothing if it holds nothing.
    pub(crate) fn start(task: &TaskContext, uid: &OperatorUid) -> Option<OperatorReading> {
        let snapshots = task.restored_operators(uid).filter_map(|snapshot| Some((snapshot, snapshot.piece(OPERATOR)?)));
        let mut pieces: Vec<(u32, PieceReader)> = snapshots
            .map(|(snapshot, piece)| (snapshot.subtask, PieceReader::new(Arc::clone(&task.store), &piece.content)))
            .collect();
        if pieces.is_empty() {
            return None;
        }
        // Lists are put together in this order.
        pieces.sort_by_key(|(subtask, _)| *subtask);
        let open = move || {
            let opened =
                pieces.into_iter().map(|(subtask, input)| Ok(Stored { reader: StateReader::open(input)?, subtask }));
            opened.collect()
        };
        let stage = Stage::Opening(Promise::start(task.host.blocking().as_ref(), Lane::Blobs, open));
        Some(OperatorReading { former: task.restored_shape(uid).parallelism, stage })
    }

    /// The next part.
    pub(crate) fn poll(
        &mut self,
        task: &TaskContext,
        current: &[StateDescriptor],
        operator: &str,
        context: &mut Context<'_>,
    ) -> Poll<Result<OperatorPart, Failure>> {
        let answer = match std::mem::replace(&mut self.stage, Stage::End) {
            Stage::Opening(mut promise) => match promise.poll(context) {
                Poll::Pending => {
                    self.stage = Stage::Opening(promise);
                    return Poll::Pending;
                }
                Poll::Ready(Ok(Ok(pieces))) => self.opened(task, pieces, current, operator),
                Poll::Ready(Ok(Err(error))) => Err(store_failure(operator, &error)),
                Poll::Ready(Err(panicked)) => Err(panic_failure(operator, &panicked)),
            },
            Stage::Loading { pieces, mut loads, mut chunks } => match chunks.poll(context) {
                Poll::Pending => {
                    self.stage = Stage::Loading { pieces, loads, chunks };
                    return Poll::Pending;
                }
                Poll::Ready(Ok(Ok(chunks))) => {
                    let loaded = loads.pop_front();
                    // The next part is read while this one is put into the table.
                    self.stage = ask(task, pieces, loads);
                    Ok(loaded.map_or(OperatorPart::End, |Load { piece, settle, .. }| OperatorPart::Chunks {
                        piece,
                        chunks,
                        settle,
                    }))
                }
                Poll::Ready(Ok(Err(error))) => Err(store_failure(operator, &error)),
                Poll::Ready(Err(panicked)) => Err(panic_failure(operator, &panicked)),
            },
            Stage::End => Ok(OperatorPart::End),
        };
        Poll::Ready(answer)
    }

    fn opened(
        &mut self,
        task: &TaskContext,
        pieces: Vec<Stored>,
        current: &[StateDescriptor],
        operator: &str,
    ) -> Result<OperatorPart, Failure> {
        let refused = |error: StateError| Failure::unrecoverable(operator, error);
        let mut mappings = Vec::with_capacity(pieces.len());
        for stored in &pieces {
            mappings.push(StateMapping::new(&descriptors(&stored.reader, operator)?, current).map_err(refused)?);
        }
        let loads = loads(&pieces, &mappings, current, (self.former, task)).map_err(refused)?;
        self.stage = ask(task, Arc::new(pieces), loads);
        Ok(OperatorPart::Header { mappings })
    }
}

/// Asks for the chunks of the first load.
fn ask(task: &TaskContext, pieces: Arc<Vec<Stored>>, loads: VecDeque<Load>) -> Stage {
    let Some(load) = loads.front() else { return Stage::End };
    let (asked, piece, chunks) = (Arc::clone(&pieces), load.piece, load.chunks.clone());
    let read = move || asked[piece].reader.read_each(&chunks);
    let chunks = Promise::start(task.host.blocking().as_ref(), Lane::Blobs, read);
    Stage::Loading { pieces, loads, chunks }
}

/// What this instance has to read of each piece, piece by piece.
fn loads(
    pieces: &[Stored],
    mappings: &[StateMapping],
    current: &[StateDescriptor],
    (former, task): (u32, &TaskContext),
) -> Result<VecDeque<Load>, StateError> {
    // By piece: which states are wanted, and which of their elements.
    let mut wanted: Vec<Vec<(u16, Range<u64>)>> = vec![Vec::new(); pieces.len()];
    for (number, state) in (0_u16..).zip(current) {
        let redistribution = Redistribution::of(state.kind)
            .ok_or_else(|| StateError::Damaged(format!("state {:?} is no operator state", state.name)))?;
        let holds = |position: &usize| chunks_of(&pieces[*position], &mappings[*position], number).is_some();
        let holders: Vec<usize> = (0..pieces.len()).filter(holds).collect();
        let held = holders.iter().map(|position| {
            let chunks = chunks_of(&pieces[*position], &mappings[*position], number).unwrap_or_default();
            let elements = chunks.iter().map(|chunk| u64::from(chunk.count)).sum();
            Held { subtask: pieces[*position].subtask, elements }
        });
        let held: Vec<Held> = held.collect();
        for share in shares(redistribution, &held, former, task.parallelism, task.subtask.index) {
            wanted[holders[share.held]].push((number, share.elements));
        }
    }
    let mut loads = VecDeque::new();
    for (piece, states) in wanted.into_iter().enumerate() {
        for (number, elements) in states {
            let mut chunks =
                chunks_of(&pieces[piece], &mappings[piece], number).unwrap_or_default().into_iter().peekable();
            while chunks.peek().is_some() {
                let mut bytes = 0;
                let mut part: Vec<ChunkInfo> = Vec::new();
                while let Some(chunk) =
                    chunks.next_if(|chunk| part.is_empty() || bytes + u64::from(chunk.length) <= PART_BYTES)
                {
                    bytes += u64::from(chunk.length);
                    part.push(chunk);
                }
                loads.push_back(Load { piece, chunks: part, settle: Vec::new() });
            }
            if let Some(last) = loads.back_mut().filter(|load| load.piece == piece) {
                last.settle.push((number, elements));
            }
        }
    }
    Ok(loads)
}

/// The chunks of the operator's state `number` in a piece; nothing if whoever wrote it did not have the state.
fn chunks_of(stored: &Stored, mapping: &StateMapping, number: u16) -> Option<Vec<ChunkInfo>> {
    let states = stored.reader.descriptors().len() as u16;
    let there = (0..states).find(|there| mapping.current(*there) == Some(number))?;
    Some(stored.reader.chunks().iter().filter(|chunk| chunk.state == u32::from(there)).copied().collect())
}
