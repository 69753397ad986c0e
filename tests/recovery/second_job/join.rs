//! The operator with two inputs: numbers the records of each key, and remembers every id.

use alluvium::OperatorResult;
use alluvium::operator::{CoAccess, CoContext, KeyedCoProcess};
use alluvium::state::{Map, Value};
use serde::{Deserialize, Serialize};

/// A record of the left side. The right side is a bare id.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Numbered {
    pub(crate) id: u64,
    pub(crate) key: u64,
}

/// What the state says of a record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Joined {
    pub(crate) key: u64,
    /// The how many-th record of its key it is.
    pub(crate) sequence: u64,
    /// How many different ids of its key have come, itself included.
    pub(crate) different: u64,
    pub(crate) id: u64,
}

impl Joined {
    pub(crate) fn line(self) -> String {
        format!("{},{},{},{}", self.key, self.sequence, self.different, self.id)
    }
}

/// Numbers the records of a key over both sides.
#[derive(Clone, Debug)]
pub(crate) struct Join;

impl KeyedCoProcess for Join {
    type Key = u64;
    type Left = Numbered;
    type Right = u64;
    type Out = Joined;
    type State = (Value<u64>, Map<u64, u64>);

    fn state(&self) -> Self::State {
        (Value::named("sequence"), Map::named("ids"))
    }

    fn process_left(
        &self,
        record: Numbered,
        state: CoAccess<'_, Self>,
        mut context: CoContext<'_, Self>,
    ) -> OperatorResult {
        let joined = number(record.id, *context.key(), state);
        context.emit(joined);
        Ok(())
    }

    fn process_right(&self, id: u64, state: CoAccess<'_, Self>, mut context: CoContext<'_, Self>) -> OperatorResult {
        let joined = number(id, *context.key(), state);
        context.emit(joined);
        Ok(())
    }
}

fn number(id: u64, key: u64, (mut last, mut ids): CoAccess<'_, Join>) -> Joined {
    let sequence = last.get().copied().unwrap_or(0) + 1;
    last.set(sequence);
    ids.insert(id, sequence);
    Joined { key, sequence, different: ids.len() as u64, id }
}
