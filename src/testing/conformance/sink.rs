//! The suite for sinks.

use std::collections::VecDeque;
use std::sync::Arc;

use alluvium_actors::ports::files::Files;

use super::sink_process::{Completed, Life, Played, Stop};
use super::{Findings, Nonconformance, Violation, sink_scenes};
use crate::connect::sink::{Guarantee, Sink};
use crate::record::Record;
use crate::testing::disk::SimulatedDisk;

/// A sink, and the world that it writes to.
pub trait SinkUnderTest<T: Record> {
    /// The sink.
    type Sink: Sink<T>;

    /// The outside world is emptied, for a new job.
    fn fresh(&mut self);

    /// The sink, as every process makes it at its start. All write to the same outside world.
    fn sink(&mut self) -> Self::Sink;

    /// A record; every number gives another one.
    fn record(&self, number: u64) -> T;

    /// What has taken effect outside, in any order.
    fn committed(&mut self) -> Vec<T>;

    /// The files that it writes; an empty simulated disk if not given.
    fn files(&mut self) -> Arc<dyn Files> {
        Arc::new(SimulatedDisk::new())
    }

    /// The process has died: what it had not made durable may be forgotten.
    fn crash(&mut self) {}

    /// Whether output stays where the sink put it, so that a job that begins anew would mix its own with it. Not so for a sink that hands records on and keeps none.
    fn keeps_output(&self) -> bool {
        true
    }

    /// How many checkpoints the orders have that are played, all of them; 3 if not given. A slow outside world may take 2.
    fn checkpoints_in_order(&self) -> u32 {
        3
    }

    /// Makes the outside world unavailable, or available again. True if that can be done: then it is tried what commits answer meanwhile.
    fn set_available(&mut self, available: bool) -> bool {
        let _ = available;
        false
    }

    /// Destroys what is prepared and not committed. True if that can be done: then it is tried that a commit says so.
    fn lose_prepared(&mut self) -> bool {
        false
    }
}

/// What the suite did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SinkReport {
    /// How many orders of prepare, complete, abort and death were played.
    pub orders: u64,
    /// How many of the plays had a death before a certain call.
    pub deaths: u64,
    /// How often a process was started.
    pub starts: u64,
}

/// What may happen to a checkpoint, or instead of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Prepared, completed, committed.
    Complete,
    /// Prepared and aborted: what it holds goes with the next one.
    Abort,
    /// Completed, and the notice is lost: the next one commits both.
    LoseNotice,
    /// Completed, and the process dies before it hears of it.
    DieBeforeNotice,
    /// Completed and committed, and the process dies before anybody knows.
    DieAfterCommit,
    /// Prepared, and the process dies before it is completed.
    DieBeforeCompletion,
}

const ACTS: [Act; 6] =
    [Act::Complete, Act::Abort, Act::LoseNotice, Act::DieBeforeNotice, Act::DieAfterCommit, Act::DieBeforeCompletion];

/// Puts a sink through everything that the runtime may do with it: every order of (as a rule) three checkpoints that complete, are aborted, lose their notice, or meet a death
/// before or after it, with one and with two writers; up to three checkpoints that are open at the same time, with records behind each cut; slices of every size; a death before every single call of a longer play; commits that are repeated, by the same and by a later
/// process; commits without a writer; attempts that are over and act all the same; other jobs and other sinks in the same place; a new job over
/// the output of an old one; an outside world that is unavailable or has lost something. At every step the outside must hold exactly
/// the records that it has to (of a sink that promises less than *exactly once*: what its promise allows of what was written).
///
/// # Errors
/// Every rule that the sink breaks, each with what happened before and the records that are wrong.
pub fn check_sink<T: Record, U: SinkUnderTest<T>>(under_test: &mut U) -> Result<SinkReport, Nonconformance> {
    let mut report = SinkReport { orders: 0, deaths: 0, starts: 0 };
    let mut findings = Findings::default();
    for parallelism in [1, 2] {
        let length = under_test.checkpoints_in_order().min(4);
        for number in 0..ACTS.len().pow(length) {
            report.orders += 1;
            let order: Vec<Act> = (0..length).map(|place| ACTS[number / ACTS.len().pow(place) % ACTS.len()]).collect();
            findings.note(play(under_test, parallelism, &mut report, |life| play_order(life, &order)));
        }
        for together in open_together(length.clamp(2, 3) as usize) {
            report.orders += 1;
            findings.note(play(under_test, parallelism, &mut report, |life| play_open_together(life, &together)));
        }
        deaths(under_test, parallelism, &mut report, &mut findings);
    }
    for scene in sink_scenes::all() {
        findings.note(play(under_test, 2, &mut report, scene));
    }
    findings.verdict(report)
}

/// Plays one life in an empty world.
fn play<T: Record, U: SinkUnderTest<T>>(
    under_test: &mut U,
    parallelism: u32,
    report: &mut SinkReport,
    body: impl FnOnce(&mut Life<'_, T, U>) -> Played,
) -> Result<(), Violation> {
    under_test.fresh();
    let mut life = Life::new(under_test, parallelism);
    let outcome = body(&mut life);
    report.starts += life.starts;
    verdict(&life, outcome)
}

fn verdict<T: Record, U: SinkUnderTest<T>>(life: &Life<'_, T, U>, outcome: Played) -> Result<(), Violation> {
    match outcome {
        Ok(()) | Err(Stop::Died) => Ok(()),
        Err(Stop::Fault((rule, found))) => Err(Violation { rule, story: life.story.clone(), found }),
    }
}

fn play_order<T: Record, U: SinkUnderTest<T>>(life: &mut Life<'_, T, U>, order: &[Act]) -> Played {
    life.start()?;
    for act in order {
        life.write(3)?;
        perform(life, *act)?;
    }
    finish(life)
}

/// Checkpoints that are open at the same time.
struct OpenTogether {
    /// How many.
    open: usize,
    /// What becomes of the first ones: completed, aborted, or completed without a notice. If those are not all, the process dies then.
    outcomes: Vec<Act>,
    /// Whether all are prepared before the outcome of the first is known; else each outcome is known while the later ones are being prepared.
    all_prepared: bool,
}

fn open_together(open: usize) -> Vec<OpenTogether> {
    const ENDS: [Act; 3] = [Act::Complete, Act::Abort, Act::LoseNotice];
    let mut all = Vec::new();
    for known in 0..=open as u32 {
        for number in 0..ENDS.len().pow(known) {
            for all_prepared in [false, true] {
                let outcomes = (0..known).map(|place| ENDS[number / ENDS.len().pow(place) % ENDS.len()]).collect();
                all.push(OpenTogether { open, outcomes, all_prepared });
            }
        }
    }
    all
}

/// Several cuts, with records behind each of them, before the first is prepared: as with concurrent checkpoints, and as with one that was aborted while it
/// was being prepared.
fn play_open_together<T: Record, U: SinkUnderTest<T>>(life: &mut Life<'_, T, U>, play: &OpenTogether) -> Played {
    life.start()?;
    life.write(3)?;
    let mut begun = VecDeque::new();
    for _ in 0..play.open {
        begun.push_back(life.begin()?);
        life.write(3)?;
    }
    let mut prepared = VecDeque::new();
    while play.all_prepared
        && let Some(next) = begun.pop_front()
    {
        prepared.push_back(life.prepared(next)?);
    }
    for outcome in &play.outcomes {
        let checkpoint = match (prepared.pop_front(), begun.pop_front()) {
            (Some(checkpoint), _) => checkpoint,
            (None, Some(next)) => life.prepared(next)?,
            (None, None) => break,
        };
        resolve(life, *outcome, checkpoint)?;
        life.write(1)?;
    }
    if play.outcomes.len() < play.open {
        life.restart()?;
    }
    finish(life)
}

/// The last records, and a checkpoint that completes.
fn finish<T: Record, U: SinkUnderTest<T>>(life: &mut Life<'_, T, U>) -> Played {
    life.write(2)?;
    perform(life, Act::Complete)?;
    life.look(life.rule())
}

pub(super) fn perform<T: Record, U: SinkUnderTest<T>>(life: &mut Life<'_, T, U>, act: Act) -> Played {
    let checkpoint = life.prepare()?;
    resolve(life, act, checkpoint)
}

/// What becomes of a checkpoint that is prepared.
fn resolve<T: Record, U: SinkUnderTest<T>>(life: &mut Life<'_, T, U>, act: Act, checkpoint: Completed) -> Played {
    let number = checkpoint.checkpoint;
    match act {
        Act::Complete => {
            life.complete(checkpoint);
            life.notice()
        }
        Act::Abort => {
            life.tell(format!("checkpoint {number} is aborted"));
            Ok(())
        }
        Act::LoseNotice => {
            life.complete(checkpoint);
            life.tell("nobody hears of it");
            Ok(())
        }
        Act::DieBeforeNotice => {
            life.complete(checkpoint);
            life.restart()
        }
        Act::DieAfterCommit => {
            life.complete(checkpoint);
            life.notice()?;
            life.tell("it is committed");
            life.restart()
        }
        Act::DieBeforeCompletion => life.restart(),
    }
}

/// A play that dies before its call number one, two, and so on, and is then taken to its end.
fn deaths<T: Record, U: SinkUnderTest<T>>(
    under_test: &mut U,
    parallelism: u32,
    report: &mut SinkReport,
    findings: &mut Findings,
) {
    let acts = [Act::Abort, Act::Complete, Act::LoseNotice, Act::Complete];
    for call in 1.. {
        under_test.fresh();
        let mut life = Life::new(under_test, parallelism);
        life.dies_at = Some(call);
        let mut outcome = play_order(&mut life, &acts);
        let died = matches!(outcome, Err(Stop::Died));
        if died {
            report.deaths += 1;
            life.dies_at = None;
            life.tell(format!("death before call {call}"));
            // What was not seen to take effect may have.
            outcome = life.restart().and_then(|()| finish(&mut life));
        }
        report.starts += life.starts;
        findings.note(verdict(&life, outcome));
        if !died {
            return;
        }
    }
}

/// Whether the sink promises exactly once.
pub(super) fn exactly_once<T: Record, U: SinkUnderTest<T>>(life: &mut Life<'_, T, U>) -> bool {
    life.under_test.sink().guarantee() == Guarantee::ExactlyOnce
}
