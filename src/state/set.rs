//! The states that an operator declares: one, or a tuple of up to six, which share one row per key.

use std::cell::{Cell, RefCell};

use super::descriptor::StateDescriptor;
use super::encode::{EncodeKey, Room};
use super::row::{Burial, Decoder, RestoreError, Restoring, Row};
use super::slots::{Epoch, age};
use super::snapshot::{Address, Capture, EncodeError, Snapshots, Within};

/// A set of states: [`Value`](super::Value), [`List`](super::List), [`Map`](super::Map), [`Reducing`](super::Reducing), [`Aggregating`](super::Aggregating),
/// or a tuple of two to six of them.
///
/// ```
/// use alluvium::state::{List, StateSet, Value};
///
/// let states = (Value::<u64>::named("total"), List::<String>::named("last lines"));
/// assert_eq!(states.names(), ["total", "last lines"]);
/// ```
pub trait StateSet: Clone + Send + 'static {
    /// What stands in the table under one key.
    type Row: Row + Default;
    /// What user code gets to read and change the states of one key: for a tuple, a tuple of accessors.
    type Access<'a>;

    /// The states in the order in which blobs list them.
    fn descriptors(&self) -> Vec<StateDescriptor>;

    /// The names in the same order. Two equal ones are an error when the job is built, see
    /// [`check_names`](super::check_names).
    fn names(&self) -> Vec<String> {
        self.descriptors().into_iter().map(|descriptor| descriptor.name).collect()
    }

    /// Lends a row to user code.
    #[doc(hidden)]
    fn access<'a>(row: &'a mut Self::Row, changed: &'a Cell<Epoch>, guard: Guard<'a>) -> Self::Access<'a>;
}

/// One state of a set.
pub trait State: Clone + Send + 'static {
    /// What is stored under one key.
    #[doc(hidden)]
    type Content: Content;
    /// What user code gets.
    type Access<'a>;

    /// What the header of a blob says about it.
    fn descriptor(&self) -> StateDescriptor;

    /// Lends the content under one key to user code.
    #[doc(hidden)]
    fn access<'a>(content: &'a mut Self::Content, changed: &'a Cell<Epoch>, guard: Guard<'a>) -> Self::Access<'a>;
}

/// What one state stores under one key.
#[doc(hidden)]
pub trait Content: Default + Send + 'static {
    fn is_empty(&self) -> bool;

    /// As [`Row::capture`], for the units of one state from number `from` on.
    fn capture<K: EncodeKey + ?Sized>(
        &self,
        key: &K,
        changed: Epoch,
        state: u16,
        from: u64,
        capture: &mut Capture<'_>,
    ) -> Result<Option<u64>, EncodeError>;

    fn restore(&mut self, entry: &mut Decoder<'_>, context: Restoring) -> Result<(), RestoreError>;

    /// As [`Row::forget`], for one state.
    fn forget(content: Option<&mut Self>, removal: &mut Decoder<'_>, context: Restoring) -> Result<(), RestoreError>;

    /// As [`Row::bury`], for one state that is stamped so.
    fn bury<K: EncodeKey + ?Sized>(&self, key: &K, state: u16, stamp: Epoch, burial: &mut Burial<'_>);
}

/// What an accessor needs to keep the old content for the open snapshots before it changes it.
#[derive(Clone, Copy)]
pub struct Guard<'a> {
    pub(super) snapshots: &'a RefCell<Snapshots>,
    /// Whether a snapshot is open.
    pub(super) watched: bool,
    /// Whether increments are wanted: removals leave tombstones, and collections have marks.
    pub(super) recorded: bool,
    /// Set when anything changes.
    pub(super) dirty: &'a Cell<bool>,
    pub(super) key: &'a dyn EncodeKey,
    pub(super) address: Address,
    pub(super) state: u16,
    epoch: Epoch,
    pub(super) seed: u64,
}

impl<'a> Guard<'a> {
    #[inline]
    pub(super) fn new(
        snapshots: &'a RefCell<Snapshots>,
        (watched, recorded): (bool, bool),
        dirty: &'a Cell<bool>,
        key: &'a dyn EncodeKey,
        address: Address,
        epoch: Epoch,
        seed: u64,
    ) -> Guard<'a> {
        Guard { snapshots, watched, recorded, dirty, key, address, state: 0, epoch, seed }
    }

    pub(super) fn of(self, state: u16) -> Guard<'a> {
        Guard { state, ..self }
    }

    /// The current epoch, for something that changes now.
    #[inline(always)]
    pub(super) fn changing(&self) -> Epoch {
        self.dirty.set(true);
        self.epoch
    }

    /// Units are about to go: `leave` leaves their tombstones.
    #[inline]
    pub(super) fn bury(&self, leave: impl FnOnce(&mut Burial<'_>)) {
        if self.recorded {
            self.bury_units(leave);
        }
    }

    #[inline(never)]
    fn bury_units(&self, leave: impl FnOnce(&mut Burial<'_>)) {
        let snapshots = &mut *self.snapshots.borrow_mut();
        let group = snapshots.span.group_of(self.address.position);
        leave(&mut Burial { tombstones: &mut snapshots.tombstones, group, epoch: self.epoch });
    }

    /// A unit with this stamp is about to change or go: `encode` appends its entry.
    #[inline]
    pub(super) fn preserve_unit(
        &self,
        stamp: Epoch,
        unit: u64,
        encode: impl Fn(&mut Room<'_>) -> Result<(), rmp_serde::encode::Error>,
    ) {
        if self.watched && age(stamp) < self.epoch {
            let within = Within { state: self.state, unit };
            self.snapshots.borrow_mut().preserve_unit(self.address, within, age(stamp), encode);
        }
    }

    /// All units of the state are about to go.
    pub(super) fn preserve_all(&self, content: &impl Content) {
        if self.watched {
            let snapshots = &mut *self.snapshots.borrow_mut();
            let group = snapshots.span.group_of(self.address.position);
            snapshots.each_wanting(self.address, self.state, group, |from, capture| {
                content.capture(self.key, Epoch::MIN, self.state, from, capture).map(|_| ())
            });
        }
    }
}

/// The row of a set of one state. Its epoch is that of the entry.
#[derive(Clone, Debug, Default)]
#[doc(hidden)]
#[repr(transparent)]
pub struct Single<C>(pub(super) C);

impl<C: Content> Row for Single<C> {
    const STATES: u16 = 1;

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn capture<K: EncodeKey + ?Sized>(
        &self,
        key: &K,
        changed: Epoch,
        from: Within,
        capture: &mut Capture<'_>,
    ) -> Result<Option<Within>, EncodeError> {
        let stopped = self.0.capture(key, changed, 0, from.unit, capture)?;
        Ok(stopped.map(|unit| Within { state: 0, unit }))
    }

    fn restore(
        row: Option<&mut Self>,
        _: u16,
        entry: &mut Decoder<'_>,
        context: Restoring,
    ) -> Result<Option<Self>, RestoreError> {
        match row {
            Some(row) => row.0.restore(entry, context).map(|()| None),
            None => {
                let mut row = Single(C::default());
                row.0.restore(entry, context)?;
                Ok(Some(row))
            }
        }
    }

    fn forget(
        row: Option<&mut Self>,
        _: u16,
        removal: &mut Decoder<'_>,
        context: Restoring,
    ) -> Result<bool, RestoreError> {
        match row {
            Some(row) => {
                C::forget(Some(&mut row.0), removal, context)?;
                Ok(row.is_empty())
            }
            None => C::forget(None, removal, context).map(|()| false),
        }
    }

    fn bury<K: EncodeKey + ?Sized>(&self, key: &K, stamp: Epoch, mut burial: Burial<'_>) {
        self.0.bury(key, 0, stamp, &mut burial);
    }
}

impl<S: State> StateSet for S {
    type Row = Single<S::Content>;
    type Access<'a> = <S as State>::Access<'a>;

    fn descriptors(&self) -> Vec<StateDescriptor> {
        vec![self.descriptor()]
    }

    #[inline]
    fn access<'a>(row: &'a mut Self::Row, changed: &'a Cell<Epoch>, guard: Guard<'a>) -> Self::Access<'a> {
        <S as State>::access(&mut row.0, changed, guard)
    }
}

/// One state in the row of several: its epoch stands beside it, because the others change without it.
#[derive(Clone, Debug)]
#[doc(hidden)]
pub struct Part<C> {
    pub(super) changed: Epoch,
    pub(super) content: C,
}

impl<C: Default> Default for Part<C> {
    fn default() -> Part<C> {
        Part { changed: Epoch::MIN, content: C::default() }
    }
}

macro_rules! tuples {
    ($($count:literal: $($state:ident $number:tt),+;)+) => {$(
        impl<$($state: Content),+> Row for ($(Part<$state>,)+) {
            const STATES: u16 = $count;

            fn is_empty(&self) -> bool {
                $(self.$number.content.is_empty())&&+
            }

            fn capture<K: EncodeKey + ?Sized>(
                &self,
                key: &K,
                _: Epoch,
                from: Within,
                capture: &mut Capture<'_>,
            ) -> Result<Option<Within>, EncodeError> {
                $(if from.state <= $number {
                    let unit = if from.state == $number { from.unit } else { 0 };
                    let part = &self.$number;
                    if let Some(unit) = part.content.capture(key, age(part.changed), $number, unit, capture)? {
                        return Ok(Some(Within { state: $number, unit }));
                    }
                })+
                Ok(None)
            }

            fn restore(
                row: Option<&mut Self>,
                state: u16,
                entry: &mut Decoder<'_>,
                context: Restoring,
            ) -> Result<Option<Self>, RestoreError> {
                let mut fresh = None;
                let row = match row {
                    Some(row) => row,
                    None => fresh.insert(Self::default()),
                };
                match state {
                    $($number => {
                        row.$number.content.restore(entry, context)?;
                        row.$number.changed = context.epoch;
                    })+
                    _ => return Err(RestoreError::Decode(format!("the operator has no state number {state}"))),
                }
                Ok(fresh)
            }

            fn forget(
                mut row: Option<&mut Self>,
                state: u16,
                removal: &mut Decoder<'_>,
                context: Restoring,
            ) -> Result<bool, RestoreError> {
                match state {
                    $($number => {
                        $state::forget(row.as_deref_mut().map(|row| &mut row.$number.content), removal, context)?;
                    })+
                    _ => return Err(RestoreError::Decode(format!("the operator has no state number {state}"))),
                }
                Ok(row.is_some_and(|row| row.is_empty()))
            }

            fn bury<Key: EncodeKey + ?Sized>(&self, key: &Key, _: Epoch, mut burial: Burial<'_>) {
                $(self.$number.content.bury(key, $number, self.$number.changed, &mut burial);)+
            }
        }

        impl<$($state: State),+> StateSet for ($($state,)+) {
            type Row = ($(Part<$state::Content>,)+);
            type Access<'a> = ($(<$state as State>::Access<'a>,)+);

            fn descriptors(&self) -> Vec<StateDescriptor> {
                vec![$(self.$number.descriptor()),+]
            }

            fn access<'a>(row: &'a mut Self::Row, _: &'a Cell<Epoch>, guard: Guard<'a>) -> Self::Access<'a> {
                ($(<$state as State>::access(
                    &mut row.$number.content,
                    Cell::from_mut(&mut row.$number.changed),
                    guard.of($number),
                ),)+)
            }
        }
    )+};
}

tuples! {
    2: A 0, B 1;
    3: A 0, B 1, C 2;
    4: A 0, B 1, C 2, D 3;
    5: A 0, B 1, C 2, D 3, E 4;
    6: A 0, B 1, C 2, D 3, E 4, F 5;
}
