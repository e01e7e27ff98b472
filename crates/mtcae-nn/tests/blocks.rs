//! Blocks, which are one operation, against the same layers put together from plain ones:
//! values, and every gradient by name, whichever way it comes.

use std::sync::{Mutex, PoisonError};

use mtcae_nn::VarBuilder;
use mtcae_nn::candle_core::{Device, Module, Result, Tensor, Var};
use mtcae_nn::{
    CrossAttention, DropPath, LayerNorm, Linear, Mlp, Over, ParamStore, Pass, SelfAttention, ops,
};
use mtcae_testing::devices;

const WIDTH: usize = 20;

/// Numbers in [−1, 1) that differ by `seed`.
fn tensor(shape: &[usize], seed: u32, device: &Device) -> Result<Tensor> {
    let n: usize = shape.iter().product();
    let data: Vec<f32> = (0..n as u32)
        .map(|i| {
            let bits = (i + seed * 7919).wrapping_mul(2_654_435_761);
            (bits >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect();
    Tensor::from_vec(data, shape, device)
}

/// Parameters far from their initial values, whose gradients would be easy.
fn perturb(params: &ParamStore) -> Result<()> {
    for (i, (name, var)) in params.vars().into_iter().enumerate() {
        let noise = (tensor(var.dims(), i as u32 + 1, var.device())? * 0.5)?;
        params.set(&name, &(var.as_tensor() + noise)?)?;
    }
    Ok(())
}

fn close(got: &Tensor, want: &Tensor, what: &str) -> Result<()> {
    assert_eq!(got.dims(), want.dims(), "{what}");
    let largest = |t: &Tensor| t.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>();
    let (worst, scale) = (largest(&(got - want)?)?, largest(want)?);
    // Both round sums of some hundred terms in f32, in another order.
    assert!(worst <= 3e-6 * scale, "{what}: {worst:e} of {scale:e}");
    assert!(scale > 0.0, "{what}: nothing to compare");
    Ok(())
}

/// Compares `fused` and `plain` on y and x, and the gradients of a weighted sum of their
/// results: through the graph, twice over the same; past it; and computed again. Blocks
/// draw what they drop from seed 3.
fn compare(
    device: &Device,
    params: &ParamStore,
    fused: impl Fn(&Tensor, &Tensor, &mut Pass) -> Result<Tensor>,
    plain: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
    with_x: bool,
) -> Result<()> {
    // How products take biases is a setting of the whole process.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    ops::fuse_epilogues(false);
    perturb(params)?;
    let y = Var::from_tensor(&tensor(&[2, 37, WIDTH], 101, device)?)?;
    let x = Var::from_tensor(&tensor(&[2, 41, WIDTH], 102, device)?)?;
    let weights = tensor(&[2, 37, WIDTH], 103, device)?;
    let out = plain(&y, &x)?;
    let want = (&out * &weights)?.sum_all()?.backward()?;
    let mut vars = params.vars();
    vars.push(("y".to_owned(), y.clone()));
    if with_x {
        vars.push(("x".to_owned(), x.clone()));
    }
    let graph = "graph";
    let mut ways = vec![
        (graph, Pass::training(3), false),
        ("past the graph", Pass::training(3).collecting(), false),
        ("computed again", Pass::training(3).recomputing(), false),
        ("both", Pass::training(3).recomputing().collecting(), false),
    ];
    if device.is_cuda() {
        ways.push(("with epilogues", Pass::training(3).collecting(), true));
    }
    for (what, mut pass, epilogues) in ways {
        ops::fuse_epilogues(epilogues);
        let got = fused(&y, &x, &mut pass)?;
        close(&got, &out, what)?;
        let loss = (got * &weights)?.sum_all()?;
        let mut first = loss.backward()?;
        first.extend(pass.into_gradients())?;
        let mut runs = vec![first];
        if what == graph {
            runs.push(loss.backward()?);
        }
        for (name, var) in &vars {
            let want = want.get(var).expect("the plain layers give a gradient");
            for grads in &runs {
                let got = grads
                    .get(var)
                    .unwrap_or_else(|| panic!("{what}: {name} has none"));
                close(got, want, &format!("{what}: {name}"))?;
            }
        }
    }
    Ok(())
}

#[test]
fn residual_mlp_equals_its_parts() -> Result<()> {
    devices().iter().try_for_each(|device| {
        for rate in [0.0, 0.4] {
            let params = ParamStore::new(1);
            let vb = params.builder(device);
            let norm = LayerNorm::new(WIDTH, 1e-6, vb.pp("norm"))?;
            let mlp = Mlp::new(WIDTH, 52, vb.pp("mlp"))?;
            let drop = DropPath::new(rate)?;
            compare(
                device,
                &params,
                |y, _, pass| mlp.residual(y, &norm, &drop, pass),
                |y, _| {
                    y + drop.forward(&mlp.forward(&norm.forward(y)?)?, &mut Pass::training(3))?
                },
                false,
            )?;
        }
        Ok(())
    })
}

/// The layers of a block below a name, its MLP of 52 channels.
struct Parts<A> {
    norms: [LayerNorm; 2],
    attention: A,
    mlp: Mlp,
}

fn parts<A>(
    device: &Device,
    params: &ParamStore,
    attention: impl Fn(VarBuilder<'_>) -> Result<A>,
) -> Result<Parts<A>> {
    let vb = params.builder(device);
    Ok(Parts {
        norms: [
            LayerNorm::new(WIDTH, 1e-6, vb.pp("norm1"))?,
            LayerNorm::new(WIDTH, 1e-6, vb.pp("norm2"))?,
        ],
        attention: attention(vb.pp("attn"))?,
        mlp: Mlp::new(WIDTH, 52, vb.pp("mlp"))?,
    })
}

impl<A> Parts<A> {
    fn norms(&self) -> [&LayerNorm; 2] {
        let [first, second] = &self.norms;
        [first, second]
    }

    /// The block put together of plain layers.
    fn plain(
        &self,
        y: &Tensor,
        drop: &DropPath,
        attend: impl Fn(&A, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let mut pass = Pass::training(3);
        let branch = attend(&self.attention, &self.norms[0].forward(y)?)?;
        let scales = drop.forward(&branch, &mut pass)?;
        let y = (y + scales)?;
        let branch = self.mlp.forward(&self.norms[1].forward(&y)?)?;
        &y + drop.forward(&branch, &mut pass)?
    }
}

#[test]
fn a_block_of_self_attention_equals_its_parts() -> Result<()> {
    devices().iter().try_for_each(|device| {
        for rate in [0.0, 0.4] {
            let params = ParamStore::new(2);
            let parts = parts(device, &params, |vb| SelfAttention::new(WIDTH, 4, vb))?;
            let (drop, norms) = (DropPath::new(rate)?, parts.norms());
            compare(
                device,
                &params,
                |y, _, pass| parts.attention.block(y, norms, &parts.mlp, &drop, pass),
                |y, _| parts.plain(y, &drop, Module::forward),
                false,
            )?;
        }
        Ok(())
    })
}

#[test]
fn a_block_of_cross_attention_equals_its_parts() -> Result<()> {
    devices().iter().try_for_each(|device| {
        for rate in [0.0, 0.4] {
            let params = ParamStore::new(2);
            let parts = parts(device, &params, |vb| CrossAttention::new(WIDTH, 3, 7, vb))?;
            let (drop, norms) = (DropPath::new(rate)?, parts.norms());
            compare(
                device,
                &params,
                |y, x, pass| {
                    let over = Over::Features(x);
                    parts
                        .attention
                        .block(y, over, norms, &parts.mlp, &drop, pass)
                },
                |y, x| parts.plain(y, &drop, |attention, y| attention.forward(y, x)),
                true,
            )?;
        }
        Ok(())
    })
}

/// Where y and x are one tensor, its gradient is the sum of both ways.
#[test]
fn an_input_that_stands_twice_gets_both_gradients() -> Result<()> {
    devices().iter().try_for_each(|device| {
        let params = ParamStore::new(5);
        let parts = parts(device, &params, |vb| CrossAttention::new(WIDTH, 2, 5, vb))?;
        let (drop, norms) = (DropPath::new(0.0)?, parts.norms());
        compare(
            device,
            &params,
            |y, _, pass| {
                let over = Over::Features(y);
                parts
                    .attention
                    .block(y, over, norms, &parts.mlp, &drop, pass)
            },
            |y, _| parts.plain(y, &drop, |attention, normed| attention.forward(normed, y)),
            false,
        )
    })
}

#[test]
fn linear_equals_candles() -> Result<()> {
    // On a GPU Candle's multiplies no transposed input; `devices` has its twin.
    [Device::Cpu].iter().try_for_each(|device| {
        for with_bias in [false, true] {
            let params = ParamStore::new(4);
            let vb = params.builder(device);
            let weight = vb.get((13, WIDTH), "weight")?;
            let bias = with_bias.then(|| vb.get(13, "bias")).transpose()?;
            let ours = Linear::new(weight.clone(), bias.clone());
            let candles = candle_nn::Linear::new(weight, bias);
            // Transposed, so that the input is not contiguous; beside a part of y, so
            // that the result has y's shape.
            let run = |layer: &dyn Module, y: &Tensor| -> Result<Tensor> {
                let out = layer.forward(&y.transpose(0, 1)?)?.transpose(0, 1)?;
                Tensor::cat(&[&out, &y.narrow(2, 0, WIDTH - 13)?], 2)
            };
            compare(
                device,
                &params,
                |y, _, _| run(&ours, y),
                |y, _| run(&candles, y),
                false,
            )?;
        }
        Ok(())
    })
}

#[test]
fn shapes_that_do_not_chain_are_errors() -> Result<()> {
    devices().iter().try_for_each(|device| {
        let params = ParamStore::new(6);
        let vb = params.builder(device);
        let norm = LayerNorm::new(WIDTH, 1e-6, vb.pp("norm"))?;
        let attention = CrossAttention::new(WIDTH, 2, 5, vb.pp("attn"))?;
        let mlp = Mlp::new(WIDTH, 8, vb.pp("mlp"))?;
        let drop = DropPath::new(0.0)?;
        let mut pass = Pass::inference();
        let (y, narrow) = (
            tensor(&[2, 3, WIDTH], 1, device)?,
            tensor(&[2, 3, WIDTH - 1], 2, device)?,
        );
        let one = tensor(&[1, 3, WIDTH], 3, device)?;
        assert!(mlp.residual(&narrow, &norm, &drop, &mut pass).is_err());
        for (y, x) in [(&narrow, &y), (&y, &narrow), (&y, &one)] {
            for over in [Over::Features(x), Over::KeysAndValues(x)] {
                let block = attention.block(y, over, [&norm, &norm], &mlp, &drop, &mut pass);
                assert!(block.is_err());
            }
        }
        let linear = mtcae_nn::linear(WIDTH, 3, vb.pp("linear"))?;
        assert!(linear.forward(&narrow).is_err());
        Ok(())
    })
}

/// Keys and values of several layers in one product are those of each alone.
#[test]
fn one_product_gives_the_keys_and_values_of_all_layers() -> Result<()> {
    devices().iter().try_for_each(|device| {
        let params = ParamStore::new(8);
        let layers = (0..3)
            .map(|i| CrossAttention::new(WIDTH, 2, 5, params.builder(device).pp(i)))
            .collect::<Result<Vec<_>>>()?;
        perturb(&params)?;
        let (y, x) = (
            tensor(&[2, 3, WIDTH], 1, device)?,
            tensor(&[2, 4, WIDTH], 2, device)?,
        );
        let all: Vec<&CrossAttention> = layers.iter().collect();
        let kv = CrossAttention::keys_and_values(&all, &x)?;
        let norm = LayerNorm::new(WIDTH, 1e-6, params.builder(device).pp("norm"))?;
        let mlp = Mlp::new(WIDTH, 8, params.builder(device).pp("mlp"))?;
        let (drop, norms) = (DropPath::new(0.0)?, [&norm, &norm]);
        for (layer, kv) in layers.iter().zip(&kv) {
            let block = |over| layer.block(&y, over, norms, &mlp, &drop, &mut Pass::inference());
            let (got, want) = (block(Over::KeysAndValues(kv))?, block(Over::Features(&x))?);
            close(&got, &want, "attended")?;
        }
        Ok(())
    })
}
