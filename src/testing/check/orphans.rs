//! What a store on a real disk holds that no checkpoint needs.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use crate::snapshot::stored_manifest;

/// The blobs of a store's directory that no checkpoint in it names, by their names there, in order. After a job has come to its end, was stopped or was cancelled there must be none;
/// while it runs, those of checkpoints that are not complete are among them.
///
/// # Errors
/// When the directory cannot be read, or a manifest in it is damaged.
///
/// ```
/// use std::time::Duration;
///
/// use alluvium::connect::{Collect, Generator};
/// use alluvium::testing::check::orphans;
/// use alluvium::{Job, Options};
///
/// let store = tempfile::tempdir()?;
/// let job = Job::new("copies");
/// job.source("numbers", Generator::bounded(1_000, |index| index)).sink("copies", Collect::new());
/// let options = Options::default().store(store.path()).checkpoint_every(Duration::from_millis(10));
/// job.build()?.start(&options)?.wait_blocking()?;
/// assert!(orphans(store.path())?.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn orphans(store: impl AsRef<Path>) -> io::Result<Vec<String>> {
    let store = store.as_ref();
    let mut named = BTreeSet::new();
    for name in files(store, "manifests")? {
        let bytes = fs::read(store.join(&name))?;
        if let Some(manifest) = stored_manifest(&name, || bytes) {
            let manifest = manifest.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            named.extend(manifest.blobs().map(|blob| blob.name.clone()));
        }
    }
    Ok(files(store, "blobs")?.into_iter().filter(|name| !named.contains(name)).collect())
}

/// The names of the files in a folder, in order; none if it is not there.
fn files(store: &Path, folder: &str) -> io::Result<BTreeSet<String>> {
    let entries = match fs::read_dir(store.join(folder)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        entries => entries?,
    };
    entries.map(|entry| Ok(format!("{folder}/{}", entry?.file_name().to_string_lossy()))).collect()
}
