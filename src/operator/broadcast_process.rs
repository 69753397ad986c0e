//! Operators of the user's own that treat a stream by what another one, broadcast, says: [`BroadcastProcess`] and, with keys, [`KeyedBroadcastProcess`].

use alluvium_actors::drive::outputs::Outputs;
use alluvium_actors::ports::task::Failure;

use super::keyed::KeyedState;
use super::link::{Link, Member, TwoInputLink, push_in_slices};
use super::operator_backend::OperatorBackend;
use super::process::{Facts, KeyedContext};
use super::side::{SideOutputs, Sides};
use super::stateful::OperatorContext;
use crate::error::OperatorResult;
use crate::record::batch::Slice;
use crate::record::{Key, KeySelector, Record};
use crate::state::{BroadcastStateSet, Hold, OperatorStateSet, StateSet};

/// An operator with a stream of records and a broadcast stream: every instance gets every record of the second one, keeps what it says in a
/// [`BroadcastMap`](crate::state::BroadcastMap), and treats the records of the first one by it. Between the two streams there is no order.
///
/// All instances must do the same with a record of the broadcast stream, whatever else they have seen: then their states are the same, and each instance, also one that is new,
/// gets the state of any. That is why records of the first stream can only read it.
///
/// ```
/// use alluvium::connect::{Collect, Generator, Items};
/// use alluvium::operator::{BroadcastAccess, BroadcastContext, BroadcastProcess, BroadcastStateView};
/// use alluvium::state::BroadcastMap;
/// use alluvium::{Job, OperatorResult};
///
/// /// Lets through the numbers that no rule forbids.
/// #[derive(Clone)]
/// struct Rules;
///
/// impl BroadcastProcess for Rules {
///     type In = u64;
///     type Broadcast = u64;
///     type Out = u64;
///     type State = BroadcastMap<u64, ()>;
///
///     fn state(&self) -> BroadcastMap<u64, ()> {
///         BroadcastMap::named("forbidden")
///     }
///
///     fn process(
///         &self,
///         number: u64,
///         forbidden: BroadcastStateView<'_, Self>,
///         mut context: BroadcastContext<'_, Self>,
///     ) -> OperatorResult {
///         if !forbidden.contains(&number) {
///             context.emit(number);
///         }
///         Ok(())
///     }
///
///     fn process_broadcast(
///         &self,
///         rule: u64,
///         mut forbidden: BroadcastAccess<'_, Self>,
///         _: BroadcastContext<'_, Self>,
///     ) -> OperatorResult {
///         forbidden.insert(rule, ());
///         Ok(())
///     }
/// }
///
/// let job = Job::new("rules");
/// let rules = job.source("rules", Items::new(vec![13, 17]));
/// job.source("numbers", Generator::bounded(100, |index| index))
///     .connect_broadcast(&rules)
///     .process("rules of numbers", Rules)
///     .parallelism(4)
///     .sink("allowed", Collect::new());
/// job.build()?;
/// # Ok::<(), alluvium::BuildErrors>(())
/// ```
pub trait BroadcastProcess: Clone + Send + 'static {
    /// What it gets.
    type In: Record;
    /// What every instance gets.
    type Broadcast: Record;
    /// What it emits.
    type Out: Record;
    /// The states that are the same in every instance: a [`BroadcastMap`](crate::state::BroadcastMap), or a tuple of them.
    type State: BroadcastStateSet;

    /// Declares the states: their names. Called when the job is built, and once for every instance.
    fn state(&self) -> Self::State;

    /// Declares the side outputs that it emits to beside its main output; none if not given. Called when the job is built.
    fn side_outputs(&self) -> SideOutputs {
        SideOutputs::none()
    }

    /// Processes one record.
    ///
    /// # Errors
    /// The subtask fails and goes through the restart strategy, unless the error says that a restart would not help.
    fn process(
        &self,
        record: Self::In,
        state: BroadcastStateView<'_, Self>,
        context: BroadcastContext<'_, Self>,
    ) -> OperatorResult;

    /// Processes one record of the broadcast stream. Every instance gets it and must change the states in the same way. What is emitted here is emitted by every instance.
    ///
    /// # Errors
    /// The subtask fails and goes through the restart strategy, unless the error says that a restart would not help.
    fn process_broadcast(
        &self,
        record: Self::Broadcast,
        state: BroadcastAccess<'_, Self>,
        context: BroadcastContext<'_, Self>,
    ) -> OperatorResult;
}

/// The states of a [`BroadcastProcess`], for reading and changing.
pub type BroadcastAccess<'a, P> = <<P as BroadcastProcess>::State as OperatorStateSet>::Access<'a>;

/// The states of a [`BroadcastProcess`], for reading.
pub type BroadcastStateView<'a, P> = <<P as BroadcastProcess>::State as BroadcastStateSet>::View<'a>;

/// What a [`BroadcastProcess`] is told beside the record and the state.
pub type BroadcastContext<'a, P> = OperatorContext<'a, <P as BroadcastProcess>::Out>;

/// As [`BroadcastProcess`], for a stream with keys: each record meets the state of its key and the broadcast one.
///
/// ```
/// use alluvium::connect::{Collect, Generator, Items};
/// use alluvium::operator::{
///     KeyedBroadcastAccess, KeyedBroadcastContext, KeyedBroadcastKeyedContext, KeyedBroadcastProcess, KeyedBroadcastStateAccess,
///     KeyedBroadcastStateView,
/// };
/// use alluvium::state::{BroadcastMap, Value};
/// use alluvium::{Job, OperatorResult};
///
/// /// Reports a customer whose purchases reach the limit of the day.
/// #[derive(Clone)]
/// struct Limits;
///
/// impl KeyedBroadcastProcess for Limits {
///     type Key = String;
///     type In = (String, u64);
///     type Broadcast = u64;
///     type Out = String;
///     type State = Value<u64>;
///     type BroadcastState = BroadcastMap<(), u64>;
///
///     fn state(&self) -> Value<u64> {
///         Value::named("spent")
///     }
///
///     fn broadcast_state(&self) -> BroadcastMap<(), u64> {
///         BroadcastMap::named("limit")
///     }
///
///     fn process(
///         &self,
///         (_, amount): (String, u64),
///         mut spent: KeyedBroadcastAccess<'_, Self>,
///         limit: KeyedBroadcastStateView<'_, Self>,
///         mut context: KeyedBroadcastKeyedContext<'_, Self>,
///     ) -> OperatorResult {
///         spent.update(|spent| *spent += amount);
///         if limit.get(&()).is_some_and(|limit| spent.get() >= Some(limit)) {
///             let customer = context.key().clone();
///             context.emit(customer);
///         }
///         Ok(())
///     }
///
///     fn process_broadcast(
///         &self,
///         limit: u64,
///         mut limits: KeyedBroadcastStateAccess<'_, Self>,
///         _: KeyedBroadcastContext<'_, Self>,
///     ) -> OperatorResult {
///         limits.insert((), limit);
///         Ok(())
///     }
/// }
///
/// let job = Job::new("limits");
/// let limits = job.source("limits", Items::new(vec![500]));
/// job.source("purchases", Generator::bounded(100, |index| (format!("customer {}", index % 7), index)))
///     .key_by(|purchase| &purchase.0)
///     .connect_broadcast(&limits)
///     .process("limits of customers", Limits)
///     .sink("reports", Collect::new());
/// job.build()?;
/// # Ok::<(), alluvium::BuildErrors>(())
/// ```
pub trait KeyedBroadcastProcess: Clone + Send + 'static {
    /// What the stream is keyed by.
    type Key: Key;
    /// What it gets.
    type In: Record;
    /// What every instance gets.
    type Broadcast: Record;
    /// What it emits.
    type Out: Record;
    /// The states that it keeps for each key.
    type State: StateSet;
    /// The states that are the same in every instance: a [`BroadcastMap`](crate::state::BroadcastMap), or a tuple of them.
    type BroadcastState: BroadcastStateSet;

    /// Declares the states of each key: their names. Called when the job is built, and once for every instance.
    fn state(&self) -> Self::State;

    /// Declares the broadcast states: their names, which differ from those of the others. Called when the job is built, and once for every instance.
    fn broadcast_state(&self) -> Self::BroadcastState;

    /// Declares the side outputs that it emits to beside its main output; none if not given. Called when the job is built.
    fn side_outputs(&self) -> SideOutputs {
        SideOutputs::none()
    }

    /// Processes one record.
    ///
    /// # Errors
    /// The subtask fails and goes through the restart strategy, unless the error says that a restart would not help.
    fn process(
        &self,
        record: Self::In,
        state: KeyedBroadcastAccess<'_, Self>,
        broadcast: KeyedBroadcastStateView<'_, Self>,
        context: KeyedBroadcastKeyedContext<'_, Self>,
    ) -> OperatorResult;

    /// Processes one record of the broadcast stream. Every instance gets it and must change the states in the same way. What is emitted here is emitted by every instance.
    ///
    /// # Errors
    /// The subtask fails and goes through the restart strategy, unless the error says that a restart would not help.
    fn process_broadcast(
        &self,
        record: Self::Broadcast,
        broadcast: KeyedBroadcastStateAccess<'_, Self>,
        context: KeyedBroadcastContext<'_, Self>,
    ) -> OperatorResult;
}

/// The states of the current key, for reading and changing.
pub type KeyedBroadcastAccess<'a, P> = <<P as KeyedBroadcastProcess>::State as StateSet>::Access<'a>;

/// The broadcast states of a [`KeyedBroadcastProcess`], for reading.
pub type KeyedBroadcastStateView<'a, P> = <<P as KeyedBroadcastProcess>::BroadcastState as BroadcastStateSet>::View<'a>;

/// The broadcast states of a [`KeyedBroadcastProcess`], for reading and changing.
pub type KeyedBroadcastStateAccess<'a, P> =
    <<P as KeyedBroadcastProcess>::BroadcastState as OperatorStateSet>::Access<'a>;

/// What a [`KeyedBroadcastProcess`] is told beside a record with a key.
pub type KeyedBroadcastKeyedContext<'a, P> =
    KeyedContext<'a, <P as KeyedBroadcastProcess>::Key, <P as KeyedBroadcastProcess>::Out>;

/// What a [`KeyedBroadcastProcess`] is told beside a record of the broadcast stream.
pub type KeyedBroadcastContext<'a, P> = OperatorContext<'a, <P as KeyedBroadcastProcess>::Out>;

/// What both operators have behind them.
struct Behind<U: Record> {
    out: Slice<U>,
    next: Box<dyn Link<U>>,
    sides: Sides,
    facts: Facts,
}

impl<U: Record> Behind<U> {
    fn context(&mut self) -> OperatorContext<'_, U> {
        OperatorContext { out: &mut self.out.records, sides: &mut self.sides, facts: self.facts }
    }

    /// Takes on what is full. True if there was anything: the operator is entered again then.
    fn push_full(&mut self, outputs: &mut Outputs) -> Result<bool, Failure> {
        let (full, side) = (self.out.is_full(), self.sides.is_full());
        if full {
            push_in_slices(&mut self.out, &mut *self.next, outputs)?;
        }
        if side {
            self.sides.push(outputs)?;
        }
        Ok(full || side)
    }

    fn push_all(&mut self, outputs: &mut Outputs) -> Result<(), Failure> {
        self.sides.push(outputs)?;
        if self.out.is_empty() { Ok(()) } else { self.next.push(&mut self.out, outputs) }
    }

    fn walk(&mut self, visit: &mut dyn FnMut(&mut dyn Member)) {
        self.next.walk(visit);
        self.sides.walk(visit);
    }
}

/// The link of a [`BroadcastProcess`].
pub(crate) struct BroadcastLink<P: BroadcastProcess> {
    state: OperatorBackend<P::State>,
    process: P,
    behind: Behind<P::Out>,
}

impl<P: BroadcastProcess> BroadcastLink<P> {
    pub(crate) fn new(
        state: OperatorBackend<P::State>,
        process: P,
        next: Box<dyn Link<P::Out>>,
        sides: Sides,
    ) -> BroadcastLink<P> {
        let facts = Facts::of(&state.site.task);
        BroadcastLink { state, process, behind: Behind { out: Slice::new(), next, sides, facts } }
    }
}

impl<P: BroadcastProcess> TwoInputLink<P::In, P::Broadcast> for BroadcastLink<P> {
    fn push_left(&mut self, slice: &mut Slice<P::In>, outputs: &mut Outputs) -> Result<(), Failure> {
        let BroadcastLink { state: OperatorBackend { table, site, .. }, process, behind } = self;
        site.place.enter();
        for record in slice.records.drain(..) {
            process.process(record, table.view(), behind.context()).map_err(|error| site.place.fail(error))?;
            if behind.push_full(outputs)? {
                site.place.enter();
            }
        }
        slice.clear();
        behind.push_all(outputs)
    }

    fn push_right(&mut self, slice: &mut Slice<P::Broadcast>, outputs: &mut Outputs) -> Result<(), Failure> {
        let BroadcastLink { state: OperatorBackend { table, site, .. }, process, behind } = self;
        site.place.enter();
        for record in slice.records.drain(..) {
            let processed = process.process_broadcast(record, table.access(), behind.context());
            processed.map_err(|error| site.place.fail(error))?;
            if behind.push_full(outputs)? {
                site.place.enter();
            }
        }
        slice.clear();
        behind.push_all(outputs)
    }
}

impl<P: BroadcastProcess> Member for BroadcastLink<P> {
    fn walk(&mut self, visit: &mut dyn FnMut(&mut dyn Member)) {
        visit(&mut self.state);
        self.behind.walk(visit);
    }
}

/// The link of a [`KeyedBroadcastProcess`].
pub(crate) struct KeyedBroadcastLink<P: KeyedBroadcastProcess, S, H> {
    keyed: KeyedState<P::Key, <P::State as StateSet>::Row, H>,
    broadcast: OperatorBackend<P::BroadcastState>,
    selector: S,
    process: P,
    behind: Behind<P::Out>,
}

impl<P: KeyedBroadcastProcess, S, H: Hold<<P::State as StateSet>::Row>> KeyedBroadcastLink<P, S, H> {
    pub(crate) fn new(
        (keyed, broadcast): (KeyedState<P::Key, <P::State as StateSet>::Row, H>, OperatorBackend<P::BroadcastState>),
        selector: S,
        process: P,
        next: Box<dyn Link<P::Out>>,
        sides: Sides,
    ) -> KeyedBroadcastLink<P, S, H> {
        let facts = Facts::of(&keyed.site.task);
        KeyedBroadcastLink {
            keyed,
            broadcast,
            selector,
            process,
            behind: Behind { out: Slice::new(), next, sides, facts },
        }
    }
}

impl<P, S, H> TwoInputLink<P::In, P::Broadcast> for KeyedBroadcastLink<P, S, H>
where
    P: KeyedBroadcastProcess,
    S: KeySelector<P::In, P::Key>,
    H: Hold<<P::State as StateSet>::Row>,
{
    fn push_left(&mut self, slice: &mut Slice<P::In>, outputs: &mut Outputs) -> Result<(), Failure> {
        let KeyedBroadcastLink { keyed, broadcast, selector, process, behind } = self;
        let place = &keyed.site.place;
        place.enter();
        keyed.table.with_states_batch::<P::State, _, _>(
            &slice.hashes,
            slice.records.drain(..),
            selector,
            |key, states, record| {
                let Behind { out, sides, facts, .. } = &mut *behind;
                let context = KeyedContext { key, out: &mut out.records, sides, facts: *facts };
                let processed = process.process(record, states, broadcast.table.view(), context);
                processed.map_err(|error| place.fail(error))?;
                if behind.push_full(outputs)? {
                    place.enter();
                }
                Ok(())
            },
        )?;
        slice.clear();
        behind.push_all(outputs)
    }

    fn push_right(&mut self, slice: &mut Slice<P::Broadcast>, outputs: &mut Outputs) -> Result<(), Failure> {
        let KeyedBroadcastLink { broadcast: OperatorBackend { table, site, .. }, process, behind, .. } = self;
        site.place.enter();
        for record in slice.records.drain(..) {
            let processed = process.process_broadcast(record, table.access(), behind.context());
            processed.map_err(|error| site.place.fail(error))?;
            if behind.push_full(outputs)? {
                site.place.enter();
            }
        }
        slice.clear();
        behind.push_all(outputs)
    }
}

impl<P: KeyedBroadcastProcess, S, H: Hold<<P::State as StateSet>::Row>> Member for KeyedBroadcastLink<P, S, H> {
    fn walk(&mut self, visit: &mut dyn FnMut(&mut dyn Member)) {
        visit(&mut self.keyed);
        visit(&mut self.broadcast);
        self.behind.walk(visit);
    }
}
