//! Keyed state outside of its operator: read from the pieces of a checkpoint, by the code that restores them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use alluvium_actors::ids::OperatorUid;
use alluvium_actors::ports::store::{CheckpointStore, Manifest};

use super::error::OperatorTestError;
use super::operator_state;
use crate::operator::operator_backend::OPERATOR;
use crate::operator::state_reading::descriptors;
use crate::operator::state_writing::KEYED;
use crate::record::{Key, Record, hash_key};
use crate::snapshot::{PieceReader, StateReader};
use crate::state::{
    AggregateFunction, Aggregating, ChunkHeader, List, Map, ReduceFunction, Reducing, StateDescriptor, StateError,
    StateKind, StateMapping, StateSet, Table, Value,
};
use crate::testing::tree::Tree;

/// The keyed state of one operator, of all its subtasks together, as it was at a cut. What is done with it changes nothing in the operator.
///
/// ```
/// # use alluvium::testing::operator::{OperatorTest, OperatorTestError};
/// # use alluvium::Stream;
/// use alluvium::state::Value;
///
/// let sums = OperatorTest::new(|numbers: Stream<(String, u64)>| {
///     numbers.key_by(|pair| &pair.0).aggregate("sums", 0_u64, |_, sum, (_, number)| {
///         *sum += number;
///         *sum
///     })
/// });
/// let mut running = sums.start()?;
/// running.push(("a".to_owned(), 3))?;
/// running.push(("a".to_owned(), 4))?;
/// // `aggregate` and `reduce` keep one state, called `value`.
/// let stored = running.state("sums", Value::<u64>::named("value"))?;
/// assert_eq!(stored.value(&"a".to_owned()), Some(7));
/// assert_eq!(stored.keys(), ["a"]);
/// # Ok::<(), OperatorTestError>(())
/// ```
pub struct KeyedStateView<K, S: StateSet> {
    table: RefCell<Table<K, S::Row>>,
}

impl<K: Key, S: StateSet> KeyedStateView<K, S> {
    /// Reads the `wanted` states of operator `uid`.
    pub(super) fn read(
        store: &Arc<impl CheckpointStore>,
        manifest: &Manifest,
        uid: &str,
        wanted: &S,
    ) -> Result<KeyedStateView<K, S>, OperatorTestError> {
        let wanted = wanted.descriptors();
        let of_other_type = |error| OperatorTestError::StateOfOtherType { uid: uid.to_owned(), error };
        let max_parallelism = max_parallelism(manifest, uid)?;
        let mut table = Table::new(0..max_parallelism, max_parallelism, manifest.hash_seed, wanted.clone());
        for (_, reader, stored) in pieces(store, manifest, uid)? {
            if let Some(missing) = wanted.iter().find(|state| stored.iter().all(|found| found.name != state.name)) {
                let (uid, state) = (uid.to_owned(), missing.name.clone());
                let stored = stored.into_iter().map(|state| state.name).collect();
                return Err(OperatorTestError::NoSuchState { uid, state, stored });
            }
            let mapping = StateMapping::selecting(&stored, &wanted).map_err(of_other_type)?;
            for chunk in reader.chunks().iter().filter(|chunk| mapping.current(chunk.state as u16).is_some()) {
                let content = reader.read(chunk)?;
                let restored = if reader.is_increment() {
                    table.apply_chunk(&mapping, &content)
                } else {
                    table.restore_chunk(&mapping, &content)
                };
                restored.map_err(of_other_type)?;
            }
        }
        Ok(KeyedStateView { table: RefCell::new(table) })
    }

    /// Lends the states of a key to `look`, as the operator gets them.
    ///
    /// # Panics
    /// When the key cannot be hashed, see [`KeyError`](crate::record::KeyError).
    pub fn with<T>(&self, key: &K, look: impl FnOnce(S::Access<'_>) -> T) -> T {
        let mut table = self.table.borrow_mut();
        let hash = hash_key(table.seed(), key).unwrap_or_else(|error| panic!("{error}"));
        table.with_states::<S, T>(hash, key, look)
    }

    /// The keys under which there is anything, in the order of their hashes.
    #[must_use]
    pub fn keys(&self) -> Vec<K> {
        self.table.borrow().iter().map(|(key, _)| key.clone()).collect()
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.borrow().len()
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Key, T: Record> KeyedStateView<K, Value<T>> {
    /// The value of a key.
    #[must_use]
    pub fn value(&self, key: &K) -> Option<T> {
        self.with(key, |value| value.get().cloned())
    }
}

impl<K: Key, T: Record> KeyedStateView<K, List<T>> {
    /// The elements of a key, in order.
    #[must_use]
    pub fn list(&self, key: &K) -> Vec<T> {
        self.with(key, |list| list.iter().cloned().collect())
    }
}

impl<K: Key, U: Key, T: Record> KeyedStateView<K, Map<U, T>> {
    /// The entries of a key, in the order of the user keys.
    #[must_use]
    pub fn map(&self, key: &K) -> BTreeMap<U, T>
    where
        U: Ord,
    {
        self.with(key, |map| map.iter().map(|(user_key, value)| (user_key.clone(), value.clone())).collect())
    }
}

impl<K: Key, F: ReduceFunction> KeyedStateView<K, Reducing<F>> {
    /// What was reduced under a key.
    #[must_use]
    pub fn reduced(&self, key: &K) -> Option<F::Value> {
        self.with(key, |reduced| reduced.get().cloned())
    }
}

impl<K: Key, F: AggregateFunction> KeyedStateView<K, Aggregating<F>> {
    /// What the accumulator of a key stands for.
    #[must_use]
    pub fn result(&self, key: &K) -> Option<F::Out> {
        self.with(key, |aggregated| aggregated.get())
    }

    /// The accumulator of a key.
    #[must_use]
    pub fn accumulator(&self, key: &K) -> Option<F::Accumulator> {
        self.with(key, |aggregated| aggregated.accumulator().cloned())
    }
}

impl<K: Key, S: StateSet> fmt::Debug for KeyedStateView<K, S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.table.borrow();
        let names: Vec<&str> = table.descriptors().iter().map(|state| state.name.as_str()).collect();
        write!(formatter, "KeyedStateView({names:?} of {} keys)", table.len())
    }
}

/// All keyed and operator state of a checkpoint, whatever its types are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Contents(pub(super) BTreeMap<Entry, Tree>);

/// Where something stands in a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) uid: String,
    pub(super) state: String,
    /// Nothing for operator state.
    pub(super) key: Option<Tree>,
}

impl Contents {
    /// Reads everything.
    pub(super) fn read(store: &Arc<impl CheckpointStore>, manifest: &Manifest) -> Result<Contents, OperatorTestError> {
        let mut contents = BTreeMap::new();
        for uid in uids(manifest) {
            for (_, reader, states) in pieces(store, manifest, &uid)? {
                for chunk in reader.chunks() {
                    let state = &states[chunk.state as usize];
                    read_chunk(&reader.read(chunk)?, state, |key, found| {
                        let entry = Entry { uid: uid.clone(), state: state.name.clone(), key: Some(key) };
                        match found {
                            Found::Content(content) => {
                                put(contents.entry(entry), content, state.kind, reader.is_increment()).map_err(
                                    |Twice| StateError::Duplicate { state: state.name.clone(), group: chunk.key_group },
                                )?;
                            }
                            Found::Removed => _ = contents.remove(&entry),
                            Found::RemovedFromMap(user_key) => remove_from_map(&mut contents, entry, &user_key),
                        }
                        Ok(())
                    })
                    .map_err(|error| OperatorTestError::StateOfOtherType { uid: uid.clone(), error })?;
                }
            }
        }
        for uid in has_operator_state(manifest) {
            contents.extend(operator_state::contents(store, manifest, &uid)?);
        }
        Ok(Contents(contents))
    }
}

/// What a chunk says of a key.
enum Found {
    /// This stands under it.
    Content(Tree),
    /// Nothing stands under it any more.
    Removed,
    /// Its map holds nothing under this user key any more.
    RemovedFromMap(Tree),
}

/// Reads the entries of one chunk: each a key, and what stands under it, or what was removed.
fn read_chunk(
    bytes: &[u8],
    state: &StateDescriptor,
    mut take: impl FnMut(Tree, Found) -> Result<(), StateError>,
) -> Result<(), StateError> {
    let (header, entries) = ChunkHeader::open(bytes)?;
    let mut decoder = rmp_serde::Deserializer::from_read_ref(entries);
    let mut next = || {
        let tree: Result<Tree, _> = serde::Deserialize::deserialize(&mut decoder);
        tree.map_err(|error| StateError::Damaged(format!("state {:?}: {error}", state.name)))
    };
    for _ in 0..header.count {
        let key = next()?;
        let found = match (state.kind, header.removals) {
            (StateKind::Map, true) if next()? == Tree::Truth(true) => Found::RemovedFromMap(next()?),
            (_, true) => Found::Removed,
            (StateKind::Map | StateKind::BroadcastMap, false) => Found::Content(Tree::Map(vec![(next()?, next()?)])),
            (
                StateKind::Value
                | StateKind::List
                | StateKind::Reducing
                | StateKind::Aggregating
                | StateKind::SplitList
                | StateKind::UnionList,
                false,
            ) => Found::Content(next()?),
        };
        take(key, found)?;
    }
    Ok(())
}

/// Something stands under a key, or under a user key of its map, that stands there already.
#[derive(Debug, PartialEq, Eq)]
struct Twice;

fn remove_from_map(contents: &mut BTreeMap<Entry, Tree>, entry: Entry, user_key: &Tree) {
    if let Some(Tree::Map(entries)) = contents.get_mut(&entry) {
        entries.retain(|(key, _)| key != user_key);
        if entries.is_empty() {
            contents.remove(&entry);
        }
    }
}

/// Adds an entry: long lists and maps stand in several, everything else in one; what an increment says is newer than what is there.
fn put(
    place: std::collections::btree_map::Entry<'_, Entry, Tree>,
    content: Tree,
    kind: StateKind,
    newer: bool,
) -> Result<(), Twice> {
    use std::collections::btree_map::Entry as Place;
    let mut occupied = match place {
        Place::Vacant(vacant) => {
            vacant.insert(content);
            return Ok(());
        }
        Place::Occupied(occupied) => occupied,
    };
    match (kind, occupied.get_mut(), content) {
        (StateKind::List, Tree::List(items), Tree::List(more)) => {
            items.extend(more);
            Ok(())
        }
        (StateKind::Map, Tree::Map(entries), Tree::Map(more)) => {
            if newer {
                entries.retain(|(key, _)| more.iter().all(|(newer, _)| newer != key));
            }
            entries.extend(more);
            entries.sort();
            let is_twice = entries.windows(2).any(|pair| pair[0].0 == pair[1].0);
            if is_twice { Err(Twice) } else { Ok(()) }
        }
        (_, stored, content) if newer => {
            *stored = content;
            Ok(())
        }
        _ => Err(Twice),
    }
}

/// The uids of the operators with keyed state.
pub(super) fn uids(manifest: &Manifest) -> Vec<String> {
    with_piece(manifest, KEYED)
}

/// The uids of the operators with operator state.
pub(super) fn has_operator_state(manifest: &Manifest) -> Vec<String> {
    with_piece(manifest, OPERATOR)
}

fn with_piece(manifest: &Manifest, piece: &str) -> Vec<String> {
    let found = manifest.operators().filter(|snapshot| snapshot.piece(piece).is_some());
    let mut uids: Vec<String> = found.map(|snapshot| snapshot.uid.to_string()).collect();
    uids.sort();
    uids.dedup();
    uids
}

fn max_parallelism(manifest: &Manifest, uid: &str) -> Result<u32, OperatorTestError> {
    let shape = manifest.shapes.iter().find(|shape| shape.uid.as_str() == uid);
    let missing = || OperatorTestError::NoSuchOperator { uid: uid.to_owned(), stored: uids(manifest) };
    shape.map(|shape| shape.max_parallelism).ok_or_else(missing)
}

/// The keyed pieces of an operator, of all its subtasks, each with the states in it.
fn pieces(
    store: &Arc<impl CheckpointStore>,
    manifest: &Manifest,
    uid: &str,
) -> Result<Vec<(u32, StateReader, Vec<StateDescriptor>)>, OperatorTestError> {
    let pieces = stored(store, manifest, uid, KEYED)?;
    if pieces.is_empty() {
        return Err(OperatorTestError::NoSuchOperator { uid: uid.to_owned(), stored: uids(manifest) });
    }
    Ok(pieces)
}

/// The pieces of that name of an operator, of all its subtasks, each with the states in it, and behind it the increments that stand on it; sorted by the subtasks.
pub(super) fn stored(
    store: &Arc<impl CheckpointStore>,
    manifest: &Manifest,
    uid: &str,
    piece: &str,
) -> Result<Vec<(u32, StateReader, Vec<StateDescriptor>)>, OperatorTestError> {
    let key = OperatorUid::new(uid);
    let mut pieces = Vec::new();
    for snapshot in manifest.operators().filter(|snapshot| snapshot.uid == key) {
        for piece in snapshot.chain(piece) {
            let store = Arc::clone(store) as Arc<dyn CheckpointStore>;
            let reader = StateReader::open(PieceReader::new(store, &piece.content))?;
            let states = descriptors(&reader, uid)?;
            pieces.push((snapshot.subtask, reader, states));
        }
    }
    // Stable: a chain keeps its order.
    pieces.sort_by_key(|(subtask, ..)| *subtask);
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands under one key when these are read one after the other.
    fn read(kind: StateKind, contents: &[Tree]) -> Result<Tree, Twice> {
        let mut all = BTreeMap::new();
        let entry = Entry { uid: "bills".to_owned(), state: "value".to_owned(), key: Some(Tree::Number(1)) };
        contents.iter().try_for_each(|content| put(all.entry(entry.clone()), content.clone(), kind, false))?;
        Ok(all.remove(&entry).unwrap())
    }

    #[test]
    fn what_is_stored_twice_for_one_key_is_an_error_and_long_lists_and_maps_are_put_together() {
        let list = |numbers: &[i128]| Tree::List(numbers.iter().copied().map(Tree::Number).collect());
        let map = |keys: &[i128]| Tree::Map(keys.iter().map(|key| (Tree::Number(*key), Tree::Nothing)).collect());
        assert_eq!(read(StateKind::List, &[list(&[3, 1]), list(&[2])]), Ok(list(&[3, 1, 2])));
        assert_eq!(read(StateKind::Map, &[map(&[3]), map(&[1])]), Ok(map(&[1, 3])));
        assert_eq!(read(StateKind::Map, &[map(&[3]), map(&[1]), map(&[3])]), Err(Twice));
        for kind in [StateKind::Value, StateKind::Reducing, StateKind::Aggregating] {
            assert_eq!(read(kind, &[Tree::Number(1)]), Ok(Tree::Number(1)));
            assert_eq!(read(kind, &[Tree::Number(1), Tree::Number(1)]), Err(Twice), "{kind:?}");
            assert_eq!(read(kind, &[list(&[1]), list(&[2])]), Err(Twice), "a value may be a list: {kind:?}");
        }
    }
}
