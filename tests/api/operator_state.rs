//! Operator state by hand: lists that are split and united, broadcast maps, at the same and at any other parallelism; and the rules of it broken on purpose.

use std::collections::BTreeMap;

use alluvium::connect::{Collect, Generator, Items};
use alluvium::operator::{
    BroadcastAccess, BroadcastContext, BroadcastProcess, BroadcastStateView, KeyedBroadcastAccess,
    KeyedBroadcastContext, KeyedBroadcastKeyedContext, KeyedBroadcastProcess, KeyedBroadcastStateAccess,
    KeyedBroadcastStateView, OpenContext, StatefulAccess, StatefulContext, StatefulProcess,
};
use alluvium::state::{BroadcastMap, OperatorStateSet, SplitList, UnionList, Value};
use alluvium::testing::operator::{Either, OperatorTest, OperatorTestError, RestoreCheck, RunningOperator};
use alluvium::{BuildError, Job, OperatorError, OperatorResult, Options, Stream};
use alluvium_actors::protocol::mutation::{self, Mutation};

/// Emits the numbers that wait when a zero comes, and counts in a union list what each instance has seen.
#[derive(Clone)]
struct Packets;

type PacketStates = (SplitList<u64>, UnionList<(u32, u64)>);

impl StatefulProcess for Packets {
    type In = u64;
    type Out = u64;
    type State = PacketStates;

    fn state(&self) -> PacketStates {
        (SplitList::named("waiting"), UnionList::named("seen"))
    }

    /// Each instance goes on with the counts of those former ones whose number is its own, modulo the parallelism.
    fn open(&self, (_, mut seen): StatefulAccess<'_, Self>, context: OpenContext) -> OperatorResult {
        if context.is_restored() && seen.is_empty() {
            return Err(OperatorError::unrecoverable("the counts of all instances are lost"));
        }
        let own = |former: u32| former % context.parallelism() == context.subtask();
        let count = seen.iter().filter(|(former, _)| own(*former)).map(|(_, count)| count).sum();
        seen.replace([(context.subtask(), count)]);
        Ok(())
    }

    fn process(
        &self,
        number: u64,
        (mut waiting, mut seen): StatefulAccess<'_, Self>,
        mut context: StatefulContext<'_, Self>,
    ) -> OperatorResult {
        if let Some((_, count)) = seen.get_mut(0) {
            *count += 1;
        }
        if number == 0 {
            for number in waiting.take_all() {
                context.emit(number);
            }
        } else {
            waiting.push(number);
        }
        Ok(())
    }

    fn finish(
        &self,
        (mut waiting, _): StatefulAccess<'_, Self>,
        mut context: StatefulContext<'_, Self>,
    ) -> OperatorResult {
        for number in waiting.take_all() {
            context.emit(number);
        }
        Ok(())
    }
}

fn packets() -> OperatorTest<u64, u64> {
    OperatorTest::new(|numbers: Stream<u64>| numbers.rebalance().stateful_process("packets", Packets))
}

fn waiting(running: &mut RunningOperator<u64, u64>) -> Vec<Vec<u64>> {
    let view = running.operator_state("packets", SplitList::<u64>::named("waiting")).unwrap();
    view.subtasks().into_iter().map(|subtask| view.elements_of(subtask)).collect()
}

fn seen(running: &mut RunningOperator<u64, u64>) -> Vec<(u32, u64)> {
    running.operator_state("packets", UnionList::<(u32, u64)>::named("seen")).unwrap().elements()
}

#[test]
fn an_instance_gets_its_lists_back_at_the_same_parallelism() {
    let test = packets().parallelism(2);
    let mut running = test.start().unwrap();
    // One after the other, in turn.
    (1..=5).for_each(|number| running.push(number).unwrap());
    let before = (waiting(&mut running), seen(&mut running));
    assert_eq!(before, (vec![vec![1, 3, 5], vec![2, 4]], vec![(0, 3), (1, 2)]));
    let snapshot = running.snapshot().unwrap();
    running.push(6).unwrap();
    let mut restored = test.restore(&snapshot).unwrap();
    assert_eq!((waiting(&mut restored), seen(&mut restored)), before);
    restored.push_all([0, 0]).unwrap();
    restored.finish().unwrap();
    let mut emitted = restored.take_output();
    emitted.sort_unstable();
    assert_eq!(emitted, [1, 2, 3, 4, 5]);
}

#[test]
fn a_split_list_is_dealt_out_evenly_and_a_union_list_goes_to_all_at_another_parallelism() {
    let mut running = packets().parallelism(2).start().unwrap();
    (1..=5).for_each(|number| running.push(number).unwrap());
    let snapshot = running.snapshot().unwrap();
    let split = |parallelism: u32| waiting(&mut packets().parallelism(parallelism).restore(&snapshot).unwrap());
    assert_eq!(split(1), [vec![1, 3, 5, 2, 4]]);
    assert_eq!(split(3), [vec![1, 3], vec![5, 2], vec![4]]);
    assert_eq!(split(6), [vec![1], vec![3], vec![5], vec![2], vec![4], vec![]]);
    let united = |parallelism: u32| seen(&mut packets().parallelism(parallelism).restore(&snapshot).unwrap());
    assert_eq!(united(1), [(0, 5)]);
    assert_eq!(united(3), [(0, 3), (1, 2), (2, 0)]);
}

#[test]
fn lists_are_the_same_however_often_they_are_cut_and_restored_at_whatever_parallelism() {
    // Without the counts, which tell the instances apart.
    #[derive(Clone)]
    struct Keep;
    impl StatefulProcess for Keep {
        type In = u64;
        type Out = u64;
        type State = SplitList<u64>;
        fn state(&self) -> SplitList<u64> {
            SplitList::named("kept")
        }
        fn process(
            &self,
            number: u64,
            mut kept: StatefulAccess<'_, Self>,
            mut context: StatefulContext<'_, Self>,
        ) -> OperatorResult {
            kept.push(number);
            context.emit(number);
            Ok(())
        }
    }
    let keep = || OperatorTest::new(|numbers: Stream<u64>| numbers.rebalance().stateful_process("keep", Keep));
    let numbers: Vec<u64> = (0..40).collect();
    keep().check_restores(&numbers, RestoreCheck::new(1)).unwrap();
    let found = mutation::during(Mutation::SplitLosesTheLast, || keep().check_restores(&numbers, RestoreCheck::new(1)));
    let found = found.expect_err("an element was lost, and nobody saw it").to_string();
    assert!(found.contains("state `kept` of `keep`"), "{found}");
}

#[test]
fn an_instance_that_gets_of_a_union_list_only_its_own_is_found() {
    let mut running = packets().parallelism(2).start().unwrap();
    (1..=5).for_each(|number| running.push(number).unwrap());
    let snapshot = running.snapshot().unwrap();
    let counted = |mutation: Option<Mutation>| {
        mutation::during(mutation, || {
            let mut restored = packets().parallelism(1).restore(&snapshot).unwrap();
            seen(&mut restored)
        })
    };
    assert_eq!(counted(None), [(0, 5)]);
    assert_eq!(counted(Some(Mutation::UnionOfItsOwn)), [(0, 3)]);
}

#[test]
fn large_lists_go_through_blobs_and_every_instance_reads_its_part() {
    let mut running = packets().parallelism(2).start().unwrap();
    running.push_all((1..=40_000).map(|number| number + (1 << 40))).unwrap();
    let before = running.operator_state("packets", SplitList::<u64>::named("waiting")).unwrap().elements();
    assert_eq!(before.len(), 40_000);
    let snapshot = running.snapshot().unwrap();
    assert!(snapshot.to_bytes().len() > 300_000, "{snapshot:?}");
    for parallelism in [1, 2, 3, 7] {
        let mut restored = packets().parallelism(parallelism).restore(&snapshot).unwrap();
        let view = restored.operator_state("packets", SplitList::<u64>::named("waiting")).unwrap();
        assert_eq!(view.elements(), before, "in the same order");
        let sizes: Vec<usize> = (0..parallelism).map(|subtask| view.elements_of(subtask).len()).collect();
        let even = 40_000 / parallelism as usize;
        assert!(parallelism == 2 || sizes.iter().all(|size| [even, even + 1].contains(size)), "{sizes:?}");
    }
}

#[test]
fn what_waits_is_sent_on_at_the_end_of_the_data_and_the_state_goes_with_a_real_job() {
    let collected = Collect::new();
    let job = Job::new("packets").parallelism(2);
    job.source("numbers", Generator::bounded(100, |index| index + 1))
        .rebalance()
        .stateful_process("packets", Packets)
        .sink("sent", collected.clone());
    job.build().unwrap().start(&Options::default()).unwrap().wait_blocking().unwrap();
    let mut numbers = collected.collected();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=100).collect::<Vec<u64>>());
}

/// Numbers by what a broadcast stream makes of them: the rule `(digit, word)` gives those that end with the digit a word.
#[derive(Clone)]
struct Words;

impl BroadcastProcess for Words {
    type In = u64;
    type Broadcast = (u64, String);
    type Out = String;
    type State = (BroadcastMap<u64, String>, BroadcastMap<(), u64>);

    fn state(&self) -> Self::State {
        (BroadcastMap::named("words"), BroadcastMap::named("rules"))
    }

    fn process(
        &self,
        number: u64,
        (words, rules): BroadcastStateView<'_, Self>,
        mut context: BroadcastContext<'_, Self>,
    ) -> OperatorResult {
        let word = words.get(&(number % 10)).map_or("nothing", |word| word);
        context.emit(format!("{number} {word} {}", rules.get(&()).copied().unwrap_or_default()));
        Ok(())
    }

    fn process_broadcast(
        &self,
        (digit, word): (u64, String),
        (mut words, mut rules): BroadcastAccess<'_, Self>,
        _: BroadcastContext<'_, Self>,
    ) -> OperatorResult {
        words.insert(digit, word);
        *rules.get_or_insert_with(&(), || 0) += 1;
        Ok(())
    }
}

fn words() -> OperatorTest<Either<u64, (u64, String)>, String> {
    OperatorTest::with_two_inputs(|numbers: Stream<u64>, rules: Stream<(u64, String)>| {
        numbers.rebalance().connect_broadcast(&rules).process("words", Words)
    })
}

fn rule(digit: u64, word: &str) -> (u64, String) {
    (digit, word.to_owned())
}

#[test]
fn every_instance_has_every_rule_and_so_has_every_restored_one_at_any_parallelism() {
    let mut running = words().parallelism(3).start().unwrap();
    running.push_right(rule(1, "one")).unwrap();
    running.push_right(rule(2, "two")).unwrap();
    for number in [11, 12, 13] {
        running.push_left(number).unwrap();
    }
    let mut emitted = running.take_output();
    emitted.sort_unstable();
    assert_eq!(emitted, ["11 one 2", "12 two 2", "13 nothing 2"]);
    let snapshot = running.snapshot().unwrap();
    running.push_right(rule(3, "lost with the crash")).unwrap();
    for parallelism in 1..=5 {
        let mut restored = words().parallelism(parallelism).restore(&snapshot).unwrap();
        let view = restored.operator_state("words", BroadcastMap::<u64, String>::named("words")).unwrap();
        let expected = BTreeMap::from([rule(1, "one"), rule(2, "two")]);
        for subtask in 0..parallelism {
            assert_eq!(view.entries_of(subtask), expected, "instance {subtask} of {parallelism}");
        }
        for _ in 0..parallelism {
            restored.push_left(21).unwrap();
        }
        assert_eq!(restored.take_output(), vec!["21 one 2"; parallelism as usize]);
    }
}

#[test]
fn broadcast_state_is_the_same_however_often_it_is_cut_and_restored() {
    let mut records = Vec::new();
    for number in 0..30_u64 {
        records.push(Either::Left(number));
        if number % 3 == 0 {
            records.push(Either::Right(rule(number % 10, &format!("word {number}"))));
        }
    }
    words().check_restores(&records, RestoreCheck::new(2)).unwrap();
    let lost =
        mutation::during(Mutation::BroadcastLostOnScaleUp, || words().check_restores(&records, RestoreCheck::new(2)));
    let lost = lost.expect_err("new instances had no rules, and nobody saw it").to_string();
    assert!(lost.contains("state `words` of `words`") || lost.contains("output: "), "{lost}");
}

/// Sums by key, times the factor that is broadcast.
#[derive(Clone)]
struct Scaled;

impl KeyedBroadcastProcess for Scaled {
    type Key = String;
    type In = (String, u64);
    type Broadcast = u64;
    type Out = (String, u64);
    type State = Value<u64>;
    type BroadcastState = BroadcastMap<(), u64>;

    fn state(&self) -> Value<u64> {
        Value::named("sum")
    }

    fn broadcast_state(&self) -> BroadcastMap<(), u64> {
        BroadcastMap::named("factor")
    }

    fn process(
        &self,
        (_, amount): (String, u64),
        mut sum: KeyedBroadcastAccess<'_, Self>,
        factor: KeyedBroadcastStateView<'_, Self>,
        mut context: KeyedBroadcastKeyedContext<'_, Self>,
    ) -> OperatorResult {
        sum.update(|sum| *sum += amount * factor.get(&()).copied().unwrap_or(1));
        let told = (context.key().clone(), sum.get().copied().unwrap_or_default());
        context.emit(told);
        Ok(())
    }

    fn process_broadcast(
        &self,
        factor: u64,
        mut factors: KeyedBroadcastStateAccess<'_, Self>,
        _: KeyedBroadcastContext<'_, Self>,
    ) -> OperatorResult {
        factors.insert((), factor);
        Ok(())
    }
}

fn scaled() -> OperatorTest<Either<(String, u64), u64>, (String, u64)> {
    OperatorTest::with_two_inputs(|amounts: Stream<(String, u64)>, factors: Stream<u64>| {
        amounts.key_by(|amount| &amount.0).connect_broadcast(&factors).process("scaled", Scaled)
    })
}

#[test]
fn keyed_and_broadcast_state_of_one_operator_come_back_together_at_any_parallelism() {
    let key = |number: u64| format!("key {}", number % 7);
    let mut running = scaled().parallelism(2).start().unwrap();
    (0..20).for_each(|number| running.push_left((key(number), 1)).unwrap());
    running.push_right(10).unwrap();
    (0..20).for_each(|number| running.push_left((key(number), 1)).unwrap());
    let snapshot = running.snapshot().unwrap();
    assert_eq!(snapshot.operators(), ["scaled"]);
    assert!(snapshot.to_string().contains("state `factor` of `scaled`: {nothing: 10}"), "{snapshot}");
    for parallelism in 1..=4 {
        let mut restored = scaled().parallelism(parallelism).restore(&snapshot).unwrap();
        for number in 0..7 {
            restored.push_left((key(number), 1)).unwrap();
            let times = if number < 6 { 3 } else { 2 };
            assert_eq!(restored.take_output(), [(key(number), times * 11 + 10)]);
        }
    }
    let records: Vec<_> = (0..60)
        .map(|number| if number % 9 == 5 { Either::Right(number) } else { Either::Left((key(number), number)) })
        .collect();
    scaled().check_restores(&records, RestoreCheck::new(3).cases(50)).unwrap();
}

#[test]
fn a_state_of_the_wrong_kind_or_name_is_told_by_name() {
    let mut running = packets().start().unwrap();
    running.push(1).unwrap();
    let error = running.operator_state("packets", SplitList::<u64>::named("seen")).unwrap_err();
    assert!(error.to_string().contains("stored as a union list and is declared as a split list"), "{error}");
    let error = running.operator_state("packets", SplitList::<u64>::named("other")).unwrap_err();
    assert_eq!(error.to_string(), "`packets` has no state `other`; it has `waiting`, `seen`");
    let error = running.operator_state("packet", SplitList::<u64>::named("waiting")).unwrap_err();
    assert_eq!(error.to_string(), "there is no operator state of `packet`; there is some of `packets`");
    let error = running.state::<String, _>("packets", Value::<u64>::named("waiting")).unwrap_err();
    assert!(matches!(error, OperatorTestError::NoSuchOperator { .. }), "{error}");
}

#[test]
fn an_operator_whose_list_became_another_kind_is_refused_with_the_mend() {
    #[derive(Clone)]
    struct Changed;
    impl StatefulProcess for Changed {
        type In = u64;
        type Out = u64;
        type State = (UnionList<u64>, UnionList<(u32, u64)>);
        fn state(&self) -> Self::State {
            (UnionList::named("waiting"), UnionList::named("seen"))
        }
        fn process(&self, _: u64, _: StatefulAccess<'_, Self>, _: StatefulContext<'_, Self>) -> OperatorResult {
            Ok(())
        }
    }
    let mut running = packets().start().unwrap();
    running.push(1).unwrap();
    let snapshot = running.snapshot().unwrap();
    let changed = OperatorTest::new(|numbers: Stream<u64>| numbers.stateful_process("packets", Changed));
    let error = changed.restore(&snapshot).unwrap_err().to_string();
    assert!(error.contains("\"waiting\" was stored as a split list") && error.contains("another name"), "{error}");
}

#[test]
fn an_error_or_a_panic_before_the_first_record_names_the_operator() {
    #[derive(Clone)]
    struct Refuses(bool);
    impl StatefulProcess for Refuses {
        type In = u64;
        type Out = u64;
        type State = SplitList<u64>;
        fn state(&self) -> SplitList<u64> {
            SplitList::named("numbers")
        }
        fn open(&self, _: StatefulAccess<'_, Self>, context: OpenContext) -> OperatorResult {
            assert!(!context.is_restored());
            assert!(!self.0, "not today");
            Err(OperatorError::unrecoverable("no licence"))
        }
        fn process(&self, _: u64, _: StatefulAccess<'_, Self>, _: StatefulContext<'_, Self>) -> OperatorResult {
            Ok(())
        }
    }
    for (panics, said) in [(false, "refuses: no licence"), (true, "refuses: panicked: not today")] {
        let test = OperatorTest::new(move |numbers: Stream<u64>| numbers.stateful_process("refuses", Refuses(panics)));
        assert_eq!(test.start().unwrap_err().failure().unwrap().to_string(), said);
    }
}

#[test]
fn two_states_of_one_name_and_a_second_partitioning_are_errors_of_the_build() {
    #[derive(Clone)]
    struct Twice;
    impl StatefulProcess for Twice {
        type In = u64;
        type Out = u64;
        type State = (SplitList<u64>, UnionList<u64>);
        fn state(&self) -> Self::State {
            (SplitList::named("same"), UnionList::named("same"))
        }
        fn process(&self, _: u64, _: StatefulAccess<'_, Self>, _: StatefulContext<'_, Self>) -> OperatorResult {
            Ok(())
        }
    }
    let job = Job::new("wrong");
    let numbers = job.source("numbers", Generator::bounded(1, |index| index));
    numbers.stateful_process("twice", Twice).sink("numbers out", Collect::new());
    let rules = job.source("rules", Items::new(vec![rule(1, "one")]));
    numbers.connect_broadcast(&rules.shuffle()).process("words", Words).sink("words out", Collect::new());
    let errors = job.build().unwrap_err().to_string();
    assert!(errors.contains("twice: two states are called `same`"), "{errors}");
    assert!(errors.contains("shuffle") && errors.contains("broadcast"), "{errors}");

    let other = Job::new("other");
    let foreign = other.source("rules", Items::new(vec![rule(1, "one")]));
    let job = Job::new("job");
    let numbers = job.source("numbers", Generator::bounded(1, |index| index));
    numbers.connect_broadcast(&foreign).process("words", Words).sink("words out", Collect::new());
    let errors = job.build().unwrap_err();
    assert!(errors.errors().iter().any(|error| matches!(error, BuildError::OtherJob { .. })), "{errors}");
}

#[test]
fn a_stream_that_is_broadcast_already_is_taken_as_it_is_and_the_plan_knows_the_union_lists() {
    let job = Job::new("words").parallelism(2);
    let rules = job.source("rules", Items::new(vec![rule(1, "one")]));
    let numbers = job.source("numbers", Generator::bounded(10, |index| index));
    numbers.connect_broadcast(&rules.broadcast()).process("words", Words).sink("words out", Collect::new());
    numbers.stateful_process("packets", Packets).sink("packets out", Collect::new());
    let graph = job.build().unwrap();
    let kept: Vec<String> =
        graph.plan().nodes.iter().flat_map(|node| &node.union_lists).map(ToString::to_string).collect();
    assert_eq!(kept, ["packets"]);
    assert_eq!(Packets.state().names(), ["waiting", "seen"]);
    assert!(graph.to_string().contains("union list state seen"), "{graph}");
}
