//! Carries out what a schedule says beside points: crashes and panics before events, faults of the disk, and what the end of a process takes along.

use std::collections::BTreeSet;

use super::Faults;
use super::draw::{self, Ending};
use super::schedule::{EventFault, Schedule, ScheduledFault};
use crate::fault::{End, FaultPlan};
use crate::testing::disk::{DiskFault, SimulatedDisk};

/// The course of a run: what goes wrong in the process that runs, and what went wrong in those before.
pub(super) struct Course {
    seed: u64,
    faults: Faults,
    schedule: Schedule,
    process: u32,
    /// Before these events of the run the current process crashes; with the number of the fault in the schedule.
    crashes: Vec<(u64, End, Option<usize>)>,
    /// Before these events of the run an actor of the current process panics.
    panics: Vec<(u64, usize)>,
    /// The faults of the schedule, by their number, that struck before events and at ends of processes.
    hits: BTreeSet<usize>,
    /// What the crash before an event takes along.
    crash: Option<End>,
    /// How many faults of the disk that a job may fail by had struck when the current process began.
    struck: usize,
    /// Where each process began: events and effects before it.
    begins: Vec<(u64, u64)>,
    /// The processes whose machine went although no fault of theirs said so.
    machines: Vec<u32>,
}

/// How a process ended.
pub(super) struct Ended {
    /// The disk that the next one finds.
    pub(super) disk: SimulatedDisk,
    /// Whether the machine went too.
    pub(super) machine: bool,
}

impl Course {
    pub(super) fn new(seed: u64, faults: Faults) -> Course {
        let schedule = match &faults {
            Faults::None | Faults::CrashAtEvent(_) | Faults::CrashAtEffect(_) => Schedule::default(),
            Faults::Random => draw::schedule(seed),
            Faults::Points(plan) => plan.clone().into(),
            Faults::Exactly(schedule) => schedule.clone(),
        };
        Course {
            seed,
            faults,
            schedule,
            process: 0,
            crashes: Vec::new(),
            panics: Vec::new(),
            hits: BTreeSet::new(),
            crash: None,
            struck: 0,
            begins: Vec::new(),
            machines: Vec::new(),
        }
    }

    /// The faults at points.
    pub(super) fn points(&self) -> FaultPlan {
        self.schedule.points()
    }

    /// The next process starts, after `events` events.
    pub(super) fn process_starts(&mut self, events: u64, disk: &SimulatedDisk) {
        self.process += 1;
        self.crashes.clear();
        self.panics.clear();
        self.crash = None;
        self.struck = disk.count_failures();
        self.begins.push((events, disk.effects()));
        match self.faults {
            Faults::CrashAtEvent(number) => self.crashes.extend((number > events).then_some((number, End::Any, None))),
            Faults::CrashAtEffect(number) if number > disk.effects() => {
                disk.fail_at_effect(number, DiskFault::PowerCut);
            }
            _ => {}
        }
        let begins = disk.effects();
        for (number, fault) in self.schedule.faults().iter().enumerate() {
            match fault {
                ScheduledFault::Event { process, event, what } if *process == self.process => match what {
                    EventFault::Crash(end) => self.crashes.push((events + event, *end, Some(number))),
                    EventFault::Panic => self.panics.push((events + event, number)),
                },
                ScheduledFault::Effect { process, effect, fault } if *process == self.process => {
                    disk.fail_at_effect(begins + effect, *fault);
                }
                // They know their process themselves, and stay armed over the run.
                ScheduledFault::Disk(rule) if self.process == 1 => disk.arm([rule.clone()]),
                _ => {}
            }
        }
    }

    /// Whether the process crashes before its next event, after `events` events.
    pub(super) fn crashes_before(&mut self, events: u64) -> bool {
        let crash = self.crashes.iter().filter(|(at, ..)| events + 1 >= *at).min_by_key(|(at, ..)| *at);
        self.hits.extend(crash.and_then(|(.., number)| *number));
        self.crash = crash.map(|(_, end, _)| *end);
        self.crash.is_some()
    }

    /// Whether an actor panics before the next event, after `events` events.
    pub(super) fn panics_before(&mut self, events: u64) -> bool {
        let before = self.panics.len();
        let hits = &mut self.hits;
        self.panics.retain(|(at, number)| {
            let waits = events + 1 < *at;
            hits.extend((!waits).then_some(*number));
            waits
        });
        self.panics.len() < before
    }

    /// Whether the disk of the current process failed: then the job may fail too.
    pub(super) fn disk_failed(&self, disk: &SimulatedDisk) -> bool {
        disk.count_failures() > self.struck
    }

    /// Ends a process, of itself or by a crash, at a point if `at_point` says what it takes along. Every handle of the disk that it had fails from now on. What a machine
    /// loses was not synced; what only a process loses is memory.
    pub(super) fn process_ends(&mut self, disk: &SimulatedDisk, at_point: Option<End>) -> Ended {
        disk.clear_numbered_faults();
        let Ending { machine: drawn, loses } = draw::ending(self.seed, self.process);
        let said = at_point.or(self.crash);
        let end = ScheduledFault::End { process: self.process };
        let listed = self.schedule.faults().iter().position(|fault| *fault == end);
        self.hits.extend(listed);
        let listed = listed.is_some();
        let is_by_seed = !matches!(self.faults, Faults::Exactly(_));
        let asked = listed
            || match said {
                Some(End::Machine) => true,
                Some(End::Process) => false,
                Some(End::Any) => drawn,
                None => is_by_seed && drawn,
            };
        // A file system whose directory could not be synced takes nothing more until it is mounted again, and forgets the names: what the next process may build on is what is found then.
        let machine = asked || disk.has_lost_names();
        if machine && (listed || said.is_none() || !asked) {
            self.machines.push(self.process);
        }
        Ended { disk: if machine { disk.crash(loses) } else { disk.kill_process() }, machine }
    }

    /// Whether a fault of the schedule has struck; true of those that others know of.
    fn has_struck(&self, number: usize, fault: &ScheduledFault, disk: &SimulatedDisk) -> bool {
        match fault {
            ScheduledFault::Event { .. } | ScheduledFault::End { .. } => self.hits.contains(&number),
            ScheduledFault::Effect { process, effect, .. } => {
                let effects_before = |process: u32| Some(self.begins.get(usize::try_from(process).ok()?)?.1);
                let end = effects_before(*process).unwrap_or_else(|| disk.effects());
                process.checked_sub(1).and_then(effects_before).is_some_and(|begin| begin + effect <= end)
            }
            ScheduledFault::Point(_) | ScheduledFault::Disk(_) => true,
        }
    }

    /// The faults before events, at numbered changes of the disk and at ends of processes that have not struck.
    pub(super) fn unstruck(&self, disk: &SimulatedDisk) -> impl Iterator<Item = &ScheduledFault> {
        let faults = self.schedule.faults().iter().enumerate();
        faults.filter(|(number, fault)| !self.has_struck(*number, fault, disk)).map(|(_, fault)| fault)
    }

    /// Everything that goes wrong in this run, one by one, without what did not come to it.
    pub(super) fn exactly(&self, disk: &SimulatedDisk) -> Schedule {
        // The last process that began before it: the one in which it happened.
        let begun = |is_before: &dyn Fn(&(u64, u64)) -> bool| {
            let position = self.begins.iter().rposition(is_before)?;
            Some((position as u32 + 1, self.begins[position]))
        };
        let listed = self.schedule.faults().iter().enumerate();
        let mut faults: Vec<ScheduledFault> = listed
            .filter(|(number, fault)| self.has_struck(*number, fault, disk))
            .map(|(_, fault)| fault.clone())
            .collect();
        faults.retain(|fault| !matches!(fault, ScheduledFault::End { .. }));
        match self.faults {
            Faults::CrashAtEvent(number) => {
                let begin = begun(&|(events, _)| number > *events);
                faults.extend(begin.map(|(process, (events, _))| ScheduledFault::Event {
                    process,
                    event: number - events,
                    what: EventFault::Crash(End::Any),
                }));
            }
            Faults::CrashAtEffect(number) => {
                let begin = begun(&|(_, effects)| number > *effects);
                faults.extend(begin.map(|(process, (_, effects))| ScheduledFault::Effect {
                    process,
                    effect: number - effects,
                    fault: DiskFault::PowerCut,
                }));
            }
            _ => {}
        }
        faults.extend(self.machines.iter().map(|process| ScheduledFault::End { process: *process }));
        Schedule::of(faults)
    }
}
