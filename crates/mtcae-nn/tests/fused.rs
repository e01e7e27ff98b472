//! The fused operations against the same layers put together from plain ones:
//! values, and every gradient by name.

use mtcae_nn::candle_core::{Device, Module, Result, Tensor, Var};
use mtcae_nn::{CrossAttention, DropPath, LayerNorm, Linear, Mlp, ParamStore, Pass};

const WIDTH: usize = 20;

/// Numbers in [−1, 1) that differ by `seed`.
fn tensor(shape: &[usize], seed: u32) -> Result<Tensor> {
    let n: usize = shape.iter().product();
    let data: Vec<f32> = (0..n as u32)
        .map(|i| {
            let bits = (i + seed * 7919).wrapping_mul(2_654_435_761);
            (bits >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect();
    Tensor::from_vec(data, shape, &Device::Cpu)
}

/// Parameters far from their initial values, whose gradients would be easy.
fn perturb(params: &ParamStore) -> Result<()> {
    for (i, (name, var)) in params.vars().into_iter().enumerate() {
        let noise = (tensor(var.dims(), i as u32 + 1)? * 0.5)?;
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

/// Compares `fused` and `plain` on y and x, and the gradients of a weighted sum
/// of their results, of which `fused` runs backward twice.
fn compare(
    params: &ParamStore,
    fused: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
    plain: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
    with_x: bool,
) -> Result<()> {
    perturb(params)?;
    let y = Var::from_tensor(&tensor(&[2, 37, WIDTH], 101)?)?;
    let x = Var::from_tensor(&tensor(&[2, 41, WIDTH], 102)?)?;
    let weights = tensor(&[2, 37, WIDTH], 103)?;
    let got = fused(&y, &x)?;
    let want = plain(&y, &x)?;
    close(&got, &want, "values")?;
    let loss = (got * &weights)?.sum_all()?;
    let (first, second) = (loss.backward()?, loss.backward()?);
    let want = (want * &weights)?.sum_all()?.backward()?;
    let mut vars = params.vars();
    vars.push(("y".to_owned(), y));
    if with_x {
        vars.push(("x".to_owned(), x));
    }
    for (name, var) in vars {
        let want = want.get(&var).expect("the plain layers give a gradient");
        for grads in [&first, &second] {
            let got = grads.get(&var);
            close(got.expect("the fused ones give a gradient"), want, &name)?;
        }
    }
    Ok(())
}

#[test]
fn residual_mlp_equals_its_parts() -> Result<()> {
    for rate in [0.0, 0.4] {
        let params = ParamStore::new(1);
        let vb = params.builder(&Device::Cpu);
        let norm = LayerNorm::new(WIDTH, 1e-6, vb.pp("norm"))?;
        let mlp = Mlp::new(WIDTH, 52, vb.pp("mlp"))?;
        let drop = DropPath::new(rate)?;
        compare(
            &params,
            |y, _| mlp.residual(y, &norm, &drop, &mut Pass::training(3)),
            |y, _| y + drop.forward(&mlp.forward(&norm.forward(y)?)?, &mut Pass::training(3))?,
            false,
        )?;
    }
    Ok(())
}

#[test]
fn residual_attention_equals_its_parts() -> Result<()> {
    for rate in [0.0, 0.4] {
        let params = ParamStore::new(2);
        let vb = params.builder(&Device::Cpu);
        let norm = LayerNorm::new(WIDTH, 1e-6, vb.pp("norm"))?;
        let attention = CrossAttention::new(WIDTH, 3, 7, vb.pp("attn"))?;
        let drop = DropPath::new(rate)?;
        compare(
            &params,
            |y, x| attention.residual(y, x, &norm, &drop, &mut Pass::training(3)),
            |y, x| {
                let branch = attention.forward(&norm.forward(y)?, x)?;
                y + drop.forward(&branch, &mut Pass::training(3))?
            },
            true,
        )?;
    }
    Ok(())
}

/// Where y and x are one tensor, its gradient is the sum of both ways.
#[test]
fn an_input_that_stands_twice_gets_both_gradients() -> Result<()> {
    let params = ParamStore::new(5);
    let vb = params.builder(&Device::Cpu);
    let norm = LayerNorm::new(WIDTH, 1e-6, vb.pp("norm"))?;
    let attention = CrossAttention::new(WIDTH, 2, 5, vb.pp("attn"))?;
    let drop = DropPath::new(0.0)?;
    compare(
        &params,
        |y, _| attention.residual(y, y, &norm, &drop, &mut Pass::inference()),
        |y, _| y + attention.forward(&norm.forward(y)?, y)?,
        false,
    )
}

#[test]
fn linear_equals_candles() -> Result<()> {
    for with_bias in [false, true] {
        let params = ParamStore::new(4);
        let vb = params.builder(&Device::Cpu);
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
            &params,
            |y, _| run(&ours, y),
            |y, _| run(&candles, y),
            false,
        )?;
    }
    Ok(())
}

#[test]
fn shapes_that_do_not_chain_are_errors() -> Result<()> {
    let params = ParamStore::new(6);
    let vb = params.builder(&Device::Cpu);
    let norm = LayerNorm::new(WIDTH, 1e-6, vb.pp("norm"))?;
    let attention = CrossAttention::new(WIDTH, 2, 5, vb.pp("attn"))?;
    let mlp = Mlp::new(WIDTH, 8, vb.pp("mlp"))?;
    let drop = DropPath::new(0.0)?;
    let mut pass = Pass::inference();
    let (y, narrow) = (tensor(&[2, 3, WIDTH], 1)?, tensor(&[2, 3, WIDTH - 1], 2)?);
    let one = tensor(&[1, 3, WIDTH], 3)?;
    assert!(mlp.residual(&narrow, &norm, &drop, &mut pass).is_err());
    for (y, x) in [(&narrow, &y), (&y, &narrow), (&y, &one)] {
        assert!(attention.residual(y, x, &norm, &drop, &mut pass).is_err());
    }
    let linear = mtcae_nn::linear(WIDTH, 3, vb.pp("linear"))?;
    assert!(linear.forward(&narrow).is_err());
    Ok(())
}

/// Keys and values of several layers in one product are those of each alone.
#[test]
fn one_product_gives_the_keys_and_values_of_all_layers() -> Result<()> {
    let params = ParamStore::new(8);
    let layers = (0..3)
        .map(|i| CrossAttention::new(WIDTH, 2, 5, params.builder(&Device::Cpu).pp(i)))
        .collect::<Result<Vec<_>>>()?;
    perturb(&params)?;
    let (y, x) = (tensor(&[2, 3, WIDTH], 1)?, tensor(&[2, 4, WIDTH], 2)?);
    let all: Vec<&CrossAttention> = layers.iter().collect();
    let kv = CrossAttention::keys_and_values(&all, &x)?;
    for (layer, kv) in layers.iter().zip(&kv) {
        close(&layer.attend(&y, kv)?, &layer.forward(&y, &x)?, "attended")?;
    }
    Ok(())
}
