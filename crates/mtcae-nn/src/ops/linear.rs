//! y = x·Wᵀ + b on `mtcae_kernels::product`.

use candle_core::{Result, Shape, Tensor};
use mtcae_kernels::matrix::{MatMut, MatRef};
use mtcae_kernels::product::{Start, product};
use mtcae_kernels::rows::column_sums;

use super::fused::{Fused, apply, on_cpu};

/// x (…, in) times W (out, in) transposed, plus b (out) → (…, out).
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (outputs, inputs) = weight.dims2()?;
    if inputs == 0 || outputs == 0 {
        candle_core::bail!("linear: a weight of {:?} has no elements", weight.dims());
    }
    if x.dims().last() != Some(&inputs) || bias.is_some_and(|b| b.dims() != [outputs]) {
        candle_core::bail!(
            "linear: x {:?}, weight {:?} and bias {:?} do not chain",
            x.dims(),
            weight.dims(),
            bias.map(Tensor::dims)
        );
    }
    let operands: Vec<&Tensor> = [x, weight].into_iter().chain(bias).collect();
    if !on_cpu(&operands) || x.elem_count() == 0 {
        // The type of the activations decides: `f32` parameters serve bf16 as well.
        let of = |t: &Tensor| t.to_dtype(x.dtype());
        let product = candle_nn::Linear::new(of(weight)?, None);
        let product = candle_nn::Module::forward(&product, x)?;
        return match bias {
            Some(bias) => add_bias(&product, &of(bias)?),
            None => Ok(product),
        };
    }
    let mut shape = x.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = outputs;
    }
    apply(Linear { inputs, outputs }, &operands, &Shape::from(shape))
}

/// x (…, D) + b (D). On a GPU with a backward that sums columns in two steps: Candle's
/// has one block a column, which reads it element by element.
fn add_bias(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return x.contiguous()?.apply_op2(&bias.contiguous()?, AddBias);
    }
    x.broadcast_add(bias)
}

#[cfg(feature = "cuda")]
struct AddBias;

#[cfg(feature = "cuda")]
impl candle_core::CustomOp2 for AddBias {
    fn name(&self) -> &'static str {
        "add-bias"
    }

    fn cpu_fwd(
        &self,
        _: &candle_core::CpuStorage,
        _: &candle_core::Layout,
        _: &candle_core::CpuStorage,
        _: &candle_core::Layout,
    ) -> Result<(candle_core::CpuStorage, Shape)> {
        candle_core::bail!("add_bias: this half is the GPU's")
    }

    fn cuda_fwd(
        &self,
        x: &candle_core::CudaStorage,
        lx: &candle_core::Layout,
        bias: &candle_core::CudaStorage,
        lb: &candle_core::Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        super::cuda::add_bias(x, lx, bias, lb)
    }

    fn bwd(
        &self,
        _: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let sums = super::cuda::column_sums(&grad.contiguous()?, bias.elem_count())?;
        Ok((Some(grad.clone()), Some(sums)))
    }
}

struct Linear {
    inputs: usize,
    outputs: usize,
}

impl Fused for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn forward(&self, inputs: &[&[f32]], _: bool) -> Vec<f32> {
        forward(inputs[0], inputs[1], inputs.get(2).copied(), self.outputs)
    }

    fn backward(&self, inputs: &[&[f32]], wanted: &[bool], grad: &[f32]) -> Vec<Option<Vec<f32>>> {
        let (x, weight) = (inputs[0], inputs[1]);
        let mut grads = vec![
            wanted[0].then(|| input_gradient(grad, weight, self.inputs)),
            wanted[1].then(|| weight_gradient(grad, x, self.outputs)),
        ];
        if let Some(&wanted) = wanted.get(2) {
            grads.push(wanted.then(|| bias_gradient(grad, self.outputs)));
        }
        grads
    }
}

/// x (M, in), W (out, in) → x·Wᵀ + b (M, out).
pub(super) fn forward(x: &[f32], weight: &[f32], bias: Option<&[f32]>, outputs: usize) -> Vec<f32> {
    let inputs = weight.len() / outputs;
    let rows = x.len() / inputs;
    let mut out = vec![0.0; rows * outputs];
    product(
        MatRef::new(x, rows, inputs, inputs),
        MatRef::new(weight, outputs, inputs, inputs).t(),
        1.0,
        bias.map_or(Start::Zero, Start::Bias),
        MatMut::new(&mut out, rows, outputs, outputs),
    );
    out
}

/// grad (M, out), W (out, in) → grad·W (M, in).
pub(super) fn input_gradient(grad: &[f32], weight: &[f32], inputs: usize) -> Vec<f32> {
    let outputs = weight.len() / inputs;
    let mut out = vec![0.0; grad.len() / outputs * inputs];
    input_gradient_into(grad, weight, inputs, &mut out);
    out
}

/// As [`input_gradient`], into `out`.
pub(super) fn input_gradient_into(grad: &[f32], weight: &[f32], inputs: usize, out: &mut [f32]) {
    let outputs = weight.len() / inputs;
    let rows = grad.len() / outputs;
    product(
        MatRef::new(grad, rows, outputs, outputs),
        MatRef::new(weight, outputs, inputs, inputs),
        1.0,
        Start::Zero,
        MatMut::new(out, rows, inputs, inputs),
    );
}

/// grad (M, out), x (M, in) → gradᵀ·x (out, in).
pub(super) fn weight_gradient(grad: &[f32], x: &[f32], outputs: usize) -> Vec<f32> {
    let rows = grad.len() / outputs;
    let inputs = x.len() / rows;
    let mut out = vec![0.0; outputs * inputs];
    product(
        MatRef::new(grad, rows, outputs, outputs).t(),
        MatRef::new(x, rows, inputs, inputs),
        1.0,
        Start::Zero,
        MatMut::new(&mut out, outputs, inputs, inputs),
    );
    out
}

/// grad (M, out) → the sums of its columns (out).
pub(super) fn bias_gradient(grad: &[f32], outputs: usize) -> Vec<f32> {
    let mut out = vec![0.0; outputs];
    column_sums(grad, outputs, 0, &mut out);
    out
}
