//! Everything needed to build a decoder.

use std::collections::BTreeSet;

use mtcae_nn::Pool;
use mtcae_nn::weights::shown;
use serde::{Deserialize, Serialize};

use crate::layout::Layout;
use crate::whole::system;
use crate::{Error, Kind, Stage, Structure, Task, lstm, mnc, mtformer, mtl_er};

/// How K and V come from F.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KvOrder {
    /// X_t = Norm_t(Dense_t(F)): Algorithm 1, line 2.
    #[default]
    DenseNorm,
    /// X_t = Dense_t(Norm(F)) with one norm for all tasks: the authors' flow chart.
    NormDense,
}

/// Numbers in the largest weight: a gigabyte of them.
pub(crate) const MOST_NUMBERS: u64 = 1 << 28;
/// Most numbers in all layers together: several times those of the largest encoder.
pub(crate) const MOST_TOGETHER: u64 = 1 << 32;

/// A decoder for features of any encoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// D: channels of the encoder's features F.
    pub features: usize,
    /// w: channels of the local features Y; 512 in the paper.
    pub width: usize,
    /// L: layers of each decoder; 5 in the paper.
    pub depth: usize,
    /// Attention heads; 3 in the paper.
    pub heads: usize,
    /// Channels of one head. Unpublished; free of the width, which 3 does not
    /// divide. 176 is 512/3 rounded up to a multiple of 16.
    pub head_dim: usize,
    /// Hidden channels of the MLP as a multiple of the width.
    pub mlp_ratio: f64,
    /// ε of every LayerNorm.
    pub eps: f64,
    /// Which of the six structures, or whose decoder instead: what its fields then mean stands
    /// beside its settings.
    pub structure: Structure,
    /// The grid [t, h, w] in which the encoder's tokens lie, for
    /// [`Structure::COMPARED`] alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grid: Option<[usize; 3]>,
    /// What [`Structure::Lstm`] has for itself; left out, its defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lstm: Option<lstm::Settings>,
    /// As `lstm`, of [`Structure::Mnc`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mnc: Option<mnc::Settings>,
    /// As `lstm`, of [`Structure::MtlEr`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtl_er: Option<mtl_er::Settings>,
    /// As `lstm`, of [`Structure::MtFormer`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtformer: Option<mtformer::Settings>,
    /// How K and V come from F.
    #[serde(default)]
    pub kv_order: KvOrder,
    /// One set of weights for all layers of a decoder: Algorithm 1 read literally
    /// as a recursion.
    #[serde(default)]
    pub share_layers: bool,
    /// In training, the probability of dropping a residual branch of the last
    /// layer applied; it grows linearly from 0 in the first, of shared layers too.
    #[serde(default)]
    pub drop_path: f64,
    /// How the single-task structure makes one row of F; the heads of the others take the
    /// mean.
    #[serde(default, skip_serializing_if = "is_mean")]
    pub pool: Pool,
    /// ε of a LayerNorm between that pool and the linear layer, as published classifiers
    /// have it; none in the paper's single-task structure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pooled_norm: Option<f64>,
    /// The tasks, in the order of the cascade.
    pub tasks: Vec<Task>,
}

fn is_mean(pool: &Pool) -> bool {
    *pool == Pool::Mean
}

impl Config {
    /// The paper's cascade over features of D = `features` channels: width 512,
    /// five layers, three heads.
    pub fn cascade(features: usize, tasks: Vec<Task>) -> Self {
        Self {
            features,
            width: 512,
            depth: 5,
            heads: 3,
            head_dim: 176,
            mlp_ratio: 4.0,
            eps: 1e-6,
            structure: Structure::Cascade,
            grid: None,
            lstm: None,
            mnc: None,
            mtl_er: None,
            mtformer: None,
            kv_order: KvOrder::DenseNorm,
            share_layers: false,
            drop_path: 0.0,
            pool: Pool::Mean,
            pooled_norm: None,
            tasks,
        }
    }

    /// Any structure over features of D = `features` channels, whose tokens lie in `grid`:
    /// one of the six with the sizes of [`Self::cascade`], the others with those that they
    /// were published with, as far as they are known.
    pub fn suited(
        structure: Structure,
        features: usize,
        grid: Option<[usize; 3]>,
        tasks: Vec<Task>,
    ) -> Self {
        let mut config = Self {
            structure,
            ..Self::cascade(features, tasks)
        };
        if let Some(system) = system(structure) {
            config.grid = grid;
            (system.suit)(&mut config);
        }
        config
    }

    /// Hidden channels of the MLP.
    pub fn hidden(&self) -> usize {
        (self.width as f64 * self.mlp_ratio) as usize
    }

    /// Floating-point operations of one forward of one clip of `tokens` tokens: two
    /// for each multiplication of a matrix product; the rest is left out. Those of
    /// [`Structure::COMPARED`] are of a whole grid; none of a config that is not valid.
    pub fn flops(&self, tokens: usize) -> f64 {
        if let Some(system) = system(self.structure) {
            return match (self.validate(), Layout::of(self)) {
                (Ok(()), Ok(layout)) => (system.flops)(self, &layout),
                _ => 0.0,
            };
        }
        let n = tokens as f64;
        let (d, w, hidden) = (
            self.features as f64,
            self.width as f64,
            self.hidden() as f64,
        );
        let inner = (self.heads * self.head_dim) as f64;
        let mlp = 4.0 * n * w * hidden;
        // q, k, v and output; Q·Kᵀ and P·V.
        let attention = 8.0 * n * w * inner + 4.0 * n * n * inner;
        let layers = |stage: &Stage| match (stage.decoder.is_some(), stage.attends()) {
            (true, true) => self.depth as f64 * (attention + mlp),
            (true, false) => self.depth as f64 * mlp,
            (false, _) => 0.0,
        };
        let stage = |stage: &Stage| {
            let dense = if stage.has_dense() {
                2.0 * n * d * w
            } else {
                0.0
            };
            let read = if stage.decoder.is_some() { w } else { d };
            let outputs = stage.task.map_or(0, |t| self.tasks[t].outputs);
            dense + layers(stage) + 2.0 * read * outputs as f64
        };
        self.stages().iter().map(stage).sum()
    }

    /// The stages of the structure for these tasks.
    pub fn stages(&self) -> Vec<Stage> {
        self.structure.stages(&self.tasks)
    }

    /// The tasks that the structure has heads for, in order: all, or the last one alone.
    pub fn active_tasks(&self) -> Vec<&Task> {
        if !self.structure.has_stages() {
            return self.tasks.iter().collect();
        }
        let stages = self.stages().into_iter();
        stages
            .filter_map(|stage| self.tasks.get(stage.task?))
            .collect()
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`Error::Config`] names the first field at fault.
    pub fn validate(&self) -> Result<(), Error> {
        let fault = |field, reason: String| Err(Error::Config { field, reason });
        // Far above any model, low enough that no product of them overflows.
        for (field, value, most) in [
            ("features", self.features, 1 << 16),
            ("width", self.width, 1 << 16),
            ("depth", self.depth, 1 << 7),
            ("heads", self.heads, 1 << 10),
            ("head_dim", self.head_dim, 1 << 12),
            ("tasks", self.tasks.len(), 1 << 6),
        ] {
            if value == 0 || value > most {
                return fault(field, format!("must be 1 to {most}, not {value}"));
            }
        }
        let hidden = match self.mlp_ratio.is_finite() {
            true => self.hidden(),
            false => 0,
        };
        if hidden == 0 || hidden > 1 << 18 {
            let (ratio, width, most) = (self.mlp_ratio, self.width, 1 << 18);
            return fault(
                "mlp_ratio",
                format!("{ratio} of {width} must be 1 to {most} channels"),
            );
        }
        let (width, inner) = (self.width as u64, (self.heads * self.head_dim) as u64);
        for (field, numbers) in [
            ("width", self.features as u64 * width),
            ("head_dim", 2 * inner * width),
            ("mlp_ratio", hidden as u64 * width),
        ] {
            if numbers > MOST_NUMBERS {
                return fault(
                    field,
                    format!("a weight of {numbers} numbers, more than {MOST_NUMBERS}"),
                );
            }
        }
        let layer = 4 * inner * width + 2 * hidden as u64 * width;
        let layers = (self.depth * (self.tasks.len() + 1)) as u64;
        if layers.saturating_mul(layer) > MOST_TOGETHER {
            return fault(
                "depth",
                format!("{layers} layers of {layer} numbers, more than {MOST_TOGETHER} together"),
            );
        }
        // As it is used: in `f32`.
        let positive = |eps: f64| eps as f32 > 0.0 && (eps as f32).is_finite();
        if !positive(self.eps) {
            return fault("eps", format!("must be a positive f32, not {:e}", self.eps));
        }
        if let Some(eps) = self.pooled_norm
            && !positive(eps)
        {
            return fault(
                "pooled_norm",
                format!("must be a positive f32, not {eps:e}"),
            );
        }
        if self.structure != Structure::SingleTask {
            let alone = "is of the single-task structure alone".to_owned();
            match (self.pool, self.pooled_norm) {
                (Pool::Mean, None) => {}
                (Pool::First, _) => return fault("pool", alone),
                (Pool::Mean, Some(_)) => return fault("pooled_norm", alone),
            }
        }
        if !(0.0..1.0).contains(&self.drop_path) {
            return fault(
                "drop_path",
                format!("must be in [0, 1), not {}", self.drop_path),
            );
        }
        for (field, of, given) in [
            ("lstm", Structure::Lstm, self.lstm.is_some()),
            ("mnc", Structure::Mnc, self.mnc.is_some()),
            ("mtl_er", Structure::MtlEr, self.mtl_er.is_some()),
            ("mtformer", Structure::MtFormer, self.mtformer.is_some()),
            (
                "grid",
                self.structure,
                self.grid.is_some() && self.structure.has_stages(),
            ),
        ] {
            if given && (of != self.structure || field == "grid") {
                let (structure, all) = (self.structure, Structure::COMPARED.map(Structure::name));
                let of = match field {
                    "grid" => all.join(", "),
                    _ => of.to_string(),
                };
                return fault(
                    field,
                    format!("is of {of}, and the structure is {structure}"),
                );
            }
        }
        if self.share_layers && !self.structure.has_stages() {
            let reason = format!("{} has no layers to share", self.structure);
            return fault("share_layers", reason);
        }
        if self.kv_order == KvOrder::NormDense && self.structure.kind() != Some(Kind::Vit) {
            return fault(
                "kv_order",
                "norm-dense needs a structure with ViT decoders".to_owned(),
            );
        }
        let mut seen = BTreeSet::new();
        for task in &self.tasks {
            let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            if !(1..=64).contains(&task.name.len()) || !task.name.chars().all(legal) {
                return fault(
                    "tasks",
                    format!(
                        "{:?} is not a name of at most 64 letters, digits, '_' and '-'",
                        shown(&task.name)
                    ),
                );
            }
            let most = 1 << 18;
            if task.outputs == 0 || task.outputs > most {
                return fault(
                    "tasks",
                    format!(
                        "{} must have 1 to {most} outputs, not {}",
                        task.name, task.outputs
                    ),
                );
            }
            if !seen.insert(&task.name) {
                return fault("tasks", format!("{} is listed twice", task.name));
            }
        }
        let outputs = self.tasks.iter().map(|task| task.outputs as u64);
        let numbers = outputs.sum::<u64>() * (width.max(self.features as u64));
        if numbers > MOST_NUMBERS {
            return fault(
                "tasks",
                format!("heads of {numbers} numbers, more than {MOST_NUMBERS}"),
            );
        }
        match system(self.structure) {
            None => Ok(()),
            Some(system) => (system.validate)(self, &Layout::of(self)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_papers_cascade_costs_what_its_products_add_up_to() {
        let tasks = vec![Task::new("a", 64), Task::new("b", 160), Task::new("c", 7)];
        let config = Config::cascade(1024, tasks);
        // Per layer of a stage: 3.4 GFLOP of projections, 5.2 of attention and 6.6
        // of MLP; 1.6 of Dense a stage.
        let layer = 8.0 * 1568.0 * 512.0 * 528.0
            + 4.0 * 1568.0 * 1568.0 * 528.0
            + 4.0 * 1568.0 * 512.0 * 2048.0;
        let want = 3.0 * (2.0 * 1568.0 * 1024.0 * 512.0 + 5.0 * layer) + 2.0 * 512.0 * 231.0;
        assert_eq!(config.flops(1568), want);
        assert!((config.flops(1568) / 1e9 - 233.0).abs() < 1.0);
    }
}
