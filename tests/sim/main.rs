//! Whole jobs on the simulator: crashed at every effect, with a disk that forgets and fails, against oracles that know every record.

mod at_least_once;
mod cancelled;
mod chance;
mod disk;
mod exactly;
mod examples;
mod files;
mod flights;
mod found;
mod graph;
mod guide;
mod increments;
mod local_recovery;
mod many_seeds;
mod mutations;
mod on_the_way;
mod overtaking;
mod points;
mod poisoned;
mod random_graph;
mod regions;
mod schedules;
mod second_job;
mod shrinking;
mod simulator;
mod union;
