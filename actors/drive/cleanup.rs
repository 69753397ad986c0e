//! Carries out what becomes of the completed checkpoints when a job ends: reads the newest, lets the sinks commit what it holds, deletes.
//!
//! The sinks are those of a deployment without subtasks, under a number of their own above that of the last attempt: late words of that
//! one find nobody. Everything else of the job has ended before this begins.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::drive::attempt::WorkCount;
use crate::drive::control::Control;
use crate::drive::deploy::{Deployment, RestoredSink};
use crate::drive::supervisor::SupervisorSetup;
use crate::ids::{Attempt, RegionId};
use crate::ports::blocking::{Lane, Promise};
use crate::ports::fence::Fence;
use crate::ports::host::{Address, Host};
use crate::ports::listener::JobEvent;
use crate::ports::store::{CheckpointKind, CheckpointStore, Manifest, StoreError};
use crate::ports::task::Failure;
use crate::protocol::cleanup::{Cleanup, Delete, Effect, Event, Leaves, Newest};
use crate::protocol::machine::Machine;
use crate::protocol::supervise::Regions;

/// The newest checkpoint, with what it holds of every sink.
type Found = (Arc<Manifest>, BTreeMap<u32, RestoredSink>);

/// Drives the clean-up behind one job.
pub(super) struct CleanupDriver {
    setup: SupervisorSetup,
    machine: Cleanup,
    attempt: Attempt,
    fence: Fence,
    reading: Option<Promise<Result<Option<Found>, Failure>>>,
    found: Option<Found>,
    deployment: Option<Deployment>,
    /// The sinks that have not said that they are ready.
    opening: BTreeSet<u32>,
    /// The sinks that have not ended.
    sinks: BTreeSet<u32>,
    ending: bool,
    deleting: Option<Promise<Option<String>>>,
    /// The answer, once it is over.
    over: Option<Option<String>>,
}

impl CleanupDriver {
    /// Begins: `attempt` is above that of every attempt, `fence` newer than every fence.
    pub(super) fn begin(
        host: &dyn Host,
        setup: &SupervisorSetup,
        attempt: Attempt,
        fence: Fence,
        leaves: Leaves,
    ) -> CleanupDriver {
        let mut cleanup = CleanupDriver {
            setup: setup.clone(),
            machine: Cleanup::new(leaves, setup.cancellation_timeout),
            attempt,
            fence,
            reading: None,
            found: None,
            deployment: None,
            opening: BTreeSet::new(),
            sinks: BTreeSet::new(),
            ending: false,
            deleting: None,
            over: None,
        };
        cleanup.handle(host, Event::Begin);
        cleanup
    }

    fn handle(&mut self, host: &dyn Host, event: Event) {
        let mut effects = Vec::new();
        self.machine.handle(host.now(), event, &mut effects);
        debug_assert_eq!(self.machine.check(), Ok(()));
        for effect in effects {
            match effect {
                Effect::ReadNewest => {
                    let setup = self.setup.clone();
                    let work = move || newest(&setup);
                    self.reading = Some(Promise::start(host.blocking().as_ref(), Lane::Metadata, work));
                }
                Effect::OpenSinks => self.open_sinks(host),
                Effect::EndSinks => {
                    self.ending = true;
                    for sink in &self.sinks {
                        host.send(Address::Sink(*sink, self.attempt), Control::Cancel);
                    }
                }
                Effect::Delete(what) => {
                    if what == Delete::All {
                        self.setup.listener.event(JobEvent::DeletingCheckpoints);
                    }
                    let (store, fence, now) = (Arc::clone(&self.setup.store), self.fence.clone(), host.wall());
                    let work = move || match what {
                        Delete::All => store.discard_all(&fence, now).err().map(|error| error.to_string()),
                        Delete::AllButFinal => delete_all_but_final(store.as_ref(), &fence),
                    };
                    self.deleting = Some(Promise::start(host.blocking().as_ref(), Lane::Metadata, work));
                }
                Effect::Over { left } => self.over = Some(left),
            }
        }
        if let Some(deadline) = self.machine.next_deadline() {
            host.wake_at(deadline);
        }
    }

    fn open_sinks(&mut self, host: &dyn Host) {
        let Some((manifest, restored)) = self.found.take() else { return };
        let deployment = Deployment {
            plan: Arc::clone(&self.setup.plan),
            // Sinks of all regions, and no subtask of any.
            regions: Regions::of_plan(&self.setup.plan),
            region: RegionId(0),
            watches: Arc::default(),
            overview: Arc::clone(&self.setup.overview),
            attempt: self.attempt,
            run: manifest.run,
            hash_seed: manifest.hash_seed,
            restored: Some(manifest),
            finished: Arc::default(),
            store: Arc::clone(&self.setup.store),
            files: Arc::clone(&self.setup.files),
            fence: self.fence.clone(),
            work: Arc::new(WorkCount::default()),
            mode: self.setup.checkpoint_mode,
            buffer_timeout: self.setup.buffer_timeout,
        };
        self.sinks = (0..self.setup.plan.sinks.len() as u32).collect();
        self.opening = self.sinks.clone();
        for (sink, restored) in restored {
            deployment.spawn_sink(host, sink, restored);
        }
        self.deployment = Some(deployment);
        if self.opening.is_empty() {
            self.handle(host, Event::Committed);
        }
    }

    /// Takes a message of its sinks; gives others back.
    pub(super) fn on_message(&mut self, host: &dyn Host, message: Control) -> Option<Control> {
        match message {
            Control::SinkReady { attempt, sink } if attempt == self.attempt => {
                self.opening.remove(&sink);
                if self.opening.is_empty() {
                    self.handle(host, Event::Committed);
                }
            }
            Control::SinkEnded { attempt, sink } if attempt == self.attempt => {
                self.sinks.remove(&sink);
            }
            Control::Failed { attempt, failure, .. } if attempt == self.attempt => {
                self.handle(host, Event::NotCommitted { reason: failure.to_string() });
            }
            Control::DriverPanicked { address: Address::Sink(sink, attempt), text } if attempt == self.attempt => {
                self.sinks.remove(&sink);
                self.handle(host, Event::NotCommitted { reason: text });
            }
            other => return Some(other),
        }
        None
    }

    /// Ready when it is over: with the reason if checkpoints are left that were to be deleted.
    pub(super) fn poll(&mut self, host: &dyn Host, context: &mut Context<'_>) -> Poll<Option<String>> {
        if let Some(reading) = &mut self.reading
            && let Poll::Ready(answer) = reading.poll(context)
        {
            self.reading = None;
            let newest = match answer {
                Ok(Ok(None)) => Newest::Absent,
                Ok(Ok(Some(found))) => {
                    let is_final = found.0.kind == CheckpointKind::Final;
                    self.found = Some(found);
                    if is_final { Newest::Final } else { Newest::Resumable }
                }
                Ok(Err(failure)) => Newest::Unreadable { reason: failure.to_string() },
                Err(panic) => Newest::Unreadable { reason: panic.0 },
            };
            self.handle(host, Event::Read(newest));
        }
        if self.ending && self.sinks.is_empty() {
            let idle = self.deployment.as_ref().is_none_or(|deployment| deployment.work.poll_idle(context));
            if idle {
                self.ending = false;
                self.deployment = None;
                self.handle(host, Event::SinksEnded);
            }
        }
        if let Some(deleting) = &mut self.deleting
            && let Poll::Ready(answer) = deleting.poll(context)
        {
            self.deleting = None;
            let error = answer.unwrap_or_else(|panic| Some(panic.0));
            self.handle(host, Event::Deleted { error });
        }
        if self.machine.next_deadline().is_some_and(|deadline| deadline <= host.now()) {
            self.handle(host, Event::Deadline);
        }
        match self.over.take() {
            Some(left) => Poll::Ready(left),
            None => Poll::Pending,
        }
    }
}

/// The checkpoint that a restore would take, and what it holds of the sinks. Blocks.
fn newest(setup: &SupervisorSetup) -> Result<Option<Found>, Failure> {
    let manifest = setup.store.recover().map_err(|error| Failure::retryable("checkpoint store", error))?;
    let Some(manifest) = manifest else { return Ok(None) };
    // What belongs to an operator that the job does not have would be lost.
    (setup.check_fit)(&setup.plan, &manifest)?;
    let all = (0..setup.plan.sinks.len() as u32).collect();
    let sinks = RestoredSink::read_all(&setup.plan, Some(&manifest), &all, setup.read_prepared.as_ref())?;
    Ok(Some((Arc::new(manifest), sinks)))
}

/// Deletes what a finished job does not need. Blocks. The first error; the others are logged.
fn delete_all_but_final(store: &dyn CheckpointStore, fence: &Fence) -> Option<String> {
    let mut first: Option<StoreError> = None;
    let mut note = |error: StoreError| {
        tracing::warn!(%error, "something stays behind the finished job");
        first.get_or_insert(error);
    };
    match store.list() {
        Ok(known) => {
            for summary in known.iter().filter(|summary| summary.kind != CheckpointKind::Final) {
                if let Err(error) = store.delete_checkpoint(fence, summary.checkpoint) {
                    note(error);
                }
            }
        }
        Err(error) => note(error),
    }
    // Also what an earlier process could not delete any more: no run will begin that does.
    if let Err(error) = store.remove_orphans(fence) {
        note(error);
    }
    first.map(|error| error.to_string())
}
