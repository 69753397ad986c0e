//! Reducing state: per key one value, into which every added one is combined.

use std::any::type_name;
use std::borrow::Cow;
use std::cell::Cell;
use std::marker::PhantomData;

use crate::record::Record;

use super::descriptor::{StateDescriptor, StateKind};
use super::set::{Guard, State};
use super::slots::Epoch;
use super::value::{Value, ValueAccess, ValueContent};

/// How two values of a [`Reducing`] state become one. Implemented by a type of its own rather than held as a function, so that the call is no indirect one.
pub trait ReduceFunction: Send + 'static {
    /// What is reduced.
    type Value: Record;

    /// Combines what is stored with what is added.
    fn reduce(stored: Self::Value, added: Self::Value) -> Self::Value;
}

/// Declares a state that holds per key what the [`ReduceFunction`] `F` made of all values added to it.
///
/// ```
/// use alluvium::operator::{Access, Context, KeyedProcess};
/// use alluvium::state::{ReduceFunction, Reducing};
/// use alluvium::OperatorResult;
///
/// struct Longest;
///
/// impl ReduceFunction for Longest {
///     type Value = String;
///
///     fn reduce(stored: String, added: String) -> String {
///         if added.len() > stored.len() { added } else { stored }
///     }
/// }
///
/// /// Tells for every word the longest so far with its first letter.
/// #[derive(Clone)]
/// struct Words;
///
/// impl KeyedProcess for Words {
///     type Key = char;
///     type In = String;
///     type Out = String;
///     type State = Reducing<Longest>;
///
///     fn state(&self) -> Reducing<Longest> {
///         Reducing::named("longest")
///     }
///
///     fn process(&self, word: String, mut longest: Access<'_, Self>, mut context: Context<'_, Self>) -> OperatorResult {
///         context.emit(longest.add(word).clone());
///         Ok(())
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Reducing<F> {
    name: Cow<'static, str>,
    function: PhantomData<fn() -> F>,
}

impl<F> Clone for Reducing<F> {
    fn clone(&self) -> Reducing<F> {
        Reducing { name: self.name.clone(), function: PhantomData }
    }
}

impl<F: ReduceFunction> Reducing<F> {
    /// Declares the state under a name that is unique in its operator; stored state is found again by it.
    #[must_use]
    pub fn named(name: impl Into<Cow<'static, str>>) -> Reducing<F> {
        Reducing { name: name.into(), function: PhantomData }
    }
}

/// It is stored as a value state is, under a kind of its own: what was reduced is not to be taken for a value that somebody set.
impl<F: ReduceFunction> State for Reducing<F> {
    type Content = ValueContent<F::Value>;
    type Access<'a> = ReducingAccess<'a, F>;

    fn descriptor(&self) -> StateDescriptor {
        StateDescriptor::new(StateKind::Reducing, &*self.name, &[type_name::<F::Value>()])
    }

    #[inline]
    fn access<'a>(
        content: &'a mut ValueContent<F::Value>,
        changed: &'a Cell<Epoch>,
        guard: Guard<'a>,
    ) -> ReducingAccess<'a, F> {
        ReducingAccess { value: <Value<F::Value> as State>::access(content, changed, guard) }
    }
}

/// What was reduced under the current key. Reading costs nothing; whatever changes it first keeps the old value for the snapshots that are being written.
pub struct ReducingAccess<'a, F: ReduceFunction> {
    value: ValueAccess<'a, F::Value>,
}

impl<F: ReduceFunction> ReducingAccess<'_, F> {
    /// What everything added so far was reduced to, if anything was.
    #[must_use]
    pub fn get(&self) -> Option<&F::Value> {
        self.value.get()
    }

    /// Adds a value. The first one is stored as it is. Answers what is stored now.
    pub fn add(&mut self, added: F::Value) -> &F::Value {
        self.value.replace_with(|stored| match stored {
            None => added,
            Some(stored) => F::reduce(stored, added),
        })
    }

    /// Removes what is stored, and answers it.
    pub fn take(&mut self) -> Option<F::Value> {
        self.value.take()
    }

    /// Removes what is stored.
    pub fn clear(&mut self) {
        self.value.clear();
    }
}
