//! The enumerators of sources beside the coordinator: their snapshots, and the order of what they assign and the triggers of checkpoints.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use alluvium::snapshot::{Store, StoreOptions};
use alluvium::storage::{MemoryStorage, SystemFiles};
use alluvium_actors::drive::control::{Control, Reply, Resume, ResumedRegion};
use alluvium_actors::drive::coordinator::{CoordinatorDriver, CoordinatorSetup};
use alluvium_actors::drive::overview::Overview;
use alluvium_actors::ids::{Attempt, CheckpointId, NodeId, OperatorUid, RegionId, RunNumber, SubtaskId, WallTime};
use alluvium_actors::plan::{Node, Plan, SourcePlan};
use alluvium_actors::ports::fence::{Fence, FenceSource};
use alluvium_actors::ports::host::{Address, Driver};
use alluvium_actors::ports::listener::{JobEvent, Listener};
use alluvium_actors::ports::source::{Assignment, Enumerator, ReaderEvent};
use alluvium_actors::ports::store::{
    CheckpointKind, CheckpointStore, Manifest, OperatorSnapshot, Piece, PieceContent, RunRecord, SubtaskSnapshot,
};
use alluvium_actors::ports::task::{Failure, TaskFactory};
use alluvium_actors::protocol::coordinator::{DeclineReason, FailureReason, Settings, SubtaskFigures};

use crate::host::Recorder;
use crate::rig::ATTEMPT;

/// What the enumerator does and has done.
#[derive(Default)]
struct State {
    log: Vec<String>,
    /// What it assigns at its next look.
    found: Vec<Assignment>,
    fails: bool,
    panics_in: Option<&'static str>,
}

#[derive(Clone, Default)]
struct Script(Arc<Mutex<State>>);

impl Script {
    fn note(&self, line: &str) {
        let mut state = self.0.lock().unwrap();
        state.log.push(line.to_owned());
        let panics = state.panics_in.is_some_and(|call| line.starts_with(call));
        drop(state);
        assert!(!panics, "the user's {line}");
    }

    fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().log)
    }
}

impl Enumerator for Script {
    fn restore(&mut self, state: &[u8]) -> Result<(), Failure> {
        self.note(&format!("restore {state:?}"));
        if self.0.lock().unwrap().fails {
            Err(Failure::retryable("numbers", "these are no bytes of mine"))
        } else {
            Ok(())
        }
    }

    fn poll(&mut self, _: &mut Context<'_>, assignments: &mut Vec<Assignment>) -> Result<(), Failure> {
        assignments.append(&mut self.0.lock().unwrap().found);
        Ok(())
    }

    fn reader_event(
        &mut self,
        reader: u32,
        event: ReaderEvent,
        assignments: &mut Vec<Assignment>,
    ) -> Result<(), Failure> {
        self.note(&format!("reader {reader}"));
        if matches!(event, ReaderEvent::SplitRequested) {
            assignments.push(splits(reader));
        }
        Ok(())
    }

    fn snapshot(&mut self, checkpoint: CheckpointId) -> Result<Vec<u8>, Failure> {
        self.note(&format!("snapshot {checkpoint}"));
        if self.0.lock().unwrap().fails {
            return Err(Failure::retryable("numbers", "the listing cannot be encoded"));
        }
        Ok(vec![7])
    }

    fn completed(&mut self, checkpoint: CheckpointId) {
        self.note(&format!("completed {checkpoint}"));
    }

    fn aborted(&mut self, checkpoint: CheckpointId) {
        self.note(&format!("aborted {checkpoint}"));
    }
}

fn splits(reader: u32) -> Assignment {
    Assignment::Splits { reader, splits: vec![vec![1]] }
}

/// Keeps why checkpoints were aborted.
#[derive(Default)]
struct Reasons(Mutex<Vec<FailureReason>>);

impl Listener for Reasons {
    fn event(&self, event: JobEvent) {
        if let JobEvent::Aborted { reason, .. } = event {
            self.0.lock().unwrap().push(reason);
        }
    }
}

/// A coordinator of a job with one source of two readers, running.
pub(crate) struct Rig {
    driver: CoordinatorDriver,
    host: Rc<Recorder>,
    enumerator: Script,
    reasons: Arc<Reasons>,
    store: Arc<Store>,
}

pub(crate) fn running(concurrent: usize) -> Rig {
    let mut rig = deployed(concurrent, None);
    rig.tell(Control::Running { attempt: ATTEMPT });
    rig.sent();
    rig
}

/// A checkpoint in which the enumerator of the source `uid` had the state `state`.
fn manifest(uid: &str, state: Vec<u8>) -> Manifest {
    let piece = Piece { name: "enumerator".to_owned(), content: PieceContent::Inline(state) };
    Manifest {
        job: "by hand".to_owned(),
        hash_seed: 1,
        run: RunNumber(1),
        checkpoint: CheckpointId(4),
        kind: CheckpointKind::Periodic,
        triggered: WallTime(0),
        completed: WallTime(0),
        shapes: Vec::new(),
        enumerators: vec![OperatorSnapshot { uid: OperatorUid::new(uid), subtask: 0, pieces: vec![piece] }],
        subtasks: Vec::new(),
        attributes: BTreeMap::new(),
    }
}

/// The same before its subtasks run.
pub(crate) fn deployed(concurrent: usize, restored: Option<Manifest>) -> Rig {
    let enumerator = Script::default();
    let built = enumerator.clone();
    let source = TaskFactory::Source(Arc::new(|_| Err(Failure::retryable("numbers", "no subtask is built here"))));
    let node = Node {
        max_parallelism_is_given: false,
        name: "numbers".to_owned(),
        parallelism: 2,
        max_parallelism: 128,
        first_worker: None,
        uids: vec![OperatorUid::new("numbers")],
        union_lists: Vec::new(),
        factory: source,
        inputs: 0,
    };
    let plan = Arc::new(Plan {
        job: Arc::from("by hand"),
        nodes: vec![node],
        edges: Vec::new(),
        sources: vec![SourcePlan {
            uid: OperatorUid::new("numbers"),
            node: NodeId(0),
            enumerator: Arc::new(move |_| Ok(Box::new(built.clone()))),
        }],
        sinks: Vec::new(),
    });
    let store = Store::new(Arc::new(MemoryStorage::new()), None, StoreOptions::new("by hand", 1)).unwrap();
    let store = Arc::new(store);
    let fence = FenceSource::new().advance();
    let run = store.begin_run(&fence, None, WallTime(0)).unwrap();
    let (host, reasons) = (Rc::new(Recorder::default()), Arc::new(Reasons::default()));
    let setup = CoordinatorSetup {
        plan: Arc::clone(&plan),
        settings: Settings {
            maximum_concurrent: concurrent.try_into().unwrap(),
            timeout: Duration::from_secs(600),
            ..Settings::default()
        },
        store: store.clone(),
        files: Arc::new(SystemFiles::new()),
        listener: reasons.clone(),
        overview: Arc::new(Overview::of(plan)),
    };
    let mut rig = Rig { driver: CoordinatorDriver::new(host.clone(), setup), host, enumerator, reasons, store };
    let restored = restored.map(Arc::new);
    rig.tell(Control::Resume(Box::new(resume(run, restored, fence))));
    rig
}

/// Begins the attempt of the only region.
fn resume(run: RunRecord, restored: Option<Arc<Manifest>>, fence: Fence) -> Resume {
    let regions = vec![ResumedRegion { region: RegionId(0), fence: fence.clone(), work: Arc::default() }];
    Resume { attempt: ATTEMPT, run, restored, retained: Vec::new(), fence, regions }
}

impl Rig {
    fn step(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..10 {
            self.driver.step(&mut context);
        }
    }

    pub(crate) fn tell(&mut self, message: Control) {
        self.driver.receive(message);
        self.step();
    }

    fn find(&mut self, assignment: Assignment) {
        self.enumerator.0.lock().unwrap().found.push(assignment);
        self.step();
    }

    pub(crate) fn take_checkpoint(&mut self) {
        self.tell(Control::TakeCheckpoint(Reply(Box::new(|_| {}))));
    }

    fn acknowledge(&mut self, checkpoint: u64, reader: u32) {
        let subtask = SubtaskId::new(0, reader);
        let snapshot = Box::new(SubtaskSnapshot { subtask, finished: false, operators: Vec::new(), in_flight: None });
        let (checkpoint, figures) = (CheckpointId(checkpoint), SubtaskFigures::default());
        self.tell(Control::Acknowledge { attempt: ATTEMPT, checkpoint, snapshot, figures });
    }

    fn decline(&mut self, checkpoint: u64, reason: DeclineReason) {
        let (subtask, failure) = (SubtaskId::new(0, 0), Failure::retryable("numbers", "a reason"));
        self.tell(Control::Decline {
            attempt: ATTEMPT,
            checkpoint: CheckpointId(checkpoint),
            subtask,
            reason,
            failure,
        });
    }

    /// What reader 0 was sent since the last call, and what the supervisor was.
    pub(crate) fn sent(&self) -> Vec<String> {
        let sent = self.host.take_sent().into_iter();
        sent.filter_map(|(to, message)| match (to, message) {
            (Address::Subtask(subtask, _), _) if subtask.index > 0 => None,
            (_, Control::Trigger(barrier)) => Some(format!("trigger {}", barrier.checkpoint)),
            (_, Control::AddSplits(_)) => Some("splits".to_owned()),
            (_, Control::NoMoreSplits) => Some("no more splits".to_owned()),
            (_, Control::EnumeratorEvent(_)) => Some("event".to_owned()),
            (_, Control::Completed { checkpoint, .. }) => Some(format!("completed {checkpoint}")),
            (_, Control::Aborted { checkpoint, .. }) => Some(format!("aborted {checkpoint}")),
            (Address::Supervisor, Control::Failed { attempt, origin, failure }) => {
                Some(format!("attempt {} of {origin:?} failed: {failure}", attempt.0))
            }
            (_, other) => Some(format!("{other:?}")),
        })
        .collect()
    }
}

#[test]
fn what_is_assigned_before_the_snapshot_goes_before_the_trigger_and_what_comes_later_behind_it() {
    let mut rig = running(1);
    rig.find(splits(0));
    rig.take_checkpoint();
    rig.find(splits(0));
    rig.find(Assignment::Event { reader: 0, event: vec![9] });
    // The snapshot and the trigger are one step: nothing can get between them, so nothing has to be held back.
    assert_eq!(rig.sent(), ["splits", "trigger 1", "splits", "event"]);
    assert_eq!(rig.enumerator.log(), ["snapshot 1"]);
}

#[test]
fn what_a_reader_asks_for_during_a_checkpoint_comes_behind_its_trigger() {
    let mut rig = running(1);
    let reader = |event| Control::Reader { attempt: ATTEMPT, subtask: SubtaskId::new(0, 0), event };
    rig.take_checkpoint();
    rig.tell(reader(ReaderEvent::SplitRequested));
    rig.acknowledge(1, 0);
    rig.acknowledge(1, 1);
    rig.tell(reader(ReaderEvent::SplitRequested));
    assert_eq!(rig.sent(), ["trigger 1", "splits", "completed 1", "splits"]);
    assert_eq!(rig.enumerator.log(), ["snapshot 1", "reader 0", "completed 1", "reader 0"]);
}

#[test]
fn assignments_go_on_after_an_abort_and_after_an_acknowledgement() {
    let mut rig = running(1);
    rig.take_checkpoint();
    rig.acknowledge(1, 0);
    rig.find(splits(0));
    rig.decline(1, DeclineReason::AsynchronousPart);
    rig.find(splits(0));
    rig.take_checkpoint();
    rig.find(splits(0));
    assert_eq!(rig.sent(), ["trigger 1", "splits", "aborted 1", "splits", "trigger 2", "splits"]);
    assert_eq!(rig.enumerator.log(), ["snapshot 1", "aborted 1", "snapshot 2"]);
}

#[test]
fn assignments_keep_their_order_over_several_checkpoints_under_way() {
    let mut rig = running(3);
    for _ in 0..3 {
        rig.take_checkpoint();
        rig.find(splits(0));
    }
    assert_eq!(rig.sent(), ["trigger 1", "splits", "trigger 2", "splits", "trigger 3", "splits"]);
    for reader in 0..2 {
        rig.acknowledge(3, reader);
    }
    assert_eq!(rig.sent(), ["completed 3", "aborted 1", "aborted 2"].map(str::to_owned));
}

#[test]
fn a_snapshot_of_an_enumerator_that_fails_triggers_nothing_and_fails_the_attempt() {
    for panics in [false, true] {
        let mut rig = running(1);
        rig.enumerator.0.lock().unwrap().fails = !panics;
        rig.enumerator.0.lock().unwrap().panics_in = panics.then_some("snapshot");
        rig.take_checkpoint();
        let sent = rig.sent();
        assert!(sent.iter().any(|line| line.contains("failed: numbers: ")), "{sent:?}");
        assert!(!sent.iter().any(|line| line.starts_with("trigger")), "{sent:?}");
    }
}

#[test]
fn an_enumerator_is_restored_with_its_own_state_or_begins_anew() {
    for (restored, log) in [
        (None, vec![]),
        (Some(manifest("numbers", vec![7])), vec!["restore [7]".to_owned()]),
        (Some(manifest("another source", vec![7])), vec![]),
    ] {
        let mut rig = deployed(1, restored);
        assert_eq!((rig.enumerator.log(), rig.sent()), (log, vec![]));
        // What it assigns is sent from the beginning.
        rig.find(splits(0));
        assert_eq!(rig.sent(), ["splits"]);
    }
}

#[test]
fn an_enumerator_that_cannot_be_restored_fails_the_attempt() {
    let mut rig = deployed(1, None);
    for (fails, panics_in) in [(true, None), (false, Some("restore"))] {
        let mut state = rig.enumerator.0.lock().unwrap();
        (state.fails, state.panics_in) = (fails, panics_in);
        drop(state);
        let fence = FenceSource::new().advance();
        let run = rig.store.begin_run(&fence, None, WallTime(0)).unwrap();
        let restored = Some(Arc::new(manifest("numbers", vec![7])));
        rig.tell(Control::Resume(Box::new(resume(run, restored, fence))));
        let sent = rig.sent();
        assert!(sent.len() == 1 && sent[0].contains("failed: numbers: "), "{sent:?}");
    }
}

#[test]
fn an_enumerator_that_fails_in_a_notice_fails_the_attempt() {
    let mut rig = running(1);
    rig.enumerator.0.lock().unwrap().panics_in = Some("completed");
    rig.take_checkpoint();
    rig.acknowledge(1, 0);
    rig.acknowledge(1, 1);
    let sent = rig.sent();
    assert!(sent.iter().any(|line| line.ends_with("failed: numbers: panicked: the user's completed 1")), "{sent:?}");
    assert!(sent.contains(&"completed 1".to_owned()), "the readers hear of it all the same: {sent:?}");
}

#[test]
fn a_reader_of_an_earlier_attempt_is_not_heard() {
    let mut rig = running(1);
    let event = ReaderEvent::SplitRequested;
    rig.tell(Control::Reader { attempt: Attempt(0), subtask: SubtaskId::new(0, 0), event });
    assert_eq!((rig.sent(), rig.enumerator.log()), (vec![], vec![]));
}

#[test]
fn every_reason_of_a_decline_reaches_the_coordinator_as_itself() {
    let reasons = [
        (DeclineReason::Declined, FailureReason::CheckpointDeclined),
        (DeclineReason::Closing, FailureReason::CheckpointDeclinedTaskClosing),
        (DeclineReason::Subsumed, FailureReason::CheckpointDeclinedSubsumed),
        (DeclineReason::CancelledUpstream, FailureReason::CheckpointDeclinedOnCancellationBarrier),
        (DeclineReason::AsynchronousPart, FailureReason::CheckpointAsyncException),
        (DeclineReason::Storage, FailureReason::IoException),
        (DeclineReason::SynchronousPart, FailureReason::TaskCheckpointFailure),
    ];
    for (declined, failed) in reasons {
        let mut rig = running(1);
        rig.take_checkpoint();
        rig.decline(1, declined);
        assert_eq!(*rig.reasons.0.lock().unwrap(), [failed], "{declined:?}");
    }
}

#[test]
fn a_stop_that_is_refused_before_its_checkpoint_began_is_called_off() {
    let mut rig = deployed(1, None);
    let fences = FenceSource::new();
    let (over, now) = (fences.advance(), fences.advance());
    let run = rig.store.begin_run(&now, None, WallTime(0)).unwrap();
    // No id is left, and none can be reserved.
    let run = RunRecord { reserved_below: run.first_checkpoint, ..run };
    rig.tell(Control::Resume(Box::new(resume(run, None, over))));
    rig.tell(Control::Running { attempt: ATTEMPT });
    rig.sent();
    let answers = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&answers);
    rig.tell(Control::TakeStoppingCheckpoint(Reply(Box::new(move |answer| keep.lock().unwrap().push(answer)))));
    assert!(matches!(answers.lock().unwrap()[..], [Err(_)]), "{answers:?}");
    assert_eq!(rig.sent(), ["StopCalledOff"]);
}
