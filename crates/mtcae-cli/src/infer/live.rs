//! `infer -`: a stream from standard input, answered while it comes.

use std::fs::File;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use mtcae_core::files::At;
use mtcae_dfer::model::Config;
use mtcae_dfer::video::{OpenOptions, Stream};
use mtcae_dfer::{
    Ended, FaceFinder, LiveOptions, PeopleOptions, Pipeline, Prediction, Provenance, Said, Teller,
    Windowing,
};

use super::args::{Args, Late, People};
use super::serve;
use crate::output::end_if_closed;
use crate::{Fault, note, one_line};

/// What the stream is called.
const NAME: &str = "standard input";

/// The lines of a stream, in the folder of results.
const LINES: &str = "stream.jsonl";

/// Follows the stream to its end.
pub fn follow(
    args: &Args,
    pipeline: &Pipeline,
    finder: &FaceFinder,
    provenance: Option<Provenance>,
    model: &Config,
) -> Result<bool, Fault> {
    let (length, stride) = args.live_windows();
    let mut server = serve::start(args, NAME, provenance.as_ref(), model)?;
    let mut file = match &args.out {
        Some(out) => {
            let file = create(&out.join(LINES), args.force)?;
            Some(Teller::begin(file, provenance.clone(), length, stride)?)
        }
        None => None,
    };
    let stream = Stream::open(
        io::stdin(),
        NAME,
        args.raw.as_ref(),
        &OpenOptions::default(),
    )?;
    let mut shown = match args.out.is_none() && !args.format.is_empty() {
        true => Some(Teller::begin(io::stdout(), provenance, length, stride)?),
        false => None,
    };
    let options = LiveOptions {
        people: PeopleOptions {
            everybody: args.people == People::All,
            min_seen: args.min_seen.map_or(2, usize::from),
            windowing: Some(Windowing {
                length,
                stride,
                batch: 1,
            }),
            ..PeopleOptions::default()
        },
        late: match args.late {
            None | Some(Late::Drop) => LiveOptions::default().late,
            Some(Late::Wait) => None,
        },
    };
    let mut fault = None;
    let mut longest = Duration::ZERO;
    let mut tell = |said: Said| -> Result<(), Fault> {
        longest = longest.max(said.delay);
        if let Some(server) = &mut server {
            server.tell(&said)?;
        }
        for prediction in &said.predictions {
            if let Some(out) = &mut file {
                out.tell(prediction, said.delay, said.dropped)?;
            }
            match &mut shown {
                Some(out) => out.tell(prediction, said.delay, said.dropped)?,
                None if !args.quiet => {
                    writeln!(io::stdout().lock(), "{}", line(prediction))?;
                }
                None => {}
            }
        }
        Ok(())
    };
    let followed = finder.follow(pipeline, stream, &options, |said| match tell(said) {
        Ok(()) => ControlFlow::Continue(()),
        Err(e) => {
            fault = Some(e);
            ControlFlow::Break(())
        }
    });
    if let Some(e) = fault {
        if let Some(e) = e.downcast_ref() {
            end_if_closed(e);
        }
        return Err(e);
    }
    let ended = followed.map_err(|e| one_line(&e).replace("`min_seen`", "--min-seen"))?;
    if !args.quiet {
        sum_up(&ended, longest);
    }
    if let Some(mut server) = server {
        server.end(&ended);
        serve::stay(&server, args);
    }
    Ok(true)
}

/// A file for lines, which stand as they come: a stream may be stopped at any time.
fn create(path: &Path, force: bool) -> Result<File, Fault> {
    let mut options = File::options();
    match force {
        true => options.write(true).create(true).truncate(true),
        false => options.write(true).create_new(true),
    };
    options.open(path).map_err(|e| match e.kind() {
        io::ErrorKind::AlreadyExists => {
            let shown = path.display();
            format!("{shown} is there already; --force overwrites it, or give another --out").into()
        }
        _ => Err::<(), _>(e).at(path).err().map_or_else(
            || Fault::from("cannot be written"),
            |e| Fault::from(one_line(&e)),
        ),
    })
}

/// A window in a line.
fn line(prediction: &Prediction) -> String {
    let mut text = format!("{:9.2} to {:9.2} s", prediction.start, prediction.end);
    if let Some(person) = prediction.person {
        text += &format!("  person {person}");
    }
    text += &match &prediction.refusal {
        Some(refusal) => format!("  no answer: {refusal}"),
        None => format!(
            "  {} ({:.1}%)",
            prediction.expression,
            100.0 * prediction.confidence
        ),
    };
    for warning in &prediction.warnings {
        text += &format!("; {warning}");
    }
    text
}

fn sum_up(ended: &Ended, longest: Duration) {
    let Ended {
        windows,
        frames,
        dropped,
        warnings,
    } = ended;
    for warning in warnings {
        note!("warning: {NAME}: {warning}");
    }
    note!(
        "the stream ended: {windows} windows, {frames} frames looked at, {dropped} left out; the \
         longest delay was {:.0} ms",
        1e3 * longest.as_secs_f64()
    );
}
