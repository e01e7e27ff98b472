//! Files that are made to take all memory, all time, or to block: refused in one line,
//! and a pickle takes at most four times its size, or a few megabytes.

// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mtcae_encoder::{EncoderConfig, VideoMaeConfig, open};

/// Counts the memory in use.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: it hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, data: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(data, layout) }
    }

    unsafe fn realloc(&self, data: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let now = NOW.fetch_add(size, Ordering::Relaxed) + size;
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        PEAK.fetch_max(now - layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(data, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// One test at a time measures.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The most memory that `work` takes at a time, in bytes.
fn peak(work: impl FnOnce()) -> usize {
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    work();
    PEAK.load(Ordering::Relaxed).saturating_sub(before)
}

fn refused(path: &Path) -> String {
    let error = open(path).expect_err("refused").to_string();
    assert!(error.len() < 700 && !error.contains('\n'), "{error}");
    error
}

/// A zip as `torch.save` writes it, of a pickle and these other entries.
fn saved(folder: &Path, pickle: &[u8], others: usize) -> PathBuf {
    let path = folder.join("saved.pth");
    let mut zip = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
    let stored =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    zip.start_file("saved/data.pkl", stored).unwrap();
    zip.write_all(pickle).unwrap();
    for i in 0..others {
        zip.start_file(format!("saved/data/{i}"), stored).unwrap();
    }
    zip.finish().unwrap();
    path
}

/// `n` bytes of these, over and over.
fn repeated(start: &[u8], part: &[u8], n: usize) -> Vec<u8> {
    let mut bytes = start.to_vec();
    bytes.extend(part.iter().copied().cycle().take(n));
    bytes
}

#[test]
fn a_pickle_takes_at_most_four_times_its_size() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    const N: usize = 12 << 20;
    let numbered = |opcode: &[u8], each: usize| {
        let mut bytes = b"\x80\x02]".to_vec();
        for i in 0..(N / each) as u32 {
            bytes.extend(opcode);
            bytes.extend(i.to_le_bytes());
        }
        bytes
    };
    let mut names = b"\x80\x02}(".to_vec();
    for i in 0..(N / 10) as u32 {
        names.extend(b"\x8c\x07");
        names.extend(format!("{i:07}").bytes());
        names.push(b'N');
    }
    names.extend(b"u.");
    for (what, pickle) in [
        ("lists", repeated(b"\x80\x02", b"]", N)),
        ("dicts", repeated(b"\x80\x02", b"}", N)),
        ("nothings", repeated(b"\x80\x02", b"N", N)),
        ("a tuple", repeated(b"\x80\x02(", b"N", N)),
        ("marks", repeated(b"\x80\x02", b"(", N)),
        ("tuples of three", repeated(b"\x80\x02NNN", b"\x872220", N)),
        ("a list that grows", repeated(b"\x80\x02]", b"Na", N)),
        ("texts", repeated(b"\x80\x02", b"\x8c\x00", N)),
        ("classes", repeated(b"\x80\x02", b"ca\nb\n", N)),
        ("a memo", numbered(b"r", 5)),
        ("names", names),
    ] {
        let path = saved(folder.path(), &pickle, 0);
        let mut said = String::new();
        let taken = peak(|| said = refused(&path));
        assert!(
            taken <= 4 * pickle.len() + (1 << 20),
            "{what}: {} MB of {} MB: {said}",
            taken >> 20,
            pickle.len() >> 20
        );
        assert!(said.contains("saved.pth: "), "{what}: {said}");
    }
    // A small one takes no more than a few megabytes, whatever it is.
    for part in [&b"]"[..], b"(", b"N", b"]2222"] {
        let path = saved(folder.path(), &repeated(b"\x80\x02", part, 200_000), 0);
        let taken = peak(|| drop(refused(&path)));
        assert!(taken < 24 << 20, "{part:?}: {taken}");
    }
}

/// A dict may name one long text as often as it likes.
#[test]
fn names_that_are_said_over_and_over_are_not_copied() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let mut pickle = b"\x80\x02}(X\x00\x00\x10\x00".to_vec();
    pickle.extend(vec![b'n'; 1 << 20]);
    pickle.extend(b"q\x01N");
    for _ in 0..16_000 {
        pickle.extend(b"h\x01N");
    }
    pickle.extend(b"u.");
    let path = saved(folder.path(), &pickle, 0);
    let mut said = String::new();
    let taken = peak(|| said = refused(&path));
    assert!(taken < 16 << 20, "{taken}");
    assert!(said.contains("is too long"), "{said}");
}

#[test]
fn a_zip_of_too_many_entries_is_refused_before_it_is_read() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = saved(folder.path(), b"\x80\x02}.", 70_000);
    let mut said = String::new();
    let before = Instant::now();
    let taken = peak(|| said = refused(&path));
    assert!(taken < 1 << 20, "{taken}");
    assert!(before.elapsed() < Duration::from_secs(1));
    assert!(said.contains("70001 entries, more than 65536"), "{said}");

    // One that only says so, in the record of 64 bits.
    let mut bytes = std::fs::read(&path).unwrap();
    let record = bytes.windows(4).rposition(|w| w == b"PK\x06\x06").unwrap();
    bytes[record + 24..record + 40].fill(0xff);
    std::fs::write(&path, bytes).unwrap();
    assert!(peak(|| drop(refused(&path))) < 1 << 20);
}

#[cfg(unix)]
#[test]
fn pipes_and_devices_are_refused_in_every_place() {
    let _alone = alone();
    let config = serde_json::to_string(&VideoMaeConfig::small()).unwrap();
    for name in [
        "model.safetensors",
        "config.json",
        "preprocessor_config.json",
        "pytorch_model.bin",
        "model.safetensors.index.json",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).unwrap();
        };
        put("config.json", &config);
        if !name.starts_with("model") && name != "pytorch_model.bin" {
            let from = mtcae_testing::fixtures().join("checkpoints/hf-old/model.safetensors");
            std::fs::copy(from, folder.path().join("model.safetensors")).unwrap();
            let from = mtcae_testing::fixtures().join("checkpoints/hf-old/config.json");
            std::fs::copy(from, folder.path().join("config.json")).unwrap();
        }
        let path = folder.path().join(name);
        drop(std::fs::remove_file(&path));
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        let said = refused(folder.path());
        assert!(
            said.contains(name) && said.contains("not a regular file"),
            "{said}"
        );
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        let said = refused(folder.path());
        assert!(
            said.contains(name) && said.contains("not a regular file"),
            "{said}"
        );
    }
    assert!(refused(Path::new("/dev/zero")).contains("not a regular file"));
}

#[test]
fn sizes_beyond_any_model_are_refused_by_their_field() {
    let _alone = alone();
    type Change = fn(&mut VideoMaeConfig);
    let wrong: [(&str, Change); 9] = [
        ("width", |c| c.width = 1 << 60),
        ("depth", |c| c.depth = usize::MAX),
        ("heads", |c| c.heads = 0),
        ("hidden", |c| c.hidden = usize::MAX),
        ("tubelet", |c| c.tubelet = 1 << 40),
        // Each within its bounds, and all too much together.
        ("image_size", |c| {
            (c.frames, c.image_size) = (1 << 14, 1 << 14);
        }),
        ("width", |c| (c.image_size, c.width) = (1 << 11, 1 << 16)),
        ("hidden", |c| (c.width, c.hidden) = (1 << 14, 1 << 18)),
        ("width", |c| (c.width, c.heads) = (1 << 14, 16)),
    ];
    for (field, change) in wrong {
        let mut config = VideoMaeConfig::base();
        change(&mut config);
        let mut said = String::new();
        let taken = peak(|| said = config.validate().unwrap_err().to_string());
        assert!(
            said.contains(&format!("config: {field}: ")),
            "{field}: {said}"
        );
        assert!(taken < 1 << 16, "{field}: {taken}");
    }
}

#[test]
fn long_texts_are_not_quoted_whole() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let weights = mtcae_testing::fixtures().join("checkpoints/hf-old/model.safetensors");
    std::fs::copy(weights, folder.path().join("model.safetensors")).unwrap();
    let long = "n".repeat(1 << 20);
    let path = folder.path().join("config.json");
    for text in [
        format!(r#"{{"model_type": "{long}"}}"#),
        format!(r#"{{"model_type": "videomae", "hidden_act": "{long}"}}"#),
        format!(r#"{{"model_type": "videomae" {long}"#),
    ] {
        std::fs::write(&path, text).unwrap();
        assert!(refused(folder.path()).contains("config.json: "));
    }
    std::fs::write(&path, vec![b' '; 5 << 20]).unwrap();
    assert!(refused(folder.path()).contains("larger than"));
}
