//! The table of operator state: against a model under random operations and snapshots, and every way in which what is stored may not fit.

use std::collections::BTreeMap;

use alluvium::state::{
    BroadcastMap, CHUNK_HEADER_BYTES, ChunkHeader, OperatorStateSet, OperatorTable, Progress, SplitList, StateError,
    StateKind, StateMapping, UnionList,
};
use alluvium_actors::ids::CheckpointId;
use alluvium_actors::protocol::mutation::{self, Mutation};
use rand::Rng;
use rand::rngs::SmallRng;
use serde::{Deserialize, Serialize};

use crate::model::{Model, run};
use crate::support::{Kept, SEED};

type States = (SplitList<String>, UnionList<u64>, BroadcastMap<u64, i64>);

fn states() -> States {
    (SplitList::named("waiting"), UnionList::named("positions"), BroadcastMap::named("rules"))
}

type Contents = (Vec<String>, Vec<u64>, BTreeMap<u64, i64>);

fn contents(table: &mut OperatorTable<States>) -> Contents {
    let (waiting, positions, rules) = table.access();
    (
        waiting.iter().cloned().collect(),
        positions.iter().copied().collect(),
        rules.iter().map(|(key, value)| (*key, *value)).collect(),
    )
}

fn finish<S: OperatorStateSet>(table: &mut OperatorTable<S>, checkpoint: CheckpointId, kept: &mut Kept) {
    while table.advance(checkpoint, 100, kept).expect("everything encodes") == Progress::More {}
}

/// A snapshot of what the table holds now.
fn written<S: OperatorStateSet>(table: &mut OperatorTable<S>) -> Vec<Vec<u8>> {
    let (checkpoint, mut kept) = (CheckpointId(1), Kept::default());
    table.close_epoch(checkpoint).unwrap();
    finish(table, checkpoint, &mut kept);
    kept.0.remove(&checkpoint).unwrap_or_default()
}

fn restored<S: OperatorStateSet>(states: &S, chunks: &[Vec<u8>]) -> Result<OperatorTable<S>, StateError> {
    let descriptors = states.descriptors();
    let mapping = StateMapping::new(&descriptors, &descriptors)?;
    let mut table = OperatorTable::new(states, SEED);
    for chunk in chunks {
        table.restore_chunk(&mapping, chunk)?;
    }
    for state in 0..descriptors.len() as u16 {
        table.settle(state, 0..u64::MAX)?;
    }
    Ok(table)
}

/// The table and what it should hold.
struct Three {
    table: OperatorTable<States>,
    model: Contents,
}

impl Model for Three {
    type Content = Contents;

    fn operate(&mut self, random: &mut SmallRng) {
        let (mut waiting, mut positions, mut rules) = self.table.access();
        let (of_waiting, of_positions, of_rules) = &mut self.model;
        let number = random.random_range(0..1_000_u64);
        let place = number as usize % of_waiting.len().max(1);
        match random.random_range(0..14) {
            0..4 => {
                waiting.push(format!("request {number}"));
                of_waiting.push(format!("request {number}"));
            }
            4 => {
                let changed = waiting.get_mut(place).map(|text| text.push('!'));
                assert_eq!(changed.is_some(), place < of_waiting.len());
                if let Some(text) = of_waiting.get_mut(place) {
                    text.push('!');
                }
            }
            5 => {
                let expected = (place < of_waiting.len()).then(|| of_waiting.remove(place));
                assert_eq!(waiting.remove(place), expected);
            }
            6 => {
                let expected = (!of_waiting.is_empty()).then(|| of_waiting.remove(0));
                assert_eq!(waiting.pop_front(), expected);
            }
            7 => assert_eq!(waiting.pop_back(), of_waiting.pop()),
            8 if number < 50 => {
                assert_eq!(waiting.take_all(), std::mem::take(of_waiting));
            }
            9 if number < 300 => {
                positions.retain(|position| position % 3 != number % 3);
                of_positions.retain(|position| position % 3 != number % 3);
            }
            10 if number < 100 => {
                positions.replace([number, number + 1]);
                *of_positions = vec![number, number + 1];
            }
            8..11 => {
                positions.extend([number, number / 2]);
                of_positions.extend([number, number / 2]);
            }
            11 => assert_eq!(rules.remove(&(number % 40)), of_rules.remove(&(number % 40))),
            12 => {
                *rules.get_or_insert_with(&(number % 40), || 0) += 7;
                *of_rules.entry(number % 40).or_default() += 7;
            }
            _ => {
                assert_eq!(rules.insert(number % 40, -1), of_rules.insert(number % 40, -1));
                if number < 20 {
                    rules.clear();
                    of_rules.clear();
                }
            }
        }
    }

    fn content(&self) -> Contents {
        self.model.clone()
    }

    fn check(&mut self) {
        assert_eq!(contents(&mut self.table), self.model);
    }

    /// Operator state is stored whole, whatever the base.
    fn close(&mut self, checkpoint: CheckpointId, _: Option<CheckpointId>) -> bool {
        self.table.close_epoch(checkpoint).unwrap();
        false
    }

    fn completed(&mut self, _: CheckpointId) {}

    fn restart(&mut self, chain: &[Vec<Vec<u8>>], _: CheckpointId, expected: Contents) {
        let chunks = chain.last().expect("what was stored");
        *self = Three { table: restored(&states(), chunks).unwrap(), model: expected };
    }

    fn advance(&mut self, checkpoint: CheckpointId, budget: usize, kept: &mut Kept) -> Progress {
        self.table.advance(checkpoint, budget, kept).unwrap()
    }

    fn abort(&mut self, checkpoint: CheckpointId) {
        self.table.abort(checkpoint);
        assert!(!self.table.open_snapshots().contains(&checkpoint));
    }

    fn restored(&self, chain: &[Vec<Vec<u8>>]) -> Contents {
        let chunks = chain.last().expect("what was stored");
        contents(&mut restored(&states(), chunks).unwrap())
    }
}

#[test]
fn a_snapshot_of_operator_state_is_what_the_model_held_when_its_epoch_closed() {
    let mut completed = 0;
    for seed in 0..60 {
        let three = Three { table: OperatorTable::new(&states(), SEED), model: Contents::default() };
        completed += run(three, seed, 400);
    }
    assert!(completed > 200, "only {completed} snapshots completed");
}

#[test]
fn closing_the_epoch_encodes_nothing_however_much_there_is() {
    let mut table = OperatorTable::new(&SplitList::<u64>::named("numbers"), SEED);
    table.access().extend(0..200_000);
    table.close_epoch(CheckpointId(1)).unwrap();
    assert_eq!(table.snapshot_bytes(), 0);
    // One slice visits what its budget says, and what is changed meanwhile is kept for the snapshot alone.
    let mut kept = Kept::default();
    assert_eq!(table.advance(CheckpointId(1), 100, &mut kept).unwrap(), Progress::More);
    let after_one_slice = table.snapshot_bytes();
    assert!(after_one_slice > 0 && after_one_slice < 4_096, "{after_one_slice} bytes");
    *table.access().get_mut(199_999).unwrap() = 0;
    finish(&mut table, CheckpointId(1), &mut kept);
    assert_eq!(table.snapshot_bytes(), 0);
    let chunks = kept.0.remove(&CheckpointId(1)).unwrap();
    assert!(chunks.len() > 10 && chunks.iter().all(|chunk| chunk.len() < 70_000), "chunks leave as they fill");
    let mut back = restored(&SplitList::<u64>::named("numbers"), &chunks).unwrap();
    assert!(back.access().iter().copied().eq(0..200_000), "in order, also what was changed first");
}

#[test]
fn an_abort_frees_what_a_snapshot_held() {
    let mut table = OperatorTable::new(&SplitList::<u64>::named("numbers"), SEED);
    table.access().extend(0..10_000);
    table.close_epoch(CheckpointId(1)).unwrap();
    table.close_epoch(CheckpointId(2)).unwrap();
    table.access().clear();
    assert!(table.snapshot_bytes() > 20_000, "both need all elements");
    table.abort(CheckpointId(1));
    table.abort(CheckpointId(2));
    assert_eq!((table.snapshot_bytes(), table.open_snapshots()), (0, vec![]));
    let error = table.advance(CheckpointId(1), 1, &mut Kept::default()).unwrap_err();
    assert_eq!(error, StateError::NoSuchSnapshot(CheckpointId(1)));
}

#[test]
fn an_element_that_changes_under_an_open_snapshot_is_kept_for_it_and_without_that_rule_it_is_not() {
    let declared = SplitList::<u64>::named("numbers");
    let stored = |broken| {
        mutation::during(broken, || {
            let (mut table, mut kept) = (OperatorTable::new(&declared, SEED), Kept::default());
            table.access().extend([1, 2, 3]);
            table.close_epoch(CheckpointId(1)).unwrap();
            *table.access().get_mut(1).unwrap() = 20;
            table.access().pop_back();
            finish(&mut table, CheckpointId(1), &mut kept);
            let chunks = kept.0.remove(&CheckpointId(1)).unwrap_or_default();
            restored(&declared, &chunks).unwrap().access().iter().copied().collect::<Vec<_>>()
        })
    };
    assert_eq!(stored(None), [1, 2, 3]);
    assert_eq!(stored(Some(Mutation::TouchedElementNotCopied)), [1], "neither the old elements nor the new ones");
}

#[test]
fn a_checkpoint_closes_the_epoch_once() {
    let mut table = OperatorTable::new(&states(), SEED);
    table.close_epoch(CheckpointId(1)).unwrap();
    assert_eq!(table.close_epoch(CheckpointId(1)), Err(StateError::SnapshotExists(CheckpointId(1))));
}

#[test]
fn empty_states_write_nothing_and_come_back_empty() {
    let mut table = OperatorTable::new(&states(), SEED);
    let chunks = written(&mut table);
    assert!(chunks.is_empty());
    assert_eq!(contents(&mut restored(&states(), &chunks).unwrap()), Contents::default());
    // One that is not empty is stored beside those that are.
    table.access().2.insert(3, 4);
    assert_eq!(written(&mut table).len(), 1);
}

#[test]
fn a_chunk_of_operator_state_has_the_documented_bytes() {
    let mut table = OperatorTable::new(&states(), SEED);
    {
        let (mut waiting, mut positions, mut rules) = table.access();
        waiting.extend(["a".to_owned(), "b".to_owned()]);
        positions.push(9);
        rules.insert(3, -1);
    }
    table.access().0.pop_front();
    let chunks = written(&mut table);
    let entries: Vec<(u16, u32, u32, &[u8])> = chunks
        .iter()
        .map(|chunk| {
            let (header, entries) = ChunkHeader::open(chunk).unwrap();
            (header.state, header.key_group, header.count, entries)
        })
        .collect();
    // The number of the element, then the element; the user key, then the value.
    assert_eq!(entries, [(0, 0, 1, &[1, 0xA1, b'b'][..]), (1, 0, 1, &[0, 9]), (2, 0, 1, &[3, 0xFF])]);
}

#[test]
fn an_instance_takes_the_elements_that_it_is_told_to_behind_those_of_others() {
    let list = UnionList::<u64>::named("numbers");
    let mut first = OperatorTable::new(&list, SEED);
    first.access().extend([1, 2, 3]);
    let mut second = OperatorTable::new(&list, SEED);
    second.access().extend([4, 5, 6]);
    second.access().remove(1);
    let descriptors = list.descriptors();
    let mapping = StateMapping::new(&descriptors, &descriptors).unwrap();
    let mut table = OperatorTable::new(&list, SEED);
    for (chunks, keep) in [(written(&mut first), 1..3), (written(&mut second), 0..2)] {
        for chunk in chunks {
            table.restore_chunk(&mapping, &chunk).unwrap();
        }
        table.settle(0, keep).unwrap();
    }
    assert!(table.access().iter().copied().eq([2, 3, 4, 6]));
}

#[test]
fn states_are_found_by_name_and_a_kind_does_not_change() {
    let stored = (SplitList::<u64>::named("a"), UnionList::<u64>::named("b"));
    let mut table = OperatorTable::new(&stored, SEED);
    table.access().0.push(1);
    table.access().1.push(2);
    let chunks = written(&mut table);
    // In another order, with one more.
    let current = (UnionList::<u64>::named("b"), SplitList::<u64>::named("a"), SplitList::<u64>::named("c"));
    let mapping = StateMapping::new(&stored.descriptors(), &current.descriptors()).unwrap();
    let mut back = OperatorTable::new(&current, SEED);
    for chunk in &chunks {
        back.restore_chunk(&mapping, chunk).unwrap();
    }
    for state in 0..3 {
        back.settle(state, 0..u64::MAX).unwrap();
    }
    let (b, a, c) = back.access();
    assert_eq!((a.get(0), b.get(0), c.len()), (Some(&1), Some(&2), 0));

    let changed = (UnionList::<u64>::named("a"), UnionList::<u64>::named("b"));
    let error = StateMapping::new(&stored.descriptors(), &changed.descriptors()).unwrap_err();
    let (stored_as, current_as) = (StateKind::SplitList, StateKind::UnionList);
    assert_eq!(error, StateError::KindChanged { name: "a".to_owned(), stored: stored_as, current: current_as });
    assert!(error.to_string().contains("stored as a split list and is declared as a union list"), "{error}");
    let error = StateMapping::new(&stored.descriptors(), &SplitList::<u64>::named("a").descriptors()).unwrap_err();
    assert_eq!(error, StateError::UnknownState("b".to_owned()));
}

/// Cannot be written when it is 13.
#[derive(Clone, Deserialize)]
struct Unlucky(u64);

impl Serialize for Unlucky {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 == 13 { Err(serde::ser::Error::custom("unlucky")) } else { serializer.serialize_u64(self.0) }
    }
}

#[test]
fn an_element_that_cannot_be_written_ends_the_snapshot_and_nothing_else() {
    let list = SplitList::<Unlucky>::named("numbers");
    for touched in [false, true] {
        let mut table = OperatorTable::new(&list, SEED);
        table.access().extend([Unlucky(1), Unlucky(13)]);
        table.close_epoch(CheckpointId(1)).unwrap();
        if touched {
            table.access().pop_back();
        }
        let error = table.advance(CheckpointId(1), 10, &mut Kept::default()).unwrap_err();
        assert!(
            matches!(&error, StateError::Encode { state, message } if state == "numbers" && message.contains("unlucky")),
            "{error}"
        );
        assert_eq!(table.open_snapshots(), []);
        assert_eq!(table.access().len(), if touched { 1 } else { 2 });
    }
}

/// The chunk with another key group, count and entries, under a checksum that fits.
fn resealed(chunk: &[u8], group: u32, count: u32, entries: &[u8]) -> Vec<u8> {
    let mut bytes = chunk[..CHUNK_HEADER_BYTES].to_vec();
    bytes[4..8].copy_from_slice(&group.to_le_bytes());
    bytes[8..12].copy_from_slice(&count.to_le_bytes());
    bytes[12..16].copy_from_slice(&(entries.len() as u32).to_le_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..16]), entries);
    bytes[16..20].copy_from_slice(&checksum.to_le_bytes());
    bytes.extend(entries);
    bytes
}

#[test]
fn bytes_that_were_not_written_so_are_refused() {
    let list = SplitList::<u64>::named("numbers");
    let mut table = OperatorTable::new(&list, SEED);
    table.access().extend([5, 6]);
    let chunks = written(&mut table);
    let [chunk] = &chunks[..] else { panic!("{chunks:?}") };
    let refused = |bytes: Vec<u8>| restored(&list, &[bytes]).err().map(|error| error.to_string()).unwrap_or_default();
    assert_eq!(refused(chunk.clone()), "");
    for place in 0..chunk.len() {
        let mut flipped = chunk.clone();
        flipped[place] ^= 1;
        assert_ne!(refused(flipped), "", "byte {place}");
    }
    assert!(refused(resealed(chunk, 1, 2, &[0, 5, 1, 6])).contains("key group 1"));
    assert!(refused(resealed(chunk, 0, 1, &[0, 5, 1, 6])).contains("more than its 1 entries"));
    assert!(refused(resealed(chunk, 0, 3, &[0, 5, 1, 6])).contains("numbers"));
    assert!(refused(resealed(chunk, 0, 2, &[1, 5, 1, 6])).contains("stored twice"));
    assert!(refused(resealed(chunk, 0, 1, &[0, 0xA1, b'x'])).contains("numbers"));
}
