//! The machines of the protocol, without drivers: the conformance cases in their event notation, and exhaustive walks.

mod explore;
