//! The operator states that an operator declares: one, or a tuple of up to six.

use std::cell::Cell;
use std::ops::Range;

use crate::state::descriptor::StateDescriptor;
use crate::state::map::MapContent;
use crate::state::row::{RestoreError, Restoring, Row};
use crate::state::set::{Content, Guard, Part, Single};
use crate::state::slots::Epoch;

/// A set of operator states: [`SplitList`](super::SplitList), [`UnionList`](super::UnionList), [`BroadcastMap`](super::BroadcastMap), or a tuple of two to six of them.
///
/// ```
/// use alluvium::state::{OperatorStateSet, SplitList, UnionList};
///
/// let states = (SplitList::<String>::named("waiting"), UnionList::<(u32, u64)>::named("positions"));
/// assert_eq!(states.names(), ["waiting", "positions"]);
/// ```
pub trait OperatorStateSet: Clone + Send + 'static {
    /// What an instance holds.
    #[doc(hidden)]
    type Row: OperatorRow;
    /// What user code gets to read and change the states: for a tuple, a tuple of accessors.
    type Access<'a>;

    /// The states in the order in which blobs list them.
    fn descriptors(&self) -> Vec<StateDescriptor>;

    /// The names in the same order. Two equal ones are an error when the job is built.
    fn names(&self) -> Vec<String> {
        self.descriptors().into_iter().map(|descriptor| descriptor.name).collect()
    }

    /// Lends the states to user code.
    #[doc(hidden)]
    fn access<'a>(row: &'a mut Self::Row, changed: &'a Cell<Epoch>, guard: Guard<'a>) -> Self::Access<'a>;
}

/// A set of [`BroadcastMap`](super::BroadcastMap)s: states that can also be lent for reading only.
pub trait BroadcastStateSet: OperatorStateSet {
    /// What user code gets to read the states: for a tuple, a tuple of views.
    type View<'a>;

    /// Lends the states to user code that does not change them.
    #[doc(hidden)]
    fn view<'a>(row: &'a mut Self::Row, changed: &'a Cell<Epoch>, guard: Guard<'a>) -> Self::View<'a>;
}

/// One state of a set.
pub trait OperatorState: Clone + Send + 'static {
    /// What an instance holds.
    #[doc(hidden)]
    type Content: OperatorContent;
    /// What user code gets.
    type Access<'a>;

    /// What the header of a blob says about it.
    fn descriptor(&self) -> StateDescriptor;

    /// Lends the content to user code.
    #[doc(hidden)]
    fn access<'a>(content: &'a mut Self::Content, changed: &'a Cell<Epoch>, guard: Guard<'a>) -> Self::Access<'a>;
}

/// One state of a [`BroadcastStateSet`].
pub trait BroadcastState: OperatorState {
    /// What user code gets that does not change it.
    type View<'a>;

    /// Lends the content for reading.
    #[doc(hidden)]
    fn view<'a>(content: &'a mut Self::Content, changed: &'a Cell<Epoch>, guard: Guard<'a>) -> Self::View<'a>;
}

/// What one operator state holds.
#[doc(hidden)]
pub trait OperatorContent: Content {
    /// Everything that one former instance stored was given to [`Content::restore`]: takes the elements `keep` of it, by their place, behind what is there.
    fn settle(&mut self, keep: Range<u64>, context: Restoring) -> Result<(), RestoreError>;
}

/// A broadcast map is taken as a whole.
impl<U: crate::record::Key, T: crate::record::Record> OperatorContent for MapContent<U, T> {
    fn settle(&mut self, _: Range<u64>, _: Restoring) -> Result<(), RestoreError> {
        Ok(())
    }
}

/// What an instance holds of all its states.
#[doc(hidden)]
pub trait OperatorRow: Row + Default {
    /// As [`OperatorContent::settle`], for the state of that number.
    fn settle(&mut self, state: u16, keep: Range<u64>, context: Restoring) -> Result<(), RestoreError>;
}

impl<C: OperatorContent> OperatorRow for Single<C> {
    fn settle(&mut self, _: u16, keep: Range<u64>, context: Restoring) -> Result<(), RestoreError> {
        self.0.settle(keep, context)
    }
}

impl<S: OperatorState> OperatorStateSet for S {
    type Row = Single<S::Content>;
    type Access<'a> = <S as OperatorState>::Access<'a>;

    fn descriptors(&self) -> Vec<StateDescriptor> {
        vec![self.descriptor()]
    }

    fn access<'a>(row: &'a mut Self::Row, changed: &'a Cell<Epoch>, guard: Guard<'a>) -> Self::Access<'a> {
        <S as OperatorState>::access(&mut row.0, changed, guard)
    }
}

impl<S: BroadcastState> BroadcastStateSet for S {
    type View<'a> = <S as BroadcastState>::View<'a>;

    fn view<'a>(row: &'a mut Self::Row, changed: &'a Cell<Epoch>, guard: Guard<'a>) -> Self::View<'a> {
        <S as BroadcastState>::view(&mut row.0, changed, guard)
    }
}

macro_rules! tuples {
    ($($($state:ident $number:tt),+;)+) => {$(
        impl<$($state: OperatorContent),+> OperatorRow for ($(Part<$state>,)+) {
            fn settle(&mut self, state: u16, keep: Range<u64>, context: Restoring) -> Result<(), RestoreError> {
                match state {
                    $($number => self.$number.content.settle(keep, context),)+
                    _ => Err(RestoreError::Decode(format!("the operator has no state number {state}"))),
                }
            }
        }

        impl<$($state: OperatorState),+> OperatorStateSet for ($($state,)+) {
            type Row = ($(Part<$state::Content>,)+);
            type Access<'a> = ($(<$state as OperatorState>::Access<'a>,)+);

            fn descriptors(&self) -> Vec<StateDescriptor> {
                vec![$(self.$number.descriptor()),+]
            }

            fn access<'a>(row: &'a mut Self::Row, _: &'a Cell<Epoch>, guard: Guard<'a>) -> Self::Access<'a> {
                ($(<$state as OperatorState>::access(
                    &mut row.$number.content,
                    Cell::from_mut(&mut row.$number.changed),
                    guard.of($number),
                ),)+)
            }
        }

        impl<$($state: BroadcastState),+> BroadcastStateSet for ($($state,)+) {
            type View<'a> = ($(<$state as BroadcastState>::View<'a>,)+);

            fn view<'a>(row: &'a mut Self::Row, _: &'a Cell<Epoch>, guard: Guard<'a>) -> Self::View<'a> {
                ($(<$state as BroadcastState>::view(
                    &mut row.$number.content,
                    Cell::from_mut(&mut row.$number.changed),
                    guard.of($number),
                ),)+)
            }
        }
    )+};
}

tuples! {
    A 0, B 1;
    A 0, B 1, C 2;
    A 0, B 1, C 2, D 3;
    A 0, B 1, C 2, D 3, E 4;
    A 0, B 1, C 2, D 3, E 4, F 5;
}
