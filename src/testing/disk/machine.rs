//! The model behind the simulated disk: files, names, what of both is durable, and what a crash leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use alluvium_actors::ports::files::{FileError, FileOperation};

use super::armed::{Armed, Struck};
use super::door::{error, missing, taken};
use crate::fault::Random;

/// A unit that is torn as a whole.
const SECTOR: usize = 512;

/// A path without `.`, with `..` resolved by name, as bytes: names are compared at every operation, and comparing `Path`s parses them.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name(Vec<u8>);

impl Name {
    pub(super) fn of(path: &Path) -> Name {
        let mut normal = PathBuf::with_capacity(path.as_os_str().len());
        for component in path.components() {
            match component {
                Component::CurDir => {}
                Component::ParentDir => {
                    normal.pop();
                }
                Component::RootDir | Component::Normal(_) | Component::Prefix(_) => normal.push(component),
            }
        }
        Name(normal.into_os_string().into_vec())
    }

    pub(super) fn path(&self) -> &Path {
        Path::new(std::ffi::OsStr::from_bytes(&self.0))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The name of the directory that holds it; the root and the current directory are in none.
    fn directory(&self) -> Option<&[u8]> {
        match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(0) => (self.0.len() > 1).then_some(b"/"),
            Some(at) => Some(&self.0[..at]),
            None => (!self.0.is_empty()).then_some(b""),
        }
    }

    fn is_in(&self, directory: &Name) -> bool {
        self.directory() == Some(&directory.0)
    }

    /// The last part.
    pub(super) fn last(&self) -> String {
        let from = self.0.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
        String::from_utf8_lossy(&self.0[from..]).into_owned()
    }

    /// What the names of everything below a directory begin with.
    fn below(&self) -> Vec<u8> {
        let mut start = self.0.clone();
        if !start.is_empty() && start != b"/" {
            start.push(b'/');
        }
        start
    }
}

impl std::borrow::Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    pub(super) content: Vec<u8>,
    /// Content up to here was synced.
    pub(super) durable: usize,
    /// Ranges whose sync failed: they read well until a crash, and are zeros after it.
    pub(super) lost: Vec<(usize, usize)>,
    /// The number of the last change of a name of this file that is durable.
    settled: u64,
    /// The name that it has after a crash, unless another file took it.
    durable_name: Option<Name>,
    /// The readers and writers that have it open.
    handles: u32,
    /// Whether it has a name. Without a name and without handles its space is free.
    named: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    Create { name: Name },
    Rename { from: Name, to: Name },
    Remove { name: Name },
}

#[derive(Clone, Debug)]
struct Pending {
    number: u64,
    node: u64,
    change: Change,
    /// A sync that should have made it durable failed: it reads well until a crash, and no later sync brings it back.
    lost: bool,
}

impl Pending {
    fn touches(&self, directory: &Name) -> bool {
        match &self.change {
            Change::Create { name } | Change::Remove { name } => name.is_in(directory),
            Change::Rename { from, to } => from.is_in(directory) || to.is_in(directory),
        }
    }
}

#[derive(Debug)]
pub(super) struct Machine {
    pub(super) generation: u64,
    pub(super) powered_off: bool,
    pub(super) ignores_syncs: bool,
    pub(super) armed: Armed,
    /// What went wrong so far.
    pub(super) struck: Vec<Struck>,
    /// How many of them were told.
    pub(super) told: usize,
    /// How long the device was busy since somebody asked.
    pub(super) busy: Duration,
    /// How many bytes fit on it, if there is a limit.
    capacity: Option<u64>,
    /// How many bytes are used: by files that have a name or are open.
    used: u64,
    pub(super) nodes: BTreeMap<u64, Node>,
    next_node: u64,
    pub(super) directories: BTreeSet<Name>,
    pub(super) names: BTreeMap<Name, u64>,
    durable_names: BTreeMap<Name, u64>,
    /// The number of the last change of each name that is durable. Changes become durable out of order, since a rename between two directories does so with
    /// either of them: an earlier one must not undo a later one.
    settled_names: BTreeMap<Name, u64>,
    pending: Vec<Pending>,
    next_change: u64,
    /// The files that are locked: a lock stays with its file, whatever it is called.
    pub(super) locks: BTreeSet<u64>,
    /// What the bits that flip, and chances, are drawn from.
    pub(super) random: Random,
}

impl Machine {
    pub(super) fn new() -> Machine {
        Machine {
            generation: 0,
            powered_off: false,
            ignores_syncs: false,
            armed: Armed::default(),
            struck: Vec::new(),
            told: 0,
            busy: Duration::ZERO,
            capacity: None,
            used: 0,
            nodes: BTreeMap::new(),
            next_node: 0,
            directories: BTreeSet::from([Name(b"/".to_vec()), Name(Vec::new())]),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            settled_names: BTreeMap::new(),
            pending: Vec::new(),
            next_change: 0,
            locks: BTreeSet::new(),
            random: Random::new(0),
        }
    }

    /// The file of this name.
    pub(super) fn named(&self, name: &Name) -> Option<&Node> {
        self.nodes.get(self.names.get(name)?)
    }

    /// The names directly in a directory: files and their lengths, then directories.
    pub(super) fn inside(&self, directory: &Name) -> (Vec<(&Name, u64)>, Vec<&Name>) {
        let start = directory.below();
        let files = self
            .names
            .range::<[u8], _>((Bound::Included(start.as_slice()), Bound::Unbounded))
            .take_while(|(name, _)| name.0.starts_with(&start));
        let files = files.filter(|(name, _)| name.is_in(directory));
        let files = files.map(|(name, node)| (name, self.nodes[node].content.len() as u64)).collect();
        let below = self
            .directories
            .range::<[u8], _>((Bound::Included(start.as_slice()), Bound::Unbounded))
            .take_while(|name| name.0.starts_with(&start));
        (files, below.filter(|name| name.is_in(directory)).collect())
    }

    /// Whether a name can be made or found in its directory.
    pub(super) fn parent_exists(&self, operation: FileOperation, name: &Name) -> Result<(), FileError> {
        match name.directory() {
            Some(parent) if self.directories.contains(parent) => Ok(()),
            // As the operating system says when a part of the path is a file.
            Some(_) if self.is_below_a_file(name) => Err(error::no_directory(operation, name)),
            Some(_) => Err(missing(operation, name)),
            None => Err(taken(operation, name)),
        }
    }

    pub(super) fn is_below_a_file(&self, name: &Name) -> bool {
        let slashes = name.0.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        slashes.map(|(at, _)| &name.0[..at]).any(|above| self.names.contains_key(above))
    }

    pub(super) fn create(&mut self, name: &Name, operation: FileOperation) -> Result<u64, FileError> {
        self.parent_exists(operation, name)?;
        if self.names.contains_key(name) || self.directories.contains(name) {
            return Err(taken(operation, name));
        }
        let node = self.fresh_node(Node { named: true, ..Node::default() });
        self.names.insert(name.clone(), node);
        self.record(node, Change::Create { name: name.clone() });
        Ok(node)
    }

    fn fresh_node(&mut self, node: Node) -> u64 {
        self.next_node += 1;
        self.used += node.content.len() as u64;
        self.nodes.insert(self.next_node, node);
        self.next_node
    }

    /// Puts durable content in the place of a file.
    pub(super) fn set_content(&mut self, name: Name, content: &[u8]) {
        let settled = self.next_change;
        let fresh = self.fresh_node(Node {
            content: content.to_vec(),
            durable: content.len(),
            settled,
            durable_name: Some(name.clone()),
            named: true,
            ..Node::default()
        });
        self.settled_names.insert(name.clone(), settled);
        if let Some(replaced) = self.names.insert(name.clone(), fresh) {
            self.lose_name(replaced);
        }
        self.durable_names.insert(name, fresh);
    }

    /// Its errors name the new name, whichever of the two is wrong.
    pub(super) fn rename(&mut self, from: &Name, to: &Name) -> Result<(), FileError> {
        self.renamed(from, to).map_err(|error| FileError { path: to.path().to_owned(), ..error })
    }

    fn renamed(&mut self, from: &Name, to: &Name) -> Result<(), FileError> {
        let operation = FileOperation::Rename;
        // In the order of the operating system: both directories, then the old name, then the new one.
        self.parent_exists(operation, from)?;
        self.parent_exists(operation, to)?;
        if !self.names.contains_key(from) {
            if self.directories.contains(from) {
                return Err(error::is_a_directory(operation, from));
            }
            return Err(missing(operation, from));
        }
        if self.names.contains_key(to) || self.directories.contains(to) {
            return Err(taken(operation, to));
        }
        let node = self.names.remove(from).ok_or_else(|| missing(operation, from))?;
        self.names.insert(to.clone(), node);
        self.record(node, Change::Rename { from: from.clone(), to: to.clone() });
        Ok(())
    }

    pub(super) fn remove(&mut self, name: &Name) -> Result<(), FileError> {
        let operation = FileOperation::Remove;
        let Some(node) = self.names.remove(name) else {
            if self.directories.contains(name) {
                return Err(error::is_a_directory(operation, name));
            }
            self.parent_exists(operation, name)?;
            return Err(missing(operation, name));
        };
        self.lose_name(node);
        self.record(node, Change::Remove { name: name.clone() });
        Ok(())
    }

    fn record(&mut self, node: u64, change: Change) {
        self.next_change += 1;
        self.pending.push(Pending { number: self.next_change, node, change, lost: false });
    }

    /// Makes every change of names in a directory durable; a sync that fails loses them at the next crash, whatever is synced later.
    pub(super) fn sync_directory(&mut self, directory: &Name, fails: bool) {
        if self.ignores_syncs {
            return;
        }
        if fails {
            let touched = self.pending.iter_mut().filter(|change| change.touches(directory));
            touched.for_each(|change| change.lost = true);
            return;
        }
        let (synced, rest) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition::<Vec<_>, _>(|change| !change.lost && change.touches(directory));
        self.pending = rest;
        for change in synced {
            self.settle(change);
        }
    }

    pub(super) fn has_lost_names(&self) -> bool {
        self.pending.iter().any(|change| change.lost)
    }

    /// Carries a change out in the durable names, unless a later one of the same file is durable already.
    fn settle(&mut self, pending: Pending) {
        let Some(node) = self.nodes.get_mut(&pending.node) else { return };
        if node.settled > pending.number {
            return;
        }
        node.settled = pending.number;
        // A file has one durable name at most, also when changes between the last durable one and this one are lost.
        if let Some(name) = node.durable_name.take()
            && self.durable_names.get(&name) == Some(&pending.node)
        {
            self.durable_names.remove(&name);
        }
        let is_last = |settled: &mut BTreeMap<Name, u64>, name: &Name| {
            let last = settled.entry(name.clone()).or_default();
            let is_last = *last < pending.number;
            *last = pending.number.max(*last);
            is_last
        };
        if let Change::Rename { from, .. } = &pending.change {
            is_last(&mut self.settled_names, from);
        }
        match pending.change {
            Change::Create { name } | Change::Rename { to: name, .. } => {
                if is_last(&mut self.settled_names, &name) {
                    node.durable_name = Some(name.clone());
                    self.durable_names.insert(name, pending.node);
                }
            }
            Change::Remove { name } => {
                is_last(&mut self.settled_names, &name);
                self.forget_unreachable(pending.node);
            }
        }
    }

    pub(super) fn open_handle(&mut self, node: u64) {
        if let Some(node) = self.nodes.get_mut(&node) {
            node.handles += 1;
        }
    }

    pub(super) fn close_handle(&mut self, number: u64) {
        let Some(node) = self.nodes.get_mut(&number) else { return };
        node.handles -= 1;
        if node.handles == 0 && !node.named {
            self.used -= node.content.len() as u64;
            self.forget_unreachable(number);
        }
    }

    fn lose_name(&mut self, number: u64) {
        let Some(node) = self.nodes.get_mut(&number) else { return };
        node.named = false;
        if node.handles == 0 {
            self.used -= node.content.len() as u64;
        }
    }

    /// Drops a file that is gone for good: no name, no handle, and its removal is durable.
    fn forget_unreachable(&mut self, number: u64) {
        let removed = self.nodes.get(&number).is_some_and(|node| !node.named && node.handles == 0);
        let is_pending = || self.pending.iter().any(|pending| pending.node == number);
        if removed && !is_pending() && !self.durable_names.values().any(|node| *node == number) {
            self.nodes.remove(&number);
        }
    }

    /// Appends what fits. False when it was not all.
    pub(super) fn append(&mut self, number: u64, bytes: &[u8]) -> bool {
        let room = self.free_space().map_or(bytes.len(), |free| bytes.len().min(free as usize));
        if let Some(node) = self.nodes.get_mut(&number) {
            node.content.extend_from_slice(&bytes[..room]);
            self.used += room as u64;
        }
        room == bytes.len()
    }

    pub(super) fn free_space(&self) -> Option<u64> {
        self.capacity.map(|capacity| capacity.saturating_sub(self.used))
    }

    pub(super) fn set_free_space(&mut self, bytes: Option<u64>) {
        self.capacity = bytes.map(|bytes| self.used.saturating_add(bytes));
    }

    /// Syncs the content of a file; one that fails loses at the next crash what it should have made durable.
    pub(super) fn sync(&mut self, number: u64, fails: bool) {
        if self.ignores_syncs {
            return;
        }
        if let Some(node) = self.nodes.get_mut(&number) {
            let length = node.content.len();
            if fails {
                node.lost.push((node.durable, length));
            }
            node.durable = length;
        }
    }

    /// Flips one bit of the stored content of a file, drawn at random. False when there is none.
    pub(super) fn flip_at_rest(&mut self, number: u64) -> bool {
        let random = &mut self.random;
        self.nodes.get_mut(&number).is_some_and(|node| flip(&mut node.content, random))
    }

    /// What of all that was not synced the machine finds again.
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
            if survives && !change.lost {
                self.settle(change);
            }
        }
        self.names = self.durable_names.clone();
        self.settled_names.clear();
        let reachable: BTreeSet<u64> = self.names.values().copied().collect();
        self.nodes.retain(|number, _| reachable.contains(number));
        for node in self.nodes.values_mut() {
            node.forget(mode, random);
        }
        self.end_handles();
    }

    /// The processes that had files open are gone.
    pub(super) fn end_handles(&mut self) {
        let mut used = 0;
        for node in self.nodes.values_mut() {
            node.handles = 0;
            node.named = false;
        }
        for number in self.names.values() {
            if let Some(node) = self.nodes.get_mut(number) {
                node.named = true;
                used += node.content.len() as u64;
            }
        }
        self.used = used;
    }
}

/// Flips one bit, drawn at random. False when there is none.
pub(super) fn flip(bytes: &mut [u8], random: &mut Random) -> bool {
    let bit = random.below(bytes.len() as u64 * 8);
    match bytes.get_mut((bit / 8) as usize) {
        Some(byte) => {
            *byte ^= 1 << (bit % 8);
            true
        }
        None => false,
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
