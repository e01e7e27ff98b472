//! Where tokens lie in a clip: what decoders that are no lists of stages ask of an encoder.

use candle_core::{Result, Tensor};

use crate::{Config, Error, Task};

/// Name of the face-box task: a box (x1, y1, x2, y2) a frame.
pub const FACE_BOX: &str = "face_box";
/// Name of the landmark task: five points (x, y) a frame.
pub const LANDMARKS: &str = "landmarks";
/// Name of the task of action units: a strength a frame and unit.
pub const ACTION_UNITS: &str = "action_units";

/// A grid (t, h, w) of tokens, in this order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub slices: usize,
    pub height: usize,
    pub width: usize,
}

impl Layout {
    /// The grid of a config.
    pub fn of(cfg: &Config) -> std::result::Result<Self, Error> {
        let fault = |reason| Error::Config {
            field: "grid",
            reason,
        };
        let Some(grid @ [slices, height, width]) = cfg.grid else {
            return Err(fault(format!(
                "missing; {} needs the grid [t, h, w] in which the encoder's tokens lie",
                cfg.structure
            )));
        };
        // Far above any clip, low enough that no product overflows.
        if grid.iter().any(|side| !(1..=1 << 12).contains(side)) {
            return Err(fault(format!(
                "is {grid:?}; each side must be 1 to {}",
                1 << 12
            )));
        }
        let tokens = grid.iter().product::<usize>();
        if tokens > 1 << 18 {
            let most = 1 << 18;
            return Err(fault(format!(
                "is {grid:?}, {tokens} tokens; at most {most} are read"
            )));
        }
        Ok(Self {
            slices,
            height,
            width,
        })
    }

    /// Tokens of a slice.
    pub fn places(&self) -> usize {
        self.height * self.width
    }

    /// Tokens of a clip.
    pub fn tokens(&self) -> usize {
        self.slices * self.places()
    }

    /// (B, N, D) → (B, t, D), the mean of each slice.
    pub fn means(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, _, width) = x.dims3()?;
        x.reshape((batch, self.slices, self.places(), width))?
            .mean(2)
    }

    /// How many numbers a task has for each slice; `None` of a task that is of the whole
    /// clip.
    pub fn each(&self, task: &Task) -> std::result::Result<Option<usize>, Error> {
        if ![FACE_BOX, LANDMARKS, ACTION_UNITS].contains(&task.name.as_str()) {
            return Ok(None);
        }
        match task.outputs.is_multiple_of(self.slices) {
            true => Ok(Some(task.outputs / self.slices)),
            false => Err(Error::Config {
                field: "tasks",
                reason: format!(
                    "{} has {} outputs, which are not the same number for each of {} slices",
                    task.name, task.outputs, self.slices
                ),
            }),
        }
    }
}
