//! Several consumers of one stream inside a chain: all but the last get a copy.

use alluvium_actors::drive::outputs::Outputs;
use alluvium_actors::ports::task::Failure;

use super::link::{Link, Member};
use super::place::Place;
use crate::record::Record;
use crate::record::batch::Slice;

/// The link in front of several consumers.
pub(crate) struct Tee<T: Record> {
    copy: Slice<T>,
    copied: Vec<Box<dyn Link<T>>>,
    last: Box<dyn Link<T>>,
    /// That of the operator whose output is copied: `Clone` is user code.
    place: Place,
}

impl<T: Record> Tee<T> {
    /// A tee in front of `links`, at least one.
    pub(crate) fn new(mut links: Vec<Box<dyn Link<T>>>, place: Place) -> Tee<T> {
        let last = links.pop().expect("an operator without a consumer is an error when the job is built");
        Tee { copy: Slice::new(), copied: links, last, place }
    }
}

impl<T: Record> Link<T> for Tee<T> {
    fn push(&mut self, slice: &mut Slice<T>, outputs: &mut Outputs) -> Result<(), Failure> {
        for link in &mut self.copied {
            self.place.enter();
            self.copy.records.extend_from_slice(&slice.records);
            link.push(&mut self.copy, outputs)?;
        }
        self.last.push(slice, outputs)
    }
}

impl<T: Record> Member for Tee<T> {
    fn walk(&mut self, visit: &mut dyn FnMut(&mut dyn Member)) {
        for link in &mut self.copied {
            link.walk(visit);
        }
        self.last.walk(visit);
    }
}
