//! What was said last, for whoever asks. It is bounded however long a stream is.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use mtcae_dfer::{Answer, Prediction, Provenance, Results, Timeline};
use serde::Serialize;

/// Bytes of lines, and as many again of pieces, that are kept.
const KEPT: usize = 8 << 20;

/// So much is handed to a reader at once.
const BATCH: usize = 64 << 10;

/// So many results as a whole are in memory at most, whoever may still be reading them.
const COPIES: usize = 4;

/// One of the two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The lines of JSON.
    Lines,
    /// The pieces that the page is told.
    Pieces,
}

/// The last of what was said, by its number.
#[derive(Default)]
struct Ring {
    first: u64,
    items: VecDeque<Arc<str>>,
    bytes: usize,
}

impl Ring {
    fn push(&mut self, item: Arc<str>) {
        self.bytes += item.len();
        self.items.push_back(item);
        while self.bytes > KEPT && self.items.len() > 1 {
            let gone = self.items.pop_front();
            self.bytes -= gone.map_or(0, |item| item.len());
            self.first += 1;
        }
    }
}

/// What is known of the stream.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Status {
    pub state: &'static str,
    /// Windows that were answered.
    pub windows: u64,
    /// Frames that were left out, since they came while answers were late.
    pub dropped: u64,
    /// Of the last window, in seconds since its last frame was decoded.
    pub delay: f64,
}

#[derive(Default)]
struct State {
    lines: Ring,
    /// Of the lines that are kept.
    predictions: VecDeque<Arc<Prediction>>,
    pieces: Ring,
    status: Status,
    ended: Option<Arc<str>>,
    closing: bool,
}

/// What follows for a reader.
pub(crate) struct Batch {
    /// As many were there and are not kept any more.
    pub left_out: u64,
    /// The first one's number.
    pub first: u64,
    pub items: Vec<Arc<str>>,
    /// What is said at the end, once all else is read.
    pub ended: Option<Arc<str>>,
    /// Whether the server closes.
    pub closing: bool,
}

/// Results as a whole, as they were last asked for.
#[derive(Default)]
struct Whole {
    /// How many lines there were.
    after: Option<u64>,
    json: Option<Arc<[u8]>>,
    left_out: u64,
    copies: Vec<Weak<[u8]>>,
}

pub(crate) struct Hub {
    /// The first line of the JSON Lines.
    pub head: Arc<str>,
    provenance: Option<Provenance>,
    windows: (f64, f64),
    state: Mutex<State>,
    news: Condvar,
    whole: Mutex<Whole>,
}

impl Hub {
    pub fn new(head: Arc<str>, provenance: Option<Provenance>, windows: (f64, f64)) -> Self {
        let mut state = State::default();
        state.status.state = "running";
        Self {
            head,
            provenance,
            windows,
            state: Mutex::new(state),
            news: Condvar::new(),
            whole: Mutex::default(),
        }
    }

    /// Nothing here panics while it holds the lock, and every change is whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what is said of one window: lines with their predictions, and a piece.
    pub fn tell(
        &self,
        lines: Vec<(Arc<str>, Arc<Prediction>)>,
        piece: Option<Arc<str>>,
        delay: Duration,
        dropped: u64,
    ) {
        let mut state = self.state();
        for (line, prediction) in lines {
            state.lines.push(line);
            state.predictions.push_back(prediction);
        }
        while state.predictions.len() > state.lines.items.len() {
            state.predictions.pop_front();
        }
        if let Some(piece) = piece {
            state.pieces.push(piece);
        }
        state.status.windows += 1;
        state.status.dropped = dropped;
        state.status.delay = delay.as_secs_f64();
        drop(state);
        self.news.notify_all();
    }

    pub fn end(&self, said: Arc<str>) {
        let mut state = self.state();
        state.status.state = "ended";
        state.ended = Some(said);
        drop(state);
        self.news.notify_all();
    }

    pub fn close(&self) {
        self.state().closing = true;
        self.news.notify_all();
    }

    pub fn is_closing(&self) -> bool {
        self.state().closing
    }

    /// Where the stream is, how many lines are kept, and how many not.
    pub fn status(&self) -> (Status, usize, u64) {
        let state = self.state();
        let lines = &state.lines;
        (state.status.clone(), lines.items.len(), lines.first)
    }

    /// What follows from number `from` on. Waits for it so long; `knows_end` is for who has
    /// been told of the end.
    pub fn wait(&self, kind: Kind, from: u64, knows_end: bool, within: Duration) -> Batch {
        let of = |state: &State| -> (u64, usize) {
            let ring = match kind {
                Kind::Lines => &state.lines,
                Kind::Pieces => &state.pieces,
            };
            (ring.first, ring.items.len())
        };
        let nothing = |state: &mut State| {
            let (first, count) = of(state);
            let is_told = knows_end || state.ended.is_none();
            first + count as u64 <= from && is_told && !state.closing
        };
        let waited = self.news.wait_timeout_while(self.state(), within, nothing);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let ring = match kind {
            Kind::Lines => &state.lines,
            Kind::Pieces => &state.pieces,
        };
        let first = from.max(ring.first);
        let mut bytes = 0;
        let skipped = usize::try_from(first - ring.first).unwrap_or(usize::MAX);
        let items = ring.items.iter().skip(skipped).take_while(|item| {
            let fits = bytes < BATCH;
            bytes += item.len();
            fits
        });
        let items: Vec<Arc<str>> = items.cloned().collect();
        let all = first + items.len() as u64 >= ring.first + ring.items.len() as u64;
        Batch {
            left_out: first - from,
            first,
            items,
            ended: state.ended.clone().filter(|_| all && !knows_end),
            closing: state.closing,
        }
    }

    /// The results of what is kept as JSON (`docs/results-format.md`), and how many
    /// predictions are not kept any more. Where too many copies are still being read, those
    /// before, so that who reads slowly holds no more memory than that.
    pub fn results(&self) -> (Arc<[u8]>, u64) {
        let mut whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        let (predictions, first) = {
            let state = self.state();
            let after = state.lines.first + state.lines.items.len() as u64;
            whole.copies.retain(|copy| copy.strong_count() > 0);
            let is_enough = whole.after == Some(after) || whole.copies.len() >= COPIES;
            if let (Some(json), true) = (&whole.json, is_enough) {
                return (json.clone(), whole.left_out);
            }
            whole.after = Some(after);
            (state.predictions.clone(), state.lines.first)
        };
        let mut people: BTreeMap<Option<u32>, Vec<Prediction>> = BTreeMap::new();
        for prediction in predictions {
            let windows = people.entry(prediction.person).or_default();
            windows.push((*prediction).clone());
        }
        let (length, stride) = self.windows;
        // Windows that can be followed are lengths of time.
        let timelines = people
            .into_values()
            .filter_map(|windows| Timeline::new(length, stride, windows).ok());
        let results = Results {
            provenance: self.provenance.clone(),
            answer: Answer::Windows(timelines.collect()),
        };
        let mut json = Vec::new();
        // A vector takes everything, and numbers that are not finite are null.
        drop(results.write(&mut json, false));
        let json: Arc<[u8]> = json.into();
        whole.copies.push(Arc::downgrade(&json));
        whole.json = Some(json.clone());
        whole.left_out = first;
        (json, first)
    }
}
