//! The size of slices follows the time that they take.

use std::time::Duration;

use alluvium_actors::ports::task::SLICE_RECORDS;
use alluvium_actors::protocol::slice_size::{SLICE_TIME, SliceSize};

/// The size at which it settles when each record takes so long.
fn settled(size: &mut SliceSize, record: Duration) -> usize {
    for _ in 0..20 {
        size.took(record * size.records() as u32);
    }
    size.records()
}

#[test]
fn a_slice_is_full_or_takes_about_a_millisecond_or_has_one_record() {
    let mut size = SliceSize::default();
    assert_eq!(size.records(), SLICE_RECORDS);
    // Fast and slow in turn: what it was before does not matter for long.
    for _ in 0..3 {
        assert_eq!(settled(&mut size, Duration::from_nanos(100)), SLICE_RECORDS);
        assert_eq!(settled(&mut size, Duration::from_micros(10)), 100);
        assert_eq!(settled(&mut size, Duration::from_secs(1)), 1);
        let ten = settled(&mut size, Duration::from_micros(100));
        assert!((3..=10).contains(&ten), "{ten}");
    }
}

#[test]
fn one_slow_slice_is_enough_to_make_the_next_one_fit() {
    let mut size = SliceSize::default();
    size.took(Duration::from_millis(256));
    assert_eq!(size.records(), 1);
    let mut size = SliceSize::default();
    size.took(2 * SLICE_TIME);
    assert_eq!(size.records(), SLICE_RECORDS / 2);
    size.took(Duration::MAX);
    assert_eq!(size.records(), 1);
}
