//! Where effects are read: from a ledger, a collection, a service, the files of a sink, or from what the test gives.

use std::fmt;
use std::path::{Path, PathBuf};

use alluvium_actors::ids::{CheckpointId, Moment};

use super::{Scene, Violation, shown};
use crate::connect::Collect;
use crate::record::Record;
use crate::testing::models::{FlakyService, Ledger};

/// Something that took effect outside of the job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect<E> {
    /// What.
    pub record: E,
    /// When, if that is known.
    pub at: Option<Moment>,
    /// In the transaction of which checkpoint, if there is one.
    pub checkpoint: Option<CheckpointId>,
    /// By which writer.
    pub subtask: Option<u32>,
}

impl<E> Effect<E> {
    /// One of which nothing else is known.
    #[must_use]
    pub fn of(record: E) -> Effect<E> {
        Effect { record, at: None, checkpoint: None, subtask: None }
    }

    pub(super) fn place(&self) -> Place {
        Place { at: self.at, checkpoint: self.checkpoint, subtask: self.subtask }
    }
}

/// When and where something took effect.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    at: Option<Moment>,
    pub(super) checkpoint: Option<CheckpointId>,
    subtask: Option<u32>,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.checkpoint, self.subtask) {
            (Some(checkpoint), Some(subtask)) => write!(formatter, "in checkpoint {checkpoint} of writer {subtask}")?,
            (Some(checkpoint), None) => write!(formatter, "in checkpoint {checkpoint}")?,
            (None, Some(subtask)) => write!(formatter, "by writer {subtask}")?,
            (None, None) => formatter.write_str("once")?,
        }
        match (self.checkpoint, self.at) {
            (_, None) => Ok(()),
            (Some(_), Some(at)) => write!(formatter, " (committed at {})", shown(at)),
            (None, Some(at)) => write!(formatter, " (at {})", shown(at)),
        }
    }
}

/// A place where effects of a job can be read. Implemented for the models, for [`Collect`], for [`FileLines`] and [`Given`]; a user's own outside system may
/// implement it.
pub trait Effects: 'static {
    /// What takes effect.
    type Record: Clone + 'static;

    /// What messages call it.
    fn name(&self) -> String;

    /// The effects from the one of this number on, in order, if they can be told while the job runs at no great cost; none if not.
    fn from(&self, first: usize) -> Vec<Effect<Self::Record>> {
        let _ = first;
        Vec::new()
    }

    /// All effects so far, in order.
    ///
    /// # Errors
    /// What is outside cannot be read as effects.
    fn all(&self, scene: &Scene<'_>) -> Result<Vec<Effect<Self::Record>>, Violation>;
}

impl<T: Record> Effects for Ledger<T> {
    type Record = T;

    fn name(&self) -> String {
        Ledger::name(self).to_owned()
    }

    fn from(&self, first: usize) -> Vec<Effect<T>> {
        self.effects_from(first)
    }

    fn all(&self, _: &Scene<'_>) -> Result<Vec<Effect<T>>, Violation> {
        Ok(self.effects_from(0))
    }
}

impl<Q: Record, A: Send + 'static> Effects for FlakyService<Q, A> {
    type Record = Q;

    fn name(&self) -> String {
        FlakyService::name(self).to_owned()
    }

    fn from(&self, first: usize) -> Vec<Effect<Q>> {
        let effects = self.effects_from(first).into_iter();
        effects.map(|effect| Effect { at: Some(effect.at), ..Effect::of(effect.request) }).collect()
    }

    fn all(&self, _: &Scene<'_>) -> Result<Vec<Effect<Q>>, Violation> {
        Ok(Effects::from(self, 0))
    }
}

impl<T: Record> Effects for Collect<T> {
    type Record = T;

    fn name(&self) -> String {
        "the collection".to_owned()
    }

    fn all(&self, _: &Scene<'_>) -> Result<Vec<Effect<T>>, Violation> {
        let parts = self.collected_parts().into_iter();
        Ok(parts
            .map(|(checkpoint, subtask, record)| Effect {
                record,
                at: None,
                checkpoint: Some(checkpoint),
                subtask: Some(subtask),
            })
            .collect())
    }
}

/// The lines of the output files of a [`Lines`](crate::connect::Lines) sink on the simulated disk, each made into a record by a function.
#[derive(Clone)]
pub struct FileLines<E, F> {
    directory: PathBuf,
    suffix: String,
    parse: F,
    record: std::marker::PhantomData<fn() -> E>,
}

impl<E, F: Fn(&str) -> Result<E, String>> FileLines<E, F> {
    /// Of the files in `directory` whose names end in `suffix`, as the sink was configured.
    pub fn new(directory: impl Into<PathBuf>, suffix: &str, parse: F) -> FileLines<E, F> {
        FileLines { directory: directory.into(), suffix: suffix.to_owned(), parse, record: std::marker::PhantomData }
    }
}

impl<E, F> fmt::Debug for FileLines<E, F> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "FileLines({}/*{})", self.directory.display(), self.suffix)
    }
}

impl<E: Clone + 'static, F: Fn(&str) -> Result<E, String> + 'static> Effects for FileLines<E, F> {
    type Record = E;

    fn name(&self) -> String {
        self.directory.display().to_string()
    }

    /// In the order of the files' names: run, checkpoint, writer.
    fn all(&self, scene: &Scene<'_>) -> Result<Vec<Effect<E>>, Violation> {
        let mut effects = Vec::new();
        for name in output_files(scene, &self.directory, &self.suffix) {
            let path = self.directory.join(&name);
            let content = scene.world.disk.content(&path).unwrap_or_default();
            let text = String::from_utf8(content).map_err(|error| format!("{} is no text: {error}", path.display()))?;
            for line in text.lines() {
                let record = (self.parse)(line).map_err(|error| format!("{}: `{line}`: {error}", path.display()))?;
                effects.push(Effect {
                    checkpoint: checkpoint_in(&name),
                    subtask: subtask_in(&name),
                    ..Effect::of(record)
                });
            }
        }
        Ok(effects)
    }
}

/// The names of the files directly in a directory, in order.
pub(super) fn names_in(scene: &Scene<'_>, directory: &Path) -> Vec<String> {
    let inside = scene.world.disk.files().into_iter().filter(|path| path.parent() == Some(directory));
    inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect()
}

pub(super) fn output_files(scene: &Scene<'_>, directory: &Path, suffix: &str) -> Vec<String> {
    let mut names = names_in(scene, directory);
    names.retain(|name| name.ends_with(suffix) && !name.starts_with('.'));
    names
}

/// The checkpoint in the name of an output file.
pub(super) fn checkpoint_in(name: &str) -> Option<CheckpointId> {
    let (_, rest) = name.rsplit_once("-c")?;
    Some(CheckpointId(rest.get(..20)?.parse().ok()?))
}

fn subtask_in(name: &str) -> Option<u32> {
    let (_, rest) = name.rsplit_once("-s")?;
    rest.split_once('-')?.0.parse().ok()
}

/// What a function of the test gives: effects of an outside system that no model stands for.
pub struct Given<E> {
    name: String,
    read: Box<dyn Fn(&Scene<'_>) -> Vec<E>>,
}

impl<E> Given<E> {
    /// `read` gives all effects so far, in order; it is asked at the end of the run.
    #[must_use]
    pub fn new(name: &str, read: impl Fn(&Scene<'_>) -> Vec<E> + 'static) -> Given<E> {
        Given { name: name.to_owned(), read: Box::new(read) }
    }
}

impl<E> fmt::Debug for Given<E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Given({})", self.name)
    }
}

impl<E: Clone + 'static> Effects for Given<E> {
    type Record = E;

    fn name(&self) -> String {
        self.name.clone()
    }

    fn all(&self, scene: &Scene<'_>) -> Result<Vec<Effect<E>>, Violation> {
        Ok((self.read)(scene).into_iter().map(Effect::of).collect())
    }
}

impl<S: Effects> Effects for std::rc::Rc<S> {
    type Record = S::Record;

    fn name(&self) -> String {
        S::name(self)
    }

    fn from(&self, first: usize) -> Vec<Effect<S::Record>> {
        S::from(self, first)
    }

    fn all(&self, scene: &Scene<'_>) -> Result<Vec<Effect<S::Record>>, Violation> {
        S::all(self, scene)
    }
}
