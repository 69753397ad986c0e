//! The history of checkpoints in the catalogue: it survives the process, it is bounded, and losing it loses nothing else.

use std::sync::Arc;
use std::time::Duration;

use alluvium::snapshot::{Store, StoreOptions};
use alluvium::storage::{MemoryStorage, SystemFiles};
use alluvium::testing::catalogue::{CatalogueFate, SimulatedCatalogue};
use alluvium_actors::ids::{CheckpointId, RunNumber, WallTime};
use alluvium_actors::ports::catalogue::Catalogue;
use alluvium_actors::ports::fence::FenceSource;
use alluvium_actors::ports::history::CheckpointRecord;
use alluvium_actors::ports::store::{CheckpointKind, CheckpointStore};

/// A record as another version may have written it: read from its stored form, since it is made by the coordinator only.
fn record(checkpoint: u64) -> CheckpointRecord {
    let text = serde_json::json!({
        "run": 1, "checkpoint": checkpoint, "kind": CheckpointKind::Periodic, "triggered": 1_700_000_000_000_u64 + checkpoint,
        "duration": Duration::from_millis(812), "failure": null, "story": format!("checkpoint {checkpoint} took 812 ms"),
        "bytes": 10, "written_bytes": 10, "in_flight_records": 0, "in_flight_bytes": 0, "unaligned": false,
        "subtasks": 1, "acknowledged": 1, "parts": [],
    });
    serde_json::from_value(text).unwrap()
}

fn ids(store: &Store) -> Vec<u64> {
    store.remembered().iter().map(|record| record.checkpoint.0).collect()
}

fn in_memory(catalogue: &SimulatedCatalogue) -> Store {
    let catalogue = Arc::new(catalogue.clone()) as Arc<dyn Catalogue>;
    Store::new(Arc::new(MemoryStorage::new()), Some(catalogue), StoreOptions::new("numbers", 1)).unwrap()
}

#[test]
fn records_survive_the_store_that_kept_them() {
    let place = tempfile::tempdir().unwrap();
    let open =
        || Store::open_directory(Arc::new(SystemFiles::new()), place.path(), StoreOptions::new("numbers", 1)).unwrap();
    let store = open();
    assert!(store.remembers() && store.remembered().is_empty());
    (1..=3).for_each(|checkpoint| store.remember(&record(checkpoint), 10));
    drop(store);
    let store = open();
    assert_eq!(store.remembered(), [record(1), record(2), record(3)]);
    // The bound holds for what an earlier process left, too.
    store.remember(&record(4), 2);
    assert_eq!(ids(&store), [3, 4]);
}

#[test]
fn the_oldest_go_and_many_of_them_in_batches() {
    let store = in_memory(&SimulatedCatalogue::new());
    (1..=350).for_each(|checkpoint| store.remember(&record(checkpoint), 1_000));
    store.remember(&record(351), 3);
    assert_eq!(ids(&store), [349, 350, 351], "more than a batch may carry were removed");
}

#[test]
fn a_record_of_the_same_checkpoint_takes_the_place_of_the_other() {
    let store = in_memory(&SimulatedCatalogue::new());
    (0..2).for_each(|_| store.remember(&record(1), 10));
    assert_eq!(ids(&store), [1]);
}

#[test]
fn whatever_becomes_of_the_catalogue_the_history_goes_on() {
    for fate in CatalogueFate::ALL {
        let catalogue = SimulatedCatalogue::new();
        let store = in_memory(&catalogue);
        (1..=4).for_each(|checkpoint| store.remember(&record(checkpoint), 10));
        catalogue.open_again(*fate, 3);
        let store = in_memory(&catalogue);
        store.remember(&record(5), 10);
        let newest = (*fate != CatalogueFate::Broken).then_some(5);
        assert_eq!(ids(&store).last().copied(), newest, "{fate}");
    }
}

#[test]
fn what_is_damaged_is_passed_over() {
    let catalogue = SimulatedCatalogue::new();
    let store = in_memory(&catalogue);
    (1..=2).for_each(|checkpoint| store.remember(&record(checkpoint), 10));
    let (key, mut value) = catalogue.scan(b"history/").unwrap().remove(0);
    *value.last_mut().unwrap() ^= 1;
    catalogue.put(&[(key, value)]).unwrap();
    assert_eq!(ids(&store), [2]);
}

#[test]
fn without_a_catalogue_nothing_is_kept_and_beginning_anew_forgets() {
    let none = Store::new(Arc::new(MemoryStorage::new()), None, StoreOptions::new("numbers", 1)).unwrap();
    none.remember(&record(1), 10);
    assert!(!none.remembers() && none.remembered().is_empty());
    let store = in_memory(&SimulatedCatalogue::new());
    store.remember(&record(1), 10);
    store.discard_all(&FenceSource::new().advance(), WallTime(0)).unwrap();
    assert!(ids(&store).is_empty());
    store.remember(&record(2), 10);
    assert_eq!((ids(&store), store.remembered()[0].run), (vec![2], RunNumber(1)));
    assert_eq!(store.remembered()[0].checkpoint, CheckpointId(2));
}
