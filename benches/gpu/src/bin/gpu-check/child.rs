//! A process with a time limit whose lines are handed on as they come.

use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group, set_parent_process_death_signal};

/// How a process ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    Well,
    /// With a code that is not 0, or by a signal; in words.
    Badly(String),
    /// It was ended after its time.
    Late,
    /// It was ended since this program was told to stop.
    Stopped,
    /// It did not start.
    Never(String),
}

/// How often the clock is looked at while nothing is said.
const TICK: Duration = Duration::from_millis(50);
/// How long a process that was killed, or its last lines, are waited for: one that hangs
/// in a driver may not end at all.
const GRACE: Duration = Duration::from_secs(3);

/// Runs a command to its end, or kills it and all that it has started; `each` is told of
/// every line of its output and its errors.
pub fn run(
    command: &mut Command,
    limit: Duration,
    stop: &AtomicBool,
    each: &mut dyn FnMut(&str),
) -> Ended {
    let (mut child, lines) = match start(command) {
        Ok(both) => both,
        Err(error) => {
            let program = command.get_program().to_string_lossy();
            return Ended::Never(format!("{program} does not start: {error}"));
        }
    };
    let end = Instant::now() + limit;
    loop {
        match lines.recv_timeout(TICK) {
            Ok(line) => each(&line),
            // It has closed its output: it ends, or only works on in silence.
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(TICK),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if let Ok(Some(status)) = child.try_wait() {
            rest(&lines, each);
            return said(status);
        }
        let stopped = stop.load(Ordering::Relaxed);
        if stopped || Instant::now() > end {
            kill(&mut child);
            rest(&lines, each);
            return if stopped { Ended::Stopped } else { Ended::Late };
        }
    }
}

/// What a command says that ends well within ten seconds: a tool that asks a driver may
/// never come back.
pub fn answer(command: &mut Command) -> Option<String> {
    let mut said = Vec::new();
    let limit = Duration::from_secs(10);
    let ended = run(command, limit, &AtomicBool::new(false), &mut |line| {
        said.push(line.to_owned());
    });
    (ended == Ended::Well && !said.is_empty()).then(|| said.join("\n"))
}

fn start(command: &mut Command) -> std::io::Result<(Child, Receiver<String>)> {
    let (from, to) = std::io::pipe()?;
    command
        .stdin(Stdio::null())
        .stdout(to.try_clone()?)
        .stderr(to)
        .process_group(0);
    // SAFETY: one system call between fork and exec; nothing is allocated.
    unsafe {
        // Who kills this program must not leave a process behind on the GPU.
        command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
    }
    let child = command.spawn();
    // The command holds the pipe's other end, and would hold it open.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let (send, lines) = channel();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(from);
        let mut line = Vec::new();
        while let Ok(1..) = reader.read_until(b'\n', &mut line) {
            let text = String::from_utf8_lossy(&line);
            if send.send(text.trim_end().to_owned()).is_err() {
                return;
            }
            line.clear();
        }
    });
    Ok((child?, lines))
}

/// The lines that are still on their way.
fn rest(lines: &Receiver<String>, each: &mut dyn FnMut(&str)) {
    let end = Instant::now() + GRACE;
    while let Ok(line) = lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
        each(&line);
    }
}

fn kill(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // It may have ended by itself meanwhile.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let end = Instant::now() + GRACE;
    while Instant::now() < end && matches!(child.try_wait(), Ok(None)) {
        std::thread::sleep(TICK);
    }
}

fn said(status: ExitStatus) -> Ended {
    match (status.code(), status.signal()) {
        (Some(0), _) => Ended::Well,
        (Some(code), _) => Ended::Badly(format!("it ended with code {code}")),
        (None, signal) => Ended::Badly(match signal {
            Some(signal) => format!("signal {signal} ended it"),
            None => "it ended".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, limit: u64) -> (Ended, Vec<String>, f64) {
        let mut lines = Vec::new();
        let begin = Instant::now();
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let limit = Duration::from_millis(limit);
        let ended = run(&mut command, limit, &AtomicBool::new(false), &mut |line| {
            lines.push(line.to_owned());
        });
        (ended, lines, begin.elapsed().as_secs_f64())
    }

    #[test]
    fn output_and_errors_come_in_their_order_with_the_code() {
        let (ended, lines, _) = sh("echo one; echo two >&2; printf three; exit 3", 5000);
        assert_eq!(ended, Ended::Badly("it ended with code 3".to_owned()));
        assert_eq!(lines, ["one", "two", "three"]);
        assert_eq!(sh("true", 5000).0, Ended::Well);
        assert_eq!(
            sh("kill -9 $$", 5000).0,
            Ended::Badly("signal 9 ended it".to_owned())
        );
    }

    #[test]
    fn who_hangs_is_killed_with_all_that_it_has_started() {
        let (ended, lines, seconds) = sh("echo at work; sleep 60 & sleep 61", 300);
        assert_eq!((ended, lines), (Ended::Late, vec!["at work".to_owned()]));
        assert!(seconds < 3.0, "{seconds} s");
    }

    #[test]
    fn a_process_that_leaves_another_behind_is_not_waited_for() {
        let (ended, lines, seconds) = sh("sleep 30 & echo done", 20_000);
        assert_eq!((ended, lines), (Ended::Well, vec!["done".to_owned()]));
        assert!(seconds < 6.0, "{seconds} s");
    }

    #[test]
    fn what_is_not_there_is_named_and_a_stop_is_heard() {
        let stop = AtomicBool::new(true);
        let limit = Duration::from_secs(20);
        let mut sleep = Command::new("sleep");
        let ended = run(sleep.arg("20"), limit, &stop, &mut |_| {});
        assert_eq!(ended, Ended::Stopped);
        let mut none = Command::new("/nowhere/mtcae-gpu");
        let Ended::Never(why) = run(&mut none, limit, &stop, &mut |_| {}) else {
            panic!("there is no such program");
        };
        assert!(why.contains("/nowhere/mtcae-gpu does not start"), "{why}");
    }
}
