//! Comparing records: which are missing, which are there too often.

use std::collections::BTreeMap;

use crate::connect::adapter::encode;
use crate::record::Record;
use crate::testing::print::text_of;

/// So many records of a difference are shown.
const SHOWN: usize = 5;

/// Records, encoded, each with how often it is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Count(BTreeMap<Vec<u8>, i64>);

impl Count {
    /// Of these records.
    pub(super) fn of<'a, T: Record>(records: impl IntoIterator<Item = &'a T>) -> Count {
        let mut count = Count::default();
        count.add(records);
        count
    }

    /// These too.
    pub(super) fn add<'a, T: Record>(&mut self, records: impl IntoIterator<Item = &'a T>) {
        for record in records {
            // One that cannot be encoded is found by whoever encodes it for a checkpoint.
            let bytes = encode(record).unwrap_or_default();
            *self.0.entry(bytes).or_default() += 1;
        }
    }

    /// Those of another count too.
    pub(super) fn merge(&mut self, other: &Count) {
        for (record, number) in &other.0 {
            *self.0.entry(record.clone()).or_default() += number;
        }
    }

    /// Those of this count that another one knows, however often.
    pub(super) fn within(&self, known: &Count) -> Count {
        let within = self.0.iter().filter(|(record, _)| known.0.contains_key(*record));
        Count(within.map(|(record, number)| (record.clone(), *number)).collect())
    }

    /// How many records.
    pub(super) fn len(&self) -> usize {
        self.0.values().sum::<i64>() as usize
    }

    /// What is wrong with this, if `expected` is right.
    pub(super) fn differs_from(&self, expected: &Count) -> Option<String> {
        self.is_not_between(expected, expected)
    }

    /// What is wrong with this, if `least` has to be there and no more than `most` may.
    pub(super) fn is_not_between(&self, least: &Count, most: &Count) -> Option<String> {
        let parts: Vec<String> = [self.lacks(least), self.exceeds(most)].into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    /// What is missing here.
    pub(super) fn lacks(&self, expected: &Count) -> Option<String> {
        let missing = expected.0.iter().filter_map(|(record, wanted)| {
            let lacking = wanted - self.0.get(record).copied().unwrap_or_default();
            (lacking > 0).then_some((record, lacking))
        });
        told(&missing.collect::<Vec<_>>(), "missing")
    }

    /// What is here and should not be.
    pub(super) fn exceeds(&self, expected: &Count) -> Option<String> {
        let mut surplus = Vec::new();
        let mut strange = Vec::new();
        for (record, found) in &self.0 {
            match expected.0.get(record) {
                None => strange.push((record, *found)),
                Some(wanted) if found > wanted => surplus.push((record, found - wanted)),
                Some(_) => {}
            }
        }
        let told = [told(&surplus, "there once more than it should be"), told(&strange, "there that should not be")];
        let parts: Vec<String> = told.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

fn told(records: &[(&Vec<u8>, i64)], what: &str) -> Option<String> {
    if records.is_empty() {
        return None;
    }
    let number: i64 = records.iter().map(|(_, number)| number).sum();
    let shown: Vec<String> = records.iter().take(SHOWN).map(|(record, _)| text_of(record)).collect();
    let more = if records.len() > SHOWN { ", ..." } else { "" };
    let (noun, verb) = if number == 1 { ("record", "is") } else { ("records", "are") };
    let what = if number == 1 { what.to_owned() } else { what.replace("it should", "they should") };
    Some(format!("{number} {noun} {verb} {what} ({}{more})", shown.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_told_in_records() {
        let expected = Count::of(&["one".to_owned(), "two".to_owned(), "three".to_owned()]);
        let found = Count::of(&["one".to_owned(), "one".to_owned(), "three".to_owned(), "four".to_owned()]);
        assert_eq!(
            found.differs_from(&expected).unwrap(),
            "1 record is missing (\"two\"); 1 record is there once more than it should be (\"one\"); \
             1 record is there that should not be (\"four\")"
        );
        assert_eq!(found.lacks(&expected).unwrap(), "1 record is missing (\"two\")");
        assert_eq!(expected.differs_from(&expected), None);
    }
}
