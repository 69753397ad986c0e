//! The simulated host behind the door for faults: carries out what strikes, tells the story of every point, and watches the cuts.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alluvium_actors::ids::{CheckpointId, Moment};
use alluvium_actors::ports::host::Address;
use alluvium_actors::ports::points::{
    Action, ChannelEnd, Faults, Hit, InjectedEnd, InjectedPanic, Point, Reaction, Who,
};
use alluvium_actors::protocol::align::{Channel, CheckpointMode};

use super::Place;
use super::story::{Story, What as Told};
use super::suspended;
use crate::fault::{Armed, End, Fault, FaultPlan, LONGEST_HOLD, Names, Random, Spot, Strike, What};
use crate::testing::disk::SimulatedDisk;

/// What stands still, until a moment or until it is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gate {
    /// When it opens by itself.
    pub(super) at: Moment,
    /// What opens it before.
    held: Option<u64>,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Delivery {
    /// It goes on.
    Now,
    /// It goes on twice.
    Twice,
    /// It is lost.
    Never,
    /// It waits in front of this gate, and what follows it between the same two actors waits behind it.
    Waits(Gate),
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
    /// The actors that stand still, and all that each waits for.
    standing: BTreeMap<Address, Vec<Gate>>,
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
    fn is_open(&self, gate: Gate, now: Moment) -> bool {
        now >= gate.at || gate.held.is_some_and(|held| self.released.contains(&held))
    }

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

    /// Counts from here on for the next process; it has neither names nor a disk yet.
    pub(super) fn process_starts(&self, process: u32) {
        let mut state = self.state();
        state.process = process;
        state.struck_before = state.struck_so_far();
        state.crash = None;
    }

    /// The process that started has a job: with these names, in this mode, on this disk.
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
        self.state().is_open(gate, now)
    }

    /// Whether any actor stands still.
    pub(super) fn somebody_stands(&self) -> bool {
        !self.state().standing.is_empty()
    }

    /// The moment at which an actor that stands still goes on by itself.
    pub(super) fn stands_until(&self, actor: Address, now: Moment) -> Option<Moment> {
        let mut state = self.state();
        let mut gates = state.standing.remove(&actor)?;
        gates.retain(|gate| !state.is_open(*gate, now));
        let until = gates.iter().map(|gate| gate.at).max()?;
        state.standing.insert(actor, gates);
        Some(until)
    }

    /// Whether an actor has to wait before its next slice.
    pub(super) fn has_to_wait(&self, actor: Address) -> bool {
        self.state().standing.contains_key(&actor)
    }

    /// What an actor waits for: what it sends meanwhile leaves behind it.
    pub(super) fn gates(&self, actor: Address) -> Vec<Gate> {
        self.state().standing.get(&actor).cloned().unwrap_or_default()
    }

    /// The moment up to which an actor is busy, as its own clock shows it.
    pub(super) fn busy_until(&self, actor: Address) -> Option<Moment> {
        let state = self.state();
        state.standing.get(&actor)?.iter().filter(|gate| gate.held.is_none()).map(|gate| gate.at).max()
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
    pub(super) fn unstruck(&self) -> Vec<Fault> {
        self.state().armed.unstruck().cloned().collect()
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
        let strike = armed.strike(hit, &mut || random.unit());
        if let Err(broken) = cuts.hear(hit, armed.names()) {
            wrong.get_or_insert(broken);
        }
        if let Some(Strike { what, .. }) = &strike {
            *struck.entry((hit.point, what.action())).or_default() += 1;
            *last_fault = (*last_fault).max(Some(*now));
        }
        let told = Told::Reached {
            point: hit.point,
            place: armed.names().tell(hit),
            struck: strike.as_ref().map(|strike| strike.what.to_string()),
        };
        story.lock().unwrap_or_else(PoisonError::into_inner).tell_aside(*now, told);
        strike
    }

    /// What a delay or a hold makes somebody wait for: from `from` on.
    fn gate(&self, what: &What, from: Moment) -> Option<Gate> {
        match what {
            What::Delay(delay) => {
                let mut state = self.state();
                state.last_fault = state.last_fault.max(Some(from + *delay));
                Some(Gate { at: from + *delay, held: None })
            }
            What::Hold(until) => {
                let mut state = self.state();
                state.holds += 1;
                let number = state.holds;
                state.held.insert(number, *until);
                state.held_until = state.held_until.max(from + LONGEST_HOLD);
                Some(Gate { at: from + LONGEST_HOLD, held: Some(number) })
            }
            What::Crash(_) | What::Kill | What::Error | What::Panic | What::Drop | What::Duplicate => None,
        }
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

    /// From when on whoever acts waits for one thing more: one wait comes after the other.
    fn from(&self) -> Moment {
        let state = self.state();
        let gates = state.acting.and_then(|actor| state.standing.get(&actor));
        gates.into_iter().flatten().map(|gate| gate.at).max().map_or(state.now, |at| at.max(state.now))
    }

    /// Whoever is at the point stands still: an actor after its slice, blocking work here and now.
    fn stand(&self, gate: Gate) {
        if suspended::pause(gate) {
            return;
        }
        let mut state = self.state();
        if let Some(actor) = state.acting {
            state.standing.entry(actor).or_default().push(gate);
        }
    }

    /// A message is at a point: sent, or taken out of a mailbox. Crash, kill and panic do not return.
    pub(super) fn deliver(&self, hit: &Hit<'_>) -> Delivery {
        let Some(Strike { what, .. }) = self.strike(hit) else { return Delivery::Now };
        match what {
            What::Crash(end) => self.end_process(end),
            What::Kill => resume_unwind(Box::new(InjectedEnd::Kill)),
            What::Panic => resume_unwind(Box::new(InjectedPanic(hit.point))),
            What::Drop => Delivery::Never,
            What::Duplicate => Delivery::Twice,
            What::Delay(_) | What::Hold(_) => self.gate(&what, self.from()).map_or(Delivery::Now, Delivery::Waits),
            // No message allows it.
            What::Error => Delivery::Now,
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
            What::Error => Reaction::Fail,
            What::Delay(_) | What::Hold(_) => {
                if let Some(gate) = self.gate(&what, self.from()) {
                    self.stand(gate);
                }
                Reaction::Go
            }
            // No point of a step allows them.
            What::Drop | What::Duplicate => Reaction::Go,
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use alluvium_actors::ids::{Attempt, SubtaskId};

    use super::*;

    fn actor() -> Address {
        Address::Subtask(SubtaskId::new(0, 0), Attempt(1))
    }

    fn faults(plan: &str) -> Arc<SimulatedFaults> {
        SimulatedFaults::new(&plan.parse().unwrap(), Random::new(1), Arc::default())
    }

    fn after(milliseconds: u64) -> Moment {
        Moment::default() + Duration::from_millis(milliseconds)
    }

    #[test]
    fn an_actor_waits_for_all_that_it_met_and_what_it_sends_waits_with_it() {
        let plan = "snapshot.synchronous=hold(manifest.written); alignment.begins=delay(10ms); barrier.sent=delay(1ms)";
        let faults = faults(plan);
        faults.acts(after(5), Some(actor()));
        assert_eq!(faults.reach(&Hit::of(Point::AlignmentBegins, actor())), Reaction::Go);
        assert!(faults.has_to_wait(actor()));
        assert_eq!(faults.busy_until(actor()), Some(after(15)));
        assert_eq!(faults.reach(&Hit::of(Point::SnapshotSynchronous, actor())), Reaction::Go);
        let gates = faults.gates(actor());
        assert_eq!(gates.len(), 2);
        // A message that is late by itself is late behind its sender.
        let sent = Hit::work(Point::BarrierSent, Who::Sender { from: actor(), to: Address::Coordinator });
        let longest = Duration::from_millis(10) + LONGEST_HOLD;
        assert_eq!(
            faults.deliver(&sent),
            Delivery::Waits(Gate { at: after(5) + longest + Duration::from_millis(1), held: None })
        );
        assert_eq!(
            faults.last_fault(after(5)),
            Some(after(5) + longest + Duration::from_millis(1)),
            "as long as anybody waits"
        );
        // The delay is over, the hold is not.
        assert_eq!(faults.stands_until(actor(), after(20)), Some(after(5) + longest));
        assert!(!gates.iter().all(|gate| faults.is_open(*gate, after(20))));
        faults.acts(after(20), None);
        assert_eq!(faults.reach(&Hit::work(Point::ManifestWritten, Who::Job)), Reaction::Go);
        assert!(gates.iter().all(|gate| faults.is_open(*gate, after(20))));
        assert_eq!(faults.stands_until(actor(), after(20)), None);
        assert!(!faults.has_to_wait(actor()) && !faults.somebody_stands());
    }
}
