//! The files of a file sink: output belongs to complete checkpoints, and nothing else is left in the end.

use std::path::{Path, PathBuf};

use alluvium_actors::ids::CheckpointId;

use super::effects::{checkpoint_in, names_in, output_files};
use super::{Check, Scene, Verdict, Violation, few};
use crate::snapshot::complete_checkpoint;

/// The output directory of a [`Lines`](crate::connect::Lines) sink on the simulated disk: every output file belongs to a checkpoint that was complete when it appeared, and at
/// the end there is no file that is not output.
#[derive(Clone, Debug)]
pub struct SinkFiles {
    directory: PathBuf,
    suffix: String,
}

impl SinkFiles {
    /// Of the sink that writes files ending in `suffix` into `directory`.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>, suffix: &str) -> SinkFiles {
        SinkFiles { directory: directory.into(), suffix: suffix.to_owned() }
    }
}

/// The newest checkpoint whose manifest is there: the end of a job may be read back from it, without a word to listeners.
fn newest_manifest(scene: &Scene<'_>) -> Option<CheckpointId> {
    let store = scene.store?;
    let names = names_in(scene, &store.join(Path::new("manifests")));
    names.iter().filter_map(|name| complete_checkpoint(&format!("manifests/{name}"))).max()
}

impl Check for SinkFiles {
    fn rule(&self) -> &str {
        "files of a sink"
    }

    fn observe(&mut self, scene: &Scene<'_>) -> Result<(), Violation> {
        for name in output_files(scene, &self.directory, &self.suffix) {
            let checkpoint = checkpoint_in(&name).ok_or_else(|| format!("{name} is not the name of an output file"))?;
            if scene.history.newest_complete() < Some(checkpoint) && newest_manifest(scene) < Some(checkpoint) {
                let path = self.directory.join(&name);
                let what = format!("{} was committed before checkpoint {checkpoint} was complete", path.display());
                return Err(Violation::new(what));
            }
        }
        Ok(())
    }

    fn ended(&mut self, scene: &Scene<'_>) -> Result<Verdict, Violation> {
        self.observe(scene)?;
        let mut left = names_in(scene, &self.directory);
        left.retain(|name| !name.ends_with(&self.suffix) && !name.starts_with('.'));
        if left.is_empty() {
            return Ok(Verdict::Kept);
        }
        Ok(Verdict::LeftOver(format!("files in {} that are not output: {}", self.directory.display(), few(left))))
    }
}
