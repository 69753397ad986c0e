//! Who takes what was in flight at another parallelism: everything has one taker, and channels stay whole where no key says otherwise.

use alluvium_actors::plan::Routing;
use alluvium_actors::protocol::reroute::{FormerChannel, Taken};

/// All channels of an edge between so many producers and consumers.
fn channels(producers: u32, consumers: u32) -> impl Iterator<Item = FormerChannel> {
    (0..consumers).flat_map(move |consumer| {
        (0..producers).map(move |producer| FormerChannel { consumer, consumers, producer, producers })
    })
}

fn takers(channel: FormerChannel, consumers: u32, routing: Routing) -> Vec<(u32, Taken)> {
    let taken = (0..consumers).map(|consumer| (consumer, channel.taken_by(consumer, consumers, routing)));
    taken.filter(|(_, taken)| *taken != Taken::Nothing).collect()
}

#[test]
fn where_the_parallelism_is_the_same_everything_comes_back_to_where_it_was() {
    for routing in [Routing::Any, Routing::First, Routing::KeyGroup, Routing::Custom, Routing::Copies] {
        for channel in channels(3, 4) {
            assert_eq!(takers(channel, 4, routing), [(channel.consumer, Taken::All)], "{routing:?}");
        }
    }
}

#[test]
fn a_channel_that_anybody_may_have_goes_to_one_as_a_whole_and_all_get_about_as_many() {
    for (producers, former, consumers) in [(1, 1, 4), (3, 4, 1), (2, 3, 5), (5, 2, 3), (4, 4, 7), (1, 7, 2)] {
        let mut had = vec![0_u32; consumers as usize];
        for channel in channels(producers, former) {
            let takers = takers(channel, consumers, Routing::Any);
            let [(taker, Taken::All)] = takers[..] else { panic!("{channel:?}: {takers:?}") };
            had[taker as usize] += 1;
        }
        let (least, most) = (had.iter().min().unwrap(), had.iter().max().unwrap());
        assert!(most - least <= 1, "{producers} producers, {former} to {consumers}: {had:?}");
    }
}

#[test]
fn what_a_key_or_a_function_places_is_looked_at_by_everybody() {
    for routing in [Routing::KeyGroup, Routing::Custom] {
        for channel in channels(2, 3) {
            let all: Vec<_> = (0..5).map(|consumer| (consumer, Taken::Owned)).collect();
            assert_eq!(takers(channel, 5, routing), all);
        }
    }
}

#[test]
fn the_first_subtask_takes_what_always_goes_to_the_first() {
    for channel in channels(2, 3) {
        assert_eq!(takers(channel, 5, Routing::First), [(0, Taken::All)]);
    }
}

#[test]
fn a_channel_of_an_earlier_parallelism_has_one_taker_too() {
    // Captured twice: its producer had a number that none has any more.
    let channel = FormerChannel { consumer: 1, consumers: 2, producer: 9, producers: 3 };
    assert_eq!(takers(channel, 3, Routing::Any).len(), 1);
    let none = FormerChannel { consumer: 0, consumers: 0, producer: 0, producers: 0 };
    assert_eq!(takers(none, 3, Routing::Any).len(), 1, "whatever a damaged manifest says");
    let most = u32::MAX;
    let many = FormerChannel { consumer: most, consumers: most, producer: most - 1, producers: most };
    assert_eq!(many.taken_by(most - 2, most - 1, Routing::Any), Taken::All);
}
