//! The records of the random graphs. Each knows where it comes from and which way it went, and what is done with it follows from that alone: so everything that
//! must come out can be told without running the job.

use std::fmt;

use alluvium::record::Record;
use serde::{Deserialize, Serialize};

/// What a record is told by: no other one of the whole job has the same, unless it was broadcast or taken twice into a union.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Id {
    /// The node of its source.
    pub(crate) source: u16,
    /// Its number there.
    pub(crate) index: u32,
    /// The nodes that it went through, apart from those that only choose.
    pub(crate) trail: Vec<Step>,
}

/// A record goes through a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Step {
    pub(crate) node: u16,
    /// Which of several records it became there: the number of the copy, of the side, of the subtask.
    pub(crate) detail: u16,
    /// For a node with keys: the how many-th time it is that the state of its key meets this very record. Else zero.
    pub(crate) times: u16,
}

/// What is decided about a record. Each has its own chance.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Decision {
    Keep = 1,
    Copies,
    Side,
    Key,
    Subtask,
}

pub(crate) fn mix(left: u64, right: u64) -> u64 {
    let mut mixed = left.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ right.wrapping_add(0x1234_5678_9abc_def1);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl Id {
    pub(crate) fn new(source: u16, index: u32) -> Id {
        Id { source, index, trail: Vec::new() }
    }

    pub(crate) fn then(&self, node: u16, detail: u16, times: u16) -> Id {
        let mut id = self.clone();
        id.trail.push(Step { node, detail, times });
        id
    }

    /// A number below `limit` that node and record decide. How often a state has met the record has no say: then a repeated one goes the same way.
    pub(crate) fn decide(&self, node: u16, decision: Decision, limit: u64) -> u64 {
        let start = mix(u64::from(node) << 8 | decision as u64, u64::from(self.source) << 32 | u64::from(self.index));
        let steps = self.trail.iter().map(|step| u64::from(step.node) << 16 | u64::from(step.detail));
        steps.fold(start, mix) % limit.max(1)
    }

    /// The same, however often a state has met it.
    pub(crate) fn without_times(&self) -> Id {
        let mut id = self.clone();
        id.trail.iter_mut().for_each(|step| step.times = 0);
        id
    }

    /// All of it as one number.
    pub(crate) fn hash(&self) -> u64 {
        let steps = self.trail.iter().map(|step| u64::from(step.times) << 32 | u64::from(step.detail));
        steps.fold(self.decide(0, Decision::Key, u64::MAX), mix)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "n{}#{}", self.source, self.index)?;
        for Step { node, detail, times } in &self.trail {
            write!(formatter, " > n{node}")?;
            match detail {
                0 => {}
                other if *other >= SIDE => write!(formatter, ".side{}", other - SIDE)?,
                copy => write!(formatter, ".{copy}")?,
            }
            if *times > 1 {
                write!(formatter, " (for the {times}. time)")?;
            }
        }
        Ok(())
    }
}

/// The detail of what comes from the right, or leaves by the side, begins here.
pub(crate) const SIDE: u16 = 0x100;

/// What a node with keys says of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// The length of the trail at that node, itself included.
    pub(crate) at: u16,
    /// The how many-th record of its key it was.
    pub(crate) sequence: u64,
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Item {
    pub(crate) id: Id,
    pub(crate) marks: Vec<Mark>,
    /// For `reduce`: how many records are combined in this one.
    pub(crate) combined: u64,
}

impl Item {
    pub(crate) fn new(source: u16, index: u32) -> Item {
        Item { id: Id::new(source, index), marks: Vec::new(), combined: 1 }
    }

    /// It goes through a node without keys.
    pub(crate) fn step(mut self, node: u16, detail: u16) -> Item {
        self.id.trail.push(Step { node, detail, times: 0 });
        self
    }

    /// It goes through a node with keys, which has met it so often and is at this number.
    pub(crate) fn mark(mut self, node: u16, detail: u16, times: u16, sequence: u64) -> Item {
        self.id.trail.push(Step { node, detail, times });
        self.marks.push(Mark { at: self.id.trail.len() as u16, sequence });
        self
    }
}

/// A record of another type, so that the types of streams differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    /// Must fit the item.
    check: u64,
    item: Item,
}

/// A type of records: an [`Item`], or what wraps one.
pub(crate) trait Carries: Record + Sync {
    fn of(item: Item) -> Self;
    fn into_item(self) -> Item;
    fn id(&self) -> &Id;
}

impl Carries for Item {
    fn of(item: Item) -> Item {
        item
    }

    fn into_item(self) -> Item {
        self
    }

    fn id(&self) -> &Id {
        &self.id
    }
}

impl Carries for Note {
    fn of(item: Item) -> Note {
        Note { check: item.id.hash(), item }
    }

    fn into_item(self) -> Item {
        assert_eq!(self.check, self.item.id.hash(), "a note of {} is damaged", self.item.id);
        self.item
    }

    fn id(&self) -> &Id {
        &self.item.id
    }
}
