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
use super::slots::{BLOCK_BITS, Chunk, Entry, Epoch, FIRST_BITS, Home, Position, Slot, age, mark, pass_over, rank};

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
    /// Counts the changes of form (chunks that were doubled, split or made anew): homes that were computed hold until the next one.
    form: u32,
    /// Whether the chunks have marks of their newest changes.
    marked: bool,
}

/// What a walk comes to.
pub(super) enum Walked<'a, K, V> {
    /// An entry, and how many of the same position stand before it.
    Entry(&'a Entry<K, V>, u32),
    /// About [`PASSED`] blocks were passed over since the last such word, since nothing in them is new enough, or blocks were searched that cost as much. The walk is
    /// at this position, and so many entries of the same position are behind it.
    Passed(Position, u32),
}

/// To pass over so many blocks of slots by their marks costs about what visiting an entry costs.
const PASSED: u32 = 64;

/// To search a block in which something changed costs about what passing over so many blocks costs.
const SCANNED: u32 = 32;

/// How many keys ahead of the one that is looked up a batch asks for the home slot.
pub(super) const AHEAD: usize = 16;

impl<K, V> Ordered<K, V> {
    /// An empty table for positions below `end`, which is 2 to 2^32. With marks it can be [walked](Ordered::walk) for what is new.
    pub(super) fn new(end: u64, marked: bool) -> Ordered<K, V> {
        // floor(2^64 / end), without 128 bits: exact when `end` divides 2^64, else one division's rounding lower or equal.
        let scale = (u64::MAX / end) + u64::from(end.is_power_of_two());
        Ordered {
            scale,
            shift: 63,
            directory: vec![0, 0],
            chunks: vec![Chunk::new(0, 0, FIRST_BITS)],
            entries: 0,
            form: 0,
            marked,
        }
    }

    /// Gives an empty table marks.
    pub(super) fn record_changes(&mut self) {
        self.marked = true;
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

    /// The entry at `place` changed in `epoch`, the current one.
    #[inline(always)]
    pub(super) fn mark(&mut self, place: Place, epoch: Epoch) {
        self.chunks[place.chunk as usize].mark(place.index as usize, epoch);
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
    /// position, until it answers `false`. Entries whose last change is older than the epoch `floor` are left out; where the table has marks, whole blocks
    /// of them at once.
    #[inline]
    pub(super) fn walk(
        &self,
        from: Position,
        rank: u32,
        floor: Epoch,
        mut visit: impl FnMut(Walked<'_, K, V>) -> bool,
    ) {
        let mut number = (self.spread(from) >> self.shift) as usize;
        let mut chunk = &self.chunks[self.directory[number] as usize];
        let mut index = chunk.home(self.spread(from));
        // The slot of the last entry that was looked at, and how many entries of the same position stand before it.
        let mut last: Option<(usize, u32)> = None;
        let is_behind = |position: Position, before: u32| position < from || (position == from && before < rank);
        let mut passed = 0;
        loop {
            let slots = &chunk.slots[..];
            while index < slots.len() {
                let end = ((index | ((1 << BLOCK_BITS) - 1)) + 1).min(slots.len());
                let clean = chunk.marks.get(index >> BLOCK_BITS).is_some_and(|mark| *mark < floor);
                let (mut found, mut count) = ([0_u8; 1 << BLOCK_BITS], 0);
                if clean {
                    passed += 1;
                    if passed < PASSED {
                        index = end;
                        continue;
                    }
                    // The walk can be left at an entry only.
                } else {
                    // Which slots are occupied cannot be predicted, so no branch depends on it.
                    for (number, slot) in slots[index..end].iter().enumerate() {
                        found[count] = number as u8;
                        count += usize::from(slot.as_ref().is_some_and(|entry| age(entry.epoch) >= floor));
                    }
                    if floor > 0 {
                        passed += SCANNED;
                    }
                }
                if passed >= PASSED
                    && let Some(first) = slots[index..end].iter().position(Option::is_some)
                    && let Some(entry) = &slots[index + first]
                {
                    let before = self::rank(slots, index + first);
                    if !is_behind(entry.position, before) {
                        passed = 0;
                        if !visit(Walked::Passed(entry.position, before)) {
                            return;
                        }
                    }
                }
                for number in &found[..count] {
                    let at = index + usize::from(*number);
                    let Some(entry) = &slots[at] else { continue };
                    let before = match at.checked_sub(1).and_then(|previous| slots[previous].as_ref()) {
                        Some(previous) if previous.position == entry.position => match last {
                            Some((seen, before)) if seen + 1 == at => before + 1,
                            Some(_) | None => self::rank(slots, at),
                        },
                        Some(_) | None => 0,
                    };
                    last = Some((at, before));
                    if !is_behind(entry.position, before) && !visit(Walked::Entry(entry, before)) {
                        return;
                    }
                }
                index = end;
            }
            last = None;
            let width = 1_usize << (64 - self.shift - u32::from(chunk.depth));
            number = (number & !(width - 1)) + width;
            let Some(next) = self.directory.get(number) else { return };
            chunk = &self.chunks[*next as usize];
            index = 0;
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

/// What a batch does at the rows of its keys.
pub(super) trait Visitor<K, V> {
    /// What comes with a key.
    type Record;

    /// The position of a key, from its hash.
    fn position(&self, hash: u64) -> Position;
    /// The epoch in which entries change now.
    fn epoch(&self) -> Epoch;
    /// Whether the record is of this key.
    fn same(&self, record: &Self::Record, key: &K) -> bool;
    /// Whether an entry must be [kept](Visitor::keep) before it changes.
    fn is_wanted(&self, entry: &Entry<K, V>) -> bool;
    /// Keeps the entry of a slot for those who want it as it is.
    fn keep(&mut self, slots: &[Slot<K, V>], index: usize);
    /// The record has come to its entry.
    fn found(&mut self, entry: &mut Entry<K, V>, record: Self::Record);
    /// The entry to insert for a key that is not there.
    fn missing(&self, record: &Self::Record, position: Position) -> Entry<K, V>;
}

/// Brings a record to its entry, which stands at `index` or behind it. Else tells where it would stand.
#[inline(always)]
fn meet<K, V, N: Visitor<K, V>>(
    slots: &mut [Slot<K, V>],
    marks: &mut [Epoch],
    mut index: usize,
    position: Position,
    record: N::Record,
    visitor: &mut N,
) -> Result<(), (N::Record, usize)> {
    loop {
        match slots.get(index) {
            Some(Some(entry)) if entry.position == position && visitor.same(&record, &entry.key) => {
                if visitor.is_wanted(entry) {
                    visitor.keep(slots, index);
                }
                if let Some(Some(entry)) = slots.get_mut(index) {
                    visitor.found(entry, record);
                }
                mark(marks, index, visitor.epoch());
                return Ok(());
            }
            Some(Some(entry)) if entry.position <= position => index += 1,
            Some(_) | None => return Err((record, index)),
        }
    }
}

/// How many keys of a table that lies in the cache are looked for before the first of them is processed.
const BLOCK: usize = 64;

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

    /// Goes through a batch of keys, given by their hashes, and brings each record to the entry of its key.
    ///
    /// A look-up is split in two: the home of a key follows from its hash alone and is computed well ahead; what depends on the table's content, and with it
    /// the branches that are hard to predict, comes after it. So a branch that was predicted wrongly costs the way from there on and not the whole way
    /// from the hash.
    #[inline(always)]
    pub(super) fn visit<N: Visitor<K, V>>(
        &mut self,
        hashes: &[u64],
        mut records: impl Iterator<Item = N::Record>,
        visitor: &mut N,
    ) {
        let mut rest = hashes;
        while !rest.is_empty() {
            let done = if self.chunks.len() == 1 {
                self.visit_cached(&rest[..rest.len().min(BLOCK)], &mut records, visitor)
            } else {
                self.visit_ahead(rest, &mut records, visitor)
            };
            let Some(done) = done else { return };
            rest = &rest[done..];
        }
    }

    /// Visits a block of keys of a table of one chunk. It lies in the cache, so that asking ahead only costs; and there is no chunk to choose. Answers as
    /// [`Ordered::visit_ahead`].
    #[inline(always)]
    fn visit_cached<N: Visitor<K, V>>(
        &mut self,
        block: &[u64],
        records: &mut impl Iterator<Item = N::Record>,
        visitor: &mut N,
    ) -> Option<usize> {
        let (form, scale) = (self.form, self.scale);
        let chunk = &self.chunks[0];
        let mut candidates = [(Position::MIN, 0_u32); BLOCK];
        // No branch in here depends on what the table holds.
        for (candidate, hash) in candidates.iter_mut().zip(block) {
            let position = visitor.position(*hash);
            let index = chunk.home(u64::from(position.get()).wrapping_mul(scale)) as u32;
            *candidate = (position, pass_over(&chunk.slots, Home { position, chunk: 0, index }) as u32);
        }
        let mut done = 0;
        loop {
            let Chunk { slots, marks, .. } = &mut self.chunks[0];
            let (slots, marks) = (&mut slots[..], &mut marks[..]);
            // An insertion moves entries towards the end: whatever stood in front of a candidate is still below its key, and no key stands before it.
            let missing = loop {
                let Some((position, index)) = candidates[..block.len()].get(done) else { return Some(done) };
                let record = records.next()?;
                done += 1;
                if let Err((record, index)) = meet(slots, marks, *index as usize, *position, record, visitor) {
                    break (record, *position, index as u32);
                }
            };
            let (record, position, index) = missing;
            let place = self.insert(Place { chunk: 0, index }, visitor.missing(&record, position));
            visitor.found(self.entry_mut(place), record);
            if self.form != form {
                return Some(done);
            }
        }
    }

    /// Visits the keys of a table that need not be in the cache: asks for the home slots of [`AHEAD`] keys ahead. Answers how many hashes are used up, all of
    /// them or those up to the insertion that gave the table another form; nothing if there are no records any more.
    #[inline(always)]
    fn visit_ahead<N: Visitor<K, V>>(
        &mut self,
        hashes: &[u64],
        records: &mut impl Iterator<Item = N::Record>,
        visitor: &mut N,
    ) -> Option<usize> {
        let form = self.form;
        let mut homes = [Home::default(); AHEAD];
        for (home, hash) in homes.iter_mut().zip(hashes) {
            *home = self.home(visitor.position(*hash));
            prefetch_home(&self.chunks, *home);
        }
        let mut done = 0;
        loop {
            // The loop within holds what it reads of the table in registers, and is left for an insertion.
            let (chunks, directory) = (&mut self.chunks[..], &self.directory[..]);
            let (scale, shift) = (self.scale, self.shift);
            let missing = loop {
                if done == hashes.len() {
                    return Some(done);
                }
                let record = records.next()?;
                let home = homes[done % AHEAD];
                if let Some(hash) = hashes.get(done + AHEAD) {
                    let position = visitor.position(*hash);
                    let spread = u64::from(position.get()).wrapping_mul(scale);
                    let ahead = self::home(directory, chunks, shift, spread, position);
                    prefetch_home(chunks, ahead);
                    homes[done % AHEAD] = ahead;
                }
                done += 1;
                let Chunk { slots, marks, .. } = &mut chunks[home.chunk as usize];
                let first = pass_over(slots, home);
                if let Err((record, index)) = meet(slots, marks, first, home.position, record, visitor) {
                    break (record, home.position, Place { chunk: home.chunk, index: index as u32 });
                }
            };
            let (record, position, place) = missing;
            let place = self.insert(place, visitor.missing(&record, position));
            visitor.found(self.entry_mut(place), record);
            if self.form != form {
                return Some(done);
            }
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
                    chunk.allocate(self.marked);
                }
                let index = place.index as usize;
                if let Some(distance) = chunk.slots[index..].iter().position(Option::is_none) {
                    chunk.slots[index..=index + distance].rotate_right(1);
                    chunk.moved_up(index, index + distance);
                    let newest = chunk.marks.get(index >> BLOCK_BITS).copied().unwrap_or(0).max(age(entry.epoch));
                    chunk.mark(index, newest);
                    chunk.slots[index] = Some(entry);
                    chunk.entries += 1;
                    self.entries += 1;
                    return place;
                }
                if chunk.entries < chunk.limit / 2 {
                    // Many equal or neighbouring positions at the end of a nearly empty chunk: growing would not help.
                    chunk.lengthen(chunk.slots.len() + 16);
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
        chunk.moved_down(index, end);
        chunk.entries -= 1;
        self.entries -= 1;
        entry
    }

    /// Doubles a chunk, or splits it in two when it is as large as chunks get.
    #[cold]
    #[inline(never)]
    fn grow(&mut self, number: usize) {
        let (depth, bits) = (self.chunks[number].depth, self.chunks[number].bits);
        self.form = self.form.wrapping_add(1);
        if bits < Chunk::<K, V>::SPLIT_BITS {
            let mut wider = Chunk::new(number, depth, bits + 1);
            wider.allocate(self.marked);
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
        low.allocate(self.marked);
        high.allocate(self.marked);
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
        // Below every chunk's limit, with room for uneven filling: three fifths full, and a table of one chunk that is not as large as chunks get two fifths.
        let entries = entries.min(u32::MAX as usize);
        let small = (entries * 5 / 2).max(1 << FIRST_BITS).next_power_of_two();
        let largest_chunk = 1_usize << Chunk::<K, V>::SPLIT_BITS;
        let slots =
            if small < largest_chunk { small } else { (entries * 5 / 3).next_power_of_two().max(largest_chunk) };
        let bits = (slots.ilog2() as u8).min(Chunk::<K, V>::SPLIT_BITS);
        let depth = slots.ilog2() as u8 - bits;
        self.form = self.form.wrapping_add(1);
        self.chunks = (0..1 << depth).map(|number| Chunk::new(number, depth, bits)).collect();
        self.shift = 64 - u32::from(depth.max(1));
        self.directory = if depth == 0 { vec![0, 0] } else { (0..1 << depth).collect() };
    }
}
