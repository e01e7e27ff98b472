//! Videos that are read as they come, against the same bytes in a file.
#![cfg(feature = "ffmpeg")]

use std::io::{Cursor, Read};
use std::time::{Duration, Instant};

use mtcae_video::{OpenOptions, Raw, Stream, Video};

const SIZE: (usize, usize) = (16, 8);

/// Pictures of YUV4MPEG2 without subsampling, each of another grey, 10 a second.
fn y4m(pictures: u8) -> Vec<u8> {
    let (width, height) = SIZE;
    let mut bytes = format!("YUV4MPEG2 W{width} H{height} F10:1 Ip A1:1 C444\n").into_bytes();
    for picture in 0..pictures {
        bytes.extend(b"FRAME\n");
        bytes.extend(vec![16 + 8 * picture; width * height]);
        bytes.extend(vec![128; 2 * width * height]);
    }
    bytes
}

fn open(bytes: Vec<u8>, raw: Option<&Raw>) -> Result<Stream, String> {
    let stream = Stream::open(Cursor::new(bytes), "a stream", raw, &OpenOptions::default());
    stream.map_err(|e| e.to_string())
}

fn all(stream: &mut Stream, step: f64) -> Vec<(u64, f64, Vec<u8>)> {
    let mut found = Vec::new();
    let mut next = f64::NEG_INFINITY;
    while let Some(frame) = stream.next_from(next).expect("a frame") {
        next = frame.time + step;
        let pixels = frame.pixels.iter().copied().collect();
        found.push((frame.index, frame.time, pixels));
    }
    found
}

#[test]
fn a_stream_has_the_frames_of_a_file_with_its_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.y4m");
    std::fs::write(&path, y4m(12)).expect("written");
    let frames = Video::open(&path)
        .expect("opened")
        .frames()
        .expect("frames");
    let file: Vec<_> = frames
        .map(|frame| {
            let frame = frame.expect("a frame");
            let pixels: Vec<u8> = frame.pixels.iter().copied().collect();
            (frame.index, frame.time, pixels)
        })
        .collect();
    assert_eq!(file.len(), 12);
    let mut stream = open(y4m(12), None).expect("opened");
    assert_eq!(stream.info().fps, 10.0);
    assert_eq!(all(&mut stream, 0.0), file);
    // Every third alone.
    let thinned: Vec<_> = file.iter().step_by(3).cloned().collect();
    assert_eq!(
        all(&mut open(y4m(12), None).expect("opened"), 0.25),
        thinned
    );
}

/// Matroska, WebM and MPEG-TS, which are made to be read as they come.
#[test]
fn containers_are_read_without_going_back() {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/video/");
    for name in ["vfr.mkv", "vp9.webm", "h264.ts", "mpeg2.ts"] {
        let path = format!("{fixtures}{name}");
        let frames = Video::open(&path).expect(name).frames().expect(name);
        let file: Vec<_> = frames
            .map(|frame| {
                let frame = frame.expect(name);
                (
                    frame.index,
                    frame.time,
                    frame.pixels.iter().copied().collect(),
                )
            })
            .collect();
        let bytes = std::fs::read(&path).expect(name);
        let found = all(&mut open(bytes, None).expect(name), 0.0);
        assert_eq!(found.len(), file.len(), "{name}");
        assert!(found == file, "{name}");
    }
}

#[test]
fn raw_pictures_are_those_that_were_written() {
    let (width, height) = SIZE;
    let picture = |seed: usize| -> Vec<u8> {
        (0..width * height * 3)
            .map(|i| (i * 7 + seed) as u8)
            .collect()
    };
    let raw: Raw = format!("{width}x{height}:rgb24@5").parse().expect("parsed");
    let bytes = [picture(1), picture(2), picture(3)].concat();
    let found = all(&mut open(bytes, Some(&raw)).expect("opened"), 0.0);
    assert_eq!(found.len(), 3);
    for (i, (index, time, pixels)) in found.into_iter().enumerate() {
        assert_eq!((index, pixels), (i as u64, picture(i + 1)));
        assert!((time - i as f64 / 5.0).abs() < 1e-9, "{time}");
    }
    assert_eq!(raw.to_string(), "16x8:rgb24@5");
    for text in [
        "",
        "16x8",
        "16x8:rgb24",
        "0x8:rgb24@5",
        "16x8:none@5",
        "16x8:rgb24@-1",
    ] {
        let refusal = text.parse::<Raw>().expect_err(text).to_string();
        assert!(refusal.contains("640x480:rgb24@25"), "{refusal}");
    }
}

#[test]
fn what_is_no_video_is_refused_and_what_breaks_off_is_said() {
    for bytes in [Vec::new(), b"no video at all".to_vec(), vec![0; 4000]] {
        let refusal = open(bytes, None).expect_err("no video");
        assert!(refusal.starts_with("a stream: "), "{refusal}");
    }
    let playlist = b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n".to_vec();
    assert!(open(playlist, None).is_err());
    let mut cut = y4m(5);
    cut.truncate(cut.len() - 100);
    assert_eq!(all(&mut open(cut, None).expect("opened"), 0.0).len(), 4);
}

/// A source that waits before each picture.
struct Slow {
    bytes: Cursor<Vec<u8>>,
}

impl Read for Slow {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        std::thread::sleep(Duration::from_millis(5));
        let most = buffer.len().min(400);
        self.bytes.read(&mut buffer[..most])
    }
}

#[test]
fn the_wait_for_a_source_is_counted() {
    let slow = Slow {
        bytes: Cursor::new(y4m(10)),
    };
    let began = Instant::now();
    let mut stream = Stream::open(slow, "slow", None, &OpenOptions::default()).expect("opened");
    assert_eq!(all(&mut stream, 0.0).len(), 10);
    assert!(
        stream.waited() >= Duration::from_millis(45),
        "{:?}",
        stream.waited()
    );
    assert!(stream.waited() <= began.elapsed());
}
