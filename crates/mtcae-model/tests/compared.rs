//! Models with the decoders of systems that the paper compares with: checkpoints, engines,
//! and what is refused.

use candle_core::{Device, Tensor};
use mtcae_model::decoder::{Config as DecoderConfig, Structure};
use mtcae_model::encoder::VideoMaeConfig;
use mtcae_model::init::{Draw, draw, suited_decoder};
use mtcae_model::{Checkpoint, Config, Engine, Mtcae, Outputs, Precision, checkpoint};
use mtcae_nn::{ParamStore, Pass};

fn encoder() -> VideoMaeConfig {
    VideoMaeConfig {
        image_size: 64,
        frames: 4,
        width: 48,
        depth: 1,
        heads: 3,
        hidden: 96,
        ..VideoMaeConfig::small()
    }
}

/// A model whose decoder suits its encoder.
fn config(structure: Structure) -> Config {
    let classes = ["calm", "angry", "glad"].map(str::to_owned).to_vec();
    let config = Config::new(encoder(), structure, classes);
    Config {
        decoder: suited_decoder(config.decoder),
        ..config
    }
}

fn values(outputs: &Outputs) -> Vec<Vec<f32>> {
    let all = [&outputs.boxes, &outputs.landmarks, &outputs.action_units];
    let all = all.into_iter().flatten().chain([&outputs.logits]);
    all.map(|t| t.flatten_all().and_then(|t| t.to_vec1()).expect("numbers"))
        .collect()
}

#[test]
fn a_checkpoint_brings_the_model_back_and_an_engine_computes_what_it_does() {
    for structure in Structure::COMPARED {
        let mut config = config(structure);
        if structure != Structure::Mnc {
            config = config.with_action_units(["AU4", "AU12"].map(str::to_owned).to_vec());
        }
        let store = ParamStore::new(5);
        draw(&config, &store, Draw::Xavier).expect("drawn");
        let folder = tempfile::tempdir().expect("a folder");
        let vars = store.vars();
        let tensors = vars.iter().map(|(n, v)| (n.as_str(), v.as_tensor()));
        checkpoint::save(folder.path(), &config, tensors).expect("saved");
        let opened = Checkpoint::open(folder.path()).expect("opened");
        assert_eq!(opened.config(), &config);

        let model = Mtcae::new(&config, store.builder(&Device::Cpu)).expect("built");
        let shape = [&[2], &config.encoder.input().shape()[..]].concat();
        let n = shape.iter().product::<usize>() as f32;
        let clips = Tensor::arange(0f32, n, &Device::Cpu).and_then(|t| t.sin()?.reshape(shape));
        let clips = clips.expect("clips");
        let want = model
            .run(&clips, &mut Pass::inference())
            .expect("a forward");
        assert_eq!(
            want.boxes.as_ref().map(|t| t.dims().to_vec()),
            Some(vec![2, 4, 4])
        );
        let want = values(&want);
        let cpu = &Device::Cpu;
        let engines = [
            opened.engine(cpu, Precision::F32).expect("an engine"),
            Engine::of(&model, cpu, Precision::F32).expect("an engine"),
        ];
        for engine in engines {
            let got = values(
                &engine
                    .run(&clips, &mut Pass::inference())
                    .expect("a forward"),
            );
            for (got, want) in got.iter().zip(&want) {
                for (g, w) in got.iter().zip(want) {
                    // The packed encoder adds in another order.
                    assert!((g - w).abs() < 1e-4, "{structure}: {g} and {w}");
                }
            }
            let flat: Vec<f32> = clips
                .flatten_all()
                .and_then(|t| t.to_vec1())
                .expect("numbers");
            let again = values(&engine.run_slice(&flat).expect("a forward"));
            assert_eq!(again, got, "{structure}");
        }
        let said = Engine::of(&model, cpu, Precision::Bf16).err();
        if let Some(said) = said
            .map(|e| e.to_string())
            .filter(|s| !s.contains("AVX512-BF16"))
        {
            let want = format!("the decoder {structure} computes in f32 on the CPU, not in bf16");
            assert_eq!(said, want);
        }
        let card = std::fs::read_to_string(folder.path().join("card.md")).expect("a card");
        assert!(
            card.contains(&format!("the structure `{structure}`")),
            "{card}"
        );
    }
}

#[test]
fn what_a_decoder_needs_of_an_encoder_is_asked_before_anything_is_built() {
    let config = config(Structure::MtFormer);
    assert_eq!(config.decoder.grid, Some([2, 4, 4]));
    let mut other = config.clone();
    other.decoder.grid = Some([2, 2, 8]);
    other.decoder.mtformer = None;
    assert_eq!(
        other.validate().expect_err("another grid").to_string(),
        "model config: decoder.grid: is [2, 2, 8], but the encoder's tokens lie in [2, 4, 4]"
    );
    let units = self::config(Structure::Mnc).with_action_units(vec!["AU4".to_owned()]);
    let said = units.validate().expect_err("no stage").to_string();
    assert!(
        said.contains("are face_box, landmarks, action_units, expression"),
        "{said}"
    );
}

/// The sizes that `init` gives over encoders of every width are valid.
#[test]
fn suited_decoders_are_valid_over_any_encoder() {
    for structure in Structure::COMPARED {
        for width in [12, 48, 96, 192, 384, 768, 1024] {
            for grid in [[8, 14, 14], [8, 10, 10], [2, 1, 1], [16, 7, 7], [4, 5, 3]] {
                let tasks = config(structure).decoder.tasks.into_iter();
                let tasks = tasks.map(|mut task| {
                    task.outputs *= 4;
                    task
                });
                let decoder = DecoderConfig::suited(structure, width, Some(grid), tasks.collect());
                let decoder = suited_decoder(decoder);
                let valid = decoder.validate();
                assert!(valid.is_ok(), "{structure} {width} {grid:?}: {valid:?}");
                assert!(decoder.flops(grid.iter().product()) > 0.0);
            }
        }
    }
}
