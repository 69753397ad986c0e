//! Runs a graph by hand on one thread: the tasks of the plan, joined by edges, stepped in turn. No actors, no coordinator; a checkpoint is cut when
//! nothing moves, or in the middle of what the test says.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use alluvium::Graph;
use alluvium::snapshot::{Store, StoreOptions};
use alluvium::storage::{CheckpointStorage, MemoryStorage, SystemFiles};
use alluvium::testing::host::ManualHost;
use alluvium_actors::drive::edge::{Barrier, EdgeReceiver, Frame, edge};
use alluvium_actors::drive::outputs::{OutputChannel, Outputs};
use alluvium_actors::ids::{Attempt, CheckpointId, Moment, NodeId, OperatorUid, RunNumber, SubtaskId, WallTime};
use alluvium_actors::plan::{Pattern, Plan};
use alluvium_actors::ports::fence::{Fence, FenceSource};
use alluvium_actors::ports::host::{Address, Host};
use alluvium_actors::ports::sink::SinkScope;
use alluvium_actors::ports::source::{Assignment, Enumerator, EnumeratorContext};
use alluvium_actors::ports::store::{
    Chains, CheckpointKind, CheckpointStore, Manifest, OperatorShape, OperatorSnapshot, Piece, PieceContent,
    PublishOutcome, SubtaskSnapshot,
};
use alluvium_actors::ports::task::{
    Cut, Failure, InputEdge, OperatorTask, SLICE_RECORDS, SourceStep, SourceTask, Task, TaskContext, TaskFactory,
    TaskSnapshot,
};
use alluvium_actors::protocol::align::Channel;

pub(crate) const SEED: u64 = 0x5eed;

/// The job in the store, whatever the graph is called.
const JOB: &str = "test";

enum Body {
    Source(Box<dyn SourceTask>),
    Operator(Box<dyn OperatorTask>),
}

struct Subtask {
    id: SubtaskId,
    body: Body,
    outputs: Outputs,
    inputs: Vec<(InputEdge, EdgeReceiver)>,
    open_inputs: usize,
    reading: bool,
    ended: bool,
    holds: Option<usize>,
}

impl Subtask {
    fn task(&mut self) -> &mut dyn Task {
        match &mut self.body {
            Body::Source(task) => &mut **task,
            Body::Operator(task) => &mut **task,
        }
    }
}

/// A store in memory and the runs over it.
pub(crate) struct World {
    store: Arc<Store>,
    objects: Arc<MemoryStorage>,
    fences: FenceSource,
}

impl World {
    pub(crate) fn new(inline_limit: usize) -> World {
        let options = StoreOptions { inline_limit, ..StoreOptions::new(JOB, SEED) };
        let objects = Arc::new(MemoryStorage::new());
        let store = Store::new(Arc::clone(&objects) as Arc<dyn CheckpointStorage>, None, options).unwrap();
        World { store: Arc::new(store), objects, fences: FenceSource::new() }
    }

    /// How many blobs there are.
    pub(crate) fn blobs(&self) -> usize {
        self.objects.list("blobs/").unwrap().len()
    }

    /// Builds all tasks and restores them.
    pub(crate) fn start(&mut self, graph: &Graph, restored: Option<Manifest>) -> Result<Running, Failure> {
        let fence = self.fences.advance();
        let restored_from = restored.as_ref().map(|manifest| manifest.checkpoint);
        let run = self.store.begin_run(&fence, restored_from, WallTime(0)).unwrap().run;
        Running::new(graph, Arc::clone(&self.store), fence, run, restored.map(Arc::new))
    }
}

/// Runs a whole job to its end, in memory.
pub(crate) fn run(graph: &Graph) -> Result<(), Failure> {
    let mut world = World::new(20 * 1024);
    let mut running = world.start(graph, None)?;
    running.run_to_end()?;
    let manifest = running.checkpoint(1)?;
    running.complete(&manifest);
    Ok(())
}

/// Tasks that run.
pub(crate) struct Running {
    plan: Arc<Plan>,
    host: ManualHost,
    store: Arc<Store>,
    fence: Fence,
    run: RunNumber,
    restored: Option<Arc<Manifest>>,
    subtasks: Vec<Subtask>,
    enumerators: Vec<(NodeId, Box<dyn Enumerator>)>,
}

impl Running {
    fn new(
        graph: &Graph,
        store: Arc<Store>,
        fence: Fence,
        run: RunNumber,
        restored: Option<Arc<Manifest>>,
    ) -> Result<Running, Failure> {
        let plan = graph.plan();
        let host = ManualHost::new(4);
        let mut running = Running {
            plan: Arc::clone(&plan),
            host,
            store,
            fence,
            run,
            restored,
            subtasks: Vec::new(),
            enumerators: Vec::new(),
        };
        running.prepare_sinks()?;
        running.build()?;
        running.restore()?;
        Ok(running)
    }

    /// What the driver of a sink does before any writer opens.
    fn prepare_sinks(&mut self) -> Result<(), Failure> {
        for sink in &self.plan.sinks {
            let mut committer = (sink.committer)(self.scope(&sink.uid))?;
            let mut restored: Vec<OperatorSnapshot> = match &self.restored {
                None => Vec::new(),
                Some(manifest) => manifest.operators().filter(|snapshot| snapshot.uid == sink.uid).cloned().collect(),
            };
            for piece in restored.iter_mut().flat_map(|snapshot| &mut snapshot.pieces) {
                if let PieceContent::Blob(handle) = &piece.content {
                    let bytes = self.store.read_blob(handle, 0, handle.length as usize).unwrap();
                    piece.content = PieceContent::Inline(bytes);
                }
            }
            committer.open(&restored)?;
            committer.clean_up()?;
        }
        Ok(())
    }

    fn scope(&self, uid: &alluvium_actors::ids::OperatorUid) -> SinkScope {
        SinkScope {
            job: Arc::clone(&self.plan.job),
            store: format!("{SEED:016x}"),
            uid: uid.clone(),
            run: self.run,
            restored: self.restored.as_ref().map(|manifest| manifest.checkpoint),
            files: Arc::new(SystemFiles::new()),
            fence: self.fence.clone(),
        }
    }

    fn build(&mut self) -> Result<(), Failure> {
        let plan = Arc::clone(&self.plan);
        let mut outputs: BTreeMap<SubtaskId, BTreeMap<usize, Vec<OutputChannel>>> = BTreeMap::new();
        let mut inputs: BTreeMap<SubtaskId, Vec<(InputEdge, EdgeReceiver)>> = BTreeMap::new();
        for (number, planned) in (0..).zip(&plan.edges) {
            for from in 0..plan.node(planned.from).parallelism {
                for to in 0..plan.node(planned.to).parallelism {
                    if planned.pattern == Pattern::Pointwise && from != to {
                        continue;
                    }
                    let (producer, consumer) = (SubtaskId::new(planned.from.0, from), SubtaskId::new(planned.to.0, to));
                    let (sender, receiver) = edge(planned.credits);
                    let received = inputs.entry(consumer).or_default();
                    let input = InputEdge { edge: number, input: planned.input as u32, producer: from };
                    received.push((input, receiver));
                    let channel = OutputChannel {
                        edge: sender,
                        consumer: Address::Subtask(consumer, Attempt(1)),
                        consumer_channel: received.len() - 1,
                    };
                    outputs.entry(producer).or_default().entry(planned.output).or_default().push(channel);
                }
            }
        }
        for id in plan.subtasks() {
            let node = plan.node(id.node);
            let inputs = inputs.remove(&id).unwrap_or_default();
            let context = TaskContext {
                calls: Arc::default(),
                job: Arc::clone(&plan.job),
                subtask: id,
                parallelism: node.parallelism,
                max_parallelism: node.key_groups(self.restored.as_deref()),
                run: self.run,
                hash_seed: SEED,
                host: Rc::new(self.host.clone()) as Rc<dyn Host>,
                store: Arc::clone(&self.store) as Arc<dyn CheckpointStore>,
                files: Arc::new(SystemFiles::new()),
                fence: self.fence.clone(),
                inputs: inputs.iter().map(|(input, _)| *input).collect(),
                restored: self.restored.clone(),
            };
            let body = match &node.factory {
                TaskFactory::Source(factory) => Body::Source(factory(context)?),
                TaskFactory::Operator(factory) => Body::Operator(factory(context)?),
            };
            let by_number = outputs.remove(&id).unwrap_or_default();
            assert!(by_number.keys().copied().eq(0..by_number.len()), "outputs are numbered without gaps");
            self.subtasks.push(Subtask {
                id,
                body,
                outputs: Outputs::new(by_number.into_values().collect()),
                open_inputs: inputs.len(),
                inputs,
                reading: true,
                ended: false,
                holds: None,
            });
        }
        for source in &plan.sources {
            let context = EnumeratorContext {
                job: Arc::clone(&plan.job),
                uid: source.uid.clone(),
                parallelism: plan.node(source.node).parallelism,
                host: Rc::new(self.host.clone()) as Rc<dyn Host>,
                files: Arc::new(SystemFiles::new()),
                fence: FenceSource::new().advance(),
            };
            let mut enumerator = (source.enumerator)(context)?;
            let stored = self.restored.iter().flat_map(|manifest| &manifest.enumerators);
            for snapshot in stored.filter(|snapshot| snapshot.uid == source.uid) {
                let PieceContent::Inline(bytes) = &snapshot.pieces[0].content else { panic!("small") };
                enumerator.restore(bytes)?;
            }
            self.enumerators.push((source.node, enumerator));
        }
        Ok(())
    }

    fn restore(&mut self) -> Result<(), Failure> {
        for index in 0..self.subtasks.len() {
            loop {
                let mut context = Context::from_waker(Waker::noop());
                match self.subtasks[index].task().poll_restore(&mut context) {
                    Poll::Ready(result) => break result?,
                    Poll::Pending => self.do_work(),
                }
            }
        }
        Ok(())
    }

    /// Lets all waiting blocking work run.
    pub(crate) fn do_work(&self) {
        self.host.run_blocking();
    }

    /// Lets the first pieces of blocking work run.
    pub(crate) fn do_some_work(&self, most: usize) {
        (0..most).all(|_| self.host.run_one_blocking());
    }

    /// How much blocking work waits.
    pub(crate) fn waiting_work(&self) -> usize {
        self.host.waiting_blocking()
    }

    fn assign(&mut self) -> Result<(), Failure> {
        let mut context = Context::from_waker(Waker::noop());
        for (node, enumerator) in &mut self.enumerators {
            let mut assignments = Vec::new();
            enumerator.poll(&mut context, &mut assignments)?;
            for subtask in self.subtasks.iter_mut().filter(|subtask| subtask.id.node == *node) {
                let Body::Source(task) = &mut subtask.body else { panic!("a source") };
                for event in task.take_reader_events() {
                    enumerator.reader_event(subtask.id.index, event, &mut assignments)?;
                }
            }
            for assignment in assignments {
                let reader = match &assignment {
                    Assignment::Splits { reader, .. }
                    | Assignment::NoMoreSplits { reader }
                    | Assignment::Event { reader, .. } => *reader,
                };
                let id = SubtaskId { node: *node, index: reader };
                let subtask = self.subtasks.iter_mut().find(|subtask| subtask.id == id).unwrap();
                let Body::Source(task) = &mut subtask.body else { panic!("a source") };
                match assignment {
                    Assignment::Splits { splits, .. } => task.add_splits(splits)?,
                    Assignment::NoMoreSplits { .. } => task.no_more_splits(),
                    Assignment::Event { event, .. } => task.enumerator_event(event)?,
                }
            }
        }
        Ok(())
    }

    /// One step of every subtask. Answers whether anything moved.
    pub(crate) fn step(&mut self) -> Result<bool, Failure> {
        self.do_work();
        self.assign()?;
        let mut moved = false;
        for subtask in &mut self.subtasks {
            moved |= step(subtask)?;
        }
        self.assign()?;
        Ok(moved)
    }

    /// Steps until every subtask has seen the end of its data.
    pub(crate) fn run_to_end(&mut self) -> Result<(), Failure> {
        let mut idle = 0;
        while self.subtasks.iter().any(|subtask| !subtask.ended) {
            idle = if self.step()? { 0 } else { idle + 1 };
            assert!(idle < 1000, "the job hangs");
        }
        Ok(())
    }

    /// Stops the readers and lets everything that is under way arrive.
    pub(crate) fn settle(&mut self) -> Result<(), Failure> {
        let reading: Vec<bool> =
            self.subtasks.iter_mut().map(|subtask| std::mem::replace(&mut subtask.reading, false)).collect();
        while {
            for subtask in &mut self.subtasks {
                let Subtask { body, outputs, .. } = subtask;
                match body {
                    Body::Source(task) => task.flush(outputs),
                    Body::Operator(task) => task.flush(outputs),
                }
            }
            self.step()?
        } {}
        for (subtask, reading) in self.subtasks.iter_mut().zip(reading) {
            subtask.reading = reading;
        }
        Ok(())
    }

    /// The synchronous part of a checkpoint everywhere. Call [`Running::settle`] first.
    pub(crate) fn cut(&mut self, checkpoint: u64) -> Result<(), Failure> {
        for subtask in &mut self.subtasks {
            subtask.task().close_epoch(Cut { checkpoint: CheckpointId(checkpoint) })?;
        }
        Ok(())
    }

    /// One slice of the asynchronous part at one subtask.
    pub(crate) fn poll_snapshot(
        &mut self,
        index: usize,
        checkpoint: u64,
        budget: usize,
    ) -> Poll<Result<TaskSnapshot, Failure>> {
        let mut context = Context::from_waker(Waker::noop());
        self.subtasks[index].task().poll_snapshot(CheckpointId(checkpoint), budget, &mut context)
    }

    /// The asynchronous part everywhere, to its end; then the manifest is published.
    pub(crate) fn write(&mut self, checkpoint: u64) -> Result<Manifest, Failure> {
        let mut subtasks = Vec::new();
        for index in 0..self.subtasks.len() {
            let TaskSnapshot { operators, in_flight } = loop {
                match self.poll_snapshot(index, checkpoint, 100) {
                    Poll::Ready(snapshot) => break snapshot?,
                    Poll::Pending => self.do_work(),
                }
            };
            let Subtask { id, ended, .. } = self.subtasks[index];
            subtasks.push(SubtaskSnapshot { subtask: id, finished: ended, operators, in_flight });
        }
        let mut enumerators = Vec::new();
        for (source, (_, enumerator)) in self.plan.sources.iter().zip(&mut self.enumerators) {
            let content = PieceContent::Inline(enumerator.snapshot(CheckpointId(checkpoint))?);
            let pieces = vec![Piece { name: "enumerator".to_owned(), content }];
            enumerators.push(OperatorSnapshot { uid: source.uid.clone(), subtask: 0, pieces });
        }
        let manifest = Manifest {
            job: JOB.to_owned(),
            hash_seed: SEED,
            run: self.run,
            checkpoint: CheckpointId(checkpoint),
            kind: CheckpointKind::Manual,
            triggered: WallTime(0),
            completed: WallTime(0),
            shapes: self.shapes(),
            enumerators,
            subtasks,
            chains: Some(Chains::of(&self.plan)),
            attributes: BTreeMap::new(),
        };
        assert_eq!(self.store.publish(&self.fence, &manifest), PublishOutcome::Done);
        Ok(manifest)
    }

    fn shapes(&self) -> Vec<OperatorShape> {
        let restored = self.restored.as_deref();
        let shape = |node: &alluvium_actors::plan::Node, uid: &OperatorUid| OperatorShape {
            uid: uid.clone(),
            parallelism: node.parallelism,
            max_parallelism: node.key_groups(restored),
        };
        self.plan.nodes.iter().flat_map(|node| node.uids.iter().map(move |uid| shape(node, uid))).collect()
    }

    /// A whole checkpoint.
    pub(crate) fn checkpoint(&mut self, checkpoint: u64) -> Result<Manifest, Failure> {
        self.settle()?;
        self.cut(checkpoint)?;
        self.write(checkpoint)
    }

    /// A whole checkpoint whose barriers overtake, at this moment: what is in flight in front of a subtask is captured there.
    pub(crate) fn overtake(&mut self, checkpoint: u64) -> Result<Manifest, Failure> {
        let id = CheckpointId(checkpoint);
        let barrier =
            Barrier { checkpoint: id, kind: CheckpointKind::Manual, triggered: Moment(0), overtakes: Some(Moment(0)) };
        for subtask in &mut self.subtasks {
            let address = Address::Subtask(subtask.id, Attempt(1));
            let Subtask { body, outputs, .. } = subtask;
            match body {
                Body::Source(task) => task.flush(outputs),
                Body::Operator(task) => task.flush(outputs),
            }
            outputs.send_barrier(&self.host, address, barrier);
        }
        self.cut(checkpoint)?;
        let context = Context::from_waker(Waker::noop());
        for subtask in &mut self.subtasks {
            let working = if subtask.task().has_restored() { None } else { subtask.holds };
            subtask.task().begin_capture(id, working.map(|channel| Channel(channel as u32)))?;
            if let Body::Operator(task) = &mut subtask.body {
                for (channel, (_, receiver)) in (0..).map(Channel).zip(&subtask.inputs) {
                    let mut captured = Ok(());
                    receiver.look(&context, 0, &mut |frame| {
                        if let Frame::Batch(batch) = frame {
                            captured = task.capture(id, channel, batch.as_ref());
                        }
                        if captured.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                    });
                    captured?;
                }
            }
            subtask.task().end_capture(id);
        }
        self.write(checkpoint)
    }

    pub(crate) fn abort(&mut self, checkpoint: u64) {
        for subtask in &mut self.subtasks {
            subtask.task().aborted(CheckpointId(checkpoint));
        }
    }

    /// Tells everybody that the checkpoint is complete and carries the commits out. Answers the checkpoints whose transactions were committed, in order.
    pub(crate) fn complete(&mut self, manifest: &Manifest) -> Vec<u64> {
        let mut committed = Vec::new();
        for index in 0..self.subtasks.len() {
            self.subtasks[index].task().completed(manifest.checkpoint);
            loop {
                let commits = self.subtasks[index].task().take_commits();
                if commits.is_empty() {
                    break;
                }
                assert!(self.subtasks[index].task().has_open_commits());
                for commit in commits {
                    let sink = &self.plan.sinks[commit.sink as usize];
                    let mut committer = (sink.committer)(self.scope(&sink.uid)).unwrap();
                    for committable in &commit.committables {
                        committer.commit(committable);
                    }
                    committed.push(commit.checkpoint.0);
                    self.subtasks[index].task().committed(commit.sink, commit.checkpoint);
                }
            }
            assert!(!self.subtasks[index].task().has_open_commits());
        }
        committed
    }
}

/// One step of a subtask, as its driver would do it.
fn step(subtask: &mut Subtask) -> Result<bool, Failure> {
    let mut context = Context::from_waker(Waker::noop());
    if subtask.ended {
        subtask.outputs.poll_drained(&mut context);
        return Ok(false);
    }
    if !subtask.outputs.poll_drained(&mut context) {
        return Ok(false);
    }
    match subtask.task().poll_ready(&mut context) {
        Poll::Ready(ready) => ready?,
        Poll::Pending => return Ok(false),
    }
    let Subtask { body, outputs, inputs, open_inputs, reading, ended, holds, .. } = subtask;
    let task: &mut dyn Task = match body {
        Body::Source(task) => &mut **task,
        Body::Operator(task) => &mut **task,
    };
    if task.has_restored() {
        task.step_restored(SLICE_RECORDS, outputs)?;
        return Ok(true);
    }
    let mut moved = false;
    let finished = match body {
        Body::Source(_) if !*reading => false,
        Body::Source(task) => match task.poll_records(SLICE_RECORDS, outputs, &mut context) {
            Poll::Pending => {
                task.flush(outputs);
                false
            }
            Poll::Ready(step) => {
                moved = true;
                step? == SourceStep::Ended
            }
        },
        Body::Operator(task) => {
            if let Some(channel) = *holds {
                moved = true;
                if let Some(emptied) = task.step(SLICE_RECORDS, outputs)? {
                    inputs[channel].1.give_back(emptied);
                    *holds = None;
                }
            } else {
                for (channel, (input, receiver)) in inputs.iter().enumerate() {
                    match receiver.poll_frame(&mut context) {
                        Poll::Ready(Frame::Batch(batch)) => {
                            task.accept(input.input as usize, batch);
                            *holds = Some(channel);
                            moved = true;
                            break;
                        }
                        Poll::Ready(Frame::EndOfData) => {
                            *open_inputs -= 1;
                            moved = true;
                        }
                        Poll::Ready(Frame::Barrier(_) | Frame::Cancel(_) | Frame::EndOfChannel) | Poll::Pending => {}
                    }
                }
            }
            *open_inputs == 0 && holds.is_none()
        }
    };
    if finished {
        match body {
            Body::Source(task) => {
                task.finish(outputs)?;
                task.flush(outputs);
            }
            Body::Operator(task) => {
                task.finish(outputs)?;
                task.flush(outputs);
            }
        }
        outputs.send_end_of_data();
        *ended = true;
        moved = true;
    }
    Ok(moved)
}

/// What a `for_each` saw.
#[derive(Debug)]
pub(crate) struct Seen<T>(Arc<Mutex<Vec<T>>>);

impl<T> Clone for Seen<T> {
    fn clone(&self) -> Seen<T> {
        Seen(Arc::clone(&self.0))
    }
}

impl<T: Ord + Clone> Seen<T> {
    pub(crate) fn new() -> Seen<T> {
        Seen(Arc::default())
    }

    pub(crate) fn note(&self, record: T) {
        self.0.lock().unwrap().push(record);
    }

    pub(crate) fn in_order(&self) -> Vec<T> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn sorted(&self) -> Vec<T> {
        let mut records = self.in_order();
        records.sort();
        records
    }
}
