//! Every checkpoint of `fixtures/checkpoints` gives the intermediates that PyTorch
//! gives, whatever its spelling.

use std::path::PathBuf;

use mtcae_encoder::candle_core::{Device, Tensor};
use mtcae_encoder::{Checkpoint, Encoder, Families, OWN, Overrides, open_with};
use mtcae_nn::Pass;
use mtcae_testing::{Fixture, assert_close, deviation, fixtures};

/// Two blocks in f32 against a reference in f64: a few ulp (6e-8) of the largest
/// value a layer. 1e-5 leaves room for other orders of summation and is below what
/// a wrong ε of 1e-5 for 1e-12 does to F.
const TOLERANCE: f64 = 1e-5;

/// Every checkpoint: file or folder, file of expectations, spelling.
const CHECKPOINTS: [(&str, &str, &str); 17] = [
    ("hf-old", "hf", "huggingface"),
    ("hf-bare", "hf", "huggingface"),
    ("hf-state-dict", "hf", "huggingface"),
    ("hf-new", "hf", "huggingface"),
    ("hf-pretraining", "hf", "huggingface"),
    ("hf-eps", "hf-eps", "huggingface"),
    ("hf-finetuned", "hf-finetuned", "huggingface"),
    ("hf-finetuned-old", "hf-finetuned", "huggingface"),
    ("hf-bin", "hf", "huggingface"),
    ("videomae-pretrain.pth", "videomae", "videomae"),
    ("videomae-pretrain-args.pth", "videomae", "videomae"),
    ("videomae-finetune.pth", "videomae-finetune", "videomae"),
    ("marlin-encoder.pt", "marlin", "marlin"),
    ("marlin.pt", "marlin", "marlin"),
    ("marlin.ckpt", "marlin", "marlin"),
    ("marlin-hf", "marlin", "marlin"),
    ("weights.safetensors", "videomae", OWN),
];

fn path(name: &str) -> PathBuf {
    fixtures().join("checkpoints").join(name)
}

/// What the files without a `config.json` cannot say about the tiny encoder.
fn tiny() -> Overrides {
    Overrides {
        heads: Some(4),
        image_size: Some(32),
        frames: Some(4),
        ..Overrides::default()
    }
}

fn checkpoint(name: &str) -> Checkpoint {
    open_with(path(name), &tiny(), &Families::default()).unwrap_or_else(|e| panic!("{e}"))
}

fn trace(encoder: &dyn Encoder, clips: &Tensor) -> Vec<(String, Tensor)> {
    let mut pass = Pass::inference().traced();
    let input = encoder.config().input().cut(clips).expect("tubes");
    let features = encoder.run(&input, &mut pass).expect("a forward pass");
    let trace = pass.into_trace();
    assert_eq!(trace.last().map(|(n, _)| n.as_str()), Some("F"));
    assert_eq!(deviation(&features, &trace[trace.len() - 1].1), 0.0);
    trace
}

#[test]
fn every_spelling_gives_pytorchs_intermediates() {
    for (name, expected, spelling) in CHECKPOINTS {
        let expected = Fixture::load(&format!("checkpoints/expected-{expected}.safetensors"));
        let checkpoint = checkpoint(name);
        assert_eq!(checkpoint.spelling, spelling, "{name}");
        let encoder = checkpoint
            .load(&Device::Cpu)
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        let trace = trace(&*encoder, expected.get("input.video"));
        let want = expected.below("trace.");
        assert_eq!(trace.len(), want.len(), "{name}");
        let off = |(entry, got): &(String, Tensor)| deviation(got, &want[entry]);
        let worst = trace.iter().map(off).fold(0.0, f64::max);
        println!("{name}: worst {worst:.1e}");
        for (entry, got) in &trace {
            assert_close(&format!("{name}: {entry}"), got, &want[entry], TOLERANCE);
        }
    }
}

#[test]
fn clips_are_cut_into_tubes() {
    let expected = Fixture::load("checkpoints/expected-hf.safetensors");
    let clips = expected.get("input.video");
    let encoder = checkpoint("hf-new").load(&Device::Cpu).expect("loaded");
    let tubes = encoder.config().input().cut(clips).expect("tubes");
    assert_eq!(tubes.dims(), [1, 8, 1536]);
    let run = encoder.run(&tubes, &mut Pass::inference()).expect("run");
    let forward = encoder.forward(clips).expect("forward");
    assert_eq!(deviation(&run, &forward), 0.0);
}

/// The original's names in safetensors below another prefix, as conversions of
/// fine-tuned checkpoints come.
#[test]
fn the_original_spelling_comes_in_safetensors_too() {
    let expected = Fixture::load("checkpoints/expected-videomae-finetune.safetensors");
    let original = checkpoint("videomae-finetune.pth");
    let tensors: Vec<(String, Tensor)> = original
        .config
        .tensors()
        .into_iter()
        .map(|(name, _)| {
            let tensor = original.source().load(&name, &Device::Cpu).expect("read");
            let tensor = match name.as_str() {
                "patch_embed.proj.weight" => tensor.reshape((16, 3, 2, 16, 16)).expect("a kernel"),
                _ => tensor,
            };
            (format!("backbone.{name}"), tensor)
        })
        .collect();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("finetuned.safetensors");
    let named = tensors.iter().map(|(n, t)| (n.as_str(), t));
    mtcae_nn::weights::save(&path, named, [].into()).expect("saved");
    let checkpoint =
        open_with(&path, &tiny(), &Families::default()).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(checkpoint.spelling, "videomae");
    let encoder = checkpoint.load(&Device::Cpu).expect("loaded");
    let features = encoder.forward(expected.get("input.video")).expect("F");
    assert_close("F", &features, expected.get("trace.F"), TOLERANCE);
}

#[test]
fn the_position_table_is_transformers() {
    let expected = Fixture::load("checkpoints/expected-hf.safetensors");
    let table = mtcae_nn::sin_cos_table(1568, 384, &Device::Cpu).expect("a table");
    for (name, first) in [("pos.first8", 0), ("pos.last8", 1560)] {
        let rows = table.narrow(0, first, 8).expect("rows");
        // Both round an angle's sine in f64 to f32: at most the last bit differs.
        assert_close(name, &rows, expected.get(name), 1.2e-7);
    }
}
