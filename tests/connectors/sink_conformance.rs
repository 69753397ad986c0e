//! The public suite for sinks: ours pass it, and each of a row of wrong ones is found, with a message that says what is wrong.

use std::sync::{Arc, Mutex};

use alluvium::OperatorResult;
use alluvium::connect::deliver::NotDelivered;
use alluvium::connect::sink::{Guarantee, Sink, SinkContext, SinkScope};
use alluvium::connect::{Collect, Deliver, Delivery, ForEach, Lines};
use alluvium::ports::files::Files;
use alluvium::testing::conformance::{SinkUnderTest, check_sink};
use alluvium::testing::disk::SimulatedDisk;

use crate::wrong_sink::{Staged, Table, TableCommitter, TableUnderTest, TableWriter, Wrong, table};

struct Collects(Collect<u64>);

impl SinkUnderTest<u64> for Collects {
    type Sink = Collect<u64>;

    fn fresh(&mut self) {
        self.0 = Collect::new();
    }

    fn sink(&mut self) -> Collect<u64> {
        self.0.clone()
    }

    fn record(&self, number: u64) -> u64 {
        number
    }

    fn committed(&mut self) -> Vec<u64> {
        self.0.collected()
    }
}

#[test]
fn a_collection_passes() {
    let report = check_sink(&mut Collects(Collect::new())).unwrap();
    // Every order of three checkpoints, and every prefix of outcomes of three that are open together, in two ways.
    assert_eq!(report.orders, 2 * (6 * 6 * 6 + 2 * (1 + 3 + 9 + 27)));
    assert!(report.deaths > 80 && report.starts > 1_000, "{report:?}");
}

/// Lines on a disk that forgets what was not synced.
struct LinesOnDisk {
    disk: SimulatedDisk,
    crashes: u64,
}

impl SinkUnderTest<String> for LinesOnDisk {
    type Sink = Lines;

    fn fresh(&mut self) {
        self.disk = SimulatedDisk::new();
    }

    fn sink(&mut self) -> Lines {
        Lines::exactly_once("/out").suffix(".csv")
    }

    fn record(&self, number: u64) -> String {
        format!("record {number}")
    }

    fn committed(&mut self) -> Vec<String> {
        let files = self.disk.files();
        let output = files.iter().filter(|path| path.starts_with("/out") && path.to_string_lossy().ends_with(".csv"));
        let content = output.map(|path| String::from_utf8(self.disk.content(path).unwrap()).unwrap());
        content.flat_map(|content| content.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
    }

    fn files(&mut self) -> Arc<dyn Files> {
        Arc::new(self.disk.clone())
    }

    fn crash(&mut self) {
        self.crashes += 1;
        self.disk = self.disk.crash(self.crashes);
    }

    fn lose_prepared(&mut self) -> bool {
        let files = self.disk.files();
        let pending = files.iter().filter(|path| path.to_string_lossy().ends_with(".pending"));
        pending.map(|path| self.disk.remove(path).unwrap()).count() > 0
    }
}

#[test]
fn files_of_lines_pass_with_a_power_cut_at_every_death() {
    check_sink(&mut LinesOnDisk { disk: SimulatedDisk::new(), crashes: 0 }).unwrap();
}

type Received = Arc<Mutex<Vec<u64>>>;
type Receive = Box<dyn Fn(Delivery<u64>) -> Result<(), NotDelivered<Delivery<u64>>> + Send + Sync>;

/// Delivers into a list; the receiver is full every third time.
struct Delivers {
    received: Received,
    committed: bool,
    sink: Option<Deliver<u64, Receive>>,
}

impl SinkUnderTest<u64> for Delivers {
    type Sink = Deliver<u64, Receive>;

    fn fresh(&mut self) {
        self.received = Received::default();
        let (received, asked) = (Arc::clone(&self.received), Mutex::new(0_u32));
        let receive: Receive = Box::new(move |delivery: Delivery<u64>| {
            let mut asked = asked.lock().unwrap();
            *asked += 1;
            if (*asked).is_multiple_of(3) {
                return Err(NotDelivered::Full(delivery));
            }
            received.lock().unwrap().extend(delivery.records);
            Ok(())
        });
        self.sink = Some(if self.committed { Deliver::committed(receive) } else { Deliver::at_once(receive) });
    }

    fn sink(&mut self) -> Self::Sink {
        self.sink.clone().unwrap()
    }

    fn record(&self, number: u64) -> u64 {
        number
    }

    fn committed(&mut self) -> Vec<u64> {
        self.received.lock().unwrap().clone()
    }

    fn keeps_output(&self) -> bool {
        false
    }
}

#[test]
fn deliveries_pass_with_a_receiver_that_is_full_now_and_then() {
    for committed in [true, false] {
        check_sink(&mut Delivers { received: Received::default(), committed, sink: None }).unwrap();
    }
}

#[test]
fn a_small_right_sink_passes() {
    check_sink(&mut table(Wrong::Nothing)).unwrap();
}

#[test]
fn every_wrong_sink_is_found_and_told() {
    let cases: &[(Wrong, &[&str])] = &[
        (
            Wrong::CommitsAgain,
            &["A commit that is repeated", "answered that it was done now", "checkpoint 1 is completed"],
        ),
        (
            Wrong::AbortsWhatWasDeclined,
            &["can be committed until its commit returned", "trial/sink/1/0/1 is gone", "checkpoint 1 is aborted"],
        ),
        (Wrong::CleansUpEverything, &["Cleaning up removes", "other/sink/1/0/1 is gone", "the other one commits"]),
        (Wrong::WritesAtOnce, &["Nothing takes effect before", "that should not be (0, 1, 2)"]),
        (Wrong::IgnoresTheFence, &["An attempt that is over has no effect", "answered that it was done now"]),
        (Wrong::NamesWithoutSubtask, &["missing"]),
        (
            Wrong::PreparesInMemory,
            &["can be committed until", "is gone", "the process dies and is started from checkpoint"],
        ),
        (
            Wrong::TakesWhatIsGoneForDone,
            &["A commit whose transaction is gone says so", "answered that it had been done"],
        ),
        (Wrong::DoneWhileUnavailable, &["While the outside is unavailable", "answered that it was done now"]),
        (Wrong::MixesWithOldOutput, &["begins anew over the output", "that should not be"]),
        (Wrong::LeavesRecords, &["takes all records of a slice", "record 0 is still in the slice"]),
        (Wrong::LeavesNoWaker, &["becomes ready, and leaves its waker", "nothing that it waits for wakes it"]),
        (Wrong::ForgetsTheRestored, &["can be committed until its commit returned"]),
        (Wrong::TakesWhenAsked, &["takes effect once", "should not be (3, 4, 5, 6, 7", "checkpoint 2 is cut"]),
        (Wrong::HasOneSlot, &["missing", "checkpoint 2 is cut"]),
        (Wrong::KeepsTheFirstOfASlice, &["missing", "in one slice"]),
    ];
    for (wrong, texts) in cases {
        let error = match check_sink(&mut table(*wrong)) {
            Err(error) => error,
            Ok(report) => panic!("{wrong:?} passed: {report:?}"),
        };
        for text in *texts {
            assert!(error.tells(text), "{wrong:?}: no `{text}` in{error:?}");
        }
    }
}

#[test]
fn a_sink_that_promises_at_least_once_may_repeat_and_may_not_lose_or_invent() {
    check_sink(&mut calls(|number| vec![number])).unwrap();
    check_sink(&mut calls(|number| vec![number; 2])).unwrap();
    let error = check_sink(&mut calls(|number| if number == 4 { vec![] } else { vec![number] })).unwrap_err();
    assert!(error.tells("takes effect at least once") && error.tells("missing"), "{error}");
    let error = check_sink(&mut calls(|number| vec![number, 999_999])).unwrap_err();
    assert!(error.tells("nothing that was not written") && error.tells("should not be (999999)"), "{error}");
}

/// A sink that says that it promises something else.
#[derive(Clone)]
struct Promising(Table, Guarantee);

impl Sink<u64> for Promising {
    type Committable = Staged;
    type State = ();
    type Writer = TableWriter;
    type Committer = TableCommitter;

    fn guarantee(&self) -> Guarantee {
        self.1
    }

    fn writer(&self, context: SinkContext) -> OperatorResult<TableWriter> {
        self.0.writer(context)
    }

    fn committer(&self, scope: SinkScope) -> OperatorResult<TableCommitter> {
        self.0.committer(scope)
    }
}

struct PromisingUnderTest(TableUnderTest, Guarantee);

impl SinkUnderTest<u64> for PromisingUnderTest {
    type Sink = Promising;

    fn fresh(&mut self) {
        self.0.fresh();
    }

    fn sink(&mut self) -> Promising {
        Promising(self.0.sink(), self.1)
    }

    fn record(&self, number: u64) -> u64 {
        number
    }

    fn committed(&mut self) -> Vec<u64> {
        self.0.committed()
    }
}

#[test]
fn a_sink_is_judged_by_what_it_promises() {
    let check = |wrong, guarantee| check_sink(&mut PromisingUnderTest(table(wrong), guarantee));
    // It loses, and repeats nothing.
    check(Wrong::KeepsTheFirstOfASlice, Guarantee::AtMostOnce).unwrap();
    check(Wrong::KeepsTheFirstOfASlice, Guarantee::BestEffort).unwrap();
    let error = check(Wrong::KeepsTheFirstOfASlice, Guarantee::AtLeastOnce).unwrap_err();
    assert!(error.tells("takes effect at least once"), "{error}");
    // It writes at once what it commits later.
    let error = check(Wrong::WritesAtOnce, Guarantee::AtMostOnce).unwrap_err();
    assert!(error.tells("No record takes effect twice"), "{error}");
}

/// A sink that calls a function with every record, and what the function kept.
struct Calls<F> {
    received: Received,
    function: F,
}

impl<F: Fn(u64) + Clone + Send + 'static> SinkUnderTest<u64> for Calls<F> {
    type Sink = ForEach<F>;

    fn fresh(&mut self) {
        self.received.lock().unwrap().clear();
    }

    fn sink(&mut self) -> ForEach<F> {
        ForEach::new(self.function.clone())
    }

    fn record(&self, number: u64) -> u64 {
        number
    }

    fn committed(&mut self) -> Vec<u64> {
        self.received.lock().unwrap().clone()
    }
}

/// What becomes of a number that is written.
fn calls(kept: fn(u64) -> Vec<u64>) -> Calls<impl Fn(u64) + Clone + Send + 'static> {
    let received = Received::default();
    let keep = Arc::clone(&received);
    let function = move |number| keep.lock().unwrap().extend(kept(number));
    Calls { received, function }
}

/// A sink that calls a function with texts in which a word stands with which differences are told.
struct Texts<F> {
    received: Arc<Mutex<Vec<String>>>,
    function: F,
}

impl<F: Fn(String) + Clone + Send + 'static> SinkUnderTest<String> for Texts<F> {
    type Sink = ForEach<F>;

    fn fresh(&mut self) {
        self.received.lock().unwrap().clear();
    }

    fn sink(&mut self) -> ForEach<F> {
        ForEach::new(self.function.clone())
    }

    fn record(&self, number: u64) -> String {
        format!("missing {number}")
    }

    fn committed(&mut self) -> Vec<String> {
        self.received.lock().unwrap().clone()
    }
}

#[test]
fn what_stands_in_a_record_does_not_matter() {
    let received = Arc::<Mutex<Vec<String>>>::default();
    let keep = Arc::clone(&received);
    check_sink(&mut Texts { received, function: move |text| keep.lock().unwrap().push(text) }).unwrap();
}
