//! The event notation of the alignment cases, and the gate that plays it.
//!
//! A case is a line of words in arrival order:
//!
//! | word | what arrives |
//! | --- | --- |
//! | `D@c` | a record on channel c; records are numbered from 0 in their order of arrival |
//! | `Bn@c` | the barrier marker of checkpoint n on channel c |
//! | `Xn@c` | the cancel marker of n on channel c |
//! | `E@c` | the end of channel c |
//! | `An` | the announcement of n, by message |
//! | `Mn` | the coordinator's trigger of n, by message to this subtask |
//! | `Nn` | the coordinator's notice that n is aborted |
//! | `Rn` | from here the driver refuses the cut of n |
//! | `tn` | the coordinator triggers n now (the moment that its barriers carry; 0 if not said) |
//! | `Un`, `Un:m` | the barriers of n overtake: at once, or from m milliseconds after its trigger on |
//! | `+m` | m milliseconds pass, and the alarm of the machine rings |
//! | `~m` | m milliseconds pass, and the alarm is late: nothing rings |
//! | `S`, `G` | the subtask stands still from here on, taking messages only; it goes on |
//! | `[c,c]` | not an event: the channels that must be blocked here |
//!
//! What arrives on a blocked channel waits in that channel until it is unblocked, as in an edge; messages never wait. When a barrier has overtaken, what
//! waits in front of its markers is shown to the machine of the capture at once, and what is taken first, then.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use alluvium_actors::ids::{CheckpointId, Moment};
use alluvium_actors::protocol::align::{
    Aligner, Alignment, CancelReason, Capture, Captured, Channel, Effect, Event, Seen, Timing, Tracker,
};
use alluvium_actors::protocol::invariant;
use alluvium_actors::protocol::machine::Machine;

/// What lies in a channel.
#[derive(Clone, Copy, Debug)]
enum Frame {
    Record(usize),
    Marker(u64),
    Cancel(u64),
    End,
}

/// One subtask: its machine, the frames that wait in its channels, and everything that came out of it.
pub(crate) struct Gate {
    alignment: Alignment,
    channels: Vec<VecDeque<(usize, Frame)>>,
    blocked: BTreeSet<u32>,
    now: Moment,
    trigger_moments: BTreeMap<u64, Moment>,
    refused: BTreeSet<u64>,
    overtakes: BTreeMap<u64, Duration>,
    stands: bool,
    capture: Option<Capture>,
    /// How many frames at the head of each channel the capture has seen.
    looked: Vec<usize>,
    arrivals: usize,
    records: usize,
    last_resolution: CheckpointId,
    /// The checkpoints that were cut, in order.
    pub triggered: Vec<u64>,
    /// The checkpoints that were given up, in order, and why.
    pub cancelled: Vec<(u64, CancelReason)>,
    /// The timing of each cut.
    pub timings: Vec<Timing>,
    /// The records that each checkpoint captured.
    pub captured: BTreeMap<u64, Vec<usize>>,
    /// The checkpoints that have all that they had to capture.
    pub complete: Vec<u64>,
    /// The checkpoints of which something will not come, and why.
    pub given_up: Vec<(u64, CancelReason)>,
    /// What left to the outputs, in order: `D0` a record, `B1` a barrier, `X2` a cancel marker.
    pub out: Vec<String>,
}

/// Plays `events` at a new gate with `channels` channels.
#[track_caller]
pub(crate) fn run(channels: u32, events: &str) -> Gate {
    let mut gate = Gate::new(Aligner::new(channels), channels);
    gate.play(events);
    gate
}

/// The same for a gate that tracks barriers, at least once.
#[track_caller]
pub(crate) fn track(channels: u32, events: &str) -> Gate {
    let mut gate = Gate::new(Tracker::new(channels), channels);
    gate.play(events);
    gate
}

impl Gate {
    pub(crate) fn new(alignment: impl Into<Alignment>, channels: u32) -> Gate {
        Gate {
            alignment: alignment.into(),
            channels: vec![VecDeque::new(); channels as usize],
            blocked: BTreeSet::new(),
            now: Moment(0),
            trigger_moments: BTreeMap::new(),
            refused: BTreeSet::new(),
            overtakes: BTreeMap::new(),
            stands: false,
            capture: None,
            looked: vec![0; channels as usize],
            captured: BTreeMap::new(),
            complete: Vec::new(),
            given_up: Vec::new(),
            arrivals: 0,
            records: 0,
            last_resolution: CheckpointId(0),
            triggered: Vec::new(),
            cancelled: Vec::new(),
            timings: Vec::new(),
            out: Vec::new(),
        }
    }

    /// Plays further `events`.
    #[track_caller]
    pub(crate) fn play(&mut self, events: &str) {
        for word in events.split_whitespace() {
            self.word(word);
        }
    }

    /// The ids that were given up, in order.
    pub(crate) fn aborted(&self) -> Vec<u64> {
        self.cancelled.iter().map(|&(id, _)| id).collect()
    }

    /// The channels that are blocked now.
    pub(crate) fn blocked(&self) -> Vec<u32> {
        self.blocked.iter().copied().collect()
    }

    /// What left to the outputs, in one line.
    pub(crate) fn out(&self) -> String {
        self.out.join(" ")
    }

    /// The checkpoints that wait for markers, oldest first.
    pub(crate) fn pending(&self) -> Vec<u64> {
        self.alignment.pending().into_iter().map(|checkpoint| checkpoint.0).collect()
    }

    #[track_caller]
    fn word(&mut self, word: &str) {
        let (kind, rest) = word.split_at(1);
        let (id, channel) = match rest.split_once('@') {
            Some((id, channel)) => (id, Some(number(word, channel))),
            None => (rest, None),
        };
        match (kind, id, channel) {
            ("D", "", Some(channel)) => {
                let record = Frame::Record(self.records);
                self.records += 1;
                self.arrive(channel, record);
            }
            ("B", id, Some(channel)) => self.arrive(channel, Frame::Marker(number(word, id))),
            ("X", id, Some(channel)) => self.arrive(channel, Frame::Cancel(number(word, id))),
            ("E", "", Some(channel)) => self.arrive(channel, Frame::End),
            ("A", id, None) => {
                self.handle(Event::Announcement { checkpoint: checkpoint(word, id) });
                self.overtake(number(word, id));
            }
            ("M", id, None) => {
                let triggered = self.trigger_moment(number(word, id));
                self.handle(Event::Trigger { checkpoint: checkpoint(word, id), triggered });
                self.overtake(number(word, id));
            }
            ("U", id, None) => {
                let (id, after) = id.split_once(':').unwrap_or((id, "0"));
                self.overtakes.insert(number(word, id), Duration::from_millis(number(word, after)));
            }
            ("S", "", None) => self.stands = true,
            ("G", "", None) => self.stands = false,
            ("~", milliseconds, None) => self.now = self.now + Duration::from_millis(number(word, milliseconds)),
            ("N", id, None) => self.handle(Event::AbortNotice { checkpoint: checkpoint(word, id) }),
            ("R", id, None) => drop(self.refused.insert(number(word, id))),
            ("t", id, None) => drop(self.trigger_moments.insert(number(word, id), self.now)),
            ("+", milliseconds, None) => {
                let until = self.now + Duration::from_millis(number(word, milliseconds));
                while let Some(deadline) = self.alignment.next_deadline().filter(|deadline| *deadline <= until) {
                    self.now = self.now.max(deadline);
                    self.handle(Event::Deadline);
                    let next = self.alignment.next_deadline();
                    assert!(next.is_none_or(|next| next > self.now), "the machine spins at {deadline:?}");
                }
                self.now = until;
            }
            ("[", list, None) => {
                let list = list.trim_end_matches(']').split(',').filter(|channel| !channel.is_empty());
                let expected: Vec<u32> = list.map(|channel| number(word, channel)).collect();
                assert_eq!(self.blocked(), expected, "blocked channels after event {}", self.arrivals);
            }
            _ => panic!("`{word}` is no event"),
        }
        self.look();
        self.take_all();
    }

    /// The barrier of a checkpoint that was just heard of may be one that overtakes.
    fn overtake(&mut self, id: u64) {
        if let Some(after) = self.overtakes.get(&id) {
            let triggered = self.trigger_moment(id);
            self.handle(Event::Overtakes { checkpoint: CheckpointId(id), triggered, from: triggered + *after });
        }
    }

    /// Shows the capture what waits and was not shown yet.
    fn look(&mut self) {
        for channel in 0..self.channels.len() {
            while let Some(&(_, frame)) = self.channels[channel].get(self.looked[channel]) {
                if !self.capture.as_ref().is_some_and(|capture| capture.owes(Channel(channel as u32))) {
                    break;
                }
                self.looked[channel] += 1;
                self.see(Channel(channel as u32), frame);
            }
        }
    }

    fn see(&mut self, channel: Channel, frame: Frame) {
        let Some(capture) = &mut self.capture else { return };
        let id = capture.checkpoint().0;
        let seen = match frame {
            Frame::Record(_) => Seen::Records(channel),
            Frame::Marker(id) => Seen::Marker(channel, CheckpointId(id)),
            Frame::Cancel(id) => Seen::CancelMarker(channel, CheckpointId(id)),
            Frame::End => Seen::EndOfChannel(channel),
        };
        let mut effects = Vec::new();
        capture.handle(self.now, seen, &mut effects);
        capture.check().unwrap_or_else(|violation| panic!("after {seen:?}: {violation}"));
        for effect in effects {
            match (effect, frame) {
                (Captured::Keep(_), Frame::Record(record)) => self.captured.entry(id).or_default().push(record),
                (Captured::Keep(_), _) => panic!("{frame:?} is no record"),
                (Captured::Ended(ended), _) => assert_eq!(ended, channel),
                (Captured::Complete, _) => self.complete.push(id),
                (Captured::GivenUp(reason), _) => self.given_up.push((id, reason)),
            }
        }
    }

    fn arrive(&mut self, channel: usize, frame: Frame) {
        self.channels[channel].push_back((self.arrivals, frame));
        self.arrivals += 1;
    }

    /// Takes from the unblocked channels, earliest arrival first, until nothing can be taken.
    fn take_all(&mut self) {
        while !self.stands {
            let open = (0_u32..).zip(&self.channels).filter(|(channel, _)| !self.blocked.contains(channel));
            let heads = open.filter_map(|(channel, frames)| frames.front().map(|&(arrival, _)| (arrival, channel)));
            let Some((_, channel)) = heads.min() else { return };
            let (_, frame) = self.channels[channel as usize].pop_front().expect("it has a head");
            let channel = Channel(channel);
            match self.looked[channel.position()].checked_sub(1) {
                Some(less) => self.looked[channel.position()] = less,
                None => self.see(channel, frame),
            }
            match frame {
                Frame::Record(record) => self.out.push(format!("D{record}")),
                Frame::Marker(id) => {
                    let triggered = self.trigger_moment(id);
                    self.handle(Event::Marker { channel, checkpoint: CheckpointId(id), triggered });
                    self.overtake(id);
                    self.look();
                }
                Frame::Cancel(id) => self.handle(Event::CancelMarker { channel, checkpoint: CheckpointId(id) }),
                Frame::End => self.handle(Event::ChannelEnded { channel }),
            }
        }
    }

    /// Gives `event` to the machine and does what it asks for.
    pub(crate) fn handle(&mut self, event: Event) {
        let mut effects = Vec::new();
        self.alignment.handle(self.now, event, &mut effects);
        self.alignment.check().unwrap_or_else(|violation| panic!("after {event:?}: {violation}"));
        if self.overtakes.is_empty() {
            assert_eq!(self.alignment.next_deadline(), None);
        }
        let mut failed = None;
        let mut captures = Vec::new();
        for effect in effects {
            match effect {
                Effect::Block(channel) => assert!(self.blocked.insert(channel.0), "{channel} is blocked twice"),
                Effect::Unblock(channel) => assert!(self.blocked.remove(&channel.0), "{channel} was not blocked"),
                Effect::Capture(channel) => captures.push(channel),
                Effect::Cut { checkpoint, timing } => {
                    self.resolved(checkpoint);
                    if !captures.is_empty() {
                        self.capture = Some(Capture::new(checkpoint, captures.drain(..)));
                        self.looked.fill(0);
                    }
                    if self.refused.contains(&checkpoint.0) {
                        failed = Some(checkpoint);
                    } else {
                        self.triggered.push(checkpoint.0);
                        self.timings.push(timing);
                        self.out.push(format!("B{checkpoint}"));
                    }
                }
                Effect::ForwardCancel { checkpoint, reason } => {
                    if reason != CancelReason::CutFailed {
                        self.resolved(checkpoint);
                    }
                    self.cancelled.push((checkpoint.0, reason));
                    self.out.push(format!("X{checkpoint}"));
                }
            }
        }
        for channel in (0..).take(self.channels.len()) {
            assert_eq!(
                self.alignment.is_blocked(Channel(channel)),
                self.blocked.contains(&channel),
                "channel {channel}"
            );
        }
        if let Some(checkpoint) = failed {
            self.handle(Event::CutFailed { checkpoint });
        }
    }

    fn resolved(&mut self, checkpoint: CheckpointId) {
        invariant::resolutions_ascend(self.last_resolution, checkpoint).expect("resolutions ascend");
        self.last_resolution = checkpoint;
    }

    fn trigger_moment(&self, id: u64) -> Moment {
        self.trigger_moments.get(&id).copied().unwrap_or_default()
    }
}

fn checkpoint(word: &str, id: &str) -> CheckpointId {
    CheckpointId(number(word, id))
}

#[track_caller]
fn number<N: std::str::FromStr>(word: &str, digits: &str) -> N {
    digits.parse().unwrap_or_else(|_| panic!("`{digits}` in `{word}` is no number"))
}
