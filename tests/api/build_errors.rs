//! Everything that is wrong with a job is said at once, with the operator and the mend.

use alluvium::connect::{Generator, Items};
use alluvium::operator::{Access, Context, KeyedProcess, SideOutput};
use alluvium::state::Value;
use alluvium::{BuildError, Job, OperatorResult, Stream};

fn numbers(job: &Job, uid: &str) -> Stream<u64> {
    job.source(uid, Items::new(vec![1_u64, 2, 3]))
}

fn errors(job: &Job) -> Vec<BuildError> {
    job.build().unwrap_err().errors().to_vec()
}

#[test]
fn a_job_without_a_name_and_without_a_source_is_told_both() {
    assert_eq!(errors(&Job::new("")), [BuildError::JobWithoutName, BuildError::NoSource]);
}

#[test]
fn every_error_of_a_job_is_reported_at_once() {
    let job = Job::new("wrong").parallelism(2);
    let source = numbers(&job, "numbers").max_parallelism(1);
    source.map(|number| number + 1);
    source.filter(|number| *number > 1).parallelism(0).sink("", alluvium::connect::Collect::new());
    source.forward().map(|number| number).parallelism(3).max_parallelism(40_000).for_each("numbers", |_| {});
    let text = job.build().unwrap_err().to_string();
    for expected in [
        "the job `wrong` cannot be built:",
        "numbers: the parallelism 2 is above the max parallelism 1",
        "its output ends nowhere; add a sink",
        "the parallelism is 0; it must be at least 1",
        "the uid is empty",
        "the max parallelism is 40000; it must lie between 1 and 32768",
        "`forward` from numbers",
        "the parallelism is 2 there and 3 here",
        "the uid `numbers` belongs to source at",
    ] {
        assert!(text.contains(expected), "`{expected}` is not in\n{text}");
    }
    assert!(text.contains("build_errors.rs:"), "operators without a uid are named by their line:\n{text}");
}

#[test]
fn wrong_settings_of_the_job_itself_are_reported_once() {
    let job = Job::new("wrong").parallelism(0).max_parallelism(0);
    numbers(&job, "a").for_each("b", |_| {});
    let job_wide = |error: &BuildError| error.to_string().starts_with("the job:");
    assert_eq!(errors(&job).len(), 2);
    assert!(errors(&job).iter().all(job_wide), "{:?}", errors(&job));
}

#[test]
fn a_uid_that_is_too_long_is_refused() {
    let job = Job::new("wrong");
    numbers(&job, &"x".repeat(256)).for_each("b", |_| {});
    assert!(matches!(&errors(&job)[..], [BuildError::LongUid { length: 256, limit: 255, .. }]));
}

#[derive(Clone)]
struct TwoAlike;

impl KeyedProcess for TwoAlike {
    type Key = u64;
    type In = u64;
    type Out = u64;
    type State = (Value<u64>, Value<u64>, Value<u64>);

    fn state(&self) -> Self::State {
        (Value::named("last"), Value::named("last"), Value::named(""))
    }

    fn process(&self, _: u64, _: Access<'_, Self>, _: Context<'_, Self>) -> OperatorResult {
        Ok(())
    }
}

#[test]
fn states_of_one_operator_need_names_of_their_own() {
    let job = Job::new("wrong");
    numbers(&job, "a").key_by(|number| number).process("twice", TwoAlike).for_each("b", |_| {});
    assert_eq!(
        errors(&job),
        [
            BuildError::EmptyStateName { operator: "twice".to_owned() },
            BuildError::DuplicateState { operator: "twice".to_owned(), state: "last".to_owned() },
        ]
    );
}

#[test]
fn a_stream_of_another_job_is_refused() {
    let job = Job::new("here");
    let other = Job::new("there");
    let ours = numbers(&job, "ours");
    let theirs = numbers(&other, "theirs");
    ours.union(&[&theirs]).for_each("union", |_| {});
    ours.connect(&theirs).map(|left| left, |right| right).for_each("connected", |_| {});
    ours.key_by(|number| number)
        .connect(&theirs.key_by(|number| number))
        .process("keyed", crate::keyed::Pairs)
        .for_each("pairs", |_| {});
    let errors = errors(&job);
    assert_eq!(errors.len(), 3, "{errors:?}");
    for error in &errors {
        assert!(matches!(error, BuildError::OtherJob { job, other, .. } if job == "here" && other == "there"));
    }
}

#[test]
fn two_partitionings_of_one_stream_are_refused() {
    let job = Job::new("wrong");
    let source = numbers(&job, "a");
    source.rebalance().forward().for_each("b", |_| {});
    source.rebalance().key_by(|number| number).reduce("c", |a, b| a + b).for_each("d", |_| {});
    let text = job.build().unwrap_err().to_string();
    assert!(text.contains("by `rebalance` and again by `forward`"), "{text}");
    assert!(text.contains("by `rebalance` and again by `key_by`"), "{text}");
}

#[test]
fn a_setting_of_a_union_is_refused() {
    let job = Job::new("wrong");
    let (left, right) = (numbers(&job, "a"), numbers(&job, "b"));
    left.union(&[&right]).parallelism(2).for_each("c", |_| {});
    assert!(matches!(&errors(&job)[..], [BuildError::SettingOfUnion { setting: "parallelism", .. }]));
}

#[test]
fn a_graph_knows_its_unbounded_sources_and_exactly_once_sinks() {
    let job = Job::new("endless");
    let endless = job.source("endless", Generator::unbounded(|index| index));
    endless.sink("collected", alluvium::connect::Collect::new());
    endless.for_each("seen", |_| {});
    let graph = job.build().unwrap();
    assert_eq!(graph.unbounded_sources()[0].as_str(), "endless");
    assert_eq!(graph.exactly_once_sinks().iter().map(|uid| uid.as_str()).collect::<Vec<_>>(), ["collected"]);
}

#[test]
fn a_side_output_that_is_not_there_is_one_error_whatever_is_done_with_it() {
    let job = Job::new("side");
    let undeclared = numbers(&job, "numbers").side(&SideOutput::<u64>::named("undeclared"));
    undeclared
        .name("named")
        .parallelism(2)
        .side(&SideOutput::<u64>::named("of it"))
        .map(|number| number)
        .for_each("a", |_| {});
    undeclared.uid("again").for_each("b", |_| {});
    assert!(matches!(&errors(&job)[..], [BuildError::UndeclaredSideOutput { .. }]), "{:?}", errors(&job));
}
