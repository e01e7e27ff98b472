//! Ticks and their numbers.

/// A number to be drawn is finite, and small enough that differences are too.
pub(crate) fn drawable(v: f64) -> bool {
    v.abs() < 1e150
}

/// The distance between ticks: 1, 2 or 5 times a power of ten, the least for which
/// at most `most` fit into the span.
pub(crate) fn step(span: f64, most: usize) -> f64 {
    let most = most.max(1) as f64;
    let power = 10f64.powf((span / most).log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|m| m * power)
        // A span of 0.5 in steps of 0.1 is 5, and not 5.000000000000001, of them.
        .find(|s| span / s <= most * (1.0 + 1e-9))
        .unwrap_or(span)
}

/// An axis that starts and ends on a tick.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Axis {
    step: f64,
    /// The first and the last tick in steps from 0.
    first: f64,
    last: f64,
}

impl Axis {
    /// An axis for these numbers, which may be none, with about `most` ticks. With
    /// `whole`, ticks are whole numbers.
    pub(crate) fn new(values: impl Iterator<Item = f64>, most: usize, whole: bool) -> Self {
        let (low, high) = values
            .filter(|v| drawable(*v))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
                (low.min(v), high.max(v))
            });
        let (mut low, mut high) = if low > high { (0.0, 1.0) } else { (low, high) };
        // One number, or numbers that f64 hardly tells apart, get room around them.
        let room = 1e-6 * low.abs().max(high.abs());
        if high - low <= room {
            let room = if room > 0.0 { 1e5 * room } else { 1.0 };
            (low, high) = (low - room, high + room);
        }
        let mut step = step(high - low, most);
        if whole {
            step = step.max(1.0);
        }
        Self {
            step,
            first: (low / step + 1e-9).floor(),
            last: (high / step - 1e-9).ceil(),
        }
    }

    /// Where a number lies: 0 at the axis's start, 1 at its end.
    pub(crate) fn at(&self, v: f64) -> f32 {
        let span = (self.last - self.first).max(1.0);
        ((v / self.step - self.first) / span) as f32
    }

    /// The ticks and their numbers in letters, all with as many decimals.
    pub(crate) fn ticks(&self) -> Vec<(f64, String)> {
        // `new` makes few; the bound keeps a mistake from taking all memory.
        let count = (self.last - self.first).clamp(0.0, 1000.0) as usize;
        let decimals = (-self.step.log10() - 1e-9).ceil().max(0.0) as usize;
        let largest = self.step * self.first.abs().max(self.last.abs());
        let scientific = largest >= 1e6 || decimals > 5;
        // As many digits as tell a step from the next.
        let digits = (largest / self.step).log10().floor().clamp(0.0, 15.0) as usize;
        (0..=count)
            .map(|i| {
                let steps = self.first + i as f64;
                let v = steps * self.step;
                let text = match (steps == 0.0, scientific) {
                    (true, true) => "0".to_owned(),
                    (_, true) => format!("{v:.digits$e}"),
                    // `0` instead of `-0`.
                    _ => format!("{:.decimals$}", v + 0.0),
                };
                (v, text)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(values: &[f64], most: usize, whole: bool) -> Vec<String> {
        let axis = Axis::new(values.iter().copied(), most, whole);
        axis.ticks().into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn steps_are_round_and_not_too_many() {
        for (span, most, want) in [
            (10.0, 10, 1.0),
            (11.0, 10, 2.0),
            (0.5, 10, 0.05),
            (0.5, 5, 0.1),
            (600.0, 10, 100.0),
            (37.0, 10, 5.0),
        ] {
            let got = step(span, most);
            assert!((got - want).abs() < 1e-9 * want, "{span}: {got}");
        }
    }

    #[test]
    fn numbers_are_those_a_person_would_write() {
        for (values, most, whole, want) in [
            (
                vec![0.03, 1.96],
                5,
                false,
                vec!["0.0", "0.5", "1.0", "1.5", "2.0"],
            ),
            (vec![1.0, 5.0], 8, true, vec!["1", "2", "3", "4", "5"]),
            (vec![1.0, 2.0], 8, true, vec!["1", "2"]),
            (
                vec![-0.4, 0.4],
                4,
                false,
                vec!["-0.4", "-0.2", "0.0", "0.2", "0.4"],
            ),
            (vec![3.0], 4, false, vec!["2.6", "2.8", "3.0", "3.2", "3.4"]),
            (vec![], 2, false, vec!["0.0", "0.5", "1.0"]),
            (vec![0.0, 2e7], 2, false, vec!["0", "1e7", "2e7"]),
            (vec![0.0, 2e-9], 2, false, vec!["0", "1e-9", "2e-9"]),
            (
                vec![f64::NAN, 0.0, f64::INFINITY, 1.0],
                1,
                false,
                vec!["0", "1"],
            ),
        ] {
            assert_eq!(numbers(&values, most, whole), want, "{values:?}");
        }
    }

    #[test]
    fn an_axis_spans_its_numbers_whatever_they_are() {
        for values in [
            [1e149, -1e149],
            [1e9, 1e9 + 1e-6],
            [5e-324, 0.0],
            [0.1, 0.7],
            [-3.0, -2.99],
            [1e-200, 1.2e-200],
        ] {
            let axis = Axis::new(values.into_iter(), 6, false);
            let count = axis.ticks().len();
            assert!((2..=9).contains(&count), "{values:?}: {count} ticks");
            for v in values {
                let at = axis.at(v);
                assert!((-1e-3..=1.001).contains(&at), "{values:?}: {at}");
            }
        }
    }
}
