//! Faults that are let happen on purpose, at the named points of the protocol: which, where, when, how often.
//!
//! A [`FaultPlan`] is a list of [`Fault`]s and has a text form, so that it fits into an environment variable, into a file, and into the line that repeats a run:
//!
//! ```
//! use alluvium::testing::faults::{Fault, FaultPlan, Point};
//!
//! let lost = Fault::drop(Point::AcknowledgeSent)?.operator("join").checkpoint(3);
//! let plan = FaultPlan::of([lost, Fault::crash(Point::ManifestWritten).hit(2)]);
//! assert_eq!(plan.to_string(), "acknowledge.sent[operator=join,checkpoint=3]=drop; manifest.written[hit=2]=crash");
//! assert_eq!(plan.to_string().parse::<FaultPlan>()?, plan);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Which points there are, what each means and what may happen at it: [`Point::ALL`].

mod armed;
mod disk_fault;
mod disk_rule;
mod names;
mod plan;
mod random;
mod shape;
mod table;
mod text;

pub use alluvium_actors::ports::points::{Action, Actions, Point, UnknownPoint};
pub(crate) use armed::{Armed, Strike};
pub use disk_fault::DiskFault;
pub(crate) use disk_fault::{OPERATIONS, is_effect, operation_name};
pub(crate) use disk_rule::CERTAIN;
pub use disk_rule::{DiskRule, ParseDiskRuleError, PathPattern};
pub use names::Names;
pub(crate) use names::Spot;
pub use plan::{End, Fault, FaultError, FaultPlan, LONGEST_HOLD, What};
pub(crate) use random::Random;
pub use table::page;
pub use text::ParseFaultError;
