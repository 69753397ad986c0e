//! The machine of one subtask's alignment.

use super::channels::Channels;
use super::heard::{Heard, Overtaking};
use super::{CancelReason, Channel, Effect, Event, Timing};
use crate::ids::{CheckpointId, Moment};
use crate::protocol::invariant;
use crate::protocol::machine::{Machine, Violation};
use crate::protocol::mutation::{Mutation, is_active};

/// Aligns the barriers of all channels of one subtask; see the [module](super) for the rules.
///
/// Nothing of it belongs to a snapshot: a restored subtask starts with a new one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Aligner {
    channels: Channels,
    blocking: bool,
    /// The highest id that was cut, subsumed or cancelled; 0 before the first.
    resolved: CheckpointId,
    /// The checkpoint whose markers are being collected. At least one channel has delivered and at least one owes.
    pending: Option<Pending>,
    /// Above `resolved` and above the pending id.
    heard: Heard,
    /// The id of the last effect, if that was a cut that has not been reported as failed.
    last_cut: Option<CheckpointId>,
}

/// The checkpoint that is being aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Pending {
    checkpoint: CheckpointId,
    triggered: Moment,
    heard: Moment,
    first_marker: Moment,
    /// From when on its barrier overtakes.
    overtakes: Option<Moment>,
}

impl Aligner {
    /// An aligner of a subtask with the channels 0 to `channels`, exclusive; 0 for a source.
    #[must_use]
    pub fn new(channels: u32) -> Aligner {
        Aligner {
            channels: Channels::new(channels),
            blocking: true,
            resolved: CheckpointId(0),
            pending: None,
            heard: Heard::default(),
            last_cut: None,
        }
    }

    /// The same, with channels that no barrier may overtake: the cut waits for their markers, however late they are.
    #[must_use]
    pub fn keeping_order(mut self, channels: impl IntoIterator<Item = Channel>) -> Aligner {
        self.channels.keep_order(channels);
        self
    }

    /// An aligner that cuts as always but never blocks a channel, so that records behind a barrier slip into the cut.
    ///
    /// It exists to prove that the tests catch a missing alignment, and for nothing else: a job that runs on it repeats
    /// records after a restore.
    #[doc(hidden)]
    #[must_use]
    pub fn without_blocking(channels: u32) -> Aligner {
        Aligner { blocking: false, ..Aligner::new(channels) }
    }

    /// Whether nothing may be taken from `channel` now.
    #[must_use]
    pub fn is_blocked(&self, channel: Channel) -> bool {
        self.blocking && self.channels.has_delivered(channel)
    }

    /// The checkpoint that waits for the markers of some channels.
    #[must_use]
    pub fn pending(&self) -> Option<CheckpointId> {
        self.pending.map(|pending| pending.checkpoint)
    }

    /// The highest id that was cut, subsumed or cancelled; 0 before the first. Nothing at or below it has an effect.
    #[must_use]
    pub fn resolved(&self) -> CheckpointId {
        self.resolved
    }

    /// How many channels have not ended.
    #[must_use]
    pub fn open_channels(&self) -> u32 {
        self.channels.open()
    }

    fn marker(&mut self, now: Moment, channel: Channel, marker: (CheckpointId, Moment), effects: &mut Vec<Effect>) {
        let (checkpoint, triggered) = marker;
        if self.is_settled(checkpoint) || !self.channels.is_open(channel) || self.has_delivered(channel, checkpoint) {
            return;
        }
        let pending = match self.pending {
            Some(pending) if pending.checkpoint == checkpoint => pending,
            Some(_) | None => {
                self.pass_over(checkpoint, effects);
                let notice = self.heard.take(checkpoint);
                if notice.is_some_and(|notice| notice.aborted) {
                    self.cancel(checkpoint, CancelReason::AbortedByCoordinator, effects);
                    return;
                }
                Pending {
                    checkpoint,
                    triggered,
                    heard: notice.map_or(now, |notice| notice.at),
                    first_marker: now,
                    overtakes: notice.and_then(|notice| notice.overtakes).map(|overtakes| overtakes.from),
                }
            }
        };
        // The last channel, and so a single one, is never blocked: its marker is the cut.
        if self.channels.owing() == 1 {
            self.cut(now, pending, effects);
        } else {
            self.pending = Some(pending);
            if is_active(Mutation::UnblockEarly) {
                let delivered =
                    (0..self.channels.open()).map(Channel).filter(|other| self.channels.has_delivered(*other));
                effects.extend(delivered.map(Effect::Unblock));
            }
            self.channels.deliver(channel);
            if self.blocking {
                effects.push(Effect::Block(channel));
            }
        }
    }

    fn announcement(&mut self, now: Moment, checkpoint: CheckpointId) {
        if !self.is_settled(checkpoint) && !self.is_pending(checkpoint) {
            self.heard.note(now, checkpoint, |_| {});
        }
    }

    fn cancel_marker(&mut self, channel: Channel, checkpoint: CheckpointId, effects: &mut Vec<Effect>) {
        if self.is_settled(checkpoint) || !self.channels.is_open(channel) {
            return;
        }
        if !self.is_pending(checkpoint) {
            self.pass_over(checkpoint, effects);
        }
        let aborted = self.heard.take(checkpoint).is_some_and(|notice| notice.aborted);
        let reason = if aborted { CancelReason::AbortedByCoordinator } else { CancelReason::CancelledUpstream };
        self.cancel(checkpoint, reason, effects);
    }

    fn channel_ended(&mut self, now: Moment, channel: Channel, effects: &mut Vec<Effect>) {
        if !self.channels.is_open(channel) {
            return;
        }
        if self.channels.end(channel) && self.blocking {
            effects.push(Effect::Unblock(channel));
        }
        if let Some(pending) = self.pending
            && self.channels.owing() == 0
        {
            self.cut(now, pending, effects);
        }
        if self.channels.open() == 0 {
            while let Some((checkpoint, triggered)) = self.heard.first_triggered() {
                self.cut_directly(now, checkpoint, triggered, effects);
            }
        }
    }

    fn trigger(&mut self, now: Moment, checkpoint: CheckpointId, triggered: Moment, effects: &mut Vec<Effect>) {
        if self.is_settled(checkpoint) || self.is_pending(checkpoint) {
            return;
        }
        if self.channels.open() == 0 {
            self.cut_directly(now, checkpoint, triggered, effects);
        } else {
            // What the ended producers sent before is still in the channels, and it belongs into this cut.
            self.heard.note(now, checkpoint, |notice| notice.triggered = Some(triggered));
        }
    }

    fn abort_notice(&mut self, now: Moment, checkpoint: CheckpointId, effects: &mut Vec<Effect>) {
        if self.is_pending(checkpoint) {
            self.cancel(checkpoint, CancelReason::AbortedByCoordinator, effects);
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

    /// Cuts without any marker: no channel is open.
    fn cut_directly(&mut self, now: Moment, checkpoint: CheckpointId, triggered: Moment, effects: &mut Vec<Effect>) {
        self.pass_over(checkpoint, effects);
        let notice = self.heard.take(checkpoint);
        if notice.is_some_and(|notice| notice.aborted) {
            self.cancel(checkpoint, CancelReason::AbortedByCoordinator, effects);
            return;
        }
        let heard = notice.map_or(now, |notice| notice.at);
        self.cut(now, Pending { checkpoint, triggered, heard, first_marker: now, overtakes: None }, effects);
    }

    fn overtakes(&mut self, now: Moment, checkpoint: CheckpointId, overtaking: Overtaking) {
        if let Some(pending) = self.pending.as_mut().filter(|pending| pending.checkpoint == checkpoint) {
            pending.overtakes = Some(overtaking.from);
        } else if !self.is_settled(checkpoint) {
            self.heard.note(now, checkpoint, |notice| notice.overtakes = Some(overtaking));
        }
    }

    /// Cuts if the time of an overtaking barrier has come: the newest one, which passes over all others.
    fn overtake(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        if self.channels.may_be_overtaken_by_message()
            && let Some((checkpoint, Overtaking { triggered, .. })) = self.heard.newest_overtaking(now)
        {
            self.pass_over(checkpoint, effects);
            let heard = self.heard.take(checkpoint).map_or(now, |notice| notice.at);
            let pending = Pending { checkpoint, triggered, heard, first_marker: now, overtakes: None };
            self.cut_overtaking(now, pending, effects);
        } else if let Some(pending) = self.pending
            && pending.overtakes.is_some_and(|from| from <= now)
            && self.channels.may_be_overtaken()
        {
            self.cut_overtaking(now, pending, effects);
        }
    }

    /// Cuts although some channels owe the marker: what comes in front of it is captured.
    fn cut_overtaking(&mut self, now: Moment, pending: Pending, effects: &mut Vec<Effect>) {
        effects.extend(self.channels.owed().map(Effect::Capture));
        self.cut(now, pending, effects);
    }

    fn cut(&mut self, now: Moment, pending: Pending, effects: &mut Vec<Effect>) {
        let Pending { checkpoint, triggered, heard, first_marker, overtakes: _ } = pending;
        let timing = Timing {
            notice_delay: heard.since(triggered),
            start_delay: first_marker.since(triggered),
            alignment: now.since(first_marker),
        };
        effects.push(Effect::Cut { checkpoint, timing });
        self.resolve(checkpoint, effects);
        self.last_cut = Some(checkpoint);
    }

    fn cancel(&mut self, checkpoint: CheckpointId, reason: CancelReason, effects: &mut Vec<Effect>) {
        effects.push(Effect::ForwardCancel { checkpoint, reason });
        let told = effects.len();
        self.resolve(checkpoint, effects);
        if is_active(Mutation::AbortLeavesBlocked) {
            effects.truncate(told);
        }
    }

    /// Ends `checkpoint`, which is the pending one or newer than everything before, and lets all channels go on.
    fn resolve(&mut self, checkpoint: CheckpointId, effects: &mut Vec<Effect>) {
        self.resolved = checkpoint;
        self.pending = None;
        self.last_cut = None;
        let blocking = self.blocking;
        self.channels.release(|channel| {
            if blocking {
                effects.push(Effect::Unblock(channel));
            }
        });
    }

    /// Gives up the pending checkpoint and all older ones that were heard of: `newer` has reached a head.
    fn pass_over(&mut self, newer: CheckpointId, effects: &mut Vec<Effect>) {
        if let Some(pending) = self.pending {
            self.cancel(pending.checkpoint, CancelReason::Subsumed, effects);
        }
        while let Some((checkpoint, notice)) = self.heard.take_below(newer) {
            let reason = if notice.aborted { CancelReason::AbortedByCoordinator } else { CancelReason::Subsumed };
            self.cancel(checkpoint, reason, effects);
        }
    }

    /// Whether nothing may come of `checkpoint` any more.
    fn is_settled(&self, checkpoint: CheckpointId) -> bool {
        checkpoint <= self.resolved || self.pending.is_some_and(|pending| checkpoint < pending.checkpoint)
    }

    fn is_pending(&self, checkpoint: CheckpointId) -> bool {
        self.pending() == Some(checkpoint)
    }

    fn has_delivered(&self, channel: Channel, checkpoint: CheckpointId) -> bool {
        self.is_pending(checkpoint) && self.channels.has_delivered(channel)
    }
}

impl Machine for Aligner {
    type Event = Event;
    type Effect = Effect;

    fn handle(&mut self, now: Moment, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Marker { channel, checkpoint, triggered } => {
                self.marker(now, channel, (checkpoint, triggered), effects);
            }
            Event::Announcement { checkpoint } => self.announcement(now, checkpoint),
            Event::Overtakes { checkpoint, triggered, from } => {
                self.overtakes(now, checkpoint, Overtaking { from, triggered });
            }
            Event::Deadline => {}
            Event::CancelMarker { channel, checkpoint } => self.cancel_marker(channel, checkpoint, effects),
            Event::ChannelEnded { channel } => self.channel_ended(now, channel, effects),
            Event::Trigger { checkpoint, triggered } => self.trigger(now, checkpoint, triggered, effects),
            Event::AbortNotice { checkpoint } => self.abort_notice(now, checkpoint, effects),
            Event::CutFailed { checkpoint } => self.cut_failed(checkpoint, effects),
        }
        self.overtake(now, effects);
    }

    /// The first moment at which a barrier overtakes, if nothing but time is in its way. None where all are aligned: a checkpoint that takes
    /// too long is then given up by the coordinator.
    fn next_deadline(&self) -> Option<Moment> {
        let pending = self.pending.and_then(|pending| pending.overtakes).filter(|_| self.channels.may_be_overtaken());
        let heard = self.heard.next_overtaking().filter(|_| self.channels.may_be_overtaken_by_message());
        pending.into_iter().chain(heard).min()
    }

    fn check(&self) -> Result<(), Violation> {
        let (delivered, _) = self.channels.counts();
        let (remembered, oldest) = self.heard.extent();
        invariant::channel_counts_agree(self.channels.counts(), self.channels.recount())?;
        invariant::delivered_has_a_cause(self.pending(), delivered)?;
        invariant::pending_is_owed(self.pending(), self.channels.owing())?;
        invariant::pending_is_newest(self.pending(), self.resolved)?;
        invariant::memory_is_bounded(remembered, oldest, self.pending().unwrap_or(self.resolved))
    }
}
