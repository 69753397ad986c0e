//! What a job of version 1 left when it was stopped at any moment is a start for today's code.
//!
//! `job-version-1` is the input, the store and the output of a job as they were when a checkpoint was published and not yet committed. It is never
//! written again. [`interrupted_today`] makes the same of today's code, for the next version's directory, and to compare what is in the two.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alluvium::connect::{CsvFiles, Lines};
use alluvium::operator::{Access, Context, KeyedProcess};
use alluvium::snapshot::{PieceReader, StateReader, Store, StoreOptions};
use alluvium::state::{List, Map, StateDescriptor, Value};
use alluvium::storage::SystemFiles;
use alluvium::{Graph, Job, JobEvent, JobOutcome, Listener, OperatorResult, Options, RestartStrategy};
use alluvium_actors::ports::sink::PreparedCheckpoint;
use alluvium_actors::ports::store::{COMMITTABLES, CheckpointStore, Manifest, OperatorSnapshot, PieceContent};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use crate::{copy_below, files_below};

const JOB: &str = "weather stations";
const ROWS: u64 = 200;
const STATIONS: u64 = 24;

/// Below it, pieces lie in the manifest: all but the keyed state here, which is always longer.
const INLINE_LIMIT: usize = 512;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Reading {
    station: String,
    sky: String,
    degrees: i64,
}

/// Tells for each reading how many there were of its station, the last three, and how often its sky was what.
#[derive(Clone)]
struct History;

impl KeyedProcess for History {
    type Key = String;
    type In = Reading;
    type Out = String;
    type State = (Value<u64>, List<i64>, Map<String, u64>);

    fn state(&self) -> Self::State {
        (Value::named("count"), List::named("latest"), Map::named("skies"))
    }

    fn process(
        &self,
        reading: Reading,
        (mut count, mut latest, mut skies): Access<'_, Self>,
        mut context: Context<'_, Self>,
    ) -> OperatorResult {
        *count.get_or_insert_with(|| 0) += 1;
        latest.push(reading.degrees);
        if latest.len() > 3 {
            let kept: Vec<i64> = latest.iter().skip(1).copied().collect();
            latest.replace(kept);
        }
        *skies.get_or_insert_with(&reading.sky, || 0) += 1;
        let count = count.get().copied().unwrap_or_default();
        let latest: Vec<i64> = latest.iter().copied().collect();
        let mut seen: Vec<(String, u64)> = skies.iter().map(|(sky, times)| (sky.clone(), *times)).collect();
        seen.sort();
        context.emit(line(&reading.station, count, &latest, &seen));
        Ok(())
    }
}

fn line(station: &str, count: u64, latest: &[i64], skies: &[(String, u64)]) -> String {
    format!("{station} {count} {latest:?} {skies:?}")
}

/// The job on what lies in `place`.
fn weather(place: &Path, rate: Option<u64>) -> Graph {
    let job = Job::new(JOB).parallelism(2);
    let mut readings = CsvFiles::<Reading>::new(place.join("input.csv"));
    if let Some(rate) = rate {
        readings = readings.rate(rate);
    }
    job.source("readings", readings)
        .key_by(|reading| &reading.station)
        .process("history", History)
        .sink("lines", Lines::exactly_once(place.join("output")));
    job.build().unwrap()
}

fn options(place: &Path) -> Options {
    Options::default().store(place.join("store")).inline_limit(INLINE_LIMIT).restart(RestartStrategy::None)
}

fn input() -> String {
    let row = |number: u64| {
        let (station, sky) = (number * 7 % STATIONS, ["clear", "cloudy", "rain"][(number / 5 % 3) as usize]);
        format!("station {station},{sky},{}\n", number as i64 * 31 % 60 - 20)
    };
    let rows: String = (0..ROWS).map(row).collect();
    format!("station,sky,degrees\n{rows}")
}

/// The lines of an uninterrupted job, sorted, from the input alone.
fn expected(input: &str) -> Vec<String> {
    let mut stations: BTreeMap<&str, (Vec<i64>, BTreeMap<String, u64>)> = BTreeMap::new();
    let mut lines = Vec::new();
    for row in input.lines().skip(1) {
        let [station, sky, degrees] = row.split(',').collect::<Vec<_>>().try_into().unwrap();
        let (readings, skies) = stations.entry(station).or_default();
        readings.push(degrees.parse().unwrap());
        *skies.entry(sky.to_owned()).or_default() += 1;
        let latest = &readings[readings.len().saturating_sub(3)..];
        let skies: Vec<(String, u64)> = skies.iter().map(|(sky, times)| (sky.clone(), *times)).collect();
        lines.push(line(station, readings.len() as u64, latest, &skies));
    }
    lines.sort();
    lines
}

/// The files of `place/output` whose names end so, with their text.
fn output(place: &Path, ending: &str) -> BTreeMap<String, String> {
    let Ok(entries) = fs::read_dir(place.join("output")) else { return BTreeMap::new() };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names = names.filter(|name| name.ends_with(ending)).collect::<BTreeSet<_>>();
    // A file may be renamed while a job runs.
    let read = |name: String| Some((fs::read_to_string(place.join("output").join(&name)).ok()?, name));
    names.into_iter().filter_map(read).map(|(text, name)| (name, text)).collect()
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compat/job-version-1")
}

/// The fixture, where it may be changed.
fn copied() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    copy_below(&files_below(&fixture()), place.path());
    place
}

/// Copies what a running job has on the disk, in the moment between the manifest of a checkpoint and the commits that follow it, once both writers
/// prepared something and earlier output is committed.
struct Image {
    from: PathBuf,
    to: PathBuf,
    taken: Mutex<bool>,
}

impl Listener for Image {
    fn event(&self, event: JobEvent) {
        let mut taken = self.taken.lock().unwrap();
        let JobEvent::Completed { .. } = event else { return };
        let pending = output(&self.from, ".pending");
        let has_prepared = |subtask: &str| pending.keys().any(|name| name.contains(subtask));
        if *taken || !has_prepared("-s0-") || !has_prepared("-s1-") || output(&self.from, ".txt").is_empty() {
            return;
        }
        for group in ["", "store", "store/runs", "store/reservations", "store/manifests", "store/blobs", "output"] {
            let Ok(entries) = fs::read_dir(self.from.join(group)) else { continue };
            fs::create_dir_all(self.to.join(group)).unwrap();
            for entry in entries.map(|entry| entry.unwrap()).filter(|entry| entry.path().is_file()) {
                // What is gone by now was not needed any more.
                let _ = fs::copy(entry.path(), self.to.join(group).join(entry.file_name()));
            }
        }
        *taken = true;
    }
}

/// Writes today's equivalent of the fixture, and leaves it below the directory for what tests write.
fn interrupted_today() -> PathBuf {
    let running = tempfile::tempdir().unwrap();
    fs::write(running.path().join("input.csv"), input()).unwrap();
    let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join("job-written-today");
    let _ = fs::remove_dir_all(&to);
    let image = Arc::new(Image { from: running.path().to_owned(), to: to.clone(), taken: Mutex::new(false) });
    let options =
        options(running.path()).checkpoint_every(Duration::from_millis(500)).listener(Arc::clone(&image) as _);
    let handle = weather(running.path(), Some(40)).start(&options).unwrap();
    let is_taken = |_: &JobEvent| *image.taken.lock().unwrap();
    handle.events().find(is_taken).expect("the job ended before there was anything to copy");
    handle.cancel();
    let _ = handle.wait_blocking();
    to
}

/// What a store holds, without the numbers and texts that differ from one job to the next.
fn shape(place: &Path) -> Json {
    let store = Store::open_directory(Arc::new(SystemFiles::new()), &place.join("store"), StoreOptions::new(JOB, 0));
    let store = Arc::new(store.unwrap());
    let manifest: Manifest = store.recover().unwrap().unwrap();
    let operators = |snapshots: &[OperatorSnapshot]| -> Json {
        let shown = |snapshot: &OperatorSnapshot| {
            let pieces = snapshot
                .pieces
                .iter()
                .map(|piece| (piece.name.clone(), piece_shape(&store, piece.name.as_str(), &piece.content)));
            json!({ "uid": snapshot.uid, "pieces": pieces.collect::<BTreeMap<_, _>>() })
        };
        snapshots.iter().map(shown).collect()
    };
    // Which of the two readers gets the file is chance, so the subtasks of a node are not told apart.
    let mut subtasks: Vec<(u32, String, Json)> = Vec::new();
    for part in &manifest.subtasks {
        let (facts, operators) =
            (json!({ "subtask": part.subtask, "finished": part.finished }), operators(&part.operators));
        subtasks.push((part.subtask.node.0, operators.to_string(), json!([fields(&facts), operators])));
    }
    subtasks.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    json!({
        "job": manifest.job,
        "kind": manifest.kind,
        "shapes": manifest.shapes,
        "enumerators": operators(&manifest.enumerators),
        "subtasks": subtasks.into_iter().map(|(node, _, shape)| json!([node, shape])).collect::<Json>(),
        "attributes": manifest.attributes,
    })
}

fn piece_shape(store: &Arc<Store>, name: &str, content: &PieceContent) -> Json {
    match (name, content) {
        (COMMITTABLES, PieceContent::Inline(bytes)) => {
            let prepared: Vec<PreparedCheckpoint> = rmp_serde::from_slice(bytes).unwrap();
            let committables = prepared.iter().flat_map(|prepared| &prepared.committables);
            let committables: Json = committables.map(|bytes| rmp_serde::from_slice::<Json>(bytes).unwrap()).collect();
            json!({ "inline": fields(&rmp_serde::from_slice(bytes).unwrap()), "committables": fields(&committables) })
        }
        (_, PieceContent::Inline(bytes)) => json!({ "inline": fields(&rmp_serde::from_slice(bytes).unwrap()) }),
        (_, PieceContent::Blob(_)) => {
            let state = StateReader::open(PieceReader::new(store.clone(), content)).unwrap();
            let descriptors = state.descriptors().iter().map(|descriptor| {
                let described: StateDescriptor = rmp_serde::from_slice(descriptor).unwrap();
                // The fingerprint is of names that the compiler gives.
                json!({ "fields": fields(&rmp_serde::from_slice(descriptor).unwrap()), "kind": described.kind, "name": described.name,
                    "encoding": described.encoding, "writer": described.writer })
            });
            let states: BTreeSet<u32> = state.chunks().iter().map(|chunk| chunk.state).collect();
            json!({ "blob": descriptors.collect::<Json>(), "states": states })
        }
    }
}

/// The names of fields, and the kind of what is in them; of an array only the kinds of its elements.
fn fields(value: &Json) -> Json {
    match value {
        Json::Null => Json::Null,
        Json::Bool(_) => json!("yes or no"),
        Json::Number(_) => json!("number"),
        Json::String(_) => json!("text"),
        Json::Array(elements) => {
            let kinds = elements.iter().map(fields).map(|kind| (kind.to_string(), kind));
            kinds.collect::<BTreeMap<_, _>>().into_values().collect()
        }
        Json::Object(map) => map.iter().map(|(name, value)| (name.clone(), fields(value))).collect(),
    }
}

#[test]
fn a_job_of_version_1_that_was_stopped_goes_on_to_the_exact_output() {
    let place = copied();
    let input = fs::read_to_string(place.path().join("input.csv")).unwrap();
    let pending = output(place.path(), ".pending");
    let committed = output(place.path(), ".txt");
    let so_far: usize = pending.values().chain(committed.values()).map(|text| text.lines().count()).sum();
    assert!(!committed.is_empty() && pending.len() == 2 && so_far < ROWS as usize, "stopped on the way");

    let report = weather(place.path(), None).start(&options(place.path())).unwrap().wait_blocking().unwrap();
    assert_eq!(report.outcome, JobOutcome::Finished);
    let restored = format!("-c{:020}-", report.status.restored_from.unwrap().0);
    let found = output(place.path(), ".txt");
    for (name, text) in &pending {
        assert!(name.contains(&restored), "{name} was prepared by the checkpoint that the job began with");
        assert_eq!(found.get(name.trim_end_matches(".pending")), Some(text), "{name} was committed as it was");
    }
    for (name, text) in &committed {
        assert_eq!(found.get(name), Some(text), "{name} stayed as it was");
    }
    let mut lines: Vec<&str> = found.values().flat_map(|text| text.lines()).collect();
    lines.sort_unstable();
    assert_eq!(lines, expected(&input));
    assert_eq!((output(place.path(), ".pending").len(), output(place.path(), ".inprogress").len()), (0, 0));
}

#[test]
fn a_job_that_is_stopped_today_leaves_what_version_1_left() {
    let today = interrupted_today();
    let place = copied();
    // Looked at in a copy: opening a store writes into it.
    let other = tempfile::tempdir().unwrap();
    copy_below(&files_below(&today), other.path());
    let (now, then) = (shape(other.path()), shape(place.path()));
    assert!(now == then, "{now:#} is in {}, and {then:#} in {}", today.display(), fixture().display());
}

#[test]
fn a_changed_byte_in_a_blob_is_an_error_that_names_the_file() {
    let place = copied();
    let newest = files_below(&place.path().join("store")).into_keys().filter(|path| path.starts_with("blobs")).max();
    let blob = newest.unwrap();
    let path = place.path().join("store").join(&blob);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    let ended = weather(place.path(), None).start(&options(place.path())).map(|handle| handle.wait_blocking());
    let message = match ended {
        Ok(Ok(report)) => panic!("the job ran over a damaged blob: {report:?}"),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    assert!(message.contains(blob.file_name().unwrap().to_str().unwrap()), "{message}");
}
