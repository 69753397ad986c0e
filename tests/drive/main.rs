//! Drivers by hand: one subtask or one coordinator on a host that only records, with chains and enumerators that do what the test says. What is sent
//! to whom, in which order, and what is left when something fails.

mod assignments;
mod chain;
mod declines;
mod figures;
mod finished;
mod host;
mod modes;
mod notices;
mod overtaking;
mod parts;
mod rig;
mod sources;
