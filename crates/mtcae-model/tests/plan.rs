//! The inference plan of the whole model: equal to the Candle path, and without
//! large allocations once its memory is there.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::{Device, Tensor};
use mtcae_model::decoder::Structure;
use mtcae_model::encoder::{Families, Overrides, VideoMaeConfig};
use mtcae_model::{Config, Engine, Mtcae, Precision};
use mtcae_nn::ParamStore;
use mtcae_nn::Pass;
use mtcae_testing::deviation;

/// What counts as large, in bytes: less than a row of tokens of the test's model.
const LARGE: usize = 16 * 1024;

static LARGE_ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, counting large allocations.
struct Counting;

impl Counting {
    fn count(size: usize) {
        if size >= LARGE {
            LARGE_ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
    }
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::count(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, data: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::count(size);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(data, layout, size) }
    }

    unsafe fn dealloc(&self, data: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(data, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn config(structure: Structure) -> Config {
    let encoder = VideoMaeConfig {
        image_size: 64,
        width: 96,
        depth: 3,
        heads: 3,
        hidden: 384,
        ..VideoMaeConfig::small()
    };
    Config::new(encoder, structure, classes())
}

fn classes() -> Vec<String> {
    vec!["calm".into(), "angry".into()]
}

/// All structures on one encoder, and the first on those of other families.
fn configs() -> Vec<Config> {
    let mut configs: Vec<Config> = Structure::ALL.map(config).to_vec();
    let units = ["AU4", "AU12", "AU26"].map(str::to_owned).to_vec();
    configs.push(config(Structure::Cascade).with_action_units(units));
    // TPSBT's slices of 4 places and of 1 have fewer than its bottlenecks.
    for (family, image_size) in [
        ("lgi-former", 64),
        ("tpsbt", 64),
        ("tpsbt", 32),
        ("tpsbt", 16),
    ] {
        let size = Overrides {
            image_size: Some(image_size),
            ..Overrides::default()
        };
        let encoder = Families::preset(family, "tiny", &size).expect("a preset");
        configs.push(Config::new(encoder, Structure::SingleTask, classes()));
    }
    configs
}

fn tubes(config: &Config, clips: usize) -> Tensor {
    let shape = config.encoder.input().shape();
    let (n, len) = (shape[0], shape[1]);
    let values: Vec<f32> = (0..clips * n * len)
        .map(|i| ((i * 7919) % 1013) as f32 / 300.0 - 1.6)
        .collect();
    Tensor::from_vec(values, (clips, n, len), &Device::Cpu).expect("tubes")
}

/// One test, because others would allocate beside it.
#[test]
fn plans_equal_the_candle_path_allocate_nothing_large_and_refuse_other_shapes() {
    other_shapes_are_refused();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let pool = pool.expect("a pool");
    for config in configs() {
        let structure = format!("{} {}", config.encoder.family(), config.decoder.structure);
        let store = ParamStore::new(3);
        let vb = store.builder(&Device::Cpu);
        let model = Mtcae::new(&config, vb.clone()).expect("built");
        let tubes = tubes(&config, 2);
        let want = model
            .run(&tubes, &mut Pass::inference())
            .expect("a forward");
        for precision in [Precision::F32, Precision::Bf16] {
            let plan = match Engine::pack(&config, precision, vb.clone()) {
                Ok(plan) => plan,
                Err(error) if precision == Precision::Bf16 => {
                    assert!(error.to_string().contains("AVX512-BF16"), "{error}");
                    continue;
                }
                Err(error) => panic!("{error}"),
            };
            // 1e-5 as for parity with PyTorch; bf16 rounds at 2⁻⁹.
            let bound = if precision == Precision::F32 {
                1e-5
            } else {
                2e-2
            };
            let cpu = &Device::Cpu;
            for plan in [plan, Engine::of(&model, cpu, precision).expect("a plan")] {
                let got = plan.run(&tubes, &mut Pass::inference()).expect("a forward");
                for (what, got, want) in [
                    ("logits", Some(&got.logits), Some(&want.logits)),
                    ("boxes", got.boxes.as_ref(), want.boxes.as_ref()),
                    ("landmarks", got.landmarks.as_ref(), want.landmarks.as_ref()),
                    (
                        "action units",
                        got.action_units.as_ref(),
                        want.action_units.as_ref(),
                    ),
                ] {
                    assert_eq!(got.is_some(), want.is_some(), "{structure}: {what}");
                    if let (Some(got), Some(want)) = (got, want) {
                        let error = deviation(got, want);
                        assert!(
                            error <= bound,
                            "{structure} {precision:?} {what}: {error:e}"
                        );
                    }
                }
                // On one thread, because which of several has had the largest
                // task, and so has the memory for it, is up to chance.
                let large = pool.install(|| {
                    plan.run(&tubes, &mut Pass::inference()).expect("a forward");
                    let before = LARGE_ALLOCATIONS.load(Ordering::Relaxed);
                    plan.run(&tubes, &mut Pass::inference()).expect("a forward");
                    LARGE_ALLOCATIONS.load(Ordering::Relaxed) - before
                });
                assert_eq!(large, 0, "{structure} {precision:?}: large allocations");
            }
        }
    }
}

fn other_shapes_are_refused() {
    let config = config(Structure::Cascade);
    let plan = Engine::pack(
        &config,
        Precision::F32,
        ParamStore::new(1).builder(&Device::Cpu),
    )
    .expect("a plan");
    let tubes = Tensor::zeros((1, 3, 1536), candle_core::DType::F32, &Device::Cpu).expect("tubes");
    let error = plan
        .run(&tubes, &mut Pass::inference())
        .expect_err("refused")
        .to_string();
    assert!(error.contains("takes (B, 128, 1536)"), "{error}");
    let tf32 = Mtcae::new(&config, ParamStore::new(1).builder(&Device::Cpu))
        .and_then(|model| Engine::of(&model, &Device::Cpu, Precision::Tf32));
    let error = tf32.expect_err("refused").to_string();
    assert!(error.contains("TF32 exists on GPUs only"), "{error}");
    for count in [0, 128 * 1536 + 1] {
        let error = plan.run_slice(&vec![0.0; count]).expect_err("refused");
        let error = error.to_string();
        let want = format!(
            "whole clips of {} numbers, at least one, not [{count}]",
            128 * 1536
        );
        assert!(error.ends_with(&want), "{error}");
    }
}
