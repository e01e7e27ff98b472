//! What the tests of the training programs share: rendered clips, a tiny model,
//! runs.

#![allow(dead_code, reason = "each test file uses some of it")]

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use mtcae_dfer::model::Config;
use mtcae_dfer::model::decoder::{Config as DecoderConfig, Structure};
use mtcae_dfer::model::encoder::VideoMaeConfig;
use mtcae_train::log::{Line, read};

pub const MTCAE: &str = env!("CARGO_BIN_EXE_mtcae");

/// `mtcae` with a subcommand.
pub fn program(name: &str) -> Command {
    let mut command = Command::new(MTCAE);
    command.arg(name);
    command
}

pub fn run(name: &str, args: &[&str]) -> Output {
    let mut command = program(name);
    command.args(args).current_dir(std::env::temp_dir());
    command.output().expect("started")
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn done(name: &str, args: &[&str]) -> String {
    let output = run(name, args);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{name} {args:?}: {said}");
    text(&output.stdout)
}

/// One clear line and exit code 1.
pub fn refused(name: &str, args: &[&str]) -> String {
    let output = run(name, args);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{name} {args:?}: {said}");
    assert!(
        said.starts_with("error: ") && said.lines().count() == 1,
        "{name} {args:?}: {said}"
    );
    said
}

/// Rendered clips of three actors, and a tiny untrained model.
pub struct Material {
    pub labels: String,
    pub checkpoint: String,
}

pub fn material() -> &'static Material {
    static MATERIAL: OnceLock<Material> = OnceLock::new();
    MATERIAL.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(env!("CARGO_CRATE_NAME"));
        if folder.exists() {
            std::fs::remove_dir_all(&folder).expect("emptied");
        }
        std::fs::create_dir_all(&folder).expect("made");
        let at = |name: &str| folder.join(name).display().to_string();
        let clips = at("clips");
        done(
            "synth",
            &[
                &clips,
                "--identities",
                "3",
                "--folds",
                "3",
                "--size",
                "64",
                "--frames",
                "5",
                "--fps",
                "8",
                "--quiet",
            ],
        );
        let all = std::fs::read_to_string(folder.join("clips/labels.jsonl")).expect("labels");
        let two = ["\"class\":\"happy\"", "\"class\":\"sad\""];
        let kept = all.lines().filter(|l| two.iter().any(|c| l.contains(c)));
        let kept: String = kept.flat_map(|l| [l, "\n"]).collect();
        assert_eq!(kept.lines().count(), 3 * 6);
        std::fs::write(folder.join("clips/two.jsonl"), kept).expect("written");
        std::fs::write(
            folder.join("tiny.json"),
            serde_json::to_string(&tiny()).expect("JSON"),
        )
        .expect("written");
        let checkpoint = at("checkpoint");
        done(
            "init",
            &["--config", &at("tiny.json"), "--out", &checkpoint],
        );
        Material {
            labels: at("clips/two.jsonl"),
            checkpoint,
        }
    })
}

pub fn tiny() -> Config {
    let encoder = VideoMaeConfig {
        image_size: 32,
        frames: 4,
        width: 24,
        depth: 2,
        heads: 3,
        hidden: 48,
        ..VideoMaeConfig::small()
    };
    let classes = vec!["happy".to_owned(), "sad".to_owned()];
    let config = Config::new(encoder, Structure::Cascade, classes);
    Config {
        decoder: DecoderConfig {
            width: 16,
            depth: 2,
            heads: 2,
            head_dim: 8,
            mlp_ratio: 2.0,
            ..config.decoder
        },
        ..config
    }
}

/// What every run here has in common.
pub const SETTINGS: &[&str] = &[
    "--quiet",
    "--folds",
    "3",
    "--epochs",
    "2",
    "--batch",
    "4",
    "--validation",
    "0.3",
];

pub fn arguments<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let Material { labels, checkpoint } = material();
    let mut args = vec!["--labels", labels, "--checkpoint", checkpoint, "--out", out];
    args.extend(SETTINGS);
    for more in more.chunks(2) {
        // A later flag takes the place of an earlier one.
        if let Some(at) = args.iter().position(|a| *a == more[0]) {
            args.drain(at..at + 2);
        }
        args.extend(more);
    }
    args
}

/// Every random number and every kind of state in play.
pub const BUSY: &[&str] = &[
    "--epochs",
    "6",
    "--batch",
    "2",
    "--accumulate",
    "2",
    "--tune",
    "all",
    "--save-every",
    "1",
    "--ema",
    "0.9",
    "--mixup",
    "0.8",
    "--drop-path",
    "0.2",
    "--flip",
    "true",
    "--crop",
    "0.7",
    "--lr",
    "0.003",
    "--fold",
    "0",
    "--workers",
    "2",
];

/// Starts `train` and kills it, as kill -9 does, when its log has this many lines;
/// whether it was still running.
pub fn killed_at(args: &[&str], log: &Path, lines: usize) -> bool {
    killed_while("train", args, log, lines)
}

/// As [`killed_at`], of another program.
pub fn killed_while(name: &str, args: &[&str], log: &Path, lines: usize) -> bool {
    let mut child = program(name)
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let since = Instant::now();
    let count = || std::fs::read(log).map_or(0, |b| b.iter().filter(|c| **c == b'\n').count());
    while count() < lines && child.try_wait().expect("asked").is_none() {
        assert!(since.elapsed() < Duration::from_secs(60), "no line {lines}");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().expect("killed");
    let output = child.wait_with_output().expect("ended");
    let said = text(&output.stderr);
    assert!(output.status.code().is_none_or(|c| c == 0), "{said}");
    output.status.code().is_none()
}

/// All of the log but what a clock says.
pub fn log(out: &str) -> Vec<Line> {
    let mut lines = read(Path::new(out).join("metrics.jsonl")).expect("a log");
    for line in &mut lines {
        if let Line::Epoch(line) = line {
            (line.seconds, line.waiting, line.clips_per_second) = (0.0, 0.0, 0.0);
            line.parts = None;
        }
    }
    lines
}

pub fn bytes(out: &str, name: &str) -> Vec<u8> {
    let path = Path::new(out).join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
