//! What a snapshot says about each state: name, kind, types, encoding; and how the states of a snapshot find the states of
//! an operator again.

use std::fmt;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::error::StateError;

/// The encoding of keys and values: MessagePack, structs as maps with the names of their fields.
pub const STATE_ENCODING: &str = "msgpack-named";
/// The version of the code that writes chunks.
pub const STATE_WRITER: u32 = 1;

/// The kind of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StateKind {
    /// One value per key.
    Value,
    /// A list of elements per key.
    List,
    /// A map from user keys to values per key.
    Map,
    /// One value per key, into which others were combined.
    Reducing,
    /// One accumulator per key.
    Aggregating,
    /// A list in each instance of an operator, dealt out over the instances when it is restored.
    SplitList,
    /// A list in each instance of an operator, of which each instance gets all when it is restored.
    UnionList,
    /// A map that is the same in every instance of an operator.
    BroadcastMap,
}

impl fmt::Display for StateKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            StateKind::Value => "value",
            StateKind::List => "list",
            StateKind::Map => "map",
            StateKind::Reducing => "reducing",
            StateKind::Aggregating => "aggregating",
            StateKind::SplitList => "split list",
            StateKind::UnionList => "union list",
            StateKind::BroadcastMap => "broadcast map",
        })
    }
}

/// One state of an operator as the header of a blob describes it. The chunks of the blob name a state by its position in
/// the header's list of descriptors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StateDescriptor {
    /// What kind of state it is.
    pub kind: StateKind,
    /// The name, unique in its operator. States are found again by it.
    pub name: String,
    /// The XXH3-64 of the Rust names of the stored types. Two builds may name one type differently, and a type may
    /// change under its name, so it only helps to explain an error: no restore is refused for it.
    pub fingerprint: u64,
    /// The version of the code that wrote the chunks, [`STATE_WRITER`] today.
    pub writer: u32,
    /// How keys and values are encoded, [`STATE_ENCODING`] today.
    pub encoding: String,
    /// How long an entry lives, in milliseconds; nothing for states that live until they are cleared.
    pub time_to_live: Option<u64>,
}

impl StateDescriptor {
    /// Describes a state as this version writes it. `types` are the Rust names of the stored types.
    #[must_use]
    pub fn new(kind: StateKind, name: impl Into<String>, types: &[&str]) -> StateDescriptor {
        StateDescriptor {
            kind,
            name: name.into(),
            fingerprint: xxh3_64(types.join("\n").as_bytes()),
            writer: STATE_WRITER,
            encoding: STATE_ENCODING.to_owned(),
            time_to_live: None,
        }
    }
}

/// Which state of the operator each state of a snapshot belongs to, found by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateMapping {
    /// Nothing for a stored state that is not wanted.
    current: Vec<Option<u16>>,
}

impl StateMapping {
    /// Matches the states of a snapshot, in the order of its header, with those of the operator. States may have been
    /// reordered and added.
    ///
    /// # Errors
    /// When a stored state is not declared any more, is stored twice, has another kind or another time to live, or was
    /// written in an unknown encoding.
    pub fn new(stored: &[StateDescriptor], current: &[StateDescriptor]) -> Result<StateMapping, StateError> {
        let mapping = StateMapping::selecting(stored, current)?;
        match mapping.current.iter().position(Option::is_none) {
            None => Ok(mapping),
            Some(unknown) => Err(StateError::UnknownState(stored[unknown].name.clone())),
        }
    }

    /// As [`StateMapping::new`], for a reader that wants some of the stored states and passes over the others.
    ///
    /// # Errors
    /// When one of the wanted states is stored twice, has another kind or another time to live, or was written in an unknown
    /// encoding.
    pub fn selecting(stored: &[StateDescriptor], wanted: &[StateDescriptor]) -> Result<StateMapping, StateError> {
        check_names(stored.iter().map(|descriptor| descriptor.name.as_str()))?;
        let mut mapping = Vec::with_capacity(stored.len());
        for old in stored {
            let Some(number) = wanted.iter().position(|new| new.name == old.name) else {
                mapping.push(None);
                continue;
            };
            let new = &wanted[number];
            if new.kind != old.kind {
                return Err(StateError::KindChanged { name: old.name.clone(), stored: old.kind, current: new.kind });
            }
            if old.encoding != STATE_ENCODING || old.writer > STATE_WRITER {
                let (name, encoding) = (old.name.clone(), old.encoding.clone());
                return Err(StateError::UnknownEncoding { name, encoding, writer: old.writer });
            }
            if old.time_to_live.is_some() != new.time_to_live.is_some() {
                return Err(StateError::TimeToLiveChanged(old.name.clone()));
            }
            mapping.push(Some(number as u16));
        }
        Ok(StateMapping { current: mapping })
    }

    /// The operator's number of a stored state; nothing if there is no such state, or it is passed over.
    #[must_use]
    pub fn current(&self, stored: u16) -> Option<u16> {
        self.current.get(usize::from(stored)).copied().flatten()
    }
}

/// That no two states of an operator have the same name.
///
/// # Errors
/// [`StateError::DuplicateName`] with the first name that stands twice.
pub fn check_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<(), StateError> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(StateError::DuplicateName(name.to_owned()));
        }
    }
    Ok(())
}
