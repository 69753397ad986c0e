//! The end of an output that nobody reads.

use alluvium_actors::drive::outputs::Outputs;
use alluvium_actors::ports::task::Failure;

use super::link::{Link, Member};
use crate::record::Record;
use crate::record::batch::Slice;

/// Drops records.
pub(crate) struct Discard;

impl<T: Record> Link<T> for Discard {
    fn push(&mut self, slice: &mut Slice<T>, _: &mut Outputs) -> Result<(), Failure> {
        slice.clear();
        Ok(())
    }
}

impl Member for Discard {
    fn walk(&mut self, visit: &mut dyn FnMut(&mut dyn Member)) {
        visit(self);
    }
}
