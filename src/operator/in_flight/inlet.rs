//! Where records that were in flight enter a chain: at its head, or in front of an operator inside of it that was the head of a chain of its own when they were captured.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::Arc;

use alluvium_actors::drive::outputs::Outputs;
use alluvium_actors::payload::{Payload, PayloadError};
use alluvium_actors::plan::{EdgeName, Routing};
use alluvium_actors::ports::task::Failure;

use crate::operator::assembly::AnyPartitioner;
use crate::operator::head::{Head, OneInput};
use crate::operator::link::{Link, Member};
use crate::operator::place::Places;
use crate::record::Record;
use crate::record::batch::Slice;

/// The number of the inlet at the head of a chain.
pub(crate) const HEAD: usize = 0;

/// An edge that leads to a chain.
#[derive(Clone, Debug)]
pub(crate) struct InputName {
    /// Its position in the plan.
    pub(crate) edge: u32,
    pub(crate) name: EdgeName,
    pub(crate) routing: Routing,
}

/// What a chain is told of itself, beside its members.
pub(crate) struct ChainParts {
    pub(crate) places: Places,
    /// The edges that lead to it.
    pub(crate) inputs: Arc<[InputName]>,
    /// Where something that was in flight enters it, in the order of its operators.
    pub(crate) inlets: Vec<Inlet>,
    /// The operators, by their position in the job, that had come to the end of their data in all their instances before the restored checkpoint.
    pub(crate) ended: BTreeSet<u32>,
}

/// A connection to an operator of the chain on which something was in flight.
pub(crate) struct Inlet {
    pub(crate) name: EdgeName,
    pub(crate) routing: Routing,
    /// The operator that takes them, as errors call it.
    pub(crate) label: Arc<str>,
    /// The number of the link that takes the records.
    pub(crate) number: usize,
    /// The input there.
    pub(crate) input: usize,
    pub(crate) decode: fn(&[u8]) -> Result<Payload, PayloadError>,
    /// Where user code decides which subtask gets a record.
    pub(crate) partitioner: Option<Repartition>,
}

/// A partitioner that is asked once more.
pub(crate) struct Repartition {
    pub(crate) partitioner: AnyPartitioner,
    /// Keeps of a batch what belongs to the subtask of this index.
    pub(crate) owned: fn(&mut AnyPartitioner, Payload, usize) -> Result<Option<Payload>, Failure>,
}

impl Inlet {
    /// Reads an encoded batch.
    pub(super) fn read(&self, bytes: &[u8]) -> Result<Payload, Failure> {
        (self.decode)(bytes).map_err(|error| {
            self.fail(format_args!(
                "what was in flight from {} when the checkpoint was taken cannot be read: {error}; was the record type changed?",
                self.name
            ))
        })
    }

    /// A failure that no restart mends.
    pub(super) fn fail(&self, message: impl Display) -> Failure {
        Failure::unrecoverable(&*self.label, message)
    }
}

/// A link inside of a chain by which records enter that were in flight. Everything else passes through it.
pub(crate) struct InnerInlet<T: Record> {
    number: usize,
    head: OneInput<T>,
}

impl<T: Record> InnerInlet<T> {
    pub(crate) fn new(number: usize, link: Box<dyn Link<T>>) -> InnerInlet<T> {
        InnerInlet { number, head: OneInput::new(link) }
    }
}

impl<T: Record> Link<T> for InnerInlet<T> {
    fn push(&mut self, slice: &mut Slice<T>, outputs: &mut Outputs) -> Result<(), Failure> {
        self.head.pass(slice, outputs)
    }
}

impl<T: Record> Member for InnerInlet<T> {
    fn walk(&mut self, visit: &mut dyn FnMut(&mut dyn Member)) {
        visit(self);
        self.head.walk(visit);
    }

    fn inlet(&mut self, number: usize) -> Option<&mut dyn Head> {
        (number == self.number).then_some(&mut self.head as &mut dyn Head)
    }
}
