//! The channels of one subtask during an alignment: which have delivered, which have ended, how many still owe.

use super::Channel;

/// What one channel has done for the pending checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Standing {
    /// Owes the marker of the pending checkpoint, if one is pending.
    Open,
    /// Delivered it, and waits for the others.
    Delivered,
    /// Will never deliver anything again.
    Ended,
}

/// All channels of a subtask. The counts are kept beside the list, so that a marker costs no scan.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Channels {
    standing: Vec<Standing>,
    /// Those that no barrier may overtake, in ascending order.
    ordered: Vec<Channel>,
    delivered: u32,
    ended: u32,
}

impl Channels {
    pub(super) fn new(channels: u32) -> Channels {
        Channels { standing: vec![Standing::Open; channels as usize], ordered: Vec::new(), delivered: 0, ended: 0 }
    }

    /// Lets no barrier overtake these channels.
    pub(super) fn keep_order(&mut self, channels: impl IntoIterator<Item = Channel>) {
        self.ordered.extend(channels);
        self.ordered.sort_unstable();
        self.ordered.dedup();
    }

    /// Whether no channel that may not be overtaken owes the marker.
    pub(super) fn may_be_overtaken(&self) -> bool {
        self.ordered.iter().all(|channel| self.standing.get(channel.position()) != Some(&Standing::Open))
    }

    /// Whether no channel that may not be overtaken is open, so that a barrier that nobody delivered may overtake.
    pub(super) fn may_be_overtaken_by_message(&self) -> bool {
        self.ordered.iter().all(|channel| self.standing.get(channel.position()) == Some(&Standing::Ended))
    }

    /// The channels that owe the marker, in ascending order.
    pub(super) fn owed(&self) -> impl Iterator<Item = Channel> + '_ {
        let open = |(_, standing): &(u32, &Standing)| **standing == Standing::Open;
        (0..).zip(&self.standing).filter(open).map(|(number, _)| Channel(number))
    }

    /// How many channels have not ended.
    pub(super) fn open(&self) -> u32 {
        self.all() - self.ended
    }

    /// How many channels still owe the marker.
    pub(super) fn owing(&self) -> u32 {
        self.all() - self.ended - self.delivered
    }

    /// Whether the channel can deliver a marker: it exists and has not ended.
    pub(super) fn is_open(&self, channel: Channel) -> bool {
        debug_assert!(channel.position() < self.standing.len(), "channel {channel} of {}", self.standing.len());
        self.standing.get(channel.position()).is_some_and(|&standing| standing != Standing::Ended)
    }

    pub(super) fn has_delivered(&self, channel: Channel) -> bool {
        self.standing.get(channel.position()) == Some(&Standing::Delivered)
    }

    /// Notes the marker of an open channel that owed it.
    pub(super) fn deliver(&mut self, channel: Channel) {
        self.standing[channel.position()] = Standing::Delivered;
        self.delivered += 1;
    }

    /// Notes the end of an open channel. Says whether it had delivered.
    pub(super) fn end(&mut self, channel: Channel) -> bool {
        let before = std::mem::replace(&mut self.standing[channel.position()], Standing::Ended);
        self.ended += 1;
        let delivered = before == Standing::Delivered;
        self.delivered -= u32::from(delivered);
        delivered
    }

    /// Forgets all deliveries, and names the channels that had delivered, in ascending order.
    pub(super) fn release(&mut self, mut each: impl FnMut(Channel)) {
        if self.delivered == 0 {
            return;
        }
        for (number, standing) in (0..).zip(&mut self.standing) {
            if *standing == Standing::Delivered {
                *standing = Standing::Open;
                each(Channel(number));
            }
        }
        self.delivered = 0;
    }

    /// The counts of delivered and ended channels as the list itself says.
    pub(super) fn recount(&self) -> (u32, u32) {
        self.standing.iter().fold((0, 0), |(delivered, ended), standing| match standing {
            Standing::Open => (delivered, ended),
            Standing::Delivered => (delivered + 1, ended),
            Standing::Ended => (delivered, ended + 1),
        })
    }

    /// The counts of delivered and ended channels as they are kept.
    pub(super) fn counts(&self) -> (u32, u32) {
        (self.delivered, self.ended)
    }

    fn all(&self) -> u32 {
        u32::try_from(self.standing.len()).expect("built from a u32")
    }
}
