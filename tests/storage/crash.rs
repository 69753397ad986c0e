//! The power goes at every single effect of a session, and again in the session after it.
//!
//! Whatever the disk kept: recovery gives the last checkpoint that was acknowledged or a later one whose publishing was
//! under way, whole, and no number is used twice.

use std::collections::BTreeSet;

use alluvium::testing::catalogue::SimulatedCatalogue;
use alluvium::testing::disk::{DiskFault, SimulatedDisk};
use alluvium_actors::ids::{CheckpointId, RunNumber, WallTime};
use alluvium_actors::ports::store::{BlobHandle, CheckpointStore, Manifest, PublishOutcome, StoreError};

use crate::common::{blob, content, fence, manifest, open_with, options};

/// What the outside knows, so what must be true of the store.
#[derive(Default)]
struct Outside {
    runs: BTreeSet<RunNumber>,
    ids: BTreeSet<CheckpointId>,
    /// Everything whose publishing was begun.
    begun: Vec<Manifest>,
    acknowledged: CheckpointId,
    /// The line that recovery chose last: a higher one that was not chosen must not come back.
    refused: BTreeSet<CheckpointId>,
    seen_by_catalogue: SimulatedCatalogue,
}

/// One life of a process: recover, begin, six checkpoints of which one is aborted, retaining two.
fn session(disk: &SimulatedDisk, outside: &mut Outside) -> Result<(), StoreError> {
    let store = open_with(disk, Some(&outside.seen_by_catalogue.clone()), options())?;
    let recovered = store.recover()?;
    outside.check(recovered.as_ref());
    for handle in recovered.iter().flat_map(Manifest::blobs) {
        store.verify_blob(handle)?;
    }
    let from = recovered.map(|manifest| manifest.checkpoint);
    let record = store.begin_run(&fence(), from, WallTime(1))?;
    assert!(outside.runs.insert(record.run), "run {} was begun twice", record.run);
    let mut below = record.reserved_below;
    let mut next = record.first_checkpoint;
    outside.check_all(&store)?;
    let mut retained: Vec<CheckpointId> =
        store.list()?.iter().filter(|summary| !summary.abandoned).map(|summary| summary.checkpoint).collect();
    for round in 0..6 {
        // So that a reservation is needed in the middle.
        let id = if round == 3 { CheckpointId(next.0.max(below.0)) } else { next };
        if id >= below {
            below = CheckpointId(id.0 + 4);
            store.reserve_ids(&fence(), record.run, below)?;
        }
        assert!(outside.ids.insert(id), "checkpoint {id} was handed out twice");
        next = id.next();
        let keyed = blob(&store, &fence(), record.run, id, &content(id.0))?;
        if round == 1 {
            store.delete_blobs(&fence(), &[keyed])?;
            continue;
        }
        publish(&store, record.run, id, keyed, outside)?;
        retained.push(id);
        if retained.len() > 2 {
            store.delete_checkpoint(&fence(), retained.remove(0))?;
        }
    }
    Ok(())
}

fn publish(
    store: &dyn CheckpointStore,
    run: RunNumber,
    id: CheckpointId,
    keyed: BlobHandle,
    outside: &mut Outside,
) -> Result<(), StoreError> {
    let manifest = manifest(run, id, Some(keyed), true);
    outside.begun.push(manifest.clone());
    match store.publish(&fence(), &manifest) {
        PublishOutcome::Done => outside.acknowledged = id,
        PublishOutcome::Failed(error) => return Err(error),
        PublishOutcome::Unknown(_) => {
            assert!(store.read_back(run, id)?, "the rename was asked for, and no error was injected");
            outside.acknowledged = id;
        }
    }
    Ok(())
}

impl Outside {
    fn check(&mut self, recovered: Option<&Manifest>) {
        let id = recovered.map(|manifest| manifest.checkpoint).unwrap_or_default();
        assert!(id >= self.acknowledged, "recovered {id}, acknowledged {}", self.acknowledged);
        assert!(!self.refused.contains(&id), "{id} came back");
        if let Some(manifest) = recovered {
            assert!(self.begun.contains(manifest), "{manifest:?} was never published");
        }
        // A restore acts on it: sinks commit by it.
        self.acknowledged = id;
        let later = self.begun.iter().map(|manifest| manifest.checkpoint).filter(|begun| *begun > id);
        self.refused.extend(later);
    }

    /// Every checkpoint that is there is there as a whole, also those that were being deleted.
    fn check_all(&self, store: &dyn CheckpointStore) -> Result<(), StoreError> {
        let listed: BTreeSet<CheckpointId> = store.list()?.iter().map(|summary| summary.checkpoint).collect();
        let there = self.begun.iter().filter(|manifest| listed.contains(&manifest.checkpoint));
        there.flat_map(Manifest::blobs).try_for_each(|handle| store.verify_blob(handle))
    }
}

fn effects_of_a_session() -> u64 {
    let disk = SimulatedDisk::new();
    session(&disk, &mut Outside::default()).unwrap();
    disk.effects()
}

#[test]
fn no_acknowledged_checkpoint_is_lost_at_any_power_cut_of_two_sessions() {
    let effects = effects_of_a_session();
    assert!(effects > 60, "{effects}");
    let mut cuts = 0;
    for first in 1..=effects + 1 {
        for seed in 0..8 {
            let mut outside = Outside::default();
            let disk = SimulatedDisk::new();
            disk.fail_at_effect(first, DiskFault::PowerCut);
            assert_eq!(session(&disk, &mut outside).is_err(), first <= effects || disk.is_powered_off());
            let disk = disk.crash(seed);
            if seed % 3 == 0 {
                outside.seen_by_catalogue.lose_some(seed + first);
            }
            // The second cut wanders over the whole of the second session.
            let second = disk.effects() + 1 + (first * 7 + seed * 11) % effects;
            disk.fail_at_effect(second, DiskFault::PowerCut);
            cuts += u32::from(session(&disk, &mut outside).is_err());
            disk.clear_faults();
            let disk = disk.crash(seed + 1);
            session(&disk, &mut outside).unwrap();
            session(&disk.kill_process(), &mut outside).unwrap();
        }
    }
    println!("{} first cuts, {cuts} second cuts", effects * 8);
    assert!(u64::from(cuts) > effects * 4, "{cuts}");
}

#[test]
fn a_kill_of_the_process_at_any_effect_loses_nothing_and_a_later_power_cut_neither() {
    let effects = effects_of_a_session();
    for first in 1..=effects {
        let mut outside = Outside::default();
        let disk = SimulatedDisk::new();
        disk.fail_at_effect(first, DiskFault::PowerCut);
        assert!(session(&disk, &mut outside).is_err());
        let disk = disk.kill_process();
        let second = disk.effects() + 1 + first % 9;
        disk.fail_at_effect(second, DiskFault::PowerCut);
        let _ = session(&disk, &mut outside);
        disk.clear_faults();
        session(&disk.crash(first), &mut outside).unwrap();
    }
}
