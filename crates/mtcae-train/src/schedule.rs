//! The learning rate over a run.

use crate::{Schedule, TrainConfig};

impl TrainConfig {
    /// The learning rate at its peak.
    pub fn peak_lr(&self) -> f64 {
        match self.scale_lr {
            true => self.lr * (self.batch * self.accumulate) as f64 / 256.0,
            false => self.lr,
        }
    }

    /// The learning rate of step `step` of `steps_an_epoch` an epoch.
    pub fn lr_at(&self, step: u64, steps_an_epoch: u64) -> f64 {
        let peak = self.peak_lr();
        let warmup = self.warmup * steps_an_epoch as f64;
        let total = (self.epochs as u64 * steps_an_epoch) as f64;
        let step = step as f64;
        if step < warmup {
            return peak * (step + 1.0) / warmup.ceil();
        }
        match self.schedule {
            Schedule::Constant => peak,
            Schedule::Cosine => {
                let done = ((step - warmup) / (total - warmup).max(1.0)).clamp(0.0, 1.0);
                let floor = self.min_lr.min(peak);
                floor + (peak - floor) * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Recipe;

    #[test]
    fn the_rate_rises_then_falls() {
        let config = TrainConfig {
            epochs: 10,
            lr: 1.0,
            scale_lr: false,
            warmup: 2.0,
            min_lr: 0.1,
            ..TrainConfig::recipe(Recipe::Videomae)
        };
        let rates: Vec<f64> = (0..100).map(|s| config.lr_at(s, 10)).collect();
        assert!((rates[0] - 0.05).abs() < 1e-12);
        assert!((rates[19] - 1.0).abs() < 1e-12);
        assert!((rates[60] - 0.55).abs() < 1e-12, "{}", rates[60]);
        assert!(rates[99] > 0.1 && rates[99] < 0.11);
    }
}
