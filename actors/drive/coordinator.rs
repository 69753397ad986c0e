//! The driver of the checkpoint coordinator: translates messages to events, carries out effects, re-arms one timer.
//!
//! It holds what the machine only knows by id: the snapshots that were acknowledged, the enumerators of the sources, the requests of
//! users. It lives as long as the job; attempts come and go.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::drive::control::{Control, Reply, Resume};
use crate::drive::edge::Barrier;
use crate::drive::subtask::drop_quietly;
use crate::drive::under_way::UnderWay;
use crate::ids::{Attempt, CheckpointId, Moment, NodeId, SubtaskId, Token, WallTime};
use crate::plan::Plan;
use crate::ports::blocking::{Lane, Promise, panic_text};
use crate::ports::fence::Fence;
use crate::ports::files::Files;
use crate::ports::host::{Address, Driver, Host, Step};
use crate::ports::listener::{JobEvent, Listener};
use crate::ports::source::{Assignment, Enumerator, EnumeratorContext, ReaderEvent};
use crate::ports::store::{
    BlobHandle, CheckpointKind, CheckpointStore, Manifest, OperatorShape, OperatorSnapshot, Piece, PieceContent,
    RunRecord, SubtaskSnapshot,
};
use crate::ports::task::Failure;
use crate::protocol::coordinator::{
    Acknowledgement, Coordinator, Effect, Event, FailureReason, JobFailure, Outcome, RequestId, RequestKind, Settings,
    Start, StatisticsSnapshot, SubtaskFigures,
};
use crate::protocol::machine::Machine;

/// How often the driver tries to find out whether a manifest of unknown outcome exists, before it gives the job up.
const READ_BACK_TRIES: u32 = 5;

/// The name of the piece of a checkpoint that holds an enumerator's state.
const ENUMERATOR: &str = "enumerator";

/// What the coordinator's driver is built from.
pub struct CoordinatorSetup {
    /// The job.
    pub plan: Arc<Plan>,
    /// When and how often to take checkpoints.
    pub settings: Settings,
    /// Where checkpoints go.
    pub store: Arc<dyn CheckpointStore>,
    /// Files for enumerators.
    pub files: Arc<dyn Files>,
    /// Who watches.
    pub listener: Arc<dyn Listener>,
}

/// Drives the coordinator of one job.
pub struct CoordinatorDriver {
    host: Rc<dyn Host>,
    setup: CoordinatorSetup,
    machine: Coordinator,
    mailbox: VecDeque<Control>,
    effects: VecDeque<Effect>,
    deployment: Option<Deployment>,
    collected: BTreeMap<CheckpointId, Collected>,
    /// The snapshot of the acknowledgement that is being handled, if the machine did not accept it.
    refused: Option<Box<SubtaskSnapshot>>,
    replies: BTreeMap<RequestId, Reply<CheckpointId>>,
    requests: u64,
    under_way: Vec<UnderWay>,
    /// The attempt that was asked for last, deployed or not: failures belong to it.
    attempt: Attempt,
    /// The statistics that were shown last.
    shown: Arc<StatisticsSnapshot>,
}

/// The attempt that runs.
struct Deployment {
    attempt: Attempt,
    run: RunRecord,
    fence: Fence,
    restored: Option<CheckpointId>,
    retained: Vec<CheckpointId>,
    enumerators: Vec<Box<dyn Enumerator>>,
}

/// What the driver holds of a pending checkpoint.
struct Collected {
    kind: CheckpointKind,
    triggered: Moment,
    triggered_wall: WallTime,
    enumerators: Vec<OperatorSnapshot>,
    subtasks: BTreeMap<SubtaskId, SubtaskSnapshot>,
}

impl Collected {
    fn blobs(&self) -> Vec<BlobHandle> {
        self.subtasks.values().flat_map(SubtaskSnapshot::blobs).cloned().collect()
    }
}

impl CoordinatorDriver {
    /// A coordinator that waits for its first attempt.
    #[must_use]
    pub fn new(host: Rc<dyn Host>, setup: CoordinatorSetup) -> CoordinatorDriver {
        let machine = Coordinator::new(setup.settings.clone());
        CoordinatorDriver {
            host,
            setup,
            machine,
            mailbox: VecDeque::new(),
            effects: VecDeque::new(),
            deployment: None,
            collected: BTreeMap::new(),
            refused: None,
            replies: BTreeMap::new(),
            requests: 0,
            under_way: Vec::new(),
            attempt: Attempt(0),
            shown: Arc::default(),
        }
    }

    /// Hands an event to the machine and carries out what it asks for, until it asks for nothing more.
    fn handle(&mut self, event: Event) -> Result<(), Failure> {
        let mut emitted = Vec::new();
        self.machine.handle(self.host.now(), event, &mut emitted);
        debug_assert_eq!(self.machine.check(), Ok(()));
        self.effects.extend(emitted);
        while let Some(effect) = self.effects.pop_front() {
            if let Some(answer) = self.carry_out(effect)? {
                let mut emitted = Vec::new();
                self.machine.handle(self.host.now(), answer, &mut emitted);
                debug_assert_eq!(self.machine.check(), Ok(()));
                self.effects.extend(emitted);
            }
        }
        if let Some(deadline) = self.machine.next_deadline() {
            self.host.wake_at(deadline);
        }
        Ok(())
    }

    fn on_message(&mut self, message: Control) -> Result<(), Failure> {
        match message {
            Control::Resume(resume) => self.resume(*resume),
            Control::Running { attempt } => self.running(attempt),
            Control::Suspend => self.handle(Event::Suspend),
            Control::Shutdown => self.handle(Event::Shutdown),
            Control::Acknowledge { attempt, checkpoint, snapshot } => self.acknowledge(attempt, checkpoint, snapshot),
            Control::Decline { attempt, checkpoint, subtask, reason, failure } => {
                tracing::debug!(%checkpoint, %subtask, ?reason, %failure, "declined");
                self.handle(Event::Declined { attempt, subtask, checkpoint, reason })
            }
            Control::EndOfData { attempt, subtask } => self.handle(Event::EndOfData { attempt, subtask }),
            Control::Reader { attempt, subtask, event } => self.reader_event(attempt, subtask, event),
            Control::TakeCheckpoint(reply) => self.request(RequestKind::Checkpoint, reply),
            Control::TakeStoppingCheckpoint(reply) => self.request(RequestKind::Stop, reply),
            other => Err(Failure::unrecoverable("coordinator", format!("unexpected message {other:?}"))),
        }
    }

    fn request(&mut self, kind: RequestKind, reply: Reply<CheckpointId>) -> Result<(), Failure> {
        self.requests += 1;
        let request = RequestId(self.requests);
        self.replies.insert(request, reply);
        self.handle(Event::Request { request, kind })
    }

    /// A new attempt is being deployed: build and restore the enumerators, so that readers can register.
    fn resume(&mut self, resume: Resume) -> Result<(), Failure> {
        let Resume { attempt, run, restored, retained, fence } = resume;
        self.attempt = attempt;
        let mut enumerators = Vec::new();
        for source in &self.setup.plan.sources {
            let context = EnumeratorContext {
                job: Arc::clone(&self.setup.plan.job),
                uid: source.uid.clone(),
                parallelism: self.setup.plan.node(source.node).parallelism,
                host: Rc::clone(&self.host),
                files: Arc::clone(&self.setup.files),
            };
            let name = source.uid.as_str();
            let mut enumerator = caught(name, || (source.enumerator)(context))??;
            let state = restored.as_ref().and_then(|manifest| {
                let snapshot = manifest.enumerators.iter().find(|snapshot| snapshot.uid == source.uid)?;
                snapshot.piece(ENUMERATOR).cloned()
            });
            if let Some(Piece { content: PieceContent::Inline(state), .. }) = state {
                caught(name, || enumerator.restore(&state))??;
            }
            enumerators.push(enumerator);
        }
        drop_quietly(self.deployment.take());
        let restored = restored.map(|manifest| manifest.checkpoint);
        self.deployment = Some(Deployment { attempt, run, fence, restored, retained, enumerators });
        Ok(())
    }

    fn running(&mut self, attempt: Attempt) -> Result<(), Failure> {
        let Some(deployment) = self.deployment.as_ref().filter(|deployment| deployment.attempt == attempt) else {
            return Ok(());
        };
        let start = Start {
            attempt,
            subtasks: self.setup.plan.subtasks().collect(),
            first_id: deployment.run.first_checkpoint,
            reserved_until: deployment.run.reserved_below,
            restored: deployment.restored,
            retained: deployment.retained.clone(),
            random: self.host.random(),
        };
        self.handle(Event::Start(start))
    }

    fn acknowledge(
        &mut self,
        attempt: Attempt,
        checkpoint: CheckpointId,
        snapshot: Box<SubtaskSnapshot>,
    ) -> Result<(), Failure> {
        let subtask = snapshot.subtask;
        let finished = snapshot.finished;
        let figures = SubtaskFigures { bytes: snapshot.bytes() };
        match self.machine.judge(attempt, subtask, checkpoint) {
            Acknowledgement::Accepted => {
                if let Some(collected) = self.collected.get_mut(&checkpoint) {
                    collected.subtasks.insert(subtask, *snapshot);
                }
                self.setup.listener.event(JobEvent::Acknowledged { checkpoint, subtask });
            }
            Acknowledgement::Duplicate | Acknowledgement::Ignored => {}
            Acknowledgement::UnknownSubtask
            | Acknowledgement::Late
            | Acknowledgement::UnknownCheckpoint
            | Acknowledgement::WrongAttempt => self.refused = Some(snapshot),
        }
        let handled = self.handle(Event::Acknowledged { attempt, subtask, checkpoint, finished, figures });
        self.refused = None;
        handled
    }

    fn reader_event(&mut self, attempt: Attempt, subtask: SubtaskId, event: ReaderEvent) -> Result<(), Failure> {
        let plan = Arc::clone(&self.setup.plan);
        let Some(deployment) = self.deployment.as_mut().filter(|deployment| deployment.attempt == attempt) else {
            return Ok(());
        };
        for (source, enumerator) in plan.sources.iter().zip(&mut deployment.enumerators) {
            if source.node == subtask.node {
                let mut assignments = Vec::new();
                caught(source.uid.as_str(), || enumerator.reader_event(subtask.index, event, &mut assignments))??;
                send_assignments(self.host.as_ref(), source.node, attempt, assignments);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Lets every enumerator look for new splits.
    fn poll_enumerators(&mut self, context: &mut Context<'_>) -> Result<(), Failure> {
        let Some(deployment) = self.deployment.as_mut() else { return Ok(()) };
        for (source, enumerator) in self.setup.plan.sources.iter().zip(&mut deployment.enumerators) {
            let mut assignments = Vec::new();
            caught(source.uid.as_str(), || enumerator.poll(context, &mut assignments))??;
            send_assignments(self.host.as_ref(), source.node, deployment.attempt, assignments);
        }
        Ok(())
    }

    /// Carries out one effect. An answer that is there at once is returned, the others come by promise.
    fn carry_out(&mut self, effect: Effect) -> Result<Option<Event>, Failure> {
        match effect {
            Effect::SnapshotEnumerators { attempt, checkpoint, kind } => {
                let (outcome, bytes) = match self.snapshot_enumerators(checkpoint, kind) {
                    Ok(bytes) => (Outcome::Done, bytes),
                    // A failed synchronous part fails the attempt (rule 23); the machine gives up the checkpoint besides.
                    Err(failure) => {
                        self.report(failure);
                        (Outcome::Failed, 0)
                    }
                };
                return Ok(Some(Event::EnumeratorsSnapshotted { attempt, checkpoint, outcome, bytes }));
            }
            Effect::Trigger { attempt, checkpoint, kind } => {
                self.setup.listener.event(JobEvent::Triggered { checkpoint, kind });
                let triggered = self.collected.get(&checkpoint).map_or(self.host.now(), |held| held.triggered);
                let barrier = Barrier { checkpoint, kind, triggered };
                for source in &self.setup.plan.sources {
                    for index in 0..self.setup.plan.node(source.node).parallelism {
                        let subtask = SubtaskId { node: source.node, index };
                        self.host.send(Address::Subtask(subtask, attempt), Control::Trigger(barrier));
                    }
                }
            }
            Effect::WriteManifest { token, attempt: _, checkpoint, kind, finished } => {
                self.write_manifest(token, checkpoint, kind, &finished);
            }
            Effect::ReadBack { token, checkpoint } => self.read_back(token, checkpoint),
            Effect::NotifyCompleted { attempt, checkpoint, kind } => self.completed(attempt, checkpoint, kind),
            Effect::NotifyAborted { attempt, checkpoint, last_completed, reason } => {
                self.aborted(attempt, checkpoint, last_completed, reason);
            }
            Effect::DiscardSnapshots { checkpoint } => {
                if let Some(collected) = self.collected.remove(&checkpoint) {
                    self.discard(collected.blobs());
                }
            }
            Effect::DiscardSnapshot { .. } => {
                if let Some(snapshot) = self.refused.take() {
                    self.discard(snapshot.blobs().cloned().collect());
                }
            }
            Effect::DeleteCheckpoint { checkpoint } => {
                let (store, fence) = self.store_and_fence();
                let promise = self.promise(move || store.delete_checkpoint(&fence, checkpoint));
                self.under_way.push(UnderWay::Delete { checkpoint, promise });
            }
            Effect::ReserveIds { token, up_to } => {
                let (store, fence) = self.store_and_fence();
                let run = self.deployment().run.run;
                let promise = self.promise(move || store.reserve_ids(&fence, run, up_to));
                self.under_way.push(UnderWay::Reserve { token, promise });
            }
            Effect::NotTriggered { kind, reason } => {
                self.setup.listener.event(JobEvent::NotTriggered { kind, reason });
            }
            Effect::Answer { request, result } => {
                if let Some(reply) = self.replies.remove(&request) {
                    reply.answer(result.map_err(|reason| reason.to_string()));
                }
            }
            Effect::SourcesGoOn { attempt, checkpoint: _ } => {
                for source in &self.setup.plan.sources {
                    for index in 0..self.setup.plan.node(source.node).parallelism {
                        let subtask = SubtaskId { node: source.node, index };
                        self.host.send(Address::Subtask(subtask, attempt), Control::GoOn);
                    }
                }
                self.host.send(Address::Supervisor, Control::StopCalledOff);
            }
            Effect::Suspended { last_completed: _, closed } => {
                self.host
                    .send(Address::Supervisor, Control::Suspended { closed, unsettled: self.machine.has_given_up() });
            }
            Effect::FailJob { failure } => {
                let failed = match failure {
                    JobFailure::Unsettled { .. } => Failure::unrecoverable("coordinator", failure),
                    JobFailure::FinalCheckpoint { .. } | JobFailure::ExceededTolerableFailures { .. } => {
                        Failure::retryable("coordinator", failure)
                    }
                };
                // Not returned: what the machine asked for behind it has to be carried out too.
                self.report(failed);
            }
        }
        Ok(None)
    }

    fn snapshot_enumerators(&mut self, checkpoint: CheckpointId, kind: CheckpointKind) -> Result<u64, Failure> {
        let (triggered, triggered_wall) = (self.host.now(), self.host.wall());
        let mut enumerators = Vec::new();
        let deployment = self.deployment.as_mut().expect("the machine triggers only while an attempt runs");
        for (source, enumerator) in self.setup.plan.sources.iter().zip(&mut deployment.enumerators) {
            let state = caught(source.uid.as_str(), || enumerator.snapshot(checkpoint))??;
            let piece = Piece { name: ENUMERATOR.to_owned(), content: PieceContent::Inline(state) };
            enumerators.push(OperatorSnapshot { uid: source.uid.clone(), subtask: 0, pieces: vec![piece] });
        }
        let bytes = enumerators.iter().map(OperatorSnapshot::bytes).sum();
        let collected = Collected { kind, triggered, triggered_wall, enumerators, subtasks: BTreeMap::new() };
        self.collected.insert(checkpoint, collected);
        Ok(bytes)
    }

    fn write_manifest(&mut self, token: Token, checkpoint: CheckpointId, kind: CheckpointKind, finished: &[SubtaskId]) {
        let plan = Arc::clone(&self.setup.plan);
        let completed = self.host.wall();
        let run = self.deployment().run.clone();
        let collected = self.collected.get(&checkpoint).expect("the machine writes what was collected");
        let shapes = plan
            .nodes
            .iter()
            .flat_map(|node| {
                node.uids.iter().map(|uid| OperatorShape {
                    uid: uid.clone(),
                    parallelism: node.parallelism,
                    max_parallelism: node.max_parallelism,
                })
            })
            .collect();
        let mut subtasks: Vec<SubtaskSnapshot> = collected.subtasks.values().cloned().collect();
        for subtask in &mut subtasks {
            subtask.finished |= finished.contains(&subtask.subtask);
        }
        let manifest = Manifest {
            job: plan.job.to_string(),
            hash_seed: run.hash_seed,
            run: run.run,
            checkpoint,
            kind,
            triggered: collected.triggered_wall,
            completed,
            shapes,
            enumerators: collected.enumerators.clone(),
            subtasks,
            attributes: BTreeMap::new(),
        };
        let (store, fence) = self.store_and_fence();
        let promise = self.promise(move || store.publish(&fence, &manifest));
        self.under_way.push(UnderWay::Publish { token, checkpoint, promise });
    }

    fn read_back(&mut self, token: Token, checkpoint: CheckpointId) {
        let store = Arc::clone(&self.setup.store);
        let run = self.deployment().run.run;
        let promise = self.promise(move || {
            let mut answer = store.read_back(run, checkpoint);
            for _ in 1..READ_BACK_TRIES {
                if answer.is_ok() {
                    break;
                }
                answer = store.read_back(run, checkpoint);
            }
            answer
        });
        self.under_way.push(UnderWay::ReadBack { token, promise });
    }

    fn completed(&mut self, attempt: Attempt, checkpoint: CheckpointId, kind: CheckpointKind) {
        if let Some(collected) = self.collected.remove(&checkpoint) {
            let enumerators: u64 = collected.enumerators.iter().map(OperatorSnapshot::bytes).sum();
            let bytes = enumerators + collected.subtasks.values().map(SubtaskSnapshot::bytes).sum::<u64>();
            let duration = self.host.now().since(collected.triggered);
            self.setup.listener.event(JobEvent::Completed { checkpoint, kind: collected.kind, duration, bytes });
        }
        if matches!(kind, CheckpointKind::Final | CheckpointKind::Stopping) {
            // Before the subtasks hear of it: their ends reach the supervisor after this.
            self.host.send(Address::Supervisor, Control::Closed { kind });
        }
        self.tell_enumerators(|enumerator| enumerator.completed(checkpoint));
        for subtask in self.setup.plan.subtasks() {
            self.host.send(Address::Subtask(subtask, attempt), Control::Completed { checkpoint, kind });
        }
    }

    fn aborted(
        &mut self,
        attempt: Attempt,
        checkpoint: CheckpointId,
        last_completed: Option<CheckpointId>,
        reason: FailureReason,
    ) {
        self.setup.listener.event(JobEvent::Aborted { checkpoint, reason });
        self.tell_enumerators(|enumerator| enumerator.aborted(checkpoint));
        for subtask in self.setup.plan.subtasks() {
            let notice = Control::Aborted { checkpoint, last_completed };
            self.host.send(Address::Subtask(subtask, attempt), notice);
        }
    }

    fn tell_enumerators(&mut self, tell: impl Fn(&mut dyn Enumerator)) {
        let Some(deployment) = self.deployment.as_mut() else { return };
        let enumerators = self.setup.plan.sources.iter().zip(&mut deployment.enumerators);
        let told = enumerators.map(|(source, enumerator)| caught(source.uid.as_str(), || tell(enumerator.as_mut())));
        for failure in told.filter_map(Result::err).collect::<Vec<_>>() {
            self.report(failure);
        }
    }

    fn discard(&mut self, blobs: Vec<BlobHandle>) {
        if blobs.is_empty() {
            return;
        }
        let (store, fence) = self.store_and_fence();
        let promise = self.promise(move || store.delete_blobs(&fence, &blobs));
        self.under_way.push(UnderWay::DiscardBlobs { promise });
    }

    /// Looks for answers of the store. True when there was one.
    fn poll_store(&mut self, context: &mut Context<'_>) -> Result<bool, Failure> {
        let mut position = 0;
        while position < self.under_way.len() {
            let Poll::Ready(event) = self.under_way[position].poll(context) else {
                position += 1;
                continue;
            };
            // In the order of the requests: the lane is ordered, so earlier ones answer first.
            self.under_way.remove(position);
            if let Some(event) = event {
                self.handle(event)?;
            }
            return Ok(true);
        }
        Ok(false)
    }

    fn promise<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Promise<T> {
        Promise::start(self.host.blocking().as_ref(), Lane::Metadata, work)
    }

    fn report(&self, failure: Failure) {
        self.host.send(Address::Supervisor, Control::Failed { attempt: self.attempt, failure });
    }

    fn deployment(&self) -> &Deployment {
        self.deployment.as_ref().expect("the machine asks the store only after an attempt began")
    }

    fn store_and_fence(&self) -> (Arc<dyn CheckpointStore>, Fence) {
        (Arc::clone(&self.setup.store), self.deployment().fence.clone())
    }

    fn try_step(&mut self, context: &mut Context<'_>) -> Result<(), Failure> {
        while let Some(message) = self.mailbox.pop_front() {
            self.on_message(message)?;
        }
        while self.poll_store(context)? {}
        if self.machine.next_deadline().is_some_and(|deadline| deadline <= self.host.now()) {
            self.handle(Event::Deadline)?;
        }
        self.poll_enumerators(context)
    }

    /// Shows what is known of the checkpoints to whoever watches, if it has changed.
    fn show_statistics(&mut self) {
        let statistics = self.machine.snapshot_statistics();
        if !Arc::ptr_eq(&statistics, &self.shown) {
            self.setup.listener.statistics(&statistics);
            self.shown = statistics;
        }
    }
}

fn send_assignments(host: &dyn Host, node: NodeId, attempt: Attempt, assignments: Vec<Assignment>) {
    for assignment in assignments {
        let (reader, message) = match assignment {
            Assignment::Splits { reader, splits } => (reader, Control::AddSplits(splits)),
            Assignment::NoMoreSplits { reader } => (reader, Control::NoMoreSplits),
            Assignment::Event { reader, event } => (reader, Control::EnumeratorEvent(event)),
        };
        host.send(Address::Subtask(SubtaskId { node, index: reader }, attempt), message);
    }
}

/// Calls the code of a source's enumerator.
fn caught<T>(name: &str, call: impl FnOnce() -> T) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| {
        let failure = Failure::panic(name, &panic_text(panic.as_ref()));
        drop_quietly(panic);
        failure
    })
}

impl Driver for CoordinatorDriver {
    fn receive(&mut self, message: Control) {
        self.mailbox.push_back(message);
    }

    fn step(&mut self, context: &mut Context<'_>) -> Step {
        if let Err(failure) = self.try_step(context) {
            self.report(failure);
        }
        self.show_statistics();
        Step::Wait
    }
}
