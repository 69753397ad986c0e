//! The driver of the committing side of a sink: commits what completed checkpoints hold, in order, one request at a time.
//!
//! At the start of an attempt it first commits everything that the restored checkpoint had prepared, then removes what earlier attempts left
//! behind, and only then says that it is ready: no writer exists before that (rule 12).

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use std::task::{Context, Poll};

use crate::drive::control::{Control, Origin};
use crate::ids::{Attempt, CheckpointId, Moment, SubtaskId};
use crate::ports::blocking::{Lane, Promise};
use crate::ports::calls::{Call, CallWatch};
use crate::ports::fence::Fence;
use crate::ports::host::{Address, Driver, Host, Step};
use crate::ports::points::{Hit, Point, Points, Reaction, Who};
use crate::ports::sink::{CommitAnswer, PreparedCheckpoint, SinkCommitter, SinkCommitterFactory, SinkScope};
use crate::ports::store::OperatorSnapshot;
use crate::ports::task::Failure;
use crate::protocol::mutation::{Mutation, is_active};

/// How long an injected error puts a commit off.
const PUT_OFF: Duration = Duration::from_millis(5);

/// Passes a fault point of blocking work that may fail.
fn pass(points: &Points, point: Point, sink: u32, name: &str) -> Result<(), Failure> {
    points.pass(&Hit::work(point, Who::Sink(sink)), |reason| Failure::retryable(name, reason))
}

/// What a sink driver is built from.
pub struct SinkSetup {
    /// Its number in the plan.
    pub sink: u32,
    /// The attempt.
    pub attempt: Attempt,
    /// Whose sink it is.
    pub scope: SinkScope,
    /// Builds the committing side.
    pub factory: SinkCommitterFactory,
    /// What the restored checkpoint holds of it, all subtasks.
    pub restored: Vec<OperatorSnapshot>,
    /// What it had prepared.
    pub prepared: Vec<PreparedCheckpoint>,
    /// Where it says which call it is in.
    pub watch: Arc<CallWatch>,
}

type Committer = Box<dyn SinkCommitter>;

enum Stage {
    Opening(Promise<Result<Committer, Failure>>),
    Idle(Committer),
    Committing(Promise<(Committer, Committed)>),
    /// The sink asked for time.
    Resting(Committer, Moment),
    Cleaning(Promise<Result<Committer, Failure>>),
    Ended,
}

/// How far a round of commits came.
struct Committed {
    count: usize,
    stopped_by: Option<CommitAnswer>,
}

struct Job {
    reply_to: Option<SubtaskId>,
    checkpoint: CheckpointId,
    committables: VecDeque<Vec<u8>>,
}

/// Drives the committing side of one sink.
pub struct SinkDriver {
    host: Rc<dyn Host>,
    sink: u32,
    attempt: Attempt,
    name: String,
    fence: Fence,
    stage: Stage,
    jobs: VecDeque<Job>,
    mailbox: VecDeque<Control>,
    /// The call that is under way on the lane, or was last.
    watch: Arc<CallWatch>,
    ready: bool,
    cancelled: bool,
}

impl SinkDriver {
    /// Begins to open the sink.
    #[must_use]
    pub fn new(host: Rc<dyn Host>, setup: SinkSetup) -> SinkDriver {
        let SinkSetup { sink, attempt, scope, factory, restored, prepared, watch } = setup;
        watch.begin(Call::Open);
        let name = scope.uid.as_str().to_owned();
        let fence = scope.fence.clone();
        let points = host.points();
        let opening = Promise::start(host.blocking().as_ref(), Lane::Connectors, move || {
            pass(&points, Point::RestoreSink, sink, scope.uid.as_str())?;
            let mut committer = factory(scope)?;
            committer.open(&restored)?;
            Ok(committer)
        });
        let jobs = prepared
            .into_iter()
            .map(|prepared| Job {
                reply_to: None,
                checkpoint: prepared.checkpoint,
                committables: prepared.committables.into(),
            })
            .collect();
        SinkDriver {
            host,
            sink,
            attempt,
            name,
            fence,
            stage: Stage::Opening(opening),
            jobs,
            mailbox: VecDeque::new(),
            watch,
            ready: false,
            cancelled: false,
        }
    }

    fn try_step(&mut self, context: &mut Context<'_>) -> Result<Step, Failure> {
        while let Some(message) = self.mailbox.pop_front() {
            match message {
                Control::Cancel => self.cancelled = true,
                Control::Commit { subtask, request } => self.jobs.push_back(Job {
                    reply_to: Some(subtask),
                    checkpoint: request.checkpoint,
                    committables: request.committables.into(),
                }),
                other => {
                    return Err(Failure::unrecoverable(&self.name, format!("unexpected message {other:?}")));
                }
            }
        }
        loop {
            match std::mem::replace(&mut self.stage, Stage::Ended) {
                Stage::Opening(mut promise) => match promise.poll(context) {
                    Poll::Pending => {
                        self.stage = Stage::Opening(promise);
                        return Ok(Step::Wait);
                    }
                    Poll::Ready(answer) => self.stage = Stage::Idle(self.survived(answer)??),
                },
                Stage::Cleaning(mut promise) => match promise.poll(context) {
                    Poll::Pending => {
                        self.stage = Stage::Cleaning(promise);
                        return Ok(Step::Wait);
                    }
                    Poll::Ready(answer) => {
                        self.stage = Stage::Idle(self.survived(answer)??);
                        self.ready = true;
                        let ready = Control::SinkReady { attempt: self.attempt, sink: self.sink };
                        self.host.send(Address::Supervisor, ready);
                    }
                },
                Stage::Committing(mut promise) => match promise.poll(context) {
                    Poll::Pending => {
                        self.stage = Stage::Committing(promise);
                        return Ok(Step::Wait);
                    }
                    Poll::Ready(answer) => {
                        let (committer, committed) = self.survived(answer)?;
                        self.after_commits(committer, committed)?;
                    }
                },
                Stage::Resting(committer, until) => {
                    if self.cancelled || self.host.now() >= until {
                        self.stage = Stage::Idle(committer);
                    } else {
                        self.host.wake_at(until);
                        self.stage = Stage::Resting(committer, until);
                        return Ok(Step::Wait);
                    }
                }
                // A cancel ends the driver only here: never while an effect is under way (rule 22).
                Stage::Idle(_) if self.cancelled => return Ok(Step::Finished),
                Stage::Idle(committer) => {
                    if let Some(stage) = self.begin(committer) {
                        self.stage = stage;
                    } else {
                        return Ok(Step::Wait);
                    }
                }
                Stage::Ended => return Ok(Step::Finished),
            }
        }
    }

    /// What an idle committer does next; `None` (and it stays idle) when there is nothing.
    fn begin(&mut self, mut committer: Committer) -> Option<Stage> {
        let blocking = self.host.blocking();
        if let Some(job) = self.jobs.front()
            && (self.ready || !is_active(Mutation::CleanUpBeforeCommits))
        {
            self.watch.begin(Call::Commit);
            let committables = job.committables.clone();
            let points = self.host.points();
            let begins =
                Hit { checkpoint: Some(job.checkpoint), ..Hit::work(Point::CommitBegins, Who::Sink(self.sink)) };
            let done = Hit { point: Point::CommitDone, ..begins };
            return Some(Stage::Committing(Promise::start(blocking.as_ref(), Lane::Connectors, move || {
                let put_off = Some(CommitAnswer::RetryAfter(PUT_OFF));
                let mut count = 0;
                for committable in &committables {
                    if points.reach(|| begins) == Reaction::Fail {
                        return (committer, Committed { count, stopped_by: put_off });
                    }
                    match committer.commit(committable) {
                        CommitAnswer::Done | CommitAnswer::AlreadyDone => {
                            if points.reach(|| done) == Reaction::Fail {
                                return (committer, Committed { count, stopped_by: put_off });
                            }
                            count += 1;
                        }
                        answer @ (CommitAnswer::RetryAfter(_) | CommitAnswer::Fatal(_)) => {
                            return (committer, Committed { count, stopped_by: Some(answer) });
                        }
                    }
                }
                (committer, Committed { count, stopped_by: None })
            })));
        }
        if !self.ready {
            self.watch.begin(Call::CleanUp);
            let (points, sink, name) = (self.host.points(), self.sink, self.name.clone());
            return Some(Stage::Cleaning(Promise::start(blocking.as_ref(), Lane::Connectors, move || {
                pass(&points, Point::SinkCleanUp, sink, &name)?;
                committer.clean_up()?;
                Ok(committer)
            })));
        }
        self.stage = Stage::Idle(committer);
        None
    }

    fn after_commits(&mut self, committer: Committer, committed: Committed) -> Result<(), Failure> {
        let job = self.jobs.front_mut().expect("a round of commits belongs to the first job");
        job.committables.drain(..committed.count);
        match committed.stopped_by {
            Some(CommitAnswer::Fatal(failure)) => return Err(failure),
            Some(CommitAnswer::RetryAfter(delay)) => {
                self.stage = Stage::Resting(committer, self.host.now() + delay);
                return Ok(());
            }
            Some(CommitAnswer::Done | CommitAnswer::AlreadyDone) | None => {}
        }
        let job = self.jobs.pop_front().expect("a round of commits belongs to the first job");
        if let Some(subtask) = job.reply_to {
            let committed = Control::Committed { sink: self.sink, checkpoint: job.checkpoint };
            self.host.send(Address::Subtask(subtask, self.attempt), committed);
        }
        self.stage = Stage::Idle(committer);
        Ok(())
    }

    fn survived<T>(&self, answer: Result<T, crate::ports::blocking::WorkPanicked>) -> Result<T, Failure> {
        answer.map_err(|panic| Failure::panic(&self.name, &panic.0))
    }
}

impl Driver for SinkDriver {
    fn receive(&mut self, message: Control) {
        self.mailbox.push_back(message);
    }

    fn step(&mut self, context: &mut Context<'_>) -> Step {
        match self.try_step(context) {
            Ok(Step::Finished) => {
                self.host.send(Address::Supervisor, Control::SinkEnded { attempt: self.attempt, sink: self.sink });
                Step::Finished
            }
            Ok(step) => step,
            Err(failure) => {
                let failure = failure.behind(&self.fence);
                let origin = Origin::Sink(self.sink);
                self.host.send(Address::Supervisor, Control::Failed { attempt: self.attempt, origin, failure });
                self.host.send(Address::Supervisor, Control::SinkEnded { attempt: self.attempt, sink: self.sink });
                Step::Finished
            }
        }
    }
}
