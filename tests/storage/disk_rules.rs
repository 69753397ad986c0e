//! Rules of what goes wrong with a disk: their text, where they strike, and what the operation then does.

use std::path::Path;
use std::time::Duration;

use alluvium::testing::disk::SimulatedDisk;
use alluvium::testing::faults::{DiskFault, DiskRule, FaultPlan};
use alluvium_actors::ports::files::{FileErrorKind, FileOperation, Files};

fn armed(plan: &str) -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    disk.create_directories(Path::new("/store/manifests")).unwrap();
    disk.create_directories(Path::new("/store/blobs")).unwrap();
    let plan = plan.parse::<FaultPlan>().unwrap_or_else(|error| panic!("{plan}: {error}"));
    disk.arm(plan.disk_rules().iter().cloned());
    disk
}

/// Creates a file, appends to it and syncs it: true where it went well.
fn write(disk: &SimulatedDisk, path: &str, content: &[u8]) -> [bool; 3] {
    match disk.create(Path::new(path)) {
        Ok(mut writer) => [true, writer.append(content).is_ok(), writer.sync().is_ok()],
        Err(_) => [false; 3],
    }
}

const WELL: [bool; 3] = [true; 3];

#[test]
fn a_rule_is_its_text() {
    let texts = [
        "disk=error",
        "disk=power-cut",
        "disk[operation=sync,path=manifests/*,hit=2]=failed-sync",
        "disk[operation=append,path=/store/**,process=2,hit=3,times=4,probability=0.25]=full-disk",
        "disk[always]=slow(50ms)",
        "disk[operation=create-directories]=error-afterwards",
        "disk[operation=read,path=blobs/*]=flip-on-read",
        "disk[operation=open,path=r?-*.tmp,always,probability=0.000001]=flip-at-rest",
        "disk[operation=lock]=slow(1500us)",
    ];
    for text in texts {
        let rule: DiskRule = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(rule.to_string(), text);
    }
    let plan: FaultPlan = texts.join("\n").parse().unwrap();
    assert_eq!(plan.disk_rules().len(), texts.len());
    assert_eq!(plan.to_string().parse::<FaultPlan>().unwrap(), plan);
    let built = DiskRule::new(DiskFault::FullDisk)
        .operation(FileOperation::Append)
        .path("/store/**")
        .process(2)
        .hit(3)
        .times(4)
        .probability(0.25);
    assert_eq!(built.to_string(), texts[3]);
    let always = DiskRule::new(DiskFault::Slow(Duration::from_millis(50))).always();
    assert_eq!(always.to_string(), texts[4]);
}

#[test]
fn a_text_that_is_no_rule_says_what_to_write() {
    for (text, says) in [
        ("disc=error", "write disk[filter=value,...]=fault"),
        ("disk", "write disk[filter=value,...]=fault"),
        ("disk[operation=sync=error", "write disk[filter=value,...]=fault"),
        ("disk[sync]=error", "write disk[filter=value,...]=fault"),
        ("disk=broken", "give error, error-afterwards, full-disk"),
        ("disk=slow(5)", "as in slow(50ms)"),
        ("disk=slow(5min)", "as in slow(50ms)"),
        ("disk[operation=write]=error", "give one of create, open, append"),
        ("disk[operation=read]=failed-sync", "`failed-sync` cannot happen at `read`: give one of sync, sync-directory"),
        ("disk[operation=append]=flip-on-read", "give one of read"),
        ("disk[hit=0]=error", "a whole number from 1 on"),
        ("disk[times=some]=error", "a whole number from 1 on"),
        ("disk[probability=2]=error", "a number between 0 and 1"),
        ("disk[file=x]=error", "give operation, path, process, hit, times, always or probability"),
        ("disk[path=]=error", "is not a pattern for paths"),
    ] {
        let error = text.parse::<DiskRule>().map(|rule| rule.to_string()).unwrap_err().to_string();
        assert!(error.contains(says), "{text}: {error}");
    }
}

#[test]
fn a_pattern_without_a_slash_at_its_begin_is_about_the_end_of_the_path() {
    for (pattern, fits, not) in [
        ("manifests/*", "/store/manifests/r1-c2", "/store/manifests/r1/c2"),
        ("manifests/*", "manifests/r1", "/store/old-manifests/r1"),
        ("*.tmp", "/store/blobs/a.tmp", "/store/blobs/a.tmp.b"),
        ("r?-c*", "/x/r1-c22", "/x/r10-c22"),
        ("/store/*", "/store/a", "/old/store/a"),
        ("/store/**", "/store/a/b/c", "/stores/a/b/c"),
        ("/**/c", "/store/a/b/c", "/store/a/b/c/d"),
        ("a*b*c", "/axxbyyc", "/axxbyyd"),
        ("store", "/var/store", "/var/store/x"),
    ] {
        let pattern: alluvium::testing::disk::PathPattern = pattern.parse().unwrap();
        assert!(pattern.matches(Path::new(fits)), "{pattern} {fits}");
        assert!(!pattern.matches(Path::new(not)), "{pattern} {not}");
    }
}

#[test]
fn a_rule_strikes_at_its_hit_for_its_count_where_its_filters_fit() {
    let disk = armed("disk[operation=sync,path=manifests/*,hit=2,times=2]=failed-sync");
    let outcomes: Vec<[bool; 3]> = (0..5).map(|n| write(&disk, &format!("/store/manifests/{n}"), b"x")).collect();
    let failed = [true, true, false];
    assert_eq!(outcomes, [WELL, failed, failed, WELL, WELL]);
    assert_eq!(write(&disk, "/store/blobs/1", b"x"), WELL);
    let told: Vec<String> = disk.struck().iter().map(ToString::to_string).collect();
    assert_eq!(told, ["failed-sync at sync /store/manifests/1", "failed-sync at sync /store/manifests/2"]);
}

#[test]
fn a_rule_of_a_process_strikes_in_that_process_and_counts_no_others() {
    let disk = armed("disk[operation=create,process=2,hit=2]=error");
    assert!((0..3).all(|n| write(&disk, &format!("/store/blobs/a{n}"), b"x") == WELL));
    let disk = disk.kill_process();
    assert_eq!(write(&disk, "/store/blobs/b0", b"x"), WELL);
    assert_eq!(write(&disk, "/store/blobs/b1", b"x"), [false; 3]);
    let disk = disk.crash(1);
    assert!((0..3).all(|n| write(&disk, &format!("/store/blobs/c{n}"), b"x") == WELL));
}

#[test]
fn a_probability_is_drawn_from_the_seed_of_the_disk() {
    let run = |seed| {
        let disk = armed("disk[operation=append,always,probability=0.3]=error");
        disk.set_seed(seed);
        (0..200).map(|n| write(&disk, &format!("/store/blobs/{n}"), b"x")[1]).collect::<Vec<bool>>()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
    let failed = run(1).iter().filter(|well| !**well).count();
    assert!((35..90).contains(&failed), "{failed} of 200 at 0.3");
}

#[test]
fn a_disk_that_was_full_has_room_again_after_the_count_and_after_removals() {
    let disk = armed("disk[operation=append,hit=2,times=2]=full-disk");
    let outcomes: Vec<bool> = (0..4).map(|n| write(&disk, &format!("/store/blobs/{n}"), b"x")[1]).collect();
    assert_eq!(outcomes, [true, false, false, true]);

    disk.set_free_space(Some(10));
    assert_eq!(write(&disk, "/store/blobs/large", &[1; 8]), WELL);
    let mut writer = disk.create(Path::new("/store/blobs/more")).unwrap();
    let error = writer.append(&[2; 4]).unwrap_err();
    assert_eq!(error.kind, FileErrorKind::OutOfSpace);
    assert_eq!(disk.content(Path::new("/store/blobs/more")).unwrap(), [2; 2], "what fits is there");
    let reader = disk.open(Path::new("/store/blobs/large")).unwrap();
    disk.remove(Path::new("/store/blobs/large")).unwrap();
    assert_eq!(disk.free_space(), Some(0), "somebody has it open");
    assert!(writer.append(&[2]).is_err());
    drop(reader);
    assert_eq!(disk.free_space(), Some(8));
    writer.append(&[2; 8]).unwrap();
    assert_eq!(disk.free_space(), Some(0));
    // What a crash loses takes no space either: 12 bytes fit, two were there before the limit.
    let disk = disk.crash(0);
    let left: usize = disk.files().iter().map(|path| disk.content(path).unwrap().len()).sum();
    assert!(left < 12, "{left}");
    assert_eq!(disk.free_space(), Some(12 - left as u64));
}

#[test]
fn a_flip_on_read_is_there_once_and_a_flip_at_rest_stays() {
    let content = vec![0x55; 300];
    let wrong_bits = |found: &[u8]| found.iter().zip(&content).map(|(a, b)| (a ^ b).count_ones()).sum::<u32>();
    let read = |disk: &SimulatedDisk| {
        let mut buffer = vec![0; 300];
        let reader = disk.open(Path::new("/store/blobs/file")).unwrap();
        assert_eq!(reader.read_at(0, &mut buffer).unwrap(), 300);
        wrong_bits(&buffer)
    };
    let disk = armed("disk[operation=read,path=blobs/*,hit=2]=flip-on-read");
    assert_eq!(write(&disk, "/store/blobs/file", &content), WELL);
    assert_eq!([read(&disk), read(&disk), read(&disk)], [0, 1, 0]);

    for operation in ["open", "read", "sync"] {
        let disk = armed(&format!("disk[operation={operation},path=blobs/*]=flip-at-rest"));
        assert_eq!(write(&disk, "/store/blobs/file", &content), WELL);
        disk.sync_directory(Path::new("/store/blobs")).unwrap();
        assert_eq!([read(&disk), read(&disk)], [1, 1], "{operation}");
        let disk = disk.crash(3);
        assert_eq!(read(&disk), 1, "{operation}, after a crash");
    }
    assert!(disk.flip_bit(Path::new("/store/blobs/file"), 8 * 299 + 7));
    assert_eq!(disk.content(Path::new("/store/blobs/file")).unwrap()[299], 0xd5);
    assert!(!disk.flip_bit(Path::new("/store/blobs/file"), 8 * 300));
    assert!(!disk.flip_bit(Path::new("/store/blobs/none"), 0));
}

#[test]
fn a_power_cut_at_the_rename_of_a_manifest_is_one_line() {
    let disk = armed("disk[operation=rename,path=manifests/*]=power-cut");
    assert_eq!(write(&disk, "/store/manifests/one.tmp", b"x"), WELL);
    let (from, to) = (Path::new("/store/manifests/one.tmp"), Path::new("/store/manifests/one"));
    assert!(disk.rename_without_replace(from, to).is_err());
    assert!(disk.is_powered_off());
    assert!(disk.crash(1).metadata(to).unwrap().is_none());
}

#[test]
fn the_first_of_several_rules_counts_and_all_are_forgotten_at_once() {
    let disk = armed("disk[operation=create,always]=error; disk[operation=create,always]=power-cut");
    assert_eq!(write(&disk, "/store/blobs/a", b"x"), [false; 3]);
    assert!(!disk.is_powered_off());
    disk.clear_faults();
    assert_eq!(write(&disk, "/store/blobs/a", b"x"), WELL);
}
