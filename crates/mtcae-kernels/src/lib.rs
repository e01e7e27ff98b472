//! The numeric kernels of MTCAE-DFER, over plain slices.
//!
//! Each file is one kernel: its public function, vectorised and threaded, and the
//! tests that hold it against what defines it, a readable scalar twin in `f64`
//! (public as `reference` where other crates test by it). Nothing here knows a
//! tensor library or a model; `mtcae-nn` wraps the kernels as differentiable
//! operations.
//!
//! | kernel | computes |
//! |---|---|
//! | [`attention`] | softmax(Q·Kᵀ·scale)·V for every head, and its backward, without the N×M matrix |
//! | [`attention::window`] | the same within shifted windows of a grid, with a bias by relative position |
//! | [`layer_norm`] | LayerNorm over the last dimension with two-pass statistics, and its backward |
//! | [`gelu`] | GELU in its erf form, and its backward |
//! | [`adamw`] | AdamW in place, moving averages, sums of squares |
//! | [`cross_entropy`] | cross-entropy of logits with distributions, and its backward |
//! | [`conv`] | convolutions with few channels, fused with bias and PReLU; dense layers |
//! | [`pool`] | max pooling in ceil mode |
//! | [`volume`] | convolutions over (t, h, w), grouped, strided and padded, and their backward |
//! | [`volume::pool`] | max and mean pooling over (t, h, w), and its backward |
//! | [`batch_norm`] | BatchNorm with the residual and the ReLU that follow, and its backward |
//! | [`planar`] | both over rows whose channels lie one after the other |
//! | [`rows`] | residual sums, column sums |
//! | [`gather`] | rows in another order, and the sums of their gradients |
//! | [`area`] | area resampling of 8-bit pictures |
//! | [`linear`] | y = x·Wᵀ + b of inference with W packed once, and bias, GELU and residual in its epilogue |
//! | [`lstm`] | the steps of an LSTM's layer in one direction, and back through them |
//! | [`matrix`], [`product`] | strided matrix views and their products |
//!
//! [`peak`] is what the formats' own instructions could do at best.
//!
//! All matrices are row-major `f32`. Work is split over rayon's current pool in such a
//! way that no sum's order depends on the number of threads: results are equal to the
//! bit whatever the pool's size.
//!
//! [`cuda`] holds the same for NVIDIA GPUs.
//!
//! Instruction sets are chosen once per process by [`isa::Isa::held`].

pub mod adamw;
pub mod area;
pub mod attention;
pub mod batch_norm;
pub mod buffer;
pub mod conv;
pub mod cross_entropy;
pub mod cuda;
mod fetch;
pub mod format;
pub mod gather;
pub mod gelu;
pub mod isa;
mod lanes;
pub mod layer_norm;
pub mod linear;
pub mod lstm;
pub mod math;
pub mod matrix;
mod micro;
pub mod peak;
pub mod planar;
pub mod pool;
pub mod product;
pub mod rows;
mod scratch;
pub mod threads;
pub mod volume;

#[cfg(test)]
mod testing;
