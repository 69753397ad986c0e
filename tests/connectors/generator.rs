//! The generator and the list.

use std::time::Duration;

use alluvium::connect::source::{Boundedness, Source};
use alluvium::connect::{Generator, Items};
use alluvium::testing::disk::SimulatedDisk;
use alluvium::testing::sources::{SourceRun, check_replay, read_all};
use alluvium_actors::ids::CheckpointId;

use crate::site;

#[test]
fn every_index_is_emitted_once_over_any_number_of_splits_and_readers() {
    for (count, splits, readers) in [(0, 1, 1), (1, 3, 2), (1000, 1, 1), (1000, 1, 3), (1001, 7, 2), (5, 9, 2)] {
        let source = Generator::bounded(count, |index| index).splits(splits);
        let mut emitted: Vec<u64> =
            read_all(&source, &site(&SimulatedDisk::new(), readers), 1).unwrap().into_iter().flatten().collect();
        emitted.sort_unstable();
        assert_eq!(emitted, (0..count).collect::<Vec<_>>(), "{count} records, {splits} splits, {readers} readers");
    }
}

#[test]
fn without_a_number_of_splits_every_reader_has_work() {
    let source = Generator::bounded(90, |index| index);
    let emitted = read_all(&source, &site(&SimulatedDisk::new(), 3), 1).unwrap();
    assert_eq!(emitted.iter().map(Vec::len).collect::<Vec<_>>(), [30, 30, 30]);
}

#[test]
fn a_generator_replays_exactly_once_wherever_it_is_cut() {
    for seed in 0..40 {
        let source = Generator::bounded(3000, |index| format!("record {index}")).splits(1 + seed as u32 % 5);
        check_replay(&source, &site(&SimulatedDisk::new(), 1 + seed as u32 % 3), seed).unwrap();
    }
}

#[test]
fn items_are_emitted_in_order() {
    let words: Vec<String> = "to be or not to be".split(' ').map(str::to_owned).collect();
    let emitted = read_all(&Items::new(words.clone()), &site(&SimulatedDisk::new(), 1), 3).unwrap();
    assert_eq!(emitted, [words]);
}

#[test]
fn a_list_that_became_shorter_than_its_position_is_refused() {
    let site = site(&SimulatedDisk::new(), 1);
    let long = Items::new((0..600).collect::<Vec<u32>>());
    let mut run = SourceRun::start(&long, &site, None, 5).unwrap();
    run.read(300).unwrap();
    let snapshot = run.snapshot(CheckpointId(1)).unwrap();
    let short = Items::new(vec![1_u32, 2]);
    let error = SourceRun::start(&short, &site, Some(&snapshot), 5).unwrap_err();
    assert!(!error.is_retryable() && error.to_string().contains("only 2 records"), "{error}");
}

#[test]
fn the_rate_is_that_of_the_whole_source() {
    for (splits, readers) in [(1, 1), (4, 2), (3, 2), (1, 2)] {
        let source = Generator::bounded(3000, |index| index).splits(splits).rate(1000);
        let mut run = SourceRun::start(&source, &site(&SimulatedDisk::new(), readers), None, 1).unwrap();
        run.finish().unwrap();
        let took = run.took();
        let expected = Duration::from_millis(2900)..Duration::from_millis(3600);
        assert!(expected.contains(&took), "{splits} splits on {readers} readers took {took:?}");
    }
}

#[test]
fn a_rate_or_a_number_of_splits_of_zero_is_refused() {
    let site = site(&SimulatedDisk::new(), 1);
    let error = read_all(&Generator::bounded(1, |index| index).rate(0), &site, 0).unwrap_err();
    assert!(error.to_string().contains("at least 1"), "{error}");
    let error = read_all(&Generator::bounded(1, |index| index).splits(0), &site, 0).unwrap_err();
    assert!(error.to_string().contains("at least 1"), "{error}");
}

#[test]
fn an_unbounded_generator_goes_on() {
    let source = Generator::unbounded(|index| index);
    assert_eq!(source.boundedness(), Boundedness::Unbounded);
    let mut run = SourceRun::start(&source, &site(&SimulatedDisk::new(), 1), None, 1).unwrap();
    run.read(10_000).unwrap();
    assert!(run.emitted().into_iter().zip(0..).all(|(emitted, index)| emitted == index));
}
