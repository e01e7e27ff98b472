//! Speed and memory on a long video of one's own; run by hand:
//!
//! ```text
//! MTCAE_LONG_VIDEO=ten.mp4 cargo test --release -p mtcae-video --test long -- --ignored --nocapture --test-threads 1
//! ```
#![cfg(all(feature = "ffmpeg", target_os = "linux"))]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests, outside #[test]"
)]

use std::time::Instant;

use mtcae_video::{ClipOptions, Normalization, Video, WindowOptions};

fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<f64>()
        .unwrap()
        / 1024.0
}

fn path() -> String {
    std::env::var("MTCAE_LONG_VIDEO").expect("set MTCAE_LONG_VIDEO to a video file")
}

#[test]
#[ignore = "needs MTCAE_LONG_VIDEO"]
fn windows() {
    for (length, stride) in [(2.0, 10.0), (2.0, 2.0), (2.0, 1.0)] {
        let start = Instant::now();
        let options = WindowOptions {
            length,
            stride,
            clip: ClipOptions::default(),
        };
        let windows = Video::open(path()).unwrap().windows(&options).unwrap();
        let mut n = 0;
        for w in windows {
            assert_eq!(w.unwrap().views[0].len(), 16);
            n += 1;
        }
        println!(
            "windows of {length} s every {stride} s: {n} in {:.2?}, peak {:.0} MiB",
            start.elapsed(),
            peak_mib()
        );
    }
}

#[test]
#[ignore = "needs MTCAE_LONG_VIDEO"]
fn clips() {
    for (start, end) in [(None, None), (None, Some(4.0)), (Some(300.0), Some(304.0))] {
        let t = Instant::now();
        let mut video = Video::open(path()).unwrap();
        let opened = t.elapsed();
        let count = video.frame_count().unwrap();
        let scanned = t.elapsed();
        let clip = video
            .clip(&ClipOptions {
                start,
                end,
                ..Default::default()
            })
            .unwrap();
        let decoded = t.elapsed();
        let tokens = clip.tubes(&Normalization::IMAGENET).unwrap();
        let done = t.elapsed();
        println!(
            "{start:?}..{end:?}: open {opened:.2?}, scan of {count} {:.2?}, clip {:.2?}, tubes {:?} {:.2?}, peak {:.0} MiB",
            scanned - opened,
            decoded - scanned,
            tokens.dim(),
            done - decoded,
            peak_mib()
        );
    }
}
