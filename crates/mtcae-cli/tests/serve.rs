//! `infer - --serve`: a stream, read by a client of bare TCP.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::time::Duration;

use common::{code, portrait, program, text};
use mtcae_dfer::Results;
use mtcae_testing::fixtures;

/// Stops the program, whatever becomes of the test.
struct Stopped(Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// What the server answers: head and body.
fn ask(address: &str, path: &str, token: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).expect("connected");
    let most = Some(Duration::from_secs(30));
    stream.set_read_timeout(most).expect("set");
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\r\n"
    )
    .expect("sent");
    let (mut answer, mut part) = (String::new(), [0; 1 << 16]);
    // Events go on after the end is said.
    while !answer.contains("event: end\ndata: ") {
        match stream.read(&mut part).expect("something to read") {
            0 => break,
            n => answer += &String::from_utf8_lossy(&part[..n]),
        }
    }
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.to_owned(), body.to_owned())
}

#[test]
fn a_stream_is_served_to_who_has_the_token_until_the_program_is_stopped() {
    let mut command = program("infer");
    command
        .args([
            "-",
            "--late",
            "wait",
            "--serve",
            "127.0.0.1:0",
            "--checkpoint",
        ])
        .arg(fixtures().join("default"))
        .env_remove("MTCAE_SERVE_TOKEN")
        .stdin(std::fs::File::open(portrait()).expect("opened"))
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = Stopped(command.spawn().expect("started"));
    let notes = BufReader::new(child.0.stderr.take().expect("a pipe"));
    let mut notes = notes.lines().map(|line| line.expect("a line"));
    let first = notes.next().expect("where it is");
    let url = first.strip_prefix("live at http://").expect("an address");
    let (address, token) = url.split_once("/#token=").expect("a token");
    assert_eq!(token.len(), 43, "32 random bytes");

    let (head, body) = ask(address, "/v1/events", token);
    assert!(head.contains("text/event-stream"), "{head}");
    let lines: Vec<&str> = body
        .lines()
        .filter_map(|l| l.strip_prefix("data: "))
        .collect();
    // The first line, three windows, and the end, which is no line of them.
    assert_eq!(lines.len(), 5, "{body}");
    let read = Results::parse(lines[..4].join("\n").as_bytes()).expect("lines");
    // What was said stays after the end.
    let stays = notes.find(|line| line.contains("the page stays at"));
    assert!(stays.expect("said").ends_with("; Ctrl-C ends it"));
    let (head, body) = ask(address, "/v1/results", token);
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(Results::parse(body.as_bytes()).expect("results"), read);
    assert!(read.provenance.is_some());
    let (head, body) = ask(address, "/v1/results", "x");
    assert!(
        head.starts_with("HTTP/1.1 401 ") && !body.contains("happy"),
        "{head}"
    );
}

#[test]
fn where_and_to_whom_nothing_can_be_served_is_said() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("its address").to_string();
    let secret = "a-token-that-is-long-enough";
    for (args, token, expected, words) in [
        (
            &["-", "--serve", &taken][..],
            secret,
            1,
            "another program has this port; give another, or 0",
        ),
        (
            &["-", "--serve", "localhost:0"],
            "secret",
            1,
            "MTCAE_SERVE_TOKEN: a token has 16 to 256",
        ),
        (
            &["-", "--serve", "192.0.2.1:0", "--serve-anyone"],
            secret,
            1,
            "give an address of this machine",
        ),
        (
            &["-", "--serve", "0.0.0.0:0"],
            secret,
            2,
            "with --serve-anyone other machines",
        ),
        (&["-", "--serve", "8000"], secret, 2, "as in 127.0.0.1:8000"),
        (
            &["-", "--serve", "example.org:80"],
            secret,
            2,
            "as in 127.0.0.1:8000",
        ),
        (
            &["-", "--serve-anyone"],
            secret,
            2,
            "--serve <127.0.0.1:PORT>",
        ),
        (
            &["a.mp4", "--serve", "localhost:0"],
            secret,
            2,
            "--serve are for -",
        ),
    ] {
        let mut command = program("infer");
        command
            .args(args)
            .arg("--checkpoint")
            .arg(fixtures().join("default"));
        command.env("MTCAE_SERVE_TOKEN", token).stdin(Stdio::null());
        let output = command.output().expect("started");
        let refusal = text(&output.stderr);
        assert!(
            code(&output) == expected && refusal.contains(words),
            "{words}: {refusal}"
        );
        assert!(expected == 2 || refusal.lines().count() == 1, "{refusal}");
        assert!(!refusal.contains(secret), "{refusal}");
    }
}
