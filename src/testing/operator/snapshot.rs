//! A snapshot of an operator as a value.

use std::fmt;
use std::sync::Arc;

use alluvium_actors::ports::store::{CheckpointStore, Manifest, StoreError};

use super::JOB;
use super::error::OperatorTestError;
use super::operator_state::OperatorStateView;
use super::state::{Contents, KeyedStateView, has_operator_state, uids};
use crate::record::Key;
use crate::snapshot::{Archive, Store, StoreOptions};
use crate::state::{OperatorStateSet, StateSet};

/// What a checkpoint holds of an operator, of all its subtasks: the very bytes that a store would hold. A value: it can be restored any number of times,
/// and kept as a file.
///
/// Kept in a repository, such a file tests that a later version of the operator reads the state of an earlier one:
///
/// ```
/// use alluvium::Stream;
/// use alluvium::testing::operator::{OperatorTest, OperatorTestError, Snapshot};
///
/// let test = OperatorTest::new(|numbers: Stream<u64>| {
///     numbers.key_by_value(|number| number % 10).reduce("sums", |a, b| a + b)
/// });
/// let mut running = test.start()?;
/// running.push_all([1, 11, 2])?;
/// let bytes = running.snapshot()?.to_bytes();
///
/// let mut later = test.restore(&Snapshot::from_bytes(&bytes)?)?;
/// later.push(21)?;
/// assert_eq!(later.take_output(), [33]);
/// # Ok::<(), OperatorTestError>(())
/// ```
#[derive(Clone)]
pub struct Snapshot {
    archive: Arc<Archive>,
    manifest: Arc<Manifest>,
}

impl Snapshot {
    pub(super) fn new(archive: Archive, manifest: Manifest) -> Snapshot {
        Snapshot { archive: Arc::new(archive), manifest: Arc::new(manifest) }
    }

    /// The snapshot in `bytes`.
    ///
    /// # Errors
    /// When the bytes are damaged, or something else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Snapshot, OperatorTestError> {
        let archive = Archive::from_bytes(bytes)?;
        let store = archive.unpack(StoreOptions::new(JOB, 0))?;
        let manifest = store.recover()?.ok_or_else(incomplete)?;
        for blob in manifest.blobs() {
            store.verify_blob(blob)?;
        }
        Ok(Snapshot::new(archive, manifest))
    }

    /// The snapshot as bytes, for [`Snapshot::from_bytes`]. `docs/formats.md` describes them.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.archive.to_bytes()
    }

    /// The number of the checkpoint.
    #[must_use]
    pub fn checkpoint(&self) -> u64 {
        self.manifest.checkpoint.0
    }

    /// How many subtasks the operator had; nothing if it has no such operator with state.
    #[must_use]
    pub fn parallelism(&self, uid: &str) -> Option<u32> {
        self.manifest.shapes.iter().find(|shape| shape.uid.as_str() == uid).map(|shape| shape.parallelism)
    }

    /// The uids of the operators with keyed or operator state.
    #[must_use]
    pub fn operators(&self) -> Vec<String> {
        let mut all = uids(&self.manifest);
        all.extend(has_operator_state(&self.manifest));
        all.sort();
        all.dedup();
        all
    }

    /// Reads states of operator `uid`: one, or all of those that it declares (`MyOperator.state()`).
    ///
    /// # Errors
    /// When there is no such operator or state, or it is of another kind or type.
    pub fn state<K: Key, S: StateSet>(&self, uid: &str, states: S) -> Result<KeyedStateView<K, S>, OperatorTestError> {
        KeyedStateView::read(&Arc::new(self.unpack(0)?), &self.manifest, uid, &states)
    }

    /// Reads operator states of operator `uid`: one, or all of those that it declares (`MyOperator.state()`).
    ///
    /// # Errors
    /// When there is no such operator or state, or it is of another kind or type.
    pub fn operator_state<S: OperatorStateSet>(
        &self,
        uid: &str,
        states: S,
    ) -> Result<OperatorStateView<S>, OperatorTestError> {
        OperatorStateView::read(&Arc::new(self.unpack(0)?), &self.manifest, uid, &states)
    }

    pub(super) fn contents(&self) -> Result<Contents, OperatorTestError> {
        Contents::read(&Arc::new(self.unpack(0)?), &self.manifest)
    }

    /// A store that holds it.
    pub(super) fn unpack(&self, seed: u64) -> Result<Store, OperatorTestError> {
        Ok(self.archive.unpack(StoreOptions::new(JOB, seed))?)
    }
}

/// The keyed and the operator state, one entry a line: operator, state, key and what stands under it.
impl fmt::Display for Snapshot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.contents() {
            Ok(contents) => contents.fmt(formatter),
            Err(error) => write!(formatter, "{error}"),
        }
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Snapshot(checkpoint {}, {} bytes)", self.manifest.checkpoint, self.archive.length())
    }
}

/// A store of objects without a checkpoint.
pub(super) fn incomplete() -> OperatorTestError {
    let file = "a snapshot of an operator".to_owned();
    OperatorTestError::Snapshot(StoreError::Damaged { file, reason: "it holds no checkpoint".to_owned() })
}
