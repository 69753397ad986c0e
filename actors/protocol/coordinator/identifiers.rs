//! Checkpoint ids: strictly ascending, and never one that is not reserved.

use crate::ids::{CheckpointId, Token};

/// Hands out ids from reserved blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Identifiers {
    /// The next id.
    next: CheckpointId,
    /// The end of what is reserved, exclusive.
    reserved_until: CheckpointId,
    /// The reservation under way, and the end it would bring.
    asking: Option<(Token, CheckpointId)>,
}

impl Identifiers {
    /// Begins a run. Ids never go back, whatever the run says.
    pub(super) fn start(&mut self, first: CheckpointId, reserved_until: CheckpointId) {
        self.next = self.next.max(first).max(CheckpointId(1));
        self.reserved_until = reserved_until;
    }

    /// The next id, unless it has to be reserved first.
    pub(super) fn take(&mut self) -> Option<CheckpointId> {
        if self.next >= self.reserved_until {
            return None;
        }
        let id = self.next;
        self.next = id.next();
        Some(id)
    }

    /// The end of the block to ask for, if less than a quarter of a block is left and none is asked for.
    pub(super) fn wanted(&self, block: u64) -> Option<CheckpointId> {
        let left = self.reserved_until.0.saturating_sub(self.next.0);
        (self.asking.is_none() && left <= block / 4)
            .then(|| CheckpointId(self.reserved_until.0.max(self.next.0).saturating_add(block)))
    }

    pub(super) fn asked(&mut self, token: Token, up_to: CheckpointId) {
        self.asking = Some((token, up_to));
    }

    /// Takes an answer; says whether it was waited for.
    pub(super) fn answered(&mut self, token: Token, reserved: bool) -> bool {
        let Some((_, up_to)) = self.asking.take_if(|(asked, _)| *asked == token) else { return false };
        if reserved {
            self.reserved_until = self.reserved_until.max(up_to);
        }
        true
    }

    pub(super) fn is_asking(&self) -> bool {
        self.asking.is_some()
    }

    /// Whether none is left to hand out.
    pub(super) fn is_exhausted(&self) -> bool {
        self.next >= self.reserved_until
    }

    /// The id that comes next: above every id handed out.
    pub(super) fn next(&self) -> CheckpointId {
        self.next
    }
}
