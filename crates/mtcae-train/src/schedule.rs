//! The learning rate over a run.

use mtcae_core::ParseError;
use serde::{Deserialize, Serialize};

use crate::TrainConfig;

/// The power of a polynomial's fall.
const POWER: f64 = 0.9;

/// How the learning rate goes over the epochs after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// It stays.
    Constant,
    /// Half a cosine down to `min_lr`.
    Cosine,
    /// A straight line down to `min_lr`.
    Linear,
    /// Down to `min_lr` by the 0.9th power of what is left of the run.
    Poly,
    /// A tenth after each of the epochs `drops`.
    Step,
}

/// Numbers of epochs in their order, by name as `40,80`; none by the empty name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Epochs(Vec<usize>);

impl Epochs {
    /// One.
    pub(crate) fn at(epoch: usize) -> Self {
        Self(vec![epoch])
    }

    /// The numbers, each greater than the one before.
    pub fn list(&self) -> &[usize] {
        &self.0
    }
}

impl std::fmt::Display for Epochs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let numbers: Vec<String> = self.0.iter().map(usize::to_string).collect();
        f.write_str(&numbers.join(","))
    }
}

impl std::str::FromStr for Epochs {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        if s.is_empty() {
            return Ok(Self::default());
        }
        let numbers = s.split(',').map(|n| n.trim().parse().ok());
        let numbers = numbers.collect::<Option<Vec<usize>>>();
        let known = "numbers from 1 on, each greater than the one before, as 40,80";
        numbers
            .filter(|n| n[0] > 0 && n.windows(2).all(|pair| pair[0] < pair[1]))
            .map(Self)
            .ok_or_else(|| ParseError::new("list of epochs", s, known))
    }
}

mtcae_core::by_name!(Epochs);

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
        let done = ((step - warmup) / (total - warmup).max(1.0)).clamp(0.0, 1.0);
        let floor = self.min_lr.min(peak);
        let down_to = |share: f64| floor + (peak - floor) * share;
        match self.schedule {
            Schedule::Constant => peak,
            Schedule::Cosine => down_to(0.5 * (1.0 + (std::f64::consts::PI * done).cos())),
            Schedule::Linear => down_to(1.0 - done),
            Schedule::Poly => down_to((1.0 - done).powf(POWER)),
            Schedule::Step => {
                let epoch = step as u64 / steps_an_epoch.max(1);
                let passed = |drop: &&usize| **drop as u64 <= epoch;
                peak * 0.1f64.powi(self.drops.list().iter().filter(passed).count() as i32)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Recipe;
    use mtcae_testing::Fixture;

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

    #[test]
    fn rates_are_those_of_pytorch() {
        let fixture = Fixture::load("optimisers/optimisers.safetensors");
        let of: serde_json::Value = serde_json::from_str(fixture.text("schedules")).expect("json");
        let number = |name: &str| of[name].as_u64().expect(name);
        for (name, schedule) in [
            ("step", Schedule::Step),
            ("poly", Schedule::Poly),
            ("linear", Schedule::Linear),
            ("cosine", Schedule::Cosine),
        ] {
            let config = TrainConfig {
                schedule,
                drops: "4,7".parse().expect("epochs"),
                epochs: number("epochs") as usize,
                lr: of["lr"].as_f64().expect("a rate"),
                ..TrainConfig::recipe(Recipe::Paper)
            };
            let want: Vec<f32> = fixture
                .get(&format!("rates.{name}"))
                .to_vec1()
                .expect("rates");
            assert_eq!(want.len() as u64, number("epochs") * number("steps"));
            for (step, want) in (0..).zip(want) {
                let got = config.lr_at(step, number("steps"));
                // PyTorch multiplies its way there step by step, and the file is in f32.
                let off = (got - f64::from(want)).abs();
                assert!(
                    off < 1e-7 * config.lr,
                    "{name}, step {step}: {got} for {want}"
                );
            }
        }
    }

    #[test]
    fn lists_of_epochs_are_written_as_they_are_read() {
        for text in ["", "7", "40,80"] {
            let epochs: Epochs = text.parse().expect("epochs");
            assert_eq!(epochs.to_string(), text);
        }
        for text in [",", "80,40", "0,4", "4,4", "a", "4.5", "-1"] {
            let error = text.parse::<Epochs>().expect_err("no list").to_string();
            let words = format!("`{text}` is no list of epochs; known: numbers from 1 on");
            assert!(error.starts_with(&words), "{error}");
        }
    }
}
