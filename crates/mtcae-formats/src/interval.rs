//! Results as stretches of time: what formats of annotations are made of.

use mtcae_core::Refusal;
use mtcae_dfer::{Answer, Prediction, Results, Timeline, Warning};

use crate::Error;

/// A stretch of time in which the same is said of one person.
#[derive(Clone, Debug, PartialEq)]
pub struct Interval {
    /// The person, where several are told apart.
    pub person: Option<u32>,
    /// Its first moment, in milliseconds from the stream's first frame.
    pub start: i64,
    /// Its end in milliseconds, greater than `start`.
    pub end: i64,
    /// The expression; `None` where no answer is given.
    pub expression: Option<String>,
    /// The expression's probability, the mean over the windows; `None` without one.
    pub confidence: Option<f32>,
    /// Why no answer is given, of the first of the windows.
    pub refusal: Option<Refusal>,
    /// What was dropped, guessed or damaged, and what speaks against the answer; each once.
    pub warnings: Vec<String>,
}

impl Interval {
    /// The expression, or `no answer: ` and the kind of refusal.
    pub fn label(&self) -> String {
        match (&self.expression, &self.refusal) {
            (Some(expression), _) => expression.clone(),
            (None, Some(refusal)) => format!("no answer: {}", refusal.name()),
            (None, None) => "no answer".to_owned(),
        }
    }

    /// The refusal in words, and the warnings.
    pub fn remarks(&self) -> Vec<String> {
        let refusal = self.refusal.iter().map(|r| format!("no answer: {r}"));
        refusal.chain(self.warnings.iter().cloned()).collect()
    }
}

/// The intervals of one file's results: person by person, and in the order of time.
///
/// A clip is one interval, from its first to its last sampled frame. Of a timeline,
/// neighbouring points that say the same become one. They border half way between their
/// centres where a window follows the other by at most a stride; where windows are missing,
/// or shorter than their stride, there is a gap: what borders on it ends with the frames that
/// were sampled, and at most half a stride from its window's centre. Each is a millisecond
/// long at least.
///
/// # Errors
/// [`Error::Timeline`] where points and windows of a timeline are not as many.
pub fn intervals_of(results: &Results) -> Result<Vec<Interval>, Error> {
    match &results.answer {
        Answer::Clip(people) => Ok(people.iter().map(of_clip).collect()),
        Answer::Windows(timelines) => {
            let all: Result<Vec<_>, _> = timelines.iter().map(of_timeline).collect();
            Ok(all?.concat())
        }
    }
}

/// Seconds in whole milliseconds, the nearest; what lies before the stream's start is at it.
pub fn milliseconds(seconds: f64) -> i64 {
    // Saturates: a time that no clock has stays one.
    ((seconds * 1000.0).round() as i64).max(0)
}

fn of_clip(prediction: &Prediction) -> Interval {
    let expression = named(&prediction.expression);
    let start = milliseconds(prediction.start);
    Interval {
        person: prediction.person,
        start,
        end: milliseconds(prediction.end).max(start.saturating_add(1)),
        confidence: expression.as_ref().map(|_| prediction.confidence),
        expression,
        refusal: prediction.refusal.clone(),
        warnings: texts([&prediction.warnings].into_iter()),
    }
}

fn named(expression: &str) -> Option<String> {
    (!expression.is_empty()).then(|| expression.to_owned())
}

/// Each warning in words once; damage of one kind is counted together.
fn texts<'a>(lists: impl Iterator<Item = &'a Vec<Warning>>) -> Vec<String> {
    let mut of_video = Vec::new();
    let mut others: Vec<String> = Vec::new();
    for warning in lists.flatten() {
        match warning {
            Warning::Video(warning) => warning.clone().add_to(&mut of_video),
            other => {
                let text = other.to_string();
                if !others.contains(&text) {
                    others.push(text);
                }
            }
        }
    }
    let of_video = of_video.iter().map(ToString::to_string);
    of_video.chain(others).collect()
}

/// A window of a timeline with what its point says.
struct Moment<'a> {
    window: &'a Prediction,
    expression: Option<String>,
    confidence: Option<f32>,
    /// Seconds: the window's centre, or the nearest of its frames where it lies beyond them.
    centre: f64,
    /// Times of its first and last sampled frame.
    first: f64,
    last: f64,
}

impl Moment<'_> {
    /// Of what is not answered the reasons are told apart.
    fn says_the_same(&self, other: &Self) -> bool {
        let kind = |m: &Self| m.window.refusal.as_ref().map(Refusal::name);
        self.expression == other.expression
            && (self.expression.is_some() || kind(self) == kind(other))
    }
}

fn of_timeline(timeline: &Timeline) -> Result<Vec<Interval>, Error> {
    let (windows, points) = (timeline.windows.len(), timeline.points.len());
    if windows != points {
        return Err(Error::Timeline { windows, points });
    }
    let both = timeline.windows.iter().zip(&timeline.points);
    let moments: Vec<Moment<'_>> = both
        .map(|(window, point)| {
            let times = window.frames.iter().map(|frame| frame.time);
            let first = times.clone().reduce(f64::min).unwrap_or(window.start);
            let last = times.reduce(f64::max).unwrap_or(window.end);
            let expression = named(&point.expression);
            let told = point.probabilities.iter();
            let mut told = told.filter(|p| p.class == point.expression);
            Moment {
                window,
                confidence: told.next().map(|p| p.probability),
                expression,
                centre: point.time.min(last).max(first),
                first,
                last,
            }
        })
        .collect();
    let span = timeline.stride.min(timeline.length);
    // What a millionth of a stride is missing to is rounding.
    let reach = span * (1.0 + 1e-6);
    let follows = |a: &Moment<'_>, b: &Moment<'_>| b.window.start - a.window.start <= reach;
    let mut blocks = moments.chunk_by(follows).peekable();
    let (mut intervals, mut at, mut half) = (Vec::new(), 0, f64::INFINITY);
    while let Some(block) = blocks.next() {
        let (Some(first), Some(last)) = (block.first(), block.last()) else {
            continue;
        };
        // The frames of a window reach into the time that its missing neighbour stands for.
        let start = first.first.max(first.centre - half);
        half = span / 2.0;
        let end = match blocks.peek() {
            Some(_) => last.last.min(last.centre + half),
            None => last.last,
        };
        at = milliseconds(start).max(at);
        at = of_block(block, at, milliseconds(end), &mut intervals);
    }
    Ok(intervals)
}

/// Windows that follow each other without a gap, from `start` to `outer` in milliseconds; where
/// the last interval ends.
fn of_block(
    block: &[Moment<'_>],
    mut start: i64,
    outer: i64,
    intervals: &mut Vec<Interval>,
) -> i64 {
    let before = intervals.len();
    let mut runs = block.chunk_by(Moment::says_the_same).peekable();
    while let Some(run) = runs.next() {
        let end = match (run.last(), runs.peek().and_then(|next| next.first())) {
            (Some(a), Some(b)) => milliseconds((a.centre + b.centre) / 2.0),
            _ => outer,
        };
        // What stands for no time at the end of a video is left to its neighbour; a still
        // picture has none to leave it to.
        let is_alone = runs.peek().is_none() && intervals.len() == before;
        if end > start || is_alone {
            let end = end.max(start.saturating_add(1));
            intervals.push(of_run(run, start, end));
            start = end;
        }
    }
    start
}

fn of_run(run: &[Moment<'_>], start: i64, end: i64) -> Interval {
    let first = &run[0];
    let told: Vec<f64> = run
        .iter()
        .filter_map(|m| m.confidence.map(f64::from))
        .collect();
    let mean = || (told.iter().sum::<f64>() / told.len() as f64) as f32;
    Interval {
        person: first.window.person,
        start,
        end,
        expression: first.expression.clone(),
        confidence: (first.expression.is_some() && !told.is_empty()).then(mean),
        refusal: match first.expression {
            // Doubt that the neighbours took away.
            Some(_) => None,
            None => first.window.refusal.clone(),
        },
        warnings: texts(run.iter().map(|moment| &moment.window.warnings)),
    }
}
