//! A hash table whose entries stand in the order of their hashes.
//!
//! Entries are found by a *position*, 32 bits that come from the key's hash. The leading bits of the position choose a
//! chunk, the next bits the home slot in it. Within a chunk entries are sorted by position, each at its home slot or as
//! little behind it as the order allows (linear probing that keeps the order), with no empty slot between an entry and its
//! home. From that follow:
//!
//! - a lookup is one run of neighbouring slots, and ends early when the key is not there;
//! - a key group is a contiguous run, and inserting in the order of positions writes sequentially;
//! - a cursor is a position, so that no insertion, removal or growth moves an entry across it;
//! - the table grows by doubling or splitting one chunk, which copies it in order. No step touches more than one chunk.
//!
//! Positions that differ may share a home slot; entries of equal position stand in the order of their insertion, and a
//! new one goes behind them.

use super::prefetch::prefetch;
use super::slots::{Chunk, Entry, FIRST_BITS, Home, Position, Slot, pass_over, rank};

/// Where an entry stands, or would stand. Good until the next insertion or removal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    chunk: u32,
    index: u32,
}

/// The table. `K` is compared, never hashed, here.
pub(super) struct Ordered<K, V> {
    /// Positions times this spread over all of 64 bits.
    scale: u64,
    /// The directory is indexed by the spread position shifted right by this.
    shift: u32,
    /// The chunk of each range of positions; a chunk can stand in several neighbouring places.
    directory: Vec<u32>,
    chunks: Vec<Chunk<K, V>>,
    entries: usize,
    /// How often a chunk was doubled or split.
    generation: u64,
}

/// How many keys ahead of the one that is looked up a batch asks for the home slot.
pub(super) const AHEAD: usize = 16;

/// Tables up to this size, in bytes, are visited without asking ahead: they stay in the second-level cache.
const CACHED_BYTES: usize = 256 * 1024;

impl<K, V> Ordered<K, V> {
    /// An empty table for positions below `end`, which is 2 to 2^32.
    pub(super) fn new(end: u64) -> Ordered<K, V> {
        // floor(2^64 / end), without 128 bits: exact when `end` divides 2^64, else one division's rounding lower or equal.
        let scale = (u64::MAX / end) + u64::from(end.is_power_of_two());
        Ordered {
            scale,
            shift: 63,
            directory: vec![0, 0],
            chunks: vec![Chunk::new(0, 0, FIRST_BITS)],
            entries: 0,
            generation: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries
    }

    #[inline(always)]
    fn spread(&self, position: Position) -> u64 {
        u64::from(position.get()).wrapping_mul(self.scale)
    }

    #[inline(always)]
    fn home(&self, position: Position) -> Home {
        home(&self.directory, &self.chunks, self.shift, self.spread(position), position)
    }

    /// Starts to load the home slot of a position.
    #[inline(always)]
    pub(super) fn prefetch(&self, position: Position) {
        prefetch_home(&self.chunks, self.home(position));
    }

    #[inline(always)]
    pub(super) fn entry(&self, place: Place) -> &Entry<K, V> {
        self.chunks[place.chunk as usize].slots[place.index as usize].as_ref().expect("a place names an occupied slot")
    }

    #[inline(always)]
    pub(super) fn entry_mut(&mut self, place: Place) -> &mut Entry<K, V> {
        self.chunks[place.chunk as usize].slots[place.index as usize].as_mut().expect("a place names an occupied slot")
    }

    /// How many entries of the same position stand before the entry at `place`.
    pub(super) fn rank(&self, place: Place) -> u32 {
        rank(&self.chunks[place.chunk as usize].slots, place.index as usize)
    }

    /// How many slots there are, and by how many slots each entry stands behind its home.
    pub(super) fn distances(&self) -> (usize, impl Iterator<Item = usize>) {
        let slots = self.chunks.iter().map(|chunk| chunk.slots.len()).sum();
        let distances = self.chunks.iter().flat_map(move |chunk| {
            let occupied = chunk.slots.iter().enumerate().filter_map(|(index, slot)| Some((index, slot.as_ref()?)));
            occupied.map(move |(index, entry)| index - chunk.home(self.spread(entry.position)))
        });
        (slots, distances)
    }

    /// Calls `visit` with every entry from a position on, in order, leaving out the first `rank` entries of exactly that
    /// position, until it answers `false`.
    #[inline]
    pub(super) fn walk(&self, from: Position, rank: u32, mut visit: impl FnMut(&Entry<K, V>) -> bool) {
        let mut number = (self.spread(from) >> self.shift) as usize;
        let first = &self.chunks[self.directory[number] as usize];
        let mut rank = rank;
        let mut slots = first.slots.get(first.home(self.spread(from))..).unwrap_or_default();
        let mut depth = first.depth;
        loop {
            for entry in slots.iter().flatten() {
                if entry.position <= from {
                    if entry.position < from {
                        continue;
                    }
                    if rank > 0 {
                        rank -= 1;
                        continue;
                    }
                }
                if !visit(entry) {
                    return;
                }
            }
            let width = 1_usize << (64 - self.shift - u32::from(depth));
            number = (number & !(width - 1)) + width;
            let Some(next) = self.directory.get(number) else { return };
            let chunk = &self.chunks[*next as usize];
            (slots, depth) = (&chunk.slots, chunk.depth);
        }
    }

    /// All entries, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry<K, V>> {
        self.directory
            .iter()
            .enumerate()
            .filter(|(number, chunk)| *number == 0 || self.directory[number - 1] != **chunk)
            .flat_map(|(_, chunk)| self.chunks[*chunk as usize].slots.iter().flatten())
    }
}

#[inline(always)]
fn home<K, V>(directory: &[u32], chunks: &[Chunk<K, V>], shift: u32, spread: u64, position: Position) -> Home {
    let chunk = directory[(spread >> shift) as usize];
    Home { position, chunk, index: chunks[chunk as usize].home(spread) as u32 }
}

/// Starts to load the two slots from a home on, or what can be had of them with two cache lines.
#[inline(always)]
fn prefetch_home<K, V>(chunks: &[Chunk<K, V>], home: Home) {
    let second = 48_usize.checked_div(size_of::<Slot<K, V>>()).unwrap_or(1).max(1);
    let slots = &chunks[home.chunk as usize].slots;
    prefetch(slots, home.index as usize);
    prefetch(slots, home.index as usize + second);
}

impl<K: Eq, V> Ordered<K, V> {
    /// Finds a key: where it stands, or else where it would stand.
    #[inline]
    pub(super) fn locate(&self, position: Position, key: &K) -> Result<Place, Place> {
        let home = self.home(position);
        let slots = &self.chunks[home.chunk as usize].slots[..];
        let mut index = pass_over(slots, home);
        while let Some(Some(entry)) = slots.get(index)
            && entry.position <= position
        {
            if entry.position == position && entry.key == *key {
                return Ok(Place { chunk: home.chunk, index: index as u32 });
            }
            index += 1;
        }
        Err(Place { chunk: home.chunk, index: index as u32 })
    }

    /// Goes through a batch of keys, given by their hashes, and lends to `found` the slots of each key's chunk and the
    /// number of the key's slot. Where a key is not there, `missing` gives the entry to insert.
    ///
    /// Homes are computed and asked for [`AHEAD`] keys ahead. The loop holds what it reads of the table in registers and
    /// leaves it for whatever changes the table's form.
    #[inline(always)]
    pub(super) fn visit<T>(
        &mut self,
        hashes: &[u64],
        records: impl Iterator<Item = T>,
        position: impl Fn(u64) -> Position,
        same: impl Fn(&T, &K) -> bool,
        found: impl FnMut(&mut [Slot<K, V>], usize, T),
        missing: impl Fn(&T, Position) -> Entry<K, V>,
    ) {
        // What lies in the cache anyway is only held up by being asked for.
        if self.entries * size_of::<Slot<K, V>>() <= CACHED_BYTES {
            self.visit_each::<false, T>(hashes, records, position, same, found, missing);
        } else {
            self.visit_each::<true, T>(hashes, records, position, same, found, missing);
        }
    }

    #[inline(always)]
    fn visit_each<const ASK_AHEAD: bool, T>(
        &mut self,
        hashes: &[u64],
        mut records: impl Iterator<Item = T>,
        position: impl Fn(u64) -> Position,
        same: impl Fn(&T, &K) -> bool,
        mut found: impl FnMut(&mut [Slot<K, V>], usize, T),
        missing: impl Fn(&T, Position) -> Entry<K, V>,
    ) {
        let mut homes = [Home::default(); AHEAD];
        let mut number = 0;
        let mut generation = self.generation.wrapping_sub(1);
        loop {
            if ASK_AHEAD && generation != self.generation {
                generation = self.generation;
                for (ahead, hash) in hashes.iter().enumerate().skip(number).take(AHEAD) {
                    homes[ahead % AHEAD] = self.home(position(*hash));
                    prefetch_home(&self.chunks, homes[ahead % AHEAD]);
                }
            }
            let (chunks, directory) = (&mut self.chunks[..], &self.directory[..]);
            let (scale, shift) = (self.scale, self.shift);
            let (home, index, record) = loop {
                let Some(record) = records.next() else { return };
                let home_of = |hash: u64, chunks: &[Chunk<K, V>]| {
                    let position = position(hash);
                    let spread = u64::from(position.get()).wrapping_mul(scale);
                    self::home(directory, chunks, shift, spread, position)
                };
                let home = if ASK_AHEAD { homes[number % AHEAD] } else { home_of(hashes[number], chunks) };
                if ASK_AHEAD && let Some(hash) = hashes.get(number + AHEAD) {
                    let ahead = home_of(*hash, chunks);
                    prefetch_home(chunks, ahead);
                    homes[number % AHEAD] = ahead;
                }
                number += 1;
                let slots = &mut chunks[home.chunk as usize].slots[..];
                let mut index = pass_over(slots, home);
                let place = loop {
                    match slots.get(index) {
                        Some(Some(entry)) if entry.position == home.position && same(&record, &entry.key) => {
                            break Some(index);
                        }
                        Some(Some(entry)) if entry.position <= home.position => index += 1,
                        Some(_) | None => break None,
                    }
                };
                match place {
                    Some(index) => found(slots, index, record),
                    None => break (home, index, record),
                }
            };
            let place = self.insert(Place { chunk: home.chunk, index: index as u32 }, missing(&record, home.position));
            let slots = &mut self.chunks[place.chunk as usize].slots[..];
            found(slots, place.index as usize, record);
        }
    }

    /// The slots of a chunk and the number of the one at `place`.
    #[inline(always)]
    pub(super) fn slots_at(&mut self, place: Place) -> (&mut [Slot<K, V>], usize) {
        (&mut self.chunks[place.chunk as usize].slots, place.index as usize)
    }

    /// Inserts a key that [`locate`](Ordered::locate) did not find, at the place that it named.
    #[inline(never)]
    pub(super) fn insert(&mut self, mut place: Place, entry: Entry<K, V>) -> Place {
        loop {
            let chunk = &mut self.chunks[place.chunk as usize];
            if chunk.entries < chunk.limit {
                if chunk.slots.is_empty() {
                    chunk.allocate();
                }
                let index = place.index as usize;
                if let Some(distance) = chunk.slots[index..].iter().position(Option::is_none) {
                    chunk.slots[index..=index + distance].rotate_right(1);
                    chunk.slots[index] = Some(entry);
                    chunk.entries += 1;
                    self.entries += 1;
                    return place;
                }
                if chunk.entries < chunk.limit / 2 {
                    // Many equal or neighbouring positions at the end of a nearly empty chunk: growing would not help.
                    chunk.slots.resize_with(chunk.slots.len() + 16, || None);
                    continue;
                }
            }
            self.grow(place.chunk as usize);
            place = match self.locate(entry.position, &entry.key) {
                Ok(place) | Err(place) => place,
            };
        }
    }

    /// Removes the entry at `place`; the entries behind it move towards their homes.
    pub(super) fn remove(&mut self, place: Place) -> Entry<K, V> {
        let scale = self.scale;
        let chunk = &mut self.chunks[place.chunk as usize];
        let index = place.index as usize;
        let mut end = index + 1;
        while let Some(Some(entry)) = chunk.slots.get(end)
            && chunk.home(u64::from(entry.position.get()).wrapping_mul(scale)) < end
        {
            end += 1;
        }
        let entry = chunk.slots[index].take().expect("a place names an occupied slot");
        chunk.slots[index..end].rotate_left(1);
        chunk.entries -= 1;
        self.entries -= 1;
        entry
    }

    /// Doubles a chunk, or splits it in two when it is as large as chunks get.
    #[cold]
    #[inline(never)]
    fn grow(&mut self, number: usize) {
        let (depth, bits) = (self.chunks[number].depth, self.chunks[number].bits);
        self.generation += 1;
        if bits < Chunk::<K, V>::SPLIT_BITS {
            let mut wider = Chunk::new(number, depth, bits + 1);
            wider.allocate();
            let old = std::mem::replace(&mut self.chunks[number], wider);
            let mut next = 0;
            for entry in old.slots.into_iter().flatten() {
                let spread = self.spread(entry.position);
                let chunk = &mut self.chunks[number];
                chunk.append(chunk.home(spread), &mut next, entry);
            }
            return;
        }
        if 64 - self.shift == u32::from(depth) {
            self.directory = self.directory.iter().flat_map(|chunk| [*chunk, *chunk]).collect();
            self.shift -= 1;
        }
        let second = self.chunks.len();
        let mut low = Chunk::new(number, depth + 1, bits);
        let mut high = Chunk::new(second, depth + 1, bits);
        low.allocate();
        high.allocate();
        let old = std::mem::replace(&mut self.chunks[number], Chunk::new(number, depth + 1, bits));
        let (mut next_low, mut next_high) = (0, 0);
        for entry in old.slots.into_iter().flatten() {
            let spread = self.spread(entry.position);
            if (spread << depth) >> 63 == 0 {
                low.append(low.home(spread), &mut next_low, entry);
            } else {
                high.append(high.home(spread), &mut next_high, entry);
            }
        }
        self.chunks[number] = low;
        self.chunks.push(high);
        let first = self.directory.iter().position(|chunk| *chunk as usize == number).expect("a chunk has a place");
        let width = 1_usize << (64 - self.shift - u32::from(depth));
        self.directory[first + width / 2..first + width].fill(second as u32);
    }

    /// Makes room for `entries` entries in an empty table, so that none of them makes it grow. Slots are allocated when
    /// the first entry of their chunk comes. Does nothing when the table is not empty.
    pub(super) fn reserve(&mut self, entries: usize) {
        if self.entries > 0 {
            return;
        }
        // Three fifths full: below every chunk's limit, with room for uneven filling.
        let slots = (entries.min(u32::MAX as usize) * 5 / 3).max(1 << FIRST_BITS).next_power_of_two();
        let bits = (slots.ilog2() as u8).min(Chunk::<K, V>::SPLIT_BITS);
        let depth = slots.ilog2() as u8 - bits;
        self.generation += 1;
        self.chunks = (0..1 << depth).map(|number| Chunk::new(number, depth, bits)).collect();
        self.shift = 64 - u32::from(depth.max(1));
        self.directory = if depth == 0 { vec![0, 0] } else { (0..1 << depth).collect() };
    }
}
