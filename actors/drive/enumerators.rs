//! The enumerators of the sources, each in the attempt of its region.
//!
//! They live beside the coordinator, because their state is part of every checkpoint and because the order of one mailbox keeps assignments and
//! triggers apart (rule 16). One ends with its region, before that is restored; those of the other regions run on. What their code does
//! wrong is a failure of their region.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;

use crate::drive::attempt::AttemptHost;
use crate::drive::control::{Control, Origin, ResumedRegion};
use crate::drive::subtask::drop_quietly;
use crate::ids::{Attempt, CheckpointId, NodeId, OperatorUid, RegionId, SubtaskId};
use crate::plan::{Plan, SourcePlan};
use crate::ports::blocking::panic_text;
use crate::ports::fence::Fence;
use crate::ports::files::Files;
use crate::ports::host::{Address, Host};
use crate::ports::points::{Hit, InjectedEnd, Point, Points, Who};
use crate::ports::source::{Assignment, Enumerator, EnumeratorContext, ReaderEvent};
use crate::ports::store::{Manifest, OperatorSnapshot, Piece, PieceContent, name_part};
use crate::ports::task::Failure;
use crate::protocol::mutation::{Mutation, is_active};
use crate::protocol::supervise::Regions;

/// The name of the piece of a checkpoint that holds an enumerator's state.
const ENUMERATOR: &str = "enumerator";

/// The enumerators of a job.
pub(super) struct Enumerators {
    host: Rc<dyn Host>,
    plan: Arc<Plan>,
    regions: Regions,
    files: Arc<dyn Files>,
    /// By the source's position in the plan. One is gone while its region is, and once it failed.
    running: BTreeMap<usize, Running>,
}

/// An enumerator that runs.
struct Running {
    attempt: Attempt,
    node: NodeId,
    uid: OperatorUid,
    fence: Fence,
    enumerator: Box<dyn Enumerator>,
}

/// One that failed, and how.
type Failed = (NodeId, Attempt, Failure);

impl Enumerators {
    /// None yet.
    pub(super) fn new(host: Rc<dyn Host>, plan: Arc<Plan>, regions: Regions, files: Arc<dyn Files>) -> Enumerators {
        Enumerators { host, plan, regions, files, running: BTreeMap::new() }
    }

    /// Builds the enumerators of these regions, as the restored checkpoint left them.
    pub(super) fn begin(&mut self, attempt: Attempt, regions: &[ResumedRegion], restored: Option<&Manifest>) {
        let plan = Arc::clone(&self.plan);
        for (position, source) in plan.sources.iter().enumerate() {
            let region = self.regions.of_node(source.node);
            let Some(resumed) = regions.iter().find(|resumed| resumed.region == region) else { continue };
            let context = EnumeratorContext {
                job: Arc::clone(&plan.job),
                uid: source.uid.clone(),
                parallelism: plan.node(source.node).parallelism,
                host: AttemptHost::around(Rc::clone(&self.host), Arc::clone(&resumed.work)),
                files: Arc::clone(&self.files),
                fence: resumed.fence.clone(),
            };
            match build(source, context, restored, &self.host.points()) {
                Ok(enumerator) => {
                    let (uid, fence) = (source.uid.clone(), resumed.fence.clone());
                    let running = Running { attempt, node: source.node, uid, fence, enumerator };
                    drop_quietly(self.running.insert(position, running));
                }
                Err(failure) => self.failed((source.node, attempt, failure.behind(&resumed.fence))),
            }
        }
    }

    /// Ends the enumerators of these regions: they begin no work any more.
    pub(super) fn end(&mut self, regions: &BTreeSet<RegionId>) {
        let over: Vec<usize> = self
            .running
            .iter()
            .filter(|(_, running)| regions.contains(&self.regions.of_node(running.node)))
            .map(|(source, _)| *source)
            .collect();
        for source in over {
            drop_quietly(self.running.remove(&source));
        }
    }

    /// A reader has something to tell. One of an attempt that is over is not heard.
    pub(super) fn reader_event(&mut self, attempt: Attempt, subtask: SubtaskId, event: ReaderEvent) {
        let found = self.running.values_mut().find(|running| running.node == subtask.node);
        let Some(running) = found.filter(|running| running.attempt == attempt) else { return };
        let told = running.call(self.host.as_ref(), |enumerator, assignments| {
            enumerator.reader_event(subtask.index, event, assignments)
        });
        if let Err(failed) = told {
            self.failed(failed);
        }
    }

    /// Lets every enumerator look for new splits.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) {
        let host = Rc::clone(&self.host);
        self.each(|running| {
            running.call(host.as_ref(), |enumerator, assignments| enumerator.poll(context, assignments))
        });
    }

    /// The state of every enumerator. None when one has none to give: it failed, or is gone with its region.
    pub(super) fn snapshot(&mut self, checkpoint: CheckpointId) -> Option<Vec<OperatorSnapshot>> {
        let mut snapshots = Vec::new();
        let points = self.host.points();
        self.each(|running| {
            let uid = running.uid.clone();
            let state = running.guarded(|enumerator| {
                pass(&points, Point::EnumeratorSnapshot, &uid, Some(checkpoint))?;
                enumerator.snapshot(checkpoint)
            })?;
            let piece = Piece { name: ENUMERATOR.to_owned(), content: PieceContent::Inline(state) };
            snapshots.push(OperatorSnapshot { uid: running.uid.clone(), subtask: 0, pieces: vec![piece] });
            Ok(())
        });
        (snapshots.len() == self.plan.sources.len()).then_some(snapshots)
    }

    /// Tells every enumerator something that it has no answer to.
    pub(super) fn tell(&mut self, tell: impl Fn(&mut dyn Enumerator)) {
        self.each(|running| {
            running.guarded(|enumerator| {
                tell(enumerator);
                Ok(())
            })
        });
    }

    fn each(&mut self, mut call: impl FnMut(&mut Running) -> Result<(), Failed>) {
        let failed: Vec<Failed> = self.running.values_mut().filter_map(|running| call(running).err()).collect();
        for failed in failed {
            self.failed(failed);
        }
    }

    /// The code of an enumerator failed: that is a failure of its region. It is not called again.
    fn failed(&mut self, (node, attempt, failure): Failed) {
        let source = self.plan.sources.iter().position(|source| source.node == node);
        if let Some(source) = source {
            drop_quietly(self.running.remove(&source));
        }
        let origin = Origin::Enumerator(node);
        self.host.send(Address::Supervisor, Control::Failed { attempt, origin, failure });
    }
}

impl Running {
    /// Calls it, and sends what it assigns to its readers.
    fn call(
        &mut self,
        host: &dyn Host,
        call: impl FnOnce(&mut dyn Enumerator, &mut Vec<Assignment>) -> Result<(), Failure>,
    ) -> Result<(), Failed> {
        let mut assignments = Vec::new();
        self.guarded(|enumerator| call(enumerator, &mut assignments))?;
        for assignment in assignments {
            let (reader, message) = match assignment {
                Assignment::Splits { reader, splits } => (reader, Control::AddSplits(splits)),
                Assignment::NoMoreSplits { reader } => (reader, Control::NoMoreSplits),
                Assignment::Event { reader, event } => (reader, Control::EnumeratorEvent(event)),
            };
            let subtask = SubtaskId { node: self.node, index: reader };
            host.send(Address::Subtask(subtask, self.attempt), message);
        }
        Ok(())
    }

    fn guarded<T>(&mut self, call: impl FnOnce(&mut dyn Enumerator) -> Result<T, Failure>) -> Result<T, Failed> {
        caught(self.uid.as_str(), || call(self.enumerator.as_mut()))
            .and_then(|called| called)
            .map_err(|failure| (self.node, self.attempt, failure.behind(&self.fence)))
    }
}

/// Builds the enumerator of a source, as the restored checkpoint left it.
fn build(
    source: &SourcePlan,
    context: EnumeratorContext,
    restored: Option<&Manifest>,
    points: &Points,
) -> Result<Box<dyn Enumerator>, Failure> {
    let name = source.uid.as_str();
    let checkpoint = restored.map(|manifest| manifest.checkpoint);
    caught(name, || pass(points, Point::RestoreEnumerator, &source.uid, checkpoint))??;
    let mut enumerator = caught(name, || (source.enumerator)(context))??;
    let state = restored.and_then(|manifest| {
        let snapshot = manifest.enumerators.iter().find(|snapshot| snapshot.uid == source.uid)?;
        snapshot.piece(ENUMERATOR)
    });
    if let Some(Piece { content: PieceContent::Inline(state), .. }) = state
        && !is_active(Mutation::SplitGivenTwice)
    {
        caught(name, || enumerator.restore(state))??;
    }
    Ok(enumerator)
}

/// Passes a fault point of an enumerator.
fn pass(points: &Points, point: Point, uid: &OperatorUid, checkpoint: Option<CheckpointId>) -> Result<(), Failure> {
    if !points.are_armed() {
        return Ok(());
    }
    let operator = name_part(uid.as_str());
    let who = Who::Instance { operator: &operator, subtask: 0 };
    points.pass(&Hit { checkpoint, ..Hit::work(point, who) }, |reason| Failure::retryable(uid.as_str(), reason))
}

/// Calls the code of an enumerator.
fn caught<T>(name: &str, call: impl FnOnce() -> T) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| {
        if panic.is::<InjectedEnd>() {
            resume_unwind(panic);
        }
        let failure = Failure::panic(name, &panic_text(panic.as_ref()));
        drop_quietly(panic);
        failure
    })
}
