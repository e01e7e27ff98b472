//! torchvision's residual networks at full size, as `fixtures/resnet/full_size.py` writes them
//! into the folder that MTCAE_FULL_SIZE_DIR names: the model, and its plan.

use std::path::PathBuf;

use mtcae_encoder::candle_core::{Device, Tensor};
use mtcae_encoder::nn::plan::{Arena, Precision, format};
use mtcae_encoder::{Config, ResNetConfig, open};
use mtcae_testing::{Fixture, deviation};

/// Up to fifty convolutions in f32 against f64.
const TOLERANCE: f64 = 1e-5;

#[test]
fn torchvisions_networks_give_torchvisions_features() {
    let folder = std::env::var_os("MTCAE_FULL_SIZE_DIR");
    let folder = PathBuf::from(folder.expect("MTCAE_FULL_SIZE_DIR names the references' folder"));
    for (name, config) in [
        ("resnet18", ResNetConfig::resnet18()),
        ("resnet50", ResNetConfig::resnet50()),
        ("r3d_18", ResNetConfig::r3d18()),
    ] {
        let found = open(folder.join(format!("{name}.pth"))).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(found.config, Config::from(config), "{name}");
        let reference = Fixture::open(&folder.join(format!("{name}.safetensors")));
        let (clips, want) = (reference.get("clips"), reference.get("F"));
        let encoder = found.load(&Device::Cpu).unwrap_or_else(|e| panic!("{e}"));
        let f = encoder.forward(clips).expect("features");
        let off = deviation(&f, want);
        println!("{name}: {off:.1e}");
        assert!(off <= TOLERANCE, "{name}: {off:e}");
        let format = format(Precision::F32).expect("f32");
        let plan = encoder.plan(format).expect("packed").expect("a plan");
        let clip: Vec<f32> = clips
            .flatten_all()
            .and_then(|c| c.to_vec1())
            .expect("a clip");
        let mut packed = vec![f32::NAN; want.elem_count()];
        plan.forward(&clip, &mut Arena::default(), &mut packed)
            .expect("computed");
        let packed = Tensor::from_vec(packed, want.shape(), &Device::Cpu).expect("features");
        let off = deviation(&packed, want);
        println!("{name}, packed: {off:.1e}");
        assert!(off <= TOLERANCE, "{name}, packed: {off:e}");
    }
}
