//! What stands under one key: a single value that is always there ([`Plain`]), or the contents of several states.

use serde::de::DeserializeOwned;

use crate::record::{KeyError, Record};

use super::encode::{EncodeKey, Room, put};
use super::slots::{Epoch, is_fresh};
use super::snapshot::{Capture, EncodeError, Within};
use super::tombstones::Tombstones;

/// Everything that an operator stores under one key. Implemented here only: by [`Plain`], and by the rows of the
/// [`StateSet`](super::StateSet)s.
pub trait Row: Send + Sized + 'static {
    /// How many states share the row.
    #[doc(hidden)]
    const STATES: u16;

    /// Whether one stored entry is a whole row, so that a second one for the same key is an error.
    #[doc(hidden)]
    const IS_ONE_ENTRY: bool = false;

    /// Whether nothing is stored: the key can go.
    #[doc(hidden)]
    fn is_empty(&self) -> bool;

    /// Encodes the units that a snapshot wants, `from` on, within its budget; answers where it stopped, or nothing when
    /// it is through. `changed` is the epoch of the entry's last change.
    #[doc(hidden)]
    fn capture<K: EncodeKey + ?Sized>(
        &self,
        key: &K,
        changed: Epoch,
        from: Within,
        capture: &mut Capture<'_>,
    ) -> Result<Option<Within>, EncodeError>;

    /// Reads one stored entry of a state behind its key, into the row of that key if there is one, or else into a new
    /// row.
    #[doc(hidden)]
    fn restore(
        row: Option<&mut Self>,
        state: u16,
        entry: &mut Decoder<'_>,
        context: Restoring,
    ) -> Result<Option<Self>, RestoreError>;

    /// Reads what stands behind the key in one stored removal of a state, and removes that from the row of the key if there is one. Answers whether the row is
    /// of no use any more.
    #[doc(hidden)]
    fn forget(
        row: Option<&mut Self>,
        state: u16,
        removal: &mut Decoder<'_>,
        context: Restoring,
    ) -> Result<bool, RestoreError>;

    /// The whole row is about to go: leaves the tombstones of all that is in it. `stamp` is that of the entry.
    #[doc(hidden)]
    fn bury<K: EncodeKey + ?Sized>(&self, key: &K, stamp: Epoch, burial: Burial<'_>);
}

/// Where tombstones go: those of one key group in the current epoch.
pub struct Burial<'a> {
    pub(super) tombstones: &'a mut Tombstones,
    pub(super) group: u32,
    pub(super) epoch: Epoch,
}

impl Burial<'_> {
    /// A unit that was stamped so is about to go; `encode` appends what names it.
    #[inline]
    pub(super) fn unit(
        &mut self,
        state: u16,
        stamp: Epoch,
        encode: impl Fn(&mut Room<'_>) -> Result<(), rmp_serde::encode::Error>,
    ) {
        if !is_fresh(stamp, self.epoch) {
            self.tombstones.add(self.epoch, self.group, state, encode);
        }
    }
}

/// Reads the entries of a chunk.
pub(super) type Decoder<'a> = rmp_serde::Deserializer<rmp_serde::decode::ReadRefReader<'a, [u8]>>;

/// What a restored row needs of its table.
#[derive(Clone, Copy, Debug)]
pub struct Restoring {
    pub(super) epoch: Epoch,
    pub(super) seed: u64,
    /// Whether the entries are those of an increment: newer ones take the place of older ones.
    pub(super) newer: bool,
    /// Whether collections have marks of their newest changes.
    pub(super) marked: bool,
}

/// Why a stored entry cannot be restored, before key group and state are known.
#[derive(Debug)]
pub enum RestoreError {
    /// The bytes do not decode.
    Decode(String),
    /// It is there already.
    Duplicate,
    /// A user key of a map cannot be hashed.
    Key(KeyError),
}

#[inline]
pub(super) fn decode<T: DeserializeOwned>(entry: &mut Decoder<'_>) -> Result<T, RestoreError> {
    T::deserialize(entry).map_err(|error| RestoreError::Decode(error.to_string()))
}

/// The row of an operator with one value per key that is there as long as the key: what `reduce` and `aggregate` use.
/// The smallest and fastest row.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Plain<A>(pub(super) A);

impl<A: Record> Row for Plain<A> {
    const STATES: u16 = 1;
    const IS_ONE_ENTRY: bool = true;

    #[inline]
    fn is_empty(&self) -> bool {
        false
    }

    #[inline(always)]
    fn capture<K: EncodeKey + ?Sized>(
        &self,
        key: &K,
        changed: Epoch,
        _: Within,
        capture: &mut Capture<'_>,
    ) -> Result<Option<Within>, EncodeError> {
        capture.spend(1);
        if capture.wants(changed) {
            capture.entry(0, |room| {
                key.encode(room)?;
                put(room, &self.0)
            })?;
        }
        Ok(None)
    }

    fn restore(
        row: Option<&mut Self>,
        _: u16,
        entry: &mut Decoder<'_>,
        context: Restoring,
    ) -> Result<Option<Self>, RestoreError> {
        match row {
            Some(row) if context.newer => {
                row.0 = decode(entry)?;
                Ok(None)
            }
            Some(_) => Err(RestoreError::Duplicate),
            None => Ok(Some(Plain(decode(entry)?))),
        }
    }

    fn forget(_: Option<&mut Self>, _: u16, _: &mut Decoder<'_>, _: Restoring) -> Result<bool, RestoreError> {
        Ok(true)
    }

    fn bury<K: EncodeKey + ?Sized>(&self, key: &K, stamp: Epoch, mut burial: Burial<'_>) {
        burial.unit(0, stamp, |room| key.encode(room));
    }
}

/// How a table's slots hold rows: [`Inline`], or in a `Box` when they are [large](is_large).
pub trait Hold<R>: Send + Sized + 'static {
    /// Wraps a row.
    fn hold(row: R) -> Self;
    /// The row.
    fn row(&self) -> &R;
    /// The row, to change.
    fn row_mut(&mut self) -> &mut R;
}

/// Rows of more bytes than this stand in a box: slots are moved when neighbours come and go, and empty ones cost as much
/// as full ones.
pub const LARGE_ROW_BYTES: usize = 64;

/// Whether a row of type `R` should be held in a `Box<R>`. A constant, so that the branch which is not taken is not compiled:
/// `if is_large::<R>() { build::<Table<K, R, Box<R>>>() } else { build::<Table<K, R>>() }`.
#[must_use]
pub const fn is_large<R>() -> bool {
    size_of::<R>() > LARGE_ROW_BYTES
}

/// A row that stands in the slot itself.
#[derive(Clone, Debug)]
#[repr(transparent)]
pub struct Inline<R>(R);

impl<R: Send + 'static> Hold<R> for Inline<R> {
    #[inline(always)]
    fn hold(row: R) -> Inline<R> {
        Inline(row)
    }

    #[inline(always)]
    fn row(&self) -> &R {
        &self.0
    }

    #[inline(always)]
    fn row_mut(&mut self) -> &mut R {
        &mut self.0
    }
}

impl<R: Send + 'static> Hold<R> for Box<R> {
    #[inline]
    fn hold(row: R) -> Box<R> {
        Box::new(row)
    }

    #[inline]
    fn row(&self) -> &R {
        self
    }

    #[inline]
    fn row_mut(&mut self) -> &mut R {
        self
    }
}
