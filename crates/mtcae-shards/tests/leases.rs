//! Workers on a shared folder.

mod common;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{job, names, row, task, whole};
use mtcae_shards::lease::{Done, Folder, run};
use mtcae_shards::merge::{Options, merge};

const EXPIRY: Duration = Duration::from_millis(600);

/// So many workers at once until all is done, and how often each file was worked on.
fn work(root: &Path, names: &[String], workers: usize) -> (Vec<Result<Done, String>>, Vec<usize>) {
    let made: Vec<AtomicUsize> = names.iter().map(|_| AtomicUsize::new(0)).collect();
    let one = || -> Result<Done, String> {
        let job = job(names, 20.0);
        let folder = Folder::join(root, &job, Some(3)).map_err(|e| e.to_string())?;
        let make = |place: usize| {
            made[place].fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(2));
            row(names, place)
        };
        run(task(&job, names), &folder, EXPIRY, make, |_, _| {}).map_err(|e| e.to_string())
    };
    let done = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(one)).collect();
        let joined = threads.into_iter().map(|t| t.join().expect("no panic"));
        joined.collect()
    });
    let made = made.iter().map(|n| n.load(Ordering::Relaxed)).collect();
    (done, made)
}

fn merged(root: &Path) -> Result<Vec<u8>, String> {
    let out = root.join("all.jsonl");
    merge(&out, &[root.to_owned()], Options::default()).map_err(|e| e.to_string())?;
    let bytes = fs::read(&out).expect("there");
    fs::remove_file(out).expect("removed");
    Ok(bytes)
}

fn left(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root.join("work")).expect("listed");
    let name = |e: std::io::Result<fs::DirEntry>| e.expect("an entry").file_name();
    entries
        .map(|e| name(e).to_string_lossy().into_owned())
        .collect()
}

#[test]
fn workers_share_the_files_and_their_rows_are_those_of_one() {
    let (folder, names) = (tempfile::tempdir().expect("a folder"), names(40));
    let root = folder.path().join("a/b");
    let (done, made) = work(&root, &names, 5);
    assert!(made.iter().all(|n| *n == 1), "{made:?}");
    let parts = done.iter().map(|d| d.as_ref().expect("done").parts);
    assert_eq!(parts.sum::<usize>(), 14);
    assert_eq!(merged(&root).expect("merged"), whole(&names));
    assert!(left(&root).is_empty(), "{:?}", left(&root));
    // Once more there is nothing to do.
    let (done, made) = work(&root, &names, 1);
    assert_eq!(done, [Ok(Done::default())]);
    assert!(made.iter().all(|n| *n == 0));
    // What a process left that was killed when its part was done goes as well.
    for name in ["0000002.0", "0000002.77.rows"] {
        fs::write(root.join("work").join(name), "gone").expect("written");
    }
    work(&root, &names, 1);
    assert!(left(&root).is_empty(), "{:?}", left(&root));
}

/// Leases of workers that are gone: one that said who it is, one that had no time to.
#[test]
fn stale_leases_are_taken_over_by_one_worker_each_after_their_time() {
    let (folder, names) = (tempfile::tempdir().expect("a folder"), names(12));
    let root = folder.path();
    Folder::join(root, &job(&names, 20.0), Some(3)).expect("made");
    let gone = r#"{"host":"h","pid":1,"id":"0","expiry":0.9,"renewed":"000000000003"}"#;
    fs::write(root.join("work/0000001.0"), gone).expect("written");
    fs::write(root.join("work/0000001.0123.rows"), "half a row").expect("written");
    fs::write(root.join("work/0000003.0"), "").expect("written");
    let said = merged(root).expect_err("not complete");
    assert!(said.contains("of 4 parts, 4 are missing: 0-3"), "{said}");
    let begun = Instant::now();
    let (done, made) = work(root, &names, 4);
    assert!(begun.elapsed() >= Duration::from_millis(900));
    assert!(made.iter().all(|n| *n == 1), "{made:?}");
    let taken = done.iter().map(|d| d.as_ref().expect("done").taken_over);
    assert_eq!(taken.sum::<usize>(), 2);
    assert_eq!(merged(root).expect("merged"), whole(&names));
    assert!(left(root).is_empty(), "{:?}", left(root));
}

/// A lease that somebody renews is not taken, however old it is.
#[test]
fn a_lease_that_changes_is_left_to_who_has_it() {
    let (folder, names) = (tempfile::tempdir().expect("a folder"), names(3));
    let root = folder.path();
    Folder::join(root, &job(&names, 20.0), Some(3)).expect("made");
    let lease = root.join("work/0000000.0");
    let begun = Instant::now();
    std::thread::scope(|scope| {
        fs::write(&lease, "0").expect("written");
        scope.spawn(|| {
            for n in 1..20 {
                std::thread::sleep(EXPIRY / 6);
                fs::write(&lease, n.to_string()).expect("written");
            }
        });
        let (done, _) = work(root, &names, 1);
        assert_eq!(done[0].as_ref().map(|d| d.taken_over), Ok(1));
    });
    assert!(begun.elapsed() >= 3 * EXPIRY);
}

#[test]
fn a_part_that_ends_whoever_works_on_it_is_left_alone_and_named() {
    let (folder, names) = (tempfile::tempdir().expect("a folder"), names(9));
    let root = folder.path();
    Folder::join(root, &job(&names, 20.0), Some(3)).expect("made");
    for term in 0..20 {
        fs::write(root.join(format!("work/0000001.{term}")), "gone").expect("written");
    }
    let (done, made) = work(root, &names, 1);
    let said = done[0].as_ref().expect_err("part 1");
    assert!(
        said.contains("part 1 (clips/003.mp4 to clips/005.mp4) was begun 20 times"),
        "{said}"
    );
    assert_eq!(made, [1, 1, 1, 0, 0, 0, 1, 1, 1]);
    let options = Options {
        partial: true,
        force: false,
    };
    let partial = merge(&root.join("all"), &[root.to_owned()], options).expect("merged");
    assert_eq!((partial.rows, partial.files), (6, 9));
    assert!(
        partial.missing[0].contains("of 3 parts, 1 are missing: 1"),
        "{partial:?}"
    );
}

#[test]
fn a_folder_is_of_one_job() {
    let (folder, names) = (tempfile::tempdir().expect("a folder"), names(9));
    let root = folder.path();
    let join = |names: &[String], min_face, files| {
        let joined = Folder::join(root, &job(names, min_face), files);
        joined.map(|f| f.parts()).map_err(|e| e.to_string())
    };
    assert_eq!(join(&names, 20.0, Some(2)), Ok(5));
    assert_eq!(join(&names, 20.0, None), Ok(5));
    for (other, words) in [
        (
            join(&names, 24.5, None),
            "job.json: settings.detector.min_face is 20.0 there and 24.5 here",
        ),
        (
            join(&names[1..], 20.0, None),
            "job.json: inputs.files is 9 there and 8 here",
        ),
        (
            join(&names, 20.0, Some(4)),
            "job.json: files_per_part is 2 there and 4 here",
        ),
    ] {
        let said = other.expect_err(words);
        assert!(
            said.contains(words) && said.ends_with("give another --lease"),
            "{said}"
        );
    }
    let mut turned = names.clone();
    turned.swap(0, 1);
    assert!(
        join(&turned, 20.0, None)
            .expect_err("other order")
            .contains("inputs.sha256 is ")
    );
    fs::write(root.join("job.json"), "{}").expect("written");
    let said = join(&names, 20.0, None).expect_err("no job");
    assert!(said.contains("not the description of a job"), "{said}");
}

#[test]
fn parts_that_were_changed_or_are_of_others_are_refused() {
    let (folder, names) = (tempfile::tempdir().expect("a folder"), names(9));
    let root = folder.path();
    work(root, &names, 1);
    let path = root.join("parts/0000001.jsonl");
    let before = fs::read_to_string(&path).expect("a part");
    let other = fs::read_to_string(root.join("parts/0000002.jsonl")).expect("a part");
    for (damaged, words) in [
        (before.replace("faces", "fakes"), "its rows are not those"),
        (
            before[..before.len() - 9].to_owned(),
            "its last line breaks off",
        ),
        (
            before.lines().take(2).map(|l| format!("{l}\n")).collect(),
            "does not say that it is all",
        ),
        (other, "its last line is of another part"),
    ] {
        fs::write(&path, damaged).expect("written");
        let said = merged(root).expect_err(words);
        assert!(
            said.contains("0000001.jsonl: ") && said.contains(words),
            "{said}"
        );
    }
    fs::remove_file(&path).expect("removed");
    let (done, made) = work(root, &names, 1);
    assert_eq!(done[0].as_ref().map(|d| d.parts), Ok(1));
    assert_eq!(made, [0, 0, 0, 1, 1, 1, 0, 0, 0]);
    assert_eq!(merged(root).expect("merged"), whole(&names));
}
