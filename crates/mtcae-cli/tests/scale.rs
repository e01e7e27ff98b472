//! Many processes on many files: killed, stopped, short of disk, and merged to what one
//! process writes.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use mtcae_testing::fixtures;

use common::{program, text};

/// So many pictures and videos of a few pixels, some of which are none, and a list of them.
fn clips(count: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("clips")).expect("made");
    let video = |name: &str| fs::read(fixtures().join("video").join(name)).expect("a fixture");
    let kinds = [
        "still.png",
        "few.mp4",
        "still.jpg",
        "still.webp",
        "gray.mp4",
    ]
    .map(video);
    let mut list = String::new();
    for i in 0..count {
        let name = format!("clips/{i:02}.mp4");
        let content = match i % 9 {
            4 => b"no video",
            _ => &kinds[i % kinds.len()][..],
        };
        fs::write(folder.path().join(&name), content).expect("written");
        list += &format!("{name}\n");
    }
    fs::write(folder.path().join("clips.txt"), list).expect("written");
    folder
}

/// `label` of the list in the source's own pixels, which are few.
fn label(folder: &Path, args: &[&str]) -> Command {
    let mut command = program("label");
    command
        .args(["--list", "clips.txt", "--detect-at", "source", "--quiet"])
        .args(["--threads", "1", "--jobs", "1"])
        .args(args)
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

fn run(command: &mut Command) -> Output {
    command.output().expect("started")
}

/// What is said where all goes well but for files that are no videos.
fn well(command: &mut Command) -> String {
    let output = run(command);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    said
}

/// The last line that is said where it ends with an error.
fn refused(command: &mut Command) -> String {
    let output = run(command);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    said.lines().next_back().unwrap_or_default().to_owned()
}

fn merge(folder: &Path, args: &[&str]) -> Command {
    let mut command = program("merge");
    command.args(args).current_dir(folder);
    command
}

fn one(folder: &Path) -> Vec<u8> {
    // Its exit code says that files could not be read.
    run(&mut label(folder, &["--out", "one.jsonl"]));
    fs::read(folder.join("one.jsonl")).expect("labels")
}

/// A number below `end` that depends on how often it was asked for.
fn random(state: &mut u64, end: u64) -> u64 {
    *state = state
        .wrapping_mul(6364136223846793005)
        .wrapping_add(1442695040888963407);
    (*state >> 33) % end
}

#[test]
fn shards_whose_processes_are_killed_are_merged_to_what_one_process_writes() {
    let folder = clips(40);
    let folder = folder.path();
    let whole = one(folder);
    assert_eq!(whole.iter().filter(|b| **b == b'\n').count(), 40);
    let (mut kills, mut state) = (0, 1);
    let shard = |number: usize| {
        let shard = format!("{number}/8");
        label(
            folder,
            &["--out", "labels.jsonl", "--shard", &shard, "--resume"],
        )
    };
    for number in 1..=8 {
        for _ in 0..2 {
            let mut child = shard(number).spawn().expect("started");
            std::thread::sleep(Duration::from_millis(random(&mut state, 120)));
            if child.try_wait().expect("asked").is_none() {
                child.kill().expect("killed");
                kills += 1;
            }
            child.wait().expect("ended");
        }
        well(&mut shard(number));
    }
    let shards: Vec<String> = (1..=8)
        .map(|n| format!("labels.shard-{n:03}-of-008.jsonl"))
        .collect();
    let mut args = vec!["all.jsonl"];
    args.extend(shards.iter().map(String::as_str));
    let output = run(&mut merge(folder, &args));
    let said = text(&output.stdout);
    assert!(
        said.starts_with(
            "all.jsonl: 40 files, each once; 4 could not be read, the first being clips/04.mp4: "
        ),
        "{said}{}",
        text(&output.stderr)
    );
    assert!(
        fs::read(folder.join("all.jsonl")).expect("merged") == whole,
        "{kills} kills"
    );
    // A finished shard is left as it is.
    let said = well(&mut shard(3));
    assert!(said.is_empty(), "{said}");
    // What is merged can be gone on with as any label file, which makes a table of it.
    run(&mut label(
        folder,
        &["--out", "all.jsonl", "--resume", "--csv", "all.csv"],
    ));
    assert!(fs::read(folder.join("all.jsonl")).expect("merged") == whole);
    assert!(folder.join("all.csv").exists());
}

fn worker(folder: &Path) -> Command {
    label(
        folder,
        &["--lease", "work", "--part", "2", "--expiry", "0.8"],
    )
}

/// Waits until one of the processes has a lease; `false` where all ended before.
fn has_lease(folder: &Path, children: &mut [Child]) -> bool {
    let own = |child: &Child| format!("\"pid\":{},", child.id());
    let own: Vec<String> = children.iter().map(own).collect();
    let until = Instant::now() + Duration::from_secs(60);
    while Instant::now() < until {
        let ended = |child: &mut Child| child.try_wait().expect("asked").is_some();
        if children.iter_mut().all(ended) {
            return false;
        }
        for entry in fs::read_dir(folder.join("work/work"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let said = fs::read_to_string(entry.path()).unwrap_or_default();
            if own.iter().any(|own| said.contains(own)) {
                return true;
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("no lease within a minute");
}

#[test]
fn workers_with_leases_are_killed_and_nothing_is_lost_or_there_twice() {
    let folder = clips(40);
    let folder = folder.path();
    let whole = one(folder);
    let (mut kills, mut state) = (0, 7);
    for _ in 0..12 {
        let mut both = [(); 2].map(|()| worker(folder).spawn().expect("started"));
        let held = has_lease(folder, &mut both);
        std::thread::sleep(Duration::from_millis(random(&mut state, 15)));
        for child in &mut both {
            if child.try_wait().expect("asked").is_none() {
                child.kill().expect("killed");
                kills += 1;
            }
            child.wait().expect("ended");
        }
        if !held {
            break;
        }
    }
    assert!(kills >= 10, "{kills}");
    well(&mut worker(folder));
    well(&mut merge(folder, &["all.jsonl", "work"]));
    assert!(
        fs::read(folder.join("all.jsonl")).expect("merged") == whole,
        "{kills} kills"
    );
    assert_eq!(
        fs::read_dir(folder.join("work/work"))
            .expect("listed")
            .count(),
        0
    );
}

/// A process that is stopped until all is done, and then goes on.
#[cfg(unix)]
#[test]
fn who_was_thought_dead_and_comes_back_changes_nothing() {
    let folder = clips(12);
    let folder = folder.path();
    let whole = one(folder);
    let signal = |name: &str, child: &Child| {
        let command = format!("kill -{name} {}", child.id());
        assert!(
            Command::new("sh")
                .args(["-c", &command])
                .status()
                .expect("sent")
                .success()
        );
    };
    let mut stopped = worker(folder).spawn().expect("started");
    assert!(has_lease(folder, std::slice::from_mut(&mut stopped)));
    signal("STOP", &stopped);
    well(&mut worker(folder));
    well(&mut merge(folder, &["before.jsonl", "work"]));
    signal("CONT", &stopped);
    let status = stopped.wait().expect("ended");
    assert!(status.success(), "{status}");
    well(&mut merge(folder, &["after.jsonl", "work"]));
    for merged in ["before.jsonl", "after.jsonl"] {
        assert!(
            fs::read(folder.join(merged)).expect("merged") == whole,
            "{merged}"
        );
    }
    assert_eq!(
        fs::read_dir(folder.join("work/work"))
            .expect("listed")
            .count(),
        0
    );
}

#[test]
fn two_jobs_on_one_folder_and_wrong_shards_are_refused_in_a_line() {
    let folder = clips(4);
    let folder = folder.path();
    well(&mut worker(folder));
    let other = |args: &[&str]| refused(worker(folder).args(args));
    assert_eq!(
        other(&["--min-face", "24"]),
        "error: work/job.json: settings.detector.min_face is 20.0 there and 24.0 here: a folder of leases is of one job; give another --lease"
    );
    assert!(
        other(&["--every", "2"]).contains("settings.sampling is uniform/16 there and every/2 here")
    );
    let more = other(&["clips/00.mp4"]);
    assert!(
        more.starts_with("error: clips/00.mp4 is among the inputs twice"),
        "{more}"
    );
    fs::write(
        folder.join("clips.txt"),
        "clips/01.mp4\nclips/00.mp4\nclips/02.mp4\nclips/03.mp4\n",
    )
    .expect("written");
    assert!(
        other(&[]).contains("work/job.json: inputs.sha256 is "),
        "other order"
    );
    fs::write(
        folder.join("clips.txt"),
        "clips/01.mp4\nclips/00.mp4\nclips/01.mp4\n",
    )
    .expect("written");
    assert_eq!(
        other(&[]),
        "error: --list clips.txt: line 3 names clips/01.mp4 again, which line 1 does; each file once"
    );
    fs::write(folder.join("clips.txt"), "clips/01.mp4\nclips/02.mp4\n").expect("written");
    for (shard, words) in [
        (
            "9/8",
            "there is no shard 9 of 8: 1/8 is the first and 8/8 the last",
        ),
        ("0/8", "shards are counted from 1: 1/8 is the first"),
    ] {
        let output = run(&mut label(folder, &["--out", "l.jsonl", "--shard", shard]));
        let said = text(&output.stderr);
        assert!(
            output.status.code() == Some(2) && said.contains(words),
            "{said}"
        );
    }
    let said = refused(&mut label(
        folder,
        &["--list", "none.txt", "--out", "l.jsonl", "--shard", "1/2"],
    ));
    assert!(
        said.starts_with("error: --list none.txt: No such file"),
        "{said}"
    );
    let said = refused(&mut label(
        folder,
        &["no-*.mp4", "--out", "l.jsonl", "--shard", "1/2"],
    ));
    assert!(said.ends_with("nothing was begun"), "{said}");
    let said = refused(&mut label(
        folder,
        &["--out", "l.jsonl", "--shard", "1/2", "--csv", "t.csv"],
    ));
    assert!(
        said.starts_with("error: --csv: is made of the whole label file"),
        "{said}"
    );
    assert!(!folder.join("l.jsonl").exists());
}

/// As on a full disk, files cannot grow beyond a size.
#[cfg(unix)]
#[test]
fn a_full_disk_ends_a_process_with_a_line_and_loses_nothing() {
    let folder = clips(12);
    let folder = folder.path();
    let whole = one(folder);
    let limited = |command: &Command| {
        let mut shell = Command::new("sh");
        // 512 or 1024 bytes each; the signal would end the process before it can say why.
        shell.args(["-c", "trap '' XFSZ; ulimit -f 4; exec \"$@\"", "sh"]);
        shell.arg(command.get_program()).args(command.get_args());
        shell.current_dir(folder);
        shell
    };
    let said = refused(&mut limited(&worker(folder)));
    assert!(
        said.contains("work/parts/") && said.ends_with("File too large (os error 27)"),
        "{said}"
    );
    assert_eq!(
        fs::read_dir(folder.join("work/work"))
            .expect("listed")
            .count(),
        0
    );
    well(&mut worker(folder));
    well(&mut merge(folder, &["leases.jsonl", "work"]));
    let shard = || label(folder, &["--out", "l.jsonl", "--shard", "1/1", "--resume"]);
    let said = refused(&mut limited(&shard()));
    assert!(
        said.contains("l.shard-001-of-001.jsonl: File too large"),
        "{said}"
    );
    let said = refused(&mut merge(
        folder,
        &["no.jsonl", "l.shard-001-of-001.jsonl"],
    ));
    assert!(
        said.contains("is not at its end: run shard 1/1 again with --resume"),
        "{said}"
    );
    well(&mut shard());
    well(&mut merge(
        folder,
        &["shards.jsonl", "l.shard-001-of-001.jsonl"],
    ));
    for merged in ["leases.jsonl", "shards.jsonl"] {
        assert!(
            fs::read(folder.join(merged)).expect("merged") == whole,
            "{merged}"
        );
    }
    let said = refused(&mut limited(&merge(folder, &["full.jsonl", "work"])));
    assert!(
        said.starts_with("error: full.jsonl: File too large"),
        "{said}"
    );
    assert!(!folder.join("full.jsonl").exists());
}

#[test]
fn answers_are_merged_as_labels_are() {
    let folder = clips(6);
    let folder = folder.path();
    let drawn = fixtures().join("demo/checkpoint").display().to_string();
    let infer = |args: &[&str]| {
        let mut command = program("infer");
        command
            .args(["--checkpoint", &drawn, "--list", "clips.txt", "--quiet"])
            .args(args)
            .current_dir(folder);
        command
    };
    well(&mut infer(&["--lines", "one.jsonl"]));
    let one = fs::read_to_string(folder.join("one.jsonl")).expect("answers");
    let formats: Vec<String> = one
        .lines()
        .map(|line| {
            let row: serde_json::Value = serde_json::from_str(line).expect("JSON");
            row["format"].as_str().expect("text").to_owned()
        })
        .collect();
    let mut wanted = ["mtcae-results"; 6];
    wanted[4] = "mtcae-failed";
    assert_eq!(formats, wanted);
    // As on stdout.
    let first = run(program("infer")
        .args(["--checkpoint", &drawn, "clips/00.mp4", "--format", "json"])
        .current_dir(folder));
    assert_eq!(one.lines().next(), Some(text(&first.stdout).trim_end()));
    for number in ["2/2", "1/2"] {
        well(&mut infer(&["--lines", "a.jsonl", "--shard", number]));
    }
    well(&mut infer(&["--lease", "work", "--part", "4"]));
    let shards = ["a.shard-001-of-002.jsonl", "a.shard-002-of-002.jsonl"];
    well(&mut merge(folder, &["shards.jsonl", shards[0], shards[1]]));
    well(&mut merge(folder, &["leases.jsonl", "work"]));
    for merged in ["shards.jsonl", "leases.jsonl"] {
        assert!(
            fs::read_to_string(folder.join(merged)).expect("merged") == one,
            "{merged}"
        );
    }
    let said = refused(&mut infer(&["--lines", "one.jsonl"]));
    assert!(
        said.contains("one.jsonl: exists already; --resume"),
        "{said}"
    );
    let said = refused(&mut infer(&[
        "--lines",
        "one.jsonl",
        "--resume",
        "--window",
        "1",
    ]));
    assert!(
        said.contains("settings.asked.windows is null there and "),
        "{said}"
    );
    for (args, words) in [
        (&["--shard", "1/2"][..], "--shard needs --lines"),
        (
            &["--lease", "work", "--lines", "x"],
            "--lines cannot be used with it",
        ),
        (
            &["--lease", "work", "--out", "x"],
            "--lease writes lines of JSON",
        ),
    ] {
        let output = run(&mut infer(args));
        let said = text(&output.stderr);
        assert!(
            output.status.code() == Some(2) && said.contains(words),
            "{said}"
        );
    }
}

/// GNU tar's archives, as WebDataset has them.
#[test]
fn members_of_archives_are_labelled_as_files_are() {
    let folder = clips(8);
    let folder = folder.path();
    let whole = String::from_utf8(one(folder)).expect("text");
    for (archive, numbers) in [("a-08.tar", 0..4), ("a-09.tar", 4..8)] {
        let mut names = Vec::new();
        for i in numbers {
            fs::write(folder.join(format!("clips/{i:02}.cls")), "3").expect("written");
            names.extend([format!("clips/{i:02}.cls"), format!("clips/{i:02}.mp4")]);
        }
        let made = Command::new("tar")
            .arg("cf")
            .arg(archive)
            .args(&names)
            .current_dir(folder)
            .status();
        assert!(made.expect("tar").success());
    }
    let listed = |out: &str, more: &[&str]| {
        let mut command = program("label");
        command
            .args([
                "a-{08..09}.tar",
                "--detect-at",
                "source",
                "--quiet",
                "--out",
                out,
            ])
            .args(more)
            .current_dir(folder);
        command
    };
    let output = run(&mut listed("tar.jsonl", &[]));
    let said = text(&output.stderr);
    assert!(
        said.contains(
            "left out: members of archives that are no pictures or videos by their names: 8 .cls"
        ),
        "{said}"
    );
    let within = fs::read_to_string(folder.join("tar.jsonl")).expect("labels");
    let wanted: Vec<String> = whole
        .lines()
        .enumerate()
        .map(|(i, line)| line.replace("clips/", &format!("a-{:02}.tar/clips/", 8 + i / 4)))
        .collect();
    assert_eq!(within.lines().collect::<Vec<_>>(), wanted);
    for number in 1..=3 {
        well(&mut listed("t.jsonl", &["--shard", &format!("{number}/3")]));
    }
    well(&mut merge(folder, &["all.jsonl", "."]));
    assert_eq!(
        fs::read_to_string(folder.join("all.jsonl")).expect("merged"),
        within
    );
    let before = names_in(folder);
    let whole = fs::read(folder.join("a-09.tar")).expect("an archive");
    fs::write(folder.join("a-09.tar"), &whole[..whole.len() / 3]).expect("cut");
    let output = run(&mut listed("cut.jsonl", &["--shard", "1/1"]));
    let said = text(&output.stderr);
    assert!(
        output.status.code() == Some(1) && said.contains("error: a-09.tar: cut off"),
        "{said}"
    );
    assert!(
        said.ends_with("every process must see the same list: nothing was begun\n"),
        "{said}"
    );
    assert_eq!(names_in(folder), before, "nothing is unpacked");
}

fn names_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("listed");
    let mut names: Vec<_> = entries.map(|e| e.expect("an entry").path()).collect();
    names.sort_unstable();
    names
}
