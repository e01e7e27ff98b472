//! Every checkpoint of `fixtures/checkpoints` gives the intermediates that PyTorch
//! gives, whatever its spelling.

use std::path::PathBuf;

use mtcae_encoder::candle_core::{Device, Tensor};
use mtcae_encoder::{Checkpoint, Encoder, Overrides, Spelling, open_with};
use mtcae_nn::Pass;
use mtcae_testing::{Fixture, assert_close, deviation, fixtures};

/// Two blocks in f32 against a reference in f64: a few ulp (6e-8) of the largest
/// value a layer. 1e-5 leaves room for other orders of summation and is below what
/// a wrong ε of 1e-5 for 1e-12 does to F.
const TOLERANCE: f64 = 1e-5;

/// Every checkpoint: file or folder, file of expectations, spelling.
const CHECKPOINTS: [(&str, &str, Spelling); 17] = [
    ("hf-old", "hf", Spelling::HuggingFace),
    ("hf-bare", "hf", Spelling::HuggingFace),
    ("hf-state-dict", "hf", Spelling::HuggingFace),
    ("hf-new", "hf", Spelling::HuggingFace),
    ("hf-pretraining", "hf", Spelling::HuggingFace),
    ("hf-eps", "hf-eps", Spelling::HuggingFace),
    ("hf-finetuned", "hf-finetuned", Spelling::HuggingFace),
    ("hf-finetuned-old", "hf-finetuned", Spelling::HuggingFace),
    ("hf-bin", "hf", Spelling::HuggingFace),
    ("videomae-pretrain.pth", "videomae", Spelling::VideoMae),
    ("videomae-pretrain-args.pth", "videomae", Spelling::VideoMae),
    (
        "videomae-finetune.pth",
        "videomae-finetune",
        Spelling::VideoMae,
    ),
    ("marlin-encoder.pt", "marlin", Spelling::Marlin),
    ("marlin.pt", "marlin", Spelling::Marlin),
    ("marlin.ckpt", "marlin", Spelling::Marlin),
    ("marlin-hf", "marlin", Spelling::Marlin),
    ("weights.safetensors", "videomae", Spelling::Own),
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
    open_with(path(name), &tiny()).unwrap_or_else(|e| panic!("{e}"))
}

fn trace(encoder: &Encoder, clips: &Tensor) -> Vec<(String, Tensor)> {
    let (features, trace) = encoder.forward_traced(clips).expect("a forward pass");
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
        let trace = trace(&encoder, expected.get("input.video"));
        let want = expected.below("trace.");
        assert_eq!(trace.len(), want.len(), "{name}");
        for (entry, got) in &trace {
            assert_close(&format!("{name}: {entry}"), got, &want[entry], TOLERANCE);
        }
    }
}

#[test]
fn clips_and_tubes_give_the_same() {
    let expected = Fixture::load("checkpoints/expected-hf.safetensors");
    let clips = expected.get("input.video");
    let encoder = checkpoint("hf-new").load(&Device::Cpu).expect("loaded");
    let tubes = encoder.tubes(clips).expect("tubes");
    assert_eq!(tubes.dims(), [1, 8, 1536]);
    let by_tubes = encoder.forward_tubes(&tubes).expect("forward");
    assert_eq!(
        deviation(&by_tubes, &encoder.forward(clips).expect("forward")),
        0.0
    );
    let run = encoder.run(&tubes, &mut Pass::inference()).expect("run");
    assert_eq!(deviation(&by_tubes, &run), 0.0);
}
