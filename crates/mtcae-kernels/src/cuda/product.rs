//! The matrix products of a linear layer as cuBLAS takes them.
//!
//! cuBLAS reads and writes by columns, so a row-major matrix is its own transpose there,
//! and each product is written with its factors exchanged.

use super::{Pointer, Unsupported};

/// C (m, n) = op(A)·op(B), all by columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Product {
    /// Whether A and B are transposed.
    pub transposed: [bool; 2],
    /// Rows of C.
    pub m: i32,
    /// Columns of C.
    pub n: i32,
    /// What is summed over.
    pub k: i32,
    /// Elements from one column of A, B and C to the next.
    pub leading: [i32; 3],
}

impl Product {
    /// Whether columns of elements of `size` bytes begin at multiples of 16 bytes, as do
    /// the operands: what cuBLASLt's epilogues ask for.
    pub fn in_sixteens(&self, size: usize, pointers: &[Pointer]) -> bool {
        let whole = |n: i32| (n as usize * size).is_multiple_of(16);
        self.leading.into_iter().all(whole) && pointers.iter().all(|p| p.is_aligned(16))
    }
}

fn size(n: usize) -> Result<i32, Unsupported> {
    i32::try_from(n).map_err(|_| Unsupported(format!("linear: {n} is more than cuBLAS can count")))
}

/// y (rows, outputs) = x (rows, inputs)·Wᵀ of W (outputs, inputs): A is W, B is x.
///
/// # Errors
/// When a size is more than cuBLAS can count.
pub fn forward(rows: usize, inputs: usize, outputs: usize) -> Result<Product, Unsupported> {
    let (m, n, k) = (size(outputs)?, size(rows)?, size(inputs)?);
    Ok(Product {
        transposed: [true, false],
        m,
        n,
        k,
        leading: [k, k, m],
    })
}

/// dx (rows, inputs) = grad (rows, outputs)·W: A is W, B is grad.
///
/// # Errors
/// As [`forward`].
pub fn input_gradient(rows: usize, inputs: usize, outputs: usize) -> Result<Product, Unsupported> {
    let (m, n, k) = (size(inputs)?, size(rows)?, size(outputs)?);
    Ok(Product {
        transposed: [false, false],
        m,
        n,
        k,
        leading: [m, k, m],
    })
}

/// dW (outputs, inputs) = gradᵀ·x: A is x, B is grad.
///
/// # Errors
/// As [`forward`].
pub fn weight_gradient(rows: usize, inputs: usize, outputs: usize) -> Result<Product, Unsupported> {
    let (m, n, k) = (size(inputs)?, size(outputs)?, size(rows)?);
    Ok(Product {
        transposed: [false, true],
        m,
        n,
        k,
        leading: [m, n, m],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// op(A)·op(B) by columns, as cuBLAS would.
    fn run(p: Product, a: &[f32], b: &[f32]) -> Vec<f32> {
        let [m, n, k] = [p.m, p.n, p.k].map(|n| n as usize);
        let [lda, ldb, ldc] = p.leading.map(|n| n as usize);
        let at = |x: &[f32], ld: usize, transposed: bool, i: usize, j: usize| match transposed {
            true => x[j + i * ld],
            false => x[i + j * ld],
        };
        let mut c = vec![0.0; ldc * n];
        for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
            let [ta, tb] = p.transposed;
            c[i + j * ldc] = (0..k)
                .map(|l| at(a, lda, ta, i, l) * at(b, ldb, tb, l, j))
                .sum();
        }
        c
    }

    #[test]
    fn the_three_products_are_those_of_row_major_matrices() {
        let (rows, inputs, outputs) = (5, 3, 4);
        let numbers = |n: usize, by: usize| (0..n).map(|i| (i * by % 7) as f32).collect::<Vec<_>>();
        let (x, w) = (numbers(rows * inputs, 3), numbers(outputs * inputs, 5));
        let grad = numbers(rows * outputs, 2);
        let y = run(forward(rows, inputs, outputs).expect("small"), &w, &x);
        let dx = run(
            input_gradient(rows, inputs, outputs).expect("small"),
            &w,
            &grad,
        );
        let dw = run(
            weight_gradient(rows, inputs, outputs).expect("small"),
            &x,
            &grad,
        );
        for r in 0..rows {
            for o in 0..outputs {
                let want: f32 = (0..inputs)
                    .map(|i| x[r * inputs + i] * w[o * inputs + i])
                    .sum();
                assert_eq!(y[r * outputs + o], want);
            }
            for i in 0..inputs {
                let want: f32 = (0..outputs)
                    .map(|o| grad[r * outputs + o] * w[o * inputs + i])
                    .sum();
                assert_eq!(dx[r * inputs + i], want);
            }
        }
        for (o, i) in (0..outputs).flat_map(|o| (0..inputs).map(move |i| (o, i))) {
            let want: f32 = (0..rows)
                .map(|r| grad[r * outputs + o] * x[r * inputs + i])
                .sum();
            assert_eq!(dw[o * inputs + i], want);
        }
    }

    #[test]
    fn epilogues_take_whole_rows_of_sixteen_bytes() {
        let of = |inputs| forward(10, inputs, 8).expect("small");
        assert!(of(16).in_sixteens(2, &[256, 512].map(Pointer::new)));
        assert!(!of(12).in_sixteens(2, &[256].map(Pointer::new)));
        assert!(of(12).in_sixteens(4, &[256].map(Pointer::new)));
        assert!(!of(16).in_sixteens(2, &[256, 520].map(Pointer::new)));
    }

    #[test]
    fn more_than_cublas_counts_is_refused() {
        assert!(forward(1 << 31, 1, 1).is_err());
    }
}
