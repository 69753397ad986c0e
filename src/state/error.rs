//! What can go wrong with keyed state.

use alluvium_actors::ids::CheckpointId;
use thiserror::Error;

use crate::record::KeyError;

use super::descriptor::StateKind;

/// An error of a state table, its snapshots or its restore.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum StateError {
    /// A key cannot be hashed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A key or value cannot be encoded for a snapshot.
    #[error("state {state:?} cannot be encoded: {message}")]
    Encode {
        /// The name of the state.
        state: String,
        /// What its `Serialize` said.
        message: String,
    },
    /// Stored bytes are not what was written, or not of the types that read them.
    #[error("stored state is damaged or of another type: {0}")]
    Damaged(String),
    /// A stored chunk is of a key group that is not one of its table, or of the subtask that stored it.
    #[error("key group {group} does not belong to this table, which owns {first} to {last}")]
    ForeignKeyGroup {
        /// The key group of the chunk.
        group: u32,
        /// The first key group of the table or the subtask.
        first: u32,
        /// The last one.
        last: u32,
    },
    /// A stored key hashes to another key group than the one that it was stored under.
    #[error(
        "a key of state {state:?} stored under key group {stored} now belongs to {current}: the key's type, the job's seed or its max parallelism changed"
    )]
    KeyMoved {
        /// The name of the state.
        state: String,
        /// The key group in the chunk.
        stored: u32,
        /// The key group of the key as it hashes now.
        current: u32,
    },
    /// The same key, or the same user key of a map, was stored twice.
    #[error("state {state:?} was stored twice for one key in key group {group}")]
    Duplicate {
        /// The name of the state.
        state: String,
        /// The key group of the chunk.
        group: u32,
    },
    /// Two states of one operator have the same name.
    #[error("two states are named {0:?}; give each state of an operator a name of its own")]
    DuplicateName(String),
    /// The snapshot holds a state that the operator no longer has.
    #[error("the snapshot holds a state {0:?} that the operator does not declare; declare it again, or start afresh")]
    UnknownState(String),
    /// A state has become one of another kind.
    #[error("state {name:?} was stored as a {stored} and is declared as a {current}; give the new state another name")]
    KindChanged {
        /// The name of the state.
        name: String,
        /// Its kind in the snapshot.
        stored: StateKind,
        /// Its kind in the operator.
        current: StateKind,
    },
    /// A state was written in an encoding, or by a writer, that this version does not read.
    #[error("state {name:?} was written as {encoding:?}, version {writer}, which this version does not read")]
    UnknownEncoding {
        /// The name of the state.
        name: String,
        /// The encoding in the snapshot.
        encoding: String,
        /// The writer's version in the snapshot.
        writer: u32,
    },
    /// A state's time to live was switched on or off.
    #[error(
        "the time to live of state {0:?} was switched on or off since it was stored; give the new state another name"
    )]
    TimeToLiveChanged(String),
    /// A snapshot was asked for that is not open.
    #[error("the table has no open snapshot of checkpoint {0}")]
    NoSuchSnapshot(CheckpointId),
    /// A checkpoint closed the epoch twice.
    #[error("the table already has an open snapshot of checkpoint {0}")]
    SnapshotExists(CheckpointId),
    /// The table has lived through 2^31 snapshots.
    #[error("the table took as many snapshots as it can count; restart the job from its last checkpoint")]
    EpochsExhausted,
}
