//! Once faults stop, the job goes on.

use std::time::Duration;

use alluvium_actors::ids::Moment;
use alluvium_actors::ports::listener::JobEvent;

use super::{Check, Scene, Verdict, Violation, shown};

/// Within a bounded virtual time after the last fault a checkpoint completes or the job ends. Faults are the start of a process (the one before it crashed, failed or was
/// stopped), a failure of a task, and all time in which the disk may fail.
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
}

impl Check for Progress {
    fn rule(&self) -> &str {
        "progress"
    }

    fn observe(&mut self, scene: &Scene<'_>) -> Result<(), Violation> {
        for (at, event) in &scene.history.events()[self.read..] {
            match event {
                JobEvent::Completed { .. } => self.is(*at, "the last checkpoint"),
                JobEvent::Failed(_) => self.is(*at, "the last failure of a task"),
                _ => {}
            }
        }
        self.read = scene.history.events().len();
        if let Some(started) = scene.history.processes().last() {
            self.is(*started, "the start of the process");
        }
        if !scene.world.calm {
            self.is(scene.world.now, "the last fault of the disk");
        }
        let now = scene.world.now;
        if now.since(self.since) <= self.within || scene.world.state.is_terminal() {
            return Ok(());
        }
        Err(Violation::new(format!(
            "nothing goes wrong any more, and no checkpoint was completed within {:?} after {} ({}); it is {} and the job is {}",
            self.within,
            self.what,
            shown(self.since),
            shown(now),
            scene.world.state
        )))
    }

    fn ended(&mut self, _: &Scene<'_>) -> Result<Verdict, Violation> {
        Ok(Verdict::Kept)
    }
}
