//! A sink in a process that is played: writers, a committer, and the checkpoints that hold what they prepare. It may die before any call.

use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll};

use alluvium_actors::ids::CheckpointId;
use alluvium_actors::ports::fence::FenceSource;

use super::count::Count;
use super::doors::{Arbiter, WatchedFiles};
use super::sink::SinkUnderTest;
use super::source_process::{ARBITER, Fault};
use crate::connect::adapter::{decode, encode};
use crate::connect::sink::{CommitOutcome, Guarantee, Sink, SinkCommit, SinkWriter};
use crate::error::OperatorError;
use crate::record::Record;
use crate::record::batch::Slice;
use crate::testing::host::{ManualHost, Site};

pub(super) const NO_FAILURE: &str = "A sink that is used as the runtime uses it does not fail.";
pub(super) const READY: &str =
    "A writer that answers pending becomes ready, and leaves its waker where it will be woken.";
pub(super) const ONCE: &str =
    "What completed checkpoints hold takes effect once, whatever was aborted and whenever the process died.";
pub(super) const AT_LEAST_ONCE: &str =
    "What completed checkpoints hold takes effect at least once, and nothing that was not written does.";
pub(super) const AT_MOST_ONCE: &str = "No record takes effect twice, and nothing that was not written does.";
pub(super) const BEST_EFFORT: &str = "Nothing takes effect that was not written.";
pub(super) const NOT_BEFORE: &str =
    "Nothing takes effect before the checkpoint that holds it is complete and its commit was asked for.";
pub(super) const ALREADY_DONE: &str = "A commit that is repeated answers that it had been done, and changes nothing.";
pub(super) const COMMITS: &str =
    "What was prepared can be committed until its commit returned, also by a later process.";
pub(super) const EMPTIES: &str = "A writer takes all records of a slice.";
pub(super) const ENCODES: &str =
    "Transactions and writers' states are what they were when they were encoded and decoded.";

/// The slices that a writer is given have these numbers of records, by turns: none, one, several.
const SLICES: [u64; 5] = [1, 2, 0, 3, 1];

/// So often a commit may be put off.
const MOST_RETRIES: u32 = 200;
const YIELDS: u32 = 5_000;

/// Why a play ends early.
#[derive(Debug)]
pub(super) enum Stop {
    /// It was to die here.
    Died,
    /// The sink breaks a rule.
    Fault(Fault),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Stop {
        Stop::Fault(fault)
    }
}

pub(super) type Played<T = ()> = Result<T, Stop>;

pub(super) fn failed(what: &str, error: &OperatorError) -> Stop {
    Stop::Fault((NO_FAILURE, format!("{what} failed: {error}")))
}

fn recoded<T: Record>(what: &str, value: &T) -> Result<Vec<u8>, Fault> {
    let bytes = encode(value).map_err(|error| (ENCODES, format!("{what}: {error}")))?;
    let back: T = decode(&bytes).map_err(|error| (ENCODES, format!("{what}: {error}")))?;
    let again = encode(&back).map_err(|error| (ENCODES, format!("{what}: {error}")))?;
    if again == bytes { Ok(bytes) } else { Err((ENCODES, format!("{what} changed"))) }
}

/// A checkpoint of the sink that may be restored.
#[derive(Clone, Debug, Default)]
pub(super) struct Completed {
    pub(super) checkpoint: u64,
    /// Records before this one are in it.
    pub(super) position: u64,
    states: Vec<Vec<u8>>,
    /// Encoded transactions whose commits had not returned.
    pub(super) prepared: Vec<Vec<u8>>,
}

/// A checkpoint that was cut, and whose transactions were not asked for yet.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) checkpoint: u64,
    position: u64,
    states: Vec<Vec<u8>>,
}

/// A process: what it ends, it takes along.
pub(super) struct Process<T: Record, S: Sink<T>> {
    pub(super) host: ManualHost,
    pub(super) committer: S::Committer,
    pub(super) writers: Vec<S::Writer>,
    /// Encoded transactions whose commits have not returned, each with the checkpoint that it was prepared for.
    pub(super) prepared: Vec<(u64, Vec<u8>)>,
    arbiter: Arbiter,
    records: std::marker::PhantomData<fn(T)>,
}

/// The life of one sink over several processes.
pub(super) struct Life<'a, T: Record, U: SinkUnderTest<T>> {
    pub(super) under_test: &'a mut U,
    pub(super) parallelism: u32,
    pub(super) job: String,
    pub(super) uid: String,
    pub(super) store: String,
    /// The first record number of this life; others write other ones.
    pub(super) first: u64,
    pub(super) story: Vec<String>,
    pub(super) process: Option<Process<T, U::Sink>>,
    pub(super) latest: Option<Completed>,
    /// How many records were written since the first.
    pub(super) position: u64,
    /// How many different ones, over all processes: those may take effect in a sink that does not wait for checkpoints.
    pub(super) written: u64,
    /// Records of others in the same place.
    pub(super) others: Range<u64>,
    /// How many slices were written.
    slices: u64,
    /// How many of them took effect for certain.
    pub(super) visible: u64,
    pub(super) fences: FenceSource,
    pub(super) ids: u64,
    pub(super) run: u64,
    pub(super) guarantee: Guarantee,
    /// Dies before the call of this number.
    pub(super) dies_at: Option<u64>,
    pub(super) calls: u64,
    pub(super) starts: u64,
}

impl<'a, T: Record, U: SinkUnderTest<T>> Life<'a, T, U> {
    pub(super) fn new(under_test: &'a mut U, parallelism: u32) -> Life<'a, T, U> {
        Life {
            under_test,
            parallelism,
            job: "trial".to_owned(),
            uid: "sink".to_owned(),
            store: "00000000000000ab".to_owned(),
            first: 0,
            story: vec![if parallelism == 1 { "1 writer".to_owned() } else { format!("{parallelism} writers") }],
            process: None,
            latest: None,
            position: 0,
            written: 0,
            others: 0..0,
            slices: 0,
            visible: 0,
            fences: FenceSource::new(),
            ids: 0,
            run: 0,
            guarantee: Guarantee::ExactlyOnce,
            dies_at: None,
            calls: 0,
            starts: 0,
        }
    }

    pub(super) fn tell(&mut self, what: impl Into<String>) {
        self.story.push(what.into());
    }

    /// A call is made, unless this is where it dies.
    fn call(&mut self) -> Played {
        self.calls += 1;
        if self.dies_at == Some(self.calls) {
            return Err(Stop::Died);
        }
        Ok(())
    }

    pub(super) fn site(&mut self, arbiter: &Arbiter) -> Site {
        Site {
            job: self.job.clone(),
            store: self.store.clone(),
            uid: self.uid.clone(),
            parallelism: self.parallelism,
            run: self.run,
            restored: self.latest.as_ref().map(|completed| completed.checkpoint),
            files: Arc::new(WatchedFiles { files: self.under_test.files(), arbiter: arbiter.clone() }),
            fence: self.fences.advance(),
        }
    }

    /// Opens a committer and commits what the last completed checkpoint holds; without a writer.
    pub(super) fn open(&mut self) -> Played<(U::Sink, Site, Process<T, U::Sink>)> {
        self.run += 1;
        self.starts += 1;
        let arbiter = Arbiter::default();
        let site = self.site(&arbiter);
        let sink = self.under_test.sink();
        self.guarantee = sink.guarantee();
        self.call()?;
        let mut committer =
            sink.committer(site.sink_scope()).map_err(|error| failed("making the committer", &error))?;
        let latest = self.latest.clone();
        let states = latest.as_ref().map(|latest| latest.states.iter().map(|state| decode(state)).collect());
        let states: Option<Vec<_>> =
            states.transpose().map_err(|error: OperatorError| failed("reading the writers' states", &error))?;
        self.call()?;
        committer.open(states).map_err(|error| failed("opening the committer", &error))?;
        let restored = latest.map(|latest| (latest.checkpoint, latest.prepared)).unwrap_or_default();
        let prepared = restored.1.into_iter().map(|committable| (restored.0, committable)).collect();
        let host = ManualHost::new(self.run);
        let mut process =
            Process { host, committer, writers: Vec::new(), prepared, arbiter, records: std::marker::PhantomData };
        self.commit(&mut process, u64::MAX)?;
        Ok((sink, site, process))
    }

    /// Starts a process: commits what was restored, cleans up, builds writers.
    pub(super) fn start(&mut self) -> Played {
        let (sink, site, mut process) = self.open()?;
        let restored = self.latest.as_ref().map_or(0, |latest| latest.position);
        self.position = restored;
        self.visible = restored;
        self.look(if restored == 0 { ONCE } else { COMMITS })?;
        self.call()?;
        process.committer.clean_up().map_err(|error| failed("cleaning up", &error))?;
        self.look(ONCE)?;
        for subtask in 0..self.parallelism {
            self.call()?;
            let context = site.sink_context(&process.host, subtask);
            let writer = process.arbiter.call(|| sink.writer(context));
            process.writers.push(writer.map_err(|error| failed("making a writer", &error))?);
        }
        for index in 0..process.writers.len() {
            process.until_ready(index)?;
        }
        self.process = Some(process);
        Ok(())
    }

    /// The process dies, and is started again.
    pub(super) fn restart(&mut self) -> Played {
        self.tell(match &self.latest {
            Some(latest) => format!("the process dies and is started from checkpoint {}", latest.checkpoint),
            None => "the process dies and is started anew".to_owned(),
        });
        self.process = None;
        self.under_test.crash();
        self.start()
    }

    /// Writes so many records, in slices of different sizes, by turns of the writers.
    pub(super) fn write(&mut self, number: u64) -> Played {
        let mut left = number;
        while left > 0 {
            let slice = SLICES[(self.slices % SLICES.len() as u64) as usize].min(left);
            self.write_slice(slice)?;
            left -= slice;
        }
        Ok(())
    }

    /// Writes a slice of so many records into the writer whose turn it is.
    pub(super) fn write_slice(&mut self, number: u64) -> Played {
        let first = self.first + self.position;
        let index = (self.slices % u64::from(self.parallelism)) as usize;
        self.slices += 1;
        self.tell(match number {
            0 => "a slice without records is written".to_owned(),
            1 => format!("record {first} is written"),
            _ => format!("records {} to {} are written, in one slice", first, first + number - 1),
        });
        self.call()?;
        let mut process = self.process.take().expect("a process was started");
        process.until_ready(index)?;
        let mut slice = Slice::new();
        slice.records.extend((first..first + number).map(|record| self.under_test.record(record)));
        let writer = &mut process.writers[index];
        process.arbiter.call(|| writer.write_batch(&mut slice)).map_err(|error| failed("writing", &error))?;
        if !slice.is_empty() {
            return Err(Stop::Fault((EMPTIES, format!("record {first} is still in the slice"))));
        }
        process.caught()?;
        self.position += number;
        self.written = self.written.max(self.position);
        self.process = Some(process);
        Ok(())
    }

    /// Cuts, and waits until everything is prepared. Gives the checkpoint; it is neither complete nor aborted yet.
    pub(super) fn prepare(&mut self) -> Played<Completed> {
        let begun = self.begin()?;
        self.prepared(begun)
    }

    /// Cuts: begins to prepare a checkpoint. What is written from now on belongs to the next one.
    pub(super) fn begin(&mut self) -> Played<Begun> {
        self.ids += 1;
        let checkpoint = CheckpointId(self.ids);
        self.tell(format!("checkpoint {} is cut", checkpoint.0));
        let mut process = self.process.take().expect("a process was started");
        let mut states = Vec::new();
        for writer in &mut process.writers {
            self.call()?;
            let prepared = process.arbiter.call(|| writer.prepare(checkpoint));
            prepared.map_err(|error| failed("beginning to prepare", &error))?;
            let state = process.arbiter.call(|| writer.snapshot(checkpoint));
            states.push(recoded("a writer's state", &state)?);
        }
        process.caught()?;
        self.process = Some(process);
        Ok(Begun { checkpoint: checkpoint.0, position: self.position, states })
    }

    /// Waits until what a checkpoint cut is prepared. As the runtime does, checkpoints are waited for in their order.
    pub(super) fn prepared(&mut self, begun: Begun) -> Played<Completed> {
        let checkpoint = CheckpointId(begun.checkpoint);
        self.tell(format!("checkpoint {} is prepared", checkpoint.0));
        let mut process = self.process.take().expect("a process was started");
        for index in 0..process.writers.len() {
            self.call()?;
            let (host, arbiter) = (process.host.clone(), process.arbiter.clone());
            let writer = &mut process.writers[index];
            let committables = settle(&host, &arbiter, |context| writer.poll_prepared(checkpoint, context))?;
            for committable in &committables.map_err(|error| failed("preparing", &error))? {
                process.prepared.push((checkpoint.0, recoded("a transaction", committable)?));
            }
        }
        process.caught()?;
        let prepared = process.prepared.iter().map(|(_, committable)| committable.clone()).collect();
        self.process = Some(process);
        self.look(NOT_BEFORE)?;
        Ok(Completed { checkpoint: checkpoint.0, position: begun.position, states: begun.states, prepared })
    }

    /// The manifest of a checkpoint is durable: from now on it is what a restart finds.
    pub(super) fn complete(&mut self, completed: Completed) {
        self.tell(format!("checkpoint {} is completed", completed.checkpoint));
        self.latest = Some(completed);
    }

    /// Its notice arrives: everything that was prepared up to it is committed.
    pub(super) fn notice(&mut self) -> Played {
        let mut process = self.process.take().expect("a process was started");
        let checkpoint = CheckpointId(self.latest.as_ref().map_or(0, |latest| latest.checkpoint));
        self.commit(&mut process, checkpoint.0)?;
        for writer in &mut process.writers {
            process.arbiter.call(|| writer.completed(checkpoint));
        }
        self.process = Some(process);
        self.visible = self.latest.as_ref().map_or(0, |latest| latest.position);
        self.look(self.rule())
    }

    pub(super) fn rule(&self) -> &'static str {
        match self.guarantee {
            Guarantee::ExactlyOnce => ONCE,
            Guarantee::AtLeastOnce => AT_LEAST_ONCE,
            Guarantee::AtMostOnce => AT_MOST_ONCE,
            Guarantee::BestEffort => BEST_EFFORT,
        }
    }

    /// Commits all that was prepared up to a checkpoint, each twice.
    pub(super) fn commit(&mut self, process: &mut Process<T, U::Sink>, up_to: u64) -> Played {
        let (now, later) = std::mem::take(&mut process.prepared).into_iter().partition(|(of, _)| *of <= up_to);
        let now: Vec<(u64, Vec<u8>)> = now;
        process.prepared = later;
        for (_, committable) in now {
            self.call()?;
            self.commit_one(&mut process.committer, &committable)?;
            self.call()?;
            let again = decode(&committable).map_err(|error| failed("reading a transaction", &error))?;
            match process.committer.commit(again) {
                CommitOutcome::AlreadyDone => {}
                // Whoever promises no more may do it again.
                CommitOutcome::Done | CommitOutcome::RetryAfter(_) if self.guarantee.repeats() => {}
                outcome => {
                    let found = format!("the second commit of a transaction answered {}", told(&outcome));
                    return Err(Stop::Fault((ALREADY_DONE, found)));
                }
            }
        }
        Ok(())
    }

    /// Commits one transaction, and waits if it is put off.
    pub(super) fn commit_one(
        &mut self,
        committer: &mut <U::Sink as Sink<T>>::Committer,
        committable: &[u8],
    ) -> Played<CommitOutcome> {
        for _ in 0..MOST_RETRIES {
            let decoded = decode(committable).map_err(|error| failed("reading a transaction", &error))?;
            match committer.commit(decoded) {
                CommitOutcome::RetryAfter(_) => {}
                CommitOutcome::Fatal(error) => {
                    return Err(Stop::Fault((
                        COMMITS,
                        format!("a commit answered that it can never be done: {error}"),
                    )));
                }
                outcome @ (CommitOutcome::Done | CommitOutcome::AlreadyDone) => return Ok(outcome),
            }
        }
        Err(Stop::Fault((COMMITS, format!("a commit was put off {MOST_RETRIES} times"))))
    }

    /// What has taken effect outside is what the sink promises. A sink that promises less than exactly once may also let things take effect early, so what is
    /// broken then is its promise, at whatever moment it is seen.
    pub(super) fn look(&mut self, rule: &'static str) -> Played {
        let found = Count::of(&self.under_test.committed());
        let visible = self.records(0..self.visible);
        if self.guarantee == Guarantee::ExactlyOnce {
            let difference = found.differs_from(&visible);
            return difference.map_or(Ok(()), |found| Err(Stop::Fault((rule, found))));
        }
        let mut all = self.records(0..self.written);
        let others: Vec<T> = self.others.clone().map(|record| self.under_test.record(record)).collect();
        all.add(&others);
        if self.guarantee.repeats() {
            all = found.within(&all);
        }
        let least = if self.guarantee.loses() { Count::default() } else { visible };
        let rule = self.rule();
        found.is_not_between(&least, &all).map_or(Ok(()), |found| Err(Stop::Fault((rule, found))))
    }

    fn records(&self, of: Range<u64>) -> Count {
        let records: Vec<T> = of.map(|record| self.under_test.record(self.first + record)).collect();
        Count::of(&records)
    }
}

pub(super) fn told(outcome: &CommitOutcome) -> String {
    match outcome {
        CommitOutcome::Done => "that it was done now".to_owned(),
        CommitOutcome::AlreadyDone => "that it had been done".to_owned(),
        CommitOutcome::RetryAfter(delay) => format!("that it is to be tried after {delay:?}"),
        CommitOutcome::Fatal(error) => format!("that it can never be done: {error}"),
    }
}

impl<T: Record, S: Sink<T>> Process<T, S> {
    pub(super) fn until_ready(&mut self, index: usize) -> Played {
        let writer = &mut self.writers[index];
        settle(&self.host, &self.arbiter, |context| writer.poll_ready(context))?
            .map_err(|error| failed("waiting until a writer is ready", &error))
    }

    pub(super) fn caught(&self) -> Result<(), Fault> {
        self.arbiter.caught().map_or(Ok(()), |caught| Err((ARBITER, caught)))
    }
}

/// Polls until it is ready, when it was woken; moves blocking work, and time when nothing else moves.
fn settle<V>(host: &ManualHost, arbiter: &Arbiter, mut poll: impl FnMut(&mut Context<'_>) -> Poll<V>) -> Played<V> {
    let waker = host.waker();
    loop {
        let seen = host.wakes();
        if let Poll::Ready(value) = arbiter.call(|| poll(&mut Context::from_waker(&waker))) {
            return Ok(value);
        }
        let mut yields = 0;
        while host.wakes() == seen {
            if host.run_one_blocking() || host.advance_to_next_wake() {
                continue;
            }
            if yields == YIELDS {
                let found = "it is pending, and nothing that it waits for wakes it".to_owned();
                return Err(Stop::Fault((READY, found)));
            }
            std::thread::yield_now();
            yields += 1;
        }
    }
}
