//! The driver of the checkpoint coordinator: translates messages to events, carries out effects, re-arms one timer.
//!
//! It holds what the machine only knows by id: the snapshots that were acknowledged, the enumerators of the sources, the requests of
//! users. It lives as long as the job; attempts come and go.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::drive::control::{Control, Origin, Reply, Resume};
use crate::drive::edge::Barrier;
use crate::drive::enumerators::Enumerators;
use crate::drive::overview::Overview;
use crate::drive::stories::Stories;
use crate::drive::under_way::{Answered, UnderWay};
use crate::ids::{Attempt, CheckpointId, Moment, NodeId, OperatorUid, RegionId, RunNumber, SubtaskId, Token, WallTime};
use crate::plan::Plan;
use crate::ports::blocking::{Lane, Promise};
use crate::ports::fence::Fence;
use crate::ports::files::Files;
use crate::ports::history::CheckpointRecord;
use crate::ports::host::{Address, Driver, Host, Step};
use crate::ports::listener::{JobEvent, Listener};
use crate::ports::store::{
    BlobHandle, CheckpointKind, CheckpointStore, Manifest, OperatorShape, OperatorSnapshot, RunRecord, SubtaskSnapshot,
};
use crate::ports::task::{Failure, Severity};
use crate::protocol::coordinator::{
    Acknowledgement, Coordinator, DeclineReason, Effect, Event, FailureReason, JobFailure, Outcome, RequestId,
    RequestKind, Settings, Start, StatisticsSnapshot, SubtaskFigures,
};
use crate::protocol::machine::Machine;
use crate::protocol::mutation::{Mutation, is_active};
use crate::protocol::story::{Declined, Names};
use crate::protocol::supervise::Regions;

/// How often the driver tries to find out whether a manifest of unknown outcome exists, before it gives the job up.
const READ_BACK_TRIES: u32 = 5;

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
    /// Where the subtasks write down how far they are.
    pub overview: Arc<Overview>,
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
    replies: BTreeMap<RequestId, (RequestKind, Reply<CheckpointId>)>,
    requests: u64,
    under_way: Vec<UnderWay>,
    /// The attempt that was asked for last, deployed or not: failures belong to it.
    attempt: Attempt,
    regions: Regions,
    enumerators: Enumerators,
    /// The last suspension that was asked for.
    suspension: u32,
    /// The statistics that were shown last.
    shown: Arc<StatisticsSnapshot>,
    stories: Stories,
}

/// The attempt that began last.
struct Deployment {
    attempt: Attempt,
    run: RunRecord,
    fence: Fence,
    restored: Option<Arc<Manifest>>,
    retained: Vec<CheckpointId>,
    /// The regions that it restored.
    regions: BTreeSet<RegionId>,
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
        let union_nodes = (0..).zip(&setup.plan.nodes).filter(|(_, node)| !node.union_lists.is_empty());
        let union_nodes = union_nodes.map(|(number, _)| NodeId(number)).collect();
        // One that takes the place of a coordinator that panicked goes on counting.
        let shown = setup.overview.shown();
        let machine = Coordinator::new(Settings { union_nodes, ..setup.settings.clone() });
        let machine = machine.with_statistics(&shown, host.now());
        let regions = Regions::of_plan(&setup.plan);
        let enumerators =
            Enumerators::new(Rc::clone(&host), Arc::clone(&setup.plan), regions.clone(), Arc::clone(&setup.files));
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
            enumerators,
            suspension: 0,
            shown,
            stories: Stories::default(),
        }
    }

    /// Hands an event to the machine and carries out what it asks for, until it asks for nothing more.
    fn handle(&mut self, event: Event) -> Result<(), Failure> {
        self.advance(event);
        while let Some(effect) = self.effects.pop_front() {
            if let Some(answer) = self.carry_out(effect)? {
                self.advance(answer);
            }
        }
        if let Some(deadline) = self.machine.next_deadline() {
            self.host.wake_at(deadline);
        }
        Ok(())
    }

    fn advance(&mut self, event: Event) {
        let mut emitted = Vec::new();
        self.machine.handle(self.host.now(), event, &mut emitted);
        debug_assert_eq!(self.machine.check(), Ok(()));
        self.effects.extend(emitted);
        // Now, before what follows from it: the subtasks are still where they were.
        self.record_ended();
    }

    fn on_message(&mut self, message: Control) -> Result<(), Failure> {
        match message {
            Control::Resume(resume) => self.resume(*resume),
            Control::Running { attempt } => self.running(attempt),
            Control::Suspend { suspension, regions } => self.suspend(suspension, &regions),
            Control::Shutdown => self.handle(Event::Shutdown),
            Control::Acknowledge { attempt, checkpoint, snapshot, figures } => {
                self.acknowledge(attempt, checkpoint, snapshot, figures)
            }
            Control::Decline { attempt, checkpoint, subtask, reason, failure } => {
                tracing::debug!(%checkpoint, %subtask, ?reason, %failure, "declined");
                self.stories.declined(checkpoint, Declined { subtask, message: failure.to_string() });
                // The store will refuse the next one too (rule 23): whatever number of failures is tolerated, this is not one that may pass.
                if reason == DeclineReason::Storage && failure.severity == Severity::Unrecoverable {
                    // Of the attempt that found it: one that is over says nothing of the next.
                    let origin = Origin::Subtask(subtask);
                    self.host.send(Address::Supervisor, Control::Failed { attempt, origin, failure });
                }
                self.handle(Event::Declined { attempt, subtask, checkpoint, reason })
            }
            Control::EndOfData { attempt, subtask } => self.handle(Event::EndOfData { attempt, subtask }),
            Control::Reader { attempt, subtask, event } => {
                self.enumerators.reader_event(attempt, subtask, event);
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
        self.replies.insert(request, (kind, reply));
        self.handle(Event::Request { request, kind })
    }

    /// Regions end: their enumerators do too, and begin no work any more. Those of the others run on.
    fn suspend(&mut self, suspension: u32, regions: &BTreeSet<RegionId>) -> Result<(), Failure> {
        self.suspension = suspension;
        self.enumerators.end(regions);
        self.handle(Event::Suspend)
    }

    /// A new attempt is being deployed: build and restore the enumerators of its regions, so that readers can register.
    fn resume(&mut self, resume: Resume) -> Result<(), Failure> {
        let Resume { attempt, run, restored, retained, fence, regions } = resume;
        self.attempt = attempt;
        // The run that began has removed what earlier runs wrote and no manifest names, also of regions that run on: none of it may still be wanted.
        debug_assert!(self.machine.pending().next().is_none(), "a run began while a checkpoint was pending");
        let resumed = regions.iter().map(|resumed| resumed.region).collect();
        self.enumerators.begin(attempt, &regions, restored.as_deref());
        self.deployment = Some(Deployment { attempt, run, fence, restored, retained, regions: resumed });
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
            restored: deployment.restored.as_ref().map(|manifest| manifest.checkpoint),
            retained: deployment.retained.clone(),
            whole_job: deployment.regions == self.regions.all(),
            random: self.host.random(),
        };
        self.handle(Event::Start(start))
    }

    fn acknowledge(
        &mut self,
        attempt: Attempt,
        checkpoint: CheckpointId,
        snapshot: Box<SubtaskSnapshot>,
        figures: SubtaskFigures,
    ) -> Result<(), Failure> {
        let subtask = snapshot.subtask;
        let finished = snapshot.finished;
        let figures = SubtaskFigures {
            bytes: snapshot.bytes(),
            written_bytes: snapshot.written_bytes(checkpoint),
            in_flight_records: snapshot.in_flight_records(),
            in_flight_bytes: snapshot.in_flight_bytes(),
            ..figures
        };
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

    /// Carries out one effect. An answer that is there at once is returned, the others come by promise.
    fn carry_out(&mut self, effect: Effect) -> Result<Option<Event>, Failure> {
        match effect {
            Effect::SnapshotEnumerators { attempt, checkpoint, kind } => {
                // A failed synchronous part fails the region (rule 23); the machine gives up the checkpoint besides.
                let (outcome, bytes) = match self.snapshot_enumerators(checkpoint, kind) {
                    Some(bytes) => (Outcome::Done, bytes),
                    None => (Outcome::Failed, 0),
                };
                return Ok(Some(Event::EnumeratorsSnapshotted { attempt, checkpoint, outcome, bytes }));
            }
            Effect::Trigger { attempt: _, checkpoint, kind } => {
                self.setup.listener.event(JobEvent::Triggered { checkpoint, kind });
                let triggered = self.collected.get(&checkpoint).map_or(self.host.now(), |held| held.triggered);
                // What the job ends or stands still with is self-contained: nothing is in flight in it.
                let overtakes =
                    self.setup.settings.overtake_after.filter(|_| !kind.closes()).map(|after| triggered + after);
                let barrier = Barrier { checkpoint, kind, triggered, overtakes };
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
            Effect::NotTriggered { kind, reason } => {
                self.setup.listener.event(JobEvent::NotTriggered { kind, reason });
            }
            Effect::TakesLong { checkpoint } => {
                if let Some(statistics) = self.machine.statistics(checkpoint) {
                    let story = self.setup.overview.story(&statistics, self.host.now(), None).to_string();
                    self.setup.listener.event(JobEvent::TakesLong { checkpoint, story });
                }
            }
            Effect::Answer { request, result } => {
                if let Some((kind, reply)) = self.replies.remove(&request) {
                    self.called_off(kind, result.is_err());
                    reply.answer(result.map_err(|reason| self.stories.explain(reason)));
                }
            }
            Effect::SourcesGoOn { .. } if is_active(Mutation::StopNotCalledOff) => {}
            Effect::SourcesGoOn { attempt: _, checkpoint: _ } => {
                for source in &self.setup.plan.sources {
                    for index in 0..self.setup.plan.node(source.node).parallelism {
                        self.tell(SubtaskId { node: source.node, index }, Control::GoOn);
                    }
                }
            }
            Effect::Suspended { last_completed, closed } => {
                let (suspension, unsettled) = (self.suspension, self.machine.has_given_up());
                let suspended = Control::Suspended { suspension, last_completed, closed, unsettled };
                self.host.send(Address::Supervisor, suspended);
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

    /// The job is not stopping any more once the last request to stop was refused, however far it had come. A supervisor that restarts something knows
    /// that by itself, and does not mind.
    fn called_off(&self, kind: RequestKind, refused: bool) {
        if refused && kind == RequestKind::Stop && self.replies.values().all(|(kind, _)| *kind != RequestKind::Stop) {
            self.host.send(Address::Supervisor, Control::StopCalledOff);
        }
    }

    /// Takes the state of every enumerator, and gives its bytes. None when one has none to give.
    fn snapshot_enumerators(&mut self, checkpoint: CheckpointId, kind: CheckpointKind) -> Option<u64> {
        let (triggered, triggered_wall) = (self.host.now(), self.host.wall());
        let enumerators = self.enumerators.snapshot(checkpoint)?;
        let bytes = enumerators.iter().map(OperatorSnapshot::bytes).sum();
        let collected = Collected { kind, triggered, triggered_wall, enumerators, subtasks: BTreeMap::new() };
        self.collected.insert(checkpoint, collected);
        Some(bytes)
    }

    fn write_manifest(&mut self, token: Token, checkpoint: CheckpointId, kind: CheckpointKind, finished: &[SubtaskId]) {
        let late = is_active(Mutation::EnumeratorSnapshotTooLate).then(|| self.enumerators.snapshot(checkpoint));
        let plan = Arc::clone(&self.setup.plan);
        let completed = self.host.wall();
        let run = self.deployment().run.clone();
        let collected = self.collected.get(&checkpoint).expect("the machine writes what was collected");
        let restored = self.deployment().restored.as_deref();
        let shapes = plan
            .nodes
            .iter()
            .flat_map(|node| {
                node.uids.iter().map(|uid| OperatorShape {
                    uid: uid.clone(),
                    parallelism: node.parallelism,
                    max_parallelism: node.key_groups(restored),
                })
            })
            .collect();
        let enumerators = late.flatten().unwrap_or_else(|| collected.enumerators.clone());
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
            enumerators,
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
            let enumerators: u64 = collected.enumerators.iter().map(OperatorSnapshot::bytes).sum();
            let bytes = enumerators + collected.subtasks.values().map(SubtaskSnapshot::bytes).sum::<u64>();
            let duration = self.host.now().since(collected.triggered);
            self.setup.listener.event(JobEvent::Completed { checkpoint, kind: collected.kind, duration, bytes });
        }
        if matches!(kind, CheckpointKind::Final | CheckpointKind::Stopping) {
            // Before the subtasks hear of it: their ends reach the supervisor after this.
            self.host.send(Address::Supervisor, Control::Closed { kind });
        }
        self.enumerators.tell(|enumerator| enumerator.completed(checkpoint));
        let lost = kind == CheckpointKind::Final && is_active(Mutation::LoseANotice);
        for subtask in self.setup.plan.subtasks().skip(usize::from(lost)) {
            self.tell(subtask, Control::Completed { checkpoint, kind });
        }
    }

    fn aborted(&mut self, checkpoint: CheckpointId, last_completed: Option<CheckpointId>, reason: FailureReason) {
        let story = self.stories.of(checkpoint).to_owned();
        self.setup.listener.event(JobEvent::Aborted { checkpoint, reason, story });
        if reason == FailureReason::PartlyFinishedUnionState {
            let keepers: Vec<&str> =
                self.setup.plan.nodes.iter().flat_map(|node| &node.union_lists).map(OperatorUid::as_str).collect();
            tracing::warn!(%checkpoint, operators = ?keepers, "aborted: {reason}");
        }
        self.enumerators.tell(|enumerator| enumerator.aborted(checkpoint));
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

    fn discard(&mut self, blobs: Vec<BlobHandle>) {
        if blobs.is_empty() || is_active(Mutation::LeakAbortedBlobs) {
            return;
        }
        // A coordinator that has taken the place of one that panicked hears what was on its way to that one. The run that begins next removes what no manifest names.
        if self.deployment.is_none() {
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
            let Poll::Ready(Answered { event, refused_for_good }) = self.under_way[position].poll(context) else {
                position += 1;
                continue;
            };
            // In the order of the requests: the lane is ordered, so earlier ones answer first.
            self.under_way.remove(position);
            if let Some(error) = refused_for_good {
                self.report(Failure::unrecoverable("coordinator", error));
            }
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
        self.enumerators.poll(context);
        Ok(())
    }

    /// Tells what the checkpoints that have just ended say of themselves, and has the store keep it.
    fn record_ended(&mut self) {
        for ended in self.machine.take_ended() {
            let checkpoint = ended.checkpoint;
            let now = self.host.now();
            let story = self.setup.overview.story(&ended, now, self.stories.take_declined(checkpoint).as_ref());
            let run = self.deployment.as_ref().map_or(RunNumber(0), |deployment| deployment.run.run);
            let triggered = wall_of(ended.triggered, now, self.host.wall());
            let name = |subtask| self.setup.overview.subtask(subtask);
            let record = Arc::new(CheckpointRecord::of(run, triggered, story.to_string(), &ended, name));
            self.stories.tell(checkpoint, ended.failure(), story.reason);
            self.setup.listener.recorded(&record);
            let limit = self.setup.settings.records;
            if limit > 0 && self.setup.store.remembers() {
                let store = Arc::clone(&self.setup.store);
                // Nobody waits for it.
                drop(self.promise(move || store.remember(&record, limit)));
            }
        }
    }

    /// Shows what is known of the checkpoints to whoever watches, if it has changed.
    fn show_statistics(&mut self) {
        let statistics = self.machine.snapshot_statistics();
        if !Arc::ptr_eq(&statistics, &self.shown) {
            self.setup.overview.show(&statistics);
            self.setup.listener.statistics(&statistics);
            self.shown = statistics;
        }
    }
}

/// What the calendar said at a moment that has passed.
fn wall_of(moment: Moment, now: Moment, wall: WallTime) -> WallTime {
    let passed = u64::try_from(now.since(moment).as_millis()).unwrap_or(u64::MAX);
    WallTime(wall.0.saturating_sub(passed))
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
