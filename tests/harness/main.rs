//! The harness that users test their jobs with: its models, its checkers (each sees a wrong job, and passes a right one), and `JobTest`.

#![allow(clippy::unwrap_used, reason = "helpers of tests end the test, as tests do")]

mod billing;
mod checkers;
mod cut;
mod explained;
mod exploring;
mod guide;
mod job_test;
mod ledger;
mod records;
mod service;
mod uncontrolled;
mod virtual_time;
mod wrong_jobs;
mod wrong_ledger;
