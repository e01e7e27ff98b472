//! The hub without a network: a server on this machine.
#![cfg(feature = "hub")]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use mtcae_encoder::candle_core::Device;
use mtcae_encoder::{Checkpoint, Error, Families, Hub, HubFault, HubName, Overrides};
use mtcae_testing::fixtures;

/// How the server treats requests for weights.
#[derive(Clone, Copy, PartialEq)]
enum Weights {
    Whole,
    /// The connection is closed after half of the announced bytes.
    Cut,
    /// As `Cut`, without an announced length.
    CutSilently,
    None,
}

/// Serves the folder `hf-bin` or `hf-old` as model a/b; returns its address and
/// the list of requested paths. The thread ends with the process.
fn serve(folder: &'static str, weights: Weights) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that hangs up is the client's affair.
            drop(answer(stream, folder, weights, &log));
        }
    });
    (address, asked)
}

fn answer(
    mut stream: TcpStream,
    folder: &str,
    weights: Weights,
    log: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    let mut from = 0;
    let mut to = usize::MAX;
    for line in lines {
        let line = line?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(range) = line.strip_prefix("range: bytes=") {
            let (first, last) = range.split_once('-').unwrap_or((range, ""));
            from = first.parse().unwrap_or(0);
            to = last.parse().map_or(usize::MAX, |n: usize| n + 1);
        }
    }
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    log.lock().expect("the log").push(path.clone());
    let is_weights = path.ends_with(".bin") || path.ends_with(".safetensors");
    let file = path
        .strip_prefix("/a/b/resolve/main/")
        .or_else(|| path.strip_prefix("/a/b/resolve/c0ffee/"))
        .filter(|_| !(is_weights && weights == Weights::None))
        .and_then(|file| {
            std::fs::read(fixtures().join("checkpoints").join(folder).join(file)).ok()
        });
    let Some(bytes) = file else {
        return write!(
            stream,
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    };
    let part = &bytes[from.min(bytes.len())..to.min(bytes.len())];
    let probe = to != usize::MAX;
    let cut = is_weights && !probe && matches!(weights, Weights::Cut | Weights::CutSilently);
    let etag = path.rsplit('/').next().unwrap_or_default();
    write!(
        stream,
        "HTTP/1.1 206 Partial Content\r\nETag: \"{etag}\"\r\nX-Repo-Commit: c0ffee\r\n\
         Content-Range: bytes {from}-{}/{}\r\nConnection: close\r\n",
        from + part.len().saturating_sub(1),
        bytes.len()
    )?;
    if !(cut && weights == Weights::CutSilently) {
        write!(stream, "Content-Length: {}\r\n", part.len())?;
    }
    stream.write_all(b"\r\n")?;
    stream.write_all(if cut { &part[..part.len() / 2] } else { part })
}

fn name() -> HubName {
    HubName::parse("hub:a/b").expect("a name")
}

fn fetch(hub: &Hub, seen: &mut Vec<(String, u64, u64)>) -> Result<Checkpoint, Error> {
    hub.open(
        &name(),
        &Overrides::default(),
        &Families::default(),
        &mut |file, bytes, total| {
            seen.push((file.to_owned(), bytes, total));
        },
    )
}

fn fault(result: Result<Checkpoint, Error>) -> HubFault {
    let error = result.expect_err("an error");
    let text = error.to_string();
    assert!(
        text.starts_with("hub:a/b: ") && !text.contains('\n'),
        "{text}"
    );
    match error {
        Error::Hub { fault, .. } => fault,
        other => panic!("{other}"),
    }
}

#[test]
fn a_model_is_downloaded_once_with_progress_and_then_comes_from_the_cache() {
    for (folder, file) in [
        ("hf-old", "model.safetensors"),
        ("hf-bin", "pytorch_model.bin"),
    ] {
        let cache = tempfile::tempdir().expect("a folder");
        let (address, asked) = serve(folder, Weights::Whole);
        let hub = Hub::new(&address, cache.path());
        let mut seen = Vec::new();
        let checkpoint = fetch(&hub, &mut seen).unwrap_or_else(|e| panic!("{e}"));
        checkpoint.load(&Device::Cpu).expect("loaded");
        assert!(checkpoint.preprocessing.is_some());
        let of_file: Vec<_> = seen.iter().filter(|(name, ..)| name == file).collect();
        let (_, bytes, total) = of_file.last().expect("progress");
        assert!(bytes == total && *total > 100_000, "{bytes} of {total}");
        assert!(of_file.is_sorted_by_key(|(_, bytes, _)| *bytes));
        let requests = asked.lock().expect("the log").clone();
        // The commit of the first file is asked for from then on.
        assert!(
            requests
                .iter()
                .all(|p| p.ends_with("config.json") || p.contains("c0ffee")),
            "{requests:?}"
        );

        // What is cached needs no hub.
        drop(asked);
        let offline = Hub::new("http://127.0.0.1:9", cache.path());
        fetch(&offline, &mut seen).unwrap_or_else(|e| panic!("{e}"));
    }
}

#[test]
fn unknown_names_missing_weights_and_an_unreachable_hub_are_told_apart() {
    let cache = tempfile::tempdir().expect("a folder");
    let (address, _) = serve("no-such-folder", Weights::Whole);
    let unknown = fault(fetch(&Hub::new(&address, cache.path()), &mut Vec::new()));
    assert!(
        matches!(unknown, HubFault::Unknown { status: 404, .. }),
        "{unknown}"
    );

    let (address, _) = serve("hf-old", Weights::None);
    let none = fault(fetch(&Hub::new(&address, cache.path()), &mut Vec::new()));
    assert!(matches!(none, HubFault::NoWeights), "{none}");

    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|l| l.local_addr())
        .expect("a port");
    let other = tempfile::tempdir().expect("a folder");
    let hub = Hub::new(format!("http://{port}"), other.path());
    let offline = fault(fetch(&hub, &mut Vec::new()));
    assert!(matches!(offline, HubFault::Offline { .. }), "{offline}");
}

#[test]
fn a_download_that_breaks_off_is_reported_and_not_kept() {
    for weights in [Weights::Cut, Weights::CutSilently] {
        let cache = tempfile::tempdir().expect("a folder");
        let (address, _) = serve("hf-old", weights);
        let broken = fault(fetch(&Hub::new(&address, cache.path()), &mut Vec::new()));
        assert!(
            matches!(&broken, HubFault::Transfer { file, .. } if file == "model.safetensors"),
            "{broken}"
        );
        // The next attempt succeeds, whether it resumes or begins anew.
        let (address, _) = serve("hf-old", Weights::Whole);
        let hub = Hub::new(&address, cache.path());
        let checkpoint = fetch(&hub, &mut Vec::new()).unwrap_or_else(|e| panic!("{e}"));
        checkpoint.load(&Device::Cpu).expect("loaded");
    }
}
