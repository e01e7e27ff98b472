//! Sizes that no memory has: every kernel refuses them at once, and no product of them
//! wraps around to one that fits.

use std::panic::catch_unwind;
use std::sync::mpsc::channel;
use std::thread::spawn;
use std::time::Duration;

use mtcae_kernels::area::{Picture, Resampler};
use mtcae_kernels::attention::{self, Dims, Rows};
use mtcae_kernels::conv::{Conv, Shape};
use mtcae_kernels::format::{Format, OperandMut};
use mtcae_kernels::isa::Isa;
use mtcae_kernels::linear::{Packed, Part};
use mtcae_kernels::{cross_entropy, layer_norm, pool, rows};

const HUGE: usize = 1 << 60;

/// The panic's message. The work runs on a thread of its own, so that a kernel that
/// never ends fails the test too.
fn refused(what: &str, work: fn()) -> String {
    let (send, receive) = channel();
    spawn(move || send.send(catch_unwind(work)));
    let ended = receive.recv_timeout(Duration::from_secs(20));
    let ended = ended.unwrap_or_else(|_| panic!("{what}: does not end"));
    let panic = ended.err().unwrap_or_else(|| panic!("{what}: not refused"));
    match panic.downcast::<String>() {
        Ok(said) => *said,
        Err(panic) => (*panic.downcast_ref::<&str>().unwrap_or(&"?")).to_string(),
    }
}

fn dims(heads: usize, head_dim: usize) -> Dims {
    Dims {
        batch: 1,
        heads,
        queries: 2,
        keys: 2,
        head_dim,
    }
}

/// 16 · (2⁶⁰ + 32) is 512 where products wrap around.
const WRAPS: (usize, usize) = (16, HUGE + 32);

fn rows_of(data: &[f32]) -> Rows<'_> {
    Rows { data, stride: 512 }
}

#[test]
fn attention_of_heads_beyond_all_memory_is_refused() {
    assert_eq!(WRAPS.0.wrapping_mul(WRAPS.1), 512);
    let forward = || {
        let (x, mut out) = (vec![0.0; 1024], vec![0.0; 1024]);
        let r = rows_of(&x);
        attention::forward(dims(WRAPS.0, WRAPS.1), r, r, r, 1.0, &mut out);
    };
    assert!(refused("forward", forward).contains("rows of 512"));
    for format in Format::available() {
        let ended = catch_unwind(|| {
            let (x, mut out) = (vec![0.0; 1024], vec![0.0; 1024]);
            let r = rows_of(&x);
            attention::forward_in(format, dims(WRAPS.0, WRAPS.1), r, r, r, 1.0, &mut out);
        });
        assert!(ended.is_err(), "{}", format.name());
    }
    let backward = || {
        let (x, mut dq, mut dkv) = (vec![0.0; 1024], vec![0.0; 1024], vec![0.0; 2048]);
        let (r, d) = (rows_of(&x), dims(WRAPS.0, WRAPS.1));
        attention::backward(d, r, r, r, &x, &x, &x, 1.0, &mut dq, &mut dkv);
    };
    assert!(refused("backward", backward).contains("rows of 512"));
    let tokens = || {
        let mut out = vec![0.0; 4];
        let x = [0.0; 4];
        let r = Rows {
            data: &x,
            stride: 1,
        };
        let d = Dims {
            batch: 1 << 32,
            queries: 1 << 32,
            ..dims(1, 1)
        };
        attention::forward(d, r, r, r, 1.0, &mut out);
    };
    refused("tokens", tokens);
}

#[test]
fn layers_of_inputs_beyond_all_memory_are_refused() {
    for (what, work) in [
        ("no weights", (|| drop(packed(&[]))) as fn()),
        ("an empty weight", || {
            let part = Part {
                weight: &[],
                bias: None,
            };
            drop(packed(&[part]));
        }),
        ("a bias without weight", || {
            let part = Part {
                weight: &[],
                bias: Some(&[1.0]),
            };
            drop(packed(&[part]));
        }),
    ] {
        assert!(refused(what, work).contains("linear: "), "{what}");
    }
}

fn packed(parts: &[Part<'_>]) -> Vec<Packed> {
    let formats = Format::available().into_iter();
    formats.map(|f| Packed::new(f, HUGE, parts)).collect()
}

#[test]
fn operands_beyond_all_memory_are_refused() {
    for format in Format::available() {
        for (rows, cols) in [
            (HUGE, 16),
            (16, HUGE),
            (1 << 32, 1 << 32),
            (usize::MAX, usize::MAX),
            (1, usize::MAX),
        ] {
            assert!(
                format.operand_len(rows, cols) > 1 << 50,
                "{}",
                format.name()
            );
            let ended = catch_unwind(|| {
                OperandMut::new(format, rows, cols, &mut [0.0; 64]);
            });
            assert!(ended.is_err(), "{}", format.name());
        }
        assert_eq!(format.operand_len(0, 5), 0);
    }
}

#[test]
fn strides_and_counts_that_wrap_around_are_refused() {
    for (what, work) in [
        (
            "layer_norm::forward_into",
            (|| {
                let format = Format::available()[0];
                let mut data = vec![0.0; format.operand_len(3, 2)];
                let out = OperandMut::new(format, 3, 2, &mut data);
                // Row 2 would be row 0 again.
                layer_norm::forward_into(&[0.0; 8], 1 << 63, &[1.0; 2], &[0.0; 2], 1e-6, out);
            }) as fn(),
        ),
        ("rows::column_sums", || {
            rows::column_sums(&[0.0; 8], 4, usize::MAX - 1, &mut [0.0; 3]);
        }),
        ("cross_entropy::forward", || {
            let losses = &mut [0.0; 16];
            cross_entropy::forward(&[], &[], HUGE, losses);
        }),
        ("area: a picture", || {
            Picture::new(&[], HUGE, 16);
        }),
        ("area: a size", || {
            drop(Resampler::new((HUGE, 4), (4, 4), 0..4));
        }),
        ("area: columns", || {
            let (start, end) = (usize::MAX, 4);
            drop(Resampler::new((4, 4), (4, 4), start..end));
        }),
        ("conv: weight", || {
            drop(Conv::new(shape(HUGE, 16), &[], &[0.0; 16], None));
        }),
        ("conv: stride", || {
            let conv = Conv::new(
                Shape {
                    input_stride: 1 << 63,
                    ..shape(1, 1)
                },
                &[1.0],
                &[0.0],
                None,
            );
            conv.row(&[&[0.0; 4]], &mut [0.0; 48]);
        }),
        ("conv: no pixels", || {
            let conv = Conv::new(shape(1, 1), &[1.0], &[0.0], None);
            conv.plane(&[0.0; 4], 0, &mut []);
        }),
        ("pool: a line", || {
            pool::plane(Isa::best(), &[0.0; 16], HUGE, 2, 16, &mut []);
        }),
    ] {
        refused(what, work);
    }
    // Nothing is summed over no rows, however wide.
    let mut sums = [1.0; 2];
    rows::column_sums(&[], HUGE, 0, &mut sums);
    assert_eq!(sums, [0.0; 2]);
    // A kernel that is larger than the picture looks at all of it.
    let mut most = [0.0; 16];
    pool::plane(Isa::best(), &[2.0; 16], 1, HUGE, 16, &mut most);
    assert_eq!(most, [2.0; 16]);
    assert_eq!(shape(5, 1).output(1, 4, 9), [1, 0, 5, 16]);
}

/// One input, kernels of `side` × `side`.
fn shape(side: usize, outputs: usize) -> Shape {
    Shape {
        height: side,
        width: side,
        inputs: 1,
        input_stride: 1,
        outputs,
    }
}
