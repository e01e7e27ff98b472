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
            assert_eq!(w.clip.indices, want.indices);
            assert_eq!(w.clip.times, want.times);
            assert_eq!(w.clip.frames, want.frames);
            count += 1;
        }
        let last = 60.0 / 25.0;
        let expected = ((last - length).max(0.0) / stride).ceil() as usize + 1;
        assert_eq!(count, expected, "{length} {stride}");
    }
}
