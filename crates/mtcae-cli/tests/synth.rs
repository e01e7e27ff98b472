//! `synth` as a person runs it.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Output;

use mtcae_core::files::sha256;
use mtcae_labels::dataset::ravdess;
use mtcae_labels::labels::{LabelReader, LabelledClip};

use common::{program, text};

fn run(args: &[&str]) -> Output {
    program("synth").args(args).output().expect("started")
}

fn clips(file: &Path) -> Vec<LabelledClip> {
    let reader = LabelReader::open(file).expect("labels");
    reader.map(|clip| clip.expect("a label")).collect()
}

/// All files below a folder, by name, with their hashes.
fn contents(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(contents(&path));
        } else {
            files.insert(path.clone(), sha256(&path).expect("read"));
        }
    }
    files
}

const SMALL: [&str; 7] = [
    "--identities",
    "5",
    "--frames",
    "3",
    "--size",
    "128",
    "--quiet",
];

#[test]
fn a_dataset_is_rendered_labelled_resumed_and_never_overwritten() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("faces");
    let root = out.display().to_string();
    let sheet = folder.path().join("sheet.png");
    let with = |extra: &[&'static str]| -> Output {
        let mut args = vec![root.as_str()];
        args.extend(SMALL);
        args.extend(extra);
        run(&args)
    };
    let first = with(&[]);
    assert!(first.status.success(), "{}", text(&first.stderr));
    let labels = out.join("labels.jsonl");
    let written = clips(&labels);
    assert_eq!(written.len(), 5 * 22);
    let mut subjects = BTreeMap::new();
    for clip in &written {
        let path = out.join(&clip.file);
        assert_eq!(clip.sha256, Some(sha256(&path).expect("a file")));
        assert_eq!(clip.settings.detector.name, "rendered");
        assert_eq!(clip.frames.len(), 3);
        let track = clip.subject_track().expect("a face");
        assert_eq!(track.faces.len(), 3);
        subjects.insert(clip.subject.clone(), clip.fold.expect("a fold"));
    }
    // Five subjects in five folds.
    let used: BTreeSet<u32> = subjects.values().copied().collect();
    assert_eq!((subjects.len(), used.len()), (5, 5));

    // The first two intensities are where the reader of RAVDESS looks for them.
    let options = ravdess::Options {
        classes: ravdess::Classes::Eight,
        ..ravdess::Options::default()
    };
    let read = ravdess::read(&out, &options).expect("readable");
    assert_eq!(read.samples.len(), 5 * (1 + 2 * 7));
    for sample in &read.samples {
        let same = written.iter().find(|c| c.file == sample.file);
        let same = same.expect("labelled");
        assert_eq!(
            (&same.class, &same.subject),
            (&sample.class, &sample.subject)
        );
        assert_eq!(same.sex, sample.sex);
    }

    let whole = contents(&out);
    let again = with(&[]);
    assert!(!again.status.success());
    assert!(
        text(&again.stderr).contains("not empty"),
        "{}",
        text(&again.stderr)
    );
    let other = with(&["--resume", "--seed", "2"]);
    assert!(!other.status.success());
    assert!(
        text(&other.stderr).contains("other settings"),
        "{}",
        text(&other.stderr)
    );
    let other = with(&["--resume", "--folds", "2"]);
    let said = text(&other.stderr);
    assert!(
        !other.status.success() && said.contains("labels.jsonl: cannot resume: line"),
        "{said}"
    );
    assert_eq!(contents(&out), whole);

    // Killed in the middle of a line: the rest is rendered again, to the bit.
    let bytes = std::fs::read(&labels).expect("labels");
    std::fs::write(&labels, &bytes[..bytes.len() / 2]).expect("cut");
    std::fs::remove_file(out.join(&written[100].file)).expect("removed");
    let resumed = with(&["--resume", "--jobs", "3"]);
    assert!(resumed.status.success(), "{}", text(&resumed.stderr));
    assert_eq!(contents(&out), whole);

    let path = sheet.display().to_string();
    let drawn = run(&["--sheet", &path, "--rows", "2", "--size", "64", "--truth"]);
    assert!(drawn.status.success(), "{}", text(&drawn.stderr));
    assert!(sheet.metadata().expect("a sheet").len() > 10_000);
}

#[test]
fn a_file_says_what_flags_say() {
    let folder = tempfile::tempdir().expect("a folder");
    let (out, other) = (folder.path().join("faces"), folder.path().join("others"));
    let file = folder.path().join("faces.toml");
    let say = |more: &str| {
        let out = out.display();
        let text = format!("out = '{out}'\nidentities = 5\nframes = 3\nquiet = true\n{more}\n");
        std::fs::write(&file, text).expect("written");
    };
    let path = file.display().to_string();
    let elsewhere = other.display().to_string();
    say("size = 128");
    let flags = ["--config", &path, &elsewhere, "--frames", "2"];
    let output = run(&flags);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let written = clips(&other.join("labels.jsonl"));
    assert_eq!((written.len(), written[0].frames.len()), (5 * 22, 2));
    assert!(!out.exists());
    for (more, words) in [
        (
            "sise = 128",
            "faces.toml: sise: no such argument of mtcae synth",
        ),
        ("size = \"big\"", "faces.toml: size: invalid value 'big'"),
        ("size = 20", "width"),
        ("truth = true", "--sheet"),
    ] {
        say(more);
        let output = run(&["--config", &path]);
        let said = text(&output.stderr);
        assert!(
            !output.status.success() && said.contains(words),
            "{more}: {said}"
        );
        assert!(!out.exists(), "nothing was begun: {said}");
    }
}

#[test]
fn no_flag_is_accepted_and_ignored() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (out, sheet) = (at("faces"), at("sheet.png"));
    for (flags, words) in [
        (&[&out[..], "--rows", "2"][..], "--sheet <FILE.png>"),
        (&[&out, "--truth"], "--sheet <FILE.png>"),
        (&["--sheet", &sheet, "--resume"], "OUT"),
        (&["--sheet", &sheet, "--folds", "2"], "OUT"),
        (&["--sheet", &sheet, "--check", "2"], "OUT"),
    ] {
        let output = run(flags);
        let said = text(&output.stderr);
        assert!(
            !output.status.success() && said.contains(words),
            "{flags:?}: {said}"
        );
    }
    assert!(!Path::new(&out).exists() && !Path::new(&sheet).exists());
}

#[test]
fn what_cannot_be_rendered_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("faces").display().to_string();
    for (args, word) in [
        (["--size", "20"], "width"),
        (["--frames", "0"], "frames"),
        (["--fps", "1000"], "fps"),
        (["--identities", "2"], "folds"),
    ] {
        let output = run(&[&out, args[0], args[1]]);
        let said = text(&output.stderr);
        assert!(!output.status.success() && said.contains(word), "{said}");
        assert!(!Path::new(&out).exists(), "nothing was begun: {said}");
    }
}
