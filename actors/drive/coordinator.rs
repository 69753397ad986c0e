//! The driver of the checkpoint coordinator: translates messages to events, carries out effects, re-arms one timer.
//!
//! It holds what the machine only knows by id: the snapshots that were acknowledged, the enumerators of the sources, the requests of
//! users. It lives as long as the job; attempts come and go.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::drive::attempt::AttemptHost;
use crate::drive::control::{Control, Origin, Reply, Resume};
use crate::drive::edge::Barrier;
use crate::drive::subtask::drop_quietly;
use crate::drive::under_way::UnderWay;
use crate::ids::{Attempt, CheckpointId, Moment, NodeId, OperatorUid, RegionId, SubtaskId, Token, WallTime};
use crate::plan::{Plan, SourcePlan};
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
    Acknowledgement, Coordinator, DeclineReason, Effect, Event, FailureReason, JobFailure, Outcome, RequestId,
    RequestKind, Settings, Start,
};
use crate::protocol::machine::Machine;
use crate::protocol::supervise::Regions;

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
    regions: Regions,
    /// The enumerators of the sources, by the source's position in the plan. One is gone while its region is.
    enumerators: BTreeMap<usize, RunningEnumerator>,
    /// The last suspension that was asked for.
    suspension: u32,
}

/// The attempt that began last.
struct Deployment {
    attempt: Attempt,
    run: RunRecord,
    fence: Fence,
    restored: Option<CheckpointId>,
    retained: Vec<CheckpointId>,
    /// The regions that it restored.
    regions: BTreeSet<RegionId>,
}

/// An enumerator in the attempt of its region.
struct RunningEnumerator {
    attempt: Attempt,
    node: NodeId,
    uid: OperatorUid,
    enumerator: Box<dyn Enumerator>,
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
        let regions = Regions::of_plan(&setup.plan);
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
            regions,
            enumerators: BTreeMap::new(),
            suspension: 0,
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
            Control::Suspend { suspension, regions } => self.suspend(suspension, &regions),
            Control::Shutdown => self.handle(Event::Shutdown),
            Control::Acknowledge { attempt, checkpoint, snapshot } => self.acknowledge(attempt, checkpoint, snapshot),
            Control::Decline { attempt, checkpoint, subtask, failure } => {
                tracing::debug!(%checkpoint, %subtask, %failure, "declined");
                self.handle(Event::Declined { attempt, subtask, checkpoint, reason: DeclineReason::Declined })
            }
            Control::EndOfData { attempt, subtask } => self.handle(Event::EndOfData { attempt, subtask }),
            Control::Reader { attempt, subtask, event } => {
                self.reader_event(attempt, subtask, event);
                Ok(())
            }
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

    /// Regions end: their enumerators do too, and begin no work any more. Those of the others run on.
    fn suspend(&mut self, suspension: u32, regions: &BTreeSet<RegionId>) -> Result<(), Failure> {
        self.suspension = suspension;
        let over = |enumerator: &RunningEnumerator| regions.contains(&self.regions.of_node(enumerator.node));
        let over: Vec<usize> =
            self.enumerators.iter().filter(|(_, enumerator)| over(enumerator)).map(|(source, _)| *source).collect();
        for source in over {
            drop_quietly(self.enumerators.remove(&source));
        }
        self.handle(Event::Suspend)
    }

    /// A new attempt is being deployed: build and restore the enumerators of its regions, so that readers can register.
    fn resume(&mut self, resume: Resume) -> Result<(), Failure> {
        let Resume { attempt, run, restored, retained, fence, regions } = resume;
        self.attempt = attempt;
        let manifest = restored.as_deref();
        let resumed = regions.iter().map(|resumed| resumed.region).collect();
        let restored = manifest.map(|manifest| manifest.checkpoint);
        self.deployment = Some(Deployment { attempt, run, fence, restored, retained, regions: resumed });
        let plan = Arc::clone(&self.setup.plan);
        for (position, source) in plan.sources.iter().enumerate() {
            let region = self.regions.of_node(source.node);
            let Some(resumed) = regions.iter().find(|resumed| resumed.region == region) else { continue };
            let context = EnumeratorContext {
                job: Arc::clone(&plan.job),
                uid: source.uid.clone(),
                parallelism: plan.node(source.node).parallelism,
                host: AttemptHost::around(Rc::clone(&self.host), Arc::clone(&resumed.work)),
                files: Arc::clone(&self.setup.files),
                fence: resumed.fence.clone(),
            };
            match build_enumerator(source, context, manifest) {
                Ok(enumerator) => {
                    let running = RunningEnumerator { attempt, node: source.node, uid: source.uid.clone(), enumerator };
                    drop_quietly(self.enumerators.insert(position, running));
                }
                Err(failure) => self.report_enumerator(source.node, attempt, failure),
            }
        }
        Ok(())
    }

    fn running(&mut self, attempt: Attempt) -> Result<(), Failure> {
        let Some(deployment) = self.deployment.as_ref().filter(|deployment| deployment.attempt == attempt) else {
            return Ok(());
        };
        let start = Start {
            attempt,
            subtasks: self
                .setup
                .plan
                .subtasks()
                .filter(|subtask| deployment.regions.contains(&self.regions.of_node(subtask.node)))
                .collect(),
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
        let handled = self.handle(Event::Acknowledged { attempt, subtask, checkpoint, finished });
        self.refused = None;
        handled
    }

    fn reader_event(&mut self, attempt: Attempt, subtask: SubtaskId, event: ReaderEvent) {
        let found = self.enumerators.values_mut().find(|running| running.node == subtask.node);
        // A reader of an attempt that is over, or one whose enumerator is gone.
        let Some(running) = found.filter(|running| running.attempt == attempt) else { return };
        let told = running.call(self.host.as_ref(), |enumerator, assignments| {
            enumerator.reader_event(subtask.index, event, assignments)
        });
        if let Err(failure) = told {
            self.report_enumerator(subtask.node, attempt, failure);
        }
    }

    /// Lets every enumerator look for new splits.
    fn poll_enumerators(&mut self, context: &mut Context<'_>) {
        let mut failed = Vec::new();
        for running in self.enumerators.values_mut() {
            let polled =
                running.call(self.host.as_ref(), |enumerator, assignments| enumerator.poll(context, assignments));
            if let Err(failure) = polled {
                failed.push((running.node, running.attempt, failure));
            }
        }
        for (node, attempt, failure) in failed {
            self.report_enumerator(node, attempt, failure);
        }
    }

    /// The code of an enumerator failed: that is a failure of its region. Until the region ends it is left alone.
    fn report_enumerator(&mut self, node: NodeId, attempt: Attempt, failure: Failure) {
        let source = self.setup.plan.sources.iter().position(|source| source.node == node);
        if let Some(source) = source {
            drop_quietly(self.enumerators.remove(&source));
        }
        let origin = Origin::Enumerator(node);
        self.host.send(Address::Supervisor, Control::Failed { attempt, origin, failure });
    }

    /// Carries out one effect. An answer that is there at once is returned, the others come by promise.
    fn carry_out(&mut self, effect: Effect) -> Result<Option<Event>, Failure> {
        match effect {
            Effect::SnapshotEnumerators { attempt, checkpoint, kind } => {
                // A failed synchronous part fails the region (rule 23); the machine gives up the checkpoint besides.
                let outcome = if self.snapshot_enumerators(checkpoint, kind) { Outcome::Done } else { Outcome::Failed };
                return Ok(Some(Event::EnumeratorsSnapshotted { attempt, checkpoint, outcome }));
            }
            Effect::Trigger { attempt: _, checkpoint, kind } => {
                self.setup.listener.event(JobEvent::Triggered { checkpoint, kind });
                let triggered = self.collected.get(&checkpoint).map_or(self.host.now(), |held| held.triggered);
                let barrier = Barrier { checkpoint, kind, triggered };
                for source in &self.setup.plan.sources {
                    for index in 0..self.setup.plan.node(source.node).parallelism {
                        self.tell(SubtaskId { node: source.node, index }, Control::Trigger(barrier));
                    }
                }
            }
            Effect::WriteManifest { token, attempt: _, checkpoint, kind, finished } => {
                self.write_manifest(token, checkpoint, kind, &finished);
            }
            Effect::ReadBack { token, checkpoint } => self.read_back(token, checkpoint),
            Effect::NotifyCompleted { attempt: _, checkpoint, kind } => self.completed(checkpoint, kind),
            Effect::NotifyAborted { attempt: _, checkpoint, last_completed, reason } => {
                self.aborted(checkpoint, last_completed, reason);
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
            Effect::Answer { request, result } => {
                if let Some(reply) = self.replies.remove(&request) {
                    reply.answer(result.map_err(|reason| reason.to_string()));
                }
            }
            Effect::SourcesGoOn { attempt: _, checkpoint: _ } => {
                for source in &self.setup.plan.sources {
                    for index in 0..self.setup.plan.node(source.node).parallelism {
                        self.tell(SubtaskId { node: source.node, index }, Control::GoOn);
                    }
                }
                self.host.send(Address::Supervisor, Control::StopCalledOff);
            }
            Effect::Suspended { last_completed, closed } => {
                let suspension = self.suspension;
                self.host.send(Address::Supervisor, Control::Suspended { suspension, last_completed, closed });
            }
            Effect::FailJob { failure } => {
                let failed = match failure {
                    JobFailure::Unsettled { .. } => Failure::unrecoverable("coordinator", failure),
                    JobFailure::FinalCheckpoint { .. } => Failure::retryable("coordinator", failure),
                };
                // Not returned: what the machine asked for behind it has to be carried out too.
                self.report(failed);
            }
        }
        Ok(None)
    }

    /// Takes the state of every enumerator. False when one has none to give: it failed, or is gone with its region.
    fn snapshot_enumerators(&mut self, checkpoint: CheckpointId, kind: CheckpointKind) -> bool {
        let (triggered, triggered_wall) = (self.host.now(), self.host.wall());
        let mut enumerators = Vec::new();
        for running in self.enumerators.values_mut() {
            let state =
                caught(running.uid.as_str(), || running.enumerator.snapshot(checkpoint)).and_then(|state| state);
            let state = match state {
                Ok(state) => state,
                Err(failure) => {
                    let (node, attempt) = (running.node, running.attempt);
                    self.report_enumerator(node, attempt, failure);
                    return false;
                }
            };
            let piece = Piece { name: ENUMERATOR.to_owned(), content: PieceContent::Inline(state) };
            enumerators.push(OperatorSnapshot { uid: running.uid.clone(), subtask: 0, pieces: vec![piece] });
        }
        if enumerators.len() < self.setup.plan.sources.len() {
            return false;
        }
        let collected = Collected { kind, triggered, triggered_wall, enumerators, subtasks: BTreeMap::new() };
        self.collected.insert(checkpoint, collected);
        true
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

    fn completed(&mut self, checkpoint: CheckpointId, kind: CheckpointKind) {
        if let Some(collected) = self.collected.remove(&checkpoint) {
            let bytes = collected
                .subtasks
                .values()
                .flat_map(|subtask| &subtask.operators)
                .chain(&collected.enumerators)
                .flat_map(|operator| &operator.pieces)
                .map(|piece| match &piece.content {
                    PieceContent::Inline(bytes) => bytes.len() as u64,
                    PieceContent::Blob(handle) => handle.length,
                })
                .sum();
            let duration = self.host.now().since(collected.triggered);
            self.setup.listener.event(JobEvent::Completed { checkpoint, kind: collected.kind, duration, bytes });
        }
        if matches!(kind, CheckpointKind::Final | CheckpointKind::Stopping) {
            // Before the subtasks hear of it: their ends reach the supervisor after this.
            self.host.send(Address::Supervisor, Control::Closed { kind });
        }
        self.tell_enumerators(|enumerator| enumerator.completed(checkpoint));
        for subtask in self.setup.plan.subtasks() {
            self.tell(subtask, Control::Completed { checkpoint, kind });
        }
    }

    fn aborted(&mut self, checkpoint: CheckpointId, last_completed: Option<CheckpointId>, reason: FailureReason) {
        self.setup.listener.event(JobEvent::Aborted { checkpoint, reason });
        self.tell_enumerators(|enumerator| enumerator.aborted(checkpoint));
        for subtask in self.setup.plan.subtasks() {
            self.tell(subtask, Control::Aborted { checkpoint, last_completed });
        }
    }

    /// Sends a message to a subtask in the attempt of its region. One of a region that has ended finds nobody.
    fn tell(&self, subtask: SubtaskId, message: Control) {
        if let Some(attempt) = self.machine.attempt_of(subtask) {
            self.host.send(Address::Subtask(subtask, attempt), message);
        }
    }

    fn tell_enumerators(&mut self, tell: impl Fn(&mut dyn Enumerator)) {
        let told = self.enumerators.values_mut().map(|running| {
            let told = caught(running.uid.as_str(), || tell(running.enumerator.as_mut()));
            told.map_err(|failure| (running.node, running.attempt, failure))
        });
        for (node, attempt, failure) in told.filter_map(Result::err).collect::<Vec<_>>() {
            self.report_enumerator(node, attempt, failure);
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
        let origin = Origin::Coordinator;
        self.host.send(Address::Supervisor, Control::Failed { attempt: self.attempt, origin, failure });
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
        self.poll_enumerators(context);
        Ok(())
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

impl RunningEnumerator {
    /// Calls it, and sends what it assigns to its readers.
    fn call(
        &mut self,
        host: &dyn Host,
        call: impl FnOnce(&mut dyn Enumerator, &mut Vec<Assignment>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut assignments = Vec::new();
        caught(self.uid.as_str(), || call(self.enumerator.as_mut(), &mut assignments))??;
        send_assignments(host, self.node, self.attempt, assignments);
        Ok(())
    }
}

/// Builds the enumerator of a source, as the restored checkpoint left it.
fn build_enumerator(
    source: &SourcePlan,
    context: EnumeratorContext,
    restored: Option<&Manifest>,
) -> Result<Box<dyn Enumerator>, Failure> {
    let name = source.uid.as_str();
    let mut enumerator = caught(name, || (source.enumerator)(context))??;
    let state = restored.and_then(|manifest| {
        let snapshot = manifest.enumerators.iter().find(|snapshot| snapshot.uid == source.uid)?;
        snapshot.piece(ENUMERATOR)
    });
    if let Some(Piece { content: PieceContent::Inline(state), .. }) = state {
        caught(name, || enumerator.restore(state))??;
    }
    Ok(enumerator)
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
        Step::Wait
    }
}
