//! `examples/embed.rs`: the tills push beside the job, and the board takes what is committed; the other job counts without an end.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alluvium::connect::deliver::NotDelivered;
use alluvium::connect::{Delivery, Push};
use alluvium::testing::simulation::{Boot, Faults, Next, Outside, Scenario, Simulation, World};
use alluvium::{CheckpointId, JobState};
use alluvium_actors::drive::supervisor::SupervisorSetup;

use super::Habits;
use super::program::embed::{self as program, Sold, Turnover};
use crate::{chance, files, schedules};

const TILLS: u32 = 3;
const SALES: u32 = 25;

/// What the board shows. It outlives the process here, as one on the wall does, and so it has to know what it has taken: a new process delivers again what
/// its checkpoint had prepared, under the same name.
#[derive(Debug, Default)]
struct Board {
    turnover: BTreeMap<String, u64>,
    /// By the checkpoint that made them final.
    taken: BTreeMap<Option<CheckpointId>, String>,
    wrong: Option<String>,
}

impl Board {
    fn take(&mut self, outside: &Outside, delivery: Delivery<Turnover>) {
        if delivery.checkpoint.is_none_or(|checkpoint| !outside.is_covered(checkpoint)) {
            self.wrong.get_or_insert(format!("delivered before its checkpoint was complete: {delivery:?}"));
        }
        let records = format!("{:?}", delivery.records);
        if let Some(taken) = self.taken.insert(delivery.checkpoint, records.clone()) {
            if taken != records {
                self.wrong.get_or_insert(format!("delivered again, but first it was {taken}: {delivery:?}"));
            }
            return;
        }
        for Turnover { article, cents } in delivery.records {
            let shown = self.turnover.entry(article.clone()).or_default();
            if cents < *shown {
                self.wrong.get_or_insert(format!("the turnover of {article} fell from {shown} to {cents}"));
            }
            *shown = cents;
        }
    }
}

/// Every process has tills that sell, and then close the shop.
pub(crate) struct Sales {
    outside: Outside,
    board: Arc<Mutex<Board>>,
    sold: Arc<Sold>,
    habits: Habits,
}

impl Sales {
    pub(crate) fn new() -> Sales {
        let outside = Outside::detached(0);
        Sales { outside, board: Arc::default(), sold: Arc::default(), habits: Habits::default() }
    }

    fn check(&self, exactly: bool) -> Result<(), String> {
        let turnover: u64 = self.board.lock().unwrap().turnover.values().sum();
        let (covered, pushed) = (self.sold.covered.load(Ordering::Relaxed), self.sold.pushed.load(Ordering::Relaxed));
        if turnover < covered || turnover > pushed || (exactly && covered != pushed) {
            return Err(format!("the turnover is {turnover} cents; {covered} are covered, {pushed} were pushed"));
        }
        Ok(())
    }
}

impl Scenario for Sales {
    fn begin(&mut self, outside: &Outside) {
        self.outside = outside.clone();
    }

    fn boot(&mut self, boot: &mut Boot<'_>) -> Result<SupervisorSetup, String> {
        let (pusher, pushed) = Push::channel(1 + boot.random() as usize % 8);
        let (outside, board) = (self.outside.clone(), Arc::clone(&self.board));
        let receiver = move |delivery: Delivery<Turnover>| {
            if outside.random().is_multiple_of(6) {
                return Err(NotDelivered::Full(delivery));
            }
            board.lock().unwrap().take(&outside, delivery);
            Ok(())
        };
        let graph = program::sales(pushed, receiver).map_err(|errors| errors.to_string())?;
        let selling = Arc::new(AtomicU32::new(TILLS));
        for till in 1..=TILLS {
            let (pusher, sold, selling) = (pusher.clone(), Arc::clone(&self.sold), Arc::clone(&selling));
            boot.beside(&format!("till {till}"), async move {
                program::make_sales(till, SALES, pusher.clone(), sold).await;
                if selling.fetch_sub(1, Ordering::Relaxed) == 1 {
                    pusher.close();
                }
            });
        }
        self.habits.setup(boot, &graph)
    }

    fn observe(&mut self, world: &World<'_>) -> Result<(), String> {
        self.habits.observe(world)?;
        self.board.lock().unwrap().wrong.clone().map_or(Ok(()), Err)
    }

    fn ended(&mut self, world: &World<'_>) -> Result<Next, String> {
        self.board.lock().unwrap().wrong.clone().map_or(Ok(()), Err)?;
        if let Some(next) = chance::finished(world)? {
            return Ok(next);
        }
        self.check(false)?;
        chance::cleaned_up(world, files::nothing_is_left_over(world.disk, "sales", &[]))
    }
}

const OUTPUT: &str = "/output/digits";

/// Counts until it is stopped, goes on in the next process, and is stopped again.
#[derive(Debug, Default)]
pub(crate) struct Digits {
    stops: u32,
    habits: Habits,
}

impl Digits {
    /// The lines are those of the first so many numbers.
    fn check(world: &World<'_>) -> Result<(), String> {
        let mut counts: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for line in files::lines(world.disk, OUTPUT)? {
            let fields =
                line.split_once(',').and_then(|(digit, count)| Some((digit.parse().ok()?, count.parse().ok()?)));
            let (digit, count) = fields.ok_or_else(|| format!("`{line}` is no line of the job"))?;
            counts.entry(digit).or_default().push(count);
        }
        let numbers: u64 = counts.values().map(|counts| counts.len() as u64).sum();
        for digit in 0..10 {
            let mut got = counts.remove(&digit).unwrap_or_default();
            got.sort_unstable();
            let wanted = (numbers + 9 - digit) / 10;
            if !got.iter().copied().eq(1..=wanted) {
                return Err(format!("of {numbers} numbers {wanted} end in {digit}, and it was counted {got:?}"));
            }
        }
        if counts.is_empty() { Ok(()) } else { Err(format!("no digits: {counts:?}")) }
    }
}

impl Scenario for Digits {
    fn boot(&mut self, boot: &mut Boot<'_>) -> Result<SupervisorSetup, String> {
        let graph = program::digits(Path::new(OUTPUT)).map_err(|errors| errors.to_string())?;
        // A stop whose checkpoint expires is answered so, and the job goes on: whoever wants it asks again.
        for after in (20_000 + boot.random() % 60_000..).step_by(100_000).take(100) {
            chance::stop_after(boot, Duration::from_micros(after), &self.habits.promises);
        }
        self.habits.setup(boot, &graph)
    }

    fn observe(&mut self, world: &World<'_>) -> Result<(), String> {
        self.habits.observe(world)?;
        files::output_is_of_complete_checkpoints(world, OUTPUT)
    }

    fn ended(&mut self, world: &World<'_>) -> Result<Next, String> {
        match world.state {
            JobState::Stopped | JobState::Cancelled => {}
            other => return Err(format!("the job is {other}")),
        }
        Digits::check(world)?;
        self.stops += u32::from(world.state == JobState::Stopped);
        Ok(if self.stops < 2 { Next::StartAgain } else { Next::Nothing })
    }
}

#[test]
fn the_sales_of_the_example_embed_survive_random_crashes_and_faults() {
    schedules::run("example embed, sales", schedules::random(45_000, 150), Sales::new);
}

#[test]
fn without_a_fault_and_an_early_end_every_sale_counts_once() {
    for seed in 0..20 {
        let mut sales = Sales::new();
        let simulation = Simulation::new(seed).with(Faults::None);
        let report = simulation.run(&mut sales).unwrap_or_else(|trouble| panic!("{trouble}"));
        if report.processes == 1 {
            sales.check(true).unwrap_or_else(|wrong| panic!("{wrong}"));
        }
    }
}

#[test]
fn the_digits_of_the_example_embed_survive_random_crashes_and_faults() {
    schedules::run("example embed, digits", schedules::random(46_000, 120), Digits::default);
}
