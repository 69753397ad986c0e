//! A disk in memory that forgets what was not synced, and on which everything may go wrong.
//!
//! Content survives a crash up to the last sync of its file; what was appended after it may be there, be missing, or
//! be torn. A create, rename or remove survives for certain only when its directory was synced after it; before that
//! each of them may survive or not, one by one, except that a rename is never half done. Which, a seed decides.
//!
//! Every change is an *effect* with a number, so that a test can cut the power at each of them in turn. A [`DiskRule`] says what goes wrong by operation, path,
//! count and chance instead. When nothing is to go wrong, the disk does what the files of the operating system do: both pass
//! [`check_files`](super::conformance::check_files), and are compared over random operations.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alluvium_actors::ports::files::{FileError, FileOperation};

use self::door::error::{failure, full};
use self::machine::{Machine, Name};
use crate::fault::Random;

mod armed;
mod door;
mod machine;

pub use self::armed::Struck;
pub use crate::fault::{DiskFault, DiskRule, PathPattern};

/// A disk for tests. Clones share the disk; a crash ends all handles but the one it returns.
#[derive(Clone, Debug)]
pub struct SimulatedDisk {
    machine: Arc<Mutex<Machine>>,
    generation: u64,
}

impl Default for SimulatedDisk {
    fn default() -> SimulatedDisk {
        SimulatedDisk::new()
    }
}

impl SimulatedDisk {
    /// An empty disk, on which only the root and the current directory exist.
    #[must_use]
    pub fn new() -> SimulatedDisk {
        SimulatedDisk { machine: Arc::new(Mutex::new(Machine::new())), generation: 0 }
    }

    /// Decides the chances of rules and which bits flip. A new disk has seed 0.
    pub fn set_seed(&self, seed: u64) {
        self.machine().random = Random::new(seed);
    }

    /// The number of effects (create, append, sync, rename, sync of a directory, remove, create directories) that
    /// were asked for so far, over all generations.
    #[must_use]
    pub fn effects(&self) -> u64 {
        self.machine().armed.effects()
    }

    /// The number of times that `operation` was asked for so far, over all generations.
    #[must_use]
    pub fn count(&self, operation: FileOperation) -> u64 {
        self.machine().armed.count(operation)
    }

    /// Lets the effect of this number fail: the first effect of a disk has number 1.
    pub fn fail_at_effect(&self, number: u64, fault: DiskFault) {
        self.machine().armed.at_effect(number, fault);
    }

    /// Lets an operation fail, counted over the life of the disk: the first one has number 1.
    pub fn fail_at(&self, operation: FileOperation, number: u64, fault: DiskFault) {
        self.machine().armed.at_operation(operation, number, fault);
    }

    /// Lets the next operation of this sort fail.
    pub fn fail_next(&self, operation: FileOperation, fault: DiskFault) {
        self.fail_at(operation, self.count(operation) + 1, fault);
    }

    /// Adds rules to those that are armed. They stay, and go on counting, over crashes; when several strike at one operation, the times of those that are slow
    /// add up, and of the others the first one counts.
    pub fn arm(&self, rules: impl IntoIterator<Item = DiskRule>) {
        let mut machine = self.machine();
        rules.into_iter().for_each(|rule| machine.armed.rule(rule));
    }

    /// Forgets every fault that has not happened yet, and all rules.
    pub fn clear_faults(&self) {
        let mut machine = self.machine();
        machine.armed.clear_numbers();
        machine.armed.clear_rules();
    }

    /// Forgets the faults that wait for a number, and keeps the rules.
    pub(crate) fn clear_numbered_faults(&self) {
        self.machine().armed.clear_numbers();
    }

    /// Whether names would be lost by a crash whose sync failed, whatever is synced later.
    pub(crate) fn has_lost_names(&self) -> bool {
        self.machine().has_lost_names()
    }

    /// Everything that went wrong so far, in order, but for what was only slow.
    #[must_use]
    pub fn struck(&self) -> Vec<Struck> {
        self.machine().struck.clone()
    }

    /// Lets somebody look who is no part of the job: nothing that he asks for is counted or goes wrong.
    pub(crate) fn undisturbed<T>(&self, look: impl FnOnce() -> T) -> T {
        self.machine().armed.is_off = true;
        let seen = look();
        self.machine().armed.is_off = false;
        seen
    }

    /// How many those are.
    pub(crate) fn count_struck(&self) -> usize {
        self.machine().struck.len()
    }

    /// How many of them a right job may fail by.
    pub(crate) fn count_failures(&self) -> usize {
        self.machine().struck.iter().filter(|struck| struck.fault.may_fail_a_job()).count()
    }

    /// What went wrong since the last call, for the story of a run.
    pub(crate) fn newly_struck(&self) -> Vec<Struck> {
        let mut machine = self.machine();
        let told = machine.told;
        machine.told = machine.struck.len();
        machine.struck[told..].to_vec()
    }

    /// The rules that never struck: what they are about did not happen.
    #[must_use]
    pub fn unstruck(&self) -> Vec<DiskRule> {
        self.machine().armed.unstruck().cloned().collect()
    }

    /// Lets every later sync succeed and do nothing, as a disk does that lies: to prove that a test would notice a sync that is missing.
    pub fn ignore_syncs(&self) {
        self.machine().ignores_syncs = true;
    }

    /// How many bytes can still be appended; `None` for no limit. A file that is removed gives its space back when nobody has it open.
    pub fn set_free_space(&self, bytes: Option<u64>) {
        self.machine().set_free_space(bytes);
    }

    /// How many bytes can still be appended; `None` if there is no limit.
    #[must_use]
    pub fn free_space(&self) -> Option<u64> {
        self.machine().free_space()
    }

    /// Lets virtual time pass for the blocking work that is under way, as [`DiskFault::Slow`] does: for models of other devices. Without a simulation it has no
    /// effect.
    pub fn spend(&self, time: Duration) {
        self.machine().busy += time;
    }

    /// The virtual time that passed since the last call.
    pub(crate) fn take_busy(&self) -> Duration {
        std::mem::take(&mut self.machine().busy)
    }

    /// Whether the power went at a [`DiskFault::PowerCut`] and did not come back yet.
    #[must_use]
    pub fn is_powered_off(&self) -> bool {
        self.machine().powered_off
    }

    /// Cuts the power: everything fails until [`SimulatedDisk::crash`] or [`SimulatedDisk::kill_process`] is called.
    pub fn cut_power(&self) {
        self.machine().powered_off = true;
    }

    /// Cuts the power and switches on again: the disk as it is found then. `seed` decides what of that which was
    /// not synced survives. Every other handle, and every open file, fails from now on.
    #[must_use]
    pub fn crash(&self, seed: u64) -> SimulatedDisk {
        let mut machine = self.machine();
        machine.forget(&mut Random::new(seed));
        self.next_generation(&mut machine)
    }

    /// Kills the process, not the machine: nothing is lost, nothing becomes durable, locks end. Every other handle,
    /// and every open file, fails from now on.
    #[must_use]
    pub fn kill_process(&self) -> SimulatedDisk {
        let mut machine = self.machine();
        machine.end_handles();
        self.next_generation(&mut machine)
    }

    /// The content of a file, for damage tests. `None` if there is none.
    #[must_use]
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        self.machine().named(&Name::of(path)).map(|node| node.content.clone())
    }

    /// Puts durable content in the place of a file, for damage tests. Creates the file if there is none.
    pub fn set_content(&self, path: &Path, content: &[u8]) {
        self.machine().set_content(Name::of(path), content);
    }

    /// Flips a bit of the stored content of a file, durably: bit 0 is the lowest one of the first byte. False if the file has no such bit.
    pub fn flip_bit(&self, path: &Path, bit: u64) -> bool {
        let mut machine = self.machine();
        let node = machine.names.get(&Name::of(path)).copied();
        let node = node.and_then(|node| machine.nodes.get_mut(&node));
        let byte = usize::try_from(bit / 8).ok();
        let byte = node.zip(byte).and_then(|(node, byte)| node.content.get_mut(byte));
        byte.map(|byte| *byte ^= 1 << (bit % 8)).is_some()
    }

    /// Every file, in the order of the bytes of the paths.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        self.machine().names.keys().map(|name| name.path().to_owned()).collect()
    }

    fn next_generation(&self, machine: &mut Machine) -> SimulatedDisk {
        machine.generation += 1;
        machine.powered_off = false;
        machine.busy = Duration::ZERO;
        machine.locks.clear();
        SimulatedDisk { machine: Arc::clone(&self.machine), generation: machine.generation }
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins an operation: counts it and applies the fault that waits for it. `Some` tells that it is to be carried
    /// out, and what is wrong with it all the same.
    fn begin(
        &self,
        operation: FileOperation,
        name: &Name,
    ) -> Result<(MutexGuard<'_, Machine>, Option<DiskFault>), FileError> {
        let mut guard = self.machine();
        let machine = &mut *guard;
        if machine.powered_off || machine.generation != self.generation {
            return Err(failure(operation, name, "the machine is switched off"));
        }
        let process = u32::try_from(machine.generation + 1).unwrap_or(u32::MAX);
        let verdict = machine.armed.next(operation, name.bytes(), process, &mut machine.random);
        if let Some(time) = verdict.slow {
            machine.busy += time;
        }
        if let Some(fault) = verdict.fault {
            machine.struck.push(Struck { operation, path: name.path().to_owned(), fault });
        }
        match verdict.fault {
            None | Some(DiskFault::Slow(_)) => Ok((guard, None)),
            Some(DiskFault::ErrorAfterwards | DiskFault::FlipOnRead | DiskFault::FlipAtRest) => {
                Ok((guard, verdict.fault))
            }
            Some(DiskFault::FailedSync) if matches!(operation, FileOperation::Sync | FileOperation::SyncDirectory) => {
                Ok((guard, verdict.fault))
            }
            Some(DiskFault::Error | DiskFault::FailedSync) => Err(failure(operation, name, "injected error")),
            Some(DiskFault::FullDisk) => Err(full(operation, name)),
            Some(DiskFault::PowerCut) => {
                machine.powered_off = true;
                Err(failure(operation, name, "the power went"))
            }
        }
    }
}
