//! Batches that the tests of the edge send: a number, and a count of how many of them are alive.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use alluvium_actors::payload::{Batch, Payload, PayloadError};

/// A batch of one number.
pub(crate) struct Numbered {
    /// Its place among the frames of its edge.
    pub(crate) number: u64,
    alive: Arc<AtomicUsize>,
}

impl Numbered {
    /// A batch, counted in `alive` until it is dropped.
    pub(crate) fn payload(number: u64, alive: &Arc<AtomicUsize>) -> Payload {
        alive.fetch_add(1, Ordering::SeqCst);
        Box::new(Numbered { number, alive: Arc::clone(alive) })
    }

    /// The batch behind a payload.
    pub(crate) fn from_payload(payload: Payload) -> Box<Numbered> {
        payload.into_any().downcast().expect("these tests send nothing else")
    }
}

impl Drop for Numbered {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Batch for Numbered {
    fn len(&self) -> usize {
        1
    }

    fn byte_size(&self) -> usize {
        size_of::<u64>()
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), PayloadError> {
        out.extend_from_slice(&self.number.to_le_bytes());
        Ok(())
    }

    fn clone_payload(&self) -> Payload {
        Numbered::payload(self.number, &self.alive)
    }

    fn split_by_hash(
        self: Box<Self>,
        _channels: usize,
        _channel_of_hash: &dyn Fn(u64) -> usize,
    ) -> Result<Vec<Option<Payload>>, PayloadError> {
        Err(PayloadError { type_name: "Numbered", reason: "it has no hashes".to_owned() })
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any + Send> {
        self
    }
}
