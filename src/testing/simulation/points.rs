//! The simulated host behind the door for faults: carries out what strikes, tells the story of every point, and watches the cuts.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alluvium_actors::ids::{CheckpointId, Moment};
use alluvium_actors::ports::host::Address;
use alluvium_actors::ports::points::{
    Action, ChannelEnd, Delivery, Faults, Hit, InjectedEnd, InjectedPanic, Point, Reaction, Who,
};
use alluvium_actors::protocol::align::{Channel, CheckpointMode};

use super::Place;
use super::story::{Story, What as Told};
use super::suspended;
use crate::fault::{Armed, End, FaultPlan, LONGEST_HOLD, Names, Spot, Strike, What};
use crate::testing::disk::SimulatedDisk;
use crate::testing::random::Random;

/// What stands still, until a moment or until it is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gate {
    /// When it opens by itself.
    pub(super) at: Moment,
    /// What opens it before.
    held: Option<u64>,
}

impl Gate {
    /// One that opens at this moment.
    pub(super) fn until(at: Moment) -> Gate {
        Gate { at, held: None }
    }
}

/// All faults of a run, over its processes.
pub(super) struct SimulatedFaults {
    state: Mutex<State>,
}

struct State {
    armed: Armed,
    random: Random,
    story: Arc<Mutex<Story>>,
    now: Moment,
    /// The actor that takes a step or a message.
    acting: Option<Address>,
    disk: Option<SimulatedDisk>,
    /// What the crash that a fault asked for takes along.
    crash: Option<End>,
    /// The actors that stand still.
    standing: BTreeMap<Address, Gate>,
    /// What waits for a point: by its number.
    held: BTreeMap<u64, Point>,
    /// When a fault struck last, or will have ended that delays.
    last_fault: Option<Moment>,
    /// When whoever was held last goes on by itself.
    held_until: Moment,
    released: BTreeSet<u64>,
    holds: u64,
    cuts: Cuts,
    process: u32,
    /// Who reached a point how often, in which process, for which checkpoint.
    reached: BTreeMap<(Point, Spot, Option<CheckpointId>, u32), u64>,
    struck: BTreeMap<(Point, Action), u64>,
    /// How many faults had struck when the current process began.
    struck_before: u64,
    wrong: Option<String>,
}

impl State {
    /// How many faults have struck.
    fn struck_so_far(&self) -> u64 {
        self.struck.values().sum()
    }
}

impl SimulatedFaults {
    pub(super) fn new(plan: &FaultPlan, random: Random, story: Arc<Mutex<Story>>) -> Arc<SimulatedFaults> {
        let state = State {
            armed: Armed::new(plan),
            random,
            story,
            now: Moment::default(),
            acting: None,
            disk: None,
            crash: None,
            standing: BTreeMap::new(),
            held: BTreeMap::new(),
            last_fault: None,
            held_until: Moment::default(),
            released: BTreeSet::new(),
            holds: 0,
            cuts: Cuts::default(),
            process: 0,
            reached: BTreeMap::new(),
            struck: BTreeMap::new(),
            struck_before: 0,
            wrong: None,
        };
        Arc::new(SimulatedFaults { state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next process starts: what struck before was in others.
    pub(super) fn process_starts(&self, process: u32) {
        let mut state = self.state();
        state.process = process;
        state.struck_before = state.struck_so_far();
        state.crash = None;
    }

    /// A process begins, on this disk.
    pub(super) fn process_begins(&self, process: u32, names: Names, mode: CheckpointMode, disk: SimulatedDisk) {
        let mut state = self.state();
        state.armed.process_begins(process, names);
        state.disk = Some(disk);
        state.acting = None;
        state.standing.clear();
        state.held.clear();
        state.released.clear();
        state.cuts = Cuts { mode, marked: BTreeMap::new() };
    }

    /// Time has come to `now`, and this actor acts, or blocking work does.
    pub(super) fn acts(&self, now: Moment, actor: Option<Address>) {
        let mut state = self.state();
        state.now = now;
        state.acting = actor;
    }

    /// Whether a gate is open.
    pub(super) fn is_open(&self, gate: Gate, now: Moment) -> bool {
        now >= gate.at || gate.held.is_some_and(|held| self.state().released.contains(&held))
    }

    /// Whether an actor stands still.
    pub(super) fn somebody_stands(&self) -> bool {
        !self.state().standing.is_empty()
    }

    /// The gate in front of an actor that stands still.
    pub(super) fn standing(&self, actor: Address, now: Moment) -> Option<Gate> {
        let gate = self.state().standing.get(&actor).copied()?;
        if self.is_open(gate, now) {
            self.state().standing.remove(&actor);
            return None;
        }
        Some(gate)
    }

    /// The moment up to which an actor is busy, as its own clock shows it.
    pub(super) fn busy_until(&self, actor: Address) -> Option<Moment> {
        self.state().standing.get(&actor).filter(|gate| gate.held.is_none()).map(|gate| gate.at)
    }

    /// A gate that opens after this time.
    pub(super) fn after(&self, delay: Duration) -> Gate {
        Gate { at: self.state().now + delay, held: None }
    }

    /// A gate that opens when this hold is released.
    pub(super) fn held(&self, held: u64) -> Gate {
        Gate { at: self.state().now + LONGEST_HOLD, held: Some(held) }
    }

    /// Whether blocking work may have to stand still in its middle.
    pub(super) fn may_suspend_work(&self, plan: &FaultPlan) -> bool {
        plan.faults().iter().any(|fault| {
            let is_work = !fault.point().actions().contains(Action::Kill);
            is_work && matches!(fault.what(), What::Delay(_) | What::Hold(_))
        })
    }

    /// What the crash that a fault asked for takes along.
    pub(super) fn crash(&self) -> Option<End> {
        self.state().crash
    }

    /// # Errors
    /// The first cut that was not one.
    pub(super) fn verdict(&self) -> Result<(), String> {
        self.state().wrong.clone().map_or(Ok(()), Err)
    }

    /// How often each point was reached.
    pub(super) fn reached(&self) -> BTreeMap<Point, u64> {
        let mut reached = BTreeMap::new();
        for ((point, ..), hits) in &self.state().reached {
            *reached.entry(*point).or_default() += hits;
        }
        reached
    }

    /// How often each point was reached by whom.
    pub(super) fn places(&self) -> BTreeMap<Place, u64> {
        let state = self.state();
        let mut places = BTreeMap::new();
        for ((point, spot, checkpoint, process), hits) in &state.reached {
            let (operator, subtask) = state.armed.names().filters(spot);
            let checkpoint = checkpoint.map(|checkpoint| checkpoint.0);
            *places.entry(Place { point: *point, operator, subtask, checkpoint, process: *process }).or_default() +=
                hits;
        }
        places
    }

    /// How often each action struck at each point.
    pub(super) fn struck(&self) -> BTreeMap<(Point, Action), u64> {
        self.state().struck.clone()
    }

    /// How many faults struck in the current process.
    pub(super) fn struck_here(&self) -> u64 {
        let state = self.state();
        state.struck_so_far() - state.struck_before
    }

    /// When a fault struck last, or will have ended that delays; now, as long as one holds.
    pub(super) fn last_fault(&self, now: Moment) -> Option<Moment> {
        let state = self.state();
        let holding = (!state.held.is_empty()).then(|| now.min(state.held_until));
        state.last_fault.max(holding)
    }

    /// The faults of the plan that never struck.
    pub(super) fn unstruck(&self) -> Vec<String> {
        self.state().armed.unstruck().map(ToString::to_string).collect()
    }

    /// Notes that a point is reached, and answers what strikes.
    fn strike(&self, hit: &Hit<'_>) -> Option<Strike> {
        let mut state = self.state();
        if state.crash.is_some() {
            return None;
        }
        let State {
            armed, random, story, now, held, released, cuts, process, reached, struck, wrong, last_fault, ..
        } = &mut *state;
        *reached.entry((hit.point, armed.names().spot(hit), hit.checkpoint, *process)).or_default() += 1;
        held.retain(|number, until| {
            let waits = *until != hit.point;
            if !waits {
                *last_fault = (*last_fault).max(Some(*now));
                released.insert(*number);
            }
            waits
        });
        let strike = armed.strike(hit, &mut || (random.next() >> 11) as f64 / (1_u64 << 53) as f64);
        if let Err(broken) = cuts.hear(hit, armed.names()) {
            wrong.get_or_insert(broken);
        }
        if let Some(Strike { what, .. }) = &strike {
            *struck.entry((hit.point, what.action())).or_default() += 1;
            let lasts = if let What::Delay(delay) = what { *delay } else { Duration::ZERO };
            *last_fault = (*last_fault).max(Some(*now + lasts));
        }
        let told = Told::Reached {
            point: hit.point,
            place: armed.names().tell(hit),
            struck: strike.as_ref().map(|strike| strike.what.to_string()),
        };
        story.lock().unwrap_or_else(PoisonError::into_inner).tell_aside(*now, told);
        strike
    }

    /// Makes a hold.
    fn hold(&self, until: Point) -> u64 {
        let mut state = self.state();
        state.holds += 1;
        state.held_until = state.now + LONGEST_HOLD;
        let number = state.holds;
        state.held.insert(number, until);
        number
    }

    /// The process is gone: the disk goes off before anything is unwound, so that destructors do nothing.
    fn end_process(&self, end: End) -> ! {
        let mut state = self.state();
        state.crash = Some(end);
        if let Some(disk) = &state.disk {
            disk.cut_power();
        }
        drop(state);
        resume_unwind(Box::new(InjectedEnd::Crash))
    }

    /// Whoever is at the point stands still: an actor after its step, blocking work here and now.
    fn stand(&self, gate: Gate) {
        if suspended::pause(gate) {
            return;
        }
        let mut state = self.state();
        if let Some(actor) = state.acting {
            // Who stands still already stands still longer: no fault shortens another.
            let longer = match state.standing.get(&actor) {
                Some(earlier) if gate.held.is_none() => {
                    Gate { at: earlier.at + gate.at.since(state.now), held: earlier.held }
                }
                _ => gate,
            };
            state.standing.insert(actor, longer);
        }
    }
}

impl Faults for SimulatedFaults {
    fn reach(&self, hit: &Hit<'_>) -> Reaction {
        let Some(Strike { what, .. }) = self.strike(hit) else { return Reaction::Go };
        match what {
            What::Crash(end) => self.end_process(end),
            What::Kill => resume_unwind(Box::new(InjectedEnd::Kill)),
            What::Panic => resume_unwind(Box::new(InjectedPanic(hit.point))),
            What::Error => return Reaction::Fail,
            What::Delay(delay) => self.stand(self.after(delay)),
            What::Hold(until) => {
                let gate = self.held(self.hold(until));
                self.stand(gate);
            }
            // No point of a step allows them.
            What::Drop | What::Duplicate => {}
        }
        Reaction::Go
    }

    fn deliver(&self, hit: &Hit<'_>) -> Delivery {
        let Some(Strike { what, .. }) = self.strike(hit) else { return Delivery::Now };
        match what {
            What::Crash(end) => self.end_process(end),
            What::Kill => resume_unwind(Box::new(InjectedEnd::Kill)),
            What::Panic => resume_unwind(Box::new(InjectedPanic(hit.point))),
            What::Drop => Delivery::Never,
            What::Duplicate => Delivery::Twice,
            What::Delay(delay) => Delivery::After(delay),
            What::Hold(until) => Delivery::Held(self.hold(until)),
            // No message allows it.
            What::Error => Delivery::Now,
        }
    }
}

/// Compares both ends of every edge at every cut: no record may be on both sides of a barrier, none on neither.
#[derive(Default)]
struct Cuts {
    mode: CheckpointMode,
    /// What the producer had sent in front of its marker.
    marked: BTreeMap<(Address, Channel, CheckpointId), (Address, u64)>,
}

impl Cuts {
    fn hear(&mut self, hit: &Hit<'_>, names: &Names) -> Result<(), String> {
        let (Some(checkpoint), Some(ChannelEnd { consumer, channel, records })) = (hit.checkpoint, hit.channel) else {
            return Ok(());
        };
        let key = (consumer, channel, checkpoint);
        if let (Point::BarrierMarked, Who::Actor(producer)) = (hit.point, hit.who) {
            self.marked.insert(key, (producer, records));
        }
        if hit.point != Point::CutChannel {
            return Ok(());
        }
        // A channel that had ended before the barrier has none.
        let Some((producer, sent)) = self.marked.remove(&key) else { return Ok(()) };
        let (producer, consumer) = (names.actor(producer), names.actor(consumer));
        let told = format!(
            "checkpoint {checkpoint}: {producer} had sent {sent} records to {consumer} in front of its barrier, and {consumer} had taken {records} at its cut"
        );
        if records < sent {
            return Err(format!("{told}: {} records are in neither half", sent - records));
        }
        if records > sent && self.mode == CheckpointMode::ExactlyOnce {
            return Err(format!("{told}: {} records are in both halves", records - sent));
        }
        Ok(())
    }
}
