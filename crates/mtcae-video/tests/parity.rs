//! Frames, counts and times against PyAV's; colours against computed charts;
//! turned pictures against OpenCV's. Numbers: fixtures/video/make.py.
#![cfg(feature = "ffmpeg")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests, outside #[test]"
)]

mod common;

use common::{difference, fixture, manifest, number, reference};
use mtcae_core::Sampling;
use mtcae_video::{ClipOptions, OpenOptions, Video, Warning};

/// PyAV (17 and newer) decodes with another FFmpeg than the one linked here;
/// the pictures may differ by rounding in the transforms: mean 1 level.
#[test]
fn frames_counts_and_times_are_pyavs() {
    let manifest = manifest();
    let bytes = reference();
    let mut failures = Vec::new();
    for (name, entry) in manifest["files"].as_object().unwrap() {
        let Some(count) = entry["frames"].as_u64() else {
            continue;
        };
        let mut frames = Video::open(fixture(name)).unwrap().frames().unwrap();
        let mut n = 0;
        let mut worst = 0.0f64;
        let mut late = 0.0f64;
        for frame in frames.by_ref() {
            let frame = frame.unwrap();
            assert_eq!(frame.index, n);
            if let Some(t) = entry["times"].get(n as usize) {
                late = late.max((t.as_f64().unwrap() - frame.time).abs());
            }
            for r in entry["reference"].as_array().unwrap() {
                // Reference frames are before rotation.
                if r["frame"].as_u64() == Some(n) && frame.source.orientation == Default::default()
                {
                    let (w, h) = (number(&r["width"]), number(&r["height"]));
                    let at = number(&r["offset"]);
                    assert_eq!(frame.pixels.dim(), (h, w, 3), "{name}");
                    let got = frame.pixels.as_slice().unwrap();
                    worst = worst.max(difference(got, &bytes[at..at + w * h * 3]).0);
                }
            }
            n += 1;
        }
        println!(
            "{name}: {n} frames, mean {worst:.4}, times {late:.2e} {:?}",
            frames.warnings()
        );
        // Time stamps are printed to nine digits.
        if n != count || worst > 1.0 || late > 1e-6 {
            failures.push(format!(
                "{name}: {n} frames for {count}, mean {worst}, times {late}"
            ));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// The packet count equals what decodes, and sparse decoding (skipped
/// stretches, skipped B-frames, any number of threads, cached or not) gives
/// the very frames of decoding everything.
#[test]
fn sparse_clips_equal_full_decoding() {
    let manifest = manifest();
    for (name, entry) in manifest["files"].as_object().unwrap() {
        let Some(count) = entry["frames"].as_u64() else {
            continue;
        };
        if name == "wide.mp4" {
            continue;
        }
        let open = |threads, cache_bytes| {
            let options = OpenOptions {
                threads,
                cache_bytes,
                ..Default::default()
            };
            Video::open_with(fixture(name), &options).unwrap()
        };
        let size = (24, 18);
        let all = open(1, 1 << 20)
            .clip(&ClipOptions {
                sampling: Sampling::All,
                size,
                ..Default::default()
            })
            .unwrap();
        assert_eq!(all.len() as u64, count, "{name}");
        assert_eq!(open(1, 0).frame_count().unwrap(), count, "{name}");
        for (threads, cache) in [(1, 0), (2, 1 << 20), (4, 1 << 20), (3, 0)] {
            for (sampling, frames) in [
                (Sampling::Uniform, 16),
                (Sampling::Uniform, 3),
                (Sampling::Authors, 16),
            ] {
                let clip = open(threads, cache)
                    .clip(&ClipOptions {
                        sampling,
                        frames,
                        size,
                        ..Default::default()
                    })
                    .unwrap();
                assert_eq!(clip.indices, sampling.indices(count, frames), "{name}");
                for (i, &index) in clip.indices.iter().enumerate() {
                    let index = index as usize;
                    assert_eq!(clip.times[i], all.times[index], "{name}");
                    assert!(
                        clip.frame(i).unwrap() == all.frame(index).unwrap(),
                        "{name}: frame {index}, {threads} threads, cache {cache}"
                    );
                }
            }
        }
    }
}

/// Bars of known colours, made by the standards' formulas. The 8-bit codes
/// quantise by half a level of Y, Cb and Cr, whose largest effect on a
/// channel is 0.5·(255/219 + 1.8556·255/224) ≈ 1.7; swscale rounds once more.
#[test]
fn charts_show_their_colours() {
    let manifest = manifest();
    for name in [
        "chart601limited",
        "chart601full",
        "chart709limited",
        "chart709full",
    ] {
        let name = format!("{name}.mkv");
        let mut frames = Video::open(fixture(&name)).unwrap().frames().unwrap();
        let frame = frames.next().unwrap().unwrap();
        for (i, bar) in manifest["files"][&name]["bars"]
            .as_array()
            .unwrap()
            .iter()
            .enumerate()
        {
            for c in 0..3 {
                let want = bar[c].as_i64().unwrap();
                let got = i64::from(frame.pixels[[24, i * 8 + 4, c]]);
                assert!(
                    (want - got).abs() <= 3,
                    "{name} bar {i} channel {c}: {got} for {want}"
                );
            }
        }
        assert_eq!(frames.warnings(), []);
    }
}

#[test]
fn turned_pictures_stand_upright() {
    let manifest = manifest();
    for (name, rotation) in [("rot90.mp4", 90), ("rot180.mp4", 180), ("rot270.mp4", 270)] {
        let upright = &manifest["files"][name]["upright"];
        let mut video = Video::open(fixture(name)).unwrap();
        assert_eq!(video.info().geometry.rotation(), rotation, "{name}");
        let (w, h) = (number(&upright["width"]), number(&upright["height"]));
        let g = video.info().geometry;
        assert_eq!((g.width as usize, g.height as usize), (w, h));
        // Resized to its own size, so turned after resizing.
        let clip = video
            .clip(&ClipOptions {
                size: (w as u32, h as u32),
                frames: 1,
                ..Default::default()
            })
            .unwrap();
        let full = Video::open(fixture(name))
            .unwrap()
            .frames()
            .unwrap()
            .next()
            .unwrap()
            .unwrap();
        let spots = [(2, 2), (2, w - 3), (h - 3, 2), (h - 3, w - 3)];
        for (spot, corner) in spots.iter().zip(upright["corners"].as_array().unwrap()) {
            for c in 0..3 {
                let want = corner[c].as_i64().unwrap();
                for got in [
                    full.pixels[[spot.0, spot.1, c]],
                    clip.frames[[0, spot.0, spot.1, c]],
                ] {
                    // OpenCV converts with its own flags, and the mark is
                    // small under chroma subsampling.
                    assert!(
                        (i64::from(got) - want).abs() <= 12,
                        "{name} {spot:?}: {got} for {want}"
                    );
                }
            }
        }
        assert_eq!(
            clip.frames.index_axis(ndarray::Axis(0), 0),
            full.pixels,
            "{name}"
        );
    }
    let mut exif = Video::open(fixture("exif6.jpg")).unwrap();
    let clip = exif.clip(&ClipOptions::default()).unwrap();
    assert_eq!(clip.source.rotation(), 90);
    assert_eq!((clip.source.width, clip.source.height), (48, 64));
}

#[test]
fn what_is_special_is_said() {
    let warnings = |name: &str| {
        let mut video = Video::open(fixture(name)).unwrap();
        video.clip(&ClipOptions::default()).unwrap().warnings
    };
    assert_eq!(warnings("bframes.mp4"), []);
    assert!(matches!(
        warnings("untagged.mp4")[..],
        [Warning::UnknownMatrix { .. }]
    ));
    assert_eq!(warnings("alpha.mov"), [Warning::AlphaDropped]);
    assert!(warnings("two.mp4").contains(&Warning::SeveralStreams {
        chosen: 0,
        count: 2
    }));
    assert!(warnings("sizes.h264").iter().any(|w| matches!(
        w,
        Warning::SizeChange {
            width: 96,
            height: 64,
            ..
        }
    )));
    assert!(
        warnings("raw.h264")
            .iter()
            .any(|w| matches!(w, Warning::GuessedTimes { .. }))
    );
}

#[test]
fn geometry_of_wide_pixels() {
    let mut video = Video::open(fixture("sar.mp4")).unwrap();
    let g = video.info().geometry;
    assert_eq!(g.sample_aspect, (4, 3));
    assert_eq!(g.display_size(), (85, 48));
    let clip = video
        .clip(&ClipOptions {
            resize: mtcae_core::Resize::ShortestEdgeCrop,
            ..Default::default()
        })
        .unwrap();
    // A square of 48 display pixels is 36 stored ones wide.
    let (x0, y0) = clip.source.to_source(0.0, 0.0);
    let (x1, y1) = clip.source.to_source(1.0, 1.0);
    assert_eq!((x0, y0, x1, y1), (14.0, 0.0, 50.0, 48.0));
}

#[test]
fn images_and_short_videos() {
    for name in ["still.png", "still.jpg", "still.webp", "still.bmp"] {
        let clip = Video::open(fixture(name))
            .unwrap()
            .clip(&ClipOptions::default())
            .unwrap();
        assert_eq!(clip.indices, [0; 16], "{name}");
        assert_eq!(clip.times, [0.0; 16], "{name}");
    }
    let clip = Video::open(fixture("few.mp4"))
        .unwrap()
        .clip(&ClipOptions::default())
        .unwrap();
    assert_eq!(
        clip.indices,
        [0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
    );
    let clip = Video::open(fixture("one.mkv"))
        .unwrap()
        .clip(&ClipOptions::default())
        .unwrap();
    assert_eq!((clip.source.width, clip.source.height), (1, 1));
    let clip = Video::open(fixture("wide.mp4"))
        .unwrap()
        .clip(&ClipOptions::default())
        .unwrap();
    assert_eq!((clip.source.width, clip.source.height), (16384, 16));
    assert_eq!(clip.frames.dim(), (16, 224, 224, 3));
}

/// Windows have the frames that a clip with their bounds has, overlapping or
/// with gaps, planned ahead or, without time stamps, decoded through; and
/// together they see every frame when they leave no gap.
#[test]
fn windows_equal_clips() {
    let manifest = manifest();
    for (name, entry) in manifest["files"].as_object().unwrap() {
        let Some(count) = entry["frames"].as_u64() else {
            continue;
        };
        if name == "wide.mp4" {
            continue;
        }
        for (length, stride, frames, start, end) in [
            (0.5, 0.5, 4, None, None),
            (0.4, 0.1, 16, None, None),
            (0.2, 0.7, 3, None, None),
            (100.0, 1.0, 5, None, None),
            (0.3, 0.2, 2, Some(0.35), Some(1.1)),
        ] {
            let clip = ClipOptions {
                size: (12, 10),
                frames,
                start,
                end,
                ..Default::default()
            };
            let options = mtcae_video::WindowOptions {
                length,
                stride,
                clip: clip.clone(),
            };
            let mut last = None;
            for w in Video::open(fixture(name))
                .unwrap()
                .windows(&options)
                .unwrap()
            {
                let w = match w {
                    Ok(w) => w,
                    // Short files have nothing after 0.35 s.
                    Err(e) if start.is_some() => {
                        assert!(last.is_none(), "{name}: {e}");
                        break;
                    }
                    Err(e) => panic!("{name}: {e}"),
                };
                let want = Video::open(fixture(name))
                    .unwrap()
                    .clip(&ClipOptions {
                        start: Some(w.start),
                        end: Some(w.end),
                        ..clip.clone()
                    })
                    .unwrap();
                assert_eq!(w.views[0].indices, want.indices, "{name} {length} {stride}");
                assert_eq!(w.views[0].times, want.times, "{name} {length} {stride}");
                assert!(w.views[0].frames == want.frames, "{name} {length} {stride}");
                last = w.views[0].indices.last().copied();
            }
            if length > 99.0 {
                assert_eq!(
                    last,
                    Some(count * (frames as u64 - 1) / frames as u64),
                    "{name}"
                );
            }
        }
    }
}

/// A decoder on several threads is given packets of the next window while it still
/// owes frames of this one: none of them may be skipped as nobody's.
#[test]
fn windows_side_by_side_lose_no_frame() {
    let options = mtcae_video::WindowOptions {
        length: 0.4,
        stride: 0.4,
        clip: ClipOptions {
            size: (12, 10),
            ..Default::default()
        },
    };
    let windows = |threads| -> Vec<mtcae_video::WindowClip> {
        let open = OpenOptions {
            threads,
            ..Default::default()
        };
        let video = Video::open_with(fixture("../demo/portrait.mp4"), &open).unwrap();
        video
            .windows(&options)
            .unwrap()
            .map(Result::unwrap)
            .collect()
    };
    let want = windows(1);
    assert_eq!(want.len(), 8);
    for threads in [1, 2, 3, 8] {
        for (got, want) in windows(threads).iter().zip(&want) {
            assert_eq!(got.views[0].warnings, [], "{threads} threads");
            assert_eq!(
                got.views[0].indices, want.views[0].indices,
                "{threads} threads"
            );
            assert_eq!(
                got.views[0].frames, want.views[0].frames,
                "{threads} threads"
            );
        }
    }
}
