//! Carries out what the machines decide, against a host: the same code under actix and under the simulator.

pub mod attempt;
mod cleanup;
pub mod control;
pub mod coordinator;
pub mod deploy;
pub mod edge;
mod enumerators;
pub mod finished;
pub mod gate;
mod interposed;
pub mod local_first;
pub mod operator;
pub mod outputs;
mod overtaken;
pub mod overview;
mod pointed_store;
mod recovery;
pub mod sink;
pub mod source;
mod stories;
pub mod subtask;
pub mod subtask_driver;
pub mod supervisor;
mod turns;
mod under_way;
mod watched;
