//! Which frames of a video make a clip: strategies by name, as pure integer
//! formulas over the number of frames.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ParseError;

/// How `count` frames are chosen among the `total` frames of a stream (or of
/// a window of it).
///
/// Written and parsed by name (`FromStr`, `Display`, serde as a string):
/// `uniform`, `authors`, `dense:STRIDE`, `dense:STRIDE@OFFSET`,
/// `multi-clip:CLIPSxSTRIDE`, `all`.
///
/// Every strategy is total: any `total ≥ 1` gives indices below `total`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Sampling {
    /// `⌊i·T/count⌋`, `i = 0..count`: covers the whole clip; with fewer frames
    /// than `count`, frames repeat evenly. The default. Equals [`Authors`]
    /// when `count` divides `T`.
    ///
    /// [`Authors`]: Sampling::Authors
    #[default]
    Uniform,
    /// `i·⌊T/count⌋`: the MTCAE-DFER authors' published preprocessing. Leaves
    /// up to `count − 1` steps of the tail unseen, and gives frame 0 `count`
    /// times when `T < count`.
    Authors,
    /// `offset + i·stride`, VideoMAE's dense clip. Without an offset the clip
    /// of `count·stride` frames is centred; what runs past the end repeats the
    /// last frame.
    Dense {
        /// Distance between sampled frames, in frames; at least 1.
        stride: u32,
        /// First frame, or `None` for the centred clip.
        offset: Option<u64>,
    },
    /// `clips` dense clips whose starts are spread evenly from the first to
    /// the last possible one: `⌊j·max(T − count·stride, 0)/(clips − 1)⌋`, as
    /// VideoMAE's test-time segments. One clip is the centred dense clip.
    MultiClip {
        /// Number of clips; at least 1.
        clips: u32,
        /// Distance between sampled frames of a clip; at least 1.
        stride: u32,
    },
    /// Every frame, in order; `count` is ignored. Memory grows with the video:
    /// meant for short clips and windows.
    All,
}

impl Sampling {
    /// The strategies' names, as a help text would list them.
    pub const NAMES: [&'static str; 5] = [
        "uniform",
        "authors",
        "dense:STRIDE[@OFFSET]",
        "multi-clip:CLIPSxSTRIDE",
        "all",
    ];

    /// How many clips of `count` frames one call gives: 1, except for
    /// [`Sampling::MultiClip`].
    pub fn clips(&self) -> usize {
        match *self {
            Self::MultiClip { clips, .. } => clips.max(1) as usize,
            _ => 1,
        }
    }

    /// Frame numbers, clip after clip: `clips() · count` of them (`total` for
    /// [`Sampling::All`]); empty when `total` or `count` is 0.
    pub fn indices(&self, total: u64, count: usize) -> Vec<u64> {
        self.groups(total, count).concat()
    }

    /// As [`Sampling::indices`], one list per clip.
    pub fn groups(&self, total: u64, count: usize) -> Vec<Vec<u64>> {
        if total == 0 || count == 0 {
            return Vec::new();
        }
        let n = count as u64;
        let last = total - 1;
        let dense = |start: u64, stride: u64| -> Vec<u64> {
            (0..n)
                .map(|i| start.saturating_add(i.saturating_mul(stride)).min(last))
                .collect()
        };
        match *self {
            // u128: i·T overflows u64 only for absurd totals, but never wraps.
            Self::Uniform => vec![
                (0..n)
                    .map(|i| (u128::from(i) * u128::from(total) / u128::from(n)) as u64)
                    .collect(),
            ],
            Self::Authors => vec![(0..n).map(|i| i * (total / n)).collect()],
            Self::Dense { stride, offset } => {
                let stride = u64::from(stride.max(1));
                let slack = total.saturating_sub(n.saturating_mul(stride));
                vec![dense(offset.unwrap_or(slack / 2), stride)]
            }
            Self::MultiClip { clips, stride } => {
                let stride = u64::from(stride.max(1));
                let slack = total.saturating_sub(n.saturating_mul(stride));
                let clips = u64::from(clips.max(1));
                (0..clips)
                    .map(|j| {
                        let start = if clips == 1 {
                            slack / 2
                        } else {
                            (u128::from(j) * u128::from(slack) / u128::from(clips - 1)) as u64
                        };
                        dense(start, stride)
                    })
                    .collect()
            }
            Self::All => vec![(0..total).collect()],
        }
    }
}

impl fmt::Display for Sampling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uniform => f.write_str("uniform"),
            Self::Authors => f.write_str("authors"),
            Self::Dense {
                stride,
                offset: None,
            } => write!(f, "dense:{stride}"),
            Self::Dense {
                stride,
                offset: Some(o),
            } => write!(f, "dense:{stride}@{o}"),
            Self::MultiClip { clips, stride } => write!(f, "multi-clip:{clips}x{stride}"),
            Self::All => f.write_str("all"),
        }
    }
}

impl FromStr for Sampling {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        let bad = || ParseError::new("sampling", s, &Self::NAMES.join(", "));
        let positive = |v: &str| v.parse::<u32>().ok().filter(|&v| v > 0).ok_or_else(bad);
        let (name, rest) = match s.split_once(':') {
            Some((n, r)) => (n, Some(r)),
            None => (s, None),
        };
        match (name, rest) {
            ("uniform", None) => Ok(Self::Uniform),
            ("authors", None) => Ok(Self::Authors),
            ("all", None) => Ok(Self::All),
            // VideoMAE's own stride on Kinetics.
            ("dense", None) => Ok(Self::Dense {
                stride: 4,
                offset: None,
            }),
            ("dense", Some(r)) => match r.split_once('@') {
                None => Ok(Self::Dense {
                    stride: positive(r)?,
                    offset: None,
                }),
                Some((stride, offset)) => Ok(Self::Dense {
                    stride: positive(stride)?,
                    offset: Some(offset.parse().map_err(|_| bad())?),
                }),
            },
            ("multi-clip", Some(r)) => {
                let (clips, stride) = r.split_once('x').unwrap_or((r, "4"));
                Ok(Self::MultiClip {
                    clips: positive(clips)?,
                    stride: positive(stride)?,
                })
            }
            _ => Err(bad()),
        }
    }
}

crate::by_name!(Sampling);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniform_is_the_published_floor_formula() {
        let got = Sampling::Uniform.indices(100, 16);
        // numpy: np.floor(np.arange(16) * 100 / 16)
        let want = [0, 6, 12, 18, 25, 31, 37, 43, 50, 56, 62, 68, 75, 81, 87, 93];
        assert_eq!(got, want);
        assert_eq!(
            Sampling::Uniform.indices(5, 16),
            [0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
        );
        assert_eq!(Sampling::Uniform.indices(1, 16), [0; 16]);
        assert!(Sampling::Uniform.indices(0, 16).is_empty());
        assert!(Sampling::Uniform.indices(9, 0).is_empty());
    }

    #[test]
    fn authors_formula_and_where_it_agrees() {
        assert_eq!(
            Sampling::Authors.indices(100, 16),
            (0..16).map(|i| i * 6).collect::<Vec<_>>()
        );
        assert_eq!(Sampling::Authors.indices(9, 16), [0; 16]);
        for total in [16, 32, 160, 4096] {
            assert_eq!(
                Sampling::Authors.indices(total, 16),
                Sampling::Uniform.indices(total, 16)
            );
        }
    }

    #[test]
    fn dense_is_centred_or_offset_and_clamps() {
        let dense = |o| Sampling::Dense {
            stride: 4,
            offset: o,
        };
        // 100 - 64 = 36, half is 18.
        assert_eq!(
            dense(None).indices(100, 16),
            (0..16).map(|i| 18 + 4 * i).collect::<Vec<_>>()
        );
        assert_eq!(dense(Some(90)).indices(100, 16)[..4], [90, 94, 98, 99]);
        assert_eq!(dense(None).indices(10, 4), [0, 4, 8, 9]);
        assert_eq!(dense(Some(u64::MAX)).indices(10, 2), [9, 9]);
    }

    #[test]
    fn multi_clip_spans_first_to_last_start() {
        let s = Sampling::MultiClip {
            clips: 3,
            stride: 2,
        };
        let groups = s.groups(100, 16);
        assert_eq!(groups.iter().map(|g| g[0]).collect::<Vec<_>>(), [0, 34, 68]);
        assert_eq!(groups[2][15], 98);
        assert_eq!(s.clips(), 3);
    }

    #[test]
    fn every_index_is_below_total() {
        for text in [
            "uniform",
            "authors",
            "dense:4",
            "dense:7@3",
            "multi-clip:5x4",
            "all",
        ] {
            let s: Sampling = text.parse().unwrap();
            assert_eq!(s.to_string(), text);
            for total in 1..200 {
                assert!(
                    s.indices(total, 16).iter().all(|&i| i < total),
                    "{s} {total}"
                );
            }
        }
    }

    #[test]
    fn bad_names_say_what_would_be_right() {
        for text in [
            "",
            "dense:0",
            "dense:x",
            "multi-clip:",
            "dense:1@-1",
            "every",
        ] {
            let e = text.parse::<Sampling>().unwrap_err().to_string();
            assert!(e.contains("uniform"), "{e}");
        }
    }
}
