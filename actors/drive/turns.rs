//! What a subtask takes up strictly in the order of its mailbox: the triggers of checkpoints, and the messages for its head.
//!
//! A trigger may have to wait for what was in flight when the restored checkpoint was taken. What was assigned before the enumerators' snapshot then has to stay in front
//! of its cut, and what was assigned after that behind it, also when another trigger is called off in between: so there is one queue of both.

use std::collections::VecDeque;

use crate::drive::control::Control;
use crate::drive::edge::Barrier;
use crate::ids::CheckpointId;

/// One of them.
#[derive(Debug)]
pub(super) enum Turn {
    /// Cut.
    Trigger(Barrier),
    /// A message for the head.
    Head(Control),
}

/// Those that have come and are not taken up, in their order.
#[derive(Debug, Default)]
pub(super) struct Turns(VecDeque<Turn>);

impl Turns {
    /// Puts it behind all others.
    pub(super) fn push(&mut self, turn: Turn) {
        self.0.push_back(turn);
    }

    /// Takes the first one, unless it is a trigger that `waits`: then everything behind it waits too.
    pub(super) fn next(&mut self, waits: impl FnOnce(Barrier) -> bool) -> Option<Turn> {
        match self.0.front() {
            Some(Turn::Trigger(barrier)) if waits(*barrier) => None,
            _ => self.0.pop_front(),
        }
    }

    /// Forgets the trigger of a checkpoint, and nothing else: what came around it keeps its place before and behind the other triggers.
    pub(super) fn call_off(&mut self, checkpoint: CheckpointId) {
        self.0.retain(|turn| !matches!(turn, Turn::Trigger(barrier) if barrier.checkpoint == checkpoint));
    }
}
