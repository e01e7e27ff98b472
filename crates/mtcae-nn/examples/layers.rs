//! Times of layers on the CPU, forward and training step, beside PyTorch's of the same
//! shapes (`benches/peers/sequences.py`, which runs this program):
//!
//! ```text
//! cargo run --release -p mtcae-nn --example layers -- SECONDS
//! ```
//!
//! A line for each: its name, the median in milliseconds of a forward and of a forward with
//! its backward.

#![allow(clippy::print_stdout, reason = "it is a program")]

use std::time::Instant;

use mtcae_nn::candle_core::{DType, Device, Module, Result, Tensor, Var};
use mtcae_nn::{EncoderLayer, Lstm, ParamStore, Pass, WindowAttention, WindowGrid};

/// A layer: its name, the input's shape, and itself.
type Case = (
    &'static str,
    Vec<usize>,
    Box<dyn Fn(&Tensor) -> Result<Tensor>>,
);

/// All, whose parameters are trained or not.
fn cases(frozen: bool) -> Result<Vec<Case>> {
    let store = ParamStore::new(1);
    let vb = |name: &str| {
        store
            .builder_with_frozen(&Device::Cpu, move |_| frozen)
            .pp(name)
    };
    let lstm = |inputs, hidden, layers, both, name: &str| -> Result<_> {
        let lstm = Lstm::new(inputs, hidden, layers, both, vb(name))?;
        Ok(Box::new(move |x: &Tensor| lstm.forward(x)) as Box<dyn Fn(&Tensor) -> Result<Tensor>>)
    };
    let window = |grid, window, shift, name: &str| -> Result<_> {
        let grid = WindowGrid::new(grid, window, shift)?;
        let attention = WindowAttention::new(&grid, 256, 4, vb(name))?;
        Ok(Box::new(move |x: &Tensor| attention.forward(x))
            as Box<dyn Fn(&Tensor) -> Result<Tensor>>)
    };
    let layer = EncoderLayer::new(512, 8, 2048, 1e-5, 0.0, vb("layer"))?;
    let layer = Box::new(move |x: &Tensor| layer.forward(x, &mut Pass::inference()));
    Ok(vec![
        ("lstm-16", vec![8, 16, 512], lstm(512, 256, 1, false, "a")?),
        (
            "lstm-16-alone",
            vec![1, 16, 512],
            lstm(512, 256, 1, false, "b")?,
        ),
        (
            "lstm-64-both",
            vec![8, 64, 512],
            lstm(512, 256, 2, true, "c")?,
        ),
        (
            "lstm-1568",
            vec![1, 1568, 1024],
            lstm(1024, 256, 1, false, "d")?,
        ),
        ("encoder-layer", vec![8, 64, 512], layer),
        (
            "window-volume",
            vec![1, 1568, 256],
            window([8, 14, 14], [8, 7, 7], [0, 3, 3], "e")?,
        ),
        (
            "window-plane",
            vec![1, 1568, 256],
            window([8, 14, 14], [1, 7, 7], [0, 3, 3], "f")?,
        ),
    ])
}

/// Milliseconds that the process's threads have computed so far.
fn spent() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|t| t.parse::<f64>().ok());
    10.0 * (ticks(13).unwrap_or(f64::NAN) + ticks(14).unwrap_or(f64::NAN))
}

/// Milliseconds of a run: the median, or with `CPU_TIME` set what the CPU took for it, which
/// holds beside other programs too.
fn median(seconds: f64, mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    run()?;
    let (begin, before) = (Instant::now(), spent());
    let mut times = Vec::new();
    while times.len() < 5 || begin.elapsed().as_secs_f64() < seconds {
        let at = Instant::now();
        run()?;
        times.push(at.elapsed().as_secs_f64());
    }
    if std::env::var_os("CPU_TIME").is_some() {
        return Ok((spent() - before) / times.len() as f64);
    }
    times.sort_by(f64::total_cmp);
    Ok(1e3 * times[times.len() / 2])
}

fn main() -> Result<()> {
    let seconds = std::env::args().nth(1).and_then(|s| s.parse().ok());
    let seconds: f64 = seconds.unwrap_or(1.0);
    for ((name, shape, layer), (_, _, frozen)) in cases(false)?.into_iter().zip(cases(true)?) {
        if std::env::args().nth(2).is_some_and(|only| only != name) {
            continue;
        }
        let n = shape.iter().product::<usize>() as f32;
        let x = Tensor::arange(0f32, n, &Device::Cpu)?
            .sin()?
            .reshape(shape)?;
        let forward = median(seconds, || frozen(&x).map(drop))?;
        let x = Var::from_tensor(&x.to_dtype(DType::F32)?)?;
        let training = median(seconds, || layer(&x)?.sum_all()?.backward().map(drop))?;
        println!("{name} {forward:.3} {training:.3}");
    }
    Ok(())
}
