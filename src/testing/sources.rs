//! A trial for sources: everything exactly once, wherever a checkpoint cuts and whenever the job dies.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::task::{Context, Poll};
use std::time::Duration;

use alluvium_actors::ids::{CheckpointId, Moment};
use alluvium_actors::ports::host::Host;

use super::host::{ManualHost, Site};
use crate::connect::adapter::{decode, encode};
use crate::connect::source::{
    Assigned, Boundedness, ReaderOutput, ReaderRequest, ReaderStatus, Source, SourceEnumerator, SourceReader,
    SplitAssigner,
};
use crate::error::{OperatorError, OperatorResult};
use crate::fault::Random;
use crate::record::batch::Slice;

/// Records as they compare: encoded.
type Emitted = Vec<Vec<u8>>;

/// So many steps without an end are taken for a source that never ends.
const MOST_STEPS: u64 = 5_000_000;

/// Reads a bounded source to its end, without a failure, and returns what each reader emitted.
///
/// # Errors
/// When the source fails.
///
/// # Panics
/// When the source does not end.
pub fn read_all<S: Source>(source: &S, site: &Site, seed: u64) -> OperatorResult<Vec<Vec<S::Record>>> {
    let mut run = SourceRun::start(source, site, None, seed)?;
    run.finish()?;
    Ok(run.readers.into_iter().map(|seat| seat.emitted).collect())
}

/// Reads a bounded source again and again, in an order that `seed` decides, and lets it die up to five times between checkpoints: what was emitted before the
/// checkpoint that it goes on from, and after that, must be what it emits without a failure, each record once.
///
/// # Errors
/// When the source fails.
///
/// # Panics
/// When a record is missing or there twice, or the source is not bounded or does not end.
pub fn check_replay<S: Source>(source: &S, site: &Site, seed: u64) -> OperatorResult {
    assert_eq!(source.boundedness(), Boundedness::Bounded, "only a bounded source can be read to its end");
    let expected = read_all(source, site, seed)?;
    let expected = expected.iter().flatten().map(encode).collect::<Result<Emitted, _>>()?;
    let mut random = Random::new(seed);
    let mut kept: Emitted = Vec::new();
    let mut restored: Option<SourceSnapshot> = None;
    // Cuts are spread over the length of a run, which the number of records tells roughly.
    let length = 40 + expected.len() as u64 / 20;
    for death in 0..6 {
        let mut run = SourceRun::start(source, site, restored.as_ref(), seed + death)?;
        run.run(if death == 5 { u64::MAX } else { random.below(length) })?;
        if run.ended() {
            kept.extend(run.encoded()?);
            compare(seed, expected, kept);
            return Ok(());
        }
        let snapshot = run.snapshot(CheckpointId(death + 1))?;
        kept.extend(run.encoded()?);
        // What comes after the cut is lost with the process.
        run.run(random.below(length / 2))?;
        restored = Some(snapshot);
    }
    Err(OperatorError::unrecoverable("the last run ended without an end"))
}

fn compare(seed: u64, expected: Emitted, kept: Emitted) {
    let mut counts: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
    for record in expected {
        *counts.entry(record).or_default() -= 1;
    }
    for record in kept {
        *counts.entry(record).or_default() += 1;
    }
    let missing: i64 = counts.values().filter(|count| **count < 0).sum();
    let surplus: i64 = counts.values().filter(|count| **count > 0).sum();
    assert!(missing == 0 && surplus == 0, "seed {seed}: {} records are missing, {surplus} too many", -missing);
}

/// What a checkpoint keeps of a source, encoded as in a checkpoint.
#[derive(Clone, Debug)]
pub struct SourceSnapshot {
    enumerator: Vec<u8>,
    /// The splits of each reader; `None` for one that had ended.
    readers: Vec<Option<Vec<u8>>>,
}

/// A source that runs: its enumerator, its readers, and the messages between them.
pub struct SourceRun<S: Source> {
    host: ManualHost,
    random: Random,
    enumerator: S::Enumerator,
    to_enumerator: VecDeque<(u32, Told<S::Split>)>,
    readers: Vec<Seat<S>>,
}

impl<S: Source> fmt::Debug for SourceRun<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SourceRun({} readers)", self.readers.len())
    }
}

enum Told<S> {
    Registered(Vec<S>),
    Request(ReaderRequest),
}

struct Seat<S: Source> {
    reader: S::Reader,
    mailbox: VecDeque<Assigned<S::Split>>,
    emitted: Vec<S::Record>,
    ended: bool,
}

impl<S: Source> SourceRun<S> {
    /// Starts a source at `site`, anew or where a checkpoint left it; `seed` decides in which order everything happens.
    ///
    /// # Errors
    /// When the source refuses, or does not accept what it stored.
    pub fn start(
        source: &S,
        site: &Site,
        restored: Option<&SourceSnapshot>,
        seed: u64,
    ) -> OperatorResult<SourceRun<S>> {
        let host = ManualHost::new(seed);
        let mut enumerator = source.enumerator(site.source_context(&host, 0))?;
        if let Some(restored) = restored {
            enumerator.restore(decode(&restored.enumerator)?)?;
        }
        let mut to_enumerator = VecDeque::new();
        let mut readers = Vec::new();
        for index in 0..site.parallelism {
            let mut reader = source.reader(site.source_context(&host, index))?;
            let state = restored.map(|restored| &restored.readers[index as usize]);
            let ended = matches!(state, Some(None));
            if !ended {
                let splits: Vec<S::Split> = match state {
                    Some(Some(splits)) => decode(splits)?,
                    Some(None) | None => Vec::new(),
                };
                if !splits.is_empty() {
                    reader.add_splits(splits.clone())?;
                }
                to_enumerator.push_back((index, Told::Registered(splits)));
            }
            readers.push(Seat { reader, mailbox: VecDeque::new(), emitted: Vec::new(), ended });
        }
        Ok(SourceRun { host, random: Random::new(seed), enumerator, to_enumerator, readers })
    }

    /// Whether every reader ended.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.readers.iter().all(|seat| seat.ended)
    }

    /// What was emitted since the start, reader after reader.
    #[must_use]
    pub fn emitted(&self) -> Vec<S::Record> {
        self.readers.iter().flat_map(|seat| seat.emitted.iter().cloned()).collect()
    }

    /// How long it took on the host's clock.
    #[must_use]
    pub fn took(&self) -> Duration {
        self.host.now().since(Moment(0))
    }

    /// Goes on until at least so many records were emitted since the start.
    ///
    /// # Errors
    /// When the source fails.
    ///
    /// # Panics
    /// When the source ends before, or does not come so far.
    pub fn read(&mut self, records: usize) -> OperatorResult {
        let mut steps = 0;
        while self.readers.iter().map(|seat| seat.emitted.len()).sum::<usize>() < records {
            assert!(!self.ended() && steps < MOST_STEPS, "the source did not emit {records} records");
            self.step()?;
            steps += 1;
        }
        Ok(())
    }

    /// Goes on until every reader ended.
    ///
    /// # Errors
    /// When the source fails.
    ///
    /// # Panics
    /// When that takes unreasonably many steps.
    pub fn finish(&mut self) -> OperatorResult {
        self.run(u64::MAX)
    }

    fn encoded(&self) -> OperatorResult<Emitted> {
        self.readers.iter().flat_map(|seat| &seat.emitted).map(encode).collect()
    }

    /// Goes on for so many steps, or until every reader ended.
    fn run(&mut self, steps: u64) -> OperatorResult {
        for _ in 0..steps.min(MOST_STEPS) {
            if self.ended() {
                return Ok(());
            }
            self.step()?;
        }
        assert!(steps < MOST_STEPS || self.ended(), "the source did not end within {MOST_STEPS} steps");
        Ok(())
    }

    fn step(&mut self) -> OperatorResult {
        let waker = self.host.waker();
        let mut context = Context::from_waker(&waker);
        let mut assigner = SplitAssigner::new();
        let seat = self.random.below(self.readers.len() as u64) as usize;
        match self.random.below(8) {
            0 => self.enumerator.poll(&mut context, &mut assigner)?,
            1 | 2 => {
                if let Some((reader, told)) = self.to_enumerator.pop_front() {
                    self.tell(reader, told, &mut assigner)?;
                }
            }
            3 => {
                if let Some(message) = self.readers[seat].mailbox.pop_front() {
                    self.readers[seat].take(message)?;
                }
            }
            4 => drop(self.host.run_one_blocking()),
            5 if self.random.below(4) == 0 => {
                if !self.host.advance_to_next_wake() {
                    self.host.advance(Duration::from_millis(1));
                }
            }
            _ => {
                let budget = 1 + self.random.below(256) as usize;
                self.readers[seat].poll(budget, &mut context)?;
                let requests = self.readers[seat].reader.take_requests();
                let requests = requests.into_iter().map(|request| (seat as u32, Told::Request(request)));
                self.to_enumerator.extend(requests);
            }
        }
        for assigned in assigner.assigned {
            let (Assigned::Splits(reader, _) | Assigned::NoMore(reader) | Assigned::Event(reader, _)) = &assigned;
            self.readers[*reader as usize].mailbox.push_back(assigned);
        }
        Ok(())
    }

    fn tell(&mut self, reader: u32, told: Told<S::Split>, assigner: &mut SplitAssigner<S::Split>) -> OperatorResult {
        match told {
            Told::Registered(splits) => self.enumerator.reader_registered(reader, splits, assigner),
            Told::Request(ReaderRequest::Split) => self.enumerator.split_requested(reader, assigner),
            Told::Request(ReaderRequest::Finished { split }) => {
                self.enumerator.split_finished(reader, &split, assigner)
            }
            Told::Request(ReaderRequest::Event(event)) => self.enumerator.reader_event(reader, event, assigner),
        }
    }

    /// What a checkpoint keeps of the source at this moment: the enumerator first, then each reader behind everything that was assigned before.
    ///
    /// # Errors
    /// When a state cannot be encoded, or a reader does not take its splits.
    pub fn snapshot(&mut self, checkpoint: CheckpointId) -> OperatorResult<SourceSnapshot> {
        let enumerator = encode(&self.enumerator.snapshot(checkpoint))?;
        let mut readers = Vec::new();
        for seat in &mut self.readers {
            while let Some(message) = seat.mailbox.pop_front() {
                seat.take(message)?;
            }
            let splits = (!seat.ended).then(|| encode(&seat.reader.snapshot(checkpoint))).transpose()?;
            readers.push(splits);
        }
        Ok(SourceSnapshot { enumerator, readers })
    }
}

impl<S: Source> Seat<S> {
    fn take(&mut self, message: Assigned<S::Split>) -> OperatorResult {
        match message {
            // Splits travel encoded.
            Assigned::Splits(_, splits) => {
                let splits = splits.iter().map(|split| decode(&encode(split)?)).collect::<Result<_, _>>()?;
                self.reader.add_splits(splits)
            }
            Assigned::NoMore(_) => {
                self.reader.no_more_splits();
                Ok(())
            }
            Assigned::Event(_, event) => self.reader.enumerator_event(event),
        }
    }

    fn poll(&mut self, budget: usize, context: &mut Context<'_>) -> OperatorResult {
        if self.ended {
            return Ok(());
        }
        let mut slice = Slice::new();
        let status = self.reader.poll_batch(context, &mut ReaderOutput::new(&mut slice, budget));
        self.emitted.append(&mut slice.records);
        match status {
            Poll::Ready(Ok(ReaderStatus::Ended)) => self.ended = true,
            Poll::Ready(Ok(ReaderStatus::More)) | Poll::Pending => {}
            Poll::Ready(Err(failure)) => return Err(failure),
        }
        Ok(())
    }
}
