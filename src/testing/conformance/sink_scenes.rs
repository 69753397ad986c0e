//! Scenes of the suite for sinks: each one a way in which sinks have lost, doubled or destroyed records.

use super::sink::{Act, SinkUnderTest, exactly_once, perform};
use super::sink_process::{COMMITS, Life, ONCE, Played, Stop, failed, told};
use crate::connect::adapter::decode;
use crate::connect::sink::{CommitOutcome, SinkCommit};
use crate::record::Record;

const WITHOUT_WRITER: &str = "A committer works without a writer, in a process that has none.";
const FENCED: &str =
    "An attempt that is over has no effect any more: commits and clean-ups check their fence directly before they act.";
const ONLY_ITS_OWN: &str = "Cleaning up removes what this job and this sink left behind, and nothing of others.";
const OWNED: &str =
    "A job that begins anew over the output of another, or of its own past, refuses or begins with none of it.";
const UNAVAILABLE: &str = "While the outside is unavailable a commit does not claim to be done, and afterwards it is.";
const LOST: &str = "A commit whose transaction is gone says so, and does not claim to be done.";

type Scene<T, U> = fn(&mut Life<'_, T, U>) -> Played;

/// Every scene.
pub(super) fn all<T: Record, U: SinkUnderTest<T>>() -> [Scene<T, U>; 11] {
    [
        without_records,
        slices_of_every_size,
        commits_without_a_writer,
        an_attempt_that_is_over,
        |life| others_in_the_same_place(life, "other", "sink"),
        |life| others_in_the_same_place(life, "trial", "sink-2"),
        |life| begins_anew(life, "00000000000000ab"),
        |life| begins_anew(life, "00000000000000cd"),
        an_outside_that_is_unavailable,
        an_outside_that_lost_something,
        fewer_writers_than_before,
    ]
}

fn fault(rule: &'static str, found: impl Into<String>) -> Played {
    Err(Stop::Fault((rule, found.into())))
}

/// Checkpoints without records, before, between and after some.
fn without_records<T: Record, U: SinkUnderTest<T>>(life: &mut Life<'_, T, U>) -> Played {
    life.start()?;
    perform(life, Act::Complete)?;
    perform(life, Act::DieBeforeNotice)?;
    life.write(3)?;
    perform(life, Act::Complete)?;
    for act in [Act::Complete, Act::Abort, Act::DieAfterCommit, Act::Complete] {
        perform(life, act)?;
    }
    Ok(())
}

/// Slices as the runtime fills them: without a record, with one, with all that go into one.
fn slices_of_every_size<T: Record, U: SinkUnderTest<T>>(life: &mut Life<'_, T, U>) -> Played {
    life.start()?;
    for number in [256, 0, 1, 2, 256, 17, 255, 0] {
        life.write_slice(number)?;
    }
    perform(life, Act::DieBeforeNotice)?;
    life.write_slice(256)?;
    life.write_slice(3)?;
    perform(life, Act::Complete)
}

/// A job that had finished, and whose commits were owed: only its committers run.
fn commits_without_a_writer<T: Record, U: SinkUnderTest<T>>(life: &mut Life<'_, T, U>) -> Played {
    life.start()?;
    life.write(5)?;
    let checkpoint = life.prepare()?;
    life.complete(checkpoint);
    life.tell("the process dies; the next one has no writers");
    for _ in 0..2 {
        life.process = None;
        life.under_test.crash();
        let _committer = life.open()?;
        life.visible = life.position;
        life.look(WITHOUT_WRITER)?;
    }
    Ok(())
}

/// The committer of an attempt that is over tries to commit and to clean up.
fn an_attempt_that_is_over<T: Record, U: SinkUnderTest<T>>(life: &mut Life<'_, T, U>) -> Played {
    life.start()?;
    life.write(4)?;
    let checkpoint = life.prepare()?;
    let mut old = life.process.take().expect("a process was started");
    if !exactly_once(life) || checkpoint.prepared.is_empty() {
        return Ok(());
    }
    life.tell("the next attempt begins (its fence is handed out), and the former one commits");
    // The fence of the old one ends here; its checkpoint was aborted.
    let _new = life.fences.advance();
    for committable in &checkpoint.prepared {
        let committable = decode(committable).map_err(|error| failed("reading a transaction", &error))?;
        let outcome = old.committer.commit(committable);
        if matches!(outcome, CommitOutcome::Done | CommitOutcome::AlreadyDone) {
            return fault(FENCED, format!("its commit answered {}", told(&outcome)));
        }
    }
    life.look(FENCED)?;
    life.complete(checkpoint);
    life.start()?;
    life.write(2)?;
    let next = life.prepare()?;
    life.tell("the former attempt cleans up");
    let _ = old.committer.clean_up();
    drop(old);
    life.complete(next);
    match life.notice() {
        Err(Stop::Fault((rule, found))) if rule == COMMITS || rule == ONCE => fault(FENCED, found),
        outcome => outcome,
    }
}

/// Another sink has prepared something in the same place when this one cleans up.
fn others_in_the_same_place<T: Record, U: SinkUnderTest<T>>(life: &mut Life<'_, T, U>, job: &str, uid: &str) -> Played {
    let (mut latest, prepared, story) = {
        let mut other = Life::<T, U>::new(life.under_test, 2);
        (other.job, other.uid) = (job.to_owned(), uid.to_owned());
        other.first = 1_000;
        other.start()?;
        other.write(3)?;
        let checkpoint = other.prepare()?;
        other.complete(checkpoint);
        let story = format!("the sink `{uid}` of the job `{job}` has prepared records 1000 to 1002 in the same place");
        let prepared = other.latest.as_ref().is_some_and(|latest| !latest.prepared.is_empty());
        (other.latest.take(), prepared, story)
    };
    life.tell(story);
    life.others = 1_000..1_003;
    if !prepared {
        return Ok(());
    }
    // One that refuses the place does others no harm.
    let refuses = |stop: &Stop| matches!(stop, Stop::Fault((rule, _)) if *rule == super::sink_process::NO_FAILURE);
    match life.start() {
        Err(stop) if refuses(&stop) => return Ok(()),
        started => started?,
    }
    life.write(2)?;
    life.tell("this one starts and cleans up, dies, starts and cleans up again");
    life.restart()?;
    life.tell("the other one commits");
    let mut other = Life::<T, U>::new(life.under_test, 2);
    (other.job, other.uid, other.run, other.ids) = (job.to_owned(), uid.to_owned(), 1, 1);
    (other.first, other.position, other.visible, other.written) = (1_000, 3, 3, 3);
    other.others = 0..2;
    other.latest = latest.take();
    match other.open() {
        Err(Stop::Fault((_, found))) => fault(ONLY_ITS_OWN, found),
        Err(stop) => Err(stop),
        Ok(_) => match other.look(ONLY_ITS_OWN) {
            Err(Stop::Fault((rule, found))) => fault(rule, found),
            looked => looked,
        },
    }
}

/// A start without a checkpoint, over output.
fn begins_anew<T: Record, U: SinkUnderTest<T>>(life: &mut Life<'_, T, U>, store: &str) -> Played {
    life.start()?;
    life.write(4)?;
    perform(life, Act::Complete)?;
    if !exactly_once(life) || !life.under_test.keeps_output() {
        return Ok(());
    }
    life.tell(format!("the job begins anew, without a checkpoint, with the store {store}"));
    life.process = None;
    life.latest = None;
    (life.position, life.visible) = (0, 0);
    store.clone_into(&mut life.store);
    match life.open() {
        // Refused, as it should be where output stays.
        Err(Stop::Fault((rule, _))) if rule == super::sink_process::NO_FAILURE => return Ok(()),
        opened => drop(opened?),
    }
    match life.start().and_then(|()| life.write(4)).and_then(|()| perform(life, Act::Complete)) {
        Err(Stop::Fault((_, found))) => fault(OWNED, found),
        outcome => outcome,
    }
}

/// The outside cannot be reached while commits are asked for.
fn an_outside_that_is_unavailable<T: Record, U: SinkUnderTest<T>>(life: &mut Life<'_, T, U>) -> Played {
    life.start()?;
    life.write(4)?;
    let checkpoint = life.prepare()?;
    let committables = checkpoint.prepared.clone();
    life.complete(checkpoint);
    if committables.is_empty() || life.guarantee.loses() || !life.under_test.set_available(false) {
        return Ok(());
    }
    life.tell("the outside is unavailable");
    let mut process = life.process.take().expect("a process was started");
    for committable in &committables {
        let decoded = decode(committable).map_err(|error| failed("reading a transaction", &error))?;
        let outcome = process.committer.commit(decoded);
        if matches!(outcome, CommitOutcome::Done | CommitOutcome::AlreadyDone) {
            return fault(UNAVAILABLE, format!("a commit answered {}", told(&outcome)));
        }
    }
    life.process = Some(process);
    life.under_test.set_available(true);
    life.tell("it is available again");
    match life.notice() {
        Err(Stop::Fault((_, found))) => fault(UNAVAILABLE, found),
        outcome => outcome,
    }
}

/// What was prepared is gone.
fn an_outside_that_lost_something<T: Record, U: SinkUnderTest<T>>(life: &mut Life<'_, T, U>) -> Played {
    life.start()?;
    life.write(4)?;
    let checkpoint = life.prepare()?;
    if checkpoint.prepared.is_empty() || life.guarantee.loses() || !life.under_test.lose_prepared() {
        return Ok(());
    }
    life.tell("the outside loses what is prepared");
    let mut process = life.process.take().expect("a process was started");
    for committable in &checkpoint.prepared {
        let decoded = decode(committable).map_err(|error| failed("reading a transaction", &error))?;
        let outcome = process.committer.commit(decoded);
        if !matches!(outcome, CommitOutcome::Fatal(_)) {
            return fault(LOST, format!("its commit answered {}", told(&outcome)));
        }
    }
    Ok(())
}

/// Three writers prepared, one starts: what the others left is committed or removed all the same.
fn fewer_writers_than_before<T: Record, U: SinkUnderTest<T>>(life: &mut Life<'_, T, U>) -> Played {
    life.parallelism = 3;
    life.start()?;
    life.write(6)?;
    let checkpoint = life.prepare()?;
    life.complete(checkpoint);
    life.write(6)?;
    let _never_completed = life.prepare()?;
    life.parallelism = 1;
    life.tell("from now on with 1 writer");
    life.restart()?;
    life.write(6)?;
    perform(life, Act::Complete)
}
