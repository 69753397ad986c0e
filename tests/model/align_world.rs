//! A small world of subtasks for exhaustive walks: aligners joined by FIFO channels, a coordinator, and faults.
//!
//! Every record has an id and is one bit of a mask. A subtask forwards what it takes, so its state is the mask of what it has
//! taken from each edge. A cut stores these masks; a crash restores all subtasks from the newest complete
//! checkpoint and lets the sources send again. That gives two judges: on each edge both ends of a cut know the same
//! records, and at the end each sink has taken every record exactly once, whatever was aborted and whatever crashed.

use std::collections::VecDeque;

use alluvium_actors::ids::{CheckpointId, Moment};
use alluvium_actors::protocol::align::{Aligner, Alignment, CancelReason, Channel, CheckpointMode, Effect, Event};
use alluvium_actors::protocol::invariant;
use alluvium_actors::protocol::machine::{Machine, Violation};

use crate::align_setting::{Broken, Faults, Frame, Mail, Setting, Step};

/// A set of records, one bit each.
pub(crate) type Mask = u8;

/// What a cut stores, and what a restore brings back.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    /// Per edge of the shape: records taken from it, if it is an input, or sent to it, if it is an output.
    edges: Vec<Mask>,
    /// Records that a source has sent.
    position: u8,
    finished: bool,
}

#[derive(Clone, Debug, Hash)]
struct Subtask {
    alignment: Alignment,
    state: State,
    /// Records taken since the start of the attempt, where records may be taken again after a crash.
    taken_here: Mask,
    /// The inputs that the effects have blocked, a bit each.
    blocked: u8,
    /// All orders of messages are tried, but that triggers of the one coordinator keep theirs.
    mail: Vec<Mail>,
    last_resolution: CheckpointId,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Open {
    checkpoint: u8,
    cuts: Vec<Option<State>>,
}

#[derive(Clone, Debug, Hash)]
pub(crate) struct World {
    subtasks: Vec<Subtask>,
    edges: Vec<VecDeque<Frame>>,
    triggered: u8,
    open: Vec<Open>,
    completed: Option<Vec<State>>,
    completions: u8,
    faults: Faults,
    /// The subtask whose next cut fails, within one step. A step in which it makes none is not taken.
    failing: Option<usize>,
    violation: Option<Violation>,
}

impl World {
    pub(crate) fn new(setting: &Setting) -> World {
        let subtasks = (0..setting.shape.subtasks)
            .map(|subtask| {
                let state = State { edges: vec![0; setting.shape.edges.len()], position: 0, finished: false };
                Subtask::new(setting, subtask, state)
            })
            .collect();
        World {
            subtasks,
            edges: vec![VecDeque::new(); setting.shape.edges.len()],
            triggered: 0,
            open: Vec::new(),
            completed: None,
            completions: 0,
            faults: setting.faults,
            failing: None,
            violation: None,
        }
    }

    /// All next worlds.
    pub(crate) fn steps(&self, setting: &Setting, next: &mut Vec<(Step, World)>) {
        if self.violation.is_some() {
            return;
        }
        let mut step = |step: Step, change: &dyn Fn(&mut World)| {
            let mut world = self.clone();
            change(&mut world);
            if world.failing.is_none() {
                world.settle(setting);
                next.push((step, world));
            }
        };
        for source in setting.shape.sources() {
            let Subtask { state, .. } = &self.subtasks[source];
            if state.position < setting.records && !state.finished {
                step(Step::Send { source }, &|world| world.send(setting, source));
            } else if setting.ends && !state.finished {
                step(Step::EndSource { source }, &|world| world.finish(setting, source));
            }
        }
        for (subtask, Subtask { alignment, state, mail, .. }) in self.subtasks.iter().enumerate() {
            let ended = alignment.open_channels() == 0 && !setting.shape.is_source(subtask);
            if ended && !state.finished {
                step(Step::EndSubtask { subtask }, &|world| world.finish(setting, subtask));
            }
            let first_trigger = mail.iter().position(|mail| matches!(mail, Mail::Trigger(_)));
            for (index, &mail) in mail.iter().enumerate() {
                if matches!(mail, Mail::Trigger(_)) && first_trigger != Some(index) {
                    continue;
                }
                step(Step::Deliver { subtask, mail }, &|world| {
                    world.subtasks[subtask].mail.remove(index);
                    world.deliver(setting, subtask, mail);
                });
                if self.faults.failed_cuts > 0 {
                    step(Step::DeliverAndFailTheCut { subtask, mail }, &|world| {
                        world.subtasks[subtask].mail.remove(index);
                        world.failing = Some(subtask);
                        world.deliver(setting, subtask, mail);
                    });
                }
                if self.faults.repeats > 0 {
                    step(Step::DeliverTwice { subtask, mail }, &|world| {
                        world.faults.repeats -= 1;
                        world.deliver(setting, subtask, mail);
                    });
                }
            }
            if self.faults.unknown > 0 && !state.finished {
                step(Step::Unknown { subtask }, &|world| {
                    world.faults.unknown -= 1;
                    let checkpoint = CheckpointId(200);
                    world.handle(setting, subtask, Event::Announcement { checkpoint });
                    world.handle(setting, subtask, Event::AbortNotice { checkpoint });
                    world.handle(setting, subtask, Event::CutFailed { checkpoint });
                });
            }
        }
        for (edge, frames) in self.edges.iter().enumerate() {
            let (_, consumer) = setting.shape.edges[edge];
            let channel = setting.shape.channel_of(edge);
            let Some(&frame) = frames.front() else { continue };
            if self.subtasks[consumer].is_blocked(channel) {
                continue;
            }
            step(Step::Take { edge, frame }, &|world| {
                world.edges[edge].pop_front();
                world.take(setting, edge, frame);
            });
            if self.faults.failed_cuts > 0 {
                step(Step::TakeAndFailTheCut { edge, frame }, &|world| {
                    world.edges[edge].pop_front();
                    world.failing = Some(consumer);
                    world.take(setting, edge, frame);
                });
            }
            if self.faults.repeats > 0 && !matches!(frame, Frame::Record(_)) {
                step(Step::TakeTwice { edge, frame }, &|world| {
                    world.faults.repeats -= 1;
                    world.edges[edge].pop_front();
                    world.take(setting, edge, frame);
                    world.take(setting, edge, frame);
                });
            }
        }
        if self.triggered < setting.checkpoints && self.open.len() < setting.concurrent {
            let checkpoint = self.triggered + 1;
            step(Step::TriggerCheckpoint { checkpoint }, &|world| world.trigger(setting, checkpoint));
        }
        if self.faults.aborts > 0 {
            for &Open { checkpoint, .. } in &self.open {
                step(Step::Abort { checkpoint }, &|world| {
                    world.faults.aborts -= 1;
                    world.abort(setting, checkpoint);
                });
            }
        }
        if self.faults.crashes > 0 {
            step(Step::Crash, &|world| world.crash(setting));
        }
    }

    /// What must hold in every state, and in the end.
    pub(crate) fn rule(&self, setting: &Setting, at_rest: bool) -> Result<(), String> {
        let checked = self.subtasks.iter().try_for_each(Subtask::check);
        self.violation.clone().map_or(checked, Err).map_err(|violation| violation.to_string())?;
        if !at_rest {
            return Ok(());
        }
        let held: Vec<usize> = (0..self.edges.len()).filter(|&edge| self.is_held(setting, edge)).collect();
        invariant::nothing_held_at_rest(&held).map_err(|violation| violation.to_string())?;
        let under_way: Vec<CheckpointId> =
            self.subtasks.iter().flat_map(|subtask| subtask.alignment.pending()).collect();
        invariant::nothing_tracked_at_rest(&under_way).map_err(|violation| violation.to_string())?;
        if let Some(edge) = self.edges.iter().position(|frames| !frames.is_empty()) {
            return Err(format!("edge {edge} still holds {:?}", self.edges[edge]));
        }
        if let Some(open) = self.open.first() {
            return Err(format!("checkpoint {} is neither complete nor given up", open.checkpoint));
        }
        let undisturbed = self.faults == setting.faults && !setting.ends && setting.concurrent == 1;
        if undisturbed && self.completions != setting.checkpoints {
            return Err(format!("{} of {} checkpoints are complete", self.completions, setting.checkpoints));
        }
        self.outputs_are_whole(setting)
    }

    /// Each sink has taken every record that was meant for it; none is taken twice, which `take` watches.
    fn outputs_are_whole(&self, setting: &Setting) -> Result<(), String> {
        let sources = setting.shape.sources().count();
        let all = (1_u16 << (sources * usize::from(setting.records))) - 1;
        let sinks = (0..setting.shape.subtasks).filter(|&subtask| setting.shape.outputs(subtask).next().is_none());
        let taken = sinks.map(|sink| self.subtasks[sink].taken(setting, sink)).fold(0, |all, mask| all | mask);
        if u16::from(taken) == all { Ok(()) } else { Err(format!("the sinks have {taken:b} of the records {all:b}")) }
    }

    fn is_held(&self, setting: &Setting, edge: usize) -> bool {
        self.subtasks[setting.shape.edges[edge].1].is_blocked(setting.shape.channel_of(edge))
    }

    fn send(&mut self, setting: &Setting, source: usize) {
        let number = setting.shape.sources().position(|other| other == source).expect("it is a source");
        let Subtask { state, .. } = &mut self.subtasks[source];
        let record = u8::try_from(number).expect("few sources") * setting.records + state.position;
        let outputs: Vec<usize> = setting.shape.outputs(source).collect();
        let edge = outputs[usize::from(state.position) % outputs.len()];
        state.position += 1;
        state.edges[edge] |= 1 << record;
        self.edges[edge].push_back(Frame::Record(record));
    }

    fn finish(&mut self, setting: &Setting, subtask: usize) {
        self.subtasks[subtask].state.finished = true;
        for edge in setting.shape.outputs(subtask) {
            self.edges[edge].push_back(Frame::End);
        }
    }

    /// Tells those who have no running producer; those who have finished take part with what they have.
    fn trigger(&mut self, setting: &Setting, checkpoint: u8) {
        self.triggered = checkpoint;
        self.open.push(Open { checkpoint, cuts: vec![None; setting.shape.subtasks] });
        for subtask in 0..setting.shape.subtasks {
            let mut producers = setting.shape.inputs(subtask).map(|edge| setting.shape.edges[edge].0);
            if self.subtasks[subtask].state.finished {
                self.acknowledge(setting, subtask, checkpoint);
            } else if producers.all(|producer| self.subtasks[producer].state.finished) {
                self.subtasks[subtask].post(Mail::Trigger(checkpoint));
            }
        }
    }

    /// The coordinator gives `checkpoint` up and tells every running subtask.
    fn abort(&mut self, setting: &Setting, checkpoint: u8) {
        let before = self.open.len();
        self.open.retain(|open| open.checkpoint != checkpoint);
        if self.open.len() < before && setting.notices {
            for subtask in self.subtasks.iter_mut().filter(|subtask| !subtask.state.finished) {
                subtask.post(Mail::AbortNotice(checkpoint));
            }
        }
    }

    /// Everything of this attempt is gone, its messages included; the checkpoint ids go on.
    fn crash(&mut self, setting: &Setting) {
        let fresh = World::new(setting);
        for (number, subtask) in self.subtasks.iter_mut().enumerate() {
            let state = match &self.completed {
                Some(states) => states[number].clone(),
                None => fresh.subtasks[number].state.clone(),
            };
            *subtask = Subtask::new(setting, number, state);
        }
        self.edges = fresh.edges;
        self.open.clear();
        self.faults.crashes -= 1;
        for (edge, &(producer, consumer)) in setting.shape.edges.iter().enumerate() {
            let finished = self.subtasks[producer].state.finished;
            if finished && !self.subtasks[consumer].state.finished {
                self.edges[edge].push_back(Frame::End);
            }
        }
    }

    fn deliver(&mut self, setting: &Setting, subtask: usize, mail: Mail) {
        if self.subtasks[subtask].state.finished {
            // It ended after the coordinator had planned the checkpoint, so nobody would send its barrier.
            match mail {
                Mail::Trigger(checkpoint) => self.abort(setting, checkpoint),
                Mail::Announcement(_) | Mail::AbortNotice(_) => {}
            }
            return;
        }
        let event = match mail {
            Mail::Trigger(id) => Event::Trigger { checkpoint: CheckpointId(id.into()), triggered: Moment(0) },
            Mail::Announcement(id) => Event::Announcement { checkpoint: CheckpointId(id.into()) },
            Mail::AbortNotice(id) => Event::AbortNotice { checkpoint: CheckpointId(id.into()) },
        };
        self.handle(setting, subtask, event);
    }

    /// The consumer of `edge` takes `frame` off its head.
    fn take(&mut self, setting: &Setting, edge: usize, frame: Frame) {
        let (_, consumer) = setting.shape.edges[edge];
        let channel = setting.shape.channel_of(edge);
        match frame {
            Frame::Record(record) => {
                // At least once: what a restored state holds may come again, but within an attempt nothing comes twice.
                let taken = match setting.mode {
                    CheckpointMode::ExactlyOnce => self.subtasks[consumer].taken(setting, consumer),
                    _ => {
                        let here = &mut self.subtasks[consumer].taken_here;
                        std::mem::replace(here, *here | 1 << record)
                    }
                };
                self.note(invariant::taken_once(taken & 1 << record != 0, record));
                self.subtasks[consumer].state.edges[edge] |= 1 << record;
                if let Some(output) = setting.shape.outputs(consumer).next() {
                    self.subtasks[consumer].state.edges[output] |= 1 << record;
                    self.edges[output].push_back(Frame::Record(record));
                }
            }
            Frame::Marker(id) => {
                let checkpoint = CheckpointId(id.into());
                self.handle(setting, consumer, Event::Marker { channel, checkpoint, triggered: Moment(0) });
            }
            Frame::Cancel(id) => {
                if setting.broken != Broken::CancelMarkers {
                    let checkpoint = CheckpointId(id.into());
                    self.handle(setting, consumer, Event::CancelMarker { channel, checkpoint });
                }
            }
            Frame::End => {
                if setting.broken != Broken::Ends {
                    self.handle(setting, consumer, Event::ChannelEnded { channel });
                }
            }
        }
    }

    fn handle(&mut self, setting: &Setting, subtask: usize, event: Event) {
        let mut effects = Vec::new();
        let event = if setting.broken == Broken::Early { on_one_channel(event) } else { event };
        self.subtasks[subtask].alignment.handle(Moment(0), event, &mut effects);
        let mut failed = None;
        for effect in effects {
            match effect {
                Effect::Block(channel) => self.subtasks[subtask].blocked |= 1 << channel.0,
                Effect::Unblock(channel) => self.subtasks[subtask].blocked &= !(1 << channel.0),
                Effect::Capture(channel) => panic!("no barrier of these worlds overtakes, and channel {channel} was"),
                Effect::Cut { checkpoint, .. } => {
                    self.resolved(subtask, checkpoint);
                    let id = u8::try_from(checkpoint.0).expect("few checkpoints");
                    if self.failing.take_if(|failing| *failing == subtask).is_some() {
                        self.faults.failed_cuts -= 1;
                        failed = Some(checkpoint);
                        self.abort(setting, id);
                    } else {
                        self.acknowledge(setting, subtask, id);
                        self.forward_barrier(setting, subtask, id);
                    }
                }
                Effect::ForwardCancel { checkpoint, reason } => {
                    if reason != CancelReason::CutFailed {
                        self.resolved(subtask, checkpoint);
                    }
                    let id = u8::try_from(checkpoint.0).expect("few checkpoints");
                    for edge in setting.shape.outputs(subtask) {
                        self.edges[edge].push_back(Frame::Cancel(id));
                    }
                    if reason.decline().is_some() {
                        self.abort(setting, id);
                    }
                    if setting.broken == Broken::Memory {
                        self.forget(setting, subtask);
                    }
                }
            }
        }
        if let Some(checkpoint) = failed {
            self.handle(setting, subtask, Event::CutFailed { checkpoint });
        }
    }

    fn forward_barrier(&mut self, setting: &Setting, subtask: usize, id: u8) {
        for edge in setting.shape.outputs(subtask) {
            match setting.broken {
                Broken::Order => self.edges[edge].push_front(Frame::Marker(id)),
                Broken::Nothing
                | Broken::Alignment
                | Broken::Memory
                | Broken::CancelMarkers
                | Broken::Ends
                | Broken::Early => self.edges[edge].push_back(Frame::Marker(id)),
            }
            if setting.announcements {
                self.subtasks[setting.shape.edges[edge].1].post(Mail::Announcement(id));
            }
        }
    }

    /// A new machine that knows of the ended channels but of no checkpoint.
    fn forget(&mut self, setting: &Setting, subtask: usize) {
        let Subtask { alignment, blocked, last_resolution, .. } = &mut self.subtasks[subtask];
        if alignment.open_channels() == u32::try_from(setting.shape.inputs(subtask).count()).expect("few channels") {
            *alignment = Alignment::new(setting.mode, alignment.open_channels());
            *blocked = 0;
            *last_resolution = CheckpointId(0);
        }
    }

    fn resolved(&mut self, subtask: usize, checkpoint: CheckpointId) {
        let before = std::mem::replace(&mut self.subtasks[subtask].last_resolution, checkpoint);
        self.note(invariant::resolutions_ascend(before, checkpoint));
    }

    /// Stores the cut of `subtask`, and compares it with the cuts at the other ends of its edges.
    fn acknowledge(&mut self, setting: &Setting, subtask: usize, checkpoint: u8) {
        let state = self.subtasks[subtask].state.clone();
        let Some(open) = self.open.iter_mut().find(|open| open.checkpoint == checkpoint) else { return };
        open.cuts[subtask] = Some(state);
        let checked = setting.shape.edges.iter().enumerate().try_for_each(|(edge, &(producer, consumer))| {
            match (&open.cuts[producer], &open.cuts[consumer]) {
                (Some(sent), Some(taken)) if producer == subtask || consumer == subtask => {
                    let id = CheckpointId(checkpoint.into());
                    let (sent, taken) = (sent.edges[edge], taken.edges[edge]);
                    // Only a subtask with several channels can take a record behind a barrier before its cut.
                    let is_exact =
                        setting.mode == CheckpointMode::ExactlyOnce || setting.shape.inputs(consumer).count() == 1;
                    let missing = sent & !taken;
                    if is_exact {
                        invariant::cut_is_consistent(id, &sent, &taken)
                    } else {
                        invariant::cut_misses_nothing(id, format!("{missing:b}"), missing == 0)
                    }
                }
                (Some(_) | None, Some(_) | None) => Ok(()),
            }
        });
        if setting.compare_cuts {
            self.note(checked);
        }
    }

    /// What follows from a step by itself: completes what everybody has acknowledged, and subsumes what is older.
    fn settle(&mut self, setting: &Setting) {
        let done = |open: &Open| open.cuts.iter().all(Option::is_some);
        while let Some(index) = self.open.iter().position(done) {
            let Open { checkpoint, cuts } = self.open.remove(index);
            self.completed = Some(cuts.into_iter().flatten().collect());
            self.completions += 1;
            let older: Vec<u8> = self.open.iter().map(|open| open.checkpoint).filter(|&id| id < checkpoint).collect();
            older.into_iter().for_each(|id| self.abort(setting, id));
        }
        if setting.late_mail_at_once {
            for subtask in 0..self.subtasks.len() {
                let Subtask { alignment, state, mail, .. } = &mut self.subtasks[subtask];
                let resolved = alignment.resolved();
                let is_late = |mail: &mut Mail| match *mail {
                    Mail::Trigger(id) => !state.finished && CheckpointId(id.into()) <= resolved,
                    Mail::Announcement(id) | Mail::AbortNotice(id) => {
                        state.finished || CheckpointId(id.into()) <= resolved
                    }
                };
                let late: Vec<Mail> = mail.extract_if(.., is_late).collect();
                late.into_iter().for_each(|mail| self.deliver(setting, subtask, mail));
            }
        }
    }

    fn note(&mut self, result: Result<(), Violation>) {
        if let Err(violation) = result {
            self.violation.get_or_insert(violation);
        }
    }
}

impl Subtask {
    fn new(setting: &Setting, subtask: usize, state: State) -> Subtask {
        let channels = u32::try_from(setting.shape.inputs(subtask).count()).expect("few channels");
        let alignment = match setting.broken {
            Broken::Alignment => Aligner::without_blocking(channels).into(),
            Broken::Early => Alignment::new(setting.mode, channels.min(1)),
            Broken::Nothing | Broken::Memory | Broken::CancelMarkers | Broken::Ends | Broken::Order => {
                Alignment::new(setting.mode, channels)
            }
        };
        Subtask { alignment, state, taken_here: 0, blocked: 0, mail: Vec::new(), last_resolution: CheckpointId(0) }
    }

    fn post(&mut self, mail: Mail) {
        if let Err(place) = self.mail.binary_search(&mail) {
            self.mail.insert(place, mail);
        }
    }

    fn is_blocked(&self, channel: Channel) -> bool {
        self.blocked & 1 << channel.0 != 0
    }

    fn taken(&self, setting: &Setting, subtask: usize) -> Mask {
        setting.shape.inputs(subtask).map(|edge| self.state.edges[edge]).fold(0, |all, mask| all | mask)
    }

    fn check(&self) -> Result<(), Violation> {
        self.alignment.check()?;
        let held = (0..8).map(Channel).filter(|&channel| self.alignment.is_blocked(channel));
        let blocked = held.fold(0_u8, |all, channel| all | 1 << channel.0);
        invariant::CHANNEL_COUNTS.require(blocked == self.blocked, || {
            format!("the effects have blocked {:b}, the aligner says {blocked:b}", self.blocked)
        })
    }
}

/// The event as it would come to a subtask with one channel.
fn on_one_channel(event: Event) -> Event {
    let channel = Channel(0);
    match event {
        Event::Marker { channel: _, checkpoint, triggered } => Event::Marker { channel, checkpoint, triggered },
        Event::CancelMarker { channel: _, checkpoint } => Event::CancelMarker { channel, checkpoint },
        Event::ChannelEnded { channel: _ } => Event::ChannelEnded { channel },
        Event::Announcement { .. }
        | Event::Overtakes { .. }
        | Event::Deadline
        | Event::Trigger { .. }
        | Event::AbortNotice { .. }
        | Event::CutFailed { .. } => event,
    }
}
