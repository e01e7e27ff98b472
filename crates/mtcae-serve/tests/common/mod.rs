//! What the tests share: a server, windows to tell it, and a client of bare TCP.

#![allow(dead_code, reason = "each test file uses some of it")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use mtcae_dfer::video::Geometry;
use mtcae_dfer::{ClassProbability, Face, FramePrediction, Prediction, Said};
use mtcae_serve::{Options, Server, Subject};

pub const TOKEN: &str = "a-token-that-is-long-enough";

pub fn options() -> Options {
    Options {
        address: SocketAddr::from(([127, 0, 0, 1], 0)),
        anyone: false,
        token: Some(TOKEN.to_owned()),
    }
}

pub fn subject() -> Subject {
    Subject {
        name: "a stream".to_owned(),
        provenance: None,
        classes: vec!["happy".to_owned(), "sad".to_owned()],
        units: vec![],
        windows: (2.0, 0.5),
    }
}

pub fn server() -> Server {
    Server::start(&options(), subject()).expect("a server")
}

/// What is said of window `n`.
pub fn window(n: u64) -> Said {
    let happy = 0.5 + 0.4 * (n as f32 / 7.0).sin();
    let class = |class: &str, probability| ClassProbability {
        class: class.to_owned(),
        probability,
    };
    let start = n as f64 * 0.5;
    let frames = (0..16).map(|k| FramePrediction {
        index: 4 * n + k,
        time: start + k as f64 / 8.0,
        face_box: Some([48.0, 36.0, 240.0, 180.0].into()),
        landmarks: Some([[240.0, 180.0]; 5].into()),
        action_units: vec![],
        detected: Some(Face {
            face_box: [0.0, 0.0, 480.0, 360.0].into(),
            landmarks: [[240.0, 180.0]; 5].into(),
            score: 1.0,
        }),
        square: None,
    });
    let prediction = Prediction {
        file: None,
        person: None,
        start,
        end: start + 2.0,
        expression: if happy >= 0.5 { "happy" } else { "sad" }.to_owned(),
        confidence: happy.max(1.0 - happy),
        refusal: None,
        probabilities: vec![class("happy", happy), class("sad", 1.0 - happy)],
        action_units: vec![],
        frames: frames.collect(),
        source: Geometry::plain(480, 360),
        trained_on: Some("faces".to_owned()),
        seen: None,
        warnings: vec![],
    };
    Said {
        predictions: vec![prediction],
        delay: Duration::from_millis(20),
        dropped: 0,
    }
}

/// Connects; nothing is waited for longer than ten seconds.
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connected");
    let most = Some(Duration::from_secs(10));
    stream.set_read_timeout(most).expect("set");
    stream.set_write_timeout(most).expect("set");
    stream
}

/// A request of a client that has the token.
pub fn request(address: SocketAddr, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n")
}

/// What comes back for these bytes: the status, the head and the body.
pub fn ask(address: SocketAddr, bytes: &[u8]) -> (u16, String, String) {
    let mut stream = connect(address);
    // What is refused need not be read to its end.
    drop(stream.write_all(bytes));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
    (status.unwrap_or(0), head.to_owned(), body.to_owned())
}

/// What a client with the token gets.
pub fn get(address: SocketAddr, path: &str) -> (u16, String, String) {
    ask(address, request(address, path).as_bytes())
}

/// Reads events until one says this, which is given back with all before it.
pub fn until(stream: &mut TcpStream, words: &str) -> String {
    let (mut text, mut part) = (String::new(), [0; 64 << 10]);
    while !text.contains(words) {
        let n = stream.read(&mut part).expect("something to read");
        assert!(n > 0, "it ended before {words:?}: {text}");
        text += &String::from_utf8_lossy(&part[..n]);
    }
    text
}

/// The program's memory in bytes, where the system says it.
pub fn memory() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let number = line.trim().split(' ').next()?;
    Some(1024 * number.parse::<usize>().ok()?)
}
