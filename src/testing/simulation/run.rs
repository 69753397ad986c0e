//! A run from its first process to the end of the job.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alluvium_actors::ids::Moment;
use alluvium_actors::ports::history::CheckpointRecord;
use alluvium_actors::ports::listener::{JobEvent, Listener};
use alluvium_actors::protocol::lifecycle::JobState;
use alluvium_actors::protocol::supervise::RestartStrategy;

use super::course::{Course, Ended};
use super::outside::Outside;
use super::points::SimulatedFaults;
use super::process::Process;
use super::schedule::ScheduledFault;
use super::story::{Story, What};
use super::watch::Watch;
use super::{Boot, Faults, Next, Report, Scenario, Simulation, World};
use crate::fault::{FaultPlan, Names, Random};
use crate::testing::disk::SimulatedDisk;

/// How many processes a run may start before it counts as hanging.
const PROCESSES: u32 = 200;

/// How many events a run may have before it counts as hanging.
const EVENTS: u64 = 400_000;

/// Keeps the chances of the disk apart from those of the schedule.
const DISK_SEED: u64 = 0xd15c_d15c_d15c_d15c;

/// A scenario looks at the world at least this often.
const LOOK: Duration = Duration::from_secs(1);

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// Everything in memory is gone.
    Crashed,
    /// The job could not be built.
    NotStarted(String),
    /// The job came to its end.
    Over(JobState),
}

/// A simulation under way.
pub(super) struct Run<'a> {
    scenario: &'a mut dyn Scenario,
    simulation: Simulation,
    course: Course,
    /// How often the job of the current process may restart.
    restart: RestartStrategy,
    random: Random,
    disk: SimulatedDisk,
    story: Arc<Mutex<Story>>,
    watch: Arc<Mutex<Watch>>,
    plan: FaultPlan,
    faults: Arc<SimulatedFaults>,
    outside: Outside,
    /// When something went wrong last, and how many faults of the disk had struck by then.
    last_fault: Option<Moment>,
    struck: usize,
    /// When the scenario looked at the world last.
    looked: Moment,
    now: Moment,
    report: Report,
}

impl<'a> Run<'a> {
    pub(super) fn new(simulation: Simulation, scenario: &'a mut dyn Scenario, story: Arc<Mutex<Story>>) -> Run<'a> {
        let mut random = Random::new(simulation.seed);
        let disk = SimulatedDisk::new();
        disk.set_seed(simulation.seed ^ DISK_SEED);
        let report = Report {
            events: 0,
            effects: 0,
            processes: 0,
            crashes: 0,
            failures: 0,
            completed: 0,
            time: Duration::ZERO,
            fingerprint: 0,
            reached: BTreeMap::new(),
            places: BTreeMap::new(),
            struck: 0,
            struck_at: BTreeMap::new(),
            unstruck: Vec::new(),
            exactly: simulation.clone(),
        };
        // One number is passed over: so the seeds that tests and files name mean the runs that they were kept for.
        let _ = random.next();
        let course = Course::new(simulation.seed, simulation.faults.clone());
        let plan = course.points();
        // A sequence of its own: without a probability in the plan nothing is drawn from it, and the rest of the run does not change.
        let faults = SimulatedFaults::new(&plan, Random::new(simulation.seed ^ 0xfa01), Arc::clone(&story));
        // With chance of its own: what outside systems draw changes nothing in the order of events.
        let outside = Outside::new(Random::new(!simulation.seed).next(), Arc::clone(&story), disk.clone());
        Run {
            scenario,
            plan,
            faults,
            course,
            restart: RestartStrategy::None,
            simulation,
            random,
            disk,
            story,
            watch: Arc::default(),
            outside,
            last_fault: None,
            struck: 0,
            looked: Moment::default(),
            now: Moment::default(),
            report,
        }
    }

    pub(super) fn finish(&mut self) -> Result<Report, String> {
        self.scenario.begin(&self.outside);
        self.scenario.prepare(&self.disk);
        loop {
            if self.report.processes == PROCESSES {
                return Err(self.hangs(&format!("it is not over after {PROCESSES} starts")));
            }
            self.report.processes += 1;
            let next = match self.process()? {
                End::Crashed => {
                    self.report.crashes += 1;
                    self.last_fault = Some(self.now);
                    Next::StartAgain
                }
                End::NotStarted(_) | End::Over(JobState::Failed) if self.may_fail() => {
                    self.report.failures += 1;
                    Next::StartAgain
                }
                End::NotStarted(reason) => return Err(format!("the job cannot be built: {reason}")),
                End::Over(state) => {
                    self.report.effects = self.disk.effects();
                    let complete = self.watch().complete();
                    let (calm, last_fault) = (self.is_calm(), self.last_fault(self.now));
                    let world = World { disk: &self.disk, complete, state, calm, last_fault, now: self.now };
                    self.disk.undisturbed(|| self.scenario.ended(&world))?
                }
            };
            if next == Next::Nothing {
                let completed = self.watch().completed();
                self.report.completed = completed;
                self.report.reached = self.faults.reached();
                self.report.places = self.faults.places();
                self.report.struck_at = self.faults.struck();
                self.report.struck = self.report.struck_at.values().sum();
                self.report.unstruck = self.faults.unstruck().iter().map(ToString::to_string).collect();
                self.report.unstruck.extend(self.disk.unstruck().iter().map(ToString::to_string));
                self.report.unstruck.extend(self.course.unstruck(&self.disk).map(ToString::to_string));
                self.report.time = self.now.since(Moment::default());
                return Ok(self.report.clone());
            }
        }
    }

    /// The same run with everything that goes wrong in it named one by one. What did not come to it is left out, unless numbers were drawn for it, since those decide about others.
    pub(super) fn exactly(&self) -> Simulation {
        let points = self
            .faults
            .unstruck()
            .into_iter()
            .filter(|fault| fault.without_probability().is_none())
            .map(ScheduledFault::Point);
        let rules = self.disk.unstruck().into_iter().filter(|rule| !rule.has_a_chance()).map(ScheduledFault::Disk);
        let schedule = self.course.exactly(&self.disk).without(points.chain(rules));
        self.simulation.clone().with(Faults::Exactly(schedule))
    }

    /// Whether the job may fail in the current process: its disk did, or more went wrong than it may restart for.
    fn may_fail(&self) -> bool {
        self.course.disk_failed(&self.disk)
            || (self.faults.struck_here() > 0 && has_given_up(self.restart, self.watch().restarts()))
    }

    /// Whether neither the disk failed in the current process nor a fault has struck at a named point.
    fn is_calm(&self) -> bool {
        !self.course.disk_failed(&self.disk) && self.faults.struck_here() == 0
    }

    /// When something went wrong last.
    fn last_fault(&self, now: Moment) -> Option<Moment> {
        self.last_fault.max(self.faults.last_fault(now))
    }

    /// Remembers when the disk failed.
    fn hear_of_the_disk(&mut self, now: Moment) {
        let struck = self.disk.count_struck();
        if struck > self.struck {
            (self.struck, self.last_fault) = (struck, self.last_fault.max(Some(now)));
        }
    }

    /// One process, from its start to its end.
    fn process(&mut self) -> Result<End, String> {
        let number = self.report.processes;
        self.tell(What::Started { process: number });
        self.watch().starts();
        self.outside.change_history().process_starts(self.now);
        self.course.process_starts(self.events(), &self.disk);
        self.faults.process_starts(number);
        let listener = Arc::new(Tell {
            story: Arc::clone(&self.story),
            watch: Arc::clone(&self.watch),
            outside: self.outside.clone(),
        });
        let mut boot = Boot {
            number,
            disk: self.disk.clone(),
            listener,
            outside: self.outside.clone(),
            may_go_wrong: self.simulation.faults != Faults::None,
            random: &mut self.random,
            commands: Vec::new(),
            programs: Vec::new(),
        };
        let built = self.scenario.boot(&mut boot);
        let (commands, programs) = (boot.commands, boot.programs);
        // The start reads the store before anything else can happen.
        self.now = self.now + self.disk.take_busy();
        for struck in self.disk.newly_struck() {
            self.outside.tell("disk", struck);
        }
        self.hear_of_the_disk(self.now);
        let mut process_slot = None;
        let end = match built {
            Ok(setup) => {
                self.restart = setup.restart;
                let random = Random::new(self.random.next());
                let story = Arc::clone(&self.story);
                let names = Names::of(&setup.plan);
                self.faults.process_begins(number, names, setup.checkpoint_mode, self.disk.clone());
                let may_suspend = self.faults.may_suspend_work(&self.plan);
                let faults = Arc::clone(&self.faults);
                let (outside, disk, order) = (self.outside.clone(), self.disk.clone(), self.simulation.order);
                let process =
                    Process::new(setup, outside, self.now, random, story, disk, commands, order, faults, may_suspend);
                let process = process_slot.insert(process);
                process.run_beside(programs);
                let end = self.step_to_the_end(process)?;
                self.now = process.now();
                end
            }
            Err(_) if self.disk.is_powered_off() => End::Crashed,
            Err(reason) => End::NotStarted(reason),
        };
        // The disk's generation ends first: what destructors write is ignored (rule 35).
        let effects = self.disk.effects();
        let Ended { disk, machine } = self.course.process_ends(&self.disk, self.faults.crash());
        drop(process_slot);
        self.disk = disk;
        self.tell(What::Ended { crashed: end == End::Crashed, machine, effects });
        Ok(end)
    }

    fn step_to_the_end(&mut self, process: &mut Process) -> Result<End, String> {
        let mut effects = self.disk.effects();
        loop {
            let events = self.events();
            if events >= EVENTS {
                return Err(self.hangs(&format!("it is not over after {EVENTS} events")));
            }
            if self.course.crashes_before(events) {
                return Ok(End::Crashed);
            }
            if self.course.panics_before(events) {
                process.panic();
                self.last_fault = self.last_fault.max(Some(process.now()));
            }
            let over = process.event()?;
            if self.disk.is_powered_off() {
                return Ok(End::Crashed);
            }
            self.watch().verdict()?;
            self.faults.verdict()?;
            let now = process.now();
            self.hear_of_the_disk(now);
            if self.disk.effects() != effects || now.since(self.looked) >= LOOK {
                effects = self.disk.effects();
                self.looked = now;
                let complete = self.watch().complete();
                let state = self.watch().state();
                let (calm, last_fault) = (self.is_calm(), self.last_fault(now));
                let world = World { disk: &self.disk, complete, state, calm, last_fault, now };
                self.disk.undisturbed(|| self.scenario.observe(&world))?;
            }
            if over {
                return Ok(End::Over(self.watch().state()));
            }
        }
    }

    /// The job does not come to its end; the last failure may say why.
    fn hangs(&self, how: &str) -> String {
        let failure = self.outside.history(|history| {
            history.events().iter().rev().find_map(|(_, event)| match event {
                JobEvent::Failed(failure) => Some(format!("; its last failure was: {failure}")),
                _ => None,
            })
        });
        format!("the job hangs: {how}{}", failure.unwrap_or_default())
    }

    fn events(&self) -> u64 {
        self.story.lock().unwrap_or_else(PoisonError::into_inner).events()
    }

    fn tell(&self, what: What) {
        self.story.lock().unwrap_or_else(PoisonError::into_inner).tell(self.now, None, what);
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a strategy allows no restart more after so many.
fn has_given_up(strategy: RestartStrategy, restarts: u32) -> bool {
    match strategy {
        RestartStrategy::FixedDelay { attempts, .. } => restarts >= attempts,
        RestartStrategy::ExponentialDelay(delay) => delay.attempts.is_some_and(|attempts| restarts >= attempts),
        // None at all, or so many within some time.
        _ => true,
    }
}

/// Tells the story and the watch what the job tells.
struct Tell {
    story: Arc<Mutex<Story>>,
    watch: Arc<Mutex<Watch>>,
    outside: Outside,
}

impl Listener for Tell {
    fn event(&self, event: JobEvent) {
        self.outside.change_history().event(self.outside.now(), &event);
        self.watch.lock().unwrap_or_else(PoisonError::into_inner).event(&event);
        self.story.lock().unwrap_or_else(PoisonError::into_inner).tell_job(&event);
    }

    fn recorded(&self, record: &Arc<CheckpointRecord>) {
        self.outside.change_history().recorded(record);
    }
}
