//! Ranks meet where the environment says, and strangers get nothing.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use mtcae_ranks::{Error, Meeting};

const SECRET: &str = "a secret of thirty-two hex digits";

fn variables<'a>(changes: &[(&'a str, &'a str)]) -> Result<Meeting, Error> {
    let usual = [
        ("RANK", "0"),
        ("WORLD_SIZE", "3"),
        ("MASTER_ADDR", "127.0.0.1"),
        ("MASTER_PORT", "29400"),
        ("MTCAE_RANKS_SECRET", SECRET),
    ];
    Meeting::of(|name| {
        let all = changes.iter().chain(&usual);
        let mut found = all.filter(|(known, _)| *known == name);
        found.next().map(|(_, value)| (*value).to_owned())
    })
}

/// A port that is free now.
fn port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener
        .local_addr()
        .expect("an address")
        .port()
        .to_string()
}

fn rank(number: &str, port: &str, secret: &str) -> Meeting {
    let changes = [
        ("RANK", number),
        ("MASTER_PORT", port),
        ("MTCAE_RANKS_SECRET", secret),
    ];
    let meeting = variables(&changes).expect("all is said");
    meeting.within(Duration::from_secs(3))
}

fn made() -> Result<[u8; 128], Error> {
    Ok(std::array::from_fn(|i| i as u8))
}

fn not_asked() -> Result<[u8; 128], Error> {
    Err(Error::Deal("only rank 0 makes it".to_owned()))
}

#[test]
fn what_rank_0_makes_comes_to_all_and_not_to_strangers() {
    let port = port();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| rank("0", &port, SECRET).hand_over(made));
        let others = ["1", "2"].map(|n| {
            let rank = rank(n, &port, SECRET);
            scope.spawn(move || rank.hand_over(not_asked))
        });
        // One who says nothing, one who says anything, one who goes at once.
        let mut strangers = Vec::new();
        while strangers.len() < 2
            && let Ok(mut stranger) = TcpStream::connect(format!("127.0.0.1:{port}"))
        {
            drop(stranger.write_all(&[7; 500]));
            let mut got = Vec::new();
            stranger
                .set_read_timeout(Some(Duration::from_secs(1)))
                .expect("a timeout");
            drop(stranger.read_to_end(&mut got));
            // A greeting at most.
            assert!(got.len() <= 48, "{} bytes", got.len());
            strangers.push(stranger);
        }
        let want = made().expect("made");
        assert_eq!(first.join().expect("no panic"), Ok(want));
        for other in others {
            assert_eq!(other.join().expect("no panic"), Ok(want));
        }
    });
}

#[test]
fn another_secret_is_turned_away_and_both_sides_say_so() {
    let port = port();
    let (first, second) = std::thread::scope(|scope| {
        let first = scope.spawn(|| rank("0", &port, SECRET).hand_over(made));
        let other = rank("1", &port, "another secret, also long enough");
        let second = scope.spawn(move || other.hand_over(not_asked));
        (
            first.join().expect("no panic").expect_err("nobody came"),
            second.join().expect("no panic").expect_err("turned away"),
        )
    });
    let first = first.to_string();
    assert!(
        first.starts_with("MASTER_ADDR: within 3 s ranks 1, 2 have not come")
            && first.contains("without the right MTCAE_RANKS_SECRET"),
        "{first}"
    );
    let second = second.to_string();
    assert!(
        second.contains("has not met rank 0") && second.contains("MTCAE_RANKS_SECRET"),
        "{second}"
    );
}

#[test]
fn two_that_are_the_same_rank_and_other_sizes_are_named() {
    let port = port();
    let changes = [("RANK", "1"), ("MASTER_PORT", &port), ("WORLD_SIZE", "2")];
    let other = variables(&changes).expect("all is said");
    let other = other.within(Duration::from_secs(1));
    let said = std::thread::scope(|scope| {
        let first = scope.spawn(|| rank("0", &port, SECRET).hand_over(made));
        let second = scope.spawn(move || other.hand_over(not_asked));
        drop(second.join().expect("no panic"));
        first.join().expect("no panic").expect_err("other sizes")
    });
    assert_eq!(said.to_string(), "WORLD_SIZE: rank 1 says 2, rank 0 says 3");
}

#[test]
fn variables_that_are_missing_or_wrong_are_named() {
    for (name, value, begin) in [
        ("WORLD_SIZE", "", "WORLD_SIZE: is not set"),
        (
            "WORLD_SIZE",
            "-1",
            "WORLD_SIZE: says how many ranks there are, and is \"-1\"",
        ),
        ("RANK", "3", "RANK: is 3, of 3 ranks from 0"),
        ("MASTER_ADDR", "", "MASTER_ADDR: is not set"),
        ("MASTER_PORT", "70000", "MASTER_PORT: is no port: 70000"),
        ("MTCAE_RANKS_SECRET", "", "MTCAE_RANKS_SECRET: is not set"),
        (
            "MTCAE_RANKS_SECRET",
            "short",
            "MTCAE_RANKS_SECRET: has fewer than 16 bytes",
        ),
    ] {
        let error = variables(&[(name, value)]).err().expect(begin).to_string();
        assert!(error.starts_with(begin), "{error}");
    }
}
