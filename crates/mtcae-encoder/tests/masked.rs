//! Models of masked pre-training against PyTorch: what they predict, loss, gradients and ten
//! steps; their masks, their sizes, and what they refuse.

use std::collections::{BTreeMap, BTreeSet};

use mtcae_encoder::candle_core::{DType, Device, Tensor, Var};
use mtcae_encoder::masked::{
    self, Mask, Masked, MaskedCheckpoint, MaskedConfig, Masking, Pictures, Target,
};
use mtcae_encoder::{
    Config, Families, LgiFormerConfig, Overrides, ResNetConfig, TpsbtConfig, VideoMaeConfig,
};
use mtcae_nn::optim::{AdamW, AdamWConfig, Gradients, Group};
use mtcae_nn::{ParamStore, Pass};
use mtcae_testing::{Fixture, assert_close, deviation, fixtures, without_gradient};

const FIXTURES: [&str; 3] = ["videomae", "mae-dfer", "svfap"];

/// Encoder and decoder in f32 against a reference in f64: a few ulp (6e-8) of the largest
/// value a layer.
const TOLERANCE: f64 = 1e-5;

/// Gradients sum over all tokens of two clips after peaked softmaxes; each step rounds at
/// 6e-8, and their sums cancel. The project asks for 1e-4.
const GRADIENT_TOLERANCE: f64 = 1e-4;

/// A step divides a gradient by its own size, so that where one is small, its rounding is
/// not: ten steps of 1e-3 move a weight by up to 1e-2, of which a hundredth.
const STEPPED_TOLERANCE: f64 = 1e-4;

/// The checkpoint of a fixture, in its published spelling.
fn open(name: &str, config: &MaskedConfig) -> Result<MaskedCheckpoint, mtcae_encoder::Error> {
    let folder = fixtures().join("masked");
    if name == "videomae" {
        return masked::open(
            folder.join(name),
            &Overrides::default(),
            &Families::default(),
        );
    }
    // What a file without a config.json cannot say.
    let given = Overrides {
        heads: Some(2),
        decoder_heads: Some(2),
        image_size: Some(config.encoder.input().size),
        frames: Some(config.encoder.input().frames),
        ..Overrides::default()
    };
    masked::open(
        folder.join(format!("{name}.pth")),
        &given,
        &Families::default(),
    )
}

struct Case {
    fixture: Fixture,
    config: MaskedConfig,
    store: ParamStore,
    model: Masked,
    tubes: Tensor,
    masks: Vec<Mask>,
}

impl Case {
    fn new(name: &str) -> Self {
        let fixture = Fixture::load(&format!("masked/{name}.safetensors"));
        let serde_json::Value::Object(fields) = fixture.config() else {
            panic!("the config is no object");
        };
        let families = Families::default();
        let config = MaskedConfig::read(fields, &families, name);
        let config = config.unwrap_or_else(|e| panic!("{e}"));
        let found = open(name, &config).unwrap_or_else(|e| panic!("{e}"));
        // Files do not tell masks.
        let told = MaskedConfig {
            mask: config.mask,
            ..found.config.clone()
        };
        assert_eq!(told, config, "{name}");
        assert_eq!(found.ignored, [""; 0], "{name}");
        let store = ParamStore::new(1);
        found.take(&store).unwrap_or_else(|e| panic!("{e}"));
        let model = Masked::new(&config, store.builder(&Device::Cpu));
        let visible = fixture.get("input.visible").to_vec2::<f32>();
        let masks = visible.expect("places").into_iter().map(|places| {
            let places = places.into_iter().map(|place| place as u32).collect();
            Mask::new(config.tubes(), places).expect("a mask")
        });
        let tubes = config.encoder.input().cut(fixture.get("input.video"));
        Self {
            masks: masks.collect(),
            tubes: tubes.expect("tubes"),
            model: model.unwrap_or_else(|e| panic!("{name}: {e}")),
            config,
            store,
            fixture,
        }
    }

    /// Names of parameters that have no gradient for a reason: biases that are the same for
    /// all that softmax compares.
    fn exempt(&self) -> BTreeSet<String> {
        let names = serde_json::from_str::<Vec<String>>(self.fixture.text("zero_gradients"));
        let names = names.expect("names").into_iter();
        let exempt: BTreeSet<String> = names
            .map(|name| name.trim_start_matches("grad.").to_owned())
            .collect();
        let shift =
            |name: &String| name.contains("spatial_downsamples") && name.ends_with("mlp.fc2.bias");
        assert!(exempt.iter().all(shift), "{exempt:?}");
        exempt
    }

    fn forward(&self, pass: &mut Pass) -> masked::Reconstruction {
        let forward = self.model.forward(&self.tubes, &self.masks, pass);
        forward.unwrap_or_else(|e| panic!("{e}"))
    }
}

#[test]
fn predictions_loss_and_gradients_are_pytorchs() {
    for name in FIXTURES {
        let case = Case::new(name);
        let mut pass = Pass::training(0).traced();
        let reconstruction = case.forward(&mut pass);
        let trace = case.fixture.below("trace.");
        let mut got = pass.into_trace();
        got.push(("predicted".to_owned(), reconstruction.predicted.clone()));
        got.push(("target".to_owned(), reconstruction.target.clone()));
        let got: BTreeMap<String, Tensor> = got.into_iter().collect();
        for (entry, want) in &trace {
            let first = got[entry].narrow(0, 0, 1).expect("a clip");
            assert_close(&format!("{name}: {entry}"), &first, want, TOLERANCE);
        }
        let loss = reconstruction.loss().expect("a loss");
        assert_close(
            &format!("{name}: loss"),
            &loss,
            case.fixture.get("loss"),
            TOLERANCE,
        );

        let grads = loss.backward().expect("gradients");
        let (vars, exempt) = (case.store.vars(), case.exempt());
        let none: BTreeSet<String> = without_gradient(&vars, &grads).into_iter().collect();
        assert!(
            none.is_subset(&exempt),
            "{name}: no gradient reaches {none:?}"
        );
        let mut worst: (f64, &str) = (0.0, "");
        for (parameter, var) in &vars {
            let grad = grads.get(var).expect("a gradient");
            let want = case.fixture.get(&format!("grad.{parameter}"));
            if exempt.contains(parameter) {
                let largest = grad.abs().and_then(|g| g.max(0)?.to_scalar::<f32>());
                assert!(largest.expect("a number") < 1e-6, "{name}: {parameter}");
                continue;
            }
            let off = deviation(grad, want);
            if off > worst.0 {
                worst = (off, parameter);
            }
            assert_close(
                &format!("{name}: {parameter}"),
                grad,
                want,
                GRADIENT_TOLERANCE,
            );
        }
        println!("{name}: worst gradient {:.1e} of {}", worst.0, worst.1);
    }
}

#[test]
fn ten_steps_of_adamw_are_pytorchs() {
    for name in FIXTURES {
        let case = Case::new(name);
        let settings = serde_json::from_str::<serde_json::Value>(case.fixture.text("adamw"));
        let settings = settings.expect("settings");
        let number = |value: &serde_json::Value| value.as_f64().expect("a number");
        let exempt = case.exempt();
        let vars: Vec<(String, Var)> = case.store.vars();
        let stepped: Vec<(String, Var)> = vars
            .iter()
            .filter(|(n, _)| !exempt.contains(n))
            .cloned()
            .collect();
        let groups = case.config.groups();
        let decays = |name: &str| {
            let mut parameters = groups.iter().flat_map(|group| &group.parameters);
            parameters.find(|p| p.name == name).expect("listed").decays
        };
        let config = AdamWConfig {
            beta1: number(&settings["betas"][0]),
            beta2: number(&settings["betas"][1]),
            eps: number(&settings["eps"]),
        };
        let mut adam = AdamW::new(&stepped, config, |name, _| Group {
            lr_scale: 1.0,
            weight_decay: if decays(name) {
                number(&settings["weight_decay"])
            } else {
                0.0
            },
        })
        .expect("an optimiser");
        let want = case.fixture.get("losses").to_vec1::<f32>().expect("losses");
        for (step, want) in want.iter().enumerate() {
            let loss = case.forward(&mut Pass::training(0)).loss().expect("a loss");
            let got: f32 = loss.to_scalar().expect("a number");
            let tolerance = if step == 0 {
                TOLERANCE
            } else {
                STEPPED_TOLERANCE
            };
            let off = f64::from((got - want).abs() / want);
            assert!(
                off < tolerance,
                "{name}: loss {got} of step {step} is not {want}"
            );
            let mut grads = loss.backward().expect("gradients");
            let grads = Gradients::take(&stepped, &mut grads).expect("gradients");
            adam.step(&grads, number(&settings["lr"]), 1.0)
                .expect("a step");
        }
        let off = |(n, v): &(String, Var)| {
            deviation(v.as_tensor(), case.fixture.get(&format!("stepped.{n}")))
        };
        println!(
            "{name}: worst {:.1e}",
            vars.iter().map(off).fold(0.0, f64::max)
        );
        for (parameter, var) in &vars {
            let want = case.fixture.get(&format!("stepped.{parameter}"));
            assert_close(
                &format!("{name}: {parameter}"),
                var,
                want,
                STEPPED_TOLERANCE,
            );
        }
    }
}

#[test]
fn what_is_collected_past_the_graph_is_the_same() {
    for name in FIXTURES {
        let case = Case::new(name);
        let vars = case.store.vars();
        let loss = case.forward(&mut Pass::training(0)).loss().expect("a loss");
        let want = loss.backward().expect("gradients");
        let mut pass = Pass::training(0).collecting().recomputing();
        let loss = case.forward(&mut pass).loss().expect("a loss");
        let (graph, past) = (loss.backward().expect("gradients"), pass.into_gradients());
        for (name, var) in &vars {
            let got = match (graph.get(var), past.get(var)) {
                (Some(a), Some(b)) => (a + b).expect("a sum"),
                (Some(one), None) | (None, Some(one)) => one.clone(),
                (None, None) => panic!("{name}: no gradient"),
            };
            assert_close(name, &got, want.get(var).expect("a gradient"), 1e-6);
        }
    }
}

/// The published figure of MAE-DFER's pre-training model.
#[test]
fn the_names_are_those_that_the_config_lists_and_sizes_are_published() {
    let published: [(Config, Option<usize>); 4] = [
        (LgiFormerConfig::base().into(), Some(92_760_192)),
        (VideoMaeConfig::base().into(), None),
        (TpsbtConfig::base().into(), None),
        (
            VideoMaeConfig {
                final_norm: false,
                ..VideoMaeConfig::huge()
            }
            .into(),
            None,
        ),
    ];
    for (encoder, want) in published {
        let config = MaskedConfig::of(&encoder).unwrap_or_else(|e| panic!("{e}"));
        let asked = mtcae_nn::weights::asked_for(|vb| Masked::new(&config, vb));
        let mut asked = asked.unwrap_or_else(|e| panic!("{e}"));
        let mut listed = config.tensors();
        asked.sort();
        listed.sort();
        assert_eq!(asked, listed);
        let count: usize = listed
            .iter()
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum();
        assert!(want.is_none_or(|want| want == count), "{count}");
        let still = config.groups();
        let still = still.iter().flat_map(|group| &group.parameters);
        let token = still.clone().find(|p| p.name == "decoder.mask_token");
        assert!(token.is_some_and(|p| !p.decays));
        assert!(still.clone().all(|p| p.used));
    }
}

#[test]
fn masks_depend_on_their_seed_alone_and_hide_the_same_places_throughout() {
    let tubes: [(Config, usize, usize); 3] = [
        // 176 of 196 places, 45 of 50 in either half, 90 of 100.
        (VideoMaeConfig::base().into(), 160, 1408),
        (LgiFormerConfig::base().into(), 80, 720),
        (TpsbtConfig::base().into(), 80, 720),
    ];
    for (encoder, visible, hidden) in tubes {
        let config = MaskedConfig::of(&encoder).expect("a config");
        let mask = config.mask(5).expect("a mask");
        assert_eq!(
            (mask.visible().len(), mask.masked().len()),
            (visible, hidden)
        );
        assert_eq!(config.visible(), visible);
        assert_eq!(mask, config.mask(5).expect("a mask"));
        assert_ne!(mask, config.mask(6).expect("a mask"));
        assert_eq!(
            mask,
            Mask::new(config.tubes(), mask.visible().to_vec()).expect("a mask")
        );
        let [slices, height, width] = config.grid();
        let places = (height * width) as u32;
        let of_slice = |t: u32| -> Vec<u32> {
            let within = mask.visible().iter().filter(|v| **v / places == t);
            within.map(|v| v % places).collect()
        };
        assert!((1..slices as u32).all(|t| of_slice(t) == of_slice(0)));
        if let Masking::PartWindow { .. } = config.mask {
            let upper = of_slice(0).iter().filter(|v| **v < places / 2).count();
            assert_eq!(upper, 5);
        }
    }
}

/// Over 2,000 masks of 16 places of which 4 are seen, each is seen in a quarter: 500 with a
/// deviation of 19.4, of which five.
#[test]
fn every_place_is_seen_as_often() {
    let config = tiny();
    let mut seen = [0; 16];
    for seed in 0..2000 {
        for tube in config.mask(seed).expect("a mask").visible() {
            if *tube < 16 {
                seen[*tube as usize] += 1;
            }
        }
    }
    assert!(seen.iter().all(|n| (403..=597).contains(n)), "{seen:?}");
}

fn tiny() -> MaskedConfig {
    let encoder = VideoMaeConfig {
        image_size: 16,
        frames: 8,
        patch: 4,
        width: 16,
        depth: 2,
        heads: 2,
        hidden: 32,
        ..VideoMaeConfig::small()
    };
    let config = MaskedConfig::of(&encoder.into()).expect("a config");
    MaskedConfig {
        mask: config.mask.with_ratio(0.75),
        ..config
    }
}

#[test]
fn values_are_drawn_as_videomae_is_pretrained() {
    let config = tiny();
    let store = ParamStore::new(3);
    masked::draw(&config, &store, &Device::Cpu).expect("a model");
    let bound = |wanted: &str| -> f64 {
        let vars = store.vars();
        let (_, var) = vars
            .iter()
            .find(|(name, _)| name == wanted)
            .expect("a parameter");
        let largest = var
            .abs()
            .and_then(|v| v.flatten_all()?.max(0)?.to_scalar::<f32>());
        largest.expect("a number").into()
    };
    for (name, want) in [
        (
            "encoder.blocks.0.attn.qkv.weight",
            (6.0f64 / (48 + 16) as f64).sqrt(),
        ),
        ("decoder.head.weight", (6.0f64 / (96 + 8) as f64).sqrt()),
        ("encoder.patch_embed.proj.weight", (1.0f64 / 96.0).sqrt()),
        ("encoder.patch_embed.proj.bias", (1.0f64 / 96.0).sqrt()),
    ] {
        let got = bound(name);
        assert!(
            got <= want && got > 0.7 * want,
            "{name}: {got}, not up to {want}"
        );
    }
    assert!(bound("decoder.mask_token") <= 0.04);
    assert!(bound("decoder.head.bias") == 0.0);
    // What is there stays.
    let token = Tensor::ones((1, 1, 8), DType::F32, &Device::Cpu).expect("ones");
    let store = ParamStore::new(3);
    store.set("decoder.mask_token", &token).expect("set");
    masked::draw(&config, &store, &Device::Cpu).expect("a model");
    assert_eq!(store.vars().len(), config.tensors().len());
    let kept = store
        .vars()
        .into_iter()
        .find(|(name, _)| name == "decoder.mask_token");
    assert_close("mask_token", kept.expect("kept").1.as_tensor(), &token, 0.0);
}

/// A perfect prediction gives the clip back, to a level of 8 bits; a grey tube is grey.
#[test]
fn pictures_put_mean_and_deviation_back() {
    for target in [
        Target::Pixels,
        Target::Normalised,
        Target::NormalisedDifference,
    ] {
        let config = MaskedConfig { target, ..tiny() };
        let model = masked::draw(&config, &ParamStore::new(1), &Device::Cpu).expect("a model");
        let levels: Vec<u8> = (0..2 * 8 * 16 * 16 * 3)
            .map(|i| (i * 7919 % 251) as u8)
            .collect();
        let levels = Tensor::from_vec(levels, (2, 8, 16, 16, 3), &Device::Cpu).expect("levels");
        let normalise = |levels: &Tensor| {
            let mean = Tensor::new(&config.mean, &Device::Cpu)?;
            let std = Tensor::new(&config.std, &Device::Cpu)?;
            let x = (levels.to_dtype(DType::F32)? / 255.0)?;
            x.broadcast_sub(&mean)?
                .broadcast_div(&std)?
                .permute((0, 1, 4, 2, 3))
        };
        let clips = normalise(&levels).expect("clips");
        let tubes = config.encoder.input().cut(&clips).expect("tubes");
        let masks: Vec<Mask> = (0..2)
            .map(|seed| config.mask(seed).expect("a mask"))
            .collect();
        let mut reconstruction = model
            .forward(&tubes, &masks, &mut Pass::inference())
            .expect("a reconstruction");
        let far = (&reconstruction.predicted - &reconstruction.target).and_then(|d| d.sqr());
        let far = far
            .and_then(|d| d.mean_all()?.to_scalar::<f32>())
            .expect("a number");
        let loss = reconstruction
            .loss()
            .and_then(|l| Ok(l.to_scalar::<f32>()?));
        assert!((loss.expect("a loss") - far).abs() < 1e-6);
        reconstruction.predicted = reconstruction.target.clone();
        let pictures = Pictures::new(&config, &tubes, &masks, &reconstruction).expect("pictures");
        let numbers = |t: &Tensor| t.flatten_all().and_then(|t| t.to_vec1::<u8>()).expect("u8");
        let (want, all) = (numbers(&levels), numbers(&pictures.reconstructed));
        assert_eq!(pictures.original.dims(), [2, 8, 16, 16, 3]);
        assert_eq!(numbers(&pictures.original), want);
        assert!(want.iter().zip(&all).all(|(a, b)| a.abs_diff(*b) <= 1));
        let grey = numbers(&pictures.masked);
        let grey = grey
            .iter()
            .zip(&want)
            .filter(|(a, b)| **a == 128 && a != b)
            .count();
        // Three quarters, of which a 251st was grey before.
        let share = grey as f64 / want.len() as f64;
        assert!((share - 0.75).abs() < 0.01, "{share}");
    }
}

/// A tube's own mean, which a target of 0 stands for, has a loss of 1; one of one colour has
/// nothing to predict.
#[test]
fn targets_have_a_variance_of_one_and_are_zero_where_nothing_is() {
    let config = tiny();
    let model = masked::draw(&config, &ParamStore::new(1), &Device::Cpu).expect("a model");
    let masks = [config.mask(0).expect("a mask")];
    let targets = |tubes: &Tensor| {
        let made = model.forward(tubes, &masks, &mut Pass::inference());
        made.expect("a reconstruction").target
    };
    let numbers = config.tubes() * config.tube_len();
    let varied: Vec<f32> = (0..numbers)
        .map(|i| (i * 7919 % 251) as f32 / 100.0 - 1.0)
        .collect();
    let shape = (1, config.tubes(), config.tube_len());
    let varied = Tensor::from_vec(varied, shape, &Device::Cpu).expect("tubes");
    let square = targets(&varied)
        .sqr()
        .and_then(|t| t.mean_all()?.to_scalar::<f32>());
    // 31/32, as deviations are of one number less.
    assert!((square.expect("a number") - 31.0 / 32.0).abs() < 1e-4);
    let even = Tensor::full(0.333f32, shape, &Device::Cpu).expect("tubes");
    let largest = targets(&even)
        .abs()
        .and_then(|t| t.max_all()?.to_scalar::<f32>());
    assert_eq!(largest.expect("a number"), 0.0);
}

#[test]
fn what_cannot_be_trained_is_named() {
    let resnet = Config::from(ResNetConfig::resnet18());
    let error = MaskedConfig::of(&resnet).expect_err("no twin").to_string();
    assert_eq!(
        error,
        "masked config: encoder.family: resnet has no masked pre-training; families that have: \
         lgi-former, tpsbt, videomae"
    );
    type Change = fn(&mut MaskedConfig);
    let wrong: [(&str, Change); 9] = [
        ("decoder.heads", |c| c.decoder.heads = 7),
        ("decoder.width", |c| c.decoder.width = 0),
        ("decoder.depth", |c| c.decoder.depth = usize::MAX),
        ("mask.ratio", |c| c.mask = c.mask.with_ratio(0.01)),
        ("mask.ratio", |c| c.mask = c.mask.with_ratio(1.0)),
        ("mask.ratio", |c| c.mask = c.mask.with_ratio(f64::NAN)),
        ("mask.windows", |c| {
            c.mask = Masking::PartWindow {
                ratio: 0.5,
                windows: [3, 1],
            };
        }),
        ("std", |c| c.std[1] = 0.0),
        ("mean", |c| c.mean[0] = f32::NAN),
    ];
    for (field, change) in wrong {
        let mut config = tiny();
        change(&mut config);
        let error = config.validate().expect_err(field).to_string();
        assert!(
            error.starts_with(&format!("masked config: {field}: ")),
            "{error}"
        );
        assert!(!error.contains('\n'));
    }
    let regions = MaskedConfig::of(&LgiFormerConfig::tiny().into()).expect("a config");
    let tube = MaskedConfig {
        mask: Masking::Tube { ratio: 0.9 },
        ..regions
    };
    let error = tube.validate().expect_err("regions").to_string();
    assert!(
        error.contains("mask.windows: 1×1 windows are masked"),
        "{error}"
    );
    let long = VideoMaeConfig {
        tubelet: 4,
        ..VideoMaeConfig::tiny()
    };
    let long = MaskedConfig::of(&long.into()).expect("a config");
    let difference = MaskedConfig {
        target: Target::NormalisedDifference,
        ..long
    };
    let error = difference.validate().expect_err("long tubes").to_string();
    assert!(error.contains("target: "), "{error}");
}

#[test]
fn masks_of_other_clips_are_refused() {
    let config = tiny();
    let model = masked::draw(&config, &ParamStore::new(1), &Device::Cpu).expect("a model");
    let shape = (2, config.tubes(), config.tube_len());
    let tubes = Tensor::zeros(shape, DType::F32, &Device::Cpu).expect("zeros");
    let mask = |visible: Vec<u32>| Mask::new(64, visible).expect("a mask");
    let refused = |masks: &[Mask]| {
        let made = model.forward(&tubes, masks, &mut Pass::inference());
        made.expect_err("refused").to_string()
    };
    let error = refused(&[mask(vec![0, 1])]);
    assert_eq!(
        error,
        "masks have shape [64], the encoder takes 2, of 64 tubes each"
    );
    let error = refused(&[mask(vec![0, 1]), mask(vec![3])]);
    assert!(error.contains("[2, 1]"), "{error}");
    let other = Mask::new(32, vec![0]).expect("a mask");
    assert!(refused(&[other.clone(), other]).contains("[32, 32]"));
    for visible in [vec![], vec![64], vec![1, 1], vec![2, 1], (0..64).collect()] {
        let error = Mask::new(64, visible).expect_err("refused").to_string();
        assert!(error.starts_with("mask: visible: "), "{error}");
    }
    // Other places in every slice of time, for an encoder that halves it.
    let pyramid = TpsbtConfig {
        image_size: 64,
        ..TpsbtConfig::tiny()
    };
    let config = MaskedConfig::of(&pyramid.into()).expect("a config");
    let model = masked::draw(&config, &ParamStore::new(1), &Device::Cpu).expect("a model");
    let shape = (1, config.tubes(), config.tube_len());
    let tubes = Tensor::zeros(shape, DType::F32, &Device::Cpu).expect("zeros");
    let moving = Mask::new(128, (0..8).map(|t| 16 * t + t).collect()).expect("a mask");
    let made = model.forward(&tubes, &[moving], &mut Pass::inference());
    let error = made.expect_err("refused").to_string();
    assert!(
        error.contains("the same places in each of 8 slices"),
        "{error}"
    );
}
