//! Checkpoint storage in memory: for tests, and for jobs whose state may end with the process.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alluvium_actors::ports::fence::Fence;
use alluvium_actors::ports::store::StoreError;

use super::{CheckpointStorage, ObjectInfo, ObjectWriter, PutOutcome, check_name};

type Objects = BTreeMap<String, Arc<Vec<u8>>>;

/// Objects in memory. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryStorage {
    objects: Arc<Mutex<Objects>>,
}

impl MemoryStorage {
    /// A storage without objects.
    #[must_use]
    pub fn new() -> MemoryStorage {
        MemoryStorage::default()
    }

    fn lock(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the object there unless its name is taken; tells whether it did.
    fn put(&self, name: &str, content: Vec<u8>) -> bool {
        match self.lock().entry(name.to_owned()) {
            Entry::Occupied(_) => false,
            Entry::Vacant(vacant) => {
                vacant.insert(Arc::new(content));
                true
            }
        }
    }
}

fn taken(name: &str) -> StoreError {
    StoreError::Refused { reason: format!("there is an object `{name}` already, and objects are written once") }
}

impl CheckpointStorage for MemoryStorage {
    fn create(&self, fence: &Fence, name: &str) -> Result<Box<dyn ObjectWriter>, StoreError> {
        check_name(name)?;
        fence.check()?;
        if self.lock().contains_key(name) {
            return Err(taken(name));
        }
        let writer =
            MemoryWriter { storage: self.clone(), fence: fence.clone(), name: name.to_owned(), content: Vec::new() };
        Ok(Box::new(writer))
    }

    fn publish(&self, fence: &Fence, name: &str, content: &[u8]) -> PutOutcome {
        if let Err(error) = check_name(name).and_then(|()| Ok(fence.check()?)) {
            return PutOutcome::Failed(error);
        }
        if self.put(name, content.to_vec()) { PutOutcome::Done } else { PutOutcome::Taken }
    }

    fn is_published(&self, name: &str) -> Result<bool, StoreError> {
        Ok(self.lock().contains_key(name))
    }

    fn length(&self, name: &str) -> Result<Option<u64>, StoreError> {
        Ok(self.lock().get(name).map(|content| content.len() as u64))
    }

    fn read(&self, name: &str, offset: u64, length: usize) -> Result<Vec<u8>, StoreError> {
        let content = self.lock().get(name).cloned();
        let content = content.ok_or_else(|| StoreError::Missing {
            file: self.locate(name),
            reason: "there is no such object".to_owned(),
        })?;
        let range = usize::try_from(offset).ok().and_then(|from| Some(from..from.checked_add(length)?));
        range.and_then(|range| content.get(range)).map(<[u8]>::to_vec).ok_or_else(|| StoreError::Damaged {
            file: self.locate(name),
            reason: format!("{length} bytes from {offset} were wanted, it has {}", content.len()),
        })
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let objects = self.lock();
        let found = objects.range(prefix.to_owned()..).take_while(|(name, _)| name.starts_with(prefix));
        Ok(found.map(|(name, bytes)| ObjectInfo { name: name.clone(), length: bytes.len() as u64 }).collect())
    }

    fn delete(&self, fence: &Fence, names: &[String]) -> Result<(), StoreError> {
        for name in names {
            fence.check()?;
            self.lock().remove(name);
        }
        Ok(())
    }

    fn locate(&self, name: &str) -> String {
        format!("memory:{name}")
    }
}

struct MemoryWriter {
    storage: MemoryStorage,
    fence: Fence,
    name: String,
    content: Vec<u8>,
}

impl ObjectWriter for MemoryWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.fence.check()?;
        self.content.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), StoreError> {
        self.fence.check()?;
        if self.storage.put(&self.name, self.content) { Ok(()) } else { Err(taken(&self.name)) }
    }
}
