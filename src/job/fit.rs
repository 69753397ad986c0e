//! Whether a checkpoint fits a graph: every state finds its operator, with as many key groups as it was stored with. Operators may be wider or narrower than then.

use alluvium_actors::drive::finished::edges_into_the_finished;
use alluvium_actors::plan::Plan;
use alluvium_actors::ports::store::Manifest;
use alluvium_actors::ports::task::Failure;

/// Compares the shapes in a manifest with those of a plan.
///
/// # Errors
/// Every mismatch at once, each with its mend. Unrecoverable: another attempt would find the same.
pub(super) fn check_fit(plan: &Plan, manifest: &Manifest) -> Result<(), Failure> {
    let mut problems = misfits(plan, manifest);
    for edge in edges_into_the_finished(plan, manifest) {
        let (from, to) = (&plan.node(edge.from).name, &plan.node(edge.to).name);
        problems.push(format!(
            "`{to}` had come to the end of its data, and `{from}`, which feeds it now, has not: nothing that runs can be put before it; give `{from}` an operator of \
             its own behind it, or start afresh"
        ));
    }
    if problems.is_empty() {
        return Ok(());
    }
    let message = format!("checkpoint {} does not fit the job: {}", manifest.checkpoint, problems.join("; "));
    Err(Failure::unrecoverable("restore", message))
}

/// What keeps the state in a checkpoint from being restored, each with its mend.
pub(crate) fn misfits(plan: &Plan, manifest: &Manifest) -> Vec<String> {
    let mut problems = Vec::new();
    for stored in &manifest.shapes {
        let Some(node) = plan.nodes.iter().find(|node| node.uids.contains(&stored.uid)) else {
            problems.push(format!(
                "the checkpoint holds state of `{}`, which the job does not have: give the operator its former uid back, or start afresh",
                stored.uid
            ));
            continue;
        };
        if node.max_parallelism_is_given && node.max_parallelism != stored.max_parallelism {
            problems.push(format!(
                "`{}` has max parallelism {} and had {} in the checkpoint: it can never change, because the keys of stored state are divided by it; set it to {}, \
                 or leave it out, and it is taken from the checkpoint",
                stored.uid, node.max_parallelism, stored.max_parallelism, stored.max_parallelism
            ));
            continue;
        }
        // Of a chain the head's counts, once: the others have no keys.
        let most = node.key_groups(Some(manifest));
        let decides = node.uids.iter().find(|uid| manifest.shapes.iter().any(|shape| shape.uid == **uid));
        if node.parallelism > most && decides == Some(&stored.uid) {
            problems.push(format!(
                "`{}` has parallelism {} and max parallelism {most} in the checkpoint, above which no parallelism can go: start it with at most {most}; a greater max \
                 parallelism can only be set (`max_parallelism(..)`) when the job begins anew",
                stored.uid, node.parallelism
            ));
        }
    }
    problems
}
