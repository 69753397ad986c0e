//! Lists the files once, and gives a reader the next one when it asks.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::task::{Context, Poll};

use alluvium_actors::ids::CheckpointId;
use alluvium_actors::ports::blocking::Promise;
use alluvium_actors::ports::files::{FileKind, Files};
use serde::{Deserialize, Serialize};

use super::position::Position;
use super::progress::SourceProgress;
use super::{FileName, FileSplit};
use crate::connect::adapter::{decode, encode};
use crate::connect::source::{SourceContext, SourceEnumerator, SplitAssigner};
use crate::connect::{file_failure, work_panicked};
use crate::error::{OperatorError, OperatorResult};

/// What a checkpoint keeps of the enumerator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesState {
    /// How many inputs the job had.
    inputs: u32,
    /// The files in order, once they were listed.
    files: Option<Vec<ListedFile>>,
    /// How many of them were assigned.
    assigned: usize,
    /// Those that were read to their end.
    finished: Vec<FinishedFile>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ListedFile {
    file: FileName,
    length: u64,
}

/// What a reader tells of a file that it read to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FinishedFile {
    pub(super) file: String,
    pub(super) bytes: u64,
    pub(super) rows: u64,
}

/// Lists the files once, and gives a reader the next one when it asks.
#[derive(Debug)]
pub struct FileEnumerator {
    context: SourceContext,
    inputs: Vec<PathBuf>,
    progress: SourceProgress,
    listing: Option<Promise<OperatorResult<Vec<ListedFile>>>>,
    state: FilesState,
    /// Readers that asked before the files were listed.
    waiting: VecDeque<u32>,
}

impl FileEnumerator {
    pub(super) fn new(context: SourceContext, inputs: Vec<PathBuf>, progress: SourceProgress) -> FileEnumerator {
        let state = FilesState { inputs: inputs.len() as u32, ..FilesState::default() };
        FileEnumerator { context, inputs, progress, listing: None, state, waiting: VecDeque::new() }
    }

    fn serve(&mut self, reader: u32, files: &[ListedFile], assigner: &mut SplitAssigner<FileSplit>) {
        match files.get(self.state.assigned) {
            Some(next) => {
                self.state.assigned += 1;
                let split =
                    FileSplit { file: next.file.clone(), of: files.len() as u64, position: Position::default() };
                assigner.assign(reader, vec![split]);
            }
            None => assigner.no_more_splits(reader),
        }
    }

    /// Serves those who wait, once there is a list.
    fn serve_waiting(&mut self, assigner: &mut SplitAssigner<FileSplit>) {
        let Some(files) = self.state.files.take() else { return };
        while let Some(reader) = self.waiting.pop_front() {
            self.serve(reader, &files, assigner);
        }
        self.state.files = Some(files);
    }

    /// Shows the figures of the files that no reader holds; readers set those of theirs.
    fn show_progress(&self) {
        for (position, listed) in self.state.files.iter().flatten().enumerate() {
            let figures = self.progress.file(&listed.file.label());
            figures.set_total(listed.length);
            if position >= self.state.assigned {
                figures.set(0, 0);
            }
        }
        for finished in &self.state.finished {
            self.progress.file(&finished.file).set(finished.bytes, finished.rows);
        }
    }
}

impl SourceEnumerator for FileEnumerator {
    type Split = FileSplit;
    type State = FilesState;

    fn restore(&mut self, state: FilesState) -> OperatorResult {
        if state.inputs as usize != self.inputs.len() {
            return Err(OperatorError::unrecoverable(format!(
                "the checkpoint reads from {} inputs, and the job has {} now: give it its former inputs, or begin anew",
                state.inputs,
                self.inputs.len()
            )));
        }
        self.state = state;
        self.show_progress();
        Ok(())
    }

    fn snapshot(&mut self, _: CheckpointId) -> FilesState {
        self.state.clone()
    }

    fn poll(&mut self, context: &mut Context<'_>, assigner: &mut SplitAssigner<FileSplit>) -> OperatorResult {
        if self.state.files.is_some() {
            return Ok(());
        }
        let listing = self.listing.get_or_insert_with(|| {
            let (files, inputs) = (self.context.files(), self.inputs.clone());
            self.context.blocking(move || list(files.as_ref(), &inputs))
        });
        let Poll::Ready(listed) = listing.poll(context) else { return Ok(()) };
        self.listing = None;
        self.state.files = Some(listed.map_err(|panicked| work_panicked(&panicked))??);
        self.show_progress();
        self.serve_waiting(assigner);
        Ok(())
    }

    fn reader_registered(&mut self, _: u32, _: Vec<FileSplit>, _: &mut SplitAssigner<FileSplit>) -> OperatorResult {
        // A reader that has nothing to read asks by itself.
        Ok(())
    }

    fn split_requested(&mut self, reader: u32, assigner: &mut SplitAssigner<FileSplit>) -> OperatorResult {
        self.waiting.push_back(reader);
        self.serve_waiting(assigner);
        Ok(())
    }

    fn reader_event(&mut self, reader: u32, event: Vec<u8>, assigner: &mut SplitAssigner<FileSplit>) -> OperatorResult {
        let finished: FinishedFile = decode(&event)?;
        assigner.send_event(reader, encode(&finished.file)?);
        if self.state.finished.iter().all(|known| known.file != finished.file) {
            self.state.finished.push(finished);
        }
        Ok(())
    }
}

fn list(files: &dyn Files, inputs: &[PathBuf]) -> OperatorResult<Vec<ListedFile>> {
    let mut listed = Vec::new();
    for (number, input) in inputs.iter().enumerate() {
        let number = number as u32;
        let metadata = files.metadata(input).map_err(|error| file_failure(&error))?.ok_or_else(|| {
            OperatorError::unrecoverable(format!("the input {} does not exist: check the path", input.display()))
        })?;
        match metadata.kind {
            FileKind::File | FileKind::Other => {
                listed.push(ListedFile { file: FileName { input: number, name: None }, length: metadata.length });
            }
            FileKind::Directory => {
                for entry in files.list(input).map_err(|error| file_failure(&error))? {
                    if entry.metadata.kind == FileKind::File && !entry.name.starts_with('.') {
                        let file = FileName { input: number, name: Some(entry.name) };
                        listed.push(ListedFile { file, length: entry.metadata.length });
                    }
                }
            }
        }
    }
    Ok(listed)
}
