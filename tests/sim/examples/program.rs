//! The programs themselves, as modules. Their `main` is not called here.

#[allow(dead_code, reason = "the example is a program; its job is what is needed here")]
#[path = "../../../examples/custom_connectors/main.rs"]
pub(crate) mod custom_connectors;
#[allow(dead_code, reason = "the example is a program; its jobs are what is needed here")]
#[path = "../../../examples/embed.rs"]
pub(crate) mod embed;
#[allow(dead_code, reason = "the example is a program; its job is what is needed here")]
#[path = "../../../examples/flights.rs"]
pub(crate) mod flights;
#[allow(dead_code, reason = "the example is a program; its job is what is needed here")]
#[path = "../../../examples/graph.rs"]
pub(crate) mod graph;
#[path = "../../recovery/second_job/graph.rs"]
pub(crate) mod second_job;
