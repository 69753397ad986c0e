//! The machines of the protocol, without drivers: the conformance cases in their event notation, and exhaustive walks.

mod commit;
mod commit_walk;
mod coordinator;
mod coordinator_life;
mod coordinator_pending;
mod coordinator_triggering;
mod coordinator_walk;
mod explore;
mod lifecycle;
mod supervise;
