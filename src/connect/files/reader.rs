//! Emits the records of one file after the other. A worker reads and parses the next chunk meanwhile.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::vec;

use alluvium_actors::ids::CheckpointId;
use alluvium_actors::ports::blocking::Promise;
use alluvium_actors::ports::files::Files;

use super::FileSplit;
use super::enumerator::FinishedFile;
use super::format::{Chunk, Format, Parser};
use super::position::{Position, find};
use super::progress::{FileProgress, SourceProgress};
use super::text::Text;
use crate::connect::adapter::{decode, encode};
use crate::connect::pace::Pace;
use crate::connect::source::{ReaderOutput, ReaderRequest, ReaderStatus, SourceContext, SourceReader};
use crate::connect::work_panicked;
use crate::error::OperatorResult;

/// Emits the records of one file after the other.
pub struct FileSourceReader<F: Format> {
    context: SourceContext,
    format: F,
    inputs: Vec<PathBuf>,
    rate: Option<u64>,
    progress: SourceProgress,
    pace: Option<Pace>,
    /// Files to be read after the current one.
    waiting: VecDeque<FileSplit>,
    active: Option<Active<F>>,
    /// Files that were read to their end, as long as the enumerator has not confirmed that it knows: a checkpoint between the two has them from here.
    unconfirmed: Vec<FileSplit>,
    requested: bool,
    no_more: bool,
    requests: Vec<ReaderRequest>,
}

/// The file that is being read.
struct Active<F: Format> {
    split: FileSplit,
    /// Where `current` begins, or where the file was left.
    position: Position,
    current: Option<Current<F::Record>>,
    loading: Option<Promise<Loaded<F>>>,
    figures: Arc<FileProgress>,
    stored_offset: u64,
}

/// A chunk that is being emitted.
struct Current<T> {
    records: vec::IntoIter<T>,
    ends: Vec<usize>,
    text: Vec<u8>,
    stop: Option<OperatorResult>,
}

/// What the worker brings: a chunk, and the parser for the next one.
type Loaded<F> = OperatorResult<(<F as Format>::Parser, LoadedChunk<<F as Format>::Record>)>;

struct LoadedChunk<T> {
    /// Where the chunk begins, if this is the first one.
    began: Option<Position>,
    chunk: Chunk<T>,
    stored_offset: u64,
    stored_length: u64,
}

fn load<P: Parser>(parser: P, began: Option<Position>) -> (P, LoadedChunk<P::Record>) {
    let mut parser = parser;
    let chunk = parser.next_chunk();
    let (stored_offset, stored_length) = (parser.text().stored_offset(), parser.text().stored_length());
    (parser, LoadedChunk { began, chunk, stored_offset, stored_length })
}

fn open<F: Format>(format: &F, files: &dyn Files, path: &Path, stored: Position) -> Loaded<F> {
    let head = format.head(Text::open(files, path)?)?;
    let mut text = Text::open(files, path)?;
    let place = find(&mut text, head.length, stored)?;
    Ok(load(format.parser(text, head, place), Some(place.position)))
}

impl<T> Current<T> {
    fn emitted(&self) -> usize {
        self.ends.len() - self.records.len()
    }

    /// The position behind the last record that was emitted, in a chunk that begins at `start`.
    fn position(&self, start: Position) -> Position {
        let emitted = self.emitted();
        let end = if emitted == 0 { 0 } else { self.ends[emitted - 1] };
        start.behind(&self.text[..end], emitted as u64)
    }
}

impl<F: Format> Active<F> {
    fn position(&self) -> Position {
        self.current.as_ref().map_or(self.position, |current| current.position(self.position))
    }

    fn rows(&self) -> u64 {
        self.position.records + self.current.as_ref().map_or(0, |current| current.emitted() as u64)
    }

    /// Takes up a chunk, and sends the worker for the next one.
    fn take_up(&mut self, context: &SourceContext, parser: F::Parser, loaded: LoadedChunk<F::Record>) {
        let LoadedChunk { began, chunk, stored_offset, stored_length } = loaded;
        self.position = began.unwrap_or(self.position);
        self.stored_offset = stored_offset;
        self.figures.set_total(stored_length.max(stored_offset));
        let Chunk { records, ends, text, stop } = chunk;
        if stop.is_none() {
            self.loading = Some(context.blocking(move || Ok(load(parser, None))));
        }
        self.current = Some(Current { records: records.into_iter(), ends, text, stop });
    }
}

impl<F: Format> FileSourceReader<F> {
    pub(super) fn new(
        context: SourceContext,
        format: F,
        inputs: Vec<PathBuf>,
        rate: Option<u64>,
        progress: SourceProgress,
    ) -> FileSourceReader<F> {
        FileSourceReader {
            context,
            format,
            inputs,
            rate,
            progress,
            pace: None,
            waiting: VecDeque::new(),
            active: None,
            unconfirmed: Vec::new(),
            requested: false,
            no_more: false,
            requests: Vec::new(),
        }
    }

    fn begin(&mut self, split: FileSplit) -> OperatorResult {
        let path = split.file.path(&self.inputs)?;
        let figures = self.progress.file(&split.file.label());
        let (files, format, position) = (self.context.files(), self.format.clone(), split.position);
        if self.pace.is_none() {
            // So many readers read at the same time, and share the rate.
            let readers = split.of.min(u64::from(self.context.parallelism()));
            self.pace = self.rate.map(|rate| Pace::new(rate, 1, readers));
        }
        let loading = self.context.blocking(move || open(&format, files.as_ref(), &path, position));
        let (current, loading) = (None, Some(loading));
        self.active = Some(Active { split, position, current, loading, figures, stored_offset: 0 });
        Ok(())
    }

    /// The current file was read to its end.
    fn end(&mut self) -> OperatorResult {
        let Some(active) = self.active.take() else { return Ok(()) };
        let file = active.split.file.label();
        active.figures.set_total(active.stored_offset);
        self.unconfirmed.push(FileSplit { position: active.position(), ..active.split.clone() });
        let finished = FinishedFile { file: file.clone(), bytes: active.stored_offset, rows: active.rows() };
        self.requests.push(ReaderRequest::Event(encode(&finished)?));
        self.requests.push(ReaderRequest::Finished { split: file });
        Ok(())
    }

    /// Emits what the current chunk has. `None` when it has nothing more.
    fn emit(&mut self, output: &mut ReaderOutput<'_, F::Record>) -> Option<Poll<OperatorResult<ReaderStatus>>> {
        let active = self.active.as_mut()?;
        let current = active.current.as_mut()?;
        let mut count = current.records.len().min(output.budget());
        if count == 0 {
            return None;
        }
        if let Some(pace) = &mut self.pace {
            match pace.take(self.context.now(), count) {
                Ok(due) => count = due,
                Err(moment) => {
                    self.context.wake_at(moment);
                    return Some(Poll::Pending);
                }
            }
        }
        output.emit_all(current.records.by_ref().take(count));
        let rows = active.rows();
        active.figures.set(active.stored_offset, rows);
        Some(Poll::Ready(Ok(ReaderStatus::More)))
    }
}

impl<F: Format> SourceReader for FileSourceReader<F> {
    type Record = F::Record;
    type Split = FileSplit;

    fn add_splits(&mut self, splits: Vec<FileSplit>) -> OperatorResult {
        for split in splits {
            // After a restore the figures go back to the restored position.
            let figures = self.progress.file(&split.file.label());
            figures.set(split.position.offset, split.position.records);
            self.waiting.push_back(split);
        }
        self.requested = false;
        Ok(())
    }

    fn no_more_splits(&mut self) {
        self.no_more = true;
    }

    fn poll_batch(
        &mut self,
        context: &mut Context<'_>,
        output: &mut ReaderOutput<'_, F::Record>,
    ) -> Poll<OperatorResult<ReaderStatus>> {
        loop {
            if let Some(answer) = self.emit(output) {
                return answer;
            }
            let Some(active) = &mut self.active else {
                if let Some(split) = self.waiting.pop_front() {
                    self.begin(split)?;
                    continue;
                }
                if self.no_more {
                    return Poll::Ready(Ok(ReaderStatus::Ended));
                }
                if !self.requested {
                    self.requested = true;
                    self.requests.push(ReaderRequest::Split);
                }
                return Poll::Pending;
            };
            if let Some(current) = active.current.take() {
                active.position = active.position.behind(&current.text, current.ends.len() as u64);
                match current.stop {
                    None => {}
                    Some(Ok(())) => self.end()?,
                    Some(Err(failure)) => return Poll::Ready(Err(failure)),
                }
                continue;
            }
            let Some(loading) = &mut active.loading else { return Poll::Pending };
            let Poll::Ready(loaded) = loading.poll(context) else { return Poll::Pending };
            active.loading = None;
            let (parser, loaded) = loaded.map_err(|panicked| work_panicked(&panicked))??;
            active.take_up(&self.context, parser, loaded);
        }
    }

    fn snapshot(&mut self, _: CheckpointId) -> Vec<FileSplit> {
        let active = self.active.iter().map(|active| FileSplit { position: active.position(), ..active.split.clone() });
        active.chain(self.waiting.iter().cloned()).chain(self.unconfirmed.iter().cloned()).collect()
    }

    /// The enumerator knows that a file was read to its end.
    fn enumerator_event(&mut self, event: Vec<u8>) -> OperatorResult {
        let file: String = decode(&event)?;
        self.unconfirmed.retain(|split| split.file.label() != file);
        Ok(())
    }

    fn take_requests(&mut self) -> Vec<ReaderRequest> {
        std::mem::take(&mut self.requests)
    }
}
