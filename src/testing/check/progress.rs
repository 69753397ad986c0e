//! Once faults stop, the job goes on.

use std::time::Duration;

use alluvium_actors::ids::Moment;
use alluvium_actors::ports::listener::JobEvent;

use super::{Check, Scene, Verdict, Violation, shown};

/// Within a bounded virtual time after the last fault a checkpoint completes or the job ends, and so again after each checkpoint. Faults are the start of a process (the one before it
/// crashed, failed or was stopped), a failure of a task, and what the world calls its [last fault](crate::testing::simulation::World::last_fault): one that a job tolerates puts
/// the bound off, and not out of force.
#[derive(Clone, Debug)]
pub struct Progress {
    within: Duration,
    read: usize,
    since: Moment,
    what: &'static str,
}

impl Progress {
    /// At least one checkpoint in this time. It has to be longer than the interval of checkpoints, their timeout, and the delay of a restart together.
    #[must_use]
    pub fn within(time: Duration) -> Progress {
        Progress { within: time, read: 0, since: Moment::default(), what: "the beginning" }
    }

    fn is(&mut self, at: Moment, what: &'static str) {
        if at >= self.since {
            (self.since, self.what) = (at, what);
        }
    }

    /// What was told up to now, and whether it came in time.
    fn follow(&mut self, scene: &Scene<'_>) -> Result<(), Violation> {
        let last_fault = scene.world.last_fault;
        let started = scene.history.processes().last().copied();
        let mut later = [(started, "the start of the process"), (last_fault, "the last fault")];
        later.sort_by_key(|(at, _)| *at);
        let events = &scene.history.events()[self.read..];
        self.read = scene.history.events().len();
        for (at, event) in events {
            // Of several faults the world tells the last one: what came before it is not judged.
            for (fault, what) in later.into_iter().filter(|(fault, _)| *fault <= Some(*at)) {
                fault.into_iter().for_each(|fault| self.is(fault, what));
            }
            match event {
                JobEvent::Completed { .. } => {
                    if last_fault <= Some(*at) && started <= Some(*at) {
                        self.judge(*at, scene)?;
                    }
                    self.is(*at, "the last checkpoint");
                }
                JobEvent::Failed(_) => self.is(*at, "the last failure of a task"),
                _ => {}
            }
        }
        for (fault, what) in later {
            fault.into_iter().for_each(|fault| self.is(fault, what));
        }
        self.judge(scene.world.now, scene)
    }

    /// Whether it was in time that something happened at `at`, or that nothing has happened yet.
    fn judge(&self, at: Moment, scene: &Scene<'_>) -> Result<(), Violation> {
        if self.since > at || at.since(self.since) <= self.within {
            return Ok(());
        }
        Err(Violation::new(format!(
            "nothing goes wrong any more, and no checkpoint was completed within {:?} after {} ({}); it is {} and the job is {}",
            self.within,
            self.what,
            shown(self.since),
            shown(at),
            scene.world.state
        )))
    }
}

impl Check for Progress {
    fn rule(&self) -> &str {
        "progress"
    }

    fn observe(&mut self, scene: &Scene<'_>) -> Result<(), Violation> {
        self.follow(scene)
    }

    /// The end has to come in time too.
    fn ended(&mut self, scene: &Scene<'_>) -> Result<Verdict, Violation> {
        self.follow(scene).map(|()| Verdict::Kept)
    }
}

#[cfg(test)]
mod tests {
    use alluvium_actors::ids::CheckpointId;
    use alluvium_actors::ports::store::CheckpointKind;
    use alluvium_actors::protocol::lifecycle::JobState;

    use super::*;
    use crate::testing::disk::SimulatedDisk;
    use crate::testing::simulation::{History, World};

    fn at(seconds: u64) -> Moment {
        Moment(seconds * 1_000_000_000)
    }

    /// A job that is looked at every second, with a checkpoint at each of these, and a last fault that struck and was tolerated.
    fn follow(checkpoints: &[u64], faults: &[u64], end: u64) -> Result<(), String> {
        let (disk, mut history) = (SimulatedDisk::new(), History::default());
        history.process_starts(at(0));
        let mut check = Progress::within(Duration::from_secs(10));
        for now in 0..=end {
            for completed in checkpoints.iter().filter(|completed| **completed == now) {
                let checkpoint = CheckpointId(*completed);
                let (kind, duration) = (CheckpointKind::Periodic, Duration::ZERO);
                history.event(at(now), &JobEvent::Completed { checkpoint, kind, duration, bytes: 0 });
            }
            let last_fault = faults.iter().filter(|fault| **fault <= now).max().map(|fault| at(*fault));
            let state = if now == end { JobState::Finished } else { JobState::Running };
            let calm = last_fault.is_none();
            let world = World { disk: &disk, complete: None, state, calm, last_fault, now: at(now) };
            let scene = Scene { world: &world, history: &history, job: "job", store: None };
            let looked = if now == end { check.ended(&scene).map(drop) } else { check.observe(&scene) };
            looked.map_err(|violation| violation.to_string())?;
        }
        Ok(())
    }

    #[test]
    fn a_fault_that_was_tolerated_puts_the_bound_off_and_not_out_of_force() {
        assert_eq!(follow(&[5, 14, 24], &[], 30), Ok(()));
        assert_eq!(follow(&[5], &[10], 20), Ok(()), "the end comes in time");
        let wrong = follow(&[5], &[10], 40).unwrap_err();
        assert!(wrong.contains("within 10s after the last fault (10000.000 ms); it is 21000.000 ms"), "{wrong}");
        assert_eq!(follow(&[5, 33], &[10, 17, 24], 40), Ok(()), "as long as something goes wrong");
    }

    #[test]
    fn a_checkpoint_or_an_end_that_comes_too_late_is_found_though_nobody_looked_in_between() {
        let wrong = |checkpoints: &[u64]| follow(checkpoints, &[], 40).unwrap_err();
        assert!(wrong(&[1, 12]).contains("after the last checkpoint (1000.000 ms); it is 12000.000 ms"));
        let (disk, mut history) = (SimulatedDisk::new(), History::default());
        history.process_starts(at(0));
        let state = JobState::Finished;
        let world = World { disk: &disk, complete: None, state, calm: true, last_fault: None, now: at(11) };
        let scene = Scene { world: &world, history: &history, job: "job", store: None };
        let wrong = Progress::within(Duration::from_secs(10)).ended(&scene).unwrap_err().to_string();
        assert!(wrong.contains("after the start of the process"), "{wrong}");
    }
}
