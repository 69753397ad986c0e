//! Aggregating state: per key one accumulator, to which records of another type are added.

use std::any::type_name;
use std::borrow::Cow;
use std::cell::Cell;
use std::marker::PhantomData;

use crate::record::Record;

use super::descriptor::{StateDescriptor, StateKind};
use super::set::{Guard, State};
use super::slots::Epoch;
use super::value::{Value, ValueAccess, ValueContent};

/// How an [`Aggregating`] state takes what is added to it. Implemented by a type of its own rather than held as functions, so that the calls are no indirect ones.
pub trait AggregateFunction: Send + 'static {
    /// What is added.
    type In;
    /// What is stored.
    type Accumulator: Record;
    /// What is read.
    type Out;

    /// An accumulator to which nothing was added.
    fn create() -> Self::Accumulator;

    /// Adds to the accumulator.
    fn add(accumulator: &mut Self::Accumulator, added: Self::In);

    /// What the accumulator stands for.
    fn result(accumulator: &Self::Accumulator) -> Self::Out;
}

/// Declares a state that holds per key the accumulator of the [`AggregateFunction`] `F`.
///
/// ```
/// use alluvium::state::{Aggregating, AggregateFunction, StateSet};
///
/// struct Mean;
///
/// impl AggregateFunction for Mean {
///     type In = f64;
///     type Accumulator = (u64, f64);
///     type Out = f64;
///
///     fn create() -> (u64, f64) {
///         (0, 0.0)
///     }
///
///     fn add((count, sum): &mut (u64, f64), added: f64) {
///         *count += 1;
///         *sum += added;
///     }
///
///     fn result((count, sum): &(u64, f64)) -> f64 {
///         sum / *count as f64
///     }
/// }
///
/// let state = Aggregating::<Mean>::named("mean delay");
/// assert_eq!(state.names(), ["mean delay"]);
/// ```
#[derive(Debug)]
pub struct Aggregating<F> {
    name: Cow<'static, str>,
    function: PhantomData<fn() -> F>,
}

impl<F> Clone for Aggregating<F> {
    fn clone(&self) -> Aggregating<F> {
        Aggregating { name: self.name.clone(), function: PhantomData }
    }
}

impl<F: AggregateFunction> Aggregating<F> {
    /// Declares the state under a name that is unique in its operator; stored state is found again by it.
    #[must_use]
    pub fn named(name: impl Into<Cow<'static, str>>) -> Aggregating<F> {
        Aggregating { name: name.into(), function: PhantomData }
    }
}

/// It is stored as a value state is, under a kind of its own.
impl<F: AggregateFunction> State for Aggregating<F> {
    type Content = ValueContent<F::Accumulator>;
    type Access<'a> = AggregatingAccess<'a, F>;

    fn descriptor(&self) -> StateDescriptor {
        StateDescriptor::new(StateKind::Aggregating, &*self.name, &[type_name::<F::Accumulator>()])
    }

    #[inline]
    fn access<'a>(
        content: &'a mut ValueContent<F::Accumulator>,
        changed: &'a Cell<Epoch>,
        guard: Guard<'a>,
    ) -> AggregatingAccess<'a, F> {
        AggregatingAccess { value: <Value<F::Accumulator> as State>::access(content, changed, guard) }
    }
}

/// The accumulator under the current key. Reading costs nothing; whatever changes it first keeps the old one for the snapshots that are being written.
pub struct AggregatingAccess<'a, F: AggregateFunction> {
    value: ValueAccess<'a, F::Accumulator>,
}

impl<F: AggregateFunction> AggregatingAccess<'_, F> {
    /// What the accumulator stands for, if anything was added.
    #[must_use]
    pub fn get(&self) -> Option<F::Out> {
        self.value.get().map(F::result)
    }

    /// The accumulator itself, if anything was added.
    #[must_use]
    pub fn accumulator(&self) -> Option<&F::Accumulator> {
        self.value.get()
    }

    /// Adds to the accumulator.
    pub fn add(&mut self, added: F::In) {
        F::add(self.value.get_or_insert_with(F::create), added);
    }

    /// Removes the accumulator.
    pub fn clear(&mut self) {
        self.value.clear();
    }
}
