//! One process of a run, as the function that builds the job sees it.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::job::Options;
use crate::testing::simulation::Boot;

/// What a user of a running job asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Checkpoint,
    Stop,
    Cancel,
}

/// One start of the job in a run. What is not said here is as the [`TestRun`](super::TestRun) says.
#[derive(Debug)]
pub struct TestProcess<'a, 'b> {
    boot: &'a mut Boot<'b>,
    pub(super) options: Option<Options>,
    pub(super) asks: Vec<(Duration, Ask)>,
}

impl<'a, 'b> TestProcess<'a, 'b> {
    pub(super) fn new(boot: &'a mut Boot<'b>) -> TestProcess<'a, 'b> {
        TestProcess { boot, options: None, asks: Vec::new() }
    }

    /// The number of the process: 1, 2, ...
    #[must_use]
    pub fn number(&self) -> u32 {
        self.boot.number()
    }

    /// A number that the seed decides.
    pub fn random(&mut self) -> u64 {
        self.boot.random()
    }

    /// A parallelism in this range, decided by the seed for each process anew: so that the job, after a stop or a crash, goes on wider or narrower than before.
    ///
    /// ```
    /// use alluvium::Job;
    /// use alluvium::testing::JobTest;
    /// use alluvium::testing::check::ExactlyOnce;
    ///
    /// JobTest::new(|run| {
    ///     let numbers = run.records("numbers", 60, |index| index).splits(3).rate(2_000);
    ///     let copies = run.ledger("copies");
    ///     run.check(ExactlyOnce::new(&numbers, |number| *number, &copies, |copy: &u64| *copy));
    ///     run.job(move |process| {
    ///         let job = Job::new("copies").parallelism(process.parallelism(1..=4));
    ///         job.source("numbers", numbers.clone()).sink("copies", copies.clone());
    ///         job.build()
    ///     });
    /// })
    /// .seeds(0..5);
    /// ```
    ///
    /// # Panics
    /// When the range is empty or begins with 0.
    pub fn parallelism(&mut self, range: RangeInclusive<u32>) -> u32 {
        let (least, most) = (*range.start(), *range.end());
        assert!((1..=most).contains(&least), "{least}..={most} is no range of parallelisms: give one from 1 on");
        least + (self.boot.random() % (u64::from(most - least) + 1)) as u32
    }

    /// Runs the job with these options in this process.
    pub fn options(&mut self, options: Options) {
        self.options = Some(options);
    }

    /// Asks for a checkpoint, as a handle of the job does, this long after the start of the process.
    pub fn checkpoint_after(&mut self, delay: Duration) {
        self.asks.push((delay, Ask::Checkpoint));
    }

    /// Asks for a stop, this long after the start of the process. The next process goes on.
    pub fn stop_after(&mut self, delay: Duration) {
        self.asks.push((delay, Ask::Stop));
    }

    /// Cancels the job, this long after the start of the process. The next process goes on.
    pub fn cancel_after(&mut self, delay: Duration) {
        self.asks.push((delay, Ask::Cancel));
    }
}
