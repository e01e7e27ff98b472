//! Attention on a GPU (`cuda/attention.cu`).

use super::modules::{ATTENTION, HEADS};
use super::{
    Argument, Element, Launch, Pointer, Unsupported, WARP, arguments, count, rows_of_grid, sizes,
};
use crate::attention::Dims;
use Argument::{F32, U32};

/// Q, K and V where the projections left them: head h of token t starts
/// t·stride + h·d elements after the pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operands {
    /// The type of all operands and results.
    pub element: Element,
    /// The queries' first head.
    pub q: Pointer,
    /// Elements from one query token to the next.
    pub q_stride: usize,
    /// The keys' first head.
    pub k: Pointer,
    /// The values' first head.
    pub v: Pointer,
    /// Elements from one key token to the next, and from one value token.
    pub kv_stride: usize,
}

/// A gradient that is written: where, and the elements from token to token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gradient {
    /// The first token's first head.
    pub at: Pointer,
    /// Elements from one token to the next.
    pub stride: usize,
}

/// The head dimension that a kernel is compiled for: the smallest that holds `head_dim`.
///
/// # Errors
/// When a head has more than 256 channels.
pub fn padded_head(head_dim: usize) -> Result<usize, Unsupported> {
    HEADS
        .into_iter()
        .find(|&head| head >= head_dim)
        .ok_or_else(|| {
            let largest = HEADS[HEADS.len() - 1];
            Unsupported(format!(
                "attention: a head of {head_dim} channels; the CUDA kernels take up to {largest}"
            ))
        })
}

/// What a block of a kernel owns and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tiles {
    /// Tokens of a block.
    block: usize,
    /// Tokens of a warp.
    warp: usize,
    /// Tokens of a step of what it goes along.
    step: usize,
    /// Operands of which it owns tokens; it goes along two.
    owned: usize,
}

/// The tile sizes of the kernels for a head; `cuda/attention.cu` has the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sizes {
    /// Bytes of a tile's row.
    row: usize,
    /// Queries and keys of the forward.
    forward: Tiles,
    /// Queries and keys of dQ.
    query: Tiles,
    /// Keys and queries of dK and dV.
    key: Tiles,
    /// Blocks that share the channels of dK and dV.
    parts: usize,
    /// Tokens of a block of the kernel that gives delta.
    delta: usize,
}

impl Sizes {
    fn of(element: Element, head: usize) -> Self {
        let tiles = |block, warp, step, owned| Tiles {
            block,
            warp,
            step,
            owned,
        };
        let (forward, query, key, channels) = match (element.size(), head) {
            (2, ..=64) => (
                tiles(128, 32, 64, 1),
                tiles(128, 32, 64, 2),
                tiles(128, 32, 32, 2),
                head,
            ),
            (2, ..=128) => (
                tiles(128, 32, 32, 1),
                tiles(64, 16, 32, 2),
                tiles(64, 16, 32, 2),
                head,
            ),
            (2, _) => (
                tiles(64, 16, 32, 1),
                tiles(64, 16, 16, 2),
                tiles(64, 16, 16, 2),
                if head > 176 { 128 } else { head },
            ),
            (_, ..=80) => (
                tiles(64, 16, 32, 1),
                tiles(64, 16, 32, 2),
                tiles(64, 16, 16, 2),
                head,
            ),
            (_, ..=176) => (
                tiles(64, 16, 16, 1),
                tiles(32, 16, 16, 2),
                tiles(32, 16, 16, 2),
                96,
            ),
            _ => (
                tiles(32, 16, 16, 1),
                tiles(16, 16, 16, 2),
                tiles(16, 16, 16, 2),
                96,
            ),
        };
        let chunks = head * element.size() / 16;
        Self {
            row: (head + 8) * element.size(),
            forward,
            query,
            key,
            parts: head.div_ceil(channels),
            delta: DELTA_THREADS / chunks.next_power_of_two().clamp(4, WARP as usize),
        }
    }

    /// Shared memory of a kernel: what it owns, and two stages of what it goes along.
    fn shared(&self, tiles: Tiles) -> usize {
        (tiles.owned * tiles.block + 2 * 2 * tiles.step) * self.row
    }
}

/// Threads of a block of the kernel that gives delta.
const DELTA_THREADS: usize = 128;

/// Whether rows can be copied 16 bytes at a time.
fn aligned(element: Element, head_dim: usize, strides: &[usize], pointers: &[Pointer]) -> bool {
    let chunk = 16 / element.size();
    head_dim.is_multiple_of(chunk)
        && strides.iter().all(|s| s.is_multiple_of(chunk))
        && pointers.iter().all(|p| p.is_aligned(16))
}

/// Refuses a scale that the kernels' softmax does not take. They look for the largest
/// product of a row and multiply it by the scale, which finds the largest logit where
/// the scale is above zero, and keeps a masked key, −∞, what it is.
fn positive(scale: f32) -> Result<Argument, Unsupported> {
    if scale > 0.0 && (scale * std::f32::consts::LOG2_E).is_normal() {
        return Ok(F32(scale));
    }
    Err(Unsupported(format!(
        "attention: a scale of {scale:e}; the CUDA kernels take positive normal numbers"
    )))
}

/// What the launches of one head have in common.
#[derive(Clone, Copy)]
struct Kernels {
    element: Element,
    head: usize,
    dims: Dims,
}

impl Kernels {
    /// Of `blocks` blocks a head, `threads` threads each.
    fn launch(
        self,
        name: &str,
        blocks: usize,
        threads: usize,
        shared: usize,
        arguments: Vec<Argument>,
    ) -> Result<Launch, Unsupported> {
        let variant = format!("{}_{}", self.element.suffix(), self.head);
        Ok(Launch {
            module: format!("{ATTENTION}_{variant}"),
            function: format!("{name}_{variant}"),
            grid: [
                count("attention: tokens", blocks)?,
                rows_of_grid("attention: heads", self.dims.heads)?,
                rows_of_grid("attention: problems of the batch", self.dims.batch)?,
            ],
            block: threads as u32,
            shared: shared as u32,
            arguments,
        })
    }

    /// Of blocks that own `tokens` as `tiles` says, `parts` for each block of them.
    fn launch_tiles(
        self,
        name: &str,
        tiles: Tiles,
        tokens: usize,
        parts: usize,
        arguments: Vec<Argument>,
    ) -> Result<Launch, Unsupported> {
        let blocks = tokens.div_ceil(tiles.block) * parts;
        let threads = tiles.block / tiles.warp * WARP as usize;
        let shared = Sizes::of(self.element, self.head).shared(tiles);
        self.launch(name, blocks, threads, shared, arguments)
    }
}

fn size(n: usize) -> Result<Argument, Unsupported> {
    Ok(U32(count("attention: size", n)?))
}

/// What all kernels but that of delta are told of their operands.
fn lengths(dims: Dims, of: Operands) -> Result<[Argument; 6], Unsupported> {
    let Dims {
        heads,
        queries,
        keys,
        head_dim,
        ..
    } = dims;
    let all = [heads, queries, keys, head_dim, of.q_stride, of.kv_stride];
    sizes("attention: size", all)
}

/// out (B, N, H·d), and `log_sums` (B, H, N) of `f32`, log₂ of each row's sum of
/// exponentials, which the backward takes.
///
/// # Errors
/// When a head has more than 256 channels, the scale is not above zero, or there is more
/// of something than one launch takes.
pub fn forward(
    dims: Dims,
    of: Operands,
    scale: f32,
    out: Pointer,
    log_sums: Pointer,
) -> Result<Launch, Unsupported> {
    let kernels = Kernels {
        element: of.element,
        head: padded_head(dims.head_dim)?,
        dims,
    };
    let tiles = Sizes::of(of.element, kernels.head).forward;
    let aligned = aligned(
        of.element,
        dims.head_dim,
        &[of.q_stride, of.kv_stride],
        &[of.q, of.k, of.v],
    );
    let arguments = arguments(
        &[out, log_sums, of.q, of.k, of.v],
        lengths(dims, of)?
            .into_iter()
            .chain([positive(scale)?, U32(aligned.into())]),
    );
    kernels.launch_tiles("attention", tiles, dims.queries, 1, arguments)
}

/// What the backward takes besides the operands: `out` and `grad` (B, N, H·d),
/// `log_sums` of the forward, and `delta`, (B, H, N) `f32`s of scratch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saved {
    /// What the forward gave.
    pub out: Pointer,
    /// The gradient of `out`.
    pub grad: Pointer,
    /// What the forward left for the backward.
    pub log_sums: Pointer,
    /// Scratch.
    pub delta: Pointer,
}

/// The launches that give dQ, dK and dV, in their order.
///
/// # Errors
/// As [`forward`].
pub fn backward(
    dims: Dims,
    of: Operands,
    scale: f32,
    saved: Saved,
    dq: Gradient,
    dk: Gradient,
    dv: Gradient,
) -> Result<[Launch; 3], Unsupported> {
    if dk.stride != dv.stride {
        return Err(Unsupported(format!(
            "attention: dK of stride {} and dV of stride {} differ",
            dk.stride, dv.stride
        )));
    }
    let kernels = Kernels {
        element: of.element,
        head: padded_head(dims.head_dim)?,
        dims,
    };
    let tiles = Sizes::of(of.element, kernels.head);
    let operands = [of.q, of.k, of.v, saved.grad];
    let is_aligned = |strides: &[usize], pointers: &[Pointer]| {
        U32(aligned(of.element, dims.head_dim, strides, pointers).into())
    };
    let inputs = [of.q, of.k, of.v, saved.grad, saved.log_sums, saved.delta].map(Argument::Pointer);
    let sizes = lengths(dims, of)?;
    let last = [
        positive(scale)?,
        is_aligned(&[of.q_stride, of.kv_stride], &operands),
    ];
    let arguments = |to: &[Gradient]| -> Result<Vec<Argument>, Unsupported> {
        let mut all: Vec<_> = to.iter().map(|g| Argument::Pointer(g.at)).collect();
        all.extend(inputs.iter().chain(&sizes));
        all.push(size(to[0].stride)?);
        all.extend(&last);
        Ok(all)
    };
    let whole = is_aligned(&[], &[saved.out, saved.grad]);
    Ok([
        kernels.launch(
            "attention_delta",
            dims.queries.div_ceil(tiles.delta),
            DELTA_THREADS,
            0,
            super::arguments(
                &[saved.delta, saved.out, saved.grad],
                [sizes[0], sizes[1], sizes[3], whole],
            ),
        )?,
        kernels.launch_tiles(
            "attention_backward_kv",
            tiles.key,
            dims.keys,
            tiles.parts,
            arguments(&[dk, dv])?,
        )?,
        kernels.launch_tiles(
            "attention_backward_q",
            tiles.query,
            dims.queries,
            1,
            arguments(&[dq])?,
        )?,
    ])
}

#[cfg(test)]
mod tests {
    use super::super::SHARED_LIMIT;
    use super::*;

    fn dims(head_dim: usize) -> Dims {
        Dims {
            batch: 2,
            heads: 3,
            queries: 1568,
            keys: 1568,
            head_dim,
        }
    }

    fn operands(element: Element, stride: usize) -> Operands {
        Operands {
            element,
            q: Pointer::new(256),
            q_stride: stride,
            k: Pointer::new(512),
            v: Pointer::new(1024),
            kv_stride: stride,
        }
    }

    #[test]
    fn every_kernel_fits_every_gpu() {
        for element in Element::ALL {
            for head in HEADS {
                let sizes = Sizes::of(element, head);
                for tiles in [sizes.forward, sizes.query, sizes.key] {
                    let shared = sizes.shared(tiles);
                    assert!(
                        shared <= SHARED_LIMIT as usize,
                        "{element:?} {head}: {shared} bytes"
                    );
                    assert!(tiles.block.is_multiple_of(tiles.warp), "{tiles:?}");
                }
            }
        }
    }

    #[test]
    fn heads_are_padded_to_the_next_size_and_refused_beyond_the_last() {
        for (head_dim, want) in [
            (1, 32),
            (64, 64),
            (65, 80),
            (80, 80),
            (170, 176),
            (177, 256),
            (256, 256),
        ] {
            assert_eq!(padded_head(head_dim), Ok(want), "{head_dim}");
        }
        let error = padded_head(257).expect_err("too wide");
        assert!(error.to_string().contains("257 channels"), "{error}");
    }

    #[test]
    fn a_scale_that_would_break_the_softmax_is_refused() {
        let launch = |scale| {
            forward(
                dims(64),
                operands(Element::Bf16, 576),
                scale,
                Pointer::NONE,
                Pointer::NONE,
            )
        };
        for scale in [f32::MIN_POSITIVE, 0.125, 1.0, 1e30] {
            assert!(launch(scale).is_ok(), "{scale:e}");
        }
        let infinite = f32::INFINITY;
        for scale in [0.0, -0.0, -0.125, 1e-40, f32::MAX, infinite, f32::NAN] {
            let error = launch(scale).expect_err("no such scale");
            assert!(error.to_string().contains("a scale of"), "{error}");
        }
    }

    #[test]
    fn the_models_own_shapes_get_their_own_kernels() {
        let launch = forward(
            dims(64),
            operands(Element::Bf16, 3 * 192),
            0.125,
            Pointer::NONE,
            Pointer::NONE,
        )
        .expect("supported");
        assert_eq!(launch.function, "attention_bf16_64");
        assert_eq!((launch.grid, launch.block), ([13, 3, 2], 128));
        assert_eq!(launch.arguments.last(), Some(&U32(1)));
        let launch = forward(
            dims(176),
            operands(Element::F32, 2 * 528),
            0.075,
            Pointer::NONE,
            Pointer::NONE,
        )
        .expect("supported");
        assert_eq!(
            (launch.function.as_str(), launch.shared),
            ("attention_f32_176", 128 * 184 * 4)
        );
    }

    #[test]
    fn only_whole_chunks_of_sixteen_bytes_are_copied_as_such() {
        let of = |element, head_dim, stride| {
            let launch = forward(
                dims(head_dim),
                operands(element, stride),
                1.0,
                Pointer::NONE,
                Pointer::NONE,
            )
            .expect("supported");
            launch.arguments.last().copied()
        };
        assert_eq!(of(Element::Bf16, 64, 192), Some(U32(1)));
        assert_eq!(of(Element::Bf16, 65, 195), Some(U32(0)));
        assert_eq!(of(Element::Bf16, 64, 196), Some(U32(0)));
        assert_eq!(of(Element::F32, 4, 12), Some(U32(1)));
        let mut shifted = operands(Element::F32, 192);
        shifted.v = shifted.v.after(1, 4);
        let launch =
            forward(dims(64), shifted, 1.0, Pointer::NONE, Pointer::NONE).expect("supported");
        assert_eq!(launch.arguments.last(), Some(&U32(0)));
    }
}
