//! The suite for sources.

use std::sync::Arc;

use alluvium_actors::ids::CheckpointId;
use alluvium_actors::ports::files::Files;

use super::doors::{Arbiter, WatchedFiles};
use super::emitted::Emitted;
use super::source_process::{Cut, Fault, Process, Progress, WAKES};
use super::{Findings, Nonconformance, Violation};
use crate::connect::source::{Boundedness, Replay, Source};
use crate::fault::Random;
use crate::testing::disk::SimulatedDisk;
use crate::testing::host::Site;

const RESTORES: &str = "Restored from a snapshot, wherever it was taken, a source goes on behind the last record before the cut: every record once.";
const QUIET_SNAPSHOT: &str = "A snapshot, completed or aborted, changes nothing for the run that goes on.";
const SECOND_SNAPSHOT: &str = "A snapshot that follows a restore, with few records between or none, goes on from it.";
const MANY_DEATHS: &str = "Over any order of snapshots, completions, deaths and restores every record comes once.";
const SAME_RECORDS: &str = "With any number of readers the same records come.";
const EXPECTED: &str = "A run without a failure emits the expected records.";
const ENDS: &str = "A bounded source ends.";

/// So many calls without an end are taken for a source that never ends.
const MOST_CALLS: u64 = 1_000_000;

/// So many moments of a run are cut at, at most.
const MOST_CUTS: u64 = 120;

/// After the last expected record of an unbounded source so many calls show whether more come.
const CALLS_BEHIND_THE_LAST: u64 = 300;

/// So many calls an unbounded source gets that may have lost records.
const CALLS_AFTER_A_LOSS: u64 = 20_000;

/// How many random lives each number of readers gets.
const LIVES: u64 = 24;

/// A source, and the world that it reads. Implemented for functions that make the source.
pub trait SourceUnderTest {
    /// The source.
    type Source: Source;

    /// The outside world is set to its beginning. Called before each run that begins anew.
    fn fresh(&mut self) {}

    /// The source, as every process makes it at its start.
    fn source(&mut self) -> Self::Source;

    /// The outside world moves a little: called now and then, and when nothing else moves. False when it has nothing more to show. For sources whose
    /// splits or records come while they run.
    fn advance(&mut self) -> bool {
        false
    }

    /// The records that a run has to emit; an unbounded source must give them, else a run without a failure tells.
    fn expected(&mut self) -> Option<Vec<<Self::Source as Source>::Record>> {
        None
    }

    /// The split that a record is of. If it is given, the records of each split have to come in their order: that of the expected ones, or that of the run without
    /// a failure.
    fn split_of(&self, record: &<Self::Source as Source>::Record) -> Option<String> {
        let _ = record;
        None
    }

    /// Whether what [`SourceUnderTest::advance`] shows wakes the source, and nothing else does. It is then polled only if it left a waker for that.
    fn advance_wakes(&self) -> bool {
        false
    }

    /// The files that it reads; an empty simulated disk if not given.
    fn files(&mut self) -> Arc<dyn Files> {
        Arc::new(SimulatedDisk::new())
    }
}

impl<S: Source, F: FnMut() -> S> SourceUnderTest for F {
    type Source = S;

    fn source(&mut self) -> S {
        self()
    }
}

/// What the suite did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourceReport {
    /// How many records a run has.
    pub records: usize,
    /// How often a process was started, from the beginning or from a snapshot.
    pub starts: u64,
    /// How many snapshots were taken.
    pub snapshots: u64,
}

/// Puts a source through everything that the runtime may do with it: one, two, three and five readers; a death behind a snapshot at every moment of a run
/// (up to a hundred and twenty of them, evenly spread); snapshots that complete, are aborted, follow each other without a record between; dozens of
/// lives with several deaths each, in random orders, with up to three checkpoints open at the same time whose notices come late and in any order. A source that
/// [cannot replay](Replay) may lose what came since the last completed checkpoint with a death, and repeats and reorders nothing. The messages that are under way are delivered in every order that the runtime allows; everybody is
/// polled only when the runtime would. Everything goes by a fixed seed, so a finding comes again.
///
/// Small inputs (a few hundred records) are enough, and quick.
///
/// ```
/// use alluvium::connect::Generator;
/// use alluvium::testing::conformance::check_source;
///
/// let report = check_source(&mut || Generator::bounded(300, |index| index).splits(3))?;
/// assert_eq!(report.records, 300);
/// assert!(report.snapshots > 100);
/// # Ok::<_, alluvium::testing::conformance::Nonconformance>(())
/// ```
///
/// # Errors
/// Every rule that the source breaks, each with what happened before and the records that are wrong.
pub fn check_source<U: SourceUnderTest>(under_test: &mut U) -> Result<SourceReport, Nonconformance> {
    let mut suite = Suite {
        under_test,
        expected: Emitted::default(),
        bounded: true,
        loses: false,
        report: SourceReport { records: 0, starts: 0, snapshots: 0 },
    };
    let mut findings = Findings::default();
    let undisturbed = suite.learn();
    let sound = undisturbed.is_ok();
    findings.note(undisturbed);
    if sound {
        for parallelism in [1, 2, 3, 5] {
            findings.note(suite.undisturbed(parallelism, u64::from(parallelism)));
            suite.cut_everywhere(parallelism, &mut findings);
        }
        for parallelism in [1, 2, 3] {
            for seed in 0..LIVES {
                if findings.broken(WAKES) {
                    break;
                }
                findings.note(suite.life(parallelism, seed));
            }
        }
    }
    let report = suite.report;
    findings.verdict(report)
}

struct Suite<'a, U> {
    under_test: &'a mut U,
    expected: Emitted,
    bounded: bool,
    /// It cannot emit again what a death took.
    loses: bool,
    report: SourceReport,
}

type Run<U> = Process<<U as SourceUnderTest>::Source>;

/// A process with what it runs from.
struct Started<U: SourceUnderTest> {
    /// Gone only between two attempts.
    process: Option<Run<U>>,
    source: U::Source,
    site: Site,
    arbiter: Arbiter,
}

impl<U: SourceUnderTest> Started<U> {
    fn process(&mut self) -> &mut Run<U> {
        self.process.as_mut().expect("an attempt was started")
    }
}

fn readers(parallelism: u32) -> String {
    if parallelism == 1 { "1 reader".to_owned() } else { format!("{parallelism} readers") }
}

fn violation(story: &[String], (rule, found): Fault) -> Violation {
    Violation { rule, story: story.to_vec(), found }
}

impl<U: SourceUnderTest> Suite<'_, U> {
    /// Starts a process: a new source on the same outside world.
    fn start(&mut self, parallelism: u32, restored: Option<&Cut>, seed: u64) -> Result<Started<U>, Fault> {
        let arbiter = Arbiter::default();
        let files = Arc::new(WatchedFiles { files: self.under_test.files(), arbiter: arbiter.clone() });
        let site = Site { parallelism, ..Site::new("source", files) };
        let source = self.under_test.source();
        self.bounded = source.boundedness() == Boundedness::Bounded;
        self.loses = source.replay() != Replay::FromStoredPosition;
        self.report.starts += 1;
        let mut process = Process::start(&source, &site, &arbiter, restored, seed)?;
        process.patient = !self.under_test.advance_wakes();
        Ok(Started { process: Some(process), source, site, arbiter })
    }

    /// Starts again inside of the same process: the same source, built once more.
    fn start_again(&mut self, started: &mut Started<U>, restored: Option<&Cut>, seed: u64) -> Result<(), Fault> {
        self.report.starts += 1;
        // The attempt before has ended when the next one begins.
        drop(started.process.take());
        let mut process = Process::start(&started.source, &started.site, &started.arbiter, restored, seed)?;
        process.patient = !self.under_test.advance_wakes();
        started.process = Some(process);
        Ok(())
    }

    /// Up to so many calls, in a world that moves.
    fn run(&mut self, process: &mut Run<U>, calls: u64) -> Result<Progress, Fault> {
        let mut left = calls;
        loop {
            let now = left.min(40);
            let before = process.calls;
            let progress = process.run(now)?;
            left -= now.min((process.calls - before).max(1));
            match progress {
                Progress::Ended => return Ok(Progress::Ended),
                Progress::Going => {
                    self.under_test.advance();
                }
                Progress::Still => {
                    // A source is not told when the world moves; one that waits for nothing has asked for no time either.
                    if !self.under_test.advance() {
                        return Ok(Progress::Still);
                    }
                    if !self.under_test.advance_wakes() {
                        process.nudge();
                    }
                }
            }
            if left == 0 {
                return Ok(Progress::Going);
            }
        }
    }

    /// What a process emitted.
    fn emitted(&self, process: &Run<U>) -> Emitted {
        self.gather(&process.emitted())
    }

    fn gather(&self, records: &[&<U::Source as Source>::Record]) -> Emitted {
        let mut emitted = Emitted::default();
        records.iter().for_each(|record| emitted.push(*record, self.under_test.split_of(record)));
        emitted
    }

    /// Goes on until all is read; `kept` is what came before the last restore, if there was one.
    fn finish(&mut self, process: &mut Run<U>, kept: Option<&Emitted>) -> Result<(), Fault> {
        // Nobody knows how many of the expected records are to come when some may have been lost.
        let lost = self.loses && kept.is_some();
        let kept = kept.map_or(0, Emitted::len);
        let wanted = self.expected.len().saturating_sub(kept);
        loop {
            let progress = self.run(process, 200)?;
            if progress == Progress::Ended && self.bounded {
                return Ok(());
            }
            if !self.bounded && process.emitted_number() >= wanted {
                self.run(process, CALLS_BEHIND_THE_LAST)?;
                return Ok(());
            }
            if !self.bounded && lost && (progress == Progress::Still || process.calls > CALLS_AFTER_A_LOSS) {
                return Ok(());
            }
            let came = kept + process.emitted_number();
            let told = match self.expected.len() {
                0 => format!("{came} records came"),
                expected => format!("{came} of {expected} records came"),
            };
            match progress {
                Progress::Going => {}
                Progress::Ended => return Err((ENDS, format!("every reader of an unbounded source ended; {told}"))),
                Progress::Still => {
                    let found = format!(
                        "nobody has anything to do and nothing is waited for, but not every reader ended; {told}"
                    );
                    return Err((WAKES, found));
                }
            }
            if process.calls > MOST_CALLS {
                return Err((ENDS, format!("not within {MOST_CALLS} calls; {told}")));
            }
        }
    }

    /// What a run without a failure emits.
    fn learn(&mut self) -> Result<(), Violation> {
        let story = ["one reader, without a failure".to_owned()];
        let expected = self.under_test.expected();
        self.under_test.fresh();
        let mut learn = || {
            let mut started = self.start(1, None, 1)?;
            match &expected {
                Some(expected) => self.expected = self.gather(&expected.iter().collect::<Vec<_>>()),
                None if !self.bounded => {
                    return Err((EXPECTED, "an unbounded source, and no expected records were given".to_owned()));
                }
                None => {}
            }
            self.finish(started.process(), None)?;
            let emitted = self.emitted(started.process());
            if expected.is_none() {
                self.expected = emitted;
            } else if let Some(difference) = emitted.differs_from(&self.expected, false) {
                return Err((EXPECTED, difference));
            }
            self.report.records = self.expected.len();
            Ok(())
        };
        learn().map_err(|fault| violation(&story, fault))
    }

    /// A run without a failure, and how many calls it took.
    fn undisturbed(&mut self, parallelism: u32, seed: u64) -> Result<(), Violation> {
        self.length(parallelism, seed).map(drop)
    }

    fn length(&mut self, parallelism: u32, seed: u64) -> Result<u64, Violation> {
        let story = [format!("{}, without a failure", readers(parallelism))];
        self.under_test.fresh();
        let mut length = || {
            let mut started = self.start(parallelism, None, seed)?;
            self.finish(started.process(), None)?;
            match self.emitted(started.process()).differs_from(&self.expected, false) {
                Some(difference) => Err((SAME_RECORDS, difference)),
                None => Ok(started.process().calls),
            }
        };
        length().map_err(|fault| violation(&story, fault))
    }

    /// Cuts a run at every moment. Once it dies behind the cut, once it goes on.
    fn cut_everywhere(&mut self, parallelism: u32, findings: &mut Findings) {
        let seed = 100 + u64::from(parallelism);
        let Ok(length) = self.length(parallelism, seed) else { return };
        let step = length.div_ceil(MOST_CUTS).max(1);
        for moment in (0..=length).step_by(step as usize) {
            if findings.broken(WAKES) {
                // Everything else would stand still the same way.
                return;
            }
            for dies in [true, false] {
                findings.note(self.told(parallelism, seed, moment, |tester, story| {
                    tester.cut_at(parallelism, seed, moment, dies, story)
                }));
                if (moment / step).is_multiple_of(4) {
                    findings.note(self.told(parallelism, seed, moment, |tester, story| {
                        tester.cut_together_at(parallelism, seed, moment, dies, story)
                    }));
                }
            }
        }
    }

    /// Plays a run that is cut at this moment, over readers that begin anew; what goes wrong is told with the story before it.
    fn told(
        &mut self,
        parallelism: u32,
        seed: u64,
        moment: u64,
        play: impl FnOnce(&mut Self, &mut Vec<String>) -> Result<(), Fault>,
    ) -> Result<(), Violation> {
        let mut story = vec![format!("{}; {moment} calls (seed {seed})", readers(parallelism))];
        self.under_test.fresh();
        play(self, &mut story).map_err(|fault| violation(&story, fault))
    }

    /// One checkpoint: once the run dies behind it, once it goes on.
    fn cut_at(
        &mut self,
        parallelism: u32,
        seed: u64,
        moment: u64,
        dies: bool,
        story: &mut Vec<String>,
    ) -> Result<(), Fault> {
        let mut started = self.start(parallelism, None, seed)?;
        self.run(started.process(), moment)?;
        let (cut, kept) = self.cut(started.process(), CheckpointId(1), story)?;
        if !dies {
            // Completed and aborted ones by turns.
            let completed = moment.is_multiple_of(2);
            story.push(format!("checkpoint 1 is {}", if completed { "completed" } else { "aborted" }));
            started.process().resolve(CheckpointId(1), completed);
            self.finish(started.process(), None)?;
            let emitted = self.emitted(started.process());
            return emitted.differs_from(&self.expected, false).map_or(Ok(()), |found| Err((QUIET_SNAPSHOT, found)));
        }
        // What comes behind the cut is lost with the process.
        self.run(started.process(), moment % 37)?;
        story.push(format!("death {} calls later; restored from checkpoint 1", moment % 37));
        drop(started);
        let mut started = self.start(parallelism, Some(&cut), seed + moment)?;
        let (again, before_it) = self.cut(started.process(), CheckpointId(2), story)?;
        let mut all = kept;
        let mut rule = RESTORES;
        if moment.is_multiple_of(3) {
            rule = SECOND_SNAPSHOT;
            story.push("death; restored from checkpoint 2".to_owned());
            all.append(before_it);
            drop(started);
            started = self.start(parallelism, Some(&again), seed + moment)?;
        }
        self.finish(started.process(), Some(&all))?;
        all.append(self.emitted(started.process()));
        story.push(started.process().told("first"));
        all.differs_from(&self.expected, self.loses).map_or(Ok(()), |found| Err((rule, found)))
    }

    /// Three checkpoints that are open together, whose notices come in another order.
    fn cut_together_at(
        &mut self,
        parallelism: u32,
        seed: u64,
        moment: u64,
        dies: bool,
        story: &mut Vec<String>,
    ) -> Result<(), Fault> {
        let mut started = self.start(parallelism, None, seed)?;
        self.run(started.process(), moment)?;
        for id in 1..=3 {
            started.process().begin_cut(CheckpointId(id))?;
            self.run(started.process(), moment % 7)?;
        }
        story.push("checkpoints 1, 2 and 3 are open together".to_owned());
        let mut last = None;
        for _ in 1..=3 {
            last = Some(self.finish_cut(started.process(), story)?);
        }
        let second = moment.is_multiple_of(2);
        story.push(format!(
            "the readers hear of the completion of 3, then of 1; then 2 is {}",
            if second { "completed" } else { "aborted" }
        ));
        for (id, completed) in [(3, true), (1, true), (2, second)] {
            started.process().resolve(CheckpointId(id), completed);
            self.run(started.process(), 3)?;
        }
        let Some((cut, mut all)) = last.filter(|_| dies) else {
            self.finish(started.process(), None)?;
            let emitted = self.emitted(started.process());
            return emitted.differs_from(&self.expected, false).map_or(Ok(()), |found| Err((QUIET_SNAPSHOT, found)));
        };
        story.push("death; restored from checkpoint 3".to_owned());
        drop(started);
        let mut started = self.start(parallelism, Some(&cut), seed + moment)?;
        self.finish(started.process(), Some(&all))?;
        all.append(self.emitted(started.process()));
        all.differs_from(&self.expected, self.loses).map_or(Ok(()), |found| Err((RESTORES, found)))
    }

    /// A cut, with the calls that happen while it is taken.
    fn cut(
        &mut self,
        process: &mut Run<U>,
        checkpoint: CheckpointId,
        story: &mut Vec<String>,
    ) -> Result<(Cut, Emitted), Fault> {
        process.begin_cut(checkpoint)?;
        self.finish_cut(process, story)
    }

    /// The oldest cut that was begun.
    fn finish_cut(&mut self, process: &mut Run<U>, story: &mut Vec<String>) -> Result<(Cut, Emitted), Fault> {
        self.report.snapshots += 1;
        let (cut, kept) = process.finish_cut()?;
        let before = self.gather(&process.emitted_before(&kept));
        story.push(format!("checkpoint {} is taken behind {} records", cut.checkpoint.0, before.len()));
        Ok((cut, before))
    }

    /// A random life: snapshots, completions and aborts, deaths of the attempt and of the process.
    fn life(&mut self, parallelism: u32, seed: u64) -> Result<(), Violation> {
        let mut story = vec![format!("{} (life {seed})", readers(parallelism))];
        self.under_test.fresh();
        let outcome = self.play_life(parallelism, seed, &mut story);
        outcome.map_err(|fault| violation(&story, fault))
    }

    fn play_life(&mut self, parallelism: u32, seed: u64, story: &mut Vec<String>) -> Result<(), Fault> {
        let mut random = Random::new(seed);
        let mut started = self.start(parallelism, None, seed)?;
        // Records before the cut that this attempt began with, and the cut.
        let mut kept = Emitted::default();
        let mut restored: Option<Cut> = None;
        let mut id = 0;
        let length = 40 + 4 * self.expected.len() as u64 / 10;
        for death in 0..4 {
            let mut completed: Option<(Cut, Emitted)> = None;
            let mut notices = Vec::new();
            for _ in 0..random.below(4) {
                self.run(started.process(), random.below(length))?;
                let open = 1 + random.below(3);
                for _ in 0..open {
                    id += 1;
                    started.process().begin_cut(CheckpointId(id))?;
                    self.run(started.process(), random.below(20))?;
                }
                if open > 1 {
                    story.push(format!("{open} checkpoints are open, up to {id}"));
                }
                for _ in 0..open {
                    let (cut, before) = self.finish_cut(started.process(), story)?;
                    let checkpoint = cut.checkpoint;
                    match random.below(3) {
                        0 => notices.push((checkpoint, false)),
                        1 => {
                            notices.push((checkpoint, true));
                            completed = Some((cut, before));
                        }
                        _ => {
                            story.push(format!("checkpoint {} is completed, and nobody hears of it", checkpoint.0));
                            completed = Some((cut, before));
                        }
                    }
                }
                // Notices come late, and in any order.
                while !notices.is_empty() && random.below(4) > 0 {
                    let (checkpoint, completed) = notices.swap_remove(random.below(notices.len() as u64) as usize);
                    let outcome = if completed { "completed" } else { "aborted" };
                    story.push(format!("the readers hear that checkpoint {} is {outcome}", checkpoint.0));
                    started.process().resolve(checkpoint, completed);
                    self.run(started.process(), random.below(20))?;
                }
            }
            self.run(started.process(), random.below(length))?;
            if let Some((cut, before)) = completed {
                kept.append(before);
                restored = Some(cut);
            }
            let from =
                restored.as_ref().map_or("the beginning".to_owned(), |cut| format!("checkpoint {}", cut.checkpoint.0));
            let next = seed * 10 + death + 1;
            if random.below(2) == 0 {
                story.push(format!("the process dies; restored from {from}"));
                drop(started);
                started = self.start(parallelism, restored.as_ref(), next)?;
            } else {
                story.push(format!("the attempt fails; restored from {from} in the same process"));
                self.start_again(&mut started, restored.as_ref(), next)?;
            }
        }
        self.finish(started.process(), Some(&kept))?;
        kept.append(self.emitted(started.process()));
        kept.differs_from(&self.expected, self.loses).map_or(Ok(()), |found| Err((MANY_DEATHS, found)))
    }
}
