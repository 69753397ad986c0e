//! The list of all points as a page of the guide: made from the code, so that it cannot say anything else.

use std::fmt::Write as _;

use super::{Action, Point};

/// The page `docs/guide/fault-points.md`: every point, what it means, what may happen there.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(
        "# Fault points\n\n\
         Every step of the protocol at which a test, or a drill in a running service, may let something happen; in the order of the protocol. This page is made from the code\n\
         (`Point::ALL`); a test compares the two. How a fault is written and armed: [testing.md](testing.md).\n\n\
         A point is *at* its operator and subtask: what is sent or received belongs to the subtask that it is about, blocking work on a blob to the operator and subtask whose blob it is,\n\
         the work of a committing side to its sink, and all other work to the job, which filters for operators do not fit.\n\n\
         | action | what happens |\n| --- | --- |\n",
    );
    for action in Action::ALL {
        let _ = writeln!(page, "| `{action}` | {} |", action.meaning());
    }
    page.push_str("\n| point | meaning | what may happen |\n| --- | --- | --- |\n");
    for point in Point::ALL {
        let actions: Vec<&str> = point.actions().iter().map(Action::name).collect();
        let _ = writeln!(page, "| `{point}` | {} | {} |", point.meaning(), actions.join(", "));
    }
    let _ = write!(page, "\n{} points.\n", Point::ALL.len());
    page
}
