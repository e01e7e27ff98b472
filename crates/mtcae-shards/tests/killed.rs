//! Processes that are killed at random, on 20,000 files.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{job, names, row, run_shard, task, whole};
use mtcae_shards::lease::{Folder, run};
use mtcae_shards::merge::{Options, merge};
use mtcae_shards::shard::Shard;

const FILES: usize = 20_000;
const KILLS: usize = 60;

/// What a process of these tests works on: a folder of leases, or a shard and where it goes.
const LEASES: &str = "MTCAE_TEST_LEASES";
const SHARD: &str = "MTCAE_TEST_SHARD";

/// This test as a program by itself; as a test it does nothing.
#[test]
fn worker() {
    let names = names(FILES);
    if let Ok(root) = std::env::var(LEASES) {
        let job = job(&names, 20.0);
        let folder = Folder::join(Path::new(&root), &job, Some(16)).expect("joined");
        let expiry = Duration::from_millis(700);
        let make = |place| row(&names, place);
        run(task(&job, &names), &folder, expiry, make, |_, _| {}).expect("done");
    } else if let Ok(shard) = std::env::var(SHARD) {
        let (shard, out) = shard.split_once(' ').expect("two words");
        run_shard(&names, 20.0, shard, Path::new(out), true).expect("done");
    }
}

fn start(variable: &str, value: &str) -> Child {
    Command::new(std::env::current_exe().expect("this program"))
        .args(["worker", "--exact"])
        .env(variable, value)
        .stdout(Stdio::null())
        .spawn()
        .expect("started")
}

/// A number below `end`, another each time.
fn random(state: &mut u64, end: u64) -> u64 {
    *state = state
        .wrapping_mul(6364136223846793005)
        .wrapping_add(1442695040888963407);
    (*state >> 33) % end
}

/// Kills a process after some time, unless it has ended; whether it was killed.
fn kill_after(child: &mut Child, time: Duration) -> bool {
    std::thread::sleep(time);
    let alive = child.try_wait().expect("asked").is_none();
    child.kill().expect("killed or over");
    child.wait().expect("ended");
    alive
}

fn merged(out: &Path, from: &[PathBuf]) -> Vec<u8> {
    let said = merge(out, from, Options::default()).expect("merged");
    assert_eq!((said.rows, said.files), (FILES, FILES));
    fs::read(out).expect("there")
}

#[test]
fn shards_of_killed_processes_are_what_one_process_writes() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("rows.jsonl");
    let (mut state, mut kills) = (3, 0);
    let of = 8;
    let value = |number: usize| format!("{number}/{of} {}", out.display());
    // Each is killed a few times, and some at their very end or begin.
    for number in (1..=of).cycle() {
        let mut child = start(SHARD, &value(number));
        let time = Duration::from_millis(random(&mut state, 60));
        kills += usize::from(kill_after(&mut child, time));
        let done = |n| {
            let path = Shard { number: n, of }.path(&out);
            fs::read_to_string(path).is_ok_and(|text| text.lines().count() == FILES / of)
        };
        if kills >= KILLS || (1..=of).all(done) {
            break;
        }
    }
    let mut shards = Vec::new();
    for number in 1..=of {
        assert!(
            start(SHARD, &value(number))
                .wait()
                .expect("ended")
                .success()
        );
        shards.push(Shard { number, of }.path(&out));
    }
    assert!(merged(&folder.path().join("all.jsonl"), &shards) == whole(&names(FILES)));
    assert!(kills >= 8, "{kills}");
}

#[test]
fn leases_of_killed_processes_lose_no_row_and_double_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("work");
    let value = root.display().to_string();
    let (mut state, mut kills) = (5, 0);
    let mut workers: Vec<Child> = (0..4).map(|_| start(LEASES, &value)).collect();
    while kills < KILLS {
        let which = random(&mut state, workers.len() as u64) as usize;
        let time = Duration::from_millis(random(&mut state, 40));
        let was_alive = kill_after(&mut workers[which], time);
        kills += usize::from(was_alive);
        workers[which] = start(LEASES, &value);
        if !was_alive {
            break; // all is done
        }
    }
    for mut worker in workers {
        assert!(worker.wait().expect("ended").success());
    }
    let rows = merged(
        &folder.path().join("all.jsonl"),
        std::slice::from_ref(&root),
    );
    assert!(rows == whole(&names(FILES)));
    assert!(kills >= KILLS / 2, "{kills}");
    let parts = (0..FILES / 16).filter(|part| {
        let first = root.join(format!("work/{part:07}.0"));
        first.exists()
    });
    assert_eq!(parts.count(), 0, "leases are left");
    println!("{kills} kills");
}
