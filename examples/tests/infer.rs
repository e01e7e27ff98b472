//! `infer` as a person runs it: what it prints, what it writes, and what it says
//! of everything it cannot use.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use mtcae_testing::{Fixture, fixtures};

/// Examples are built beside the tests: target/PROFILE/examples.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("this test's path");
    let profile = test
        .parent()
        .and_then(Path::parent)
        .expect("a build folder");
    profile.join("examples").join(name)
}

fn infer(args: &[&str]) -> Output {
    // From elsewhere than the repository, as an installed program would run.
    Command::new(program("infer"))
        .args(args)
        .current_dir(std::env::temp_dir())
        .output()
        .expect("started")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("not killed")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn portrait() -> String {
    fixtures().join("demo/portrait.mp4").display().to_string()
}

#[test]
fn without_arguments_it_recognises_the_demo_and_says_what_that_is_worth() {
    let output = infer(&[]);
    let out = text(&output.stdout);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert!(
        out.contains("rendered.mp4")
            && out.contains("\nexpression: happy ")
            && out.contains("256x256"),
        "{out}"
    );
    assert!(out.contains("no judge of real ones"), "{out}");
    assert_eq!(
        out.lines()
            .filter(|l| l.trim_start().starts_with(|c: char| c.is_ascii_digit()))
            .count(),
        16,
        "{out}"
    );
}

#[test]
fn formats_go_to_stdout_and_nothing_else_does() {
    let output = infer(&[&portrait(), "--format", "json"]);
    let json: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("JSON and nothing else");
    assert_eq!(json["frames"].as_array().map(Vec::len), Some(16));
    let output = infer(&[&portrait(), "--format", "csv", "--quiet"]);
    assert_eq!(text(&output.stdout).lines().count(), 17);
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn files_pictures_and_windows_are_written_under_distinct_names() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("results");
    let portrait = portrait();
    let twice = [portrait.as_str(), portrait.as_str()];
    let out_arg = out.display().to_string();
    let args = [
        &twice[..],
        &["--out", &out_arg, "--annotate", "png", "--quiet"],
    ]
    .concat();
    assert_eq!(code(&infer(&args)), 0);
    let mut names: Vec<String> = std::fs::read_dir(&out)
        .expect("listed")
        .map(|f| {
            f.expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    let want = [
        "infer-settings.json",
        "overview.csv",
        "portrait-2.csv",
        "portrait-2.json",
        "portrait-2.png",
        "portrait.csv",
        "portrait.json",
        "portrait.png",
    ];
    assert_eq!(names, want);

    let args = [
        portrait.as_str(),
        "--out",
        &out_arg,
        "--window",
        "1",
        "--annotate",
        "png,mp4",
        "--format",
        "json",
        "--quiet",
        "--force",
    ];
    assert_eq!(code(&infer(&args)), 0);
    let json = std::fs::read(out.join("portrait.json")).expect("written");
    let json: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
    assert_eq!(json["windows"].as_array().map(Vec::len), Some(3));
    let mut film =
        mtcae_dfer::video::Video::open(out.join("portrait.annotated.mp4")).expect("a video");
    assert_eq!(film.frame_count().expect("counted"), 75);
}

/// Every name in the results stands in their document.
#[test]
fn the_document_names_every_field_and_column() {
    fn keys(value: &serde_json::Value, found: &mut std::collections::BTreeSet<String>) {
        match value {
            serde_json::Value::Object(fields) => {
                for (key, value) in fields {
                    found.insert(key.clone());
                    keys(value, found);
                }
            }
            serde_json::Value::Array(items) => items.iter().for_each(|item| keys(item, found)),
            _ => {}
        }
    }
    let page = fixtures().join("../docs/results-format.md");
    let page = std::fs::read_to_string(page).expect("read");
    let mut names = std::collections::BTreeSet::new();
    for more in [&["--people", "all"][..], &["--window", "1"]] {
        let portrait = portrait();
        let output = infer(&[&[portrait.as_str(), "--format", "json"], more].concat());
        let json = serde_json::from_slice(&output.stdout).expect("JSON");
        keys(&json, &mut names);
    }
    let table = text(&infer(&[&portrait(), "--format", "csv"]).stdout);
    let header = table.lines().next().expect("a header");
    names.extend(
        header
            .split(',')
            .map(|column| match column.strip_prefix("p_") {
                Some(_) => "p_CLASS".to_owned(),
                None => column.replace("detected_", ""),
            }),
    );
    assert!(names.len() > 40);
    for name in &names {
        assert!(page.contains(&format!("`{name}`")), "{name}");
    }
}

/// Answers of MTCNN stand in the results unless they are not wanted.
#[test]
fn faces_are_looked_for_unless_it_is_said() {
    let seen = |args: &[&str]| {
        let portrait = portrait();
        let output = infer(&[&[portrait.as_str(), "--format", "json"], args].concat());
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let json = json.get("windows").map_or(&json, |w| &w[0]).clone();
        let frames = json["frames"].as_array().expect("frames").clone();
        let found = frames.iter().filter(|f| !f["detected"].is_null()).count();
        (found > 0, json["expression"].clone())
    };
    let (found, expression) = seen(&[]);
    assert!(found);
    assert_eq!(seen(&["--faces", "mtcnn"]), (true, expression.clone()));
    assert_eq!(seen(&["--faces", "none"]), (false, expression));
    assert!(seen(&["--window", "1"]).0);
    assert!(!seen(&["--window", "1", "--faces", "none"]).0);
}

/// What is said of one input, in JSON.
fn said(input: &str, more: &[&str]) -> serde_json::Value {
    let output = infer(&[&[input, "--format", "json"], more].concat());
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
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
    let people = said(&five, &["--people", "all"]);
    assert_eq!(people.as_array().map(Vec::len), Some(5));
    let large = said(&five, &["--people", "all", "--min-face", "100"]);
    assert!(large.as_array().map(Vec::len) < Some(5), "{large}");
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
    let all = said(&portrait, &["--people", "all", "--window", "1"]);
    let people = all.as_array().expect("a timeline a person");
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
        let mut command = Command::new(program("infer"));
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
    let mut command = Command::new(program("infer"));
    command
        .args(&videos)
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
        let mut command = Command::new(program("infer"));
        command.args(vec![portrait(); 8]);
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
        let killed = Command::new("kill")
            .args(["-s", signal, &child.id().to_string()])
            .status();
        assert!(killed.expect("started").success());
        let status = child.wait().expect("ended");
        assert_eq!(status.signal(), Some(number), "{signal}: {status}");
        assert_eq!(unfinished(), usize::from(signal == "KILL"), "{signal}");
    }
    let out = out.display().to_string();
    assert_eq!(code(&infer(&[&portrait(), "--out", &out, "--force"])), 0);
    assert_eq!(unfinished(), 0);
}

/// A demo checkpoint with another sampling.
fn with_sampling(sampling: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let demo = fixtures().join("demo/checkpoint");
    let config = std::fs::read_to_string(demo.join("config.json")).expect("read");
    assert!(config.contains("\"uniform\""));
    let config = config.replace("\"uniform\"", &format!("\"{sampling}\""));
    std::fs::write(folder.path().join("config.json"), config).expect("written");
    let weights = "model.safetensors";
    std::fs::copy(demo.join(weights), folder.path().join(weights)).expect("copied");
    folder
}

#[test]
fn every_way_to_look_takes_several_views() {
    let checkpoint = with_sampling("multi-clip:3x1");
    let checkpoint = checkpoint.path().display().to_string();
    let trace = tempfile::tempdir().expect("a folder");
    let trace_file = trace.path().join("trace.safetensors");
    let trace_arg = trace_file.display().to_string();
    let ask = |args: &[&str]| {
        let portrait = portrait();
        let all = ["--checkpoint", &checkpoint, "--format", "json", &portrait];
        let output = infer(&[&all[..], args].concat());
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        json
    };
    let plain = ask(&["--faces", "none"]);
    assert_eq!(plain["frames"].as_array().map(Vec::len), Some(48));
    let windows = ask(&["--window", "1"]);
    let frames = &windows["windows"][0]["frames"];
    assert_eq!(frames.as_array().map(Vec::len), Some(48));
    let traced = ask(&["--trace", &trace_arg]);
    assert_eq!(traced["frames"].as_array().map(Vec::len), Some(48));
    // Another path of computation, so not equal to the bit.
    let confidence = |json: &serde_json::Value| json["confidence"].as_f64().expect("a number");
    assert!((confidence(&traced) - confidence(&plain)).abs() < 1e-4);
    assert_eq!(
        Fixture::open(&trace_file).get("clip").dims(),
        [16, 64, 64, 3]
    );
}

#[test]
fn a_trace_holds_the_clip_and_every_intermediate() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("trace.safetensors");
    let output = infer(&[
        &portrait(),
        "--trace",
        &path.display().to_string(),
        "--quiet",
    ]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let trace = Fixture::open(&path);
    for name in [
        "clip",
        "tubes",
        "patch_embed",
        "embeddings",
        "encoder.blocks.0",
        "F",
        "X1",
        "Y1",
        "Y2",
        "Y3",
    ] {
        trace.get(name);
    }
    assert_eq!(trace.get("clip").dims(), [16, 64, 64, 3]);
    assert_eq!(trace.get("head.expression").dims(), [1, 8]);
    assert_eq!(trace.config()["format"], "mtcae-dfer");
}

/// One clear line naming the file, exit code 1, and no results of it.
#[test]
fn bad_files_are_named_and_do_not_stop_the_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let whole = std::fs::read(fixtures().join("demo/portrait.mp4")).expect("read");
    std::fs::write(at("empty.mp4"), b"").expect("written");
    std::fs::write(at("text.mp4"), b"this is no video").expect("written");
    std::fs::write(at("truncated.mp4"), &whole[..200]).expect("written");
    std::fs::write(
        at("list.m3u8"),
        b"#EXTM3U\n#EXTINF:1,\nhttp://example.org/a.ts\n",
    )
    .expect("written");
    std::fs::write(
        at("list.mp4"),
        format!("ffconcat version 1.0\nfile '{}'\n", portrait()),
    )
    .expect("written");
    std::fs::create_dir(at("folder")).expect("made");
    let video = |name: &str| fixtures().join("video").join(name).display().to_string();
    let bad = [
        at("empty.mp4"),
        at("text.mp4"),
        at("truncated.mp4"),
        at("list.m3u8"),
        at("list.mp4"),
        at("folder"),
        at("missing.mp4"),
        at("no*match.mp4"),
        "http://example.org/a.mp4".to_owned(),
        "concat:a.mp4|b.mp4".to_owned(),
        video("audio.m4a"),
        video("zero.mp4"),
        video("cenc.mp4"),
    ];
    for bad in &bad {
        let out = at("out");
        let output = infer(&[bad, &portrait(), "--out", &out]);
        let err = text(&output.stderr);
        let errors: Vec<&str> = err.lines().filter(|l| l.starts_with("error: ")).collect();
        assert_eq!(code(&output), 1, "{bad}: {err}");
        assert!(
            errors.len() == 1 && errors[0].contains(bad.as_str()),
            "{bad}: {err}"
        );
        assert!(!err.contains("panicked"), "{bad}: {err}");
        let mut left: Vec<_> = std::fs::read_dir(&out)
            .expect("listed")
            .map(|f| f.expect("an entry").file_name())
            .collect();
        left.sort();
        assert_eq!(
            left,
            [
                "infer-settings.json",
                "overview.csv",
                "portrait.csv",
                "portrait.json"
            ],
            "{bad}: the good video's results and nothing else"
        );
        std::fs::remove_dir_all(&out).expect("removed");
    }
}

#[test]
fn damaged_videos_give_what_decodes_and_a_warning() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("damaged.mp4");
    let mut bytes = std::fs::read(fixtures().join("demo/portrait.mp4")).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4000]
        .iter_mut()
        .for_each(|b| *b = b.wrapping_mul(7).wrapping_add(13));
    std::fs::write(&path, bytes).expect("written");
    let output = infer(&[&path.display().to_string()]);
    let err = text(&output.stderr);
    assert_eq!(code(&output), 0, "{err}");
    assert!(
        err.lines()
            .any(|l| l.starts_with("warning: ") && l.contains("damaged.mp4") && l.contains(" s")),
        "{err}"
    );
}

#[test]
fn bad_checkpoints_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let checkpoint = folder.path().join("checkpoint");
    std::fs::create_dir(&checkpoint).expect("made");
    let demo = fixtures().join("demo/checkpoint");
    let config = std::fs::read_to_string(demo.join("config.json")).expect("read");
    let weights = std::fs::read(demo.join("model.safetensors")).expect("read");
    let run = |config: &str, weights: &[u8]| {
        std::fs::write(checkpoint.join("config.json"), config).expect("written");
        std::fs::write(checkpoint.join("model.safetensors"), weights).expect("written");
        let output = infer(&["--checkpoint", &checkpoint.display().to_string()]);
        assert_eq!(code(&output), 1);
        let err = text(&output.stderr);
        assert_eq!(err.lines().count(), 1, "{err}");
        err
    };
    let err = run(&config.replace("\"depth\": 4", "\"dpeth\": 4"), &weights);
    assert!(
        err.contains("config.json") && err.contains("dpeth"),
        "{err}"
    );
    let err = run(&config, &weights[..weights.len() / 2]);
    assert!(err.contains("model.safetensors"), "{err}");
    let err = run(&config.replace("\"depth\": 4", "\"depth\": 5"), &weights);
    assert!(err.contains("encoder.blocks.4.norm1.weight"), "{err}");

    let output = infer(&["--checkpoint", "/no/such/folder"]);
    assert!(code(&output) == 1 && text(&output.stderr).contains("/no/such/folder"));
    let output = infer(&["--checkpoint", "hub:nobody"]);
    assert!(code(&output) == 1 && text(&output.stderr).contains("hub:nobody"));
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    let cases: [&[&str]; 15] = [
        &["--nonsense"],
        &["--window", "-1"],
        &["--window", "nan"],
        &["--threads", "0"],
        &["--format", "xml"],
        &["--annotate", "png"],
        &["--trace", "t.safetensors", "--window", "1"],
        &["--faces", "none", "--crop", "face"],
        &["--faces", "none", "--people", "all"],
        &["--faces", "none", "--min-face", "40"],
        &["--min-face", "5"],
        &["--min-seen", "3"],
        &["--resume"],
        &["--out", "o", "--resume", "--force"],
        &["--faces", "mtcnn", "--trace", "t.safetensors"],
    ];
    for args in cases {
        assert_eq!(code(&infer(args)), 2, "{args:?}");
    }
    let output = infer(&["--device", "tpu"]);
    assert!(code(&output) == 1 && text(&output.stderr).contains("tpu"));
    let output = infer(&["--device", "cuda:0"]);
    assert!(
        code(&output) == 1 && text(&output.stderr).contains("cuda:0"),
        "no fallback to the CPU"
    );
}

#[test]
fn a_model_that_gives_no_numbers_gives_no_answer() {
    let checkpoint = with_sampling("uniform");
    let device = mtcae_dfer::Device::Cpu;
    let path = checkpoint.path().join("model.safetensors");
    let mut tensors = mtcae_dfer::model::candle_core::safetensors::load(&path, &device);
    let tensors = tensors.as_mut().expect("read");
    let name = "decoder.heads.expression.fc.bias";
    let bias = (&tensors[name] * f64::NAN).expect("scaled");
    tensors.insert(name.to_owned(), bias);
    mtcae_dfer::model::candle_core::safetensors::save(tensors, &path).expect("written");
    let checkpoint = checkpoint.path().display().to_string();
    for more in [&[][..], &["--window", "1"], &["--crop", "face"]] {
        let portrait = portrait();
        let output = infer(&[&[portrait.as_str(), "--checkpoint", &checkpoint], more].concat());
        let err = text(&output.stderr);
        assert_eq!(code(&output), 1, "{err}");
        assert!(
            err.contains("portrait.mp4") && err.contains("expression"),
            "{err}"
        );
        assert_eq!(text(&output.stdout), "");
    }
}

/// Runs `init` into `out` and gives its config and what it said.
fn init(args: &[&str], out: &Path) -> (mtcae_dfer::model::Config, String) {
    let out_arg = out.display().to_string();
    let output = Command::new(program("init"))
        .args([args, &["--out", &out_arg]].concat())
        .output()
        .expect("started");
    let err = text(&output.stderr);
    assert_eq!(code(&output), 0, "{err}");
    let config = mtcae_dfer::model::checkpoint::load_config(out).expect("a config");
    (config, err)
}

#[test]
fn init_takes_over_preprocessing_or_says_what_it_leaves() {
    let folder = tempfile::tempdir().expect("a folder");
    let own = folder.path().join("own");
    init(&["--size", "tiny"], &own);
    let path = own.join("config.json");
    let config = std::fs::read_to_string(&path).expect("read");
    let config = config.replace("\"uniform\"", "\"dense:2\"");
    let config = config.replace("\"squash\"", "\"shortest-edge\"");
    let config = config.replace("0.485", "0.5");
    std::fs::write(&path, config).expect("written");
    let own_arg = own.display().to_string();
    let (config, said) = init(&["--encoder", &own_arg], &folder.path().join("next"));
    let given = config.preprocessing;
    assert_eq!(
        (given.sampling.as_str(), given.resize.as_str(), given.mean),
        ("dense:2", "shortest-edge", [0.5, 0.456, 0.406])
    );
    assert!(!said.contains("ImageNet"), "{said}");

    let published = fixtures().join("checkpoints/hf-old").display().to_string();
    let (config, said) = init(&["--encoder", &published], &folder.path().join("hf"));
    assert_eq!(config.preprocessing.resize, "squash");
    assert!(
        said.contains("shortest edge of 32 with centre crop of 32x32 is not taken"),
        "{said}"
    );
}

#[test]
fn init_refuses_a_config_that_cannot_work() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("new.json");
    let demo = fixtures().join("demo/checkpoint/config.json");
    let demo = std::fs::read_to_string(demo).expect("read");
    std::fs::write(&file, demo.replace("\"uniform\"", "\"unifrom\"")).expect("written");
    let (file, out) = (
        file.display().to_string(),
        folder.path().join("out").display().to_string(),
    );
    let cases: [(&[&str], &str); 2] = [
        (&["--config", &file], "preprocessing.sampling"),
        (&["--size", "tiny", "--classes", "happy,happy"], "classes"),
    ];
    for (args, field) in cases {
        let output = Command::new(program("init"))
            .args([args, &["--out", &out]].concat())
            .output()
            .expect("started");
        let err = text(&output.stderr);
        assert!(code(&output) == 1 && err.contains(field), "{err}");
        assert!(!Path::new(&out).exists());
    }
}

#[test]
fn init_takes_over_a_pretrained_encoder() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("new").display().to_string();
    let encoder = fixtures()
        .join("checkpoints/videomae-pretrain.pth")
        .display()
        .to_string();
    let output = Command::new(program("init"))
        .args(["--encoder", &encoder, "--out", &out])
        .output()
        .expect("started");
    // A bare .pth says nothing of heads and sizes, and 16 is no published width.
    assert_eq!(code(&output), 1);
    assert!(
        text(&output.stderr).contains("heads"),
        "{}",
        text(&output.stderr)
    );
    let encoder = fixtures().join("checkpoints/hf-old").display().to_string();
    let output = Command::new(program("init"))
        .args(["--encoder", &encoder, "--out", &out])
        .output()
        .expect("started");
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let config = mtcae_dfer::model::checkpoint::load_config(&out).expect("a config");
    assert_eq!(config.encoder.width, 16);
    mtcae_dfer::model::checkpoint::load(&out, &mtcae_dfer::Device::Cpu).expect("a model");
}
