//! The subtasks of a piece of a graph, each behind the driver that runs it in a job, on a host that is moved by hand.
//!
//! What stands around them in a job is played here: who feeds the first edges and reads the last ones, the supervisor who waits until all are restored, and
//! the coordinator who sends barriers and collects what is acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use alluvium_actors::drive::control::Control;
use alluvium_actors::drive::edge::{Barrier, EdgeReceiver, EdgeSender, Frame, edge};
use alluvium_actors::drive::gate::Gate;
use alluvium_actors::drive::operator::OperatorDriver;
use alluvium_actors::drive::outputs::{OutputChannel, Outputs};
use alluvium_actors::drive::subtask::Restored;
use alluvium_actors::ids::{Attempt, CheckpointId, RunNumber, SubtaskId};
use alluvium_actors::payload::Payload;
use alluvium_actors::plan::{Node, Pattern, Plan};
use alluvium_actors::ports::blocking::panic_text;
use alluvium_actors::ports::fence::{Fence, FenceSource};
use alluvium_actors::ports::host::{Address, Driver, Host, Step};
use alluvium_actors::ports::store::{
    CheckpointKind, CheckpointStore, Manifest, OperatorShape, PublishOutcome, SubtaskSnapshot,
};
use alluvium_actors::ports::task::{Failure, TaskContext, TaskFactory};
use alluvium_actors::protocol::align::{Alignment, CheckpointMode};

use super::error::OperatorTestError;
use crate::snapshot::Store;
use crate::storage::SystemFiles;
use crate::testing::host::ManualHost;

/// The only attempt: what fails is not restarted, but started anew by the test.
const ATTEMPT: Attempt = Attempt(1);

/// What an instance consists of, by the names of the nodes of its plan.
pub(super) struct Roles<'a> {
    /// The nodes that take what is pushed, one for each input.
    pub(super) inputs: &'a [String],
    /// The nodes that are not built: what would come to them is the output.
    pub(super) taps: &'a [String],
}

/// The running subtasks.
pub(super) struct Instance {
    plan: Arc<Plan>,
    host: ManualHost,
    store: Arc<Store>,
    fence: Fence,
    run: RunNumber,
    next_checkpoint: CheckpointId,
    subtasks: Vec<Subtask>,
    /// For each input the edge that leads to it, and the position of the subtask that reads it.
    inputs: Vec<(EdgeSender, usize)>,
    outlets: Vec<Outlet>,
    /// How many subtasks have said that they are restored.
    restored: usize,
    acknowledged: BTreeMap<CheckpointId, Vec<SubtaskSnapshot>>,
    emitted: Vec<Emitted>,
    failure: Option<Failure>,
    finished: bool,
}

struct Subtask {
    id: SubtaskId,
    driver: OperatorDriver,
    ended: bool,
}

/// An edge that leads to a tap.
struct Outlet {
    /// The position of the tap.
    tap: usize,
    /// The index of the subtask that feeds it.
    producer: u32,
    edge: EdgeReceiver,
}

/// A batch that came out.
pub(super) struct Emitted {
    /// The position of the tap.
    pub(super) tap: usize,
    /// The index of the subtask that emitted it.
    pub(super) subtask: u32,
    pub(super) batch: Payload,
}

/// The edges of an instance while they are laid.
#[derive(Default)]
struct Wiring {
    inputs: BTreeMap<SubtaskId, Vec<(usize, EdgeReceiver)>>,
    outputs: BTreeMap<SubtaskId, Vec<Vec<OutputChannel>>>,
    outlets: Vec<Outlet>,
}

impl Instance {
    /// Builds all subtasks, restores them and lets them begin.
    pub(super) fn start(
        plan: Arc<Plan>,
        roles: &Roles<'_>,
        store: Store,
        restored: Option<Manifest>,
        seed: u64,
    ) -> Result<Instance, OperatorTestError> {
        let host = ManualHost::new(seed);
        let fence = FenceSource::new().advance();
        let restored_from = restored.as_ref().map(|manifest| manifest.checkpoint);
        let record = store.begin_run(&fence, restored_from, host.wall())?;
        let mut instance = Instance {
            plan,
            host,
            store: Arc::new(store),
            fence,
            run: record.run,
            next_checkpoint: record.first_checkpoint,
            subtasks: Vec::new(),
            inputs: Vec::new(),
            outlets: Vec::new(),
            restored: 0,
            acknowledged: BTreeMap::new(),
            emitted: Vec::new(),
            failure: None,
            finished: false,
        };
        instance.build(roles, restored.map(Arc::new))?;
        instance.settle()?;
        if instance.restored < instance.subtasks.len() {
            return Err(instance.stuck("it does not come to the end of its restore"));
        }
        for subtask in &mut instance.subtasks {
            subtask.driver.receive(Control::Start);
        }
        instance.settle()?;
        Ok(instance)
    }

    fn build(&mut self, roles: &Roles<'_>, restored: Option<Arc<Manifest>>) -> Result<(), Failure> {
        let plan = Arc::clone(&self.plan);
        let is_tap = |node: &Node| roles.taps.iter().position(|tap| *tap == node.name);
        let is_built = |node: &Node| matches!(node.factory, TaskFactory::Operator(_)) && is_tap(node).is_none();
        let mut wiring = Wiring::default();
        for planned in &plan.edges {
            let (producer, consumer) = (plan.node(planned.from), plan.node(planned.to));
            if !is_built(producer) {
                continue;
            }
            for from in 0..producer.parallelism {
                let mut channels = Vec::new();
                let targets = match planned.pattern {
                    Pattern::Pointwise => from..from + 1,
                    Pattern::AllToAll => 0..consumer.parallelism,
                };
                for to in targets {
                    let (sender, receiver) = edge(planned.credits);
                    let id = SubtaskId { node: planned.to, index: to };
                    let consumer_channel = match is_tap(consumer) {
                        Some(tap) => {
                            wiring.outlets.push(Outlet { tap, producer: from, edge: receiver });
                            0
                        }
                        None => {
                            let inputs = wiring.inputs.entry(id).or_default();
                            inputs.push((planned.input, receiver));
                            inputs.len() - 1
                        }
                    };
                    channels.push(OutputChannel {
                        edge: sender,
                        consumer: Address::Subtask(id, ATTEMPT),
                        consumer_channel,
                    });
                }
                let outputs = wiring.outputs.entry(SubtaskId { node: planned.from, index: from }).or_default();
                if outputs.len() <= planned.output {
                    outputs.resize_with(planned.output + 1, Vec::new);
                }
                outputs[planned.output] = channels;
            }
        }
        let mut fed = BTreeMap::new();
        for id in plan.subtasks().filter(|id| is_built(plan.node(id.node))) {
            if let Some(input) = roles.inputs.iter().position(|input| *input == plan.node(id.node).name) {
                let (sender, receiver) = edge(1);
                wiring.inputs.insert(id, vec![(0, receiver)]);
                fed.insert(input, (sender, self.subtasks.len()));
            }
            let driver = self.driver(id, &mut wiring, restored.as_ref())?;
            self.subtasks.push(Subtask { id, driver, ended: false });
        }
        self.inputs = fed.into_values().collect();
        self.outlets = wiring.outlets;
        Ok(())
    }

    fn driver(
        &self,
        id: SubtaskId,
        wiring: &mut Wiring,
        restored: Option<&Arc<Manifest>>,
    ) -> Result<OperatorDriver, Failure> {
        let node = self.plan.node(id.node);
        let name = format!("{}[{}]", node.name, id.index);
        let TaskFactory::Operator(factory) = &node.factory else {
            return Err(Failure::unrecoverable(name, "a source is not built here: a bug of the harness"));
        };
        let host: Rc<dyn Host> = Rc::new(self.host.clone());
        let context = TaskContext {
            job: Arc::clone(&self.plan.job),
            subtask: id,
            parallelism: node.parallelism,
            max_parallelism: node.max_parallelism,
            run: self.run,
            hash_seed: self.store.hash_seed(),
            host: Rc::clone(&host),
            store: Arc::clone(&self.store) as Arc<dyn CheckpointStore>,
            files: Arc::new(SystemFiles::new()),
            fence: self.fence.clone(),
            // One operator by hand has no neighbours: nothing is ever in flight in front of it.
            inputs: Arc::default(),
            restored: restored.cloned(),
            calls: Arc::default(),
        };
        let task = match catch_unwind(AssertUnwindSafe(|| factory(context))) {
            Ok(task) => task?,
            Err(panic) => return Err(Failure::panic(name, &panic_text(panic.as_ref()))),
        };
        let inputs = wiring.inputs.remove(&id).unwrap_or_default();
        let outputs = Outputs::new(wiring.outputs.remove(&id).unwrap_or_default());
        let alignment = Alignment::new(CheckpointMode::ExactlyOnce, inputs.len() as u32);
        let begins_with = Restored {
            checkpoint: restored.map(|manifest| manifest.checkpoint),
            finished: restored.is_some_and(|manifest| had_finished(manifest, id)),
        };
        let (gate, fence) = (Gate::new(inputs), self.fence.clone());
        Ok(OperatorDriver::new(host, id, ATTEMPT, fence, name, task, gate, outputs, alignment, begins_with))
    }

    /// Lets everything happen that can happen without another push and without time passing.
    pub(super) fn settle(&mut self) -> Result<(), OperatorTestError> {
        let mut moved = true;
        while moved {
            let wakes = self.host.wakes();
            self.host.run_blocking();
            moved = self.step_all();
            moved |= self.deliver();
            // An edge takes so many batches only: what was taken out makes room for more. What came out before a failure did come out.
            moved |= self.drain();
            self.check()?;
            moved |= self.host.has_blocking() || self.host.wakes() != wakes;
        }
        Ok(())
    }

    /// Takes what has come out at the taps. True if there was anything.
    fn drain(&mut self) -> bool {
        let waker = self.host.waker();
        let mut context = Context::from_waker(&waker);
        let before = self.emitted.len();
        for Outlet { tap, producer, edge } in &self.outlets {
            while let Poll::Ready(frame) = edge.poll_frame(&mut context) {
                if let Frame::Batch(batch) = frame {
                    self.emitted.push(Emitted { tap: *tap, subtask: *producer, batch });
                }
            }
        }
        self.emitted.len() > before
    }

    /// What came out since this was called last, in order.
    pub(super) fn take_emitted(&mut self) -> Vec<Emitted> {
        std::mem::take(&mut self.emitted)
    }

    /// One step of every subtask. True if one of them has more to do.
    fn step_all(&mut self) -> bool {
        let waker = self.host.waker();
        let mut moved = false;
        for subtask in self.subtasks.iter_mut().filter(|subtask| !subtask.ended) {
            match subtask.driver.step(&mut Context::from_waker(&waker)) {
                Step::Again => moved = true,
                Step::Wait => {}
                Step::Finished => subtask.ended = true,
            }
        }
        moved
    }

    /// Brings messages to those whom they concern. True if there were any.
    fn deliver(&mut self) -> bool {
        let mut moved = false;
        while let Some((to, message)) = self.host.take_sent() {
            moved = true;
            if let Address::Subtask(id, ATTEMPT) = to {
                if let Some(subtask) = self.subtasks.iter_mut().find(|subtask| subtask.id == id) {
                    subtask.driver.receive(message);
                }
                continue;
            }
            match message {
                Control::Restored { .. } => self.restored += 1,
                Control::Acknowledge { checkpoint, snapshot, .. } => {
                    self.acknowledged.entry(checkpoint).or_default().push(*snapshot);
                }
                // The synchronous part fails the subtask as well, and says so first.
                Control::Decline { failure, .. } | Control::Failed { failure, .. } => {
                    self.failure.get_or_insert(failure);
                }
                // `Ended` follows a failure, `EndOfData` concerns the coordinator of a whole job, and there are no sinks.
                _ => {}
            }
        }
        moved
    }

    fn stuck(&self, message: &str) -> OperatorTestError {
        OperatorTestError::Failed(Failure::unrecoverable(&*self.plan.job, message))
    }

    fn check(&self) -> Result<(), OperatorTestError> {
        self.failure.clone().map_or(Ok(()), |failure| Err(OperatorTestError::Failed(failure)))
    }

    /// Puts a batch in front of an input.
    pub(super) fn push(&mut self, input: usize, batch: Payload) -> Result<(), OperatorTestError> {
        self.check()?;
        if self.finished {
            return Err(OperatorTestError::Finished);
        }
        self.inputs[input].0.force_send(Frame::Batch(batch));
        self.settle()
    }

    /// Ends the data of all inputs.
    pub(super) fn finish(&mut self) -> Result<(), OperatorTestError> {
        self.check()?;
        if !std::mem::replace(&mut self.finished, true) {
            for (edge, _) in &self.inputs {
                edge.force_send(Frame::EndOfData);
            }
        }
        self.settle()
    }

    /// Lets time pass, from one wake-up that was asked for to the next.
    pub(super) fn advance(&mut self, by: Duration) -> Result<(), OperatorTestError> {
        self.check()?;
        let end = self.host.now() + by;
        while let Some(next) = self.host.next_wake().filter(|next| *next <= end) {
            self.host.advance_to(next.max(self.host.now()));
            self.settle()?;
        }
        self.host.advance_to(end);
        self.settle()
    }

    /// How much time has passed.
    pub(super) fn now(&self) -> Duration {
        Duration::from_nanos(self.host.now().0)
    }

    /// A checkpoint of all subtasks.
    pub(super) fn cut(&mut self) -> Result<Manifest, OperatorTestError> {
        self.check()?;
        let checkpoint = self.next_checkpoint;
        self.next_checkpoint = checkpoint.next();
        self.store.reserve_ids(&self.fence, self.run, checkpoint.next())?;
        let barrier = Barrier { checkpoint, kind: CheckpointKind::Manual, triggered: self.host.now(), overtakes: None };
        for (edge, subtask) in &self.inputs {
            edge.force_send(Frame::Barrier(barrier));
            self.subtasks[*subtask].driver.receive(Control::BarrierAnnounced { channel: 0, barrier });
        }
        self.settle()?;
        let mut subtasks = self.acknowledged.remove(&checkpoint).unwrap_or_default();
        if subtasks.len() != self.subtasks.len() {
            return Err(self.stuck("a checkpoint is not acknowledged by all subtasks"));
        }
        subtasks.sort_by_key(|snapshot| snapshot.subtask);
        Ok(Manifest {
            job: self.plan.job.to_string(),
            hash_seed: self.store.hash_seed(),
            run: self.run,
            checkpoint,
            kind: CheckpointKind::Manual,
            triggered: self.host.wall(),
            completed: self.host.wall(),
            shapes: self.shapes(),
            enumerators: Vec::new(),
            subtasks,
            chains: None,
            attributes: BTreeMap::new(),
        })
    }

    fn shapes(&self) -> Vec<OperatorShape> {
        let built: BTreeSet<_> = self.subtasks.iter().map(|subtask| subtask.id.node).collect();
        let nodes = built.into_iter().map(|id| self.plan.node(id));
        nodes
            .flat_map(|node| {
                node.uids.iter().map(|uid| OperatorShape {
                    uid: uid.clone(),
                    parallelism: node.parallelism,
                    max_parallelism: node.max_parallelism,
                })
            })
            .collect()
    }

    /// Makes a checkpoint complete in the store. Older ones go: whoever wants them has them as values.
    pub(super) fn publish(&mut self, manifest: &Manifest) -> Result<(), OperatorTestError> {
        match self.store.publish(&self.fence, manifest) {
            PublishOutcome::Done => {}
            PublishOutcome::Failed(error) | PublishOutcome::Unknown(error) => return Err(error.into()),
        }
        for older in self.store.list()? {
            if older.checkpoint < manifest.checkpoint {
                self.store.delete_checkpoint(&self.fence, older.checkpoint)?;
            }
        }
        Ok(())
    }

    /// Deletes what belongs to a checkpoint that will not be published, and tells the subtasks.
    pub(super) fn discard(&mut self, manifest: &Manifest) -> Result<(), OperatorTestError> {
        let blobs: Vec<_> = manifest.blobs().cloned().collect();
        self.store.delete_blobs(&self.fence, &blobs)?;
        self.tell_aborted(manifest.checkpoint)
    }

    /// Tells every subtask that a checkpoint was aborted.
    pub(super) fn tell_aborted(&mut self, checkpoint: CheckpointId) -> Result<(), OperatorTestError> {
        self.tell(|| Control::Aborted { checkpoint, last_completed: None })
    }

    /// Tells every subtask that a checkpoint is complete.
    pub(super) fn tell_completed(&mut self, checkpoint: CheckpointId) -> Result<(), OperatorTestError> {
        self.tell(|| Control::Completed { checkpoint, kind: CheckpointKind::Manual })
    }

    fn tell(&mut self, message: impl Fn() -> Control) -> Result<(), OperatorTestError> {
        self.check()?;
        for subtask in &mut self.subtasks {
            subtask.driver.receive(message());
        }
        self.settle()
    }

    pub(super) fn store(&self) -> &Arc<Store> {
        &self.store
    }
}

/// Whether all former subtasks of a node had seen the end of their data.
fn had_finished(manifest: &Manifest, id: SubtaskId) -> bool {
    let mut former = manifest.subtasks.iter().filter(|snapshot| snapshot.subtask.node == id.node).peekable();
    former.peek().is_some() && former.all(|snapshot| snapshot.finished)
}
