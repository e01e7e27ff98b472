//! Bad files: one clear line that names the file, no panic, nothing opened
//! but the named file. Damaged ones are made here from good ones.
#![cfg(feature = "ffmpeg")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests, outside #[test]"
)]

mod common;

use std::path::{Path, PathBuf};

use common::{fixture, manifest};
use mtcae_video::{
    Clip, ClipOptions, ClipWriter, Error, Fault, OpenOptions, Video, Warning, WindowOptions,
    WriterOptions,
};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

fn clip(path: &Path) -> Result<Clip, Error> {
    Video::open(path)?.clip(&ClipOptions {
        size: (32, 32),
        ..Default::default()
    })
}

/// The error's text, after checking that it is one line with the file's name;
/// windows and full frames fail in the same way.
fn fault(path: &Path) -> Error {
    let error = clip(path).expect_err(&path.display().to_string());
    let text = error.to_string();
    println!("{text}");
    assert!(!text.contains('\n'), "{text}");
    assert!(text.contains(&path.display().to_string()), "{text}");
    let windows = Video::open(path).and_then(|v| {
        v.windows(&WindowOptions {
            length: 1.0,
            stride: 1.0,
            clip: ClipOptions::default(),
        })?
        .collect::<Result<Vec<_>, _>>()
    });
    assert!(windows.is_err());
    let frames = Video::open(path).and_then(|v| v.frames()?.collect::<Result<Vec<_>, _>>());
    assert!(frames.is_err());
    error
}

fn boxes(data: &[u8]) -> Vec<(usize, usize, [u8; 4])> {
    let mut out = Vec::new();
    let mut at = 0;
    while at + 8 <= data.len() {
        let size = u32::from_be_bytes(data[at..at + 4].try_into().unwrap()) as usize;
        out.push((at, size, data[at + 4..at + 8].try_into().unwrap()));
        at += size.max(8);
    }
    out
}

#[test]
fn files_without_a_picture() {
    let dir = Folder::new();
    assert!(matches!(
        fault(&dir.file("empty.mp4", "")),
        Error {
            fault: Fault::Empty,
            ..
        }
    ));
    let text = "This is a text, not a video.\n".repeat(200);
    assert!(matches!(
        fault(&dir.file("text.mp4", text)),
        Error {
            fault: Fault::Unreadable { .. },
            ..
        }
    ));
    assert!(matches!(
        fault(&dir.file("zeros.mp4", [0; 5000])),
        Error {
            fault: Fault::Unreadable { .. },
            ..
        }
    ));
    assert!(matches!(
        fault(&dir.file("short.mp4", [1])),
        Error {
            fault: Fault::Unreadable { .. },
            ..
        }
    ));
    assert!(matches!(
        fault(&fixture("audio.m4a")),
        Error {
            fault: Fault::NoVideo { .. },
            ..
        }
    ));
    let zero = fault(&fixture("zero.mp4"));
    assert!(
        matches!(
            zero,
            Error {
                fault: Fault::NoFrames { .. },
                ..
            } | Error {
                fault: Fault::NoVideo { .. },
                ..
            }
        ),
        "{zero}"
    );
    assert!(matches!(
        fault(&fixture("cenc.mp4")),
        Error {
            fault: Fault::Encrypted,
            ..
        }
    ));
    assert!(matches!(
        fault(&dir.0.path().join("missing.mp4")),
        Error {
            fault: Fault::Open { .. },
            ..
        }
    ));
    assert!(matches!(
        fault(dir.0.path()),
        Error {
            fault: Fault::NotAFile {
                kind: "a directory",
                ..
            },
            ..
        }
    ));
}

#[test]
fn truncated_files() {
    let dir = Folder::new();
    let good = std::fs::read(fixture("bframes.mp4")).unwrap();
    // The index is at the end: gone.
    fault(&dir.file("half.mp4", &good[..good.len() / 2]));
    // Index, but no pictures.
    let index: Vec<u8> = boxes(&good)
        .into_iter()
        .filter(|b| &b.2 != b"mdat")
        .flat_map(|(at, size, _)| good[at..at + size].to_vec())
        .collect();
    fault(&dir.file("nomdat.mp4", index));
    // Containers without an index keep what is there, and say what is not.
    for name in ["h264.ts", "vfr.mkv", "anim.gif", "mpeg2.ts"] {
        let good = std::fs::read(fixture(name)).unwrap();
        for part in [3, 5, 8] {
            let path = dir.file(name, &good[..good.len() * part / 10]);
            let clip = clip(&path).unwrap();
            assert_eq!(clip.len(), 16, "{name}");
            println!("{name} {part}/10: {:?}", clip.warnings);
        }
    }
}

/// Bits flipped in the middle: what decodes is kept, the rest is said.
#[test]
fn corrupt_midway() {
    let dir = Folder::new();
    let good = std::fs::read(fixture("bframes.mp4")).unwrap();
    let (at, size, _) = boxes(&good).into_iter().find(|b| &b.2 == b"mdat").unwrap();
    let mut bad = good.clone();
    for byte in &mut bad[at + size * 4 / 10..at + size * 6 / 10] {
        *byte ^= 0x5a;
    }
    let path = dir.file("corrupt.mp4", bad);
    let clip = clip(&path).unwrap();
    println!("{:?}", clip.warnings);
    assert_eq!(clip.len(), 16);
    assert!(clip.warnings.iter().any(|w| matches!(
        w,
        Warning::DecodeError { time, .. } | Warning::CorruptFrame { time, .. } if (0.4..2.0).contains(time)
    )));
    // The frames before the damage are those of the good file.
    let whole = self::clip(&fixture("bframes.mp4")).unwrap();
    assert_eq!(clip.frame(0), whole.frame(0));
    let mut frames = Video::open(&path).unwrap().frames().unwrap();
    let n = frames.by_ref().map(Result::unwrap).count();
    assert!((20..=60).contains(&n), "{n}");
    assert!(!frames.warnings().is_empty());
}

/// Every byte pattern that a broken disk may give: no panic, no hang.
#[test]
fn random_damage_never_panics() {
    let dir = Folder::new();
    let manifest = manifest();
    let mut state = 1u64;
    let mut random = move |n: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % n
    };
    for name in manifest["files"].as_object().unwrap().keys() {
        let good = std::fs::read(fixture(name)).unwrap();
        if good.len() > 40_000 {
            continue;
        }
        for round in 0..6 {
            let mut bad = good.clone();
            for _ in 0..1 + round * 8 {
                let at = random(bad.len());
                bad[at] = random(256) as u8;
            }
            if round == 5 {
                bad.truncate(random(good.len()).max(1));
            }
            let path = dir.file(name, &bad);
            // A limit so that a damaged header cannot ask for much memory.
            let options = OpenOptions {
                max_pixels: 1 << 22,
                ..Default::default()
            };
            let result = Video::open_with(&path, &options).and_then(|mut v| {
                v.clip(&ClipOptions {
                    size: (16, 16),
                    ..Default::default()
                })
            });
            if let Err(e) = result {
                assert!(e.to_string().contains(name.as_str()), "{e}");
            }
        }
    }
}

/// Files that name others: refused, whatever they are called.
#[test]
fn only_the_named_file_is_read() {
    let dir = Folder::new();
    let good = fixture("bframes.mp4");
    std::fs::copy(&good, dir.0.path().join("bframes.mp4")).unwrap();
    std::fs::copy(fixture("h264.ts"), dir.0.path().join("h264.ts")).unwrap();
    let target = dir.0.path().join("h264.ts");
    let target = target.display();
    let hls = format!(
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:5\n#EXTINF:2.0,\n{target}\n#EXT-X-ENDLIST\n"
    );
    let remote = hls.replace(&target.to_string(), "http://127.0.0.1:9/a.ts");
    let concat = format!("ffconcat version 1.0\nfile '{target}'\n");
    let sdp = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n";
    let dash = "<?xml version=\"1.0\"?><MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" type=\"static\"></MPD>";
    let svg = "<svg xmlns=\"http://www.w3.org/2000/svg\"><image href=\"/etc/hostname\"/></svg>";
    for (name, text) in [
        ("a.m3u8", hls.as_str()),
        ("b.mp4", hls.as_str()),
        ("c.m3u8", remote.as_str()),
        ("d.ffconcat", concat.as_str()),
        ("e.mp4", concat.as_str()),
        ("f.sdp", sdp),
        ("g.mpd", dash),
        ("h.svg", svg),
    ] {
        let e = fault(&dir.file(name, text));
        assert!(
            matches!(
                e,
                Error {
                    fault: Fault::ForbiddenFormat,
                    ..
                } | Error {
                    fault: Fault::Unreadable { .. },
                    ..
                }
            ),
            "{e}"
        );
    }
}

/// Puts `entry` in the place of the first data reference of an mp4 file whose index
/// comes last.
fn refer(file: &[u8], entry: &[u8]) -> Vec<u8> {
    let at = file.windows(4).position(|w| w == b"url ").unwrap() - 4;
    let old = u32::from_be_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    let mut new = file.to_vec();
    new.splice(at..at + old, entry.iter().copied());
    // The boxes around it grow with it.
    for name in [b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"] {
        let place = file.windows(4).position(|w| w == name).unwrap() - 4;
        let size = u32::from_be_bytes(file[place..place + 4].try_into().unwrap());
        let size = size + entry.len() as u32 - old as u32;
        new[place..place + 4].copy_from_slice(&size.to_be_bytes());
    }
    new
}

/// A track whose data are said to lie in another file.
#[test]
fn data_references_to_other_files_are_refused() {
    let dir = Folder::new();
    let good = std::fs::read(fixture("bframes.mp4")).unwrap();
    let entry = |name: &[u8; 4], flags: u8, place: &[u8]| {
        let size = (12 + place.len()) as u32;
        let mut entry = size.to_be_bytes().to_vec();
        entry.extend(name);
        entry.extend([0, 0, 0, flags]);
        entry.extend(place);
        entry
    };
    for (name, place) in [
        (b"url ", &b"file:///other/place.mp4\0"[..]),
        (b"url ", b"http://127.0.0.1:9/x.mp4\0"),
        (b"urn ", b"urn:x\0/other/place.mp4\0"),
        (b"alis", &[[0; 150], [b'x'; 150]].concat()),
    ] {
        let path = dir.file("elsewhere.mp4", refer(&good, &entry(name, 0, place)));
        let error = fault(&path);
        assert!(
            matches!(
                error,
                Error {
                    fault: Fault::Elsewhere { .. },
                    ..
                }
            ),
            "{error}"
        );
        if place.starts_with(b"file") {
            assert!(error.to_string().contains("`file:///other/place.mp4`"));
        }
    }
    // In this file: by the flag, or since no other place is named.
    for (flags, place) in [(1, &b""[..]), (1, b"left over\0"), (0, b""), (0, b"\0")] {
        let path = dir.file("here.mp4", refer(&good, &entry(b"url ", flags, place)));
        assert_eq!(clip(&path).unwrap().len(), 16);
    }
}

/// Small files of vast pictures.
#[test]
fn pictures_that_would_fill_the_memory_are_refused() {
    let dir = Folder::new();
    let good = std::fs::read(fixture("still.png")).unwrap();
    let png = |width: u32, height: u32, depth: u8, colour: u8| {
        let mut data = good.clone();
        data[16..20].copy_from_slice(&width.to_be_bytes());
        data[20..24].copy_from_slice(&height.to_be_bytes());
        data[24..26].copy_from_slice(&[depth, colour]);
        let mut crc = !0u32;
        for byte in &data[12..29] {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
            }
        }
        data[29..33].copy_from_slice(&(!crc).to_be_bytes());
        data
    };
    for (size, depth, colour) in [
        ((16_000, 8_000), 8, 2),
        ((11_000, 11_000), 8, 0),
        ((8_000, 8_000), 16, 6),
    ] {
        let path = dir.file("vast.png", png(size.0, size.1, depth, colour));
        let error = fault(&path);
        assert!(
            matches!(
                error,
                Error {
                    fault: Fault::TooMuchMemory { .. },
                    ..
                }
            ),
            "{error}"
        );
        // Whoever has the memory may read it; what is there decodes.
        let options = OpenOptions {
            max_bytes: 2 << 30,
            ..OpenOptions::default()
        };
        let video = Video::open_with(&path, &options).unwrap();
        let read = video.info().geometry;
        assert_eq!((read.width, read.height), size);
    }
    // Photographs of 50 megapixels and 8K are within.
    for (size, depth, colour) in [((8_688, 5_792), 8, 2), ((7_680, 4_320), 16, 2)] {
        assert!(Video::open(dir.file("photo.png", png(size.0, size.1, depth, colour))).is_ok());
    }
}

/// Names with a protocol or pattern in them are names.
#[test]
fn names_are_plain_paths() {
    let dir = Folder::new();
    let good = std::fs::read(fixture("few.mp4")).unwrap();
    for name in [
        "http:x",
        "concat:a|b",
        "file:y",
        "pipe:0",
        "frame%03d.png",
        "*.jpg",
        "-",
        "data:,x",
    ] {
        let path = dir.file(name, &good);
        assert_eq!(clip(&path).unwrap().len(), 16, "{name}");
    }
    assert!(matches!(
        clip(Path::new("http://127.0.0.1:9/x.mp4")),
        Err(Error {
            fault: Fault::Open { .. },
            ..
        })
    ));
    assert!(matches!(
        clip(Path::new("concat:a|b")),
        Err(Error {
            fault: Fault::Open { .. },
            ..
        })
    ));
}

#[cfg(unix)]
#[test]
fn fifos_devices_and_permissions() {
    use std::os::unix::fs::PermissionsExt;
    let dir = Folder::new();
    let fifo = dir.0.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    if made.is_ok_and(|s| s.success()) {
        assert!(matches!(
            fault(&fifo),
            Error {
                fault: Fault::NotAFile { kind: "a FIFO", .. },
                ..
            }
        ));
    }
    assert!(matches!(
        fault(Path::new("/dev/zero")),
        Error {
            fault: Fault::NotAFile {
                kind: "a device",
                ..
            },
            ..
        }
    ));
    let locked = dir.file("locked.mp4", "x");
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o000)).unwrap();
    // The superuser may read anything; then the test says nothing.
    if std::fs::read(&locked).is_err() {
        assert!(matches!(
            fault(&locked),
            Error {
                fault: Fault::Open { .. },
                ..
            }
        ));
    }
}

#[test]
fn limits_and_options() {
    let small = OpenOptions {
        max_pixels: 1000,
        ..Default::default()
    };
    for name in ["bframes.mp4", "still.png", "raw.h264", "vfr.mkv"] {
        let e = Video::open_with(fixture(name), &small)
            .and_then(|mut v| v.clip(&ClipOptions::default()))
            .unwrap_err();
        println!("{e}");
        match name {
            // A picture whose size is only known to the decoder.
            "still.png" => assert!(e.to_string().contains("limit of 1000 pixels"), "{e}"),
            _ => assert!(
                matches!(
                    e,
                    Error {
                        fault: Fault::TooLarge { .. },
                        ..
                    }
                ),
                "{name}: {e}"
            ),
        }
    }
    let mut video = Video::open(fixture("bframes.mp4")).unwrap();
    let mut ask = |options: ClipOptions| video.clip(&options).unwrap_err();
    let base = ClipOptions::default;
    assert!(matches!(
        ask(ClipOptions {
            frames: 0,
            ..base()
        }),
        Error {
            fault: Fault::Option { .. },
            ..
        }
    ));
    assert!(matches!(
        ask(ClipOptions {
            size: (0, 4),
            ..base()
        }),
        Error {
            fault: Fault::Resize { .. },
            ..
        }
    ));
    assert!(matches!(
        ask(ClipOptions {
            start: Some(9.0),
            ..base()
        }),
        Error {
            fault: Fault::NoFramesBetween { .. },
            ..
        }
    ));
    assert!(matches!(
        ask(ClipOptions {
            start: Some(1.0),
            end: Some(1.0),
            ..base()
        }),
        Error {
            fault: Fault::Option { .. },
            ..
        }
    ));
    assert!(matches!(
        ask(ClipOptions {
            frames: 1 << 20,
            ..base()
        }),
        Error {
            fault: Fault::TooManyFrames { .. },
            ..
        }
    ));
    let off = "crop:100,100,5,5".parse().unwrap();
    assert!(matches!(
        ask(ClipOptions {
            resize: off,
            ..base()
        }),
        Error {
            fault: Fault::Resize { .. },
            ..
        }
    ));
}

#[test]
fn the_writer_leaves_nothing_behind() {
    let dir = Folder::new();
    let count = || std::fs::read_dir(dir.0.path()).unwrap().count();
    let options = WriterOptions::new(33, 17);
    let frame = ndarray::Array3::<u8>::zeros((17, 33, 3));
    let target = dir.file("a.mp4", "older");
    let mut writer = ClipWriter::create(&target, &options).unwrap();
    writer.write(&frame.view(), 0.0).unwrap();
    assert!(writer.write(&frame.view(), 0.0).is_err());
    assert!(writer.write(&frame.view(), f64::NAN).is_err());
    assert!(
        writer
            .write(&ndarray::Array3::zeros((4, 4, 3)).view(), 1.0)
            .is_err()
    );
    drop(writer);
    assert_eq!(count(), 1);
    assert_eq!(std::fs::read(&target).unwrap(), b"older");
    let empty = ClipWriter::create(&target, &options).unwrap();
    assert!(matches!(
        empty.finish(),
        Err(Error {
            fault: Fault::Write { .. },
            ..
        })
    ));
    assert!(ClipWriter::create(dir.0.path().join("a.gif"), &options).is_err());
    assert!(ClipWriter::create(dir.0.path().join("none/a.mp4"), &options).is_err());
    let mut odd = WriterOptions::new(33, 17);
    odd.encoder = Some("nonesuch".into());
    assert!(ClipWriter::create(dir.0.path().join("b.mp4"), &odd).is_err());
    assert_eq!(count(), 1);
    // Odd sizes are padded by one.
    let mut writer = ClipWriter::create(&target, &options).unwrap();
    writer.write(&frame.view(), 0.0).unwrap();
    writer.finish().unwrap();
    let g = Video::open(&target).unwrap().info().geometry;
    assert_eq!((g.width, g.height), (34, 18));
    assert_eq!(count(), 1);
}
