//! Damaged, missing and alien files: a start fails and names the file, and falls back only when told to.

use std::path::{Path, PathBuf};

use alluvium::snapshot::StoreOptions;
use alluvium::testing::catalogue::SimulatedCatalogue;
use alluvium::testing::disk::SimulatedDisk;
use alluvium_actors::ids::{CheckpointId, OperatorUid, RunNumber};
use alluvium_actors::plan::{EdgeName, Routing};
use alluvium_actors::ports::files::Files;
use alluvium_actors::ports::store::{
    CheckpointStore, InFlight, InFlightEdge, Manifest, PieceContent, PublishOutcome, StoreError,
};

use crate::common::{
    ROOT, begin, checkpoint, fence, filled, listed, manifest, manifest_file, open, open_with, options, recovered,
};

fn file_in(disk: &SimulatedDisk, group: &str, part: &str) -> PathBuf {
    let inside = |path: &&PathBuf| path.starts_with(format!("{ROOT}/{group}")) && path.to_string_lossy().contains(part);
    disk.files().iter().find(inside).cloned().unwrap()
}

fn start(disk: &SimulatedDisk, options: StoreOptions) -> Result<Option<Manifest>, StoreError> {
    open_with(disk, None, options)?.recover()
}

fn assert_names(error: &StoreError, file: &Path) {
    assert!(error.to_string().contains(&file.display().to_string()), "{error} does not name {}", file.display());
    assert!(!error.is_retryable(), "{error}");
}

#[test]
fn every_flipped_bit_of_a_manifest_and_of_a_run_record_fails_the_start_and_names_the_file() {
    let disk = filled(1, true);
    for file in [manifest_file(1, 1), file_in(&disk, "runs", "r")] {
        let whole = disk.content(&file).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            disk.set_content(&file, &flipped);
            let error = start(&disk, options()).expect_err(&format!("bit {bit} of {}", file.display()));
            assert_names(&error, &file);
        }
        disk.set_content(&file, &whole);
    }
    assert_eq!(start(&disk, options()).unwrap().unwrap().checkpoint, CheckpointId(1));
}

#[test]
fn every_truncation_of_a_manifest_and_of_a_run_record_fails_the_start_and_names_the_file() {
    let disk = filled(1, true);
    for file in [manifest_file(1, 1), file_in(&disk, "runs", "r")] {
        let whole = disk.content(&file).unwrap();
        for length in 0..whole.len() {
            disk.set_content(&file, &whole[..length]);
            let error = start(&disk, options()).expect_err(&format!("{length} bytes of {}", file.display()));
            assert_names(&error, &file);
        }
        disk.set_content(&file, &whole);
    }
}

#[test]
fn a_blob_that_is_missing_or_shorter_fails_the_start_and_one_that_is_changed_fails_its_reading() {
    let disk = filled(1, true);
    let file = file_in(&disk, "blobs", "c");
    let whole = disk.content(&file).unwrap();
    for content in [&whole[..whole.len() - 1], &[], &[&whole[..], b"x"].concat()] {
        disk.set_content(&file, content);
        let error = start(&disk, options()).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }));
        assert_names(&error, &file);
    }
    for byte in (0..whole.len()).step_by(97) {
        let mut changed = whole.clone();
        changed[byte] ^= 0x10;
        disk.set_content(&file, &changed);
        let store = open(&disk);
        let manifest = store.recover().unwrap().unwrap();
        let error = store.verify_blob(manifest.blobs().next().unwrap()).unwrap_err();
        assert_names(&error, &file);
    }
    disk.remove(&file).unwrap();
    let error = start(&disk, options()).unwrap_err();
    assert!(matches!(error, StoreError::Missing { .. }));
    assert_names(&error, &file);
}

#[test]
fn a_manifest_that_the_newest_run_began_from_and_that_is_missing_fails_the_start() {
    let disk = filled(2, true);
    begin(&open(&disk), Some(2));
    disk.remove(&manifest_file(1, 2)).unwrap();
    let error = start(&disk, options()).unwrap_err();
    assert!(matches!(error, StoreError::Missing { .. }));
    assert_names(&error, &manifest_file(1, 2));
}

#[test]
fn a_missing_run_record_fails_the_start() {
    let disk = filled(2, true);
    disk.remove(&file_in(&disk, "runs", "r")).unwrap();
    let error = start(&disk, options()).unwrap_err();
    assert!(matches!(&error, StoreError::Missing { file, .. } if file.contains("runs/r0000000001")), "{error}");
}

#[test]
fn the_newest_manifest_that_somebody_removed_is_missed_by_the_catalogue() {
    let disk = SimulatedDisk::new();
    let catalogue = SimulatedCatalogue::new();
    let store = open_with(&disk, Some(&catalogue), options()).unwrap();
    let run = begin(&store, None).run;
    checkpoint(&store, run, 1, true);
    checkpoint(&store, run, 2, true);
    drop(store);
    disk.remove(&manifest_file(1, 2)).unwrap();
    let store = open_with(&disk, Some(&catalogue), options()).unwrap();
    assert_names(&store.recover().unwrap_err(), &manifest_file(1, 2));
}

#[test]
fn alien_files_in_the_folders_are_left_alone_and_alien_content_under_a_right_name_is_refused() {
    let disk = filled(2, true);
    for name in ["manifests/README", "manifests/r1-c9", "runs/x", "blobs/picture.png", "reservations/b7"] {
        disk.set_content(&Path::new(ROOT).join(name), b"something else");
    }
    let store = open(&disk);
    assert_eq!(recovered(&store), Some(2));
    begin(&store, Some(2));
    store.delete_checkpoint(&fence(), CheckpointId(1)).unwrap();
    assert_eq!(listed(&store), [2]);
    drop(store);
    for name in ["manifests/README", "manifests/r1-c9", "runs/x", "blobs/picture.png", "reservations/b7"] {
        assert!(disk.content(&Path::new(ROOT).join(name)).is_some(), "{name}");
    }

    let other = disk.content(&manifest_file(1, 2)).unwrap();
    let disk = filled(3, true);
    for content in [&other[..], b"something else that is longer than a header"] {
        disk.set_content(&manifest_file(1, 3), content);
        let error = start(&disk, options()).unwrap_err();
        assert!(matches!(error, StoreError::Alien { .. }), "{error}");
        assert_names(&error, &manifest_file(1, 3));
    }
}

#[test]
fn falling_back_must_be_allowed_and_takes_the_next_older_checkpoint_of_the_line() {
    let disk = filled(3, false);
    let file = file_in(&disk, "blobs", "c00000000000000000003");
    let whole = disk.content(&file).unwrap();
    let mut changed = whole.clone();
    changed[700] ^= 1;
    disk.set_content(&file, &changed);
    assert_eq!(start(&disk, options()).unwrap().unwrap().checkpoint, CheckpointId(3), "not seen before it is read");
    let allowed = StoreOptions { fall_back_to_older: true, ..options() };
    assert_eq!(start(&disk, allowed.clone()).unwrap().unwrap().checkpoint, CheckpointId(2));

    let store = open_with(&disk, None, allowed.clone()).unwrap();
    begin(&store, Some(2));
    drop(store);
    disk.set_content(&file, &whole);
    assert_eq!(start(&disk, allowed).unwrap().unwrap().checkpoint, CheckpointId(2), "the mended one is abandoned");
}

#[test]
fn falling_back_behind_what_a_sink_may_have_committed_needs_the_caller_to_accept_repeats() {
    let fall_back = StoreOptions { fall_back_to_older: true, ..options() };
    let repeats = StoreOptions { accept_repeats: true, ..fall_back.clone() };
    let disk = filled(3, true);
    let damaged = [file_in(&disk, "blobs", "c00000000000000000003"), manifest_file(1, 3)];
    for file in &damaged {
        let whole = disk.content(file).unwrap();
        let mut changed = whole.clone();
        changed[80] ^= 1;
        disk.set_content(file, &changed);
        let error = start(&disk, fall_back.clone()).unwrap_err();
        assert!(matches!(error, StoreError::Refused { .. }), "{error}");
        assert_names(&error, file);
        assert_eq!(start(&disk, repeats.clone()).unwrap().unwrap().checkpoint, CheckpointId(2));
        disk.set_content(file, &whole);
    }
}

#[test]
fn what_a_damaged_manifest_held_for_sinks_is_known_from_the_catalogue() {
    for (committables, expected) in [(false, Some(1)), (true, None)] {
        let disk = SimulatedDisk::new();
        let catalogue = SimulatedCatalogue::new();
        let store = open_with(&disk, Some(&catalogue), options()).unwrap();
        let run = begin(&store, None).run;
        checkpoint(&store, run, 1, committables);
        checkpoint(&store, run, 2, committables);
        drop(store);
        disk.set_content(&manifest_file(1, 2), b"gone");
        let fall_back = StoreOptions { fall_back_to_older: true, ..options() };
        let store = open_with(&disk, Some(&catalogue), fall_back).unwrap();
        let taken = store.recover().ok().flatten().map(|manifest| manifest.checkpoint.0);
        assert_eq!(taken, expected);
    }
}

#[test]
fn falling_back_never_means_beginning_anew() {
    let disk = filled(1, false);
    disk.set_content(&manifest_file(1, 1), b"gone");
    let repeats = StoreOptions { fall_back_to_older: true, accept_repeats: true, ..options() };
    let error = start(&disk, repeats).unwrap_err();
    assert_names(&error, &manifest_file(1, 1));
}

#[test]
fn a_damaged_manifest_keeps_blobs_from_being_collected() {
    let disk = filled(2, false);
    disk.set_content(&manifest_file(1, 1), b"gone");
    let blobs = || disk.files().iter().filter(|path| path.starts_with(format!("{ROOT}/blobs"))).count();
    let store = open(&disk);
    begin(&store, Some(2));
    assert_eq!(blobs(), 2);
    store.delete_checkpoint(&fence(), CheckpointId(1)).unwrap();
    begin(&store, Some(2));
    assert_eq!(blobs(), 1);
}

/// A manifest with this body, in an envelope whose checksums are right.
fn sealed(body: &[u8]) -> Vec<u8> {
    let mut bytes = b"alluvium\x01\x00\x01\x00".to_vec();
    bytes.extend((body.len() as u64).to_le_bytes());
    bytes.extend(crc32c::crc32c(body).to_le_bytes());
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    bytes.extend(body);
    bytes
}

#[test]
fn hostile_manifests_with_right_checksums_give_errors_and_never_a_panic_or_a_large_allocation() {
    let disk = filled(1, true);
    let file = manifest_file(1, 1);
    let whole = disk.content(&file).unwrap();
    let body = &whole[28..];
    assert_eq!(sealed(body), whole);
    let mut accepted = 0;
    for position in 0..body.len() {
        for value in [0x00, 0x7f, 0x80, 0x9f, 0xc1, 0xc6, 0xcf, 0xdb, 0xdd, 0xdf, 0xff] {
            let mut hostile = body.to_vec();
            hostile[position] = value;
            disk.set_content(&file, &sealed(&hostile));
            match start(&disk, options()) {
                // A changed text or number is a manifest too, as long as nothing contradicts it.
                Ok(manifest) => accepted += u32::from(manifest.is_some()),
                Err(error) => assert!(!error.is_retryable(), "{error}"),
            }
        }
    }
    assert!((accepted as usize) < body.len() * 6, "{accepted} of {}", body.len() * 11);

    let nested = [&b"\x81\xa1x"[..], &[0x91; 1_000_000], b"\xc0"].concat();
    let attributes = b"\x81\xaaattributes\xdf\xff\xff\xff\xff".to_vec();
    let subtasks = b"\x81\xa8subtasks\xdd\xff\xff\xff\xff\x80".to_vec();
    let job = b"\x81\xa3job\xdb\xff\xff\xff\xffx".to_vec();
    let doubled = [body, body].concat();
    let bodies = [b"".to_vec(), b"\xdd\xff\xff\xff\xff".to_vec(), nested, attributes, subtasks, job, doubled];
    for body in bodies {
        disk.set_content(&file, &sealed(&body));
        let error = start(&disk, options()).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        assert_names(&error, &file);
    }
}

#[test]
fn a_manifest_that_names_a_blob_outside_of_the_folder_is_damaged() {
    let disk = filled(1, true);
    let file = manifest_file(1, 1);
    let body = disk.content(&file).unwrap()[28..].to_vec();
    let name = b"blobs/r0000000001-";
    let at = body.windows(name.len()).position(|window| window == name).unwrap();
    for path in [&b"../../etc/password"[..], b"/var/store/blobs/r", b"blobs/../runs/r000", b"runs/r0000000001-b"] {
        let mut hostile = body.clone();
        hostile[at..at + name.len()].copy_from_slice(path);
        disk.set_content(&file, &sealed(&hostile));
        assert!(matches!(start(&disk, options()), Err(StoreError::Damaged { .. })));
    }
}

#[test]
fn a_manifest_of_a_later_version_is_refused_as_such() {
    let disk = filled(1, true);
    let file = manifest_file(1, 1);
    let mut later = disk.content(&file).unwrap();
    later[10] = 3;
    let checksum = crc32c::crc32c(&later[..24]);
    later[24..28].copy_from_slice(&checksum.to_le_bytes());
    disk.set_content(&file, &later);
    let fall_back = StoreOptions { fall_back_to_older: true, accept_repeats: true, ..options() };
    let error = start(&disk, fall_back).unwrap_err();
    assert!(matches!(error, StoreError::TooNew { found: 3, supported: 2, .. }), "{error}");
    assert_names(&error, &file);
}

/// A manifest of an operator of two instances, with something in flight in front of the second one.
fn with_records_in_flight() -> Manifest {
    let mut manifest = manifest(RunNumber(1), CheckpointId(1), None, false);
    manifest.shapes[0].parallelism = 2;
    let (from, to) = (OperatorUid::new("flights"), OperatorUid::new("total-delay"));
    let name = EdgeName { from, port: 0, to, input: 0, nth: 0, graph: 0 };
    let edges = vec![InFlightEdge { name, records: 1, producers: 2, routing: Routing::Any }];
    let in_flight = InFlight { records: 1, content: PieceContent::Inline(vec![7]), parallelism: 2, edges };
    let subtask = &mut manifest.subtasks[0];
    (subtask.subtask.index, subtask.operators[0].subtask, subtask.in_flight) = (1, 1, Some(in_flight));
    manifest
}

#[test]
fn a_manifest_with_records_in_flight_has_a_version_that_who_would_lose_them_refuses() {
    for (manifest, version) in
        [(with_records_in_flight(), 2), (manifest(RunNumber(1), CheckpointId(1), None, false), 1)]
    {
        let disk = SimulatedDisk::new();
        let store = open(&disk);
        begin(&store, None);
        assert_eq!(store.publish(&fence(), &manifest), PublishOutcome::Done);
        assert_eq!(disk.content(&manifest_file(1, 1)).unwrap()[10..12], [version, 0]);
        assert_eq!(store.recover(), Ok(Some(manifest)));
    }
}

#[test]
fn a_manifest_with_impossible_widths_is_damaged_and_never_published() {
    fn in_flight(manifest: &mut Manifest) -> &mut InFlight {
        manifest.subtasks[0].in_flight.as_mut().unwrap()
    }
    type Change = fn(&mut Manifest);
    let changes: [(&str, Change); 13] = [
        ("no instances", |manifest| manifest.shapes[0].parallelism = 0),
        ("too many instances", |manifest| manifest.shapes[2].parallelism = 32_769),
        ("no key groups", |manifest| manifest.shapes[0].max_parallelism = 0),
        ("too many key groups", |manifest| manifest.shapes[0].max_parallelism = u32::MAX),
        ("a third of two instances", |manifest| manifest.subtasks[0].operators[0].subtask = 2),
        ("a third of two enumerators", |manifest| manifest.enumerators[0].subtask = 2),
        ("nobody took", |manifest| in_flight(manifest).parallelism = 0),
        ("too many took", |manifest| in_flight(manifest).parallelism = u32::MAX),
        ("one too few took", |manifest| in_flight(manifest).parallelism = 1),
        ("another one took", |manifest| manifest.subtasks[0].subtask.index = 2),
        ("the last of all took", |manifest| manifest.subtasks[0].subtask.index = u32::MAX),
        ("nobody sent", |manifest| in_flight(manifest).edges[0].producers = 0),
        ("too many sent", |manifest| in_flight(manifest).edges[0].producers = u32::MAX),
    ];
    let disk = filled(1, true);
    let file = manifest_file(1, 1);
    let put = |manifest: &Manifest| disk.set_content(&file, &sealed(&rmp_serde::to_vec_named(manifest).unwrap()));
    put(&with_records_in_flight());
    assert_eq!(start(&disk, options()), Ok(Some(with_records_in_flight())));
    for (what, change) in changes {
        let mut hostile = with_records_in_flight();
        change(&mut hostile);
        put(&hostile);
        let error = start(&disk, options()).expect_err(what);
        assert!(matches!(error, StoreError::Damaged { .. }), "{what}: {error}");
        assert_names(&error, &file);

        let store = open(&SimulatedDisk::new());
        begin(&store, None);
        let outcome = store.publish(&fence(), &hostile);
        assert!(matches!(outcome, PublishOutcome::Failed(StoreError::Refused { .. })), "{what}: {outcome:?}");
    }
}
