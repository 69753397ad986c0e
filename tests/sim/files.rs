//! What must be true of the files of a job: output belongs to complete checkpoints, and nothing is left over in the end.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use alluvium::ports::files::Files;
use alluvium::ports::store::CheckpointStore;
use alluvium::snapshot::{Store, StoreOptions};
use alluvium::storage::FileStorage;
use alluvium::testing::disk::SimulatedDisk;
use alluvium::testing::simulation::World;
use alluvium::{CheckpointId, CheckpointKind};

/// The names of the files directly in a directory.
fn names(disk: &SimulatedDisk, directory: &str) -> Vec<String> {
    let inside = disk.files().into_iter().filter(|path| path.parent() == Some(Path::new(directory)));
    inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect()
}

/// The lines of all output in a directory, file by file.
pub(crate) fn lines(disk: &SimulatedDisk, directory: &str) -> Result<Vec<String>, String> {
    let mut lines = Vec::new();
    for name in names(disk, directory).iter().filter(|name| name.ends_with(".csv")) {
        let content = disk.content(&Path::new(directory).join(name)).unwrap_or_default();
        let text = String::from_utf8(content).map_err(|error| format!("{name} is no text: {error}"))?;
        lines.extend(text.lines().map(ToOwned::to_owned));
    }
    Ok(lines)
}

/// The checkpoint in the name of a file.
fn checkpoint(name: &str) -> Option<CheckpointId> {
    let (_, rest) = name.split_once("-c")?;
    Some(CheckpointId(rest.get(..20)?.parse().ok()?))
}

/// Every output file belongs to a checkpoint that was complete when it appeared.
pub(crate) fn output_is_of_complete_checkpoints(world: &World<'_>, directory: &str) -> Result<(), String> {
    for name in names(world.disk, directory).iter().filter(|name| name.ends_with(".csv")) {
        let checkpoint = checkpoint(name).ok_or_else(|| format!("{name} is not the name of an output file"))?;
        if world.complete >= Some(checkpoint) {
            continue;
        }
        // The end of a job may be read back from its manifest, without a word to listeners.
        let newest = names(world.disk, "/store/manifests").iter().filter_map(|name| self::checkpoint(name)).max();
        if newest < Some(checkpoint) {
            return Err(format!("{name} was committed before checkpoint {checkpoint} was complete"));
        }
    }
    Ok(())
}

/// After the end of a job: one final checkpoint and what it names, and no file of a sink that is not output.
pub(crate) fn nothing_is_left_over(disk: &SimulatedDisk, job: &str, outputs: &[&str]) -> Result<(), String> {
    let files: Arc<dyn Files> = Arc::new(disk.clone());
    let storage = FileStorage::open(files, Path::new("/store")).map_err(|error| error.to_string())?;
    let store = Store::new(Arc::new(storage), None, StoreOptions::new(job, 0)).map_err(|error| error.to_string())?;
    let known = store.list().map_err(|error| error.to_string())?;
    let [summary] = known.as_slice() else {
        return Err(format!("not one checkpoint is left but {}: {known:?}", known.len()));
    };
    let manifest = store.recover().map_err(|error| error.to_string())?.ok_or("no checkpoint is recovered")?;
    if summary.kind != CheckpointKind::Final || manifest.checkpoint != summary.checkpoint {
        return Err(format!("what is left is not the final checkpoint: {summary:?}"));
    }
    let named: BTreeSet<String> = manifest.blobs().map(|blob| blob.name.clone()).collect();
    for name in names(disk, "/store/blobs") {
        if !named.contains(&name) && !named.contains(&format!("blobs/{name}")) {
            return Err(format!("the blob {name} is left over; the final checkpoint names {named:?}"));
        }
    }
    for directory in outputs {
        let left: Vec<String> = names(disk, directory)
            .into_iter()
            .filter(|name| !name.ends_with(".csv") && !name.starts_with('.'))
            .collect();
        if !left.is_empty() {
            return Err(format!("left over in {directory}: {left:?}"));
        }
    }
    Ok(())
}
