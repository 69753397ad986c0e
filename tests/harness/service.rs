//! The flaky service: what askers see, what was done, and that the seed decides both.

use std::task::Poll;
use std::time::Duration;

use alluvium::ids::Moment;
use alluvium::testing::models::{FlakyService, ServiceError};
use alluvium::testing::simulation::Outside;

fn service(seed: u64) -> (Outside, FlakyService<u64, u64>) {
    let outside = Outside::detached(seed);
    let service = FlakyService::new(&outside, "payments", |order: &u64| order * 2);
    (outside, service.refuses(100).loses_requests(100).loses_answers(100))
}

#[test]
fn of_an_answer_that_is_lost_the_effect_is_done_and_of_a_refused_request_it_is_not() {
    let (_, service) = service(7);
    let answers: Vec<_> = (0..1_000).map(|order| (order, service.call(order))).collect();
    let effects = service.effects();
    let done = |order: &u64| effects.iter().find(|effect| effect.request == *order);
    let mut lost = 0;
    for (order, answer) in &answers {
        match answer {
            Ok(double) => assert_eq!((*double, done(order).map(|effect| effect.answered)), (order * 2, Some(true))),
            Err(ServiceError::Refused { .. }) => assert!(done(order).is_none()),
            Err(error) => {
                assert!(error.to_string().contains("no answer from `payments` within 1s"), "{error}");
                lost += u64::from(done(order).is_some_and(|effect| !effect.answered));
            }
        }
    }
    let refused = answers.iter().filter(|(_, answer)| matches!(answer, Err(ServiceError::Refused { .. }))).count();
    assert!((50..200).contains(&refused), "{refused} of a thousand were refused");
    assert!((50..200).contains(&lost), "of {lost} of a thousand the answer was lost");
}

#[test]
#[should_panic = "of a thousand requests `payments` refuses 100, loses 100 and loses the answers of 801: that is 1001, give 1000 at most"]
fn more_than_all_requests_cannot_be_refused_or_lost() {
    let (_, service) = service(7);
    let _ = service.loses_answers(801);
}

#[test]
fn the_seed_decides_what_becomes_of_a_request() {
    let answers = |seed| (0..100).map(|order| service(seed).1.call(order)).collect::<Vec<_>>();
    let all = |seed| {
        let (_, service) = service(seed);
        (0..100).map(|order| service.call(order)).collect::<Vec<_>>()
    };
    assert_eq!(all(1), all(1));
    assert_ne!(all(1), all(2));
    assert_eq!(answers(3), answers(3));
}

#[test]
fn a_request_that_was_sent_is_carried_out_on_its_way_whatever_becomes_of_who_asked() {
    let outside = Outside::detached(1);
    let service = FlakyService::new(&outside, "payments", |order: &u64| order * 2)
        .latency(Duration::from_millis(10), Duration::from_millis(10));
    let mut call = service.send(21);
    drop(service.send(22));
    assert_eq!(call.poll(), Poll::Pending);
    outside.set_now(Moment(4_999_999));
    assert!(service.effects().is_empty(), "it is under way");
    outside.set_now(Moment(5_000_000));
    assert_eq!(service.effects().iter().map(|effect| effect.request).collect::<Vec<_>>(), [21, 22]);
    assert_eq!(call.poll(), Poll::Pending, "the answer is under way");
    assert_eq!(call.due(), Moment(10_000_000));
    outside.set_now(Moment(10_000_000));
    assert_eq!(call.poll(), Poll::Ready(Ok(42)));
}

#[test]
fn an_answer_that_does_not_come_is_waited_for_until_the_timeout() {
    let outside = Outside::detached(1);
    let service = FlakyService::new(&outside, "payments", |order: &u64| order * 2).loses_answers(1_000);
    let mut call = service.timeout(Duration::from_secs(5)).send(21);
    outside.set_now(Moment(4_999_999_999));
    assert_eq!(call.poll(), Poll::Pending);
    outside.set_now(Moment(5_000_000_000));
    let Poll::Ready(Err(error)) = call.poll() else { panic!("it was answered") };
    assert!(error.to_string().contains("it may have done what it was asked for, or not"), "{error}");
}
