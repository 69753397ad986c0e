//! The slots of one chunk of the [ordered table](super::ordered): entries sorted by position, near their homes.

use std::num::NonZeroU32;

/// The number of an epoch: the time between two snapshots of one table. Starts at zero.
pub(super) type Epoch = u32;

/// Marks, in the stamp of an entry, that the entry did not exist when the epoch before the stamped one closed: so no snapshot holds it as long as that is
/// the current one. Epochs stay below it.
pub(super) const FRESH: Epoch = 1 << 31;

/// The epoch of a stamp.
#[inline(always)]
pub(super) fn age(stamp: Epoch) -> Epoch {
    stamp & !FRESH
}

/// The stamp of an entry that changes in epoch `now`.
#[inline(always)]
pub(super) fn touched(stamp: Epoch, now: Epoch) -> Epoch {
    if age(stamp) == now { stamp } else { now }
}

/// Whether an entry came into being in epoch `now`, the current one: no snapshot holds it.
#[inline(always)]
pub(super) fn is_fresh(stamp: Epoch, now: Epoch) -> bool {
    stamp == now | FRESH
}

/// Where an entry stands in the order: 32 bits of its hash, at least one.
///
/// Never zero, so that in a table of numbers zero at the position's place marks an empty slot (`Option` does it by itself):
/// "is there an entry, and is it below?" is then one comparison of one load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub(super) struct Position(NonZeroU32);

impl Position {
    pub(super) const MIN: Position = Position(NonZeroU32::MIN);

    #[inline(always)]
    pub(super) fn new(bits: u32) -> Position {
        Position(NonZeroU32::new(bits).unwrap_or(NonZeroU32::MIN))
    }

    #[inline(always)]
    pub(super) fn get(self) -> u32 {
        self.0.get()
    }
}

/// One key with what is stored under it.
#[derive(Clone, Debug)]
pub(super) struct Entry<K, V> {
    /// The epoch of the last change, with the mark [`FRESH`].
    pub(super) epoch: Epoch,
    pub(super) position: Position,
    pub(super) key: K,
    pub(super) value: V,
}

/// Room for one entry. As small as an entry: 24 bytes for `u64` to `i64`.
pub(super) type Slot<K, V> = Option<Entry<K, V>>;

/// The home slot of a position. Good until the table grows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Home {
    pub(super) position: Position,
    pub(super) chunk: u32,
    pub(super) index: u32,
}

impl Default for Home {
    fn default() -> Home {
        Home { position: Position::MIN, chunk: 0, index: 0 }
    }
}

/// A range of positions of the table, and the slots for the entries in it.
pub(super) struct Chunk<K, V> {
    /// The home slots, 2^`bits` many, and behind them room for the entries that the last ones push out. Empty until the
    /// first entry comes.
    pub(super) slots: Vec<Slot<K, V>>,
    /// The newest epoch in which an entry of each block of slots changed, or a later one. Empty in a table without marks.
    pub(super) marks: Vec<Epoch>,
    pub(super) entries: u32,
    /// The chunk grows when it has so many entries.
    pub(super) limit: u32,
    /// How many leading bits of the position are the same for all its entries.
    pub(super) depth: u8,
    pub(super) bits: u8,
    /// The home slot is the spread position, shifted right by this, under the mask.
    home_shift: u8,
    home_mask: u32,
}

/// The bytes that a chunk of slots should have: splitting one takes some hundred microseconds.
const CHUNK_BYTES: usize = 512 * 1024;
/// Chunks split from this many slots (as a power of two) on, or later when entries are small.
const MIN_SPLIT_BITS: u8 = 13;
const MAX_SPLIT_BITS: u8 = 16;
/// The slots of a new table, as a power of two.
pub(super) const FIRST_BITS: u8 = 2;
/// Position bits. Beyond them, splitting separates nothing.
const POSITION_BITS: u8 = 32;

/// So many slots, as a power of two, share one mark of their newest change. An increment reads the marks of all blocks (4 bytes for 384 bytes of slots of
/// numbers), and all slots of a block in which anything changed. With 64 slots to a block it read a third of a table of which one key in a hundred changed, since changes are scattered.
pub(super) const BLOCK_BITS: u32 = 4;

/// How many slots from the home on are looked at without a branch, because branches on the contents of a hash table cannot
/// be predicted.
const WINDOW: usize = 2;

impl<K, V> Chunk<K, V> {
    /// Chunks of so many home slots (as a power of two) split instead of doubling.
    pub(super) const SPLIT_BITS: u8 = {
        let slots = CHUNK_BYTES / size_of::<Option<Entry<K, V>>>();
        let bits = if slots == 0 { 0 } else { slots.ilog2() as u8 };
        if bits < MIN_SPLIT_BITS {
            MIN_SPLIT_BITS
        } else if bits > MAX_SPLIT_BITS {
            MAX_SPLIT_BITS
        } else {
            bits
        }
    };

    pub(super) fn new(number: usize, depth: u8, bits: u8) -> Chunk<K, V> {
        // Chunks fill evenly, so with one limit all of them would split at the same time. Limits between two thirds and
        // four fifths, in an order that the number scatters, spread the splits over the whole doubling.
        let scattered = ((number as u32).wrapping_mul(0x9E37_79B9) >> 24) as usize;
        let limit = if depth + bits >= POSITION_BITS {
            u32::MAX
        } else if bits < Chunk::<K, V>::SPLIT_BITS {
            // A table that small is looked up in the cache, where computation decides and not memory: with few neighbours a key stands at its home.
            ((1_usize << bits) * 7 / 16) as u32
        } else {
            (((1_usize << bits) * (170 + scattered * 35 / 256)) >> 8) as u32
        };
        let (home_shift, home_mask) = (64 - depth - bits, (1 << bits) - 1);
        Chunk { slots: Vec::new(), marks: Vec::new(), entries: 0, limit, depth, bits, home_shift, home_mask }
    }

    /// Makes the slots, all empty, with marks or without.
    pub(super) fn allocate(&mut self, marked: bool) {
        let home = 1_usize << self.bits;
        self.slots.resize_with(home + home / 64 + 4, || None);
        if marked {
            self.marks.push(0);
            self.mark_new_slots();
        }
    }

    /// Adds empty slots at the end.
    pub(super) fn lengthen(&mut self, slots: usize) {
        self.slots.resize_with(slots, || None);
        self.mark_new_slots();
    }

    fn mark_new_slots(&mut self) {
        if !self.marks.is_empty() {
            self.marks.resize((self.slots.len() >> BLOCK_BITS) + 1, 0);
        }
    }

    /// An entry changed in `epoch`, which is not older than any mark.
    #[inline(always)]
    pub(super) fn mark(&mut self, index: usize, epoch: Epoch) {
        mark(&mut self.marks, index, epoch);
    }

    /// The entries of the slots from `first` on below `last` have moved up by one.
    pub(super) fn moved_up(&mut self, first: usize, last: usize) {
        if self.marks.is_empty() {
            return;
        }
        for block in (first >> BLOCK_BITS..last >> BLOCK_BITS).rev() {
            self.marks[block + 1] = self.marks[block + 1].max(self.marks[block]);
        }
    }

    /// The entries of the slots behind `first` up to `last`, exclusive, have moved down by one.
    pub(super) fn moved_down(&mut self, first: usize, last: usize) {
        if self.marks.is_empty() {
            return;
        }
        for block in first >> BLOCK_BITS..(last - 1) >> BLOCK_BITS {
            self.marks[block] = self.marks[block].max(self.marks[block + 1]);
        }
    }

    /// The home slot of a spread position.
    #[inline(always)]
    pub(super) fn home(&self, spread: u64) -> usize {
        ((spread >> self.home_shift) as u32 & self.home_mask) as usize
    }

    /// Puts an entry behind all others, as near to its home as possible. `next` is the first slot behind the last entry.
    pub(super) fn append(&mut self, home: usize, next: &mut usize, entry: Entry<K, V>) {
        let index = home.max(*next);
        if index >= self.slots.len() {
            self.lengthen(index + 4);
        }
        if let Some(mark) = self.marks.get_mut(index >> BLOCK_BITS) {
            *mark = (*mark).max(age(entry.epoch));
        }
        self.slots[index] = Some(entry);
        self.entries += 1;
        *next = index + 1;
    }
}

/// Marks the block of a slot. Without marks nothing happens.
#[inline(always)]
pub(super) fn mark(marks: &mut [Epoch], index: usize, epoch: Epoch) {
    if let Some(mark) = marks.get_mut(index >> BLOCK_BITS) {
        *mark = epoch;
    }
}

/// The first slot, of the home and the [`WINDOW`] behind it, whose entry is not below the position. Entries ascend from the
/// home on, so those below are the ones to be passed over, and counting them needs no branch.
#[inline(always)]
pub(super) fn pass_over<K, V>(slots: &[Slot<K, V>], home: Home) -> usize {
    let index = home.index as usize;
    let Some(window) = slots.get(index..index + WINDOW) else { return index };
    // Zero stands for an empty slot, and one less than it is above everything.
    let position = |slot: &Slot<K, V>| slot.as_ref().map_or(0, |entry| entry.position.get());
    let limit = home.position.get() - 1;
    index + window.iter().map(|slot| usize::from(position(slot).wrapping_sub(1) < limit)).sum::<usize>()
}

/// How many entries of the same position stand before an entry.
pub(super) fn rank<K, V>(slots: &[Slot<K, V>], index: usize) -> u32 {
    let position = |slot: &Slot<K, V>| slot.as_ref().map(|entry| entry.position);
    let own = position(&slots[index]);
    slots[..index].iter().rev().take_while(|slot| position(slot) == own).count() as u32
}
