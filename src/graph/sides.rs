//! Streams of side outputs.

use std::any::type_name;
use std::panic::Location;

use super::builder::{Exchange, Upstream, at};
use super::error::BuildError;
use super::stream::Stream;
use crate::operator::assembly::StreamType;
use crate::operator::side::SideOutput;
use crate::record::Record;

impl<T: Record> Stream<T> {
    /// The stream of a side output of the operator that makes this stream. Every stream of it gets every record. A side output of which there is no stream is
    /// dropped; one that the operator does not declare is an error when the job is built. [`SideOutput`] has an example.
    #[track_caller]
    pub fn side<S: Record>(&self, side: &SideOutput<S>) -> Stream<S> {
        let location = at(Location::caller());
        let mut builder = self.shared.lock();
        let name = side.name();
        if self.upstreams.is_empty() {
            // What made a stream of nothing is among the errors already.
            drop(builder);
            return Stream::of_upstreams(&self.shared, Vec::new());
        }
        let found = match &self.upstreams[..] {
            [Upstream { operator, port: 0, exchange: Exchange::Automatic }] => {
                let declaring = &builder.operators[*operator];
                let label = declaring.label();
                match declaring.sides.iter().position(|declared| declared.name == name) {
                    None => Err(BuildError::UndeclaredSideOutput { operator: label, side: name.to_owned(), location }),
                    Some(index) if declaring.sides[index].stream.payload != StreamType::of::<S>().payload => {
                        Err(BuildError::SideOutputOfOtherType {
                            operator: label,
                            side: name.to_owned(),
                            declared: declaring.sides[index].stream.payload.type_name,
                            asked: type_name::<S>(),
                            location,
                        })
                    }
                    Some(index) => Ok(Upstream { operator: *operator, port: index + 1, exchange: Exchange::Automatic }),
                }
            }
            _ => Err(BuildError::SideOutputOfNoOperator { side: name.to_owned(), location }),
        };
        let upstreams = match found {
            Ok(upstream) => vec![upstream],
            Err(error) => {
                builder.errors.push(error);
                builder.asked_wrongly.extend(self.upstreams.iter().map(|upstream| upstream.operator));
                Vec::new()
            }
        };
        drop(builder);
        Stream::of_upstreams(&self.shared, upstreams)
    }
}
