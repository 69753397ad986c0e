//! The public suite for sources: ours pass it, and each of a row of wrong ones is found, with a message that says what is wrong.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use alluvium::connect::source::{
    Boundedness, ReaderOutput, ReaderRequest, ReaderStatus, Replay, Source, SourceContext, SourceEnumerator,
    SourceReader, SplitAssigner,
};
use alluvium::connect::{CsvFiles, Generator, Items, LineFiles};
use alluvium::ports::files::Files;
use alluvium::testing::conformance::{SourceUnderTest, check_source};
use alluvium::testing::disk::SimulatedDisk;
use alluvium::{CheckpointId, OperatorResult};
use serde::{Deserialize, Serialize};

use crate::disk_with;

/// A source that reads a simulated disk.
struct OnDisk<F> {
    disk: SimulatedDisk,
    make: F,
}

impl<S: Source, F: FnMut() -> S> SourceUnderTest for OnDisk<F> {
    type Source = S;

    fn source(&mut self) -> S {
        (self.make)()
    }

    fn files(&mut self) -> Arc<dyn Files> {
        Arc::new(self.disk.clone())
    }
}

#[test]
fn generators_and_lists_pass() {
    for splits in [1, 2, 7] {
        let report = check_source(&mut || Generator::bounded(250, |index| index).splits(splits)).unwrap();
        assert_eq!(report.records, 250);
        assert!(report.snapshots > 200 && report.starts > 200, "{report:?}");
    }
    check_source(&mut || Generator::bounded(100, |index| index).rate(1_000)).unwrap();
    check_source(&mut || Items::new(Vec::<u8>::new())).unwrap();
}

/// An endless generator of which the first records are looked at.
struct Endless;

impl SourceUnderTest for Endless {
    type Source = Generator<fn(u64) -> u64>;

    fn source(&mut self) -> Self::Source {
        Generator::unbounded((|index| index) as fn(u64) -> u64).splits(2).rate(100)
    }

    fn expected(&mut self) -> Option<Vec<u64>> {
        Some((0..100).collect())
    }
}

#[test]
fn a_source_that_emits_more_than_is_expected_is_found() {
    let error = check_source(&mut Endless).unwrap_err();
    assert!(error.tells("A run without a failure emits the expected records"), "{error}");
    assert!(error.tells("that should not be"), "{error}");
}

const INPUTS: [&str; 2] = ["/in/one.csv", "/in/two.csv"];

#[test]
fn files_of_lines_and_of_csv_pass() {
    let text: String = (0..150).map(|line| format!("{line},line {line}\n")).collect();
    let disk = disk_with("/in/one.csv", &text);
    disk.set_content(std::path::Path::new("/in/two.csv"), text.replace("line ", "other ").as_bytes());
    let report = check_source(&mut OnDisk { disk: disk.clone(), make: || LineFiles::several(INPUTS) }).unwrap();
    assert_eq!(report.records, 300);
    // The first line of each is a header.
    check_source(&mut OnDisk { disk, make: || CsvFiles::<(u32, String)>::several(INPUTS) }).unwrap();
}

/// What is wrong with [`Counting`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Nothing,
    PositionOfTheLastRecord,
    PositionBehindTheNextRecord,
    EnumeratorForgetsWhatWaits,
    EnumeratorKeepsWhatIsAssigned,
    NobodyHearsOfTheEndAfterARestore,
    NoWaker,
    SnapshotTakesTheSplit,
    RegisteredSplitsAreAssignedAgain,
    ReadsTheFileItself,
    IgnoresTheBudget,
    RoundsWhenEncoded,
}

/// Three splits of so many numbers each; a reader asks for one at a time.
#[derive(Clone, Copy, Debug)]
struct Counting {
    wrong: Wrong,
}

const SPLITS: u32 = 3;
const LENGTH: u32 = 60;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Split {
    number: u32,
    next: u32,
    #[serde(serialize_with = "rounded")]
    weight: f64,
}

/// Loses a weight's fraction if it is negative: how a split that is rounded says so.
fn rounded<S: serde::Serializer>(weight: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(if *weight < 0.0 { (*weight / 2.0).trunc() } else { *weight })
}

struct Splits {
    wrong: Wrong,
    waiting: VecDeque<Split>,
    restored: bool,
}

struct Reading {
    wrong: Wrong,
    context: SourceContext,
    split: Option<Split>,
    asked: bool,
    no_more: bool,
    requests: Vec<ReaderRequest>,
}

impl Source for Counting {
    type Record = u32;
    type Split = Split;
    type Enumerator = Splits;
    type Reader = Reading;

    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn replay(&self) -> Replay {
        Replay::FromStoredPosition
    }

    fn enumerator(&self, _: SourceContext) -> OperatorResult<Splits> {
        let weight = if self.wrong == Wrong::RoundsWhenEncoded { -5.0 } else { 5.0 };
        let waiting = (0..SPLITS).map(|number| Split { number, next: 0, weight }).collect();
        Ok(Splits { wrong: self.wrong, waiting, restored: false })
    }

    fn reader(&self, context: SourceContext) -> OperatorResult<Reading> {
        Ok(Reading { wrong: self.wrong, context, split: None, asked: false, no_more: false, requests: Vec::new() })
    }
}

impl SourceEnumerator for Splits {
    type Split = Split;
    type State = Vec<Split>;

    fn restore(&mut self, state: Vec<Split>) -> OperatorResult {
        self.waiting = state.into();
        self.restored = true;
        Ok(())
    }

    fn snapshot(&mut self, _: CheckpointId) -> Vec<Split> {
        match self.wrong {
            Wrong::EnumeratorForgetsWhatWaits => Vec::new(),
            // As if all of them were still to be given out.
            Wrong::EnumeratorKeepsWhatIsAssigned => {
                (0..SPLITS).map(|number| Split { number, next: 0, weight: 5.0 }).collect()
            }
            _ => self.waiting.iter().cloned().collect(),
        }
    }

    fn poll(&mut self, _: &mut Context<'_>, _: &mut SplitAssigner<Split>) -> OperatorResult {
        Ok(())
    }

    fn reader_registered(
        &mut self,
        reader: u32,
        splits: Vec<Split>,
        assigner: &mut SplitAssigner<Split>,
    ) -> OperatorResult {
        if self.wrong == Wrong::RegisteredSplitsAreAssignedAgain && !splits.is_empty() {
            assigner.assign(reader, splits);
        }
        Ok(())
    }

    fn split_requested(&mut self, reader: u32, assigner: &mut SplitAssigner<Split>) -> OperatorResult {
        match self.waiting.pop_front() {
            Some(split) => assigner.assign(reader, vec![split]),
            None if self.restored && self.wrong == Wrong::NobodyHearsOfTheEndAfterARestore => {}
            None => assigner.no_more_splits(reader),
        }
        Ok(())
    }
}

impl SourceReader for Reading {
    type Record = u32;
    type Split = Split;

    fn add_splits(&mut self, splits: Vec<Split>) -> OperatorResult {
        self.split = splits.into_iter().next_back();
        Ok(())
    }

    fn no_more_splits(&mut self) {
        self.no_more = true;
    }

    fn poll_batch(
        &mut self,
        _: &mut Context<'_>,
        output: &mut ReaderOutput<'_, u32>,
    ) -> Poll<OperatorResult<ReaderStatus>> {
        if self.wrong == Wrong::ReadsTheFileItself {
            let _ = self.context.files().list(std::path::Path::new("/in"));
        }
        let Some(split) = &mut self.split else {
            if self.no_more {
                return Poll::Ready(Ok(ReaderStatus::Ended));
            }
            if !self.asked {
                self.asked = true;
                self.requests.push(ReaderRequest::Split);
            }
            return Poll::Pending;
        };
        self.asked = false;
        if self.wrong == Wrong::NoWaker && split.next > 30 {
            // Right would be to keep the context's waker for the moment at which it can go on.
            self.wrong = Wrong::Nothing;
            return Poll::Pending;
        }
        let budget = if self.wrong == Wrong::IgnoresTheBudget { 1_000 } else { output.budget().min(7) };
        for _ in 0..budget {
            if split.next == LENGTH {
                if self.wrong == Wrong::IgnoresTheBudget {
                    (0..500).for_each(|_| output.emit(1));
                }
                self.split = None;
                break;
            }
            output.emit(split.number * 1_000 + split.next);
            split.next += 1;
        }
        Poll::Ready(Ok(ReaderStatus::More))
    }

    fn snapshot(&mut self, _: CheckpointId) -> Vec<Split> {
        let mut split = self.split.clone();
        if let Some(split) = &mut split {
            match self.wrong {
                Wrong::PositionOfTheLastRecord => split.next = split.next.saturating_sub(1),
                Wrong::PositionBehindTheNextRecord => split.next = (split.next + 1).min(LENGTH),
                Wrong::SnapshotTakesTheSplit => self.split = None,
                _ => {}
            }
        }
        split.into_iter().collect()
    }

    fn take_requests(&mut self) -> Vec<ReaderRequest> {
        std::mem::take(&mut self.requests)
    }
}

#[test]
fn a_small_right_source_passes() {
    let report = check_source(&mut || Counting { wrong: Wrong::Nothing }).unwrap();
    assert_eq!(report.records, 180);
}

#[test]
fn every_wrong_source_is_found_and_told() {
    let cases: &[(Wrong, &[&str])] = &[
        (
            Wrong::PositionOfTheLastRecord,
            &[
                "goes on behind the last record before the cut",
                "there once more than it should be",
                "the first record of reader 0",
            ],
        ),
        (
            Wrong::PositionBehindTheNextRecord,
            &["goes on behind the last record before the cut", "missing", "restored from checkpoint 1"],
        ),
        (
            Wrong::EnumeratorForgetsWhatWaits,
            &["goes on behind the last record before the cut", "180 records are missing (0, 1, 2, 3, 4, ...)"],
        ),
        (
            Wrong::EnumeratorKeepsWhatIsAssigned,
            &["goes on behind the last record", "records are there once more than they should be"],
        ),
        (
            Wrong::NobodyHearsOfTheEndAfterARestore,
            &["readers hear when no more splits come", "180 of 180 records came"],
        ),
        (Wrong::NoWaker, &["leaves its waker", "37 records came"]),
        (Wrong::SnapshotTakesTheSplit, &["changes nothing for the run that goes on", "missing"]),
        (Wrong::RegisteredSplitsAreAssignedAgain, &["there once more"]),
        (Wrong::ReadsTheFileItself, &["does not block", "listed /in on the arbiter"]),
        (Wrong::IgnoresTheBudget, &["as its budget allows", "with a budget of"]),
        (Wrong::RoundsWhenEncoded, &["encoded and decoded", "weight: -2"]),
    ];
    for (wrong, texts) in cases {
        let error = match check_source(&mut || Counting { wrong: *wrong }) {
            Err(error) => error,
            Ok(report) => panic!("{wrong:?} passed: {report:?}"),
        };
        for text in *texts {
            assert!(error.tells(text), "{wrong:?}: no `{text}` in{error:?}");
        }
    }
}
