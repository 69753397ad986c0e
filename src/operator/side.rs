//! Side outputs: what an operator emits beside its main output, typed by a tag.
//!
//! An operator declares its side outputs, so that a stream of an undeclared one is an error when the job is built. Emitted records are gathered in a slice
//! for each side output, so that what stands behind it is called once per slice, as everywhere in a chain.

use std::any::{Any, type_name};
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use alluvium_actors::drive::outputs::Outputs;
use alluvium_actors::ports::task::Failure;

use super::assembly::StreamType;
use super::link::{Link, Member, push_in_slices};
use crate::error::{OperatorError, OperatorResult};
use crate::record::Record;
use crate::record::batch::Slice;

/// The tag of a side output that carries records of type `T`. Two tags of the same name and type are the same.
///
/// ```
/// use alluvium::connect::{Collect, Items};
/// use alluvium::operator::{ProcessContext, ProcessFunction, SideOutput, SideOutputs};
/// use alluvium::{Job, OperatorResult};
///
/// const MALFORMED: SideOutput<String> = SideOutput::named("malformed");
///
/// /// Reads numbers, and keeps aside what is none.
/// #[derive(Clone)]
/// struct Parse;
///
/// impl ProcessFunction for Parse {
///     type In = String;
///     type Out = i64;
///
///     fn side_outputs(&self) -> SideOutputs {
///         SideOutputs::none().with(&MALFORMED)
///     }
///
///     fn process(&self, line: String, mut context: ProcessContext<'_, Self>) -> OperatorResult {
///         match line.parse() {
///             Ok(number) => context.emit(number),
///             Err(_) => context.emit_to(&MALFORMED, line)?,
///         }
///         Ok(())
///     }
/// }
///
/// let job = Job::new("numbers");
/// let parsed = job.source("lines", Items::new(vec!["7".to_owned(), "x".to_owned()])).process(Parse);
/// parsed.sink("numbers", Collect::new());
/// parsed.side(&MALFORMED).sink("malformed", Collect::new());
/// job.build()?;
/// # Ok::<(), alluvium::BuildErrors>(())
/// ```
pub struct SideOutput<T> {
    name: Cow<'static, str>,
    record: PhantomData<fn() -> T>,
}

impl<T> SideOutput<T> {
    /// A tag, unique by its name among the side outputs of an operator. Can be a `const`.
    #[must_use]
    pub const fn named(name: &'static str) -> SideOutput<T> {
        SideOutput { name: Cow::Borrowed(name), record: PhantomData }
    }

    /// A tag whose name is made when the program runs: for side outputs that are declared in a loop.
    #[must_use]
    pub const fn with_name(name: String) -> SideOutput<T> {
        SideOutput { name: Cow::Owned(name), record: PhantomData }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl<T> Clone for SideOutput<T> {
    fn clone(&self) -> SideOutput<T> {
        SideOutput { name: self.name.clone(), record: PhantomData }
    }
}

impl<T> fmt::Debug for SideOutput<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SideOutput<{}>({:?})", type_name::<T>(), self.name)
    }
}

/// The side outputs that an operator declares.
#[derive(Clone, Debug)]
pub struct SideOutputs {
    declared: Vec<DeclaredSide>,
}

/// A side output as an operator declares it.
#[derive(Clone, Debug)]
pub(crate) struct DeclaredSide {
    pub(crate) name: Cow<'static, str>,
    pub(crate) stream: StreamType,
}

impl SideOutputs {
    /// No side output.
    #[must_use]
    pub const fn none() -> SideOutputs {
        SideOutputs { declared: Vec::new() }
    }

    /// One more. Two of the same name are an error when the job is built.
    #[must_use]
    pub fn with<T: Record>(mut self, side: &SideOutput<T>) -> SideOutputs {
        self.declared.push(DeclaredSide { name: side.name.clone(), stream: StreamType::of::<T>() });
        self
    }

    pub(crate) fn into_declared(self) -> Vec<DeclaredSide> {
        self.declared
    }
}

/// The side outputs of an operator instance, with what stands behind each. Without side outputs it costs one comparison per user call.
pub(crate) struct Sides {
    outlets: Vec<Outlet>,
    full: bool,
}

/// One side output of an operator instance. A declared one that nobody reads has a link that drops records.
pub(crate) struct Outlet {
    name: Cow<'static, str>,
    buffer: Box<dyn Buffer>,
}

/// The side output `name` in front of `next`.
pub(crate) fn outlet<T: Record>(name: Cow<'static, str>, next: Box<dyn Link<T>>) -> Outlet {
    Outlet { name, buffer: Box::new(Gathered { slice: Slice::new(), next }) }
}

/// Gathered records of a type that only the tag knows.
trait Buffer {
    fn as_any(&mut self) -> &mut dyn Any;
    fn push(&mut self, outputs: &mut Outputs) -> Result<(), Failure>;
    fn walk(&mut self, visit: &mut dyn FnMut(&mut dyn Member));
}

struct Gathered<T: Record> {
    slice: Slice<T>,
    next: Box<dyn Link<T>>,
}

impl<T: Record> Buffer for Gathered<T> {
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }

    fn push(&mut self, outputs: &mut Outputs) -> Result<(), Failure> {
        if self.slice.is_empty() { Ok(()) } else { push_in_slices(&mut self.slice, &mut *self.next, outputs) }
    }

    fn walk(&mut self, visit: &mut dyn FnMut(&mut dyn Member)) {
        self.next.walk(visit);
    }
}

impl Sides {
    pub(crate) fn new(outlets: Vec<Outlet>) -> Sides {
        Sides { outlets, full: false }
    }

    /// Keeps a record for the next [`Sides::push`].
    #[inline]
    pub(crate) fn emit<T: Record>(&mut self, side: &SideOutput<T>, record: T) -> OperatorResult {
        self.emit_all(side, std::iter::once(record))
    }

    /// As [`Sides::emit`], for several records.
    #[inline]
    pub(crate) fn emit_all<T: Record>(
        &mut self,
        side: &SideOutput<T>,
        records: impl IntoIterator<Item = T>,
    ) -> OperatorResult {
        // An operator has a handful of side outputs at most: comparing names is cheaper than a map.
        let outlet = self.outlets.iter_mut().find(|outlet| outlet.name == side.name);
        let gathered = outlet.and_then(|outlet| outlet.buffer.as_any().downcast_mut::<Gathered<T>>());
        let Some(Gathered { slice, .. }) = gathered else { return Err(undeclared(side)) };
        slice.records.extend(records);
        self.full |= slice.is_full();
        Ok(())
    }

    /// Whether a slice is full: then it is time to push.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.full
    }

    /// Takes everything that was emitted through what stands behind.
    #[inline]
    pub(crate) fn push(&mut self, outputs: &mut Outputs) -> Result<(), Failure> {
        self.full = false;
        for outlet in &mut self.outlets {
            outlet.buffer.push(outputs)?;
        }
        Ok(())
    }

    /// Visits the members behind.
    pub(crate) fn walk(&mut self, visit: &mut dyn FnMut(&mut dyn Member)) {
        for outlet in &mut self.outlets {
            outlet.buffer.walk(visit);
        }
    }
}

#[cold]
fn undeclared<T>(side: &SideOutput<T>) -> OperatorError {
    OperatorError::unrecoverable(format!(
        "it emits to the side output `{}` of {}, which it does not declare; add it to what `side_outputs` gives",
        side.name,
        type_name::<T>()
    ))
}

impl fmt::Debug for Sides {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.outlets.iter().map(|outlet| &outlet.name)).finish()
    }
}
