//! The model behind the simulated disk: files, names, what of both is durable, and what a crash leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use alluvium_actors::ports::files::{FileError, FileOperation};

use super::{DiskFault, missing, taken};
use crate::testing::random::Random;

/// A unit that is torn as a whole.
const SECTOR: usize = 512;

#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    pub(super) content: Vec<u8>,
    /// Content up to here was synced.
    pub(super) durable: usize,
    /// Ranges whose sync failed: they read well until a crash, and are zeros after it.
    pub(super) lost: Vec<(usize, usize)>,
    /// The number of the last change of a name of this file that is durable.
    pub(super) settled: u64,
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    Create { name: PathBuf },
    Rename { from: PathBuf, to: PathBuf },
    Remove { name: PathBuf },
}

#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) number: u64,
    pub(super) node: u64,
    pub(super) change: Change,
}

impl Pending {
    pub(super) fn touches(&self, directory: &Path) -> bool {
        match &self.change {
            Change::Create { name } | Change::Remove { name } => name.parent() == Some(directory),
            Change::Rename { from, to } => from.parent() == Some(directory) || to.parent() == Some(directory),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Machine {
    pub(super) generation: u64,
    pub(super) powered_off: bool,
    pub(super) ignores_syncs: bool,
    pub(super) effects: u64,
    pub(super) counts: BTreeMap<FileOperation, u64>,
    pub(super) at_effect: BTreeMap<u64, DiskFault>,
    pub(super) at_operation: BTreeMap<(FileOperation, u64), DiskFault>,
    pub(super) free_space: Option<u64>,
    pub(super) nodes: BTreeMap<u64, Node>,
    pub(super) next_node: u64,
    pub(super) directories: BTreeSet<PathBuf>,
    pub(super) names: BTreeMap<PathBuf, u64>,
    pub(super) durable_names: BTreeMap<PathBuf, u64>,
    pub(super) pending: Vec<Pending>,
    pub(super) next_change: u64,
    pub(super) locks: BTreeSet<PathBuf>,
}

impl Machine {
    pub(super) fn next_fault(&mut self, operation: FileOperation) -> Option<DiskFault> {
        let count = self.counts.entry(operation).or_insert(0);
        *count += 1;
        let count = *count;
        let is_effect = match operation {
            FileOperation::Create
            | FileOperation::Append
            | FileOperation::Sync
            | FileOperation::Rename
            | FileOperation::SyncDirectory
            | FileOperation::Remove
            | FileOperation::CreateDirectories => true,
            FileOperation::Open
            | FileOperation::Read
            | FileOperation::List
            | FileOperation::Metadata
            | FileOperation::Lock => false,
        };
        self.effects += u64::from(is_effect);
        let at_effect = if is_effect { self.at_effect.remove(&self.effects) } else { None };
        at_effect.or_else(|| self.at_operation.remove(&(operation, count)))
    }

    pub(super) fn fresh_node(&mut self) -> u64 {
        self.next_node += 1;
        self.next_node
    }

    pub(super) fn record(&mut self, node: u64, change: Change) {
        self.next_change += 1;
        self.pending.push(Pending { number: self.next_change, node, change });
    }

    pub(super) fn parent_exists(&self, operation: FileOperation, path: &Path) -> Result<(), FileError> {
        if path.parent().is_some_and(|parent| self.directories.contains(parent)) {
            return Ok(());
        }
        Err(missing(operation, path))
    }

    pub(super) fn create(&mut self, path: &Path, operation: FileOperation) -> Result<u64, FileError> {
        self.parent_exists(operation, path)?;
        if self.names.contains_key(path) || self.directories.contains(path) {
            return Err(taken(operation, path));
        }
        let node = self.fresh_node();
        self.nodes.insert(node, Node::default());
        self.names.insert(path.to_owned(), node);
        self.record(node, Change::Create { name: path.to_owned() });
        Ok(node)
    }

    /// Carries a change out in the durable names, unless a later one of the same file is durable already.
    pub(super) fn settle(&mut self, pending: Pending) {
        let Some(node) = self.nodes.get_mut(&pending.node) else { return };
        if node.settled > pending.number {
            return;
        }
        node.settled = pending.number;
        let drop_name = |names: &mut BTreeMap<PathBuf, u64>, name: &Path| {
            if names.get(name) == Some(&pending.node) {
                names.remove(name);
            }
        };
        match pending.change {
            Change::Create { name } => {
                self.durable_names.insert(name, pending.node);
            }
            Change::Rename { from, to } => {
                drop_name(&mut self.durable_names, &from);
                self.durable_names.insert(to, pending.node);
            }
            Change::Remove { name } => drop_name(&mut self.durable_names, &name),
        }
    }

    pub(super) fn forget(&mut self, random: &mut Random) {
        let mode = random.below(4);
        let pending = std::mem::take(&mut self.pending);
        let prefix = random.below(pending.len() as u64 + 1) as usize;
        for (position, change) in pending.into_iter().enumerate() {
            let survives = match mode {
                0 => false,
                1 => true,
                2 => position < prefix,
                _ => random.below(2) == 0,
            };
            if survives {
                self.settle(change);
            }
        }
        self.names = self.durable_names.clone();
        let reachable: BTreeSet<u64> = self.names.values().copied().collect();
        self.nodes.retain(|number, _| reachable.contains(number));
        for node in self.nodes.values_mut() {
            node.forget(mode, random);
        }
    }
}

impl Node {
    fn forget(&mut self, mode: u64, random: &mut Random) {
        let unsynced = self.content.len() - self.durable;
        let kept = match mode {
            0 => 0,
            1 => unsynced,
            _ => random.below(unsynced as u64 + 1) as usize,
        };
        self.content.truncate(self.durable + kept);
        if mode > 1 {
            // The length may have been written before the data: sectors of zeros.
            for sector in self.content[self.durable..].chunks_mut(SECTOR) {
                if random.below(4) == 0 {
                    sector.fill(0);
                }
            }
        }
        for (from, to) in self.lost.drain(..) {
            let to = to.min(self.content.len());
            self.content[from.min(to)..to].fill(0);
        }
        self.durable = self.content.len();
        self.settled = 0;
    }
}
