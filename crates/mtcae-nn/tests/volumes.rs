//! Convolution, BatchNorm and pooling over volumes against PyTorch: values and every gradient,
//! of every shape and way of `fixtures/resnet/make.py`.

use mtcae_nn::candle_core::{DType, Device, Result, Tensor, Var};
use mtcae_nn::volume::{ConvNorm, Kind, Pool, Shape, Statistics};
use mtcae_nn::weights::{InMemory, load_strict};
use mtcae_nn::{ParamStore, Pass, ops};
use mtcae_testing::{Fixture, assert_close, devices};
use serde_json::Value;

/// Sums of a thousand products in f32 against f64.
const TOLERANCE: f64 = 1e-5;
/// Gradients through statistics cancel. The project asks for 1e-4.
const GRADIENT_TOLERANCE: f64 = 1e-4;

fn fixture() -> Fixture {
    Fixture::load("resnet/layers.safetensors")
}

fn cases(of: &str) -> Vec<(String, Value)> {
    let config = fixture().config();
    let all = config[of].as_object().expect("cases").clone();
    all.into_iter().collect()
}

fn three(value: &Value) -> [usize; 3] {
    [0, 1, 2].map(|i| value[i].as_u64().expect("a length") as usize)
}

fn shape(case: &Value) -> Shape {
    let number = |field: &str| case[field].as_u64().expect("a number") as usize;
    Shape {
        groups: number("groups"),
        inputs: number("inputs"),
        outputs: number("outputs"),
        kernel: three(&case["kernel"]),
        stride: three(&case["stride"]),
        padding: three(&case["padding"]),
    }
}

const LEAVES: [&str; 5] = ["x", "weight", "gamma", "beta", "residual"];

#[test]
fn convolutions_with_what_follows_them_are_pytorchs() -> Result<()> {
    let fixture = fixture();
    for (name, case) in cases("convs") {
        let shape = shape(&case);
        for device in devices() {
            let get = |what: &str| fixture.get(&format!("{name}.{what}")).to_device(&device);
            let ways = fixture.below(&format!("{name}."));
            let ways = ways.keys().filter_map(|key| key.strip_suffix(".y"));
            let mut compared = 0;
            for way in ways {
                let leaves = LEAVES
                    .iter()
                    .map(|leaf| Var::from_tensor(&get(leaf)?))
                    .collect::<Result<Vec<Var>>>()?;
                let [x, weight, gamma, beta, residual] = [0, 1, 2, 3, 4].map(|i| &leaves[i]);
                // Copies, which a step changes.
                let (mean, variance) = (get("mean")?.copy()?, get("variance")?.copy()?);
                let grouped = way.starts_with("groups");
                let norm = ops::Norm {
                    gamma,
                    beta,
                    mean: &mean,
                    variance: &variance,
                    eps: 1e-5,
                    statistics: match grouped {
                        true => Statistics::Groups {
                            clips: 1,
                            momentum: 0.1,
                        },
                        false => Statistics::Frozen,
                    },
                };
                let plain = way == "plain";
                let after = ops::After {
                    norm: (!plain).then_some(norm),
                    residual: way.contains("residual").then_some(residual.as_tensor()),
                    relu: way.contains("relu"),
                };
                let y = ops::conv(x, weight, &shape, after, &mut Pass::training(0))?;
                let what = format!("{name}.{way}");
                assert_close(&what, &y, &get(&format!("{way}.y"))?, TOLERANCE);
                let grads = (y * get("upstream")?)?.sum_all()?.backward()?;
                let wanted = fixture.below(&format!("{what}.grad."));
                assert_eq!(
                    wanted.len(),
                    2 + usize::from(!plain) * 2 + usize::from(after.residual.is_some())
                );
                for (leaf, var) in LEAVES.iter().zip(&leaves) {
                    match (wanted.get(*leaf), grads.get(var)) {
                        (Some(want), Some(got)) => {
                            let what = format!("{what}: {leaf}");
                            assert_close(&what, got, want, GRADIENT_TOLERANCE);
                        }
                        (want, got) => assert!(want.is_none() && got.is_none(), "{what}: {leaf}"),
                    }
                }
                let kept = if way == "groups" { "groups." } else { "" };
                if !grouped || way == "groups" {
                    assert_close(&what, &mean, &get(&format!("{kept}mean"))?, TOLERANCE);
                    assert_close(
                        &what,
                        &variance,
                        &get(&format!("{kept}variance"))?,
                        TOLERANCE,
                    );
                }
                compared += 1;
            }
            assert!(compared >= 3, "{name}");
        }
    }
    Ok(())
}

#[test]
fn pools_are_pytorchs_and_ties_go_to_the_first() -> Result<()> {
    let fixture = fixture();
    for (name, case) in cases("pools") {
        let by = Pool {
            kind: match case["kind"].as_str() {
                Some("max") => Kind::Max,
                _ => Kind::Mean,
            },
            kernel: three(&case["kernel"]),
            stride: three(&case["stride"]),
            padding: three(&case["padding"]),
        };
        for device in devices() {
            let get = |what: &str| fixture.get(&format!("{name}.{what}")).to_device(&device);
            let x = Var::from_tensor(&get("x")?)?;
            let y = ops::pool(&x, &by)?;
            assert_close(&name, &y, &get("y")?, TOLERANCE);
            let grads = (y * get("upstream")?)?.sum_all()?.backward()?;
            let got = grads.get(&x).expect("a gradient");
            assert_close(&name, got, &get("grad.x")?, TOLERANCE);
        }
    }
    Ok(())
}

fn layer(statistics: Statistics) -> (ParamStore, ConvNorm) {
    let store = ParamStore::new(3);
    let shape = Shape {
        groups: 1,
        inputs: 4,
        outputs: 6,
        kernel: [3; 3],
        stride: [1; 3],
        padding: [1; 3],
    };
    let vb = store.builder(&Device::Cpu);
    let layer = ConvNorm::new(shape, false, 1e-5, statistics, vb.pp("conv"), vb.pp("norm"));
    (store, layer.expect("a layer"))
}

fn clips(n: usize) -> Tensor {
    let count = n * 2 * 3 * 3 * 4;
    let values: Vec<f32> = (0..count)
        .map(|i| ((i * i * 31 % 97) as f32 - 48.0) / 30.0)
        .collect();
    Tensor::from_vec(values, (n, 2, 3, 3, 4), &Device::Cpu).expect("clips")
}

/// So that accumulating gradients over batches of any size trains the same network.
#[test]
fn groups_of_clips_do_not_see_the_batch_they_come_in() -> Result<()> {
    let statistics = Statistics::Groups {
        clips: 2,
        momentum: 0.3,
    };
    let all = clips(4);
    let (whole, layer_whole) = layer(statistics);
    let (parts, layer_parts) = layer(statistics);
    let mut pass = Pass::training(0);
    let together = layer_whole.forward(&all, None, true, &mut pass)?;
    let apart: Vec<Tensor> = [0, 2]
        .iter()
        .map(|&i| layer_parts.forward(&all.narrow(0, i, 2)?, None, true, &mut pass))
        .collect::<Result<_>>()?;
    let values = |t: &Tensor| t.flatten_all().and_then(|t| t.to_vec1::<f32>());
    assert_eq!(values(&together)?, values(&Tensor::cat(&apart, 0)?)?);
    for ((name, a), (_, b)) in whole.vars().iter().zip(&parts.vars()) {
        assert_eq!(values(a)?, values(b)?, "{name}");
    }
    // And the running ones have moved, which inference takes.
    let moved = whole
        .vars()
        .into_iter()
        .find(|(name, _)| name == "norm.running_mean");
    let moved = values(&moved.expect("a mean").1)?;
    assert!(moved.iter().all(|m| *m != 0.0));
    let inferred = layer_whole.forward(&all, None, true, &mut Pass::inference())?;
    assert_ne!(values(&inferred)?, values(&together)?);
    // A single clip is a group by itself; three are neither.
    layer_whole.forward(&clips(1), None, true, &mut pass)?;
    let refused = layer_whole.forward(&clips(3), None, true, &mut pass);
    let said = refused.expect_err("three in pairs").to_string();
    assert!(said.contains("a batch of 3 is no whole number"), "{said}");
    Ok(())
}

/// So that batches which several processes compute move them as those of one do.
#[test]
fn what_running_statistics_follow_can_be_kept_and_applied_elsewhere() -> Result<()> {
    let statistics = Statistics::Groups {
        clips: 2,
        momentum: 0.3,
    };
    let values = |t: &Tensor| t.flatten_all().and_then(|t| t.to_vec1::<f32>());
    let (here, layer_here) = layer(statistics);
    let (there, layer_there) = layer(statistics);
    let mut kept = Vec::new();
    // The last batch is a group of one.
    for (from, count) in [(0, 2), (2, 2), (4, 1)] {
        let part = clips(5).narrow(0, from, count)?;
        layer_here.forward(&part, None, true, &mut Pass::training(0))?;
        let mut pass = Pass::training(0).apart();
        layer_there.forward(&part, None, true, &mut pass)?;
        kept.extend(pass.take_followed());
        assert!(pass.take_followed().is_empty());
    }
    let of = |store: &ParamStore| {
        let running = |name: &str| name.starts_with("norm.running_");
        let vars = store.vars().into_iter().filter(|(name, _)| running(name));
        vars.map(|(_, v)| values(&v)).collect::<Result<Vec<_>>>()
    };
    assert_ne!(of(&here)?, of(&there)?);
    let handle = kept[0].clone();
    for followed in &kept {
        handle.of_bytes(&followed.to_bytes())?.apply()?;
    }
    assert_eq!(of(&here)?, of(&there)?);
    let refused = handle.of_bytes(&[0; 20]).expect_err("no whole group");
    assert!(
        refused
            .to_string()
            .contains("20 bytes to follow, of 6 channels")
    );
    Ok(())
}

#[test]
fn what_does_not_chain_is_refused_in_words() {
    let (_, layer) = layer(Statistics::Frozen);
    let mut pass = Pass::inference();
    let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, &Device::Cpu).expect("zeros");
    for (x, residual, part) in [
        (zeros(&[1, 2, 3, 3, 5]), None, "x of [1, 2, 3, 3, 5]"),
        (zeros(&[2, 3, 3, 4]), None, "unexpected rank"),
        (
            zeros(&[1, 2, 3, 3, 4]),
            Some(zeros(&[1, 2, 3, 3, 5])),
            "a residual of",
        ),
    ] {
        let error = layer.forward(&x, residual.as_ref(), true, &mut pass);
        let said = error.expect_err(part).to_string();
        assert!(said.contains(part), "{said}");
    }
    let source = InMemory::new("nothing", []);
    let shape = Shape {
        groups: 3,
        inputs: 4,
        outputs: 6,
        kernel: [3; 3],
        stride: [1; 3],
        padding: [1; 3],
    };
    let built = load_strict(&source, &Device::Cpu, |vb| {
        ConvNorm::new(
            shape,
            false,
            1e-5,
            Statistics::Frozen,
            vb.pp("a"),
            vb.pp("b"),
        )
        .map_err(mtcae_nn::weights::Error::from)
    });
    let said = built.map(drop).expect_err("refused").to_string();
    assert!(said.contains("no 3 equal groups"), "{said}");
    let wide = Pool {
        kind: Kind::Max,
        kernel: [2, 9, 9],
        stride: [1; 3],
        padding: [0; 3],
    };
    let said = ops::pool(&zeros(&[1, 2, 3, 3, 4]), &wide)
        .expect_err("too wide")
        .to_string();
    assert!(said.contains("pooling: x of [1, 2, 3, 3, 4]"), "{said}");
}
