//! The machines of the protocol, without drivers: the conformance cases in their event notation, and exhaustive walks.

mod align_cases;
mod align_notation;
mod align_random;
mod align_rules;
mod align_setting;
mod align_walk;
mod align_world;
mod commit;
mod commit_walk;
mod coordinator;
mod coordinator_failures;
mod coordinator_life;
mod coordinator_pending;
mod coordinator_statistics;
mod coordinator_triggering;
mod coordinator_walk;
mod credit;
mod explore;
mod lifecycle;
mod regions;
mod restart_strategy;
mod supervise;
mod supervise_walk;
