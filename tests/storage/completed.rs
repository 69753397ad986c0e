//! The store of completed checkpoints: the latest, all of them in order, and a discard of everything that does not go through.

use alluvium::testing::disk::{DiskFault, SimulatedDisk};
use alluvium_actors::ids::WallTime;
use alluvium_actors::ports::store::CheckpointStore;

use crate::common::{begin, checkpoint, fence, filled, listed, open, recovered};

#[test]
fn the_latest_is_the_one_that_was_published_last() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    let run = begin(&store, None).run;
    for number in 1..=3 {
        checkpoint(&store, run, number, false);
        assert_eq!(recovered(&store), Some(number));
    }
}

#[test]
fn all_are_listed_in_the_order_of_their_ids() {
    let store = open(&filled(3, false));
    let run = begin(&store, Some(3)).run;
    let next = store.list().unwrap().len() as u64 + 14;
    checkpoint(&store, run, next, true);
    assert_eq!(listed(&store), [1, 2, 3, next], "over two runs, oldest first");
    let newest = store.list().unwrap().pop().unwrap();
    assert!(newest.has_committables && newest.blob_bytes > 0, "{newest:?}");
}

/// How many files of a group are on the disk.
fn files(disk: &SimulatedDisk, group: &str) -> usize {
    disk.files().iter().filter(|path| path.parent().is_some_and(|parent| parent.ends_with(group))).count()
}

#[test]
fn a_discard_that_fails_at_any_effect_leaves_the_next_start_right_and_can_be_taken_up_again() {
    let faultless = filled(3, true);
    let store = open(&faultless);
    let before = faultless.effects();
    store.discard_all(&fence(), WallTime(2)).unwrap();
    let effects = faultless.effects() - before;
    assert!(effects > 6, "a record, three manifests and three blobs: {effects}");
    for fault in [DiskFault::Error, DiskFault::ErrorAfterwards, DiskFault::PowerCut] {
        for effect in 1..=effects {
            let disk = filled(3, true);
            let store = open(&disk);
            disk.fail_at_effect(disk.effects() + effect, fault);
            let discarded = store.discard_all(&fence(), WallTime(2));
            drop(store);
            let disk = disk.crash(effect);
            let store = open(&disk);
            let found = recovered(&store);
            assert!(found.is_none() || found == Some(3), "{fault:?} at {effect}: {found:?}");
            assert!(discarded.is_err() || found.is_none(), "{fault:?} at {effect}: it said that all are gone");
            store.discard_all(&fence(), WallTime(3)).unwrap();
            assert_eq!((recovered(&store), store.list().unwrap().len()), (None, 0));
            assert_eq!((files(&disk, "manifests"), files(&disk, "blobs")), (0, 0), "{fault:?} at {effect}");
        }
    }
}
