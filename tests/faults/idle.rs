//! An actor that has nothing to do and has to wait at a point goes on when it is released, not at the end of its time.

use std::sync::mpsc::channel;

use alluvium::Job;
use alluvium::connect::{Collect, Push};
use alluvium::drill::FaultDrill;
use alluvium::testing::faults::{Fault, Point, What};
use futures::executor::block_on;

use crate::{PATIENCE, options};

#[test]
fn an_idle_operator_that_waits_is_woken_by_its_release() {
    let (pusher, pushed) = Push::channel(8);
    let job = Job::new("idle");
    let (output, (tell, told)) = (Collect::new(), channel());
    job.source("numbers", pushed)
        .rebalance()
        .map(move |number: u64| {
            let _ = tell.send(number);
            number
        })
        .name("far")
        .sink("collect", output.clone());
    let drill = FaultDrill::new();
    let options = options(&drill).checkpoint_timeout(4 * PATIENCE);
    let handle = job.build().unwrap().start(&options).unwrap();
    for number in 1..=5 {
        // Of many waits one ends when the actor is on its way to sleep.
        let pushed = block_on(pusher.push(number)).unwrap();
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), number);
        assert_eq!(block_on(pushed), Ok(()));
        let reached = drill.strikes().len() + 1;
        drill.arm(Fault::at(Point::SnapshotSynchronous, What::Delay(3 * PATIENCE)).unwrap().operator("far")).unwrap();
        assert!(drill.wait_for_strikes(reached as u64, PATIENCE), "a checkpoint comes");
        // Taken in behind the wait.
        let next = block_on(pusher.push(10 * number)).unwrap();
        drill.release();
        assert_eq!(told.recv_timeout(PATIENCE), Ok(10 * number), "it goes on");
        assert_eq!(block_on(next), Ok(()));
    }
    handle.stop_blocking().unwrap();
    assert_eq!(output.collected().len(), 10);
}
