//! More threads than there is work for: every kernel gives what it gives on one thread.

use mtcae_kernels::attention::{self, Dims, Rows};
use mtcae_kernels::buffer::Buffer;
use mtcae_kernels::format::{Format, OperandMut};
use mtcae_kernels::linear::{Packed, Part, Target, linear};
use mtcae_kernels::matrix::{MatMut, MatRef};
use mtcae_kernels::product::{Initial, product};
use mtcae_kernels::{gelu, layer_norm};

fn numbers(n: usize) -> Vec<f32> {
    (0..n)
        .map(|i| ((i * 7919) % 1009) as f32 / 500.0 - 1.0)
        .collect()
}

fn on<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.expect("a pool").install(work)
}

/// All kernels over `rows` rows, one after the other.
fn everything(rows: usize) -> Vec<f32> {
    let (inputs, outputs) = (96, 80);
    let (x, w, bias) = (
        numbers(rows * inputs),
        numbers(inputs * outputs),
        numbers(outputs),
    );
    let mut all = Vec::new();
    let mut take = |kernel: &mut dyn FnMut(&mut [f32]), n: usize| {
        let mut out = vec![f32::NAN; n];
        kernel(&mut out);
        all.extend(out);
    };
    for format in Format::available() {
        let part = Part {
            weight: &w,
            bias: Some(&bias),
        };
        let packed = Packed::new(format, inputs, &[part]);
        let mut room = Buffer::zeroed(format.operand_len(rows, inputs));
        let mut operand = OperandMut::new(format, rows, inputs, &mut room);
        operand.pack(MatRef::new(&x, rows, inputs, inputs));
        let operand = operand.finish();
        let mut layer = |out: &mut [f32]| {
            linear(
                operand,
                &packed,
                Target::Store(MatMut::new(out, rows, outputs, outputs)),
            );
        };
        take(&mut layer, rows * outputs);
        let dims = Dims {
            batch: 1,
            heads: 2,
            queries: rows,
            keys: rows,
            head_dim: inputs / 2,
        };
        let r = Rows::columns(&x, inputs, 0);
        let mut attend = |out: &mut [f32]| attention::forward_in(format, dims, r, r, r, 0.1, out);
        take(&mut attend, rows * inputs);
    }
    let mut multiply = |out: &mut [f32]| {
        let (lhs, rhs) = (
            MatRef::new(&x, rows, inputs, inputs),
            MatRef::new(&w, outputs, inputs, inputs),
        );
        product(
            lhs,
            rhs.t(),
            1.0,
            Initial::Zero,
            MatMut::new(out, rows, outputs, outputs),
        );
    };
    take(&mut multiply, rows * outputs);
    let (gamma, beta) = (numbers(inputs), numbers(inputs));
    take(
        &mut |out| layer_norm::forward(&x, &gamma, &beta, 1e-6, out),
        rows * inputs,
    );
    take(&mut |out| gelu::forward(&x, out), rows * inputs);
    all
}

#[test]
fn more_threads_than_rows_change_no_bit() {
    for rows in [1, 2, 3, 17] {
        let want = on(1, || everything(rows));
        assert!(want.iter().all(|x| x.is_finite()), "{rows} rows");
        for threads in [2, 16, 64] {
            let found = on(threads, || everything(rows));
            let same = found
                .iter()
                .zip(&want)
                .all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(
                same && found.len() == want.len(),
                "{rows} rows, {threads} threads"
            );
        }
    }
}
