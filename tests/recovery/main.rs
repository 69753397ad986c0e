//! Jobs are killed with SIGKILL, at random moments and at named points, and what they wrote is compared with what they had to write.
//!
//! The jobs are processes of their own, on real actix, real files and sled: the flights example, and the second job in `second_job/`. The oracles know every line
//! that must come out without a look at the runtime: they read the input by themselves. Seeds are printed; `RECOVERY_SEED` repeats one. A seed decides
//! when to kill, not how far the job has come by then: no verdict depends on it.

mod child;
mod custom_connectors;
mod final_checkpoint;
mod flights;
mod flights_endings;
mod kill_points;
mod killing;
mod matrix;
mod misalignment;
mod named_points;
mod oracle;
mod panics;
mod random_kills;
mod scratch;
mod seed;
mod settings;

#[path = "second_job/input.rs"]
mod input;
