//! Which worker runs which subtask.

use std::collections::BTreeSet;

use alluvium_actors::ids::SubtaskId;
use alluvium_actors::protocol::placement::Form;

fn workers_of(form: Form, workers: u32) -> Vec<Vec<u32>> {
    (0..form.nodes)
        .map(|node| (0..form.widest).map(|index| form.worker_of(SubtaskId::new(node, index), workers)).collect())
        .collect()
}

#[test]
fn a_job_as_wide_as_the_workers_keeps_each_index_on_one_worker() {
    for (widest, workers) in [(2, 2), (4, 2), (3, 2), (8, 8), (5, 3)] {
        for chains in workers_of(Form { nodes: 3, widest }, workers) {
            assert_eq!(chains, (0..widest).map(|index| index % workers).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_narrow_job_gives_neighbouring_chains_to_workers_that_would_idle() {
    assert_eq!(workers_of(Form { nodes: 2, widest: 1 }, 2), [[0], [1]]);
    assert_eq!(workers_of(Form { nodes: 3, widest: 1 }, 2), [[0], [0], [1]]);
    assert_eq!(workers_of(Form { nodes: 3, widest: 1 }, 8), [[0], [1], [2]]);
    assert_eq!(workers_of(Form { nodes: 4, widest: 2 }, 4), [[0, 1], [0, 1], [2, 3], [2, 3]]);
}

#[test]
fn every_subtask_has_a_worker_and_no_two_indices_share_one_while_there_are_enough() {
    for nodes in 1..6 {
        for widest in 1..6 {
            for workers in 0..12 {
                let placed = workers_of(Form { nodes, widest }, workers);
                assert!(placed.iter().flatten().all(|worker| *worker < workers.max(1)));
                if widest <= workers {
                    for chains in &placed {
                        assert_eq!(chains.iter().collect::<BTreeSet<_>>().len(), widest as usize);
                    }
                    let used: BTreeSet<_> = placed.iter().flatten().collect();
                    assert_eq!(used.len() as u32, widest * (workers / widest).min(nodes));
                }
            }
        }
    }
}

#[test]
fn a_chain_never_comes_before_its_producer_in_the_order_of_workers() {
    for nodes in 1..10 {
        for workers in 1..10 {
            let placed = workers_of(Form { nodes, widest: 1 }, workers);
            assert!(placed.is_sorted());
        }
    }
}
