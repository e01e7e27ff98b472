//! Clips written and read again.
#![cfg(feature = "ffmpeg")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests, outside #[test]"
)]

use mtcae_video::{ClipOptions, ClipWriter, Video, WindowOptions, WriterOptions};
use ndarray::Array3;

fn picture(w: usize, h: usize, t: usize) -> Array3<u8> {
    Array3::from_shape_fn((h, w, 3), |(y, x, c)| match c {
        0 => (x * 255 / w.max(2)) as u8,
        1 => (y * 255 / h.max(2)) as u8,
        _ => (t * 5 % 256) as u8,
    })
}

fn write(path: &std::path::Path, w: usize, h: usize, n: usize, encoder: Option<&str>) -> String {
    let mut options = WriterOptions::new(w as u32, h as u32);
    options.encoder = encoder.map(Into::into);
    let mut writer = ClipWriter::create(path, &options).unwrap();
    for i in 0..n {
        writer
            .write(&picture(w, h, i).view(), i as f64 / 25.0)
            .unwrap();
    }
    let name = writer.encoder_name().to_string();
    writer.finish().unwrap();
    name
}

#[test]
fn round_trip_in_every_container() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a.mp4", "b.mov", "c.mkv"] {
        let path = dir.path().join(name);
        let encoder = write(&path, 64, 48, 30, None);
        assert!(["libx264", "libopenh264", "mpeg4"].contains(&encoder.as_str()));
        let mut video = Video::open(&path).unwrap();
        assert_eq!(video.frame_count().unwrap(), 30, "{name}");
        let options = ClipOptions {
            size: (64, 48),
            ..Default::default()
        };
        let clip = video.clip(&options).unwrap();
        assert_eq!(clip.warnings, [], "{name} {:?}", video.info());
        for (i, &index) in clip.indices.iter().enumerate() {
            assert_eq!(index, i as u64 * 30 / 16);
            assert!((clip.times[i] - index as f64 / 25.0).abs() < 1e-3, "{name}");
            let want = picture(64, 48, index as usize);
            let mean = clip
                .frame(i)
                .unwrap()
                .iter()
                .zip(&want)
                .map(|(a, b)| f64::from(a.abs_diff(*b)))
                .sum::<f64>()
                / want.len() as f64;
            assert!(mean < 4.0, "{name} frame {index}: {mean}");
        }
    }
    // Nothing but the three files is left.
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
}

#[test]
fn windows_are_the_clips_of_their_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.mp4");
    write(&path, 32, 32, 60, None);
    for (length, stride) in [(1.0, 0.5), (0.6, 0.9), (10.0, 1.0)] {
        let options = WindowOptions {
            length,
            stride,
            clip: ClipOptions {
                size: (16, 16),
                ..Default::default()
            },
        };
        let windows = Video::open(&path).unwrap().windows(&options).unwrap();
        let mut count = 0;
        for w in windows {
            let w = w.unwrap();
            let want = Video::open(&path)
                .unwrap()
                .clip(&ClipOptions {
                    start: Some(w.start),
                    end: Some(w.end),
                    ..options.clip.clone()
                })
                .unwrap();
            assert_eq!(w.views[0].indices, want.indices);
            assert_eq!(w.views[0].times, want.times);
            assert_eq!(w.views[0].frames, want.frames);
            count += 1;
        }
        let last = 60.0 / 25.0;
        let expected = ((last - length).max(0.0) / stride).ceil() as usize + 1;
        assert_eq!(count, expected, "{length} {stride}");
    }
}

/// swscale reads rows in whole vectors: what lies in memory behind a frame is none of
/// the file's business.
#[test]
fn what_lies_behind_a_frame_does_not_reach_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for (side, behind) in [(96, 0u8), (96, 255), (33, 0), (33, 255)] {
        let path = dir.path().join(format!("{side}-{behind}.mp4"));
        let options = WriterOptions {
            crf: 0,
            threads: 1,
            ..WriterOptions::new(side as u32, side as u32)
        };
        let mut writer = ClipWriter::create(&path, &options).unwrap();
        for t in 0..3 {
            let mut memory: Vec<u8> = picture(side, side, t).into_iter().collect();
            let length = memory.len();
            memory.resize(length + 256, behind);
            let view = ndarray::ArrayView3::from_shape((side, side, 3), &memory[..length]);
            writer.write(&view.unwrap(), t as f64 / 25.0).unwrap();
        }
        writer.finish().unwrap();
        files.push(std::fs::read(&path).unwrap());
    }
    assert!(files[0] == files[1] && files[2] == files[3]);
}

/// Frames keep their own times, whatever their rate and however close they are.
#[test]
fn variable_rates_keep_their_times() {
    let dir = tempfile::tempdir().unwrap();
    let close = [0.0, 1e-6, 0.04, 0.040_002, 0.5, 1.394_4, 1.394_401, 7.0];
    let mut film = vec![(close.to_vec(), (3_628_800, 502_589), 1e-5)];
    let frames = Video::open(format!(
        "{}/../../fixtures/video/vfr.mkv",
        env!("CARGO_MANIFEST_DIR")
    ));
    let frames = frames.unwrap().frames().unwrap();
    let rate = frames.video().info().frame_rate;
    let times: Vec<f64> = frames.map(|f| f.unwrap().time).collect();
    let steps: std::collections::BTreeSet<u64> = times
        .windows(2)
        .map(|t| ((t[1] - t[0]) * 1e3).round() as u64)
        .collect();
    assert!(steps.len() > 3, "{steps:?}");
    film.push((times, rate, 1e-9));
    film.push((vec![0.0, 1e-4], (u32::MAX, 1), 1e-5));
    film.push((vec![0.0, 3600.0], (1, u32::MAX), 1e-5));
    for (times, fps, exact) in film {
        for encoder in ["libx264", "mpeg4"] {
            let path = dir.path().join("a.mp4");
            let options = WriterOptions {
                fps,
                encoder: Some(encoder.into()),
                ..WriterOptions::new(32, 32)
            };
            let mut writer = ClipWriter::create(&path, &options).unwrap();
            for (i, time) in times.iter().enumerate() {
                writer.write(&picture(32, 32, i).view(), *time).unwrap();
            }
            writer.finish().unwrap();
            let exact = if encoder == "mpeg4" { 3.4e-5 } else { exact };
            let read = Video::open(&path).unwrap().frames().unwrap();
            let read: Vec<f64> = read.map(|f| f.unwrap().time).collect();
            assert_eq!(read.len(), times.len());
            for (got, want) in read.iter().zip(&times) {
                assert!(
                    (got - want).abs() <= exact,
                    "{encoder} {fps:?}: {got} {want}"
                );
            }
        }
    }
    // The message is a person's.
    let mut writer =
        ClipWriter::create(dir.path().join("b.mp4"), &WriterOptions::new(32, 32)).unwrap();
    writer.write(&picture(32, 32, 0).view(), 1.5).unwrap();
    let error = writer.write(&picture(32, 32, 1).view(), 1.25).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("a frame at 1.25 s after one at 1.5 s; times must grow"),
        "{error}"
    );
}
