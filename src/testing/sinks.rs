//! A trial for exactly-once sinks: what completed checkpoints hold takes effect once, whenever the job dies.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use alluvium_actors::ids::CheckpointId;
use alluvium_actors::ports::fence::FenceSource;
use alluvium_actors::ports::files::Files;

use super::host::{ManualHost, Site};
use crate::connect::adapter::{decode, encode};
use crate::connect::sink::{CommitOutcome, Sink, SinkCommit, SinkWriter};
use crate::error::{OperatorError, OperatorResult};
use crate::fault::Random;
use crate::record::Record;
use crate::record::batch::Slice;

/// What a trial writes, and how it looks at the outcome.
pub struct SinkTrial<'a, T> {
    /// What is written, in this order.
    pub records: Vec<T>,
    /// How many writers.
    pub parallelism: u32,
    /// The job's name.
    pub job: String,
    /// The sink's uid.
    pub uid: String,
    /// The process is started again: called before each attempt, with the reason for which the one before ended, if there was one. It may crash a
    /// simulated disk, and it judges whether the reason is one that it expected.
    pub restart: &'a mut dyn FnMut(Option<AttemptEnd>) -> Arc<dyn Files>,
    /// What took effect so far, in any order.
    pub committed: &'a dyn Fn() -> Vec<T>,
}

impl<T> fmt::Debug for SinkTrial<'_, T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SinkTrial({} records)", self.records.len())
    }
}

/// Why an attempt ended before all was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptEnd {
    /// The trial killed it.
    Killed,
    /// The sink failed.
    Failed(OperatorError),
}

/// What a checkpoint keeps of the sink.
#[derive(Clone, Default)]
struct Completed {
    checkpoint: u64,
    /// Records before this one are in it.
    position: usize,
    states: Vec<Vec<u8>>,
    /// Encoded transactions that no completed checkpoint is known to have committed.
    prepared: Vec<Vec<u8>>,
}

/// Writes all records, in an order and with deaths that `seed` decides, until they are committed. After every commit the outside must hold exactly the records of
/// the completed checkpoints. Returns the number of attempts.
///
/// # Panics
/// When a record is missing or there twice, or the trial does not come to its end.
pub fn check_exactly_once<T: Record, S: Sink<T>>(sink: &S, trial: SinkTrial<'_, T>, seed: u64) -> u64 {
    let mut random = Random::new(seed);
    let fences = FenceSource::new();
    let mut latest: Option<Completed> = None;
    let mut reason = None;
    let mut ids = 0;
    for run in 1..1000 {
        let site = Site {
            job: trial.job.clone(),
            store: "00000000000000ab".to_owned(),
            uid: trial.uid.clone(),
            parallelism: trial.parallelism,
            run,
            restored: latest.as_ref().map(|completed| completed.checkpoint),
            files: (trial.restart)(reason.take()),
            fence: fences.advance(),
        };
        let mut attempt =
            Attempt { trial: &trial, site: &site, random: &mut random, latest: &mut latest, ids: &mut ids };
        match attempt.run(sink) {
            Ok(true) => return run,
            Ok(false) => reason = Some(AttemptEnd::Killed),
            Err(failure) => reason = Some(AttemptEnd::Failed(failure)),
        }
    }
    panic!("seed {seed}: not all was written in a thousand attempts; the last one ended by {reason:?}");
}

struct Attempt<'a, 'b, T> {
    trial: &'a SinkTrial<'b, T>,
    site: &'a Site,
    random: &'a mut Random,
    latest: &'a mut Option<Completed>,
    ids: &'a mut u64,
}

impl<T: Record> Attempt<'_, '_, T> {
    /// True when all was written and committed, false when it was killed.
    fn run<S: Sink<T>>(&mut self, sink: &S) -> OperatorResult<bool> {
        let host = ManualHost::new(self.site.run);
        let mut committer = sink.committer(self.site.sink_scope())?;
        let states = self
            .latest
            .as_ref()
            .map(|completed| completed.states.iter().map(|state| decode(state)).collect::<Result<Vec<S::State>, _>>());
        committer.open(states.transpose()?)?;
        let restored = self.latest.clone().unwrap_or_default();
        let mut prepared = restored.prepared.clone();
        if !self.commit(&mut committer, &mut prepared)? {
            return Ok(false);
        }
        self.look(restored.position);
        committer.clean_up()?;
        let mut writers = (0..self.site.parallelism)
            .map(|subtask| sink.writer(self.site.sink_context(&host, subtask)))
            .collect::<Result<Vec<_>, _>>()?;
        let mut position = restored.position;
        for writer in &mut writers {
            host.drive(|context| writer.poll_ready(context))?;
        }
        loop {
            for _ in 0..self.random.below(6) {
                let count = (1 + self.random.below(40) as usize).min(self.trial.records.len() - position);
                let writer = self.random.below(u64::from(self.site.parallelism)) as usize;
                host.drive(|context| writers[writer].poll_ready(context))?;
                let mut slice = Slice::new();
                slice.records.extend_from_slice(&self.trial.records[position..position + count]);
                writers[writer].write_batch(&mut slice)?;
                assert!(slice.is_empty(), "the writer left records in its slice");
                position += count;
            }
            if self.dies() {
                return Ok(false);
            }
            let states = self.checkpoint::<S>(&host, &mut writers, &mut prepared)?;
            if self.dies() {
                return Ok(false);
            }
            // One in five checkpoints is aborted: what it prepared stays for the next one.
            if self.random.below(5) == 0 {
                continue;
            }
            *self.latest = Some(Completed { checkpoint: *self.ids, position, states, prepared: prepared.clone() });
            if self.dies() || !self.commit(&mut committer, &mut prepared)? {
                return Ok(false);
            }
            self.look(position);
            if position == self.trial.records.len() {
                return Ok(true);
            }
        }
    }

    fn dies(&mut self) -> bool {
        self.random.below(12) == 0
    }

    /// Cuts, and waits until everything is prepared. Returns the writers' states.
    fn checkpoint<S: Sink<T>>(
        &mut self,
        host: &ManualHost,
        writers: &mut [S::Writer],
        prepared: &mut Vec<Vec<u8>>,
    ) -> OperatorResult<Vec<Vec<u8>>> {
        *self.ids += 1;
        let checkpoint = CheckpointId(*self.ids);
        let mut states = Vec::new();
        for writer in writers.iter_mut() {
            writer.prepare(checkpoint)?;
            states.push(encode(&writer.snapshot(checkpoint))?);
        }
        for writer in writers {
            let committables = host.drive(|context| writer.poll_prepared(checkpoint, context))?;
            for committable in &committables {
                prepared.push(encode(committable)?);
            }
        }
        Ok(states)
    }

    /// Commits everything, some of it twice. False when it died meanwhile.
    fn commit<C: SinkCommit>(&mut self, committer: &mut C, prepared: &mut Vec<Vec<u8>>) -> OperatorResult<bool> {
        for committable in std::mem::take(prepared) {
            let twice = self.random.below(3) == 0;
            for again in 0..=u32::from(twice) {
                let mut tries = 0;
                loop {
                    match committer.commit(decode(&committable)?) {
                        CommitOutcome::Done if again == 1 => panic!("a second commit was done and not found done"),
                        CommitOutcome::Done | CommitOutcome::AlreadyDone => break,
                        CommitOutcome::RetryAfter(_) if tries < 100 => tries += 1,
                        CommitOutcome::RetryAfter(_) => {
                            return Err(OperatorError::retryable("a commit was put off a hundred times"));
                        }
                        CommitOutcome::Fatal(failure) => return Err(failure),
                    }
                }
            }
            if self.random.below(30) == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Everything up to `position`, and nothing else, has taken effect.
    fn look(&self, position: usize) {
        let bytes = |record: &T| encode(record).expect("a record that was written can be encoded");
        let mut counts: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
        for record in &self.trial.records[..position] {
            *counts.entry(bytes(record)).or_default() -= 1;
        }
        for record in (self.trial.committed)() {
            *counts.entry(bytes(&record)).or_default() += 1;
        }
        let missing: i64 = counts.values().filter(|count| **count < 0).sum();
        let surplus: i64 = counts.values().filter(|count| **count > 0).sum();
        assert!(missing == 0 && surplus == 0, "{} records are missing, {surplus} too many", -missing);
    }
}
