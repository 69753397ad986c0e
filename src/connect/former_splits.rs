//! The splits that a reader begins with: its own, or its share of what the readers held when there were more or fewer of them.
//!
//! Nobody deals them out: every reader reads what all former ones held, in the same order, and takes what is due to its number. So each split has one reader without a
//! word between them, and the enumerator hears from the readers who has what, as it does after every restore.

use std::ops::Range;
use std::task::{Context, Poll};

use alluvium_actors::ids::OperatorUid;
use alluvium_actors::ports::store::OperatorSnapshot;
use alluvium_actors::ports::task::{Failure, TaskContext};
use alluvium_actors::protocol::mutation::{Mutation, is_active};

use crate::operator::piece::{PieceReading, decode};
use crate::record::Record;

/// The name of the piece that holds the splits of a reader, with their positions.
pub(super) const READER: &str = "reader";

/// The splits of the restored checkpoint that are being read.
pub(super) struct FormerSplits {
    /// What former readers held, in their order.
    pieces: Vec<PieceReading>,
    /// What was read so far.
    read: Vec<Vec<u8>>,
    /// The number of the reader and of all readers, where there were more or fewer of them.
    shared: Option<(u32, u32)>,
}

impl FormerSplits {
    /// Begins to read what the restored checkpoint holds for the reader of a task.
    pub(super) fn start(task: &TaskContext, uid: &OperatorUid) -> FormerSplits {
        let (reader, readers) = (task.subtask.index, task.parallelism);
        let shared = (task.restored_shape(uid).parallelism != readers).then_some((reader, readers));
        let own = |snapshot: &&OperatorSnapshot| snapshot.subtask == reader;
        let all = shared.is_some() && !is_active(Mutation::FormerSplitsForgotten);
        let mut former: Vec<_> = task.restored_operators(uid).filter(|snapshot| all || own(snapshot)).collect();
        former.sort_by_key(|snapshot| snapshot.subtask);
        let pieces = former.iter().filter_map(|snapshot| snapshot.piece(READER));
        let pieces = pieces.map(|piece| PieceReading::start(task, piece)).collect();
        let shared = shared.filter(|_| all && !is_active(Mutation::FormerSplitsTwice));
        FormerSplits { pieces, read: Vec::new(), shared }
    }

    /// The splits of the reader. Ready at once where there is nothing to restore.
    pub(super) fn poll<S: Record>(
        &mut self,
        operator: &str,
        context: &mut Context<'_>,
    ) -> Poll<Result<Vec<S>, Failure>> {
        while let Some(reading) = self.pieces.get_mut(self.read.len()) {
            match reading.poll(operator, context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(bytes) => self.read.push(bytes?),
            }
        }
        self.pieces.clear();
        let mut splits: Vec<S> = Vec::new();
        for held in std::mem::take(&mut self.read) {
            splits.append(&mut decode::<Vec<S>>(&held, operator)?);
        }
        if let Some((reader, readers)) = self.shared {
            splits = splits.drain(share(splits.len(), reader, readers)).collect();
        }
        Poll::Ready(Ok(splits))
    }
}

/// Which of `count` splits in a row belong to a reader: neighbours stay together, and no reader has two more than another one.
fn share(count: usize, reader: u32, readers: u32) -> Range<usize> {
    let first = |reader: u32| (count as u64 * u64::from(reader) / u64::from(readers)) as usize;
    first(reader)..first(reader + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_split_has_one_reader_and_no_reader_has_two_more_than_another() {
        for count in 0..40 {
            for readers in 1..12 {
                let shares: Vec<_> = (0..readers).map(|reader| share(count, reader, readers)).collect();
                let dealt: Vec<usize> = shares.iter().cloned().flatten().collect();
                assert_eq!(dealt, (0..count).collect::<Vec<_>>(), "{readers} readers");
                let lengths = shares.iter().map(ExactSizeIterator::len);
                let (least, most) = (lengths.clone().min().unwrap(), lengths.max().unwrap());
                assert!(most - least <= 1, "{count} splits, {readers} readers: {shares:?}");
            }
        }
    }
}
