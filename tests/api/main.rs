//! The typed graph as a user meets it: what is refused, how it is planned, what each operator does, and that state comes back.

mod build_errors;
mod by_hand;
mod ends;
mod keyed;
mod operators;
mod planning;
mod snapshots;
