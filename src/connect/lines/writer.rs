//! Collects lines, and has them written and prepared away from the arbiter, one request at a time.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use alluvium_actors::ids::{CheckpointId, RunNumber};
use alluvium_actors::ports::blocking::Promise;
use alluvium_actors::ports::fence::Fence;
use alluvium_actors::ports::files::{FileErrorKind, FileWriter, Files};
use alluvium_actors::protocol::mutation::{Mutation, is_active};

use super::names::Names;
use super::owner::Owner;
use super::{LinesState, PendingFile};
use crate::connect::sink::{SinkContext, SinkWriter};
use crate::connect::{file_failure, work_panicked};
use crate::error::{OperatorError, OperatorResult};
use crate::record::Record;
use crate::record::batch::Slice;

/// A buffer goes to the file when it has this many bytes.
const BUFFER_BYTES: usize = 1024 * 1024;

/// With this many buffers waiting the writer takes no more records.
const WAITING_BUFFERS: usize = 2;

/// Collects lines, and has them written into files.
pub struct LinesWriter {
    context: SinkContext,
    finding: Option<Promise<OperatorResult<u64>>>,
    directory: Option<u64>,
    buffer: Vec<u8>,
    emptied: Vec<Vec<u8>>,
    waiting: VecDeque<Request>,
    /// The file, while no request is under way.
    output: Option<Output>,
    under_way: Option<Promise<(Output, OperatorResult<Answer>)>>,
    prepared: BTreeMap<CheckpointId, Vec<PendingFile>>,
    failed: Option<OperatorError>,
}

enum Request {
    Append(Vec<u8>),
    Prepare(CheckpointId),
}

enum Answer {
    /// The buffer, for the next lines.
    Appended(Vec<u8>),
    Prepared(CheckpointId, Vec<PendingFile>),
}

impl LinesWriter {
    pub(super) fn new(context: SinkContext, names: Names) -> LinesWriter {
        let names = Arc::new(names);
        let output = Output {
            files: context.files(),
            fence: context.fence(),
            names: Arc::clone(&names),
            run: context.run(),
            subtask: context.subtask(),
            made: 0,
            open: None,
        };
        let files = context.files();
        let finding = context.blocking(move || match Owner::read(files.as_ref(), &names)? {
            Some(owner) => Ok(owner.directory),
            None => Err(OperatorError::unrecoverable(format!(
                "the directory {} lost its owner file while the job started: was it wiped?",
                names.shown()
            ))),
        });
        LinesWriter {
            context,
            finding: Some(finding),
            directory: None,
            buffer: Vec::new(),
            emptied: Vec::new(),
            waiting: VecDeque::new(),
            output: Some(output),
            under_way: None,
            prepared: BTreeMap::new(),
            failed: None,
        }
    }

    /// Ships the buffer.
    fn ship(&mut self) {
        if !self.buffer.is_empty() {
            let next = self.emptied.pop().unwrap_or_default();
            self.waiting.push_back(Request::Append(std::mem::replace(&mut self.buffer, next)));
        }
    }

    /// Starts the next request, if none is under way.
    fn start(&mut self) {
        while let Some(mut output) = self.output.take() {
            match self.waiting.pop_front() {
                None => self.output = Some(output),
                // Nothing was written for this checkpoint, so there is nothing to make durable.
                Some(Request::Prepare(checkpoint)) if output.open.is_none() => {
                    self.prepared.insert(checkpoint, Vec::new());
                    self.output = Some(output);
                    continue;
                }
                Some(request) => {
                    self.under_way = Some(self.context.blocking(move || {
                        let answer = match request {
                            Request::Append(lines) => output.append(lines),
                            Request::Prepare(checkpoint) => output.prepare(checkpoint),
                        };
                        (output, answer)
                    }));
                }
            }
            break;
        }
    }

    /// Carries requests on as far as it goes now.
    fn drive(&mut self, context: &mut Context<'_>) -> OperatorResult {
        loop {
            if let Some(failure) = &self.failed {
                return Err(failure.clone());
            }
            self.start();
            let Some(under_way) = &mut self.under_way else { return Ok(()) };
            let Poll::Ready(answer) = under_way.poll(context) else { return Ok(()) };
            self.under_way = None;
            let answer = answer.map_err(|panicked| work_panicked(&panicked)).and_then(|(output, answer)| {
                self.output = Some(output);
                answer
            });
            match answer {
                Ok(Answer::Appended(mut buffer)) => {
                    buffer.clear();
                    self.emptied.push(buffer);
                }
                Ok(Answer::Prepared(checkpoint, files)) => {
                    self.prepared.insert(checkpoint, files);
                }
                Err(failure) => self.failed = Some(failure),
            }
        }
    }

    fn poll_found(&mut self, context: &mut Context<'_>) -> Poll<OperatorResult> {
        if let Some(finding) = &mut self.finding {
            let found = ready!(finding.poll(context));
            self.finding = None;
            match found.map_err(|panicked| work_panicked(&panicked)).and_then(|found| found) {
                Ok(directory) => self.directory = Some(directory),
                Err(failure) => self.failed = Some(failure),
            }
        }
        Poll::Ready(self.failed.clone().map_or(Ok(()), Err))
    }
}

impl<T: Record + AsRef<str>> SinkWriter<T> for LinesWriter {
    type Committable = PendingFile;
    type State = LinesState;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<OperatorResult> {
        ready!(self.poll_found(context))?;
        self.drive(context)?;
        if self.waiting.len() >= WAITING_BUFFERS { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn write_batch(&mut self, slice: &mut Slice<T>) -> OperatorResult {
        for line in slice.records.drain(..) {
            self.buffer.extend_from_slice(line.as_ref().as_bytes());
            self.buffer.push(b'\n');
        }
        slice.clear();
        if self.buffer.len() >= BUFFER_BYTES {
            self.ship();
            self.start();
        }
        Ok(())
    }

    fn prepare(&mut self, checkpoint: CheckpointId) -> OperatorResult {
        self.ship();
        self.waiting.push_back(Request::Prepare(checkpoint));
        self.start();
        Ok(())
    }

    fn poll_prepared(
        &mut self,
        checkpoint: CheckpointId,
        context: &mut Context<'_>,
    ) -> Poll<OperatorResult<Vec<PendingFile>>> {
        self.drive(context)?;
        match self.prepared.remove(&checkpoint) {
            Some(files) => Poll::Ready(Ok(files)),
            None if self.under_way.is_none() => Poll::Ready(Err(OperatorError::unrecoverable(format!(
                "checkpoint {checkpoint} was never prepared, or was asked for twice"
            )))),
            None => Poll::Pending,
        }
    }

    fn snapshot(&mut self, _: CheckpointId) -> LinesState {
        LinesState { directory: self.directory }
    }
}

/// The file of a writer, where blocking is allowed. Every effect checks the fence directly before.
struct Output {
    files: Arc<dyn Files>,
    fence: Fence,
    names: Arc<Names>,
    run: RunNumber,
    subtask: u32,
    /// How many files were begun.
    made: u64,
    open: Option<OpenFile>,
}

struct OpenFile {
    writer: Box<dyn FileWriter>,
    path: PathBuf,
    number: u64,
    length: u64,
    checksum: u32,
}

impl Output {
    fn append(&mut self, lines: Vec<u8>) -> OperatorResult<Answer> {
        self.fence.check()?;
        if self.open.is_none() {
            let number = self.made;
            self.made += 1;
            let path = self.names.in_progress(self.run, self.subtask, number);
            let writer = self.files.create(&path).map_err(|error| file_failure(&error))?;
            self.open = Some(OpenFile { writer, path, number, length: 0, checksum: 0 });
        }
        if let Some(open) = &mut self.open {
            self.fence.check()?;
            open.writer.append(&lines).map_err(|error| file_failure(&error))?;
            open.length += lines.len() as u64;
            open.checksum = crc32c::crc32c_append(open.checksum, &lines);
        }
        Ok(Answer::Appended(lines))
    }

    fn prepare(&mut self, checkpoint: CheckpointId) -> OperatorResult<Answer> {
        let Some(mut open) = self.open.take() else { return Ok(Answer::Prepared(checkpoint, Vec::new())) };
        self.fence.check()?;
        if !is_active(Mutation::PrepareBeforeSync) {
            open.writer.sync().map_err(|error| file_failure(&error))?;
        }
        let name = self.names.output(self.run, checkpoint, self.subtask, open.number);
        let pending = self.names.pending(&name);
        self.fence.check()?;
        self.files.rename_without_replace(&open.path, &pending).map_err(|error| file_failure(&error))?;
        self.fence.check()?;
        sync_directory(self.files.as_ref(), &self.names)?;
        let file = PendingFile { name, length: open.length, checksum: open.checksum };
        Ok(Answer::Prepared(checkpoint, vec![file]))
    }
}

/// Makes the names in the directory durable. When that fails nobody knows which of them are, and a later success does not tell either: no attempt
/// of this process can mend it.
pub(super) fn sync_directory(files: &dyn Files, names: &Names) -> OperatorResult {
    files.sync_directory(names.directory()).map_err(|error| match error.kind {
        FileErrorKind::OutOfSpace => file_failure(&error),
        FileErrorKind::NotFound
        | FileErrorKind::AlreadyExists
        | FileErrorKind::Locked
        | FileErrorKind::Other(_)
        | _ => OperatorError::unrecoverable(format!("{error}; check the disk, then start the job again")),
    })
}
