//! Long runs of random alignments: two channels with barriers at random places.

use std::collections::BTreeMap;

use alluvium_actors::ids::{CheckpointId, Moment};
use alluvium_actors::protocol::align::{Aligner, Channel, Effect, Event};
use alluvium_actors::protocol::invariant;
use alluvium_actors::protocol::machine::Machine;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// One channel: counts what its producer sent, and knows how much that was at each barrier.
#[derive(Default)]
struct Producer {
    sent: u64,
    barriers: u64,
    sent_before: BTreeMap<u64, u64>,
}

enum Frame {
    Record(u64),
    Barrier(u64),
}

impl Producer {
    /// The next frame: a barrier once in about `spacing` frames.
    fn next(&mut self, random: &mut StdRng, spacing: u32) -> Frame {
        if random.random_ratio(1, spacing) {
            self.barriers += 1;
            self.sent_before.insert(self.barriers, self.sent);
            Frame::Barrier(self.barriers)
        } else {
            self.sent += 1;
            Frame::Record(self.sent)
        }
    }
}

/// Runs `steps` frames through an aligner of two channels. Every barrier is delivered by both, so every one is cut.
fn random_alignment(seed: u64, steps: u32, mut aligner: Aligner) -> Result<u64, String> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut producers = [Producer::default(), Producer::default()];
    let mut taken = [0_u64; 2];
    let mut blocked = [false; 2];
    let mut cuts = 0;
    let mut effects = Vec::new();
    for step in 0..steps {
        // One channel is often far faster than the other; which one changes.
        let favoured = (step / 1_000 % 2) as usize;
        let wanted = if random.random_ratio(4, 5) { favoured } else { 1 - favoured };
        let number = if blocked[wanted] { 1 - wanted } else { wanted };
        let channel = Channel(number as u32);
        match producers[number].next(&mut random, 50) {
            Frame::Record(sequence) => {
                assert_eq!(sequence, taken[number] + 1, "records of a channel stay in order");
                taken[number] = sequence;
            }
            Frame::Barrier(id) => {
                let event = Event::Marker { channel, checkpoint: CheckpointId(id), triggered: Moment(0) };
                aligner.handle(Moment(u64::from(step)), event, &mut effects);
                aligner.check().map_err(|violation| format!("seed {seed}, step {step}: {violation}"))?;
            }
        }
        for effect in effects.drain(..) {
            match effect {
                Effect::Block(channel) => blocked[channel.position()] = true,
                Effect::Unblock(channel) => blocked[channel.position()] = false,
                Effect::Capture(channel) => return Err(format!("seed {seed}, step {step}: {channel} was overtaken")),
                Effect::Cut { checkpoint, .. } => {
                    if checkpoint.0 != cuts + 1 {
                        return Err(format!("seed {seed}, step {step}: cut {checkpoint} after {cuts}"));
                    }
                    cuts = checkpoint.0;
                    for (producer, taken) in producers.iter_mut().zip(&taken) {
                        let sent = producer.sent_before.remove(&checkpoint.0).unwrap_or_default();
                        invariant::cut_is_consistent(checkpoint, &sent, taken)
                            .map_err(|violation| format!("seed {seed}, step {step}: {violation}"))?;
                    }
                }
                Effect::ForwardCancel { checkpoint, reason } => {
                    return Err(format!("seed {seed}, step {step}: {checkpoint} {reason}"));
                }
            }
        }
        if blocked == [true; 2] {
            return Err(format!("seed {seed}, step {step}: both channels are blocked"));
        }
    }
    Ok(cuts)
}

#[test]
fn massive_random_alignment_of_two_channels_keeps_every_cut_consistent() {
    for seed in 0..20 {
        let cuts = random_alignment(seed, 100_000, Aligner::new(2)).expect("every cut is consistent");
        assert!(cuts > 500, "seed {seed}: only {cuts} cuts");
    }
}

#[test]
fn massive_random_alignment_finds_a_missing_alignment() {
    for seed in 0..20 {
        random_alignment(seed, 1_000, Aligner::without_blocking(2)).expect_err("records slip into the cut");
    }
}
