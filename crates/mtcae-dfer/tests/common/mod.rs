//! A small model of any structure, and a video for it.
#![allow(dead_code, clippy::expect_used)]

use std::path::PathBuf;

use mtcae_dfer::model::decoder::{Config as DecoderConfig, Structure};
use mtcae_dfer::model::encoder::VideoMaeConfig;
use mtcae_dfer::model::{Config, Engine, Mtcae};
use mtcae_dfer::{Device, Pipeline, Prediction};
use mtcae_nn::ParamStore;

pub fn config(structure: Structure) -> Config {
    let encoder = VideoMaeConfig {
        image_size: 32,
        width: 24,
        depth: 1,
        heads: 2,
        hidden: 48,
        ..VideoMaeConfig::small()
    };
    let mut config = Config::new(
        encoder,
        structure,
        ["calm", "glad", "sad"].map(String::from).to_vec(),
    );
    config.decoder = DecoderConfig {
        width: 16,
        depth: 1,
        heads: 2,
        head_dim: 8,
        ..config.decoder
    };
    config
}

pub fn pipeline(structure: Structure) -> Pipeline {
    pipeline_with(structure, &[])
}

/// With a NaN in each of some parameters.
pub fn pipeline_with(structure: Structure, broken: &[&str]) -> Pipeline {
    let store = ParamStore::new(11);
    let config = config(structure);
    Mtcae::new(&config, store.builder(&Device::Cpu)).expect("built");
    // Fresh weights hardly tell one clip from another: make them larger.
    for (name, var) in store.vars() {
        store
            .set(&name, &(var.as_tensor() * 8.0).expect("scaled"))
            .expect("set");
        if broken.contains(&name.as_str()) {
            let nan = (var.as_tensor() * f64::NAN).expect("scaled");
            store.set(&name, &nan).expect("set");
        }
    }
    let model = Mtcae::new(&config, store.builder(&Device::Cpu)).expect("built");
    Pipeline::new(Engine::on_candle(&model, &Device::Cpu))
}

pub fn video() -> PathBuf {
    mtcae_testing::fixtures().join("demo/portrait.mp4")
}

pub fn probabilities(p: &Prediction) -> Vec<f32> {
    p.probabilities.iter().map(|c| c.probability).collect()
}
