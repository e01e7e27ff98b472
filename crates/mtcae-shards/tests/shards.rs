//! Shards, and what is merged of them.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{names, run_shard, whole};
use mtcae_shards::merge::{Merged, Options, merge};
use mtcae_shards::shard::Shard;

fn merged(out: &Path, from: &[PathBuf]) -> Result<Merged, String> {
    merge(out, from, Options::default()).map_err(|e| e.to_string())
}

fn shards(folder: &Path, of: usize) -> Vec<PathBuf> {
    let out = folder.join("labels.jsonl");
    let path = |number| Shard { number, of }.path(&out);
    (1..=of).map(path).collect()
}

/// A folder with all shards of 20 files.
fn made(of: usize) -> (tempfile::TempDir, Vec<String>, Vec<PathBuf>) {
    let (folder, names) = (tempfile::tempdir().expect("a folder"), names(20));
    let out = folder.path().join("labels.jsonl");
    for number in 1..=of {
        run_shard(&names, 20.0, &format!("{number}/{of}"), &out, false).expect("made");
    }
    let paths = shards(folder.path(), of);
    (folder, names, paths)
}

#[test]
fn any_number_of_shards_is_merged_to_what_one_process_writes() {
    for of in [1, 2, 3, 8, 20, 33] {
        let (folder, names, mut paths) = made(of);
        let out = folder.path().join("all.jsonl");
        // In any order, by the rows' names or the records'.
        paths.reverse();
        let last = paths.len() - 1;
        paths[last] = PathBuf::from(format!("{}.job.json", paths[last].display()));
        let said = merged(&out, &paths).expect("merged");
        assert_eq!(fs::read(&out).expect("there"), whole(&names), "{of}");
        assert_eq!((said.rows, said.files, said.failed), (20, 20, 3));
        let first = said.first_failed.expect("one failed");
        assert_eq!(first, ("clips/003.mp4".to_owned(), "is empty".to_owned()));
        // Or by their folder.
        fs::remove_file(&out).expect("removed");
        merged(&out, &[folder.path().to_owned()]).expect("merged");
        assert_eq!(fs::read(&out).expect("there"), whole(&names), "{of}");
    }
}

#[test]
fn what_is_missing_or_there_twice_is_named() {
    let (folder, names, paths) = made(8);
    let out = folder.path().join("all.jsonl");
    let twice = [&paths[..], &paths[2..3]].concat();
    let said = merged(&out, &twice).expect_err("twice");
    assert!(
        said.contains("shard 3/8 is given twice: ") && said.contains("shard-003-of-008.jsonl"),
        "{said}"
    );
    let some = [&paths[..2], &paths[3..6]].concat();
    let said = merged(&out, &some).expect_err("missing");
    assert!(said.contains("of 8 shards, 3, 7-8 are missing"), "{said}");
    assert!(said.contains("--partial"), "{said}");
    let options = Options {
        partial: true,
        force: false,
    };
    let partial = merge(&out, &some, options).expect("merged");
    assert_eq!((partial.rows, partial.files), (13, 20));
    assert_eq!(partial.missing.len(), 1);
    let text = fs::read_to_string(&out).expect("there");
    let whole = String::from_utf8(whole(&names)).expect("text");
    let kept = whole
        .split_inclusive('\n')
        .enumerate()
        .filter(|(place, _)| ![2, 6, 7].contains(&(place % 8)))
        .map(|(_, line)| line);
    assert_eq!(text, kept.collect::<String>());
    let said = merged(&out, &paths).expect_err("there");
    assert!(
        said.contains("all.jsonl: exists already; --force"),
        "{said}"
    );
    let said = merge(
        &paths[0],
        &paths,
        Options {
            partial: false,
            force: true,
        },
    );
    let said = said.expect_err("a shard").to_string();
    assert!(said.contains("is merged from"), "{said}");
    let said = merged(&folder.path().join("x"), &[folder.path().join("no.jsonl")]);
    assert!(said.expect_err("none").ends_with("no.jsonl: no such shard"));
    let said = merged(&folder.path().join("x"), std::slice::from_ref(&out));
    let said = said.expect_err("no shard");
    assert!(
        said.contains("its record") && said.contains("is not beside it"),
        "{said}"
    );
}

#[test]
fn shards_of_other_settings_or_another_list_are_refused() {
    let (folder, names, paths) = made(3);
    let other = folder.path().join("other.jsonl");
    run_shard(&names, 24.5, "2/3", &other, false).expect("made");
    let out = folder.path().join("all.jsonl");
    let second = Shard { number: 2, of: 3 }.path(&other);
    let from = [paths[0].clone(), second, paths[2].clone()];
    let said = merged(&out, &from).expect_err("other settings");
    assert!(
        said.contains("settings.detector.min_face is 20.0 there and 24.5 in ")
            && said.contains("other.shard-002-of-003.jsonl"),
        "{said}"
    );
    let third = folder.path().join("third.jsonl");
    run_shard(&names[..19], 20.0, "3/3", &third, false).expect("made");
    let third = Shard { number: 3, of: 3 }.path(&third);
    let said = merged(&out, &[paths[0].clone(), paths[1].clone(), third]).expect_err("a list");
    assert!(
        said.contains("inputs.files is 20 there and 19 in "),
        "{said}"
    );
    let (four, ..) = made(4);
    let said = merged(&out, &[&paths[..2], &shards(four.path(), 4)[2..]].concat());
    let said = said.expect_err("of four");
    assert!(said.contains(": of is 3 there and 4 in"), "{said}");
    assert!(!out.exists());
}

#[test]
fn a_torn_shard_is_resumed_to_the_same_bytes_and_other_rows_are_refused() {
    let (folder, names, paths) = made(3);
    let out = folder.path().join("labels.jsonl");
    let before = fs::read(&paths[1]).expect("rows");
    let said = run_shard(&names, 20.0, "2/3", &out, false).expect_err("there");
    assert!(said.contains("exists already; --resume"), "{said}");
    for cut in [before.len(), before.len() - 1, before.len() / 2, 0] {
        fs::write(&paths[1], &before[..cut]).expect("cut");
        let done = run_shard(&names, 20.0, "2/3", &out, true).expect("resumed");
        assert_eq!(fs::read(&paths[1]).expect("rows"), before);
        let kept = before[..cut].iter().filter(|b| **b == b'\n').count();
        assert_eq!((done.rows, done.before), (7, kept));
    }
    let said = run_shard(&names, 21.0, "2/3", &out, true).expect_err("other settings");
    assert!(
        said.contains("min_face is 20.0 there and 21.0 here"),
        "{said}"
    );
    fs::copy(&paths[0], &paths[1]).expect("another's rows");
    let said = run_shard(&names, 20.0, "2/3", &out, true).expect_err("other rows");
    assert!(
        said.contains("cannot resume: line 1 is of clips/000.mp4, not clips/001.mp4"),
        "{said}"
    );
    fs::remove_file(format!("{}.job.json", paths[1].display())).expect("removed");
    let said = run_shard(&names, 20.0, "2/3", &out, true).expect_err("no record");
    assert!(said.contains("is not beside it"), "{said}");
}

#[test]
fn what_was_damaged_afterwards_is_found() {
    let (folder, _, paths) = made(3);
    let out = folder.path().join("all.jsonl");
    let before = fs::read(&paths[1]).expect("rows");
    let text = String::from_utf8(before.clone()).expect("text");
    for (damaged, words) in [
        (
            text.replace("\"faces\":\"face ", "\"faces\":\"fake "),
            "damaged after it was written",
        ),
        (
            text[..text.len() - 1].to_owned(),
            "damaged after it was written",
        ),
        (format!("{text}{{"), "damaged after it was written"),
        (text.replacen('{', "", 1), "no row"),
        (
            text.replace("001.mp4", "000.mp4"),
            "has a row of clips/000.mp4, of which another",
        ),
    ] {
        fs::write(&paths[1], damaged).expect("written");
        let said = merged(&out, &paths).expect_err(words);
        assert!(
            said.contains("shard-002-of-003.jsonl: ") && said.contains(words),
            "{said}"
        );
        assert!(!out.exists());
    }
    fs::write(&paths[1], &before).expect("written");
    merged(&out, &paths).expect("whole again");
}
