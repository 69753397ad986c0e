//! A source in a process that is played: its enumerator, its readers and the messages between them, stepped one call at a time.
//!
//! As in the runtime, each has a waker of its own and is polled when a message came, when it was woken, or when it said that there is more; never otherwise.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use alluvium_actors::ids::CheckpointId;

use super::doors::Arbiter;
use crate::connect::adapter::{decode, encode};
use crate::connect::source::{
    Assigned, ReaderOutput, ReaderRequest, ReaderStatus, Source, SourceEnumerator, SourceReader, SplitAssigner,
};
use crate::error::OperatorError;
use crate::fault::Random;
use crate::record::Record;
use crate::record::batch::Slice;
use crate::testing::host::{ManualHost, Site};
use crate::testing::print::text_of;

/// A rule and what breaks it.
pub(super) type Fault = (&'static str, String);

pub(super) const NO_FAILURE: &str = "A source that is used as the runtime uses it does not fail.";
pub(super) const WAKES: &str =
    "Who answers pending leaves its waker where it will be woken, and readers hear when no more splits come.";
pub(super) const BUDGET: &str = "A poll emits about as many records as its budget allows, and no more.";
pub(super) const ENCODES: &str =
    "Splits and the enumerator's state are what they were when they were encoded and decoded.";
pub(super) const ARBITER: &str = "A call on the arbiter does not block: files are for blocking work.";

/// So many records more than the budget are a little too many.
const OVER_BUDGET: usize = 256;

/// How often a thread of the connector's own is waited for when nothing else moves.
const YIELDS: u32 = 5_000;

/// What a checkpoint keeps of the source, encoded as in a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) checkpoint: CheckpointId,
    enumerator: Vec<u8>,
    /// The splits of each reader; `None` for one that had ended.
    readers: Vec<Option<Vec<u8>>>,
}

/// How far a process came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It goes on.
    Going,
    /// Every reader ended.
    Ended,
    /// Nobody has anything to do, and nothing is waited for.
    Still,
}

/// A message to a reader.
enum Mail<S> {
    Assigned(Assigned<S>),
    /// Cut now for this checkpoint: behind everything that was assigned before the enumerator's snapshot.
    Trigger(CheckpointId),
}

/// A cut that is being taken. The enumerator's part is there first; each reader takes its own when it comes to it.
struct Cutting {
    cut: Cut,
    /// How much each reader had emitted at its cut.
    kept: Vec<Option<usize>>,
}

enum Told<S> {
    Registered(Vec<S>),
    Request(ReaderRequest),
}

struct Seat<S: Source> {
    reader: S::Reader,
    host: ManualHost,
    /// Wake-ups seen so far.
    seen: usize,
    runnable: bool,
    mailbox: VecDeque<Mail<S::Split>>,
    /// Each with its place among those of all readers.
    emitted: Vec<(u64, S::Record)>,
    ended: bool,
}

/// See the module.
pub(super) struct Process<S: Source> {
    random: Random,
    arbiter: Arbiter,
    enumerator: S::Enumerator,
    host: ManualHost,
    seen: usize,
    runnable: bool,
    to_enumerator: VecDeque<(u32, Told<S::Split>)>,
    readers: Vec<Seat<S>>,
    /// Cuts that are being taken, oldest first.
    cutting: Vec<Cutting>,
    /// How many records all readers emitted.
    emissions: u64,
    pub(super) calls: u64,
    /// Whether threads of the connector's own may wake it, and are waited for.
    pub(super) patient: bool,
}

/// What may happen next.
#[derive(Clone, Copy)]
enum Step {
    Enumerator,
    ToEnumerator,
    Mail(usize),
    Poll(usize),
    Work(Option<usize>),
}

fn failed(what: &str, error: &OperatorError) -> Fault {
    (NO_FAILURE, format!("{what} failed: {error}"))
}

fn recoded<T: Record>(what: &str, value: &T) -> Result<Vec<u8>, Fault> {
    let bytes = encode(value).map_err(|error| (ENCODES, format!("{what}: {error}")))?;
    let back: T = decode(&bytes).map_err(|error| (ENCODES, format!("{what}: {error}")))?;
    let again = encode(&back).map_err(|error| (ENCODES, format!("{what}: {error}")))?;
    if again != bytes {
        return Err((ENCODES, format!("{what} was {} and became {}", text_of(&bytes), text_of(&again))));
    }
    Ok(bytes)
}

impl<S: Source> Process<S> {
    /// Starts a source, anew or from a cut.
    pub(super) fn start(
        source: &S,
        site: &Site,
        arbiter: &Arbiter,
        restored: Option<&Cut>,
        seed: u64,
    ) -> Result<Process<S>, Fault> {
        let host = ManualHost::new(seed);
        let enumerator = arbiter.call(|| source.enumerator(site.source_context(&host, 0)));
        let mut enumerator = enumerator.map_err(|error| failed("making the enumerator", &error))?;
        if let Some(restored) = restored {
            let state =
                decode(&restored.enumerator).map_err(|error| failed("reading the enumerator's state", &error))?;
            arbiter.call(|| enumerator.restore(state)).map_err(|error| failed("restoring the enumerator", &error))?;
        }
        let mut process = Process {
            random: Random::new(seed),
            arbiter: arbiter.clone(),
            enumerator,
            host,
            seen: 0,
            runnable: true,
            to_enumerator: VecDeque::new(),
            readers: Vec::new(),
            cutting: Vec::new(),
            emissions: 0,
            calls: 0,
            patient: true,
        };
        for index in 0..site.parallelism {
            let host = ManualHost::new(seed + 1 + u64::from(index));
            let reader = arbiter.call(|| source.reader(site.source_context(&host, index)));
            let mut reader = reader.map_err(|error| failed("making a reader", &error))?;
            let state = restored.map(|restored| &restored.readers[index as usize]);
            let ended = matches!(state, Some(None));
            if !ended {
                let splits: Vec<S::Split> = match state {
                    Some(Some(splits)) => decode(splits).map_err(|error| failed("reading splits", &error))?,
                    Some(None) | None => Vec::new(),
                };
                if !splits.is_empty() {
                    arbiter
                        .call(|| reader.add_splits(splits.clone()))
                        .map_err(|error| failed("giving restored splits to a reader", &error))?;
                }
                process.to_enumerator.push_back((index, Told::Registered(splits)));
            }
            process.readers.push(Seat {
                reader,
                host,
                seen: 0,
                runnable: !ended,
                mailbox: VecDeque::new(),
                emitted: Vec::new(),
                ended,
            });
        }
        Ok(process)
    }

    pub(super) fn ended(&self) -> bool {
        self.readers.iter().all(|seat| seat.ended)
    }

    /// What was emitted since the start, in order.
    pub(super) fn emitted(&self) -> Vec<&S::Record> {
        let all: Vec<usize> = self.readers.iter().map(|seat| seat.emitted.len()).collect();
        self.emitted_before(&all)
    }

    /// The first records of each reader, so many, in the order in which all were emitted.
    pub(super) fn emitted_before(&self, kept: &[usize]) -> Vec<&S::Record> {
        let firsts = self.readers.iter().zip(kept).flat_map(|(seat, kept)| &seat.emitted[..*kept]);
        let mut records: Vec<&(u64, S::Record)> = firsts.collect();
        records.sort_by_key(|(place, _)| *place);
        records.into_iter().map(|(_, record)| record).collect()
    }

    /// How much of it there is.
    pub(super) fn emitted_number(&self) -> usize {
        self.readers.iter().map(|seat| seat.emitted.len()).sum()
    }

    /// The first or last records of each reader, told.
    pub(super) fn told(&self, which: &str) -> String {
        let mut parts = Vec::new();
        for (index, seat) in self.readers.iter().enumerate() {
            let record = if which == "first" { seat.emitted.first() } else { seat.emitted.last() };
            let record = record.map(|(_, record)| text_of(&encode(record).unwrap_or_default()));
            parts.push(match record {
                Some(record) => format!("the {which} record of reader {index} is {record}"),
                None => format!("reader {index} emitted nothing"),
            });
        }
        parts.join(", ")
    }

    /// Up to so many calls.
    pub(super) fn run(&mut self, calls: u64) -> Result<Progress, Fault> {
        for _ in 0..calls {
            if self.ended() {
                return Ok(Progress::Ended);
            }
            if !self.step()? {
                return Ok(Progress::Still);
            }
        }
        Ok(if self.ended() { Progress::Ended } else { Progress::Going })
    }

    /// Everybody is polled once more: the outside world has moved.
    pub(super) fn nudge(&mut self) {
        self.runnable = true;
        for seat in &mut self.readers {
            seat.runnable |= !seat.ended;
        }
    }

    /// Whether somebody keeps a waker of this process: a thread of the connector's own, perhaps.
    fn may_be_woken(&self) -> bool {
        self.readers.iter().map(|seat| &seat.host).chain([&self.host]).any(ManualHost::waker_is_kept)
    }

    fn look_for_wakes(&mut self) {
        if self.host.wakes() > self.seen {
            self.seen = self.host.wakes();
            self.runnable = true;
        }
        for seat in &mut self.readers {
            if seat.host.wakes() > seat.seen {
                seat.seen = seat.host.wakes();
                seat.runnable |= !seat.ended;
            }
        }
    }

    fn possible(&mut self) -> Vec<Step> {
        self.look_for_wakes();
        let mut possible = Vec::new();
        if self.runnable {
            possible.push(Step::Enumerator);
        }
        if !self.to_enumerator.is_empty() {
            possible.push(Step::ToEnumerator);
        }
        if self.host.has_blocking() {
            possible.push(Step::Work(None));
        }
        for (index, seat) in self.readers.iter().enumerate() {
            if !seat.mailbox.is_empty() {
                possible.push(Step::Mail(index));
            }
            if seat.runnable {
                possible.push(Step::Poll(index));
            }
            if seat.host.has_blocking() {
                possible.push(Step::Work(Some(index)));
            }
        }
        possible
    }

    /// Lets time pass up to the next wake-up. False if there is none.
    fn pass_time(&mut self) -> bool {
        let hosts = || self.readers.iter().map(|seat| &seat.host).chain([&self.host]);
        let next = hosts().filter_map(ManualHost::next_wake).min();
        if let Some(next) = next {
            hosts().for_each(|host| host.advance_to(next));
        }
        next.is_some()
    }

    /// One call. False if there is none to be made.
    fn step(&mut self) -> Result<bool, Fault> {
        let mut possible = self.possible();
        if possible.is_empty() || self.random.below(16) == 0 {
            self.pass_time();
            possible = self.possible();
        }
        let mut yields = 0;
        while possible.is_empty() && self.patient && yields < YIELDS && self.may_be_woken() {
            std::thread::yield_now();
            yields += 1;
            possible = self.possible();
        }
        if possible.is_empty() {
            return Ok(false);
        }
        self.calls += 1;
        match possible[self.random.below(possible.len() as u64) as usize] {
            Step::Work(place) => {
                let host = place.map_or(&self.host, |index| &self.readers[index].host);
                host.run_one_blocking();
            }
            Step::Enumerator => self.poll_enumerator(SplitAssigner::new())?,
            Step::ToEnumerator => self.tell_enumerator()?,
            Step::Mail(index) => self.deliver(index)?,
            Step::Poll(index) => self.poll_reader(index)?,
        }
        if let Some(caught) = self.arbiter.caught() {
            return Err((ARBITER, caught));
        }
        Ok(true)
    }

    fn poll_enumerator(&mut self, mut assigner: SplitAssigner<S::Split>) -> Result<(), Fault> {
        self.runnable = false;
        let waker = self.host.waker();
        let enumerator = &mut self.enumerator;
        self.arbiter
            .call(|| enumerator.poll(&mut Context::from_waker(&waker), &mut assigner))
            .map_err(|error| failed("polling the enumerator", &error))?;
        self.assign(assigner)
    }

    fn tell_enumerator(&mut self) -> Result<(), Fault> {
        let Some((reader, told)) = self.to_enumerator.pop_front() else { return Ok(()) };
        let mut assigner = SplitAssigner::new();
        let enumerator = &mut self.enumerator;
        self.arbiter
            .call(|| match told {
                Told::Registered(splits) => enumerator.reader_registered(reader, splits, &mut assigner),
                Told::Request(ReaderRequest::Split) => enumerator.split_requested(reader, &mut assigner),
                Told::Request(ReaderRequest::Finished { split }) => {
                    enumerator.split_finished(reader, &split, &mut assigner)
                }
                Told::Request(ReaderRequest::Event(event)) => enumerator.reader_event(reader, event, &mut assigner),
            })
            .map_err(|error| failed("telling the enumerator of a reader", &error))?;
        // The coordinator looks for new splits whenever it was told something.
        self.poll_enumerator(assigner)
    }

    fn assign(&mut self, assigner: SplitAssigner<S::Split>) -> Result<(), Fault> {
        for assigned in assigner.assigned {
            let (Assigned::Splits(reader, _) | Assigned::NoMore(reader) | Assigned::Event(reader, _)) = &assigned;
            let reader = *reader as usize;
            let Some(seat) = self.readers.get_mut(reader) else {
                let number = self.readers.len();
                return Err((NO_FAILURE, format!("a split was assigned to reader {reader}, and there are {number}")));
            };
            if seat.ended && matches!(&assigned, Assigned::Splits(..)) {
                return Err((NO_FAILURE, format!("a split was assigned to reader {reader}, which had ended")));
            }
            seat.mailbox.push_back(Mail::Assigned(assigned));
        }
        Ok(())
    }

    fn deliver(&mut self, index: usize) -> Result<(), Fault> {
        let seat = &mut self.readers[index];
        let message = match seat.mailbox.pop_front() {
            None => return Ok(()),
            Some(Mail::Trigger(checkpoint)) => return self.cut_reader(index, checkpoint),
            Some(Mail::Assigned(message)) => message,
        };
        seat.runnable |= !seat.ended;
        let reader = &mut seat.reader;
        match message {
            Assigned::Splits(_, splits) => {
                let splits: Vec<S::Split> = splits
                    .iter()
                    .map(|split| {
                        let bytes = recoded("a split", split)?;
                        decode(&bytes).map_err(|error| (ENCODES, error.to_string()))
                    })
                    .collect::<Result<_, Fault>>()?;
                self.arbiter
                    .call(|| reader.add_splits(splits))
                    .map_err(|error| failed("giving splits to a reader", &error))
            }
            Assigned::NoMore(_) => {
                self.arbiter.call(|| reader.no_more_splits());
                Ok(())
            }
            Assigned::Event(_, event) => self
                .arbiter
                .call(|| reader.enumerator_event(event))
                .map_err(|error| failed("telling a reader of its enumerator", &error)),
        }
    }

    fn poll_reader(&mut self, index: usize) -> Result<(), Fault> {
        // Mostly whole slices, sometimes single records.
        let budget = if self.random.below(3) == 0 { 1 } else { 1 + self.random.below(256) as usize };
        let seat = &mut self.readers[index];
        let mut slice = Slice::new();
        let waker = seat.host.waker();
        let mut output = ReaderOutput::new(&mut slice, budget);
        let reader = &mut seat.reader;
        let status = self.arbiter.call(|| reader.poll_batch(&mut Context::from_waker(&waker), &mut output));
        let number = slice.records.len();
        if number > budget + OVER_BUDGET {
            return Err((
                BUDGET,
                format!("reader {index} emitted {number} records in one poll, with a budget of {budget}"),
            ));
        }
        for record in slice.records.drain(..) {
            seat.emitted.push((self.emissions, record));
            self.emissions += 1;
        }
        match status {
            Poll::Ready(Ok(ReaderStatus::Ended)) => (seat.ended, seat.runnable) = (true, false),
            Poll::Ready(Ok(ReaderStatus::More)) => {}
            // With records it is polled again, as by the runtime.
            Poll::Pending => seat.runnable = number > 0,
            Poll::Ready(Err(error)) => return Err(failed("reading", &error)),
        }
        let requests = seat.reader.take_requests().into_iter().map(|request| (index as u32, Told::Request(request)));
        self.to_enumerator.extend(requests);
        Ok(())
    }

    /// Begins a cut: the enumerator's part at this moment, and the readers are told.
    pub(super) fn begin_cut(&mut self, checkpoint: CheckpointId) -> Result<(), Fault> {
        let enumerator = &mut self.enumerator;
        let state = self.arbiter.call(|| enumerator.snapshot(checkpoint));
        let enumerator = recoded("the enumerator's state", &state)?;
        let readers = vec![None; self.readers.len()];
        let kept = vec![None; self.readers.len()];
        self.cutting.push(Cutting { cut: Cut { checkpoint, enumerator, readers }, kept });
        for seat in &mut self.readers {
            seat.mailbox.push_back(Mail::Trigger(checkpoint));
        }
        Ok(())
    }

    fn cut_reader(&mut self, index: usize, checkpoint: CheckpointId) -> Result<(), Fault> {
        let Some(cutting) = self.cutting.iter_mut().find(|cutting| cutting.cut.checkpoint == checkpoint) else {
            return Ok(());
        };
        let seat = &mut self.readers[index];
        if !seat.ended {
            let reader = &mut seat.reader;
            let splits = self.arbiter.call(|| reader.snapshot(checkpoint));
            cutting.cut.readers[index] = Some(recoded("the splits of a reader", &splits)?);
        }
        cutting.kept[index] = Some(seat.emitted.len());
        Ok(())
    }

    /// Goes on until every reader has cut for the oldest open checkpoint. Gives the cut, and how many records of each reader came before it.
    pub(super) fn finish_cut(&mut self) -> Result<(Cut, Vec<usize>), Fault> {
        loop {
            if self.cutting.first().is_some_and(|cutting| cutting.kept.iter().all(Option::is_some)) {
                let Cutting { cut, kept } = self.cutting.remove(0);
                return Ok((cut, kept.into_iter().flatten().collect()));
            }
            // There is at least a trigger to be delivered.
            if !self.step()? {
                return Err((WAKES, "a reader has a message and is not polled".to_owned()));
            }
        }
    }

    /// The checkpoint is complete, or was aborted: everybody hears of it.
    pub(super) fn resolve(&mut self, checkpoint: CheckpointId, completed: bool) {
        if completed {
            self.enumerator.completed(checkpoint);
        } else {
            self.enumerator.aborted(checkpoint);
        }
        for seat in self.readers.iter_mut().filter(|seat| !seat.ended) {
            if completed {
                seat.reader.completed(checkpoint);
            } else {
                seat.reader.aborted(checkpoint);
            }
            // A message came.
            seat.runnable = true;
        }
        self.runnable = true;
    }
}
