//! What a job promises on each path, why, and that a declared guarantee which does not hold is refused.

use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use alluvium::connect::sink::{Guarantee, Sink, SinkContext, SinkScope};
use alluvium::connect::source::{
    Boundedness, ReaderOutput, ReaderRequest, ReaderStatus, Replay, Source, SourceContext, SourceEnumerator,
    SourceReader, SplitAssigner,
};
use alluvium::connect::{AtLeastOnce, Collect, Deliver, Delivery, Generator, Push};
use alluvium::graph::{CheckpointBasis, GuaranteeReport, PathGuarantee};
use alluvium::operator::{ProcessContext, ProcessFunction, SideOutput, SideOutputs};
use alluvium::{
    BuildError, CheckpointId, CheckpointMode, Job, OperatorResult, OptionError, Options, StartError, Stream,
};

/// A source that cannot be read again, as one into which somebody pushes.
struct Pushed;

struct NoSplits;

impl Source for Pushed {
    type Record = u64;
    type Split = ();
    type Enumerator = NoSplits;
    type Reader = NoSplits;

    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn replay(&self) -> Replay {
        Replay::Never
    }

    fn enumerator(&self, _: SourceContext) -> OperatorResult<NoSplits> {
        Ok(NoSplits)
    }

    fn reader(&self, _: SourceContext) -> OperatorResult<NoSplits> {
        Ok(NoSplits)
    }
}

impl SourceEnumerator for NoSplits {
    type Split = ();
    type State = ();

    fn restore(&mut self, (): ()) -> OperatorResult {
        Ok(())
    }

    fn snapshot(&mut self, _: CheckpointId) {}

    fn poll(&mut self, _: &mut TaskContext<'_>, _: &mut SplitAssigner<()>) -> OperatorResult {
        Ok(())
    }

    fn reader_registered(&mut self, reader: u32, _: Vec<()>, assigner: &mut SplitAssigner<()>) -> OperatorResult {
        assigner.no_more_splits(reader);
        Ok(())
    }

    fn split_requested(&mut self, _: u32, _: &mut SplitAssigner<()>) -> OperatorResult {
        Ok(())
    }
}

impl SourceReader for NoSplits {
    type Record = u64;
    type Split = ();

    fn add_splits(&mut self, _: Vec<()>) -> OperatorResult {
        Ok(())
    }

    fn no_more_splits(&mut self) {}

    fn poll_batch(
        &mut self,
        _: &mut TaskContext<'_>,
        _: &mut ReaderOutput<'_, u64>,
    ) -> Poll<OperatorResult<ReaderStatus>> {
        Poll::Ready(Ok(ReaderStatus::Ended))
    }

    fn snapshot(&mut self, _: CheckpointId) -> Vec<()> {
        Vec::new()
    }

    fn take_requests(&mut self) -> Vec<ReaderRequest> {
        Vec::new()
    }
}

/// Says that what it commits lies outside of the process, as a database does.
struct Outside(Collect<u64>);

type Kept = Collect<u64>;

impl Sink<u64> for Outside {
    type Committable = <Kept as Sink<u64>>::Committable;
    type State = <Kept as Sink<u64>>::State;
    type Writer = <Kept as Sink<u64>>::Writer;
    type Committer = <Kept as Sink<u64>>::Committer;

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn writer(&self, context: SinkContext) -> OperatorResult<Self::Writer> {
        self.0.writer(context)
    }

    fn committer(&self, scope: SinkScope) -> OperatorResult<Self::Committer> {
        self.0.committer(scope)
    }
}

fn outside() -> Outside {
    Outside(Collect::new())
}

fn numbers(job: &Job, uid: &str) -> Stream<u64> {
    job.source(uid, Generator::bounded(10, |index| index))
}

fn path<'a>(report: &'a GuaranteeReport, source: &str, sink: &str) -> &'a PathGuarantee {
    let found = report.paths.iter().find(|path| path.source == source && path.sink == sink);
    found.unwrap_or_else(|| panic!("no path from {source} to {sink} in\n{report}"))
}

const ALIGNED: CheckpointBasis = CheckpointBasis::new(true, Some(1_000), true);
const NOT_ALIGNED: CheckpointBasis = CheckpointBasis::new(false, Some(1_000), true);
const IN_MEMORY: CheckpointBasis = CheckpointBasis::new(true, Some(1_000), false);

#[test]
fn every_source_and_sink_has_a_path_of_its_own_that_promises_what_its_ends_do() {
    let job = Job::new("paths");
    let read = numbers(&job, "read");
    let pushed = job.source("pushed", Pushed);
    let alone = numbers(&job, "alone");
    read.union(&[&pushed]).sink("committed", outside());
    read.union(&[&pushed]).for_each("printed", |_| {});
    alone.sink("apart", outside());
    for basis in [None, Some(ALIGNED)] {
        let report = job.build().unwrap().guarantees(basis);
        let found: Vec<_> =
            report.paths.iter().map(|path| (path.source.as_str(), path.sink.as_str(), path.guarantee)).collect();
        assert_eq!(
            found,
            [
                ("read", "committed", Guarantee::ExactlyOnce),
                ("read", "printed", Guarantee::AtLeastOnce),
                ("pushed", "committed", Guarantee::AtMostOnce),
                ("pushed", "printed", Guarantee::BestEffort),
                ("alone", "apart", Guarantee::ExactlyOnce),
            ]
        );
    }
}

#[test]
fn what_is_pushed_into_a_job_cannot_be_read_again() {
    let job = Job::new("pushed");
    let (_pusher, pushed) = Push::<u64>::channel(10);
    job.source("pushed", pushed).sink("committed", outside()).requires(Guarantee::ExactlyOnce);
    let errors = job.build().unwrap_err();
    let [BuildError::GuaranteeNotHeld(error)] = errors.errors() else { panic!("{errors}") };
    assert_eq!((error.held, error.weakest.as_str()), (Guarantee::AtMostOnce, "pushed"));
}

#[test]
fn every_link_of_a_path_says_why() {
    let job = Job::new("why");
    numbers(&job, "read").map(|number| number).name("mapped").sink("committed", outside());
    job.source("pushed", Pushed).for_each("printed", |_| {});
    let report = job.build().unwrap().guarantees(Some(ALIGNED));
    let read = path(&report, "read", "committed");
    assert_eq!(read.operators, ["read", "mapped", "committed"]);
    let reasons: Vec<_> = read.links.iter().map(|link| (link.subject.as_str(), link.reason.as_str())).collect();
    assert_eq!(
        reasons,
        [
            ("read", "is read again from the position in the checkpoint"),
            ("checkpoints", "are taken every 1000 ms, with aligned barriers"),
            ("committed", "commits what a checkpoint prepared when that checkpoint is complete"),
        ]
    );
    let pushed = path(&report, "pushed", "printed");
    assert!(pushed.links[0].reason.contains("cannot be read again") && pushed.links[0].mend.is_some());
    assert_eq!(pushed.links[2].subject, "printed (for_each)");
    assert!(pushed.links[2].mend.as_ref().unwrap().contains("Lines::exactly_once"));
}

#[test]
fn at_least_once_mode_lowers_only_paths_over_operators_with_several_channels() {
    let job = Job::new("modes").parallelism(2);
    let source = numbers(&job, "numbers");
    source.map(|number| number).sink("straight", outside());
    source.key_by(|number| number).reduce("sums", |a, b| a + b).sink("keyed", outside());
    let graph = job.build().unwrap();
    let report = graph.guarantees(Some(NOT_ALIGNED));
    assert_eq!(path(&report, "numbers", "straight").guarantee, Guarantee::ExactlyOnce);
    let keyed = path(&report, "numbers", "keyed");
    assert_eq!(keyed.guarantee, Guarantee::AtLeastOnce);
    let weak = keyed.links.iter().find(|link| link.guarantee == Guarantee::AtLeastOnce).unwrap();
    assert_eq!(weak.subject, "sums -> keyed");
    assert!(weak.reason.contains("2 channels without aligning them"), "{}", weak.reason);
    assert_eq!(path(&graph.guarantees(Some(ALIGNED)), "numbers", "keyed").guarantee, Guarantee::ExactlyOnce);
}

#[test]
fn the_options_decide_what_the_graph_does_not() {
    let job = Job::new("options").parallelism(2);
    numbers(&job, "numbers").key_by(|number| number).reduce("sums", |a, b| a + b).for_each("printed", |_| {});
    let graph = job.build().unwrap();
    let options = Options::default().store("state").checkpoint_every(Duration::from_millis(1_500));
    assert_eq!(
        graph.guarantees_with(&options).checkpoints,
        Some(CheckpointBasis::new(true, Some(1_500), true)),
        "nothing is written to say what holds"
    );
    let report = graph.guarantees_with(&options.checkpoint_mode(CheckpointMode::AtLeastOnce));
    assert_eq!(report.checkpoints, Some(CheckpointBasis::new(false, Some(1_500), true)));
    assert!(report.to_string().contains("takes records of 2 channels without aligning them"), "{report}");
    let report = graph.guarantees_with(&Options::default());
    assert_eq!(report.checkpoints, Some(CheckpointBasis::new(true, None, false)));
    assert!(report.to_string().contains("are not taken periodically"), "{report}");
}

#[test]
fn checkpoints_in_memory_do_not_outlive_the_process() {
    let job = Job::new("memory");
    numbers(&job, "numbers").sink("committed", outside());
    job.source("pushed", Pushed).sink("also committed", outside());
    let report = job.build().unwrap().guarantees(Some(IN_MEMORY));
    assert_eq!(path(&report, "numbers", "committed").guarantee, Guarantee::AtLeastOnce);
    assert_eq!(path(&report, "pushed", "also committed").guarantee, Guarantee::BestEffort);
    assert!(report.to_string().contains("the store is in memory and ends with the process"), "{report}");
}

#[test]
fn repeats_that_the_options_accept_are_a_link_of_their_own() {
    let job = Job::new("repeats");
    numbers(&job, "numbers").sink("committed", outside()).requires(Guarantee::ExactlyOnce);
    let graph = job.build().unwrap();
    let place = tempfile::tempdir().unwrap();
    let options = Options::default().store(place.path()).checkpoint_every(Duration::from_secs(1)).fall_back_to_older();
    // Passing over a damaged checkpoint is refused where it would repeat output, unless that is accepted.
    assert!(graph.guarantees_with(&options).unmet().is_empty());
    let options = options.accept_repeats();
    let report = graph.guarantees_with(&options);
    assert_eq!(path(&report, "numbers", "committed").guarantee, Guarantee::AtLeastOnce);
    let StartError::Options(errors) = graph.start(&options).unwrap_err() else { panic!("the options are wrong") };
    let [OptionError::GuaranteeNotHeld(error)] = &errors[..] else { panic!("{errors:?}") };
    assert_eq!(error.weakest, "`Options::accept_repeats`");
}

#[test]
fn effects_in_the_process_do_not_outlive_it_as_checkpoints_in_a_store_do() {
    let (receiver, _receives) = std::sync::mpsc::sync_channel::<Delivery<u64>>(10);
    let job = Job::new("effects");
    let stream = numbers(&job, "numbers");
    stream.sink("collected", Collect::new()).requires(Guarantee::ExactlyOnce);
    stream.sink("delivered", Deliver::committed(receiver));
    stream.sink("wrapped", AtLeastOnce::new(Collect::new()));
    stream.sink("outside", outside());
    let graph = job.build().unwrap();
    let report = graph.guarantees(Some(ALIGNED));
    for sink in ["collected", "delivered", "wrapped"] {
        let path = path(&report, "numbers", sink);
        assert_eq!(path.guarantee, Guarantee::BestEffort, "{report}");
        let link = path.links.iter().find(|link| link.guarantee == Guarantee::BestEffort).unwrap();
        assert_eq!(link.subject, sink);
        assert!(link.reason.contains("goes on behind what was lost"), "{}", link.reason);
    }
    assert_eq!(path(&report, "numbers", "outside").guarantee, Guarantee::ExactlyOnce);
    let place = tempfile::tempdir().unwrap();
    let options = Options::default().store(place.path()).checkpoint_every(Duration::from_secs(1));
    let StartError::Options(errors) = graph.start(&options).unwrap_err() else { panic!("the options are wrong") };
    let [OptionError::GuaranteeNotHeld(error)] = &errors[..] else { panic!("{errors:?}") };
    assert_eq!((error.path.as_str(), error.held), ("numbers -> collected", Guarantee::BestEffort));
}

#[test]
fn effects_in_the_process_and_checkpoints_in_memory_end_together() {
    let job = Job::new("effects");
    let collected = Collect::new();
    numbers(&job, "numbers").sink("collected", collected.clone()).requires(Guarantee::ExactlyOnce);
    let graph = job.build().unwrap();
    let report = graph.guarantees(Some(IN_MEMORY));
    assert_eq!(path(&report, "numbers", "collected").guarantee, Guarantee::ExactlyOnce);
    assert!(report.to_string().contains("as do the effects of the sink"), "{report}");
    graph.start(&Options::default()).unwrap().wait_blocking().unwrap();
    assert_eq!(collected.collected().len(), 10);
}

#[test]
fn a_wrapped_sink_says_what_takes_its_promise() {
    let job = Job::new("wrapped");
    let stream = numbers(&job, "numbers");
    stream.sink("wrapped", AtLeastOnce::new(outside()));
    stream.sink("twice", AtLeastOnce::new(AtLeastOnce::new(outside())));
    let report = job.build().unwrap().guarantees(None);
    for sink in ["wrapped", "twice"] {
        let link = path(&report, "numbers", sink).links.last().unwrap();
        assert_eq!(link.guarantee, Guarantee::AtLeastOnce);
        assert!(link.reason.contains("is wrapped in `AtLeastOnce`"), "{}", link.reason);
        assert_eq!(link.mend.as_deref(), Some("take it out of `AtLeastOnce::new`"));
    }
}

#[test]
fn the_start_refuses_in_at_least_once_mode_what_the_report_says_is_not_exactly_once() {
    let build = |wide: bool| {
        let job = Job::new("one truth").parallelism(2);
        let source = numbers(&job, "numbers");
        source.map(|number| number).sink("straight", Collect::new());
        if wide {
            source.key_by(|number| number).reduce("sums", |a, b| a + b).sink("keyed", Collect::new());
        }
        job.build().unwrap()
    };
    let options = Options::default().checkpoint_mode(CheckpointMode::AtLeastOnce);
    let StartError::Options(errors) = build(true).start(&options).unwrap_err() else { panic!("the options are wrong") };
    assert_eq!(errors, [OptionError::CountsTwice { sink: "keyed".to_owned() }]);
    let graph = build(false);
    assert_eq!(graph.guarantees_with(&options).paths[0].guarantee, Guarantee::ExactlyOnce);
    graph.start(&options).unwrap().wait_blocking().unwrap();
}

#[test]
fn a_repetition_that_may_go_another_way_is_noted() {
    let job = Job::new("notes");
    numbers(&job, "numbers").rebalance().map(|number| number).name("spread").parallelism(2).for_each("printed", |_| {});
    numbers(&job, "others").rebalance().sink("committed", outside()).parallelism(2);
    // Nobody asked for it, and between different widths it is so.
    numbers(&job, "narrow").map(|number| number).parallelism(2).for_each("wide", |_| {});
    numbers(&job, "one").rebalance().for_each("only one", |_| {});
    let report = job.build().unwrap().guarantees(None);
    assert!(path(&report, "narrow", "wide").notes[0].contains("by `rebalance`"), "{report}");
    assert!(path(&report, "one", "only one").notes.is_empty(), "there is one subtask only\n{report}");
    assert!(path(&report, "numbers", "printed").notes[0].contains("by `rebalance`"), "{report}");
    assert!(path(&report, "others", "committed").notes.is_empty(), "{report}");
}

/// Everything goes to the side.
#[derive(Clone)]
struct Aside;

const SIDE: SideOutput<u64> = SideOutput::named("side");

impl ProcessFunction for Aside {
    type In = u64;
    type Out = u64;

    fn side_outputs(&self) -> SideOutputs {
        SideOutputs::none().with(&SIDE)
    }

    fn process(&self, record: u64, mut context: ProcessContext<'_, Self>) -> OperatorResult {
        context.emit_to(&SIDE, record)
    }
}

#[test]
fn a_path_goes_over_side_outputs_and_joins() {
    let job = Job::new("ways");
    let aside = numbers(&job, "numbers").process(Aside);
    let joined = aside.side(&SIDE).connect(&numbers(&job, "others").broadcast()).map(|left| left, |right| right);
    joined.sink("joined", outside());
    let report = job.build().unwrap().guarantees(None);
    assert_eq!(path(&report, "numbers", "joined").operators, ["numbers", "process", "connected map", "joined"]);
    assert_eq!(path(&report, "others", "joined").operators, ["others", "connected map", "joined"]);
}

#[test]
fn a_declared_guarantee_that_no_options_can_keep_is_refused_when_the_job_is_built() {
    let job = Job::new("declared");
    let (read, pushed) = (numbers(&job, "read"), job.source("pushed", Pushed));
    let both = read.union(&[&pushed]);
    both.sink("committed", outside()).requires(Guarantee::ExactlyOnce);
    both.for_each("printed", |_| {}).requires(Guarantee::AtLeastOnce);
    read.for_each("again", |_| {}).requires(Guarantee::AtMostOnce);
    // Reported together with everything else.
    read.map(|number| number);
    let errors = job.build().unwrap_err();
    let not_held: Vec<_> = errors
        .errors()
        .iter()
        .filter_map(|error| match error {
            BuildError::GuaranteeNotHeld(error) => {
                Some((error.path.as_str(), error.required, error.held, error.weakest.as_str()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(
        not_held,
        [
            ("read -> again", Guarantee::AtMostOnce, Guarantee::AtLeastOnce, "again (for_each)"),
            ("pushed -> committed", Guarantee::ExactlyOnce, Guarantee::AtMostOnce, "pushed"),
            ("pushed -> printed", Guarantee::AtLeastOnce, Guarantee::BestEffort, "pushed"),
        ]
    );
    assert_eq!(errors.errors().len(), 4, "{errors}");
    let text = errors.to_string();
    let expected = "pushed -> committed: exactly-once is declared, but what holds is at-most-once: pushed cannot be read again: what came since the last checkpoint \
                    is lost with a failure; read from what keeps its records, such as files or a log, or declare no more than at-most-once";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn a_guarantee_declared_for_the_job_holds_for_every_path_and_adds_to_that_of_a_sink() {
    let job = Job::new("declared").requires(Guarantee::AtMostOnce);
    let read = numbers(&job, "read");
    read.sink("committed", outside());
    read.for_each("printed", |_| {}).requires(Guarantee::AtLeastOnce);
    let errors = job.build().unwrap_err();
    let [BuildError::GuaranteeNotHeld(error)] = errors.errors() else { panic!("{errors}") };
    // At most once and at least once is exactly once.
    assert_eq!((error.path.as_str(), error.required), ("read -> printed", Guarantee::ExactlyOnce));
}

#[test]
fn what_only_the_options_decide_is_refused_at_the_start_with_everything_else() {
    let job = Job::new("started");
    numbers(&job, "numbers").sink("committed", outside()).requires(Guarantee::ExactlyOnce);
    let graph = job.build().unwrap();
    let options = Options::default().checkpoint_every(Duration::from_secs(1)).retained_checkpoints(0);
    let StartError::Options(errors) = graph.start(&options).unwrap_err() else { panic!("the options are wrong") };
    let [OptionError::NothingRetained, OptionError::GuaranteeNotHeld(error)] = &errors[..] else {
        panic!("{errors:?}")
    };
    assert_eq!((error.path.as_str(), error.weakest.as_str()), ("numbers -> committed", "the store"));
    assert!(error.to_string().contains("give a directory by `Options::store`"), "{error}");
    let place = tempfile::tempdir().unwrap();
    let handle = graph.start(&options.retained_checkpoints(1).store(place.path())).unwrap();
    handle.wait_blocking().unwrap();
}

#[test]
fn a_report_is_data_that_can_be_stored_and_read_back() {
    let job = Job::new("data");
    job.source("pushed", Pushed).for_each("printed", |_| {});
    let report = job.build().unwrap().guarantees(Some(IN_MEMORY));
    let json = serde_json::to_string(&report).unwrap();
    assert!(json.contains("\"guarantee\":\"best-effort\""), "{json}");
    assert_eq!(serde_json::from_str::<GuaranteeReport>(&json).unwrap(), report);
}

#[test]
fn guarantees_include_and_combine_as_losing_and_repeating_do() {
    use Guarantee::{AtLeastOnce, AtMostOnce, BestEffort, ExactlyOnce};
    let all = [BestEffort, AtMostOnce, AtLeastOnce, ExactlyOnce];
    for one in all {
        for other in all {
            assert_eq!(one.and(other).loses(), one.loses() || other.loses());
            assert_eq!(one.and(other).repeats(), one.repeats() || other.repeats());
            assert_eq!(one.with(other).loses(), one.loses() && other.loses());
            assert_eq!(one.with(other).repeats(), one.repeats() && other.repeats());
            assert_eq!(one.includes(other), one.and(other) == other);
        }
    }
    assert!(!AtLeastOnce.includes(AtMostOnce) && !AtMostOnce.includes(AtLeastOnce));
}
