//! Blocks that are computed again on the way back give the gradients of blocks that
//! keep their activations.

use mtcae_nn::candle_core::backprop::GradStore;
use mtcae_nn::candle_core::{DType, Device, Result, Tensor, Var};
use mtcae_nn::{CrossAttention, DropPath, LayerNorm, Mlp, ParamStore, Pass};

const WIDTH: usize = 20;

#[derive(Clone)]
struct Block {
    norm: LayerNorm,
    attention: CrossAttention,
    norm2: LayerNorm,
    mlp: Mlp,
    drop: DropPath,
}

impl Block {
    fn forward(&self, y: &Tensor, x: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let y = self
            .attention
            .residual(y, x, &self.norm, &self.drop, pass)?;
        self.mlp.residual(&y, &self.norm2, &self.drop, pass)
    }
}

fn blocks(params: &ParamStore) -> Result<Vec<Block>> {
    let vb = params.builder(&Device::Cpu);
    (0..3)
        .map(|i| {
            let vb = vb.pp(i);
            Ok(Block {
                norm: LayerNorm::new(WIDTH, 1e-6, vb.pp("norm"))?,
                attention: CrossAttention::new(WIDTH, 2, 7, vb.pp("attn"))?,
                norm2: LayerNorm::new(WIDTH, 1e-6, vb.pp("norm2"))?,
                mlp: Mlp::new(WIDTH, 30, vb.pp("mlp"))?,
                drop: DropPath::new(0.4)?,
            })
        })
        .collect()
}

/// Gradients of a sum over three blocks that start from y and attend to x.
fn gradients(
    blocks: &[Block],
    y: &Tensor,
    x: &Tensor,
    mut pass: Pass,
) -> Result<(Tensor, GradStore)> {
    let mut out = y.clone();
    for block in blocks {
        let block = block.clone();
        out = pass.block(&out, x, move |y, x, pass| block.forward(y, x, pass))?;
    }
    let mut grads = out.sqr()?.sum_all()?.backward()?;
    grads.extend(pass.into_gradients())?;
    Ok((out, grads))
}

#[test]
fn gradients_and_draws_are_the_same() -> Result<()> {
    let params = ParamStore::new(3);
    let blocks = blocks(&params)?;
    let values = |n: usize, by: f32| (0..n).map(|i| (i as f32 * by).sin()).collect::<Vec<_>>();
    let y = Var::from_tensor(&Tensor::from_vec(
        values(4 * 5 * WIDTH, 0.7),
        (4, 5, WIDTH),
        &Device::Cpu,
    )?)?;
    let x = Var::from_tensor(&Tensor::from_vec(
        values(4 * 6 * WIDTH, 0.3),
        (4, 6, WIDTH),
        &Device::Cpu,
    )?)?;
    // x as it comes from a parameter, and as a constant.
    for x_tensor in [x.as_tensor().clone(), x.as_tensor().detach()] {
        let (want_out, want) = gradients(&blocks, &y, &x_tensor, Pass::training(5))?;
        let (out, got) = gradients(&blocks, &y, &x_tensor, Pass::training(5).recomputing())?;
        assert_eq!(
            out.flatten_all()?.to_vec1::<f32>()?,
            want_out.flatten_all()?.to_vec1::<f32>()?
        );
        let mut vars = params.vars();
        vars.push(("y".to_owned(), y.clone()));
        if x_tensor.track_op() {
            vars.push(("x".to_owned(), x.clone()));
        }
        for (name, var) in vars {
            let want = want.get(&var).expect("a gradient");
            let got = got
                .get(&var)
                .unwrap_or_else(|| panic!("{name} has no gradient"));
            mtcae_testing::assert_close(&name, got, want, 1e-6);
        }
    }
    Ok(())
}

#[test]
fn a_constant_input_loses_no_gradient() -> Result<()> {
    let params = ParamStore::new(4);
    let blocks = blocks(&params)?;
    let y = Tensor::ones((2, 3, WIDTH), DType::F32, &Device::Cpu)?;
    let (_, grads) = gradients(&blocks, &y, &y, Pass::training(6).recomputing())?;
    for (name, var) in params.vars() {
        assert!(grads.get(&var).is_some(), "{name} has no gradient");
    }
    Ok(())
}
