//! What `infer` leaves behind: whose faces it saw, and that nothing is lost.

mod common;

use std::path::Path;
use std::process::Command;

use mtcae_testing::fixtures;

use common::{answer, answers, code, infer, portrait, program, text};

/// What is said of one input, in JSON.
fn said(input: &str, more: &[&str]) -> serde_json::Value {
    let output = infer(&[&[input, "--format", "json"], more].concat());
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    answer(&output.stdout)
}

/// What is said of each person in an input.
fn everybody(input: &str, more: &[&str]) -> Vec<serde_json::Value> {
    let args = [input, "--format", "json", "--people", "all"];
    let output = infer(&[&args, more].concat());
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    answers(&output.stdout)
}

/// Five faces, of which none is left in the 64 by 64 pixels that the model is given.
#[test]
fn mtcnn_looks_at_the_source_and_says_so() {
    let five = fixtures().join("mtcnn/five.png").display().to_string();
    let json = said(&five, &[]);
    assert_eq!(
        json["seen"],
        serde_json::json!({"frames": 16, "of": 16, "at": "source", "min_face": 20.0})
    );
    let json = said(&five, &["--detect-at", "model"]);
    assert_eq!(json["seen"]["at"], "64x64");
    assert_eq!(json["seen"]["frames"], 0);
    let people = everybody(&five, &[]);
    assert_eq!(people.len(), 5);
    let large = everybody(&five, &["--min-face", "100"]);
    assert!(large.len() < 5, "{large:?}");
}

#[test]
fn an_answer_without_a_face_says_that_it_rests_on_nothing() {
    let none = fixtures().join("mtcnn/none.png").display().to_string();
    let output = infer(&[&none]);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(out.contains("but no face is seen"), "{out}");
    assert!(err.contains("rests on nothing"), "{err}");
    let json = said(&none, &[]);
    assert_eq!(json["seen"]["frames"], 0);
    assert_eq!(json["warnings"][0]["kind"], "no-face");
    let table = text(&infer(&[&none, "--format", "csv"]).stdout);
    let mut lines = table.lines();
    let column = lines.next().expect("a header").split(',');
    let column = column.clone().position(|c| c == "frames_with_face");
    let row = lines
        .next()
        .expect("a row")
        .split(',')
        .nth(column.expect("there"));
    assert_eq!(row, Some("0"));
    // In windows, and of a person, nobody is made up either.
    let json = said(&none, &["--window", "1"]);
    assert_eq!(json["windows"][0]["seen"]["frames"], 0);
    let output = infer(&[&none, "--people", "all"]);
    assert!(code(&output) == 1 && text(&output.stderr).contains("no face"));
}

#[test]
fn people_and_crops_go_with_windows() {
    let portrait = portrait();
    let people = everybody(&portrait, &["--window", "1"]);
    assert_eq!(people.len(), 1);
    let windows = people[0]["windows"].as_array().expect("windows");
    assert_eq!(windows.len(), 3);
    for window in windows {
        assert_eq!(window["person"], 1);
        assert_eq!(window["seen"]["of"], 16);
        let crop = &window["source"]["crop"];
        let (whole, part) = (&window["source"]["width"], &crop["width"]);
        assert!(part.as_f64() < whole.as_f64(), "{window}");
        assert_eq!(window["frames"].as_array().map(Vec::len), Some(16));
    }
    let one = said(&portrait, &["--crop", "face", "--window", "1"]);
    assert_eq!(
        one["windows"][0]["probabilities"],
        windows[0]["probabilities"]
    );
}

/// An input by another name is an input.
#[test]
fn nothing_is_written_over_an_input() {
    let folder = tempfile::tempdir().expect("a folder");
    let here = folder.path();
    let picture = here.join("five.png");
    std::fs::copy(fixtures().join("mtcnn/five.png"), &picture).expect("copied");
    let before = std::fs::read(&picture).expect("read");
    let name = here.display().to_string();
    for more in [&[][..], &["--force"], &["--resume"]] {
        let args = [&name, "--out", &name, "--annotate", "png", "--quiet"];
        let output = infer(&[&args[..], more].concat());
        let err = text(&output.stderr);
        assert!(code(&output) == 1 && err.contains("is an input"), "{err}");
        assert_eq!(std::fs::read(&picture).expect("read"), before);
        assert!(!here.join("five.json").exists());
    }
    #[cfg(unix)]
    {
        let out = here.join("out");
        std::fs::create_dir(&out).expect("made");
        std::os::unix::fs::symlink(&picture, out.join("five.json")).expect("linked");
        let (picture, out) = (picture.display().to_string(), out.display().to_string());
        let output = infer(&[&picture, "--out", &out, "--force"]);
        assert!(code(&output) == 1 && text(&output.stderr).contains("is an input"));
    }
    assert_eq!(std::fs::read(&picture).expect("read"), before);
}

#[test]
fn what_was_drawn_is_no_input_and_what_is_done_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let here = folder.path().display().to_string();
    let video = folder.path().join("a.mp4");
    std::fs::copy(fixtures().join("demo/portrait.mp4"), &video).expect("copied");
    let first = [&*here, "--out", &here, "--annotate", "png,mp4"];
    let output = infer(&first);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let json = folder.path().join("a.json");
    let written = std::fs::read(&json).expect("read");

    let output = infer(&first);
    let err = text(&output.stderr);
    assert!(
        code(&output) == 1 && err.contains("is there already"),
        "{err}"
    );
    assert!(err.contains("left out: 2 pictures and videos"), "{err}");

    // One more, and another that is none.
    std::fs::copy(&video, folder.path().join("b.mp4")).expect("copied");
    std::fs::write(folder.path().join("c.mp4"), b"text").expect("written");
    std::fs::write(&json, &written).expect("written");
    let output = infer(&[&first[..], &["--resume"]].concat());
    let err = text(&output.stderr);
    assert_eq!(code(&output), 1, "{err}");
    assert!(
        err.contains("1 of 3 done, 1 done before, 1 failed"),
        "{err}"
    );
    assert!(err.contains("left out: 2 pictures and videos"), "{err}");
    let table = std::fs::read_to_string(folder.path().join("overview.csv")).expect("read");
    let rows: Vec<&str> = table.lines().skip(1).collect();
    assert_eq!(rows.len(), 3, "{table}");
    let status = |i: usize| rows[i].split(',').nth(1).expect("a cell").to_owned();
    assert_eq!([0, 1, 2].map(status), ["done before", "done", "failed"]);
    // The first row says what the second does, read back from its results.
    let cells = |i: usize| rows[i].split(',').skip(2).collect::<Vec<_>>();
    assert_eq!(cells(0), cells(1));

    let other = [&first[..], &["--resume", "--min-face", "40"]].concat();
    let err = text(&infer(&other).stderr);
    assert!(err.contains("min_face was null and is 40"), "{err}");

    // Another file that would be called as one that is done, and one of a user's own.
    let picture = folder.path().join("a.apng");
    std::fs::copy(fixtures().join("video/still.png"), &picture).expect("copied");
    let shown = picture.display().to_string();
    let args = [&*shown, "--out", &here, "--annotate", "png,mp4", "--resume"];
    let err = text(&infer(&args).stderr);
    assert!(err.contains("a.mp4, not of"), "{err}");
    std::fs::remove_file(&picture).expect("removed");
    let own = folder.path().join("own");
    std::fs::create_dir(&own).expect("made");
    let own_table = own.join("a.csv");
    std::fs::write(&own_table, "mine").expect("written");
    let (own, video_arg) = (own.display().to_string(), video.display().to_string());
    for more in [&[][..], &["--resume"], &["--resume"]] {
        let output = infer(&[&[&*video_arg, "--out", &own], more].concat());
        assert_eq!(code(&output), 1, "{}", text(&output.stderr));
        assert_eq!(std::fs::read(&own_table).expect("read"), b"mine");
    }
    // A trace is written over nothing either.
    let output = infer(&[&video_arg, "--trace", &video_arg]);
    assert!(code(&output) == 1 && text(&output.stderr).contains("is an input"));
    assert_eq!(
        code(&infer(&[
            &video.display().to_string(),
            "--out",
            &here,
            "--force"
        ])),
        0
    );
}

#[cfg(target_os = "linux")]
#[test]
fn names_need_not_be_unicode() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().expect("a folder");
    let odd = std::ffi::OsStr::from_bytes(b"caf\xe9.mp4");
    let video = folder.path().join(odd);
    std::fs::copy(fixtures().join("demo/portrait.mp4"), &video).expect("copied");
    let out = folder.path().join("out");
    let run = |input: &Path| {
        let mut command = program("infer");
        command
            .arg(input)
            .args(["--annotate", "png", "--force", "--out"])
            .arg(&out);
        command.output().expect("started")
    };
    for input in [video.as_path(), folder.path()] {
        let output = run(input);
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
        let json = out.join(std::ffi::OsStr::from_bytes(b"caf\xe9.json"));
        let json = std::fs::read_to_string(json).expect("written");
        assert!(json.contains("caf\u{fffd}.mp4"), "{json}");
        assert!(
            out.join(std::ffi::OsStr::from_bytes(b"caf\xe9.png"))
                .exists()
        );
    }
}

#[test]
fn a_closed_pipe_ends_it_quietly() {
    use std::process::Stdio;
    let videos = vec![portrait(); 3];
    let mut command = program("infer");
    command
        .args(&videos)
        .args(["--format", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("started");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("ended");
    assert_eq!(code(&output), 0);
    let err = text(&output.stderr);
    assert!(!err.contains("panicked") && !err.contains("ipe"), "{err}");
}

/// Told to stop, it leaves nothing half-written; killed, it leaves what the next run
/// removes.
#[cfg(unix)]
#[test]
fn stopped_it_leaves_nothing_behind() {
    use std::os::unix::process::ExitStatusExt;
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    let unfinished = || {
        let names = std::fs::read_dir(&out).into_iter().flatten();
        names
            .filter(|e| {
                let name = e.as_ref().expect("an entry").file_name();
                name.to_string_lossy().ends_with(".mtcae-part")
            })
            .count()
    };
    for (signal, number) in [("TERM", 15), ("INT", 2), ("KILL", 9)] {
        let mut command = program("infer");
        command.args(vec![portrait(); 32]);
        command
            .args(["--annotate", "mp4", "--quiet", "--force", "--out"])
            .arg(&out);
        let mut child = command.spawn().expect("started");
        while unfinished() == 0 {
            assert!(
                child.try_wait().expect("asked").is_none(),
                "too fast to be stopped"
            );
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        // The shell's own, which is there where no program of that name is.
        let killed = Command::new("sh")
            .args(["-c", &format!("kill -s {signal} {}", child.id())])
            .status();
        assert!(killed.expect("started").success());
        let status = child.wait().expect("ended");
        assert_eq!(status.signal(), Some(number), "{signal}: {status}");
        // Killed, it may have been between two files.
        assert!(unfinished() <= usize::from(signal == "KILL"), "{signal}");
    }
    let out = out.display().to_string();
    assert_eq!(code(&infer(&[&portrait(), "--out", &out, "--force"])), 0);
    assert_eq!(unfinished(), 0);
}
