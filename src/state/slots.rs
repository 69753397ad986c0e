//! The slots of one chunk of the [ordered table](super::ordered): entries sorted by position, near their homes.

use std::num::NonZeroU32;

/// The number of an epoch: the time between two snapshots of one table. Starts at zero.
pub(super) type Epoch = u32;

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
    /// The epoch of the last change.
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
        Chunk { slots: Vec::new(), entries: 0, limit, depth, bits, home_shift, home_mask }
    }

    /// Makes the slots, all empty.
    pub(super) fn allocate(&mut self) {
        let home = 1_usize << self.bits;
        self.slots.resize_with(home + home / 64 + 4, || None);
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
            self.slots.resize_with(index + 4, || None);
        }
        self.slots[index] = Some(entry);
        self.entries += 1;
        *next = index + 1;
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
