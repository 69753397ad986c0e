//! What happened in a run, in order: for the reader of a failure, and for the comparison of two runs.
//!
//! The story holds events, ids and sizes, never encoded records: a user's `HashMap` serializes in a random order (rule 35).

use std::fmt::{self, Write as _};
use std::hash::{DefaultHasher, Hash, Hasher};

use alluvium_actors::drive::control::Control;
use alluvium_actors::ids::Moment;
use alluvium_actors::ports::blocking::Lane;
use alluvium_actors::ports::host::{Address, Step};
use alluvium_actors::ports::listener::JobEvent;
use alluvium_actors::ports::points::Point;

/// How many events a failure shows.
const SHOWN: usize = 300;

/// Everything that happened, in order.
#[derive(Debug, Default)]
pub(super) struct Story {
    lines: Vec<Line>,
    /// The lines that are events: what the job tells in the course of one is part of it.
    events: u64,
    /// What the chains are called.
    chains: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Line {
    time: Moment,
    actor: Option<Address>,
    what: What,
}

/// One line of the story.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum What {
    /// A process starts.
    Started { process: u32 },
    /// It ends, with everything in memory, and takes the machine along or not.
    Ended { crashed: bool, machine: bool, effects: u64 },
    /// An actor is built where it will live.
    Built,
    /// A message is taken out of the mailbox.
    Received { message: String },
    /// An actor took a step.
    Stepped { outcome: &'static str },
    /// An actor panicked outside of user code.
    Panicked,
    /// Blocking work was carried out.
    Worked { lane: Lane, effects: u64 },
    /// A part of the program beside the job went on.
    Polled { name: String, ended: bool },
    /// A fault point was reached, and a fault struck there or not.
    Reached { point: Point, place: String, struck: Option<String> },
    /// Blocking work stands still in its middle.
    Stands { lane: Lane, effects: u64 },
    /// The device was busy with it until now.
    Answered { lane: Lane },
    /// The job told its listener.
    Told { event: String },
    /// An outside system did something.
    Noted { who: String, what: String },
}

impl Story {
    /// What the chains of the job are called, in the order of the plan.
    pub(super) fn call(&mut self, chains: Vec<String>) {
        self.chains = chains;
    }

    /// Adds an event.
    pub(super) fn tell(&mut self, time: Moment, actor: Option<Address>, what: What) {
        self.events += 1;
        self.lines.push(Line { time, actor, what });
    }

    /// Adds what a job tells.
    pub(super) fn tell_job(&mut self, event: &JobEvent) {
        let time = self.lines.last().map(|line| line.time).unwrap_or_default();
        self.lines.push(Line { time, actor: None, what: What::Told { event: format!("{event:?}") } });
    }

    /// Adds what belongs to the event that is under way.
    pub(super) fn tell_aside(&mut self, time: Moment, what: What) {
        self.lines.push(Line { time, actor: None, what });
    }

    /// Adds what an outside system did.
    pub(super) fn note(&mut self, time: Moment, who: String, what: String) {
        self.lines.push(Line { time, actor: None, what: What::Noted { who, what } });
    }

    pub(super) fn events(&self) -> u64 {
        self.events
    }

    pub(super) fn fingerprint(&self) -> u64 {
        // With fixed keys: the same in every process.
        let mut hasher = DefaultHasher::new();
        self.lines.hash(&mut hasher);
        hasher.finish()
    }

    /// The first line in which two stories differ.
    pub(super) fn difference(&self, other: &Story) -> Option<String> {
        let common = self.lines.iter().zip(&other.lines).position(|(one, other)| one != other);
        let at = common.unwrap_or_else(|| self.lines.len().min(other.lines.len()));
        let shown = |story: &Story| story.lines.get(at).map_or("the end".to_owned(), |line| line.shown(&story.chains));
        (self.lines.len() != other.lines.len() || common.is_some()).then(|| {
            format!(
                "two runs of one seed differ at line {at}: chance, time or a hash order that does not come from the host\n  \
                 first:  {}\n  second: {}",
                shown(self),
                shown(other)
            )
        })
    }

    /// The last events as text, without the mere steps of actors. What one outside system did many times in a row is told by its first and its last line. Only what is told is made into
    /// text: a run may have hundreds of thousands of lines.
    pub(super) fn last_events(&self) -> String {
        let mut backwards: Vec<String> = Vec::new();
        let mut rest = self.lines.iter().rev().filter(|line| !matches!(line.what, What::Stepped { .. })).peekable();
        while backwards.len() < SHOWN
            && let Some(last) = rest.next()
        {
            backwards.push(last.shown(&self.chains));
            let mut earlier = Vec::new();
            while let Some(line) = rest.next_if(|line| line.is_by_the_same(last)) {
                earlier.push(line);
            }
            if let Some(first) = earlier.pop() {
                match earlier.as_slice() {
                    [] => {}
                    [one] => backwards.push(one.shown(&self.chains)),
                    more => backwards.push(format!("{:>15}       ... {} more of them ...", "", more.len())),
                }
                backwards.push(first.shown(&self.chains));
            }
        }
        backwards.truncate(SHOWN);
        backwards.reverse();
        backwards.join("\n") + "\n"
    }
}

impl Line {
    /// Whether both tell of the same outside system.
    fn is_by_the_same(&self, other: &Line) -> bool {
        match (&self.what, &other.what) {
            (What::Noted { who: one, .. }, What::Noted { who: other, .. }) => one == other,
            _ => false,
        }
    }

    fn shown(&self, chains: &[String]) -> String {
        let mut text = String::new();
        // Into a string: it cannot fail.
        let _ = self.write(&mut text, chains);
        text
    }

    fn write(&self, formatter: &mut String, chains: &[String]) -> fmt::Result {
        write!(formatter, "{:>12.6} ms  ", self.time.0 as f64 / 1e6)?;
        match self.actor {
            Some(Address::Supervisor) => formatter.push_str("supervisor "),
            Some(Address::Coordinator) => formatter.push_str("coordinator "),
            Some(Address::Sink(sink, attempt)) => write!(formatter, "sink {sink} (attempt {attempt}) ")?,
            Some(Address::Subtask(subtask, attempt)) => match chains.get(subtask.node.0 as usize) {
                Some(chain) => write!(formatter, "{chain}[{}] (attempt {attempt}) ", subtask.index)?,
                None => write!(formatter, "subtask {subtask} (attempt {attempt}) ")?,
            },
            None => {}
        }
        match &self.what {
            What::Started { process } => write!(formatter, "---- process {process} starts"),
            What::Ended { crashed, machine, effects } => write!(
                formatter,
                "---- the process {} after effect {effects}{}",
                if *crashed { "crashes" } else { "ends" },
                if *machine { ", the machine loses what was not synced" } else { "" }
            ),
            What::Built => formatter.write_str("is built"),
            What::Received { message } => write!(formatter, "receives {message}"),
            What::Stepped { outcome } => write!(formatter, "steps: {outcome}"),
            What::Reached { point, place, struck: None } => write!(formatter, "     at {point}: {place}"),
            What::Reached { point, place, struck: Some(fault) } => {
                write!(formatter, "  ** at {point}: {place}: {fault} **")
            }
            What::Panicked => formatter.write_str("panics"),
            What::Worked { lane, effects } => write!(formatter, "{lane:?} work is done, effects {effects}"),
            What::Polled { name, ended } => {
                write!(formatter, "beside the job: {name} {}", if *ended { "has ended" } else { "goes on" })
            }
            What::Stands { lane, effects } => write!(formatter, "{lane:?} work stands still, effects {effects}"),
            What::Answered { lane } => write!(formatter, "{lane:?} work that was done is answered"),
            What::Told { event } => write!(formatter, "     {event}"),
            What::Noted { who, what } => write!(formatter, "     {who}: {what}"),
        }
    }
}

/// The word for what a driver wants next.
pub(super) fn outcome(step: Step) -> &'static str {
    match step {
        Step::Again => "again",
        Step::Wait => "wait",
        Step::Finished => "finished",
    }
}

/// A message without what a user's types encode.
pub(super) fn describe(message: &Control) -> String {
    match message {
        Control::Acknowledge { attempt, checkpoint, snapshot, .. } => {
            let pieces: usize = snapshot.operators.iter().map(|operator| operator.pieces.len()).sum();
            format!("Acknowledge {checkpoint} of {} (attempt {attempt}, {pieces} pieces)", snapshot.subtask)
        }
        Control::AddSplits(splits) => format!("AddSplits ({})", splits.len()),
        Control::EnumeratorEvent(event) => format!("EnumeratorEvent ({} bytes)", event.len()),
        Control::Commit { subtask, request } => {
            format!("Commit {} of {subtask} ({} committables)", request.checkpoint, request.committables.len())
        }
        Control::Resume(resume) => format!("Resume (run {}, attempt {})", resume.run.run, resume.attempt),
        Control::Reader { attempt, subtask, event } => {
            let event = format!("{event:?}");
            let name = event.split([' ', '(', '{']).next().unwrap_or_default();
            format!("Reader {name} of {subtask} (attempt {attempt})")
        }
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Random;

    /// All lines, first to last, of which the last ones are taken: what the walk from the end has to come to.
    fn from_the_beginning(story: &Story) -> String {
        let lines: Vec<&Line> = story.lines.iter().filter(|line| !matches!(line.what, What::Stepped { .. })).collect();
        let mut shown = Vec::new();
        for same in lines.chunk_by(|one, other| one.is_by_the_same(other)) {
            match same {
                [first, _, .., _, last] => {
                    let more = format!("{:>15}       ... {} more of them ...", "", same.len() - 2);
                    shown.extend([first.shown(&[]), more, last.shown(&[])]);
                }
                few => shown.extend(few.iter().map(|line| line.shown(&[]))),
            }
        }
        shown.drain(..shown.len().saturating_sub(SHOWN));
        shown.join("\n") + "\n"
    }

    #[test]
    fn the_last_events_are_the_end_of_all_events_whatever_they_are() {
        let mut random = Random::new(3);
        for lines in [0, 1, 2, 3, 5, 2_000].into_iter().chain(300..500) {
            let mut story = Story::default();
            for number in 0..lines {
                let time = Moment(number);
                match random.below(8) {
                    0 => story.tell(time, None, What::Built),
                    1 => story.tell(time, None, What::Stepped { outcome: "again" }),
                    2 => story.note(time, "ledger".to_owned(), number.to_string()),
                    _ => story.note(time, "service".to_owned(), number.to_string()),
                }
            }
            assert_eq!(story.last_events(), from_the_beginning(&story), "{lines} lines");
        }
    }
}
