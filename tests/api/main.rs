//! The typed graph as a user meets it: what is refused, how it is planned, what each operator does, and that state comes back.

#![allow(clippy::unwrap_used, reason = "helpers of tests end the test, as tests do")]

mod build_errors;
mod by_hand;
mod chaining;
mod ends;
mod guarantees;
mod in_flight;
mod keyed;
mod large;
mod one_operator;
mod one_operator_restores;
mod operator_state;
mod operators;
mod partitioning;
mod planning;
mod printing;
mod refused_cut;
mod sides;
mod snapshots;
