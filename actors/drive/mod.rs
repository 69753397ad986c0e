//! Carries out what the machines decide, against a host: the same code under actix and under the simulator.

pub mod control;
pub mod edge;

pub mod outputs;
