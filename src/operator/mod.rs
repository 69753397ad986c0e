//! Operators: what a chain is made of.

pub(crate) mod link;
