//! Pooling over volumes.

use candle_core::{DType, Device, Result, Shape, Tensor};
use mtcae_kernels::isa::Isa;
use mtcae_kernels::volume::pool::{Kind, Pool};

use super::super::backend::Fresh;
use super::super::cpu::{read, tensor};
use super::super::operation::{Each, Gradients, Operands, Operation, Slot, apply};
use super::sizes;
use crate::pass::Way;

/// x (B, t, h, w, C) → (B, t′, h′, w′, C). Of equal largest numbers the first gets the
/// gradient.
///
/// # Errors
/// When a window is larger than the padded volume.
pub fn pool(x: &Tensor, by: &Pool) -> Result<Tensor> {
    let (b, t, h, w, c) = x.dims5()?;
    if let Err(reason) = by.check() {
        candle_core::bail!("pooling: {reason}");
    }
    let Some([t, h, w]) = by.output([t, h, w]) else {
        candle_core::bail!("pooling: x of {:?} for {by:?}", x.dims());
    };
    let output = [b, t, h, w, c];
    if !matches!(x.device(), Device::Cpu) {
        return by_parts(x, by, output);
    }
    if x.dtype() != DType::F32 {
        candle_core::bail!("pooling: {}", crate::Unsupported::OnCpu(x.dtype().as_str()));
    }
    let mut operands = Operands::default();
    let op = Pooling {
        by: *by,
        x: operands.activation(x.contiguous()?),
        output,
    };
    let shape = Shape::from(output.to_vec());
    apply(op, operands, &shape, &Way::default())
}

struct Pooling {
    by: Pool,
    x: Slot,
    output: [usize; 5],
}

impl Operation for Pooling {
    fn name(&self) -> &'static str {
        "pooling"
    }

    fn forward(&self, inputs: &Each<Tensor>, _: bool) -> Result<Fresh> {
        let x = &inputs[self.x];
        let (b, size) = sizes(x)?;
        let mut out = vec![0.0; self.output.iter().product()];
        read("pooling", &[x], |v| {
            let channels = self.output[4];
            self.by
                .forward(Isa::best(), b, size, channels, v[0], &mut out);
        })?;
        Ok(Fresh::on_cpu(out, &Shape::from(self.output.to_vec())))
    }

    fn backward(
        &self,
        inputs: &Each<Tensor>,
        grads: &mut Gradients,
        result: &Tensor,
        grad: &Tensor,
    ) -> Result<()> {
        if !grads.wants(self.x) {
            return Ok(());
        }
        let x = &inputs[self.x];
        let (b, size) = sizes(x)?;
        let mut dx = vec![0.0; x.elem_count()];
        read("pooling", &[x, result, grad], |v| {
            let (channels, all) = (self.output[4], [v[0], v[1], v[2]]);
            self.by
                .backward(Isa::best(), b, size, channels, all, &mut dx);
        })?;
        grads.set(self.x, tensor(dx, x.shape())?);
        Ok(())
    }
}

/// The same of Candle's own operations: what each tap sees, side by side.
fn by_parts(x: &Tensor, by: &Pool, output: [usize; 5]) -> Result<Tensor> {
    let [kt, kh, kw] = by.kernel;
    let x = match by.kind {
        // Zeros count; a largest number is found without them.
        Kind::Mean => {
            let mut padded = x.clone();
            for (axis, &zeros) in by.padding.iter().enumerate() {
                padded = padded.pad_with_zeros(axis + 1, zeros, zeros)?;
            }
            padded
        }
        Kind::Max => x.clone(),
    };
    let seen = |x: &Tensor, axis: usize, tap: usize| {
        let (last, count) = (x.dim(axis + 1)? - 1, output[axis + 1]);
        let (step, padding) = (by.stride[axis], by.padding[axis]);
        let place = |i: usize| match by.kind {
            Kind::Mean => i * step + tap,
            // Beyond the border the nearest place is seen once more: every window has it.
            Kind::Max => (i * step + tap).saturating_sub(padding).min(last),
        };
        let places: Vec<u32> = (0..count).map(|i| place(i) as u32).collect();
        let places = Tensor::from_vec(places, count, x.device())?;
        x.contiguous()?.index_select(&places, axis + 1)
    };
    let mut taps = Vec::new();
    for t in 0..kt {
        let x = seen(&x, 0, t)?;
        for h in 0..kh {
            let x = seen(&x, 1, h)?;
            for w in 0..kw {
                taps.push(seen(&x, 2, w)?);
            }
        }
    }
    let taps = Tensor::stack(&taps, 5)?;
    match by.kind {
        Kind::Mean => taps.mean(5),
        Kind::Max => {
            let best = taps.detach().argmax_keepdim(5)?;
            taps.gather(&best, 5)?.squeeze(5)
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Var;
    use mtcae_testing::assert_close;

    use super::*;

    #[test]
    fn parts_and_kernels_agree_in_values_and_gradients() {
        for kind in [Kind::Max, Kind::Mean] {
            let by = Pool {
                kind,
                kernel: [3, 3, 2],
                stride: [2, 2, 1],
                padding: [1, 1, 0],
            };
            let dims = [2, 3, 6, 5, 4];
            let n = dims.iter().product::<usize>();
            // Ties in every window.
            let values: Vec<f32> = (0..n).map(|i| (i * i * 7 % 11 / 3) as f32).collect();
            let x = Tensor::from_vec(values, &dims[..], &Device::Cpu).expect("x");
            let x = Var::from_tensor(&x).expect("a var");
            let [t, h, w] = by.output([3, 6, 5]).expect("an output");
            let run = |y: Result<Tensor>| {
                let y = y.expect("a result");
                let up = Tensor::arange(0u32, y.elem_count() as u32, &Device::Cpu);
                let up = up
                    .and_then(|u| u.to_dtype(DType::F32)?.reshape(y.shape()))
                    .expect("upstream");
                let loss = (&y * up).and_then(|l| l.sum_all()).expect("a loss");
                let grads = loss.backward().expect("gradients");
                (y, grads.get(&x).expect("a gradient").clone())
            };
            let got = run(pool(&x, &by));
            let want = run(by_parts(&x, &by, [2, t, h, w, 4]));
            // A dozen additions.
            assert_close("values", &got.0, &want.0, 1e-6);
            assert_close("gradient", &got.1, &want.1, 1e-6);
        }
    }
}
