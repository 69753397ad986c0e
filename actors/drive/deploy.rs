//! Turns a plan into actors: makes the edges of one attempt and starts its subtasks and sinks.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::drive::attempt::{AttemptHost, WorkCount};
use crate::drive::control::{Control, Origin};
use crate::drive::edge::{EdgeReceiver, edge};
use crate::drive::gate::Gate;
use crate::drive::operator::OperatorDriver;
use crate::drive::outputs::{OutputChannel, Outputs};
use crate::drive::overview::{Overview, SubtaskWatch};
use crate::drive::sink::{SinkDriver, SinkSetup};
use crate::drive::source::SourceDriver;
use crate::drive::subtask::Restored;
use crate::drive::watched::Watched;
use crate::ids::{Attempt, RegionId, RunNumber, SubtaskId};
use crate::plan::{Pattern, Plan};
use crate::ports::calls::{Call, CallWatch};
use crate::ports::fence::Fence;
use crate::ports::files::Files;
use crate::ports::host::{Address, Driver, DriverFactory, Host, Placement, Role, Step};
use crate::ports::sink::{PreparedCheckpoint, SinkScope};
use crate::ports::store::{CheckpointStore, Manifest, OperatorSnapshot};
use crate::ports::task::{Failure, InputEdge, TaskContext, TaskFactory};
use crate::protocol::align::{Aligner, Alignment, Channel, CheckpointMode};
use crate::protocol::mutation::{Mutation, is_active};
use crate::protocol::placement::Form;
use crate::protocol::supervise::Regions;

/// What a checkpoint holds of one sink, over all its subtasks.
#[derive(Debug, Default)]
pub(super) struct RestoredSink {
    pub(super) snapshots: Vec<OperatorSnapshot>,
    /// Oldest first.
    pub(super) prepared: Vec<PreparedCheckpoint>,
}

impl RestoredSink {
    /// One for each sink that is wanted, by its number in the plan. Reads the store: for where blocking is allowed.
    ///
    /// # Errors
    /// When a piece cannot be read.
    pub(super) fn read_all(
        plan: &Plan,
        manifest: Option<&Manifest>,
        wanted: &BTreeSet<u32>,
        read: &dyn Fn(&OperatorSnapshot) -> Result<Vec<PreparedCheckpoint>, Failure>,
    ) -> Result<BTreeMap<u32, RestoredSink>, Failure> {
        let mut sinks = BTreeMap::new();
        for number in wanted {
            let sink = &plan.sinks[*number as usize];
            let mut restored = RestoredSink::default();
            let subtasks = manifest.iter().flat_map(|manifest| &manifest.subtasks);
            for snapshot in subtasks.flat_map(|subtask| &subtask.operators).filter(|found| found.uid == sink.uid) {
                let vanished = snapshot.subtask >= plan.node(sink.node).parallelism;
                if vanished && is_active(Mutation::FormerCommittablesForgotten) {
                    continue;
                }
                restored.prepared.extend(read(snapshot)?);
                restored.snapshots.push(snapshot.clone());
            }
            restored.prepared.sort_by_key(|prepared| prepared.checkpoint);
            if is_active(Mutation::ForgetToCommitAgain) {
                restored.prepared.clear();
            }
            sinks.insert(*number, restored);
        }
        Ok(sinks)
    }
}

/// What all subtasks and sinks of one region share in one attempt.
#[derive(Clone)]
pub(super) struct Deployment {
    pub(super) plan: Arc<Plan>,
    pub(super) regions: Regions,
    pub(super) region: RegionId,
    pub(super) attempt: Attempt,
    pub(super) mode: CheckpointMode,
    pub(super) buffer_timeout: Duration,
    pub(super) run: RunNumber,
    pub(super) hash_seed: u64,
    pub(super) restored: Option<Arc<Manifest>>,
    /// The subtasks that have come to the end of their data before the restored checkpoint.
    pub(super) finished: Arc<BTreeSet<SubtaskId>>,
    pub(super) store: Arc<dyn CheckpointStore>,
    pub(super) files: Arc<dyn Files>,
    pub(super) fence: Fence,
    pub(super) work: Arc<WorkCount>,
    /// Where its subtasks and sinks are: shared with the supervisor.
    pub(super) watches: Watches,
    /// Where its subtasks write down how far they are.
    pub(super) overview: Arc<Overview>,
}

/// Where the subtasks and sinks of an attempt are, by their address.
pub(super) type Watches = Arc<Mutex<BTreeMap<Address, Arc<CallWatch>>>>;

impl Deployment {
    /// Starts the committing side of a sink, with what the restored checkpoint holds of it.
    pub(super) fn spawn_sink(&self, host: &dyn Host, sink: u32, restored: RestoredSink) {
        let plan = &self.plan.sinks[sink as usize];
        let RestoredSink { snapshots, prepared } = restored;
        let setup = SinkSetup {
            sink,
            attempt: self.attempt,
            scope: SinkScope {
                job: Arc::clone(&self.plan.job),
                store: format!("{:016x}", self.hash_seed),
                uid: plan.uid.clone(),
                run: self.run,
                restored: self.restored.as_ref().map(|manifest| manifest.checkpoint),
                files: Arc::clone(&self.files),
                fence: self.fence.clone(),
            },
            factory: Arc::clone(&plan.committer),
            restored: snapshots,
            prepared,
            watch: self.watch(Address::Sink(sink, self.attempt)),
        };
        let work = Arc::clone(&self.work);
        let build = Box::new(move |host: Rc<dyn Host>| {
            Box::new(SinkDriver::new(AttemptHost::around(host, work), setup)) as Box<dyn Driver>
        });
        let factory = DriverFactory { role: Role::Sink, build };
        host.spawn(Address::Sink(sink, self.attempt), Placement::Coordination, factory);
    }

    /// The watch of a subtask or a sink.
    fn watch(&self, address: Address) -> Arc<CallWatch> {
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(watches.entry(address).or_default())
    }

    /// The subtasks of the region.
    fn subtasks(&self) -> impl Iterator<Item = SubtaskId> + '_ {
        self.plan.subtasks().filter(|subtask| self.regions.of_node(subtask.node) == self.region)
    }

    /// Makes all edges of the region and starts its subtasks, each on the worker that was asked for, or else that [placement](crate::protocol::placement) names.
    pub(super) fn spawn_subtasks(&self, host: &dyn Host) {
        let mut wiring = self.wire();
        let form = Form {
            nodes: self.plan.nodes.len() as u32,
            widest: self.plan.nodes.iter().map(|node| node.parallelism).max().unwrap_or(1),
        };
        for subtask in self.subtasks() {
            let (inputs, outputs) = wiring.remove(&subtask).unwrap_or_default();
            let deployment = self.clone();
            let node = self.plan.node(subtask.node);
            let role = match node.factory {
                TaskFactory::Operator(_) => Role::Operator,
                TaskFactory::Source(_) => Role::Source,
            };
            let build = Box::new(move |host: Rc<dyn Host>| deployment.build_subtask(host, subtask, inputs, outputs));
            let address = Address::Subtask(subtask, self.attempt);
            let worker = match node.first_worker {
                Some(first) => first.wrapping_add(subtask.index),
                None => form.worker_of(subtask, host.workers()),
            };
            host.spawn(address, Placement::Worker(worker), DriverFactory { role, build });
        }
    }

    fn build_subtask(
        &self,
        host: Rc<dyn Host>,
        subtask: SubtaskId,
        inputs: Vec<(InputEdge, EdgeReceiver)>,
        outputs: Vec<Vec<OutputChannel>>,
    ) -> Box<dyn Driver> {
        let host = AttemptHost::around(host, Arc::clone(&self.work));
        let node = self.plan.node(subtask.node);
        let name = format!("{}[{}]", node.name, subtask.index);
        let restored = Restored {
            checkpoint: self.restored.as_ref().map(|manifest| manifest.checkpoint),
            finished: self.finished.contains(&subtask),
        };
        let watch = self.watch(Address::Subtask(subtask, self.attempt));
        let channels = inputs.iter().map(|(edge, receiver)| {
            let from = self.plan.edges[edge.edge as usize].from;
            (SubtaskId { node: from, index: edge.producer }, receiver.probe())
        });
        let seen = Arc::new(SubtaskWatch::new(Arc::clone(&watch), channels.collect()));
        self.overview.begins(subtask, Arc::clone(&seen));
        let alignment = self.new_alignment(&inputs);
        let context = TaskContext {
            job: Arc::clone(&self.plan.job),
            subtask,
            parallelism: node.parallelism,
            max_parallelism: node.key_groups(self.restored.as_deref()),
            run: self.run,
            hash_seed: self.hash_seed,
            host: Rc::clone(&host),
            store: Arc::clone(&self.store),
            files: Arc::clone(&self.files),
            fence: self.fence.clone(),
            inputs: inputs.iter().map(|(edge, _)| *edge).collect(),
            restored: self.restored.clone(),
            calls: Arc::clone(&watch),
        };
        let outputs = Outputs::new(outputs).buffer_timeout(self.buffer_timeout);
        watch.begin(Call::Build);
        let built = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| match &node.factory {
            TaskFactory::Operator(factory) => factory(context).map(Built::Operator),
            TaskFactory::Source(factory) => factory(context).map(Built::Source),
        }));
        watch.end();
        let failure = match built {
            Ok(Ok(Built::Operator(task))) => {
                let task = Box::new(Watched::new(watch, Rc::clone(&host), task));
                let gate =
                    Gate::new(inputs.into_iter().map(|(edge, receiver)| (edge.input as usize, receiver)).collect());
                let (attempt, fence) = (self.attempt, self.fence.clone());
                let driver =
                    OperatorDriver::new(host, subtask, attempt, fence, name, task, gate, outputs, alignment, restored);
                return Box::new(driver.watched(seen));
            }
            Ok(Ok(Built::Source(task))) => {
                let task = Box::new(Watched::new(watch, Rc::clone(&host), task));
                let (attempt, fence) = (self.attempt, self.fence.clone());
                let driver = SourceDriver::new(host, subtask, attempt, fence, name, task, outputs, alignment, restored);
                return Box::new(driver.watched(seen));
            }
            Ok(Err(failure)) => failure,
            Err(panic) => Failure::panic(name, &crate::ports::blocking::panic_text(panic.as_ref())),
        };
        let failure = Some(failure.behind(&self.fence));
        Box::new(FailedToBuild { host, subtask, attempt: self.attempt, failure })
    }

    /// One edge for each pair of subtasks that the plan joins. The channels of a consumer are numbered in the order of the plan's edges, then of the producers.
    fn wire(&self) -> BTreeMap<SubtaskId, (Vec<(InputEdge, EdgeReceiver)>, Vec<Vec<OutputChannel>>)> {
        let mut wiring: BTreeMap<SubtaskId, (Vec<(InputEdge, EdgeReceiver)>, Vec<Vec<OutputChannel>>)> =
            self.subtasks().map(|subtask| (subtask, (Vec::new(), Vec::new()))).collect();
        // No edge leaves a region.
        let edges = self.plan.edges.iter().enumerate();
        for (number, plan) in edges.filter(|(_, plan)| self.regions.of_node(plan.from) == self.region) {
            let producers = self.plan.node(plan.from).parallelism;
            let consumers = self.plan.node(plan.to).parallelism;
            for producer in 0..producers {
                let mut channels = Vec::new();
                let targets = match plan.pattern {
                    Pattern::Pointwise => producer..producer + 1,
                    Pattern::AllToAll => 0..consumers,
                };
                for consumer in targets {
                    let (sender, receiver) = edge(plan.credits);
                    let consumer = SubtaskId { node: plan.to, index: consumer };
                    let (inputs, _) = wiring.get_mut(&consumer).expect("an edge leads to a subtask of the plan");
                    channels.push(OutputChannel {
                        edge: sender,
                        consumer: Address::Subtask(consumer, self.attempt),
                        consumer_channel: inputs.len(),
                    });
                    inputs.push((InputEdge { edge: number as u32, input: plan.input as u32, producer }, receiver));
                }
                let producer = SubtaskId { node: plan.from, index: producer };
                let (_, outputs) = wiring.get_mut(&producer).expect("an edge begins at a subtask of the plan");
                while outputs.len() <= plan.output {
                    outputs.push(Vec::new());
                }
                outputs[plan.output] = channels;
            }
        }
        wiring
    }

    /// The machine for the barriers of a subtask. On an edge that joins pairs, or that copies every record, each channel keeps its order: what such a channel
    /// brings could not be shared out anew by a restore at another parallelism (rule 26).
    fn new_alignment(&self, inputs: &[(InputEdge, EdgeReceiver)]) -> Alignment {
        let channels = inputs.len() as u32;
        if is_active(Mutation::WithoutAlignment) {
            return Aligner::without_blocking(channels).into();
        }
        match self.mode {
            CheckpointMode::ExactlyOnce => {
                let kept = (0..).zip(inputs).filter(|(_, (edge, _))| self.plan.edges[edge.edge as usize].keeps_order());
                Aligner::new(channels).keeping_order(kept.map(|(channel, _)| Channel(channel))).into()
            }
            CheckpointMode::AtLeastOnce => Alignment::new(self.mode, channels),
        }
    }
}

enum Built {
    Operator(Box<dyn crate::ports::task::OperatorTask>),
    Source(Box<dyn crate::ports::task::SourceTask>),
}

/// Stands in for a subtask whose task could not be built: reports that and ends.
struct FailedToBuild {
    host: Rc<dyn Host>,
    subtask: SubtaskId,
    attempt: Attempt,
    failure: Option<Failure>,
}

impl Driver for FailedToBuild {
    fn receive(&mut self, _message: Control) {}

    fn step(&mut self, _context: &mut std::task::Context<'_>) -> Step {
        if let Some(failure) = self.failure.take() {
            let origin = Origin::Subtask(self.subtask);
            self.host.send(Address::Supervisor, Control::Failed { attempt: self.attempt, origin, failure });
        }
        self.host.send(Address::Supervisor, Control::Ended { attempt: self.attempt, subtask: self.subtask });
        Step::Finished
    }
}
