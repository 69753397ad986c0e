//! What becomes of completed checkpoints when a job ends: the settings, the order, and every order of faults.

use std::collections::BTreeSet;
use std::time::Duration;

use alluvium_actors::ids::Moment;
use alluvium_actors::protocol::cleanup::ExternalizedCheckpointRetention::{
    DeleteOnCancellation, NoExternalizedCheckpoints, RetainOnCancellation,
};
use alluvium_actors::protocol::cleanup::{
    Cleanup, Delete, Effect, Event, ExternalizedCheckpointRetention, Leaves, Newest,
};
use alluvium_actors::protocol::lifecycle::JobState;
use alluvium_actors::protocol::machine::Machine;

use crate::explore::{AtRest, Bounds, Exploration, explore};

const PATIENCE: Duration = Duration::from_secs(180);

/// A clean-up, the time, and what it is told.
struct Desk {
    cleanup: Cleanup,
    now: Moment,
}

impl Desk {
    fn begun(leaves: Leaves, expected: &[Effect]) -> Desk {
        let mut desk = Desk { cleanup: Cleanup::new(leaves, PATIENCE), now: Moment(0) };
        assert_eq!(desk.tell(Event::Begin), expected);
        desk
    }

    fn tell(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.cleanup.handle(self.now, event, &mut effects);
        self.cleanup.check().unwrap();
        effects
    }

    fn late(&mut self) -> Vec<Effect> {
        self.now = self.cleanup.next_deadline().unwrap();
        self.tell(Event::Deadline)
    }
}

fn unreadable(reason: &str) -> Event {
    Event::Read(Newest::Unreadable { reason: reason.to_owned() })
}

fn over(left: Option<&str>) -> Effect {
    Effect::Over { left: left.map(str::to_owned) }
}

#[test]
fn what_is_left_follows_the_setting_for_each_end_of_a_job() {
    let (everything, nothing) = (Leaves::Everything, Leaves::Nothing);
    for retention in ExternalizedCheckpointRetention::ALL {
        assert_eq!(retention.leaves(JobState::Finished), Leaves::FinalMarker);
        assert_eq!(retention.leaves(JobState::Stopped), everything, "it is to go on");
    }
    for (retention, cancelled, failed) in [
        (NoExternalizedCheckpoints, nothing, nothing),
        (DeleteOnCancellation, nothing, everything),
        (RetainOnCancellation, everything, everything),
    ] {
        assert_eq!(retention.leaves(JobState::Cancelled), cancelled, "{retention:?}");
        assert_eq!(retention.leaves(JobState::Failed), failed, "{retention:?}");
    }
}

#[test]
fn a_state_that_is_no_end_leaves_everything_and_all_is_kept_by_default() {
    assert_eq!(ExternalizedCheckpointRetention::default(), RetainOnCancellation);
    for state in JobState::ALL.into_iter().filter(|state| !state.is_terminal()) {
        for retention in ExternalizedCheckpointRetention::ALL {
            assert_eq!(retention.leaves(state), Leaves::Everything, "{state}");
        }
    }
}

#[test]
fn what_is_to_be_left_is_not_touched() {
    let mut desk = Desk::begun(Leaves::Everything, &[over(None)]);
    assert_eq!(desk.tell(Event::Begin), []);
    assert_eq!(desk.cleanup.next_deadline(), None);
}

#[test]
fn a_finished_job_leaves_the_mark_of_its_end() {
    let mut desk = Desk::begun(Leaves::FinalMarker, &[Effect::Delete(Delete::AllButFinal)]);
    assert_eq!(desk.tell(Event::Deleted { error: None }), [over(None)]);
}

#[test]
fn what_the_newest_checkpoint_owes_is_committed_before_all_are_deleted() {
    let mut desk = Desk::begun(Leaves::Nothing, &[Effect::ReadNewest]);
    assert_eq!(desk.tell(Event::Read(Newest::Resumable)), [Effect::OpenSinks]);
    assert_eq!(desk.tell(Event::SinksEnded), [], "they were not told to");
    assert_eq!(desk.tell(Event::Committed), [Effect::EndSinks]);
    assert_eq!(desk.tell(Event::SinksEnded), [Effect::Delete(Delete::All)]);
    assert_eq!(desk.tell(Event::Deleted { error: None }), [over(None)]);
    assert_eq!(desk.cleanup.next_deadline(), None);
}

#[test]
fn without_a_checkpoint_nothing_is_owed_and_leftovers_go() {
    let mut desk = Desk::begun(Leaves::Nothing, &[Effect::ReadNewest]);
    assert_eq!(desk.tell(Event::Read(Newest::Absent)), [Effect::Delete(Delete::All)]);
}

#[test]
fn the_mark_of_the_end_stays_whatever_ended_the_job() {
    let mut desk = Desk::begun(Leaves::Nothing, &[Effect::ReadNewest]);
    assert_eq!(desk.tell(Event::Read(Newest::Final)), [Effect::OpenSinks]);
    assert_eq!(desk.tell(Event::Committed), [Effect::EndSinks]);
    assert_eq!(desk.tell(Event::SinksEnded), [Effect::Delete(Delete::AllButFinal)]);
}

#[test]
fn what_stands_in_the_way_keeps_everything_and_is_told() {
    let mut desk = Desk::begun(Leaves::Nothing, &[Effect::ReadNewest]);
    assert_eq!(desk.tell(unreadable("damaged")), [over(Some("damaged"))]);

    let mut desk = Desk::begun(Leaves::Nothing, &[Effect::ReadNewest]);
    desk.tell(Event::Read(Newest::Resumable));
    assert_eq!(desk.tell(Event::NotCommitted { reason: "gone".to_owned() }), [Effect::EndSinks]);
    assert_eq!(desk.tell(Event::Committed), [], "another sink's word comes too late");
    assert_eq!(desk.tell(Event::SinksEnded), [over(Some("gone"))]);

    let mut desk = Desk::begun(Leaves::FinalMarker, &[Effect::Delete(Delete::AllButFinal)]);
    assert_eq!(desk.tell(Event::Deleted { error: Some("full".to_owned()) }), [over(Some("full"))]);
}

#[test]
fn a_step_that_takes_too_long_ends_the_clean_up_and_deletes_nothing() {
    let mut desk = Desk::begun(Leaves::Nothing, &[Effect::ReadNewest]);
    desk.now = Moment(1);
    assert_eq!(desk.tell(Event::Deadline), [], "not yet");
    assert!(matches!(&desk.late()[..], [Effect::Over { left: Some(reason) }] if reason.contains("reading")));
    assert_eq!(desk.tell(Event::Read(Newest::Resumable)), [], "a late answer");

    let mut desk = Desk::begun(Leaves::Nothing, &[Effect::ReadNewest]);
    desk.tell(Event::Read(Newest::Resumable));
    assert_eq!(desk.late(), [Effect::EndSinks], "the sinks get the same time to end");
    assert!(matches!(&desk.late()[..], [Effect::Over { left: Some(reason) }] if reason.contains("commit")));
    assert_eq!(desk.tell(Event::SinksEnded), []);

    let mut desk = Desk::begun(Leaves::Nothing, &[Effect::ReadNewest]);
    desk.tell(Event::Read(Newest::Resumable));
    desk.tell(Event::Committed);
    assert!(matches!(&desk.late()[..], [Effect::Over { left: Some(reason) }] if reason.contains("end of a sink")));

    let mut desk = Desk::begun(Leaves::FinalMarker, &[Effect::Delete(Delete::AllButFinal)]);
    assert!(matches!(&desk.late()[..], [Effect::Over { left: Some(reason) }] if reason.contains("deleting")));
}

// Every order of what can happen: two sinks, each of which is owed a commit; faults at every step.

/// A rule that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Defect {
    None,
    /// The driver says that all is committed when the first sink is.
    OneSinkIsEnough,
    /// A manifest is deleted before the record says that the next start begins anew.
    ManifestFirst,
}

#[derive(Clone, Hash)]
struct World {
    defect: Defect,
    faults: u8,
    cleanup: Cleanup,
    now: Moment,
    /// The process is gone, or the job has ended: what is durable says the rest.
    ended: bool,
    reading: bool,
    /// The sinks whose commits are under way, and those that are there.
    committing: BTreeSet<u8>,
    sinks: BTreeSet<u8>,
    told_to_end: bool,
    /// The steps of a deletion that are left: the record, then the two manifests.
    deleting: Option<u8>,
    /// Durable: the manifests, whether the newest record leads to them, and what each sink has outside.
    manifests: BTreeSet<u8>,
    abandoned: bool,
    outside: BTreeSet<u8>,
}

impl World {
    fn new(faults: u8, defect: Defect) -> World {
        let mut world = World {
            defect,
            faults,
            cleanup: Cleanup::new(Leaves::Nothing, PATIENCE),
            now: Moment(0),
            ended: false,
            reading: false,
            committing: BTreeSet::new(),
            sinks: BTreeSet::new(),
            told_to_end: false,
            deleting: None,
            manifests: BTreeSet::from([1, 2]),
            abandoned: false,
            outside: BTreeSet::new(),
        };
        world.apply(Event::Begin);
        world
    }

    fn apply(&mut self, event: Event) {
        let mut effects = Vec::new();
        self.cleanup.handle(self.now, event, &mut effects);
        for effect in effects {
            match effect {
                Effect::ReadNewest => self.reading = true,
                Effect::OpenSinks => {
                    self.sinks = BTreeSet::from([1, 2]);
                    self.committing = self.sinks.clone();
                }
                Effect::EndSinks => self.told_to_end = true,
                Effect::Delete(_) => self.deleting = Some(3),
                Effect::Over { left: _ } => self.ended = true,
            }
        }
    }

    fn delete_one(&mut self, left: u8) {
        match (left, self.defect) {
            (3, Defect::ManifestFirst) => {
                self.manifests.remove(&2);
            }
            (3, _) => self.abandoned = true,
            (_, Defect::ManifestFirst) => self.abandoned = true,
            (left, _) => {
                self.manifests.remove(&left);
            }
        }
        if left == 1 {
            self.deleting = None;
            self.apply(Event::Deleted { error: None });
        } else {
            self.deleting = Some(left - 1);
        }
    }

    fn steps(&self, successors: &mut Vec<(String, World)>) {
        let mut step = |name: String, faults: u8, change: &dyn Fn(&mut World)| {
            if self.faults >= faults {
                let mut after = self.clone();
                after.faults -= faults;
                change(&mut after);
                successors.push((name, after));
            }
        };
        // What a sink has begun goes on when nobody waits for it any more.
        for sink in &self.committing {
            step(format!("sink {sink} commits"), 0, &|after| {
                after.committing.remove(sink);
                after.outside.insert(*sink);
                if after.committing.is_empty() || after.defect == Defect::OneSinkIsEnough {
                    after.apply(Event::Committed);
                }
            });
        }
        if self.ended {
            return;
        }
        step("crash".to_owned(), 1, &|after| {
            after.ended = true;
            after.committing.clear();
        });
        step("time passes".to_owned(), 1, &|after| {
            after.now = after.cleanup.next_deadline().unwrap_or(after.now);
            after.apply(Event::Deadline);
        });
        if self.reading {
            step("the newest is read".to_owned(), 0, &|after| {
                after.reading = false;
                after.apply(Event::Read(Newest::Resumable));
            });
            step("the newest is not read".to_owned(), 1, &|after| {
                after.reading = false;
                after.apply(unreadable("damaged"));
            });
        }
        for sink in &self.committing {
            step(format!("sink {sink} fails"), 1, &|after| {
                after.committing.remove(sink);
                after.sinks.remove(sink);
                after.apply(Event::NotCommitted { reason: "no".to_owned() });
            });
        }
        if self.told_to_end && self.committing.is_empty() {
            step("the sinks end".to_owned(), 0, &|after| {
                after.told_to_end = false;
                after.sinks.clear();
                after.apply(Event::SinksEnded);
            });
        }
        if let Some(left) = self.deleting {
            step(format!("deletes, {left} left"), 0, &|after| after.delete_one(left));
            step(format!("does not delete, {left} left"), 1, &|after| {
                after.deleting = None;
                after.apply(Event::Deleted { error: Some("no".to_owned()) });
            });
        }
    }

    fn rule(&self, at_rest: AtRest) -> Result<(), String> {
        self.cleanup.check().map_err(|violation| violation.to_string())?;
        let newest = self.manifests.last().copied();
        if !self.abandoned && newest != Some(2) {
            return Err(format!("the next start goes on from {newest:?}, an older state than what is outside"));
        }
        if self.abandoned && self.outside.len() < 2 {
            return Err(format!("the next start begins anew, and only {:?} is outside", self.outside));
        }
        if at_rest == AtRest(true) && !self.ended {
            return Err("the clean-up does not come to its end".to_owned());
        }
        Ok(())
    }
}

fn walk(name: &str, world: World) -> Exploration<String> {
    explore(name, world, Bounds { states: 100_000, depth: 100 }, World::steps, World::rule)
}

#[test]
fn walk_nothing_that_a_completed_checkpoint_covers_is_lost_with_every_three_faults() {
    walk("cleanup", World::new(3, Defect::None)).assert_holds_everywhere();
}

#[test]
fn walk_a_deletion_after_the_commit_of_one_sink_is_found() {
    let found = walk("cleanup, one sink is enough", World::new(1, Defect::OneSinkIsEnough));
    assert!(found.expect_counterexample().violation.contains("only {1} is outside"));
}

#[test]
fn walk_a_manifest_that_goes_before_the_record_is_found() {
    let found = walk("cleanup, manifest first", World::new(1, Defect::ManifestFirst));
    assert!(found.expect_counterexample().violation.contains("an older state"));
}
