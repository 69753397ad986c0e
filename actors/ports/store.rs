//! The door to the checkpoint store, and the vocabulary of what a checkpoint consists of.
//!
//! A checkpoint is complete when its [`Manifest`] was published and at no other moment. Each start of a job, and each
//! restore inside a process, is a *run* with a [`RunRecord`] of its own, which decides where recovery begins.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{CheckpointId, OperatorUid, RunNumber, SubtaskId, WallTime};
use crate::ports::fence::Fence;
use crate::ports::history::CheckpointRecord;

mod byte_string;
mod error;
mod names;

pub use self::error::StoreError;
pub use self::names::{BlobNameParts, blob_name, increment_name, name_part, parse_blob_name, parse_increment};

/// The name of the piece that holds what a sink prepared and has not committed yet. A sink with nothing to commit
/// leaves the piece out: its presence tells that the outside may hold output of this checkpoint.
pub const COMMITTABLES: &str = "committables";

/// Names one immutable blob of the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BlobHandle {
    /// The name, relative to the store, unique per write.
    pub name: String,
    /// The length in bytes.
    pub length: u64,
    /// CRC-32C of the whole blob.
    pub checksum: u32,
}

/// Where the bytes of a piece are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PieceContent {
    /// In the manifest itself: for pieces below [`CheckpointStore::inline_limit`].
    Inline(#[serde(with = "byte_string")] Vec<u8>),
    /// In a blob.
    Blob(BlobHandle),
}

impl PieceContent {
    /// The blob, if it is one.
    #[must_use]
    pub fn blob(&self) -> Option<&BlobHandle> {
        match self {
            PieceContent::Inline(_) => None,
            PieceContent::Blob(handle) => Some(handle),
        }
    }

    /// The length in bytes, wherever they are.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match self {
            PieceContent::Inline(bytes) => bytes.len() as u64,
            PieceContent::Blob(handle) => handle.length,
        }
    }
}

/// One named part of an operator's snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// What it is, for example `keyed`, `reader` or [`COMMITTABLES`]. Unique within its operator's snapshot.
    pub name: String,
    /// The bytes, or where they are.
    pub content: PieceContent,
}

/// What one instance of an operator, or one enumerator, put into a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorSnapshot {
    /// The operator.
    pub uid: OperatorUid,
    /// The parallel index; 0 for enumerators.
    pub subtask: u32,
    /// The parts.
    pub pieces: Vec<Piece>,
}

/// What one subtask put into a checkpoint: the content of its acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubtaskSnapshot {
    /// The subtask.
    pub subtask: SubtaskId,
    /// Whether it had ended and will not run again after a restore.
    pub finished: bool,
    /// One entry per operator of its chain that has anything to keep.
    pub operators: Vec<OperatorSnapshot>,
    /// The records that were in front of the chain, where a barrier overtook them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<InFlight>,
}

impl SubtaskSnapshot {
    /// Every blob that this snapshot names.
    pub fn blobs(&self) -> impl Iterator<Item = &BlobHandle> {
        let in_flight = self.in_flight.iter().filter_map(|in_flight| in_flight.content.blob());
        self.operators.iter().flat_map(OperatorSnapshot::blobs).chain(in_flight)
    }

    /// The length of all pieces in bytes, wherever they are.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.operators.iter().map(OperatorSnapshot::bytes).sum::<u64>() + self.in_flight_bytes()
    }

    /// As [`OperatorSnapshot::written_bytes`], over all operators, and of what was in flight, which is never taken over.
    #[must_use]
    pub fn written_bytes(&self, checkpoint: CheckpointId) -> u64 {
        let operators = self.operators.iter().map(|operator| operator.written_bytes(checkpoint));
        operators.sum::<u64>() + self.in_flight_bytes()
    }

    /// The length of the records in flight in bytes.
    #[must_use]
    pub fn in_flight_bytes(&self) -> u64 {
        self.in_flight.as_ref().map_or(0, |in_flight| in_flight.content.bytes())
    }

    /// How many records were in flight.
    #[must_use]
    pub fn in_flight_records(&self) -> u64 {
        self.in_flight.as_ref().map_or(0, |in_flight| in_flight.records)
    }
}

/// The records that were in front of a subtask when a barrier overtook them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlight {
    /// How many.
    pub records: u64,
    /// Their bytes, or where they are.
    pub content: PieceContent,
}

impl OperatorSnapshot {
    /// Every blob that this snapshot names.
    pub fn blobs(&self) -> impl Iterator<Item = &BlobHandle> {
        self.pieces.iter().filter_map(|piece| piece.content.blob())
    }

    /// The length of all pieces in bytes, wherever they are.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.content.bytes()).sum()
    }

    /// How many bytes had to be written for `checkpoint`: its own blobs, and everything that stands in the manifest, which is written anew each time. Not the blobs
    /// that an incremental checkpoint takes over from earlier ones, nor those that folding made of them in the background, which bear the numbers of earlier ones too.
    #[must_use]
    pub fn written_bytes(&self, checkpoint: CheckpointId) -> u64 {
        let taken_over =
            |handle: &BlobHandle| parse_blob_name(&handle.name).is_some_and(|parts| parts.checkpoint != checkpoint);
        let written = self.pieces.iter().filter(|piece| !piece.content.blob().is_some_and(taken_over));
        written.map(|piece| piece.content.bytes()).sum()
    }

    /// A piece and the increments over it, in the order in which they are to be read. Empty if there is no such piece.
    #[must_use]
    pub fn chain(&self, name: &str) -> Vec<&Piece> {
        let Some(base) = self.piece(name) else { return Vec::new() };
        let of = |piece: &&Piece| parse_increment(&piece.name).is_some_and(|(of, _)| of == name);
        let mut increments: Vec<&Piece> = self.pieces.iter().filter(of).collect();
        increments.sort_by(|one, other| one.name.cmp(&other.name));
        std::iter::once(base).chain(increments).collect()
    }

    /// The piece of that name.
    #[must_use]
    pub fn piece(&self, name: &str) -> Option<&Piece> {
        self.pieces.iter().find(|piece| piece.name == name)
    }
}

/// How wide an operator was when the checkpoint was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorShape {
    /// The operator.
    pub uid: OperatorUid,
    /// The number of its instances.
    pub parallelism: u32,
    /// The number of its key groups.
    pub max_parallelism: u32,
}

/// Why a checkpoint was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum CheckpointKind {
    /// The interval asked for it.
    Periodic,
    /// A caller asked for it.
    Manual,
    /// The job was stopped with it and can be resumed from it.
    Stopping,
    /// The job ended with it: all input was read. There is nothing to resume.
    Final,
}

impl CheckpointKind {
    /// Whether nothing comes after a checkpoint of this kind that was completed.
    #[must_use]
    pub fn closes(self) -> bool {
        match self {
            CheckpointKind::Stopping | CheckpointKind::Final => true,
            CheckpointKind::Periodic | CheckpointKind::Manual => false,
        }
    }
}

/// A completed checkpoint: all of it, or where the rest of it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The name of the job.
    pub job: String,
    /// The seed of the job's key hash, the same in all its checkpoints.
    pub hash_seed: u64,
    /// The run that took it.
    pub run: RunNumber,
    /// Its number.
    pub checkpoint: CheckpointId,
    /// Why it was taken.
    pub kind: CheckpointKind,
    /// When it was triggered.
    pub triggered: WallTime,
    /// When the last acknowledgement came.
    pub completed: WallTime,
    /// Every operator with its width.
    pub shapes: Vec<OperatorShape>,
    /// The snapshots of the sources' enumerators.
    pub enumerators: Vec<OperatorSnapshot>,
    /// The snapshots of the subtasks.
    pub subtasks: Vec<SubtaskSnapshot>,
    /// Facts that the runtime keeps for itself, by name.
    pub attributes: BTreeMap<String, String>,
}

impl Manifest {
    /// Every blob that this manifest names.
    pub fn blobs(&self) -> impl Iterator<Item = &BlobHandle> {
        let enumerators = self.enumerators.iter().flat_map(OperatorSnapshot::blobs);
        enumerators.chain(self.subtasks.iter().flat_map(SubtaskSnapshot::blobs))
    }

    /// The snapshots of all enumerators and of all operators of all subtasks.
    pub fn operators(&self) -> impl Iterator<Item = &OperatorSnapshot> {
        self.enumerators.iter().chain(self.subtasks.iter().flat_map(|subtask| subtask.operators.iter()))
    }

    /// Whether a sink had anything to commit in this checkpoint.
    #[must_use]
    pub fn has_committables(&self) -> bool {
        self.operators().any(|operator| operator.piece(COMMITTABLES).is_some())
    }
}

/// The outcome of publishing a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum PublishOutcome {
    /// It is published and survives a crash.
    Done,
    /// It is not published, and never will be.
    Failed(StoreError),
    /// It may be published or not. To be settled with [`CheckpointStore::read_back`] before anything is restored,
    /// aborted, deleted, committed or given a new id.
    Unknown(StoreError),
}

/// Opens a run. Written and synced before anything else of the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// The number of the run.
    pub run: RunNumber,
    /// The checkpoint it began from; `None` if it began anew.
    pub restored_from: Option<CheckpointId>,
    /// The lowest checkpoint id of the run: above every id that was handed out before.
    pub first_checkpoint: CheckpointId,
    /// Ids from `first_checkpoint` up to this one, exclusive, are reserved by this record itself.
    pub reserved_below: CheckpointId,
    /// When the run began.
    pub started: WallTime,
    /// The name of the job.
    pub job: String,
    /// The seed of the job's key hash.
    pub hash_seed: u64,
}

/// What is known of a completed checkpoint without reading all of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointSummary {
    /// The run that took it.
    pub run: RunNumber,
    /// Its number.
    pub checkpoint: CheckpointId,
    /// Why it was taken.
    pub kind: CheckpointKind,
    /// When it was triggered.
    pub triggered: WallTime,
    /// When the last acknowledgement came.
    pub completed: WallTime,
    /// The length of its manifest in bytes.
    pub manifest_bytes: u64,
    /// The length of all its blobs together in bytes.
    pub blob_bytes: u64,
    /// Whether a sink had anything to commit in it.
    pub has_committables: bool,
    /// Whether a later run began from an older checkpoint: recovery never takes it again. It does not count among
    /// the retained ones.
    pub abandoned: bool,
}

/// A blob that is being written.
pub trait BlobWriter: Send {
    /// Appends `bytes`.
    ///
    /// # Errors
    ///
    /// The store failed, or the attempt is over. The writer is of no more use then.
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError>;

    /// The number of bytes written so far.
    fn written(&self) -> u64;

    /// Ends the blob; on return it survives a crash.
    ///
    /// # Errors
    ///
    /// The store failed, or the attempt is over. The blob is then never named by a manifest.
    fn finish(self: Box<Self>) -> Result<BlobHandle, StoreError>;

    /// Gives the blob up and removes what was written of it, as far as possible. Dropping the writer does the same.
    fn abandon(self: Box<Self>);
}

/// The store of a job's checkpoints. Every call blocks, and runs where blocking is allowed.
pub trait CheckpointStore: Send + Sync + 'static {
    /// The checkpoint to begin from: the newest one of the newest run, or the one that this run began from; `None`
    /// if the job has to begin anew. Outcomes that were unknown are settled before it returns: the manifest that it
    /// gives survives a crash.
    ///
    /// # Errors
    ///
    /// The manifest, or what it names, is damaged or missing; the message names the file.
    fn recover(&self) -> Result<Option<Manifest>, StoreError>;

    /// Opens the next run, and removes what nobody refers to any more.
    ///
    /// # Errors
    ///
    /// The run record could not be written; then nothing was opened.
    fn begin_run(
        &self,
        fence: &Fence,
        restored_from: Option<CheckpointId>,
        started: WallTime,
    ) -> Result<RunRecord, StoreError>;

    /// Makes it durable that ids below `below` may have been handed out by `run`. To be called before the first id
    /// at or above [`RunRecord::reserved_below`], or the last reservation, is used.
    ///
    /// # Errors
    ///
    /// The reservation could not be written: the ids must not be used.
    fn reserve_ids(&self, fence: &Fence, run: RunNumber, below: CheckpointId) -> Result<(), StoreError>;

    /// Begins a blob. The name comes from [`blob_name`].
    ///
    /// # Errors
    ///
    /// The name is taken or not allowed, the store failed, or the attempt is over.
    fn create_blob(&self, fence: &Fence, name: &str) -> Result<Box<dyn BlobWriter>, StoreError>;

    /// Reads `length` bytes from `offset` of a blob: exactly as many. Only ranges inside the blob are allowed. The
    /// checksum of the whole blob is not looked at; that does [`CheckpointStore::verify_blob`].
    ///
    /// # Errors
    ///
    /// The blob is missing, shorter than its handle says, or the range lies outside of it.
    fn read_blob(&self, handle: &BlobHandle, offset: u64, length: usize) -> Result<Vec<u8>, StoreError>;

    /// Reads a whole blob in parts and compares length and checksum with its handle.
    ///
    /// # Errors
    ///
    /// The blob is missing or damaged.
    fn verify_blob(&self, handle: &BlobHandle) -> Result<(), StoreError>;

    /// Publishes a manifest: the one commit point of a checkpoint.
    fn publish(&self, fence: &Fence, manifest: &Manifest) -> PublishOutcome;

    /// Whether `checkpoint` of `run` is published, in a way that survives a crash.
    ///
    /// # Errors
    ///
    /// It cannot be told. The job must then stop and touch no sink.
    fn read_back(&self, run: RunNumber, checkpoint: CheckpointId) -> Result<bool, StoreError>;

    /// All completed checkpoints in the order of their ids, abandoned ones included.
    ///
    /// # Errors
    ///
    /// The store cannot be read, or a manifest is damaged.
    fn list(&self) -> Result<Vec<CheckpointSummary>, StoreError>;

    /// Deletes a checkpoint: its manifest, and when that is durable its blobs, but for those to which somebody else refers: another manifest, or a
    /// [share](CheckpointStore::share). These go when nobody does any more, with a later call. A checkpoint that does not exist is no error.
    ///
    /// # Errors
    ///
    /// The checkpoint is the one that recovery would take, or the store failed.
    fn delete_checkpoint(&self, fence: &Fence, checkpoint: CheckpointId) -> Result<(), StoreError>;

    /// Deletes blobs of late and aborted acknowledgements, but for those to which somebody refers: an incremental snapshot names the blobs of its base too.
    ///
    /// # Errors
    ///
    /// The store failed.
    fn delete_blobs(&self, fence: &Fence, blobs: &[BlobHandle]) -> Result<(), StoreError>;

    /// Removes blobs that no manifest names, whoever wrote them. Only for a job that is over: nothing of it may be under way.
    ///
    /// # Errors
    ///
    /// The store failed. Calling it again goes on.
    fn remove_orphans(&self, fence: &Fence) -> Result<(), StoreError>;

    /// Deletes every checkpoint of the job, so that its next start begins anew; names, run numbers and ids are still
    /// never reused. Opens and ends a run to say so.
    ///
    /// # Errors
    ///
    /// The store failed. Calling it again goes on.
    fn discard_all(&self, fence: &Fence, now: WallTime) -> Result<(), StoreError>;

    /// Pieces shorter than this, in bytes, are to be put into the manifest itself.
    fn inline_limit(&self) -> usize;

    /// Whether [`remember`](CheckpointStore::remember) keeps anything.
    fn remembers(&self) -> bool {
        false
    }

    /// Keeps the record of a checkpoint that ended, and as many of the latest as `limit` says. As well as it can: a history may have gaps.
    fn remember(&self, record: &CheckpointRecord, limit: usize) {
        let _ = (record, limit);
    }

    /// The records that are kept, oldest first.
    fn remembered(&self) -> Vec<CheckpointRecord> {
        Vec::new()
    }

    /// How long chains of increments may become; `None` where every checkpoint is to be self-contained.
    fn chains(&self) -> Option<ChainLimits> {
        None
    }

    /// `checkpoint`, which is pending, will refer to these blobs of a completed one: none of them is deleted before it, or a later one, is complete. Only looks
    /// into memory: allowed everywhere. False when one of them is gone or about to go, because nobody refers to it any more: then nothing is shared, and
    /// the checkpoint must not refer to them.
    fn share(&self, fence: &Fence, checkpoint: CheckpointId, blobs: &[BlobHandle]) -> bool {
        let _ = (fence, checkpoint, blobs);
        false
    }

    /// A blob of this name ([`blob_name`]), which is about to be created, is no orphan although no manifest names it, until it is
    /// [let go](CheckpointStore::let_go) or the fence ends. Only looks into memory.
    fn keep(&self, fence: &Fence, name: &str) {
        let _ = (fence, name);
    }

    /// The end of [`CheckpointStore::keep`]. Only looks into memory, and deletes nothing.
    fn let_go(&self, name: &str) {
        let _ = name;
    }
}

/// How long the chains of incremental checkpoints may become before they are folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainLimits {
    /// With so many increments some of them are folded into one, in the background.
    pub increments: usize,
    /// When a chain has so many percent of the bytes of its base, all of it is folded into a new base, in the background. Above 100.
    pub space_amplification: u32,
}

impl Default for ChainLimits {
    /// 10 increments; 150 %.
    fn default() -> ChainLimits {
        ChainLimits { increments: 10, space_amplification: 150 }
    }
}
