//! What a run writes while it goes on: its log, the same for TensorBoard, pictures.

use std::path::{Path, PathBuf};

use mtcae_core::files::At;
use serde::Serialize;

use crate::Error;
use crate::clock::Clock;
use crate::events::{Events, Picture};
use crate::folder::{EVENTS, LOG};
use crate::learner::Drawn;
use crate::log::Log;
use crate::state::Position;

/// The files of a run that grow.
pub(crate) struct Logs {
    folder: PathBuf,
    log: Log,
    events: Events,
}

/// How fast a step was, which the log says of an epoch.
#[derive(Serialize)]
struct Pace {
    clips_per_second: f64,
    seconds: f64,
    waiting: f64,
}

impl Logs {
    /// Goes on where a position stands.
    pub fn open<S>(folder: &Path, at: &Position<S>) -> Result<Self, Error> {
        Ok(Self {
            log: Log::open(&folder.join(LOG), at.log)?,
            events: Events::open(&folder.join(EVENTS), at.events)?,
            folder: folder.to_owned(),
        })
    }

    /// A step of so many clips: `line` for the log, and for TensorBoard one that also says what
    /// its time was spent on.
    pub fn step(
        &mut self,
        step: u64,
        line: &impl Serialize,
        timed: &impl Serialize,
        clock: &Clock,
        clips: f64,
    ) -> Result<(), Error> {
        self.log.write(line)?;
        self.events.numbers(step, "step", timed)?;
        let pace = Pace {
            clips_per_second: clock.rate(clips),
            seconds: clock.seconds,
            waiting: clock.waiting(),
        };
        self.events.numbers(step, "step", &pace)
    }

    /// The end of an epoch, whose last step this was.
    pub fn epoch(
        &mut self,
        step: u64,
        epoch: usize,
        line: &impl Serialize,
        drawn: Option<&Drawn>,
    ) -> Result<(), Error> {
        self.log.write(line)?;
        self.events.numbers(step, "epoch", line)?;
        let Some(drawn) = drawn else {
            return Ok(());
        };
        let folder = self.folder.join(drawn.folder);
        std::fs::create_dir_all(&folder).at(&folder)?;
        let path = folder.join(format!("epoch-{:03}.png", epoch + 1));
        mtcae_viz::save_png(&path, &drawn.picture)?;
        let picture = Picture {
            width: drawn.picture.width() as u32,
            height: drawn.picture.height() as u32,
            png: std::fs::read(&path).at(&path)?,
        };
        self.events.picture(step, drawn.folder, &picture)
    }

    /// Waits until the disk has all of it, so that a state is never there without the lines that
    /// it counts on, and says in a position how much it is.
    pub fn sync<S>(&self, at: &mut Position<S>) -> Result<(), Error> {
        self.log.sync()?;
        self.events.sync()?;
        at.log = self.log.length();
        at.events = self.events.length();
        Ok(())
    }
}
