//! Rates of the matrix product on the shapes of the model, for every instruction
//! set that the process may use, in turns: GFLOP per second of processor
//! time, summed over threads; the best of several rounds.
//!
//! `cargo run --release -p mtcae-benches --example products`

use mtcae_benches::processor_time;
use mtcae_kernels::isa::Isa;
use mtcae_kernels::matrix::{MatMut, MatRef};
use mtcae_kernels::product::{Initial, product_with};

#[expect(clippy::print_stdout, reason = "a program whose output is figures")]
fn main() -> Result<(), String> {
    Isa::held().map_err(|e| e.to_string())?;
    let tokens = 6272;
    for (what, m, k, n, ta, tb) in [
        ("fc1", tokens, 512, 2048, false, true),
        ("fc2", tokens, 2048, 512, false, true),
        ("kv", tokens, 512, 1056, false, true),
        ("proj", tokens, 528, 512, false, true),
        ("dense", tokens, 1024, 512, false, true),
        ("ViT-L fc1", 1568, 1024, 4096, false, true),
        ("fc1, input's gradient", tokens, 2048, 512, false, false),
        ("fc1, weight's gradient", 2048, tokens, 512, true, false),
        ("fc2, weight's gradient", 512, tokens, 2048, true, false),
        ("proj, weight's gradient", 512, tokens, 528, true, false),
        ("attention, logits", 1568, 171, 1568, false, true),
        ("attention, q's gradient", 1568, 1568, 171, false, false),
        ("attention, k's gradient", 1568, 1568, 171, true, false),
    ] {
        let (a, b) = (vec![0.5f32; m * k], vec![0.25f32; k * n]);
        let lhs = match ta {
            false => MatRef::new(&a, m, k, k),
            true => MatRef::new(&a, k, m, m).t(),
        };
        let rhs = match tb {
            false => MatRef::new(&b, k, n, n),
            true => MatRef::new(&b, n, k, k).t(),
        };
        let mut out = vec![0.0f32; m * n];
        let sets: Vec<Isa> = Isa::available()
            .into_iter()
            .filter(|i| i.name() != "portable")
            .collect();
        let mut best = vec![f64::INFINITY; sets.len()];
        for _ in 0..6 {
            for (isa, best) in sets.iter().zip(&mut best) {
                let start = processor_time();
                product_with(
                    *isa,
                    lhs,
                    rhs,
                    1.0,
                    Initial::Zero,
                    MatMut::new(&mut out, m, n, n),
                );
                *best = best.min(processor_time() - start);
            }
        }
        print!("{what:24} {m:5}×{k:5}×{n:5}");
        for (isa, best) in sets.iter().zip(best) {
            print!("  {} {:6.0}", isa.name(), 2e-9 * (m * k * n) as f64 / best);
        }
        println!();
    }
    Ok(())
}
