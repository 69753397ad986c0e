//! x
/// x
pub struct Lines;
