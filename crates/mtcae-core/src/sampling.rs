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
    /// `clips` clips of neighbours in the list of every `stride`-th frame,
    /// `[0, stride, 2·stride, …]`, which is padded with its last entry to at
    /// least `count`. Clip `j` starts at `⌊j·step⌋` in that list, where
    /// `step = (length − count)/(clips − 1)` in `f64`. One clip is the centred
    /// one, from `⌊(length − count)/2⌋` on.
    ///
    /// VideoMAE's segments at test time: `5x4` on Kinetics. `2x4`, the first and
    /// the last frames of every fourth, is MAE-DFER's and SVFAP's test.
    MultiClip {
        /// Number of clips; at least 1.
        clips: u32,
        /// Distance between frames of the list; at least 1.
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
                let listed = total.div_ceil(stride);
                let slack = listed.saturating_sub(n);
                let clips = clips.max(1);
                let clip = |start: u64| -> Vec<u64> {
                    (start..start + n)
                        .map(|i| i.min(listed - 1) * stride)
                        .collect()
                };
                match clips {
                    1 => vec![clip(slack / 2)],
                    _ => {
                        // Divided first, as the original does: ⌊7·(61/7)⌋ is 60.
                        let step = slack as f64 / f64::from(clips - 1);
                        let starts = (0..clips).map(|j| (f64::from(j) * step) as u64);
                        starts.map(|start| clip(start.min(slack))).collect()
                    }
                }
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

    /// Tables made by numpy from VideoMAE's rule: `a = np.arange(0, T, stride)`, padded by
    /// `np.pad(a, (0, max(count - len(a), 0)), mode="edge")`, and of it
    /// `a[int(j * step):][:count]` with `step = max(1.0 * (len(a) - count) / (clips - 1), 0)`.
    #[test]
    fn clips_are_videomaes_test_segments() {
        let starts = |text: &str, total| -> Vec<u64> {
            let s: Sampling = text.parse().unwrap();
            s.groups(total, 16).iter().map(|g| g[0]).collect()
        };
        assert_eq!(starts("multi-clip:5x4", 250), [0, 44, 92, 140, 188]);
        assert_eq!(starts("multi-clip:3x2", 75), [0, 22, 44]);
        assert_eq!(
            starts("multi-clip:10x4", 300),
            [0, 24, 52, 76, 104, 128, 156, 180, 208, 236]
        );
        assert_eq!(starts("multi-clip:8x1", 77), [0, 8, 17, 26, 34, 43, 52, 60]);
        let two: Sampling = "multi-clip:2x4".parse().unwrap();
        assert_eq!(
            two.groups(101, 16),
            [
                [0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60],
                [
                    40, 44, 48, 52, 56, 60, 64, 68, 72, 76, 80, 84, 88, 92, 96, 100
                ],
            ]
        );
        // The first and the last 16 of every fourth.
        for total in [61, 64, 65, 99, 100, 4001] {
            let every: Vec<u64> = (0..total).step_by(4).collect();
            let (first, last) = (&every[..16], &every[every.len() - 16..]);
            assert_eq!(two.groups(total, 16), [first, last], "{total}");
        }
        // Too few: the last of the list again, which is not the video's last.
        let short = [0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 36, 36, 36, 36, 36, 36];
        assert_eq!(two.groups(39, 16), [short, short]);
        assert_eq!(two.groups(1, 3), [[0; 3]; 2]);
        let one: Sampling = "multi-clip:1x4".parse().unwrap();
        // 26 in the list, of which 5 before and 5 after.
        assert_eq!(
            one.groups(101, 16),
            [[
                20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 64, 68, 72, 76, 80
            ]]
        );
        assert_eq!(one.groups(39, 16), [short]);
    }

    #[test]
    fn every_index_is_below_total() {
        for text in [
            "uniform",
            "authors",
            "dense:4",
            "dense:7@3",
            "multi-clip:1x4",
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
