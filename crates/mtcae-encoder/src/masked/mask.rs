//! Which tubes of a clip an encoder sees.

use std::sync::Arc;

use mtcae_nn::candle_core::{Result, Tensor};
use mtcae_nn::{Gather, ops};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// How masks are drawn. A place (h, w) of the grid is seen in all slices of time or in none,
/// so that nothing can be copied from the slice before.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", tag = "kind")]
pub enum Masking {
    /// ⌊ratio·places⌋ of all places are masked (VideoMAE's tube masking).
    Tube {
        /// The share of places that is masked.
        ratio: f64,
    },
    /// ⌊ratio·places⌋ of the places of each window are masked (MAE-DFER's `part_window`).
    PartWindow {
        /// The share of a window's places that is masked.
        ratio: f64,
        /// Windows along (h, w), which divide the grid.
        windows: [usize; 2],
    },
}

impl Masking {
    /// The share of places that is masked.
    pub fn ratio(&self) -> f64 {
        match self {
            Self::Tube { ratio } | Self::PartWindow { ratio, .. } => *ratio,
        }
    }

    /// The same with another share.
    #[must_use]
    pub fn with_ratio(mut self, share: f64) -> Self {
        match &mut self {
            Self::Tube { ratio } | Self::PartWindow { ratio, .. } => *ratio = share,
        }
        self
    }

    /// Windows along (h, w), of each of which as many places are masked.
    pub fn windows(&self) -> [usize; 2] {
        match self {
            Self::Tube { .. } => [1, 1],
            Self::PartWindow { windows, .. } => *windows,
        }
    }

    /// Places of a window, and those of them that are masked, on a grid of (h, w) places.
    fn share(&self, [height, width]: [usize; 2]) -> [usize; 2] {
        let [rows, columns] = self.windows();
        let places = (height / rows) * (width / columns);
        [places, (self.ratio() * places as f64) as usize]
    }

    /// Checks the values for a grid of (h, w) places; `Err` is the field and the reason.
    pub(super) fn check(
        &self,
        [height, width]: [usize; 2],
    ) -> std::result::Result<(), (&str, String)> {
        let [rows, columns] = self.windows();
        let divides = |n: usize, by: usize| by > 0 && n.is_multiple_of(by);
        if !divides(height, rows) || !divides(width, columns) {
            let reason =
                format!("{rows}×{columns} windows do not divide a slice of {height}×{width} tubes");
            return Err(("windows", reason));
        }
        let [places, masked] = self.share([height, width]);
        if !(0.0..1.0).contains(&self.ratio()) || masked == 0 || masked >= places {
            let reason = format!(
                "{} of the {places} places of a window must leave some of them masked and some \
                 visible",
                self.ratio()
            );
            return Err(("ratio", reason));
        }
        Ok(())
    }

    /// Tubes of a clip that are visible, on a grid of (t, h, w) tubes.
    pub(super) fn visible(&self, [slices, height, width]: [usize; 3]) -> usize {
        let [rows, columns] = self.windows();
        let [places, masked] = self.share([height, width]);
        slices * rows * columns * (places - masked)
    }

    /// The mask of a clip, which depends on `seed` alone. The grid of (t, h, w) tubes is one
    /// that [`Self::check`] lets pass.
    pub(super) fn draw(&self, grid: [usize; 3], seed: u64) -> Mask {
        let [slices, height, width] = grid;
        let [rows, columns] = self.windows();
        let [places, masked] = self.share([height, width]);
        let (h, w) = (height / rows, width / columns);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut is_masked = vec![false; height * width];
        for window in 0..rows * columns {
            let (row, column) = (window / columns * h, window % columns * w);
            let mut order: Vec<usize> = (0..places).collect();
            for i in 0..masked {
                order.swap(i, i + below(&mut rng, places - i));
                let place = order[i];
                is_masked[(row + place / w) * width + column + place % w] = true;
            }
        }
        let tubes = (0..slices).flat_map(|_| &is_masked);
        let mut mask = Mask {
            visible: Vec::new(),
            masked: Vec::new(),
        };
        for (tube, is_masked) in (0..).zip(tubes) {
            match is_masked {
                true => mask.masked.push(tube),
                false => mask.visible.push(tube),
            }
        }
        mask
    }
}

/// A number from 0 to `n` − 1, each as likely as another.
fn below(rng: &mut ChaCha8Rng, n: usize) -> usize {
    let n = n as u64;
    // The numbers of which each remainder has as many.
    let whole = u64::MAX - u64::MAX % n;
    loop {
        let x = rng.next_u64();
        if x < whole {
            return (x % n) as usize;
        }
    }
}

/// Which tubes of one clip are seen and which are masked, by their places in the grid's order
/// (t, h, w).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    visible: Vec<u32>,
    masked: Vec<u32>,
}

impl Mask {
    /// A mask of `tubes` tubes of which some are visible, in rising order.
    ///
    /// # Errors
    /// [`Error::Field`] when they do not rise, none or all of the tubes are among them, or
    /// one that there is not.
    pub fn new(tubes: usize, visible: Vec<u32>) -> std::result::Result<Self, Error> {
        let rises = visible.windows(2).all(|pair| pair[0] < pair[1]);
        let fits = visible.last().is_some_and(|last| (*last as usize) < tubes);
        if !rises || !fits || visible.len() == tubes {
            return Err(Error::Field {
                origin: "mask".to_owned(),
                field: "visible".to_owned(),
                reason: format!(
                    "{} visible tubes of {tubes} should be some of them, in rising order",
                    visible.len()
                ),
            });
        }
        let mut seen = visible.iter().peekable();
        let masked = (0..tubes as u32).filter(|tube| seen.next_if_eq(&tube).is_none());
        Ok(Self {
            masked: masked.collect(),
            visible,
        })
    }

    /// Tubes of the clip.
    pub fn tubes(&self) -> usize {
        self.visible.len() + self.masked.len()
    }

    /// The tubes that are seen, in rising order.
    pub fn visible(&self) -> &[u32] {
        &self.visible
    }

    /// All others, in rising order.
    pub fn masked(&self) -> &[u32] {
        &self.masked
    }
}

/// As many tubes of each clip of a batch: rows of (B, N, D), and of a table (N, D).
pub struct Places {
    batch: usize,
    count: usize,
    rows: Arc<Gather>,
    table: Arc<Gather>,
}

impl Places {
    /// Those that are listed for each clip, in their order, of `tubes` a clip.
    ///
    /// # Errors
    /// [`Error::Input`] where there is no list, one is empty, as long as no other, or names a
    /// tube that there is not.
    pub fn new<L: AsRef<[u32]>>(tubes: usize, lists: &[L]) -> std::result::Result<Self, Error> {
        let count = lists.first().map_or(0, |list| list.as_ref().len());
        let fits = |list: &L| {
            let list = list.as_ref();
            list.len() == count && list.iter().all(|tube| (*tube as usize) < tubes)
        };
        // Rows of a batch are numbered by 32 bits.
        let few = lists.len().saturating_mul(tubes) < u32::MAX as usize;
        if count == 0 || !few || !lists.iter().all(fits) {
            return Err(Error::Input {
                what: "masks",
                found: lists.iter().map(|list| list.as_ref().len()).collect(),
                want: format!("one a clip, of as many of its {tubes} tubes each"),
            });
        }
        let all = || lists.iter().map(AsRef::as_ref);
        let rows = all()
            .enumerate()
            .flat_map(|(b, list)| list.iter().map(move |tube| (b * tubes) as u32 + tube));
        Ok(Self {
            batch: lists.len(),
            count,
            rows: Arc::new(Gather::new(lists.len() * tubes, rows.collect())),
            table: Arc::new(Gather::new(tubes, all().flatten().copied().collect())),
        })
    }

    /// Tubes of a clip.
    pub fn count(&self) -> usize {
        self.count
    }

    /// x (B, N, D) → (B, V, D).
    ///
    /// # Errors
    /// When x is of another batch or of other clips.
    pub fn pick(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, tubes, width) = x.dims3()?;
        let rows = x.reshape((1, batch * tubes, width))?;
        self.shaped(&ops::gather_rows(&rows, &self.rows)?)
    }

    /// A table (N, D) → (B, V, D).
    ///
    /// # Errors
    /// When the table is of another length.
    pub fn look_up(&self, table: &Tensor) -> Result<Tensor> {
        self.shaped(&ops::gather_rows(&table.unsqueeze(0)?, &self.table)?)
    }

    /// x (B, N, D) with these rows (B, V, D) in place of its own.
    ///
    /// # Errors
    /// When x or the rows are of other clips.
    pub(super) fn put(&self, x: &Tensor, rows: &Tensor) -> Result<Tensor> {
        let (batch, tubes, width) = x.dims3()?;
        let own = batch * tubes;
        let mut order: Vec<u32> = (0..own as u32).collect();
        for (i, row) in (0..).zip(self.rows.order()) {
            order[*row as usize] = own as u32 + i;
        }
        let x = x.reshape((own, width))?;
        let rows = rows.reshape((self.batch * self.count, width))?;
        let both = Tensor::cat(&[x, rows], 0)?.unsqueeze(0)?;
        let sources = both.dim(1)?;
        ops::gather_rows(&both, &Arc::new(Gather::new(sources, order)))?
            .reshape((batch, tubes, width))
    }

    fn shaped(&self, rows: &Tensor) -> Result<Tensor> {
        rows.reshape((self.batch, self.count, ()))
    }
}
