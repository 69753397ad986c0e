//! What every [`CheckpointStorage`] has to do, as a suite that any implementation can run.
//!
//! ```
//! use std::sync::Arc;
//! use alluvium::storage::{CheckpointStorage, MemoryStorage, conformance};
//!
//! // Keeps a storage for as long as the function lives; a fresh one each time that it is asked for a new one.
//! let mut kept = MemoryStorage::new();
//! conformance::check(&mut |request| {
//!     if request == conformance::Request::Fresh {
//!         kept = MemoryStorage::new();
//!     }
//!     Arc::new(kept.clone())
//! });
//! ```

use std::sync::Arc;

use alluvium_actors::ports::fence::{Fence, FenceSource};
use alluvium_actors::ports::store::StoreError;

use super::{CheckpointStorage, ObjectInfo, PutOutcome};

/// What the suite asks of a factory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// A storage without objects.
    Fresh,
    /// The storage given before, after its handles were dropped and it was opened again.
    Reopened,
}

/// Makes the storages that the suite tries.
pub type Factory<'a> = dyn FnMut(Request) -> Arc<dyn CheckpointStorage> + 'a;

/// Runs the whole suite.
///
/// # Panics
///
/// If the storage breaks a rule; the message names it.
pub fn check(factory: &mut Factory<'_>) {
    an_object_is_seen_only_when_it_is_finished(factory);
    an_object_that_is_given_up_leaves_nothing(factory);
    objects_are_written_once(factory);
    publishing_takes_a_free_name_only(factory);
    ranges_are_read_exactly_or_not_at_all(factory);
    large_and_empty_objects_are_kept(factory);
    listing_gives_the_prefix_sorted_with_lengths(factory);
    deleting_is_repeatable(factory);
    names_stay_inside_the_storage(factory);
    an_attempt_that_is_over_changes_nothing(factory);
    what_is_finished_is_there_after_opening_again(factory);
}

fn current() -> Fence {
    FenceSource::new().advance()
}

fn put(storage: &dyn CheckpointStorage, name: &str, content: &[u8]) {
    let mut writer = storage.create(&current(), name).expect("a free name can be created");
    writer.write(content).expect("an object can be written");
    writer.finish().expect("an object can be finished");
}

fn read_all(storage: &dyn CheckpointStorage, name: &str) -> Option<Vec<u8>> {
    let length = storage.length(name).expect("a length can be asked for")?;
    Some(storage.read(name, 0, usize::try_from(length).expect("test objects are small")).expect("it can be read"))
}

fn an_object_is_seen_only_when_it_is_finished(factory: &mut Factory<'_>) {
    let storage = factory(Request::Fresh);
    let mut writer = storage.create(&current(), "blobs/one").expect("a free name can be created");
    writer.write(b"first ").expect("an object can be written");
    writer.write(b"second").expect("an object can be written in parts");
    assert_eq!(storage.length("blobs/one").expect("a length can be asked for"), None, "seen before it was finished");
    assert_eq!(storage.list("blobs/").expect("it can be listed"), [], "listed before it was finished");
    assert!(!storage.is_published("blobs/one").expect("it can be told"), "published before it was finished");
    writer.finish().expect("an object can be finished");
    assert_eq!(read_all(&*storage, "blobs/one").as_deref(), Some(&b"first second"[..]), "the content");
    assert!(storage.is_published("blobs/one").expect("it can be told"), "not published though finished");
}

fn an_object_that_is_given_up_leaves_nothing(factory: &mut Factory<'_>) {
    let storage = factory(Request::Fresh);
    let mut writer = storage.create(&current(), "blobs/one").expect("a free name can be created");
    writer.write(b"never finished").expect("an object can be written");
    drop(writer);
    assert_eq!(storage.list("blobs/").expect("it can be listed"), [], "an abandoned object is listed");
    put(&*storage, "blobs/one", b"second try");
    assert_eq!(read_all(&*storage, "blobs/one").as_deref(), Some(&b"second try"[..]), "the second try");
}

fn objects_are_written_once(factory: &mut Factory<'_>) {
    let storage = factory(Request::Fresh);
    let racing = storage.create(&current(), "blobs/one").expect("a free name can be created");
    put(&*storage, "blobs/one", b"first");
    assert!(storage.create(&current(), "blobs/one").is_err(), "a taken name was created again");
    assert!(racing.finish().is_err(), "a name that was taken meanwhile was finished again");
    assert_eq!(read_all(&*storage, "blobs/one").as_deref(), Some(&b"first"[..]), "the first content stays");
}

fn publishing_takes_a_free_name_only(factory: &mut Factory<'_>) {
    let storage = factory(Request::Fresh);
    assert!(!storage.is_published("manifests/one").expect("it can be told"), "published before");
    assert_eq!(storage.publish(&current(), "manifests/one", b"first"), PutOutcome::Done, "a free name");
    assert_eq!(storage.publish(&current(), "manifests/one", b"second"), PutOutcome::Taken, "a taken name");
    assert!(storage.is_published("manifests/one").expect("it can be told"), "not published after");
    assert_eq!(read_all(&*storage, "manifests/one").as_deref(), Some(&b"first"[..]), "the first content stays");
    put(&*storage, "manifests/two", b"streamed");
    assert_eq!(storage.publish(&current(), "manifests/two", b"second"), PutOutcome::Taken, "a streamed name");
}

fn ranges_are_read_exactly_or_not_at_all(factory: &mut Factory<'_>) {
    let storage = factory(Request::Fresh);
    put(&*storage, "blobs/one", b"0123456789");
    assert_eq!(storage.read("blobs/one", 3, 4).expect("an inner range"), b"3456");
    assert_eq!(storage.read("blobs/one", 10, 0).expect("an empty range at the end"), b"");
    for (offset, length) in [(7, 4), (10, 1), (11, 0), (u64::MAX, 1), (0, usize::MAX), (u64::MAX, usize::MAX)] {
        let outcome = storage.read("blobs/one", offset, length);
        assert!(matches!(outcome, Err(StoreError::Damaged { .. })), "{length} bytes from {offset}: {outcome:?}");
    }
    let outcome = storage.read("blobs/none", 0, 1);
    assert!(matches!(outcome, Err(StoreError::Missing { .. })), "an object that is not there: {outcome:?}");
    let file = storage.locate("blobs/none");
    assert!(outcome.expect_err("seen above").to_string().contains(&file), "the error names the object");
}

fn large_and_empty_objects_are_kept(factory: &mut Factory<'_>) {
    let storage = factory(Request::Fresh);
    put(&*storage, "blobs/empty", b"");
    assert_eq!(storage.length("blobs/empty").expect("a length can be asked for"), Some(0), "an empty object");
    let part: Vec<u8> = (0..65_537_u32).map(|number| (number % 251) as u8).collect();
    let mut writer = storage.create(&current(), "blobs/large").expect("a free name can be created");
    for _ in 0..32 {
        writer.write(&part).expect("a large object can be written");
    }
    writer.finish().expect("a large object can be finished");
    assert_eq!(read_all(&*storage, "blobs/large"), Some(part.repeat(32)), "a large object");
}

fn listing_gives_the_prefix_sorted_with_lengths(factory: &mut Factory<'_>) {
    let storage = factory(Request::Fresh);
    assert_eq!(storage.list("blobs/").expect("nothing can be listed"), [], "a group that was never used");
    for (name, length) in [("blobs/b", 2), ("blobs/a1", 1), ("blobs/a2", 0), ("runs/a1", 3)] {
        put(&*storage, name, &vec![7; length]);
    }
    let info = |name: &str, length| ObjectInfo { name: name.to_owned(), length };
    let all = [info("blobs/a1", 1), info("blobs/a2", 0), info("blobs/b", 2)];
    assert_eq!(storage.list("blobs/").expect("it can be listed"), all, "a whole group");
    assert_eq!(storage.list("blobs/a").expect("it can be listed"), all[..2], "a part of a group");
    assert_eq!(storage.list("blobs/c").expect("it can be listed"), [], "a prefix that nothing has");
}

fn deleting_is_repeatable(factory: &mut Factory<'_>) {
    let storage = factory(Request::Fresh);
    for name in ["blobs/a", "blobs/b", "blobs/c"] {
        put(&*storage, name, b"x");
    }
    let names = ["blobs/a".to_owned(), "blobs/none".to_owned(), "never/used".to_owned(), "blobs/c".to_owned()];
    for _ in 0..2 {
        storage.delete(&current(), &names).expect("deleting is no error, also of what is not there");
        assert_eq!(read_all(&*storage, "blobs/a"), None, "a deleted object");
        assert_eq!(read_all(&*storage, "blobs/b").as_deref(), Some(&b"x"[..]), "another object");
    }
}

fn names_stay_inside_the_storage(factory: &mut Factory<'_>) {
    let storage = factory(Request::Fresh);
    let long = format!("blobs/{}", "x".repeat(300));
    let names = [
        "",
        "/",
        "blobs",
        "blobs/",
        "/blobs",
        "../x",
        "blobs/..",
        "blobs/.",
        "blobs/../x",
        "blobs/a/b",
        "/etc/passwd",
        "blobs/a\0",
        "blobs/a\\b",
        "blobs/ä",
        "blobs/a.tmp",
        "Blobs/a",
        &long,
    ];
    for name in names {
        assert!(storage.create(&current(), name).is_err(), "{name:?} was created");
        let outcome = storage.publish(&current(), name, b"x");
        assert!(matches!(outcome, PutOutcome::Failed(_)), "{name:?} was published: {outcome:?}");
    }
}

fn an_attempt_that_is_over_changes_nothing(factory: &mut Factory<'_>) {
    let storage = factory(Request::Fresh);
    put(&*storage, "blobs/kept", b"x");
    let source = FenceSource::new();
    let old = source.advance();
    let mut written = storage.create(&old, "blobs/written").expect("the attempt is current");
    written.write(b"x").expect("the attempt is current");
    let mut begun = storage.create(&old, "blobs/begun").expect("the attempt is current");
    let _new = source.advance();

    let fenced = |outcome: Result<(), StoreError>| matches!(outcome, Err(StoreError::Fenced(_)));
    assert!(fenced(begun.write(b"x")), "an old attempt wrote");
    assert!(fenced(written.finish()), "an old attempt finished an object");
    assert!(fenced(storage.create(&old, "blobs/new").map(drop)), "an old attempt created an object");
    assert!(fenced(storage.delete(&old, &["blobs/kept".to_owned()])), "an old attempt deleted an object");
    let outcome = storage.publish(&old, "manifests/new", b"x");
    assert!(matches!(outcome, PutOutcome::Failed(StoreError::Fenced(_))), "an old attempt published: {outcome:?}");
    drop(begun);
    let left = [ObjectInfo { name: "blobs/kept".to_owned(), length: 1 }];
    assert_eq!(storage.list("blobs/").expect("it can be listed"), left, "what an old attempt left");
    assert_eq!(storage.list("manifests/").expect("it can be listed"), [], "what an old attempt published");
}

fn what_is_finished_is_there_after_opening_again(factory: &mut Factory<'_>) {
    let storage = factory(Request::Fresh);
    put(&*storage, "blobs/one", b"first");
    put(&*storage, "blobs/two", b"second");
    assert_eq!(storage.publish(&current(), "manifests/one", b"third"), PutOutcome::Done, "a free name");
    storage.delete(&current(), &["blobs/two".to_owned()]).expect("it can be deleted");
    let mut unfinished = storage.create(&current(), "blobs/three").expect("a free name can be created");
    unfinished.write(b"never finished").expect("an object can be written");
    drop(unfinished);
    drop(storage);
    let storage = factory(Request::Reopened);
    assert_eq!(read_all(&*storage, "blobs/one").as_deref(), Some(&b"first"[..]), "a finished object");
    assert_eq!(read_all(&*storage, "blobs/two"), None, "a deleted object");
    assert_eq!(read_all(&*storage, "blobs/three"), None, "an unfinished object");
    assert_eq!(read_all(&*storage, "manifests/one").as_deref(), Some(&b"third"[..]), "a published object");
    assert_eq!(storage.list("blobs/").expect("it can be listed").len(), 1, "nothing else");
}
