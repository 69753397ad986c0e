//! What a source emitted: which records, and for each split in which order.

use std::collections::BTreeMap;

use super::count::Count;
use crate::connect::adapter::encode;
use crate::record::Record;
use crate::testing::print::text_of;

/// Records, with the order in each split whose records are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Emitted {
    count: Count,
    splits: BTreeMap<String, Vec<Vec<u8>>>,
}

impl Emitted {
    /// One more, behind all others of its split.
    pub(super) fn push<T: Record>(&mut self, record: &T, split: Option<String>) {
        self.count.add([record]);
        if let Some(split) = split {
            self.splits.entry(split).or_default().push(encode(record).unwrap_or_default());
        }
    }

    /// What came behind this.
    pub(super) fn append(&mut self, behind: Emitted) {
        self.count.merge(&behind.count);
        for (split, mut records) in behind.splits {
            self.splits.entry(split).or_default().append(&mut records);
        }
    }

    /// How many records.
    pub(super) fn len(&self) -> usize {
        self.count.len()
    }

    /// What is wrong with this, if `expected` is right. With `loses`, some may be missing.
    pub(super) fn differs_from(&self, expected: &Emitted, loses: bool) -> Option<String> {
        let least = if loses { &Count::default() } else { &expected.count };
        self.count.is_not_between(least, &expected.count).or_else(|| self.is_out_of_order(expected))
    }

    /// The first record of a split that comes behind one that it should come before.
    fn is_out_of_order(&self, expected: &Emitted) -> Option<String> {
        for (split, records) in &self.splits {
            let mut rest = expected.splits.get(split).into_iter().flatten();
            let mut before = None;
            for record in records {
                if !rest.any(|next| next == record) {
                    let before = before.map_or_else(|| "the beginning".to_owned(), text_of);
                    return Some(format!("split `{split}` is out of order: {} comes behind {before}", text_of(record)));
                }
                before = Some(record.as_slice());
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn emitted(records: &[u32]) -> Emitted {
        let mut emitted = Emitted::default();
        records.iter().for_each(|record| emitted.push(record, Some((record / 10).to_string())));
        emitted
    }

    #[test]
    fn records_keep_their_order_in_each_split_and_not_across_splits() {
        let expected = emitted(&[1, 2, 3, 11, 12]);
        assert_eq!(emitted(&[11, 1, 2, 12, 3]).differs_from(&expected, false), None);
        let found = emitted(&[1, 3, 2, 11, 12]).differs_from(&expected, false).unwrap();
        assert_eq!(found, "split `0` is out of order: 2 comes behind 3");
        assert_eq!(emitted(&[1, 3, 12]).differs_from(&expected, true), None);
        assert!(emitted(&[3, 1]).differs_from(&expected, true).is_some());
        assert!(emitted(&[1, 1]).differs_from(&expected, true).is_some(), "a repeat");
    }
}
