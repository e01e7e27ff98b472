//! Server-sent events, for as long as somebody reads them.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::http;
use crate::hub::{Hub, Kind};

/// Something is written at least so often, by which both sides see that the other is there.
const SIGN: Duration = Duration::from_secs(5);

/// Where a reader goes on, by the last event that they have: `RUN-NUMBER`. Events of another
/// run, and what is no event's name, are as good as none.
pub(crate) fn after(last: Option<&str>, run: &str) -> u64 {
    let of_run = last.and_then(|last| last.strip_prefix(run)?.strip_prefix('-'));
    let number = of_run.and_then(|number| number.parse::<u64>().ok());
    number.map_or(0, |number| number.saturating_add(1))
}

/// Writes events until the reader is gone, or too slow to take anything.
pub(crate) fn write(
    out: &mut TcpStream,
    hub: &Hub,
    kind: Kind,
    run: &str,
    mut next: u64,
) -> io::Result<()> {
    let mut text = http::head(200, "Content-Type: text/event-stream\r\n");
    if next == 0 && kind == Kind::Lines {
        event(&mut text, Some("head"), None, &hub.head);
    } else {
        text += ":\n\n";
    }
    let mut knows_end = false;
    loop {
        out.write_all(text.as_bytes())?;
        text.clear();
        let batch = hub.wait(kind, next, knows_end, SIGN);
        if batch.closing {
            return Ok(());
        }
        if batch.left_out > 0 {
            let count = format!("{{\"count\":{}}}", batch.left_out);
            event(&mut text, Some("left-out"), None, &count);
        }
        next = batch.first;
        for item in &batch.items {
            event(&mut text, None, Some(&format!("{run}-{next}")), item);
            next += 1;
        }
        if let Some(said) = &batch.ended {
            event(&mut text, Some("end"), None, said);
            knows_end = true;
        }
        if text.is_empty() {
            text += ":\n\n";
        }
    }
}

/// One event. JSON has no line feeds.
fn event(text: &mut String, name: Option<&str>, id: Option<&str>, data: &str) {
    for (field, value) in [("event", name), ("id", id), ("data", Some(data))] {
        if let Some(value) = value {
            // A string takes everything.
            let _ = writeln!(text, "{field}: {value}");
        }
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_goes_on_after_the_event_that_they_have() {
        for (last, next) in [
            (Some("ab-0"), 1),
            (Some("ab-41"), 42),
            (Some("ab-18446744073709551615"), u64::MAX),
            (None, 0),
            (Some(""), 0),
            (Some("cd-41"), 0),
            (Some("ab-"), 0),
            (Some("ab--1"), 0),
            (Some("ab-99999999999999999999"), 0),
        ] {
            assert_eq!(after(last, "ab"), next, "{last:?}");
        }
    }
}
