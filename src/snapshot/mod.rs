//! Checkpoints as they are stored: manifests, run records, blobs, and the store that keeps them.
//!
//! Every stored byte is described in `docs/formats.md`. Reading checks everything: hostile bytes give errors that name
//! the file, never a panic and never an allocation beyond the size of the file.

mod archive;
mod blob;
mod collect;
mod envelope;
mod history;
mod index;
mod names;
mod objects;
mod options;
mod piece;
mod recovery;
mod references;
mod store;

pub(crate) use self::archive::Archive;
pub use self::blob::{ChunkInfo, ChunkKind, StateReader, StateWriter};
pub(crate) use self::names::{checkpoint_of_blob, complete_checkpoint, published_checkpoint};
pub(crate) use self::objects::stored_manifest;
pub use self::options::{DEFAULT_INLINE_LIMIT, LARGEST_INLINE_LIMIT, StoreOptions};
pub use self::piece::{PieceReader, PieceWriter};
pub use self::store::Store;
