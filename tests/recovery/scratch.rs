//! Directories of a test, and pictures of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use alluvium::testing::check::orphans;
use tempfile::TempDir;

use crate::child::Process;

/// Where sled lies inside a store: it may lag, or be lost, without harm.
const CATALOGUE: &str = "catalogue.sled";

/// A directory for one job, removed at the end.
#[derive(Debug)]
pub(crate) struct Scratch {
    root: TempDir,
}

/// Files by their path inside a directory.
pub(crate) type Tree = BTreeMap<PathBuf, Vec<u8>>;

impl Scratch {
    pub(crate) fn new() -> Scratch {
        Scratch { root: tempfile::tempdir().expect("there is room for a test") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.path("store")
    }

    pub(crate) fn output(&self) -> PathBuf {
        self.path("output")
    }

    pub(crate) fn catalogue(&self) -> PathBuf {
        self.store().join(CATALOGUE)
    }

    /// The names of the manifests.
    pub fn manifests(&self) -> Vec<std::ffi::OsString> {
        let entries = std::fs::read_dir(self.store().join("manifests")).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
        names.sort();
        names
    }

    /// Waits until `process` has published a manifest that was not there, or has ended.
    pub fn wait_for_manifest(&self, process: &mut Process) {
        let before = self.manifests();
        while self.manifests().iter().all(|name| before.contains(name)) && process.is_running() {
            std::thread::yield_now();
        }
    }

    /// Everything in store and output that says something: sled's files and the lock may change at any start.
    pub(crate) fn picture(&self) -> Tree {
        let mut tree = read_tree(&self.root.path().join("."));
        tree.retain(|path, _| {
            !path.components().any(|part| part.as_os_str() == CATALOGUE)
                && path.extension().is_none_or(|end| end != "lock")
        });
        tree
    }

    /// That a run which came to its end has left nothing behind but its output and its last checkpoint.
    pub(crate) fn check_tidy(&self) {
        let names = |directory: PathBuf| -> Vec<String> {
            let tree = read_tree(&directory);
            tree.keys().map(|path| path.file_name().unwrap_or_default().to_string_lossy().into_owned()).collect()
        };
        let manifests = names(self.store().join("manifests"));
        assert_eq!(manifests.len(), 1, "one checkpoint is left: {manifests:?}");
        let orphans = orphans(self.store()).expect("the store can be read");
        assert!(orphans.is_empty(), "no checkpoint names {orphans:?}");
        for file in names(self.output()) {
            let kept = file.ends_with(".csv") || file == ".alluvium-owner";
            assert!(kept, "{file} was left in the output directory");
        }
    }

    /// A second one with the same content.
    pub(crate) fn copy(&self) -> Scratch {
        let copy = Scratch::new();
        write_tree(copy.root.path(), &read_tree(self.root.path()));
        copy
    }
}

/// All files below a directory; none if it is not there.
pub(crate) fn read_tree(directory: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut open = vec![PathBuf::new()];
    while let Some(below) = open.pop() {
        let Ok(entries) = fs::read_dir(directory.join(&below)) else { continue };
        for entry in entries {
            let entry = entry.expect("a directory can be listed");
            let path = below.join(entry.file_name());
            if entry.file_type().expect("a file has a type").is_dir() {
                open.push(path);
            } else {
                let content = fs::read(entry.path()).expect("a file can be read");
                tree.insert(path, content);
            }
        }
    }
    tree
}

/// Writes files below a directory.
pub(crate) fn write_tree(directory: &Path, tree: &Tree) {
    for (path, content) in tree {
        let path = directory.join(path);
        fs::create_dir_all(path.parent().expect("a file lies in a directory")).expect("directories can be made");
        fs::write(path, content).expect("files can be written");
    }
}
