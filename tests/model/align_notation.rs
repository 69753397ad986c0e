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
//! | `+m` | m milliseconds pass |
//! | `[c,c]` | not an event: the channels that must be blocked here |
//!
//! What arrives on a blocked channel waits in that channel until it is unblocked, as in an edge; messages never wait.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use alluvium_actors::ids::{CheckpointId, Moment};
use alluvium_actors::protocol::align::{Aligner, Alignment, CancelReason, Channel, Effect, Event, Timing, Tracker};
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
    arrivals: usize,
    records: usize,
    last_resolution: CheckpointId,
    /// The checkpoints that were cut, in order.
    pub triggered: Vec<u64>,
    /// The checkpoints that were given up, in order, and why.
    pub cancelled: Vec<(u64, CancelReason)>,
    /// The timing of each cut.
    pub timings: Vec<Timing>,
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
            ("A", id, None) => self.handle(Event::Announcement { checkpoint: checkpoint(word, id) }),
            ("M", id, None) => {
                let triggered = self.trigger_moment(number(word, id));
                self.handle(Event::Trigger { checkpoint: checkpoint(word, id), triggered });
            }
            ("N", id, None) => self.handle(Event::AbortNotice { checkpoint: checkpoint(word, id) }),
            ("R", id, None) => drop(self.refused.insert(number(word, id))),
            ("t", id, None) => drop(self.trigger_moments.insert(number(word, id), self.now)),
            ("+", milliseconds, None) => self.now = self.now + Duration::from_millis(number(word, milliseconds)),
            ("[", list, None) => {
                let list = list.trim_end_matches(']').split(',').filter(|channel| !channel.is_empty());
                let expected: Vec<u32> = list.map(|channel| number(word, channel)).collect();
                assert_eq!(self.blocked(), expected, "blocked channels after event {}", self.arrivals);
            }
            _ => panic!("`{word}` is no event"),
        }
        self.take_all();
    }

    fn arrive(&mut self, channel: usize, frame: Frame) {
        self.channels[channel].push_back((self.arrivals, frame));
        self.arrivals += 1;
    }

    /// Takes from the unblocked channels, earliest arrival first, until nothing can be taken.
    fn take_all(&mut self) {
        loop {
            let open = (0_u32..).zip(&self.channels).filter(|(channel, _)| !self.blocked.contains(channel));
            let heads = open.filter_map(|(channel, frames)| frames.front().map(|&(arrival, _)| (arrival, channel)));
            let Some((_, channel)) = heads.min() else { return };
            let (_, frame) = self.channels[channel as usize].pop_front().expect("it has a head");
            let channel = Channel(channel);
            match frame {
                Frame::Record(record) => self.out.push(format!("D{record}")),
                Frame::Marker(id) => {
                    let triggered = self.trigger_moment(id);
                    self.handle(Event::Marker { channel, checkpoint: CheckpointId(id), triggered });
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
        assert_eq!(self.alignment.next_deadline(), None);
        let mut failed = None;
        for effect in effects {
            match effect {
                Effect::Block(channel) => assert!(self.blocked.insert(channel.0), "{channel} is blocked twice"),
                Effect::Unblock(channel) => assert!(self.blocked.remove(&channel.0), "{channel} was not blocked"),
                Effect::Cut { checkpoint, timing } => {
                    self.resolved(checkpoint);
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
