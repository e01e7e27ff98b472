//! Several views of a video: clips of a multi-clip sampling times squares of three-crop.
#![cfg(feature = "ffmpeg")]
#![allow(clippy::unwrap_used, reason = "helpers of tests, outside #[test]")]

mod common;

use common::{difference, fixture, manifest, number, reference};
use mtcae_core::{Resize, Sampling};
use mtcae_video::{
    Clip, ClipOptions, Fault, FrameResizer, FullFrame, Geometry, Orientation, Video, WindowOptions,
};
use ndarray::{Array3, s};

fn options(sampling: &str, frames: usize, size: u32) -> ClipOptions {
    ClipOptions {
        sampling: sampling.parse().unwrap(),
        resize: Resize::ThreeCrop,
        frames,
        size: (size, size),
        ..Default::default()
    }
}

fn clips(name: &str, options: &ClipOptions) -> Vec<Clip> {
    Video::open(fixture(name)).unwrap().clips(options).unwrap()
}

fn full_frames(name: &str) -> Vec<FullFrame> {
    let frames = Video::open(fixture(name)).unwrap().frames().unwrap();
    frames.map(Result::unwrap).collect()
}

/// The square of `side` pixels that begins `at` pixels along the longer side.
fn square(frame: &Array3<u8>, at: usize, side: usize) -> Array3<u8> {
    let (h, w, _) = frame.dim();
    let part = match w > h {
        true => frame.slice(s![.., at..at + side, ..]),
        false => frame.slice(s![at..at + side, .., ..]),
    };
    part.to_owned()
}

/// Where the short side is the clip's already, squares are pixels of the frame: of the
/// very frame that is decoded at full size, which is PyAV's within a level on average
/// (pixels of pictures and lossless videos are the same).
#[test]
fn squares_are_pixels_of_pyavs_frames() {
    let manifest = manifest();
    let bytes = reference();
    let mut lossless = 0;
    for (name, entry) in manifest["files"].as_object().unwrap() {
        let Some(sizes) = entry["reference"].as_array() else {
            continue;
        };
        // Frames of other sizes, of wide pixels and of changing sizes have tests of their own.
        if sizes.is_empty()
            || sizes.iter().any(|r| number(&r["width"]) != 64)
            || ["sar.mp4", "sizes.h264"].contains(&name.as_str())
        {
            continue;
        }
        let full = full_frames(name);
        let views = clips(name, &options("all", 1, 48));
        assert_eq!(views.len(), 3, "{name}");
        for (view, at) in views.iter().zip([0, 8, 16]) {
            assert_eq!(view.len(), full.len(), "{name}");
            let shown = view
                .source
                .crop
                .unwrap_or_else(|| panic!("{name}: {:?}", view.source));
            let turned = view.source.orientation.transposes();
            let corner = if turned {
                (0.0, at as f64)
            } else {
                (at as f64, 0.0)
            };
            assert_eq!((shown.x, shown.y), corner, "{name}");
            assert_eq!((shown.width, shown.height), (48.0, 48.0), "{name}");
            for (frame, whole) in view.frames.outer_iter().zip(&full) {
                assert_eq!(frame, square(&whole.pixels, at, 48), "{name}");
            }
            for r in sizes {
                if view.source.orientation != Orientation::default() {
                    // Reference frames are before rotation.
                    continue;
                }
                let from = number(&r["offset"]);
                let pyav = bytes[from..from + 64 * 48 * 3].to_vec();
                let pyav = Array3::from_shape_vec((48, 64, 3), pyav).unwrap();
                let want = square(&pyav, at, 48);
                let got = view.frame(number(&r["frame"])).unwrap().to_owned();
                let (mean, max) = difference(got.as_slice().unwrap(), want.as_slice().unwrap());
                assert!(mean <= 1.0, "{name}: mean {mean}");
                if ["still.png", "still.bmp", "gray.mkv"].contains(&name.as_str()) {
                    assert_eq!(max, 0, "{name}");
                    lossless += 1;
                }
            }
        }
    }
    assert_eq!(lossless, 12);
}

/// Elsewhere they are what is cut out of the resized frame, as VideoMAE does; one
/// pixel's level may be rounded otherwise.
#[test]
fn squares_are_cut_out_of_the_resized_frame() {
    for (name, wide) in [
        ("bframes.mp4", true),
        ("rot90.mp4", false),
        ("rot270.mp4", false),
    ] {
        let full = full_frames(name);
        // int(21 * 64 / 48) pixels along the long side, int(k * (28 - 21) / 2) of them cut off.
        let size = if wide { (28, 21) } else { (21, 28) };
        let views = clips(name, &options("uniform", 4, 21));
        assert_eq!(views.len(), 3);
        for (view, at) in views.iter().zip([0, 3, 7]) {
            for (frame, &index) in view.frames.outer_iter().zip(&view.indices) {
                let mut resizer = FrameResizer::default();
                let whole = &full[index as usize];
                let (resized, _) = whole.part(&Resize::Squash, size, &mut resizer).unwrap();
                let want = square(&resized, at, 21);
                let got = frame.to_owned();
                let (mean, max) = difference(got.as_slice().unwrap(), want.as_slice().unwrap());
                // Turned after the resize, not before.
                let most = if wide { 0.1 } else { 0.2 };
                assert!(max <= 1 && mean < most, "{name}: mean {mean}, max {max}");
            }
        }
    }
}

#[test]
fn a_square_frame_has_one_view() {
    // One pixel; and a frame of the clip's own shape.
    let one = clips("one.mkv", &options("uniform", 2, 16));
    assert_eq!(one.len(), 1);
    assert_eq!(one[0].source.crop, None);
    let plain = ClipOptions {
        resize: Resize::Squash,
        ..options("uniform", 2, 16)
    };
    assert_eq!(one[0].frames, clips("one.mkv", &plain)[0].frames);
    let whole = ClipOptions {
        size: (64, 48),
        ..options("multi-clip:2x4", 2, 16)
    };
    assert_eq!(clips("bframes.mp4", &whole).len(), 2);
}

/// For each clip of the sampling all squares, each frame being decoded once.
#[test]
fn clips_come_before_crops() {
    let options = options("multi-clip:2x4", 3, 48);
    assert_eq!(options.most_views(), 6);
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let shown = seen.clone();
    let video = Video::open(fixture("bframes.mp4")).unwrap();
    let mut video = video.watched_by(move |frame| shown.lock().unwrap().push(frame.index));
    let views = video.clips(&options).unwrap();
    let got: Vec<(Vec<u64>, f64)> = views
        .iter()
        .map(|v| (v.indices.clone(), v.source.crop.unwrap().x))
        .collect();
    let (first, last) = (vec![0, 4, 8], vec![48, 52, 56]);
    let want: Vec<_> = [first, last]
        .into_iter()
        .flat_map(|clip| [0.0, 8.0, 16.0].map(|x| (clip.clone(), x)))
        .collect();
    assert_eq!(got, want);
    let mut seen = seen.lock().unwrap().clone();
    seen.sort_unstable();
    assert_eq!(seen, [0, 4, 8, 48, 52, 56]);
    let full = full_frames("bframes.mp4");
    assert_eq!(views[4].frame(1).unwrap(), square(&full[52].pixels, 8, 48));
    assert_eq!(views[4].times[1], full[52].time);
}

/// Planned ahead, or of a stream without time stamps.
#[test]
fn windows_have_the_views_of_their_clips() {
    for name in ["bframes.mp4", "raw.h264", "vfr.mkv", "rot90.mp4"] {
        let clip = options("multi-clip:2x2", 3, 24);
        let windowing = WindowOptions {
            length: 0.5,
            stride: 0.3,
            clip: clip.clone(),
        };
        let mut windows = 0;
        for w in Video::open(fixture(name))
            .unwrap()
            .windows(&windowing)
            .unwrap()
        {
            let w = w.unwrap();
            let between = ClipOptions {
                start: Some(w.start),
                end: Some(w.end),
                ..clip.clone()
            };
            let want = clips(name, &between);
            assert_eq!((w.views.len(), want.len()), (6, 6), "{name}");
            for (got, want) in w.views.iter().zip(&want) {
                assert_eq!(got.indices, want.indices, "{name}");
                assert_eq!(got.times, want.times, "{name}");
                assert_eq!(got.source, want.source, "{name}");
                assert_eq!(got.frames, want.frames, "{name}");
            }
            windows += 1;
        }
        assert!(windows > 2, "{name}");
    }
}

/// Each frame is cut in its own way where the picture's size changes.
#[test]
fn every_size_of_a_stream_is_cut() {
    let views = clips("sizes.h264", &options("all", 1, 24));
    assert_eq!(views.len(), 3);
    let full = full_frames("sizes.h264");
    for (k, view) in views.iter().enumerate() {
        assert!(
            view.warnings
                .iter()
                .any(|w| w.to_string().contains("size changes"))
        );
        for (frame, whole) in view.frames.outer_iter().zip(&full) {
            let (w, h) = (whole.source.width, whole.source.height);
            let long = 24 * w / h;
            let mut resizer = FrameResizer::default();
            let resized = whole.part(&Resize::Squash, (long, 24), &mut resizer);
            let want = square(&resized.unwrap().0, k * (long as usize - 24) / 2, 24);
            let got = frame.to_owned();
            let (_, max) = difference(got.as_slice().unwrap(), want.as_slice().unwrap());
            assert!(max <= 1, "{w}x{h}: {max}");
        }
    }
}

/// The centred square of 224/256 of the short side, and the whole of it for 1.
#[test]
fn a_shortest_edge_can_be_larger_than_the_crop() {
    let with = |resize: &str, size| ClipOptions {
        resize: resize.parse().unwrap(),
        sampling: Sampling::Uniform,
        size: (size, size),
        ..Default::default()
    };
    let one = |options: &ClipOptions| clips("bframes.mp4", options).remove(0);
    // 42 of 48 rows, at the size that they have.
    let clip = one(&with("shortest-edge:256/224", 42));
    let full = full_frames("bframes.mp4");
    let shown = clip.source.shown();
    assert_eq!(
        (shown.x, shown.y, shown.width, shown.height),
        (11.0, 3.0, 42.0, 42.0)
    );
    for (frame, &index) in clip.frames.outer_iter().zip(&clip.indices) {
        let want = full[index as usize].pixels.slice(s![3..45, 11..53, ..]);
        assert_eq!(frame, want);
    }
    let plain = one(&with("shortest-edge", 24));
    let same = one(&with("shortest-edge:224/224", 24));
    assert_eq!((plain.source, &plain.frames), (same.source, &same.frames));
}

#[test]
fn one_clip_cannot_hold_three_crops() {
    let mut video = Video::open(fixture("bframes.mp4")).unwrap();
    let error = video.clip(&options("uniform", 4, 24)).unwrap_err();
    assert!(
        matches!(
            error.fault,
            Fault::Option {
                option: "resize",
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("three-crop"), "{error}");
    // 60 frames, three times.
    let many = ClipOptions {
        max_frames: 179,
        ..options("all", 1, 24)
    };
    let error = video.clips(&many).unwrap_err();
    assert!(
        matches!(
            error.fault,
            Fault::TooManyFrames {
                frames: 180,
                limit: 179
            }
        ),
        "{error}"
    );
    let part = Geometry::plain(64, 48).part(&Resize::ThreeCrop, (48, 48));
    assert!(part.unwrap_err().contains("several parts"));
}
