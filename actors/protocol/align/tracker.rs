//! The machine that tracks barriers without holding back a channel.

use std::collections::BTreeMap;

use super::heard::Heard;
use super::{CancelReason, Channel, Effect, Event, Timing};
use crate::ids::{CheckpointId, Moment};
use crate::protocol::invariant;
use crate::protocol::machine::{Machine, Violation};

/// How many checkpoints may be under way at one subtask. Above that the oldest is given up: one channel is so far behind the others
/// that a newer checkpoint will be complete first.
pub const TRACKED_CHECKPOINTS: usize = 50;

/// Tracks the barriers of all channels of one subtask, at least once; see the [module](super) for the rules.
///
/// A channel is never blocked, so records behind a barrier may get into the cut, and count again after a restore; none is missing
/// from it, because the cut waits for the barriers of all channels. Several checkpoints may be under way.
///
/// Nothing of it belongs to a snapshot: a restored subtask starts with a new one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tracker {
    channels: Vec<Progress>,
    open_channels: u32,
    /// The highest id that was cut, subsumed or cancelled; 0 before the first.
    resolved: CheckpointId,
    /// The checkpoints of which a marker came, all above `resolved`. The oldest is never given up: it would be resolved.
    under_way: BTreeMap<CheckpointId, UnderWay>,
    /// Above `resolved`, and no marker of them came.
    heard: Heard,
    /// The id of the last effect, if that was a cut that has not been reported as failed.
    last_cut: Option<CheckpointId>,
}

/// How far one channel has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Progress {
    /// The newest marker or cancel marker that reached its head. What it did not bring up to there it will never bring.
    reached: CheckpointId,
    ended: bool,
}

/// A checkpoint whose first marker came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct UnderWay {
    triggered: Moment,
    heard: Moment,
    first_marker: Moment,
    /// How many open channels have not come so far.
    owing: u32,
    /// Why it will not be cut. Its resolution waits for those of all older ones.
    given_up: Option<CancelReason>,
}

impl Tracker {
    /// A tracker of a subtask with the channels 0 to `channels`, exclusive; 0 for a source.
    #[must_use]
    pub fn new(channels: u32) -> Tracker {
        Tracker {
            channels: vec![Progress::default(); channels as usize],
            open_channels: channels,
            resolved: CheckpointId(0),
            under_way: BTreeMap::new(),
            heard: Heard::default(),
            last_cut: None,
        }
    }

    /// The checkpoints that wait for the markers of some channels, oldest first.
    pub fn pending(&self) -> impl Iterator<Item = CheckpointId> {
        self.under_way.iter().filter(|(_, under_way)| under_way.given_up.is_none()).map(|(&checkpoint, _)| checkpoint)
    }

    /// The highest id that was cut, subsumed or cancelled; 0 before the first. Nothing at or below it has an effect.
    #[must_use]
    pub fn resolved(&self) -> CheckpointId {
        self.resolved
    }

    /// How many channels have not ended.
    #[must_use]
    pub fn open_channels(&self) -> u32 {
        self.open_channels
    }

    fn marker(&mut self, now: Moment, channel: Channel, marker: (CheckpointId, Moment), effects: &mut Vec<Effect>) {
        let (checkpoint, triggered) = marker;
        if !self.reach(now, channel, checkpoint, triggered) {
            return;
        }
        self.cut_if_delivered(now, checkpoint, effects);
        self.settle(effects);
        if self.under_way.len() > TRACKED_CHECKPOINTS {
            if let Some(mut oldest) = self.under_way.first_entry() {
                oldest.get_mut().given_up = Some(CancelReason::Subsumed);
            }
            self.settle(effects);
        }
    }

    fn cancel_marker(&mut self, now: Moment, channel: Channel, checkpoint: CheckpointId, effects: &mut Vec<Effect>) {
        if self.reach(now, channel, checkpoint, now) {
            self.give_up(checkpoint, CancelReason::CancelledUpstream);
            self.settle(effects);
        }
    }

    fn announcement(&mut self, now: Moment, checkpoint: CheckpointId) {
        if !self.is_settled(checkpoint) && !self.under_way.contains_key(&checkpoint) {
            self.heard.note(now, checkpoint, |_| {});
        }
    }

    fn channel_ended(&mut self, now: Moment, channel: Channel, effects: &mut Vec<Effect>) {
        let Some(progress) = self.open_channel(channel) else { return };
        progress.ended = true;
        let reached = progress.reached;
        self.open_channels -= 1;
        for under_way in self.under_way.range_mut(reached.next()..).map(|(_, under_way)| under_way) {
            under_way.owing -= 1;
        }
        // All that are complete now have the same cut, so one is enough, and the newest is worth most.
        let complete = |under_way: &UnderWay| under_way.owing == 0 && under_way.given_up.is_none();
        let newest = self.under_way.iter().rev().find(|(_, under_way)| complete(under_way));
        if let Some((&checkpoint, _)) = newest {
            self.cut_if_delivered(now, checkpoint, effects);
        }
        self.settle(effects);
        if self.open_channels == 0 {
            while let Some((checkpoint, triggered)) = self.heard.first_triggered() {
                self.cut_directly(now, checkpoint, triggered, effects);
            }
        }
    }

    fn trigger(&mut self, now: Moment, checkpoint: CheckpointId, triggered: Moment, effects: &mut Vec<Effect>) {
        if self.is_settled(checkpoint) || self.under_way.contains_key(&checkpoint) {
            return;
        }
        if self.open_channels == 0 {
            self.cut_directly(now, checkpoint, triggered, effects);
        } else {
            // What the ended producers sent before is still in the channels, and it belongs into this cut.
            self.heard.note(now, checkpoint, |notice| notice.triggered = Some(triggered));
        }
    }

    fn abort_notice(&mut self, now: Moment, checkpoint: CheckpointId, effects: &mut Vec<Effect>) {
        if self.under_way.contains_key(&checkpoint) {
            self.give_up(checkpoint, CancelReason::AbortedByCoordinator);
            self.settle(effects);
        } else if !self.is_settled(checkpoint) {
            self.heard.note(now, checkpoint, |notice| notice.aborted = true);
        }
    }

    fn cut_failed(&mut self, checkpoint: CheckpointId, effects: &mut Vec<Effect>) {
        if self.last_cut == Some(checkpoint) {
            self.last_cut = None;
            effects.push(Effect::ForwardCancel { checkpoint, reason: CancelReason::CutFailed });
        }
    }

    /// Notes that `channel` has come to `checkpoint`. False if that is late, repeated, or behind its end.
    fn reach(&mut self, now: Moment, channel: Channel, checkpoint: CheckpointId, triggered: Moment) -> bool {
        if checkpoint <= self.resolved {
            return false;
        }
        let Some(progress) = self.open_channel(channel).filter(|progress| progress.reached < checkpoint) else {
            return false;
        };
        let before = std::mem::replace(&mut progress.reached, checkpoint);
        // Channels are ordered: what lies between will not come on this one any more.
        for (_, passed) in self.under_way.range_mut(before.next()..checkpoint) {
            passed.owing -= 1;
            passed.given_up.get_or_insert(CancelReason::Subsumed);
        }
        if let Some(under_way) = self.under_way.get_mut(&checkpoint) {
            under_way.owing -= 1;
            return true;
        }
        let notice = self.heard.take(checkpoint);
        let aborted = notice.is_some_and(|notice| notice.aborted).then_some(CancelReason::AbortedByCoordinator);
        let passed = self.channels.iter().any(|channel| channel.reached > checkpoint).then_some(CancelReason::Subsumed);
        let under_way = UnderWay {
            triggered,
            heard: notice.map_or(now, |notice| notice.at),
            first_marker: now,
            owing: self.owing(checkpoint),
            given_up: aborted.or(passed),
        };
        self.under_way.insert(checkpoint, under_way);
        true
    }

    fn give_up(&mut self, checkpoint: CheckpointId, reason: CancelReason) {
        if let Some(under_way) = self.under_way.get_mut(&checkpoint) {
            under_way.given_up.get_or_insert(reason);
        }
    }

    fn cut_if_delivered(&mut self, now: Moment, checkpoint: CheckpointId, effects: &mut Vec<Effect>) {
        let Some(&under_way) = self.under_way.get(&checkpoint) else { return };
        if under_way.owing == 0 && under_way.given_up.is_none() {
            self.resolve_below(checkpoint, effects);
            self.under_way.remove(&checkpoint);
            self.cut(now, checkpoint, under_way, effects);
        }
    }

    /// Cuts without any marker: no channel is open, so nothing is under way.
    fn cut_directly(&mut self, now: Moment, checkpoint: CheckpointId, triggered: Moment, effects: &mut Vec<Effect>) {
        self.resolve_below(checkpoint, effects);
        let notice = self.heard.take(checkpoint);
        if notice.is_some_and(|notice| notice.aborted) {
            self.cancel(checkpoint, CancelReason::AbortedByCoordinator, effects);
            return;
        }
        let heard = notice.map_or(now, |notice| notice.at);
        let under_way = UnderWay { triggered, heard, first_marker: now, owing: 0, given_up: None };
        self.cut(now, checkpoint, under_way, effects);
    }

    fn cut(&mut self, now: Moment, checkpoint: CheckpointId, under_way: UnderWay, effects: &mut Vec<Effect>) {
        let UnderWay { triggered, heard, first_marker, .. } = under_way;
        let timing = Timing {
            notice_delay: heard.since(triggered),
            start_delay: first_marker.since(triggered),
            alignment: now.since(first_marker),
        };
        effects.push(Effect::Cut { checkpoint, timing });
        self.resolved = checkpoint;
        self.last_cut = Some(checkpoint);
    }

    fn cancel(&mut self, checkpoint: CheckpointId, reason: CancelReason, effects: &mut Vec<Effect>) {
        effects.push(Effect::ForwardCancel { checkpoint, reason });
        self.resolved = checkpoint;
        self.last_cut = None;
    }

    /// Resolves what was given up and is not newer than anything alive, so that resolutions ascend on every output.
    fn settle(&mut self, effects: &mut Vec<Effect>) {
        while let Some((&oldest, &UnderWay { given_up: Some(reason), .. })) = self.under_way.first_key_value() {
            self.resolve_below(oldest, effects);
            self.under_way.remove(&oldest);
            self.cancel(oldest, reason, effects);
        }
    }

    /// Gives up all that is older than `checkpoint`: what is only heard of has been passed by a marker, and what is under way cannot be
    /// complete before it, or has the same cut.
    fn resolve_below(&mut self, checkpoint: CheckpointId, effects: &mut Vec<Effect>) {
        loop {
            let under_way = self.under_way.first_key_value().map(|(&id, _)| id).filter(|id| *id < checkpoint);
            let heard = self.heard.first().filter(|id| *id < checkpoint);
            let Some(oldest) = under_way.into_iter().chain(heard).min() else { return };
            let aborted = self.heard.take(oldest).is_some_and(|notice| notice.aborted);
            let noted = aborted.then_some(CancelReason::AbortedByCoordinator);
            let given_up = self.under_way.remove(&oldest).and_then(|under_way| under_way.given_up);
            self.cancel(oldest, given_up.or(noted).unwrap_or(CancelReason::Subsumed), effects);
        }
    }

    /// Whether nothing may come of `checkpoint` any more: it is resolved, or a channel has passed it without its marker.
    fn is_settled(&self, checkpoint: CheckpointId) -> bool {
        let passed = || self.channels.iter().any(|channel| channel.reached >= checkpoint);
        checkpoint <= self.resolved || !self.under_way.contains_key(&checkpoint) && passed()
    }

    fn open_channel(&mut self, channel: Channel) -> Option<&mut Progress> {
        debug_assert!(channel.position() < self.channels.len(), "channel {channel} of {}", self.channels.len());
        self.channels.get_mut(channel.position()).filter(|progress| !progress.ended)
    }

    /// How many open channels have not come to `checkpoint`.
    fn owing(&self, checkpoint: CheckpointId) -> u32 {
        let owing = self.channels.iter().filter(|channel| !channel.ended && channel.reached < checkpoint);
        u32::try_from(owing.count()).expect("built from a u32")
    }
}

impl Machine for Tracker {
    type Event = Event;
    type Effect = Effect;

    fn handle(&mut self, now: Moment, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Marker { channel, checkpoint, triggered } => {
                self.marker(now, channel, (checkpoint, triggered), effects);
            }
            Event::Announcement { checkpoint } => self.announcement(now, checkpoint),
            // Where no channel waits there is nothing to overtake.
            Event::Overtakes { .. } | Event::Deadline => {}
            Event::CancelMarker { channel, checkpoint } => self.cancel_marker(now, channel, checkpoint, effects),
            Event::ChannelEnded { channel } => self.channel_ended(now, channel, effects),
            Event::Trigger { checkpoint, triggered } => self.trigger(now, checkpoint, triggered, effects),
            Event::AbortNotice { checkpoint } => self.abort_notice(now, checkpoint, effects),
            Event::CutFailed { checkpoint } => self.cut_failed(checkpoint, effects),
        }
    }

    /// None: a checkpoint that takes too long is given up by the coordinator.
    fn next_deadline(&self) -> Option<Moment> {
        None
    }

    fn check(&self) -> Result<(), Violation> {
        let ended = self.channels.iter().filter(|channel| channel.ended).count();
        let counted = (0, u32::try_from(ended).unwrap_or(u32::MAX));
        let all = u32::try_from(self.channels.len()).unwrap_or(u32::MAX);
        invariant::channel_counts_agree((0, all - self.open_channels), counted)?;
        for (&checkpoint, under_way) in &self.under_way {
            invariant::tracked_is_owed(
                checkpoint,
                under_way.owing,
                self.owing(checkpoint),
                under_way.given_up.is_some(),
            )?;
        }
        let oldest = self.under_way.first_key_value();
        let oldest = oldest.map(|(&checkpoint, under_way)| (checkpoint, under_way.given_up.is_some()));
        invariant::oldest_tracked_is_alive(oldest, self.resolved)?;
        invariant::tracked_are_few(self.under_way.len())?;
        let (remembered, oldest) = self.heard.extent();
        invariant::memory_is_bounded(remembered, oldest, self.resolved)
    }
}
