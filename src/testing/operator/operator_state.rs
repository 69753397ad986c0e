//! Operator state outside of its operator: read from the pieces of a checkpoint, instance by instance, by the code that restores it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use alluvium_actors::ports::store::{CheckpointStore, Manifest};

use super::error::OperatorTestError;
use super::state::{Entry, has_operator_state, stored};
use crate::operator::operator_backend::OPERATOR;
use crate::record::{Key, Record};
use crate::state::{
    BroadcastMap, ChunkHeader, OperatorStateSet, OperatorTable, Redistribution, SplitList, StateDescriptor, StateError,
    StateMapping, UnionList,
};
use crate::testing::tree::Tree;

/// The operator state of one operator as it was at a cut, by instance. What is done with it changes nothing in the operator.
///
/// ```
/// use alluvium::operator::{StatefulAccess, StatefulContext, StatefulProcess};
/// use alluvium::state::SplitList;
/// use alluvium::testing::operator::{OperatorTest, OperatorTestError};
/// use alluvium::{OperatorResult, Stream};
///
/// /// Keeps everything.
/// #[derive(Clone)]
/// struct Keep;
///
/// impl StatefulProcess for Keep {
///     type In = u64;
///     type Out = u64;
///     type State = SplitList<u64>;
///
///     fn state(&self) -> SplitList<u64> {
///         SplitList::named("kept")
///     }
///
///     fn process(&self, record: u64, mut kept: StatefulAccess<'_, Self>, _: StatefulContext<'_, Self>) -> OperatorResult {
///         kept.push(record);
///         Ok(())
///     }
/// }
///
/// let test = OperatorTest::new(|numbers: Stream<u64>| numbers.stateful_process("keep", Keep));
/// let mut running = test.start()?;
/// running.push_all([1, 2, 3])?;
/// let snapshot = running.snapshot()?;
///
/// let kept = test.parallelism(2).restore(&snapshot)?.operator_state("keep", Keep.state())?;
/// assert_eq!(kept.elements(), [1, 2, 3]);
/// assert_eq!(kept.elements_of(0), [1, 2]);
/// # Ok::<(), OperatorTestError>(())
/// ```
pub struct OperatorStateView<S: OperatorStateSet> {
    instances: BTreeMap<u32, RefCell<OperatorTable<S>>>,
}

impl<S: OperatorStateSet> OperatorStateView<S> {
    /// Reads the `wanted` states of operator `uid`.
    pub(super) fn read(
        store: &Arc<impl CheckpointStore>,
        manifest: &Manifest,
        uid: &str,
        wanted: &S,
    ) -> Result<OperatorStateView<S>, OperatorTestError> {
        let descriptors = wanted.descriptors();
        let of_other_type = |error| OperatorTestError::StateOfOtherType { uid: uid.to_owned(), error };
        let mut instances = BTreeMap::new();
        for (subtask, reader, stored) in stored(store, manifest, uid, OPERATOR)? {
            if let Some(missing) = descriptors.iter().find(|state| stored.iter().all(|found| found.name != state.name))
            {
                let (uid, state) = (uid.to_owned(), missing.name.clone());
                let stored = stored.into_iter().map(|state| state.name).collect();
                return Err(OperatorTestError::NoSuchState { uid, state, stored });
            }
            let mapping = StateMapping::selecting(&stored, &descriptors).map_err(of_other_type)?;
            let mut table = OperatorTable::new(wanted, manifest.hash_seed);
            for chunk in reader.chunks().iter().filter(|chunk| mapping.current(chunk.state as u16).is_some()) {
                table.restore_chunk(&mapping, &reader.read(chunk)?).map_err(of_other_type)?;
            }
            for state in (0..).take(descriptors.len()) {
                table.settle(state, 0..u64::MAX).map_err(of_other_type)?;
            }
            instances.insert(subtask, RefCell::new(table));
        }
        if instances.is_empty() {
            let stored = has_operator_state(manifest);
            return Err(OperatorTestError::NoSuchStatefulOperator { uid: uid.to_owned(), stored });
        }
        Ok(OperatorStateView { instances })
    }

    /// The indices of the instances that stored anything.
    #[must_use]
    pub fn subtasks(&self) -> Vec<u32> {
        self.instances.keys().copied().collect()
    }

    /// Lends the states of an instance to `look`, as the operator gets them.
    ///
    /// # Panics
    /// When there is no such instance.
    pub fn with<T>(&self, subtask: u32, look: impl FnOnce(S::Access<'_>) -> T) -> T {
        let table = self.instances.get(&subtask).unwrap_or_else(|| panic!("there is no instance {subtask}: {self:?}"));
        look(table.borrow_mut().access())
    }
}

macro_rules! lists {
    ($($list:ident)+) => {$(
        impl<T: Record> OperatorStateView<$list<T>> {
            /// The elements of all instances, instance by instance and in their order.
            #[must_use]
            pub fn elements(&self) -> Vec<T> {
                self.subtasks().into_iter().flat_map(|subtask| self.elements_of(subtask)).collect()
            }

            /// The elements of an instance, in their order.
            ///
            /// # Panics
            /// When there is no such instance.
            #[must_use]
            pub fn elements_of(&self, subtask: u32) -> Vec<T> {
                self.with(subtask, |list| list.iter().cloned().collect())
            }
        }
    )+};
}

lists! { SplitList UnionList }

impl<U: Key + Ord, T: Record> OperatorStateView<BroadcastMap<U, T>> {
    /// The entries of an instance, in the order of the user keys. Those of all instances should be the same.
    ///
    /// # Panics
    /// When there is no such instance.
    #[must_use]
    pub fn entries_of(&self, subtask: u32) -> BTreeMap<U, T> {
        self.with(subtask, |map| map.iter().map(|(user_key, value)| (user_key.clone(), value.clone())).collect())
    }
}

impl<S: OperatorStateSet> fmt::Debug for OperatorStateView<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "OperatorStateView(of the instances {:?})", self.subtasks())
    }
}

/// Reads the operator state of one operator, whatever its types are. How elements are spread over the instances is not in it, nor their order: both depend on how many instances
/// there are. Broadcast maps stand there once, or side by side when they are not the same.
pub(super) fn contents(
    store: &Arc<impl CheckpointStore>,
    manifest: &Manifest,
    uid: &str,
) -> Result<Vec<(Entry, Tree)>, OperatorTestError> {
    let mut lists: BTreeMap<String, Vec<Tree>> = BTreeMap::new();
    let mut maps: BTreeMap<String, Vec<Tree>> = BTreeMap::new();
    for (_, reader, states) in stored(store, manifest, uid, OPERATOR)? {
        for (number, state) in (0_u32..).zip(&states) {
            let mut entries = Vec::new();
            for chunk in reader.chunks().iter().filter(|chunk| chunk.state == number) {
                let read = pairs(&reader.read(chunk)?, state);
                entries
                    .extend(read.map_err(|error| OperatorTestError::StateOfOtherType { uid: uid.to_owned(), error })?);
            }
            if Redistribution::of(state.kind) == Some(Redistribution::Broadcast) {
                entries.sort();
                maps.entry(state.name.clone()).or_default().push(Tree::Map(entries));
            } else {
                let elements = entries.into_iter().map(|(_, element)| element);
                lists.entry(state.name.clone()).or_default().extend(elements);
            }
        }
    }
    let lists = lists.into_iter().map(|(state, mut elements)| {
        elements.sort();
        (state, Tree::List(elements))
    });
    let maps = maps.into_iter().map(|(state, mut maps)| {
        maps.dedup();
        let only = if maps.len() == 1 { maps.pop() } else { None };
        (state, only.unwrap_or(Tree::List(maps)))
    });
    Ok(lists.chain(maps).map(|(state, tree)| (Entry { uid: uid.to_owned(), state, key: None }, tree)).collect())
}

/// The entries of a chunk: of a list numbers and elements, of a map user keys and values.
fn pairs(bytes: &[u8], state: &StateDescriptor) -> Result<Vec<(Tree, Tree)>, StateError> {
    let (header, entries) = ChunkHeader::open(bytes)?;
    let mut decoder = rmp_serde::Deserializer::from_read_ref(entries);
    let mut next = || {
        let tree: Result<Tree, _> = serde::Deserialize::deserialize(&mut decoder);
        tree.map_err(|error| StateError::Damaged(format!("state {:?}: {error}", state.name)))
    };
    (0..header.count).map(|_| Ok((next()?, next()?))).collect()
}
