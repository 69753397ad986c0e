//! A service with a job inside: actors that push records into it and hear of its results and checkpoints, on their own actix `System`.
//!
//! ```text
//! cargo run --release --example embed
//! ```
//!
//! Two jobs with two stores live on the `System` of this program, beside its actors. *Tills* push sales into the first job and wait until a completed checkpoint
//! covers each; the *board* gets the totals when they are committed, and hears of every checkpoint in its mailbox. The second job counts on its own and writes
//! files. Then the `System` stops, as that of a service does, and both jobs end with it: cleanly, with all that was completed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix::{Actor, AsyncContext as _, Context, Handler, Message, ResponseFuture, System};
use alluvium::connect::deliver::Receiver;
use alluvium::connect::push::PushError;
use alluvium::connect::{Deliver, Delivery, Generator, Lines, Push, Pusher};
use alluvium::{Arbiters, BuildErrors, EventsTo, Graph, Job, JobError, JobEvent, JobHandle, Options};
use clap::Parser;
use futures::channel::oneshot;
use serde::{Deserialize, Serialize};

/// A service with two jobs inside, on its own actix System.
#[derive(Debug, Parser)]
#[command(name = "embed")]
struct Arguments {
    /// Where stores and output go; each job has a directory of its own.
    #[arg(long, default_value = "embed-data")]
    data: PathBuf,
    /// How many sales each of the three tills makes.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    sales: u32,
    /// The time from one checkpoint to the next, for example `100ms` or `1s`.
    #[arg(long, default_value = "50ms", value_parser = humantime::parse_duration)]
    checkpoint_interval: Duration,
    /// Stops the jobs with a checkpoint before the System; without it the System stops under them.
    #[arg(long)]
    polite: bool,
}

/// A sale of an article, in cents.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sale {
    till: u32,
    article: String,
    cents: u64,
}

/// The turnover of an article so far.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Turnover {
    pub(crate) article: String,
    pub(crate) cents: u64,
}

/// What all tills together have sold, in cents. Sales are processed at least once: the turnover lies between the two.
#[derive(Debug, Default)]
pub(crate) struct Sold {
    /// Sales that a completed checkpoint covers, each once.
    pub(crate) covered: AtomicU64,
    /// Everything that was pushed: also what was pushed again, and what ended with the process.
    pub(crate) pushed: AtomicU64,
}

impl Sold {
    fn count_pushed<R, E>(&self, sale: &Sale, pushed: &Result<R, E>) {
        if pushed.is_ok() {
            self.pushed.fetch_add(sale.cents, Ordering::Relaxed);
        }
    }
}

/// What a till does: makes sales, and does not take one as made until a completed checkpoint covers it. Answers how many had to be pushed more than once.
pub(crate) async fn make_sales(till: u32, sales: u32, pusher: Pusher<Sale>, sold: Arc<Sold>) -> u32 {
    let mut repeated = 0;
    let mut receipts = Vec::new();
    for sale in 0..sales {
        let article = ["bread", "milk", "apples"][(sale % 3) as usize].to_owned();
        let sale = Sale { till, article, cents: u64::from(100 + sale % 7) };
        // A web service would answer 503 where `try_push` says `Full`; a till can wait.
        let receipt = match pusher.try_push(sale.clone()) {
            Err(PushError::Full(sale)) => pusher.push(sale).await,
            pushed => pushed,
        };
        sold.count_pushed(&sale, &receipt);
        receipts.push((sale, receipt));
    }
    for (sale, mut pushed) in receipts {
        // At least once: what an attempt of the job took along in its fall is pushed again.
        while let Ok(receipt) = pushed {
            if receipt.await.is_ok() {
                sold.covered.fetch_add(sale.cents, Ordering::Relaxed);
                break;
            }
            repeated += 1;
            pushed = pusher.push(sale.clone()).await;
            sold.count_pushed(&sale, &pushed);
        }
    }
    repeated
}

/// A till as an actor.
struct Till {
    number: u32,
    sales: Pusher<Sale>,
    sold: Arc<Sold>,
}

impl Actor for Till {
    type Context = Context<Self>;
}

/// To a till: make so many sales. Answers how many had to be pushed more than once.
#[derive(Message)]
#[rtype(result = "u32")]
struct Work(u32);

impl Handler<Work> for Till {
    type Result = ResponseFuture<u32>;

    fn handle(&mut self, Work(sales): Work, _: &mut Context<Self>) -> ResponseFuture<u32> {
        Box::pin(make_sales(self.number, sales, self.sales.clone(), Arc::clone(&self.sold)))
    }
}

/// Shows the turnover, and hears what happens to the job.
#[derive(Default)]
struct Board {
    turnover: BTreeMap<String, u64>,
    checkpoints: u64,
    deliveries: u64,
    /// Who waits for the first delivery.
    waiting: Vec<oneshot::Sender<()>>,
}

impl Actor for Board {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        context.run_interval(Duration::from_millis(250), |board, _| {
            println!("board: {} checkpoints, {:?}", board.checkpoints, board.turnover);
        });
    }
}

impl Handler<Delivery<Turnover>> for Board {
    type Result = ();

    fn handle(&mut self, delivery: Delivery<Turnover>, _: &mut Context<Self>) {
        self.deliveries += 1;
        for Turnover { article, cents } in delivery.records {
            self.turnover.insert(article, cents);
        }
        for waiting in self.waiting.drain(..) {
            let _ = waiting.send(());
        }
    }
}

/// To the board: answers when the first results have been delivered.
#[derive(Message)]
#[rtype(result = "()")]
struct Delivered;

impl Handler<Delivered> for Board {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Delivered, _: &mut Context<Self>) -> ResponseFuture<()> {
        let (tell, told) = oneshot::channel();
        if self.deliveries == 0 {
            self.waiting.push(tell);
            // An error says that the board is gone, and so its answer.
            Box::pin(async { told.await.unwrap_or_default() })
        } else {
            Box::pin(std::future::ready(()))
        }
    }
}

impl Handler<JobEvent> for Board {
    type Result = ();

    fn handle(&mut self, event: JobEvent, _: &mut Context<Self>) {
        match event {
            JobEvent::Completed { .. } => self.checkpoints += 1,
            JobEvent::Failed(failure) => println!("board: {failure}"),
            _ => {}
        }
    }
}

/// To the board: what has it seen?
#[derive(Message)]
#[rtype(result = "Seen")]
struct Look;

/// What the board has seen.
struct Seen {
    /// In cents, by article.
    turnover: BTreeMap<String, u64>,
    checkpoints: u64,
    deliveries: u64,
}

impl Handler<Look> for Board {
    type Result = actix::MessageResult<Look>;

    fn handle(&mut self, _: Look, _: &mut Context<Self>) -> actix::MessageResult<Look> {
        let (checkpoints, deliveries) = (self.checkpoints, self.deliveries);
        actix::MessageResult(Seen { turnover: self.turnover.clone(), checkpoints, deliveries })
    }
}

type Failed = Box<dyn std::error::Error>;

/// The job that the tills push into, and whose results a board takes. The tests simulate this very job.
///
/// # Errors
/// When the graph is wrong, which depends on nothing that is given here.
pub(crate) fn sales<R: Receiver<Delivery<Turnover>>>(pushed: Push<Sale>, board: R) -> Result<Graph, BuildErrors> {
    let job = Job::new("sales");
    job.source("tills", pushed)
        .key_by(|sale| &sale.article)
        .aggregate("turnover", 0_u64, |article, total, sale| {
            *total += sale.cents;
            Turnover { article: article.clone(), cents: *total }
        })
        .sink("board", Deliver::committed(board));
    job.build()
}

/// A job of its own: counts the seconds' digits, so to say.
///
/// # Errors
/// When the graph is wrong, which depends on nothing that is given here.
pub(crate) fn digits(output: &Path) -> Result<Graph, BuildErrors> {
    let job = Job::new("digits");
    job.source("numbers", Generator::unbounded(|index| index).rate(5_000))
        .key_by_value(|number| number % 10)
        .aggregate("counts", 0_u64, |digit, count, _| {
            *count += 1;
            format!("{digit},{count}")
        })
        .sink("lines", Lines::exactly_once(output).suffix(".csv"));
    job.build()
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("embed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failed> {
    let system = System::new();
    let jobs = system.block_on(serve(arguments))?;
    system.run()?;
    println!("the System has stopped");
    // Nothing of the jobs runs here any more, so this thread may wait for them.
    for (name, handle) in jobs {
        match handle.wait_blocking() {
            Ok(report) => println!("{name}: {:?}, {} checkpoints", report.outcome, report.status.checkpoints_completed),
            Err(stopped @ JobError::ArbiterStopped { .. }) => println!("{name}: {stopped}"),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The service: starts both jobs beside its actors, lets the tills work, and stops the `System`.
async fn serve(arguments: &Arguments) -> Result<Vec<(&'static str, JobHandle)>, Failed> {
    let board = Board::default().start();
    let (pusher, pushed) = Push::channel(64);
    // All actors of both jobs live on this arbiter; only blocking work has threads of its own.
    let options = |name: &str| {
        let options = Options::default()
            .store(arguments.data.join(name).join("store"))
            .checkpoint_every(arguments.checkpoint_interval);
        Ok::<_, Failed>(options.arbiters(Arbiters::current()?))
    };
    let listener = Arc::new(EventsTo::new(board.clone().recipient()));
    let first = sales(pushed, board.clone().recipient())?.start(&options("sales")?.listener(listener))?;
    let second = digits(&arguments.data.join("digits").join("output"))?.start(&options("digits")?)?;

    let sold = Arc::new(Sold::default());
    let till = |number| Till { number, sales: pusher.clone(), sold: Arc::clone(&sold) }.start();
    let tills: Vec<_> = (1..=3).map(till).collect();
    let working: Vec<_> = tills.iter().map(|till| till.send(Work(arguments.sales))).collect();
    let mut repeated = 0;
    for work in working {
        repeated += work.await?;
    }
    // A receipt comes with the completion of its checkpoint; the results follow with the commit.
    board.send(Delivered).await?;
    let Seen { turnover, checkpoints, deliveries } = board.send(Look).await?;
    let covered = sold.covered.load(Ordering::Relaxed);
    println!(
        "sales of {covered} cents are covered by completed checkpoints; {repeated} were pushed again after a failure"
    );
    println!("board: {checkpoints} checkpoints, {deliveries} deliveries, {turnover:?}");
    if arguments.polite {
        first.stop().await?;
        second.stop().await?;
        first.wait().await?;
        second.wait().await?;
    }
    System::current().stop();
    Ok(vec![("sales", first), ("digits", second)])
}
