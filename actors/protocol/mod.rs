//! Pure machines: they decide, and do nothing else.

pub mod credit;
