//! What can be seen of a running job from outside of its actors: how far each subtask is with each checkpoint, and what it is doing.
//!
//! A subtask that hangs in user code answers no message, and neither does a coordinator whose enumerator hangs. So nobody is asked: subtasks write down
//! where they are, and whoever wants to know reads it, on any thread. It is written at barriers and between slices, never per record.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::drive::edge::EdgeProbe;
use crate::ids::{CheckpointId, Moment, SubtaskId};
use crate::plan::Plan;
use crate::ports::calls::CallWatch;
use crate::ports::host::Address;
use crate::protocol::align::{self, Channel, Timing};
use crate::protocol::coordinator::{
    CheckpointStatistics, CheckpointStatus, HeldUp, LastMarker, Overtook, StatisticsSnapshot, SubtaskFigures,
};
use crate::protocol::story::{self, Declined, Doing, Names, Observe, Observed, Owing, Stage, Story};

/// How many checkpoints a subtask keeps notes of, at most.
const NOTED: usize = 64;

/// What can be seen of one job, over all its attempts in this process.
#[derive(Debug)]
pub struct Overview {
    plan: Arc<Plan>,
    /// The newest attempt of each.
    subtasks: Mutex<BTreeMap<SubtaskId, Arc<SubtaskWatch>>>,
    /// What the coordinator showed last: one that takes the place of another goes on from there.
    statistics: Mutex<Arc<StatisticsSnapshot>>,
}

impl Overview {
    /// Nothing is to be seen yet.
    #[must_use]
    pub fn of(plan: Arc<Plan>) -> Overview {
        Overview { plan, subtasks: Mutex::default(), statistics: Mutex::default() }
    }

    /// A subtask takes the place of one of an earlier attempt.
    pub(super) fn begins(&self, subtask: SubtaskId, watch: Arc<SubtaskWatch>) {
        lock(&self.subtasks).insert(subtask, watch);
    }

    pub(super) fn show(&self, statistics: &Arc<StatisticsSnapshot>) {
        *lock(&self.statistics) = Arc::clone(statistics);
    }

    pub(super) fn shown(&self) -> Arc<StatisticsSnapshot> {
        Arc::clone(&lock(&self.statistics))
    }

    /// What a checkpoint says of itself at this moment of the host's clock. `declined` is who refused it, if it failed for that.
    #[must_use]
    pub fn story(&self, checkpoint: &CheckpointStatistics, now: Moment, declined: Option<&Declined>) -> Story {
        match checkpoint.status {
            CheckpointStatus::Completed => story::completed(checkpoint, self),
            CheckpointStatus::Failed(reason) => story::failed(checkpoint, reason, declined, self, self),
            CheckpointStatus::InProgress | CheckpointStatus::Finalizing => {
                story::under_way(checkpoint, now, self, self)
            }
        }
    }

    /// The story of the oldest checkpoint that is under way at this moment; none if there is none.
    #[must_use]
    pub fn explain(&self, now: Moment) -> Option<Story> {
        let shown = self.shown();
        let oldest = shown.pending.first()?;
        Some(self.story(oldest, now, None))
    }
}

impl Names for Overview {
    fn subtask(&self, subtask: SubtaskId) -> String {
        format!("{}[{}]", self.chain(subtask), subtask.index)
    }

    fn operator(&self, subtask: SubtaskId, position: Option<u16>) -> String {
        let watch = lock(&self.subtasks).get(&subtask).cloned();
        let operator = position.and_then(|position| watch?.calls.operator(position));
        operator.map_or_else(|| self.chain(subtask).to_owned(), |operator| operator.to_string())
    }
}

impl Overview {
    fn chain(&self, subtask: SubtaskId) -> &str {
        self.plan.nodes.get(subtask.node.0 as usize).map_or("?", |node| &node.name)
    }
}

impl Observe for Overview {
    fn observe(&self, subtask: SubtaskId, checkpoint: CheckpointId, now: Moment) -> Option<Observed> {
        let watch = lock(&self.subtasks).get(&subtask).cloned()?;
        (!watch.gone.load(Ordering::Relaxed)).then(|| watch.observe(checkpoint, now))
    }
}

/// Where one subtask is. Written by its own thread, read by anybody.
#[derive(Debug, Default)]
pub struct SubtaskWatch {
    calls: Arc<CallWatch>,
    /// Who sends into each channel, and what is in it.
    inputs: Vec<(SubtaskId, EdgeProbe)>,
    notes: Mutex<Notes>,
    /// The subtask has ended.
    gone: AtomicBool,
}

#[derive(Debug, Default)]
struct Notes {
    ended: Vec<Channel>,
    /// Nothing more is to be told of checkpoints up to this one. Messages and markers of them still come.
    over: CheckpointId,
    checkpoints: BTreeMap<CheckpointId, Part>,
    /// Who takes nothing from the subtask since when, and how many batches had been taken then.
    held_up: Option<(HeldUpBy, Moment)>,
    /// How long it was held up before that.
    held_up_before: Duration,
    /// By whom it was held up the last time.
    last_held_up_by: Option<SubtaskId>,
    /// Since when its chain takes no records.
    refuses: Option<Moment>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct HeldUpBy {
    consumer: SubtaskId,
    taken: u64,
}

/// A subtask's part of one checkpoint. A moment may lie ahead: in virtual time who is delayed has done already what it will have done then.
#[derive(Debug)]
struct Part {
    /// How long the subtask had been held up when it heard of the checkpoint.
    held_up_before: Duration,
    /// By which channel the subtask heard of it first; none where the coordinator told it.
    heard_from: Option<Channel>,
    /// The markers that came, or were seen where they wait, in their order.
    arrived: Vec<(Channel, Moment)>,
    /// How many batches were in front of a marker when it was announced.
    announced: Vec<(Channel, u32)>,
    cuts: Option<Moment>,
    cut: Option<Moment>,
    /// The cut is ahead of markers, until all of them were seen.
    collects: bool,
    collected: Option<Moment>,
    acknowledged: Option<Moment>,
}

impl SubtaskWatch {
    /// A watch over a subtask with these calls, and with these producers and edges by channel.
    #[must_use]
    pub fn new(calls: Arc<CallWatch>, inputs: Vec<(SubtaskId, EdgeProbe)>) -> SubtaskWatch {
        SubtaskWatch { calls, inputs, notes: Mutex::default(), gone: AtomicBool::new(false) }
    }

    /// The subtask has ended.
    pub(super) fn is_gone(&self) {
        self.gone.store(true, Ordering::Relaxed);
    }

    /// A step of the driver begins.
    pub(super) fn step_begins(&self, now: Moment) {
        self.calls.now_is(now);
    }

    /// A step ends, after which the subtask waits or not: for this consumer to take something, if so.
    pub(super) fn step_ends(&self, held_up: Option<(Address, u64)>) {
        let now = self.calls.known();
        let mut notes = lock(&self.notes);
        let by = match held_up {
            Some((Address::Subtask(consumer, _), taken)) => Some(HeldUpBy { consumer, taken }),
            Some(_) | None => None,
        };
        if notes.held_up.map(|(by, _)| by) != by {
            notes.held_up_before = notes.held_up_for(now);
            notes.held_up = by.map(|by| (by, now));
            notes.last_held_up_by = by.map(|by| by.consumer).or(notes.last_held_up_by);
        }
        if self.calls.refuses() {
            notes.refuses.get_or_insert(now);
        } else {
            notes.refuses = None;
        }
    }

    /// The alignment is told something.
    pub(super) fn hears(&self, now: Moment, event: &align::Event) {
        let mut notes = lock(&self.notes);
        match *event {
            align::Event::Marker { channel, checkpoint, .. } if checkpoint > notes.over => {
                notes.heard(checkpoint, now, channel).comes(channel, now);
            }
            align::Event::Trigger { checkpoint, .. } if checkpoint > notes.over => {
                notes.part(checkpoint, now);
            }
            align::Event::ChannelEnded { channel } => notes.ended.push(channel),
            align::Event::AbortNotice { checkpoint } => {
                notes.checkpoints.remove(&checkpoint);
            }
            _ => {}
        }
    }

    /// The message of a barrier came: its marker is in the channel, or was taken out of it.
    pub(super) fn announced(&self, now: Moment, checkpoint: CheckpointId, channel: Channel) {
        let Some((_, edge)) = self.inputs.get(channel.position()) else { return };
        let (batches, waits) = edge.in_front_of(checkpoint);
        let mut notes = lock(&self.notes);
        if checkpoint > notes.over {
            let part = notes.heard(checkpoint, now, channel);
            if waits {
                part.announced.push((channel, batches));
            }
        }
    }

    /// The cut is ahead of markers: what is in front of them is being collected.
    pub(super) fn collects(&self, now: Moment, checkpoint: CheckpointId) {
        lock(&self.notes).part(checkpoint, now).collects = true;
    }

    /// A marker that the cut was ahead of was seen where it waits, behind so many batches that were collected.
    pub(super) fn collected_up_to(&self, now: Moment, checkpoint: CheckpointId, channel: Channel, batches: u32) {
        let mut notes = lock(&self.notes);
        let part = notes.part(checkpoint, now);
        part.announced.retain(|(announced, _)| *announced != channel);
        part.announced.push((channel, batches));
        // In the order in which they were seen, also where one had come to the head of its channel before.
        part.arrived.retain(|(arrived, _)| *arrived != channel);
        part.arrived.push((channel, now));
    }

    /// All that the cut was ahead of was collected. What was measured of the cut, with what is known now.
    pub(super) fn collected(
        &self,
        now: Moment,
        checkpoint: CheckpointId,
        triggered: Moment,
        figures: SubtaskFigures,
    ) -> SubtaskFigures {
        let mut notes = lock(&self.notes);
        let part = notes.part(checkpoint, now);
        part.collected = Some(now);
        let collecting = now.since(part.cut.unwrap_or(now));
        // One that came before the cut decided nothing.
        let last_marker = part.arrived.last().filter(|(_, at)| part.cut.is_some_and(|cut| *at >= cut));
        let last_marker = last_marker.and_then(|(channel, _)| self.last_marker(part, *channel));
        let heard_from = figures.overtook.and_then(|overtook| overtook.heard_from);
        SubtaskFigures {
            overtook: Some(Overtook { heard_from, collecting }),
            last_marker,
            busy: self.calls.busiest(triggered, now),
            ..figures
        }
    }

    /// The cut of a checkpoint begins.
    pub(super) fn cuts(&self, now: Moment, checkpoint: CheckpointId) {
        lock(&self.notes).part(checkpoint, now).cuts = Some(now);
    }

    /// The cut is made and its barrier sent on. What was measured so far.
    pub(super) fn cut(
        &self,
        now: Moment,
        checkpoint: CheckpointId,
        triggered: Moment,
        timing: Timing,
        overtook: bool,
    ) -> SubtaskFigures {
        let mut notes = lock(&self.notes);
        let held_up_for = notes.held_up_for(now);
        let consumer = notes.last_held_up_by;
        let part = notes.part(checkpoint, now);
        part.cut = Some(now);
        let began = part.cuts.unwrap_or(now);
        let last_marker = part.arrived.last().and_then(|(channel, _)| self.last_marker(part, *channel));
        let heard_from = part.heard_from.and_then(|channel| self.producer(channel));
        let overtook = overtook.then_some(Overtook { heard_from, collecting: Duration::ZERO });
        let lasts = held_up_for.saturating_sub(part.held_up_before);
        let held_up = consumer.filter(|_| !lasts.is_zero()).map(|consumer| HeldUp { consumer, lasts });
        let Timing { notice_delay, start_delay, alignment } = timing;
        SubtaskFigures {
            notice_delay,
            start_delay,
            alignment,
            synchronous: now.since(began),
            unaligned: overtook.is_some(),
            overtook,
            last_marker,
            busy: self.calls.busiest(triggered, now),
            held_up,
            ..SubtaskFigures::default()
        }
    }

    fn producer(&self, channel: Channel) -> Option<SubtaskId> {
        self.inputs.get(channel.position()).map(|(producer, _)| *producer)
    }

    fn last_marker(&self, part: &Part, channel: Channel) -> Option<LastMarker> {
        let announced = part.announced.iter().find(|(announced, _)| *announced == channel);
        let batches = announced.map_or(0, |(_, batches)| *batches);
        Some(LastMarker { channel, producer: self.producer(channel)?, batches })
    }

    /// The subtask's part is durable, and its acknowledgement sent.
    pub(super) fn acknowledged(&self, now: Moment, checkpoint: CheckpointId) {
        lock(&self.notes).part(checkpoint, now).acknowledged = Some(now);
    }

    /// Nothing more is to be told of this checkpoint and of older ones.
    pub(super) fn is_over(&self, checkpoint: CheckpointId) {
        let mut notes = lock(&self.notes);
        notes.checkpoints = notes.checkpoints.split_off(&checkpoint.next());
        notes.over = notes.over.max(checkpoint);
    }

    /// How far it is with a checkpoint at this moment, and what it is doing.
    #[must_use]
    pub fn observe(&self, checkpoint: CheckpointId, now: Moment) -> Observed {
        let notes = lock(&self.notes);
        let part = notes.checkpoints.get(&checkpoint);
        let stage = part.map_or(Stage::Waiting, |part| part.stage(now));
        let owing = match stage {
            Stage::Waiting | Stage::Collecting { .. } => self.owing(&notes, part, checkpoint, now),
            Stage::Synchronous { .. } | Stage::Asynchronous { .. } | Stage::Acknowledged { .. } => Vec::new(),
        };
        Observed { stage, doing: self.doing(&notes, now), owing }
    }

    fn owing(&self, notes: &Notes, part: Option<&Part>, checkpoint: CheckpointId, now: Moment) -> Vec<Owing> {
        let arrived = |channel: Channel| {
            let found = part.and_then(|part| part.arrived.iter().find(|(arrived, _)| *arrived == channel));
            found.map(|(_, at)| *at)
        };
        let mut owing = Vec::new();
        for (position, (producer, edge)) in self.inputs.iter().enumerate() {
            let channel = Channel(position as u32);
            let arrived = arrived(channel);
            if notes.ended.contains(&channel) || arrived.is_some_and(|at| at <= now) {
                continue;
            }
            let (batches, sent) = edge.in_front_of(checkpoint);
            owing.push(Owing { channel, producer: *producer, batches, sent: sent || arrived.is_some() });
        }
        owing
    }

    fn doing(&self, notes: &Notes, now: Moment) -> Doing {
        if let Some((call, operator, since)) = self.calls.inside(now) {
            return Doing::Inside { operator, call, since };
        }
        if let Some((HeldUpBy { consumer, .. }, since)) = notes.held_up {
            return Doing::HeldUp { consumer, since };
        }
        match notes.refuses {
            Some(since) => Doing::Refuses { operator: None, since },
            None => Doing::Nothing,
        }
    }
}

impl Notes {
    /// The notes of a checkpoint, which begin now if there are none.
    fn part(&mut self, checkpoint: CheckpointId, now: Moment) -> &mut Part {
        let held_up_before = self.held_up_for(now);
        if !self.checkpoints.contains_key(&checkpoint) && self.checkpoints.len() == NOTED {
            self.checkpoints.pop_first();
        }
        self.checkpoints.entry(checkpoint).or_insert_with(|| Part {
            held_up_before,
            heard_from: None,
            arrived: Vec::new(),
            announced: Vec::new(),
            cuts: None,
            cut: None,
            collects: false,
            collected: None,
            acknowledged: None,
        })
    }

    /// As [`part`](Notes::part), when a message or a marker of it came by this channel.
    fn heard(&mut self, checkpoint: CheckpointId, now: Moment, channel: Channel) -> &mut Part {
        let is_new = !self.checkpoints.contains_key(&checkpoint);
        let part = self.part(checkpoint, now);
        if is_new {
            part.heard_from = Some(channel);
        }
        part
    }

    /// How long the subtask was held up, all times together.
    fn held_up_for(&self, now: Moment) -> Duration {
        self.held_up_before + self.held_up.map_or(Duration::ZERO, |(_, since)| now.since(since))
    }
}

impl Part {
    fn comes(&mut self, channel: Channel, now: Moment) {
        if self.arrived.iter().all(|(arrived, _)| *arrived != channel) {
            self.arrived.push((channel, now));
        }
    }

    fn stage(&self, now: Moment) -> Stage {
        let passed = |moment: Option<Moment>| moment.filter(|moment| *moment <= now);
        if let Some(at) = passed(self.acknowledged) {
            Stage::Acknowledged { at }
        } else if let Some(since) = passed(self.cut) {
            if self.collects && passed(self.collected).is_none() {
                Stage::Collecting { since }
            } else {
                Stage::Asynchronous { since }
            }
        } else if let Some(since) = passed(self.cuts) {
            Stage::Synchronous { since }
        } else {
            Stage::Waiting
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
